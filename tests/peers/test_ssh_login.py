# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ssh` logs in to a loopback sshd with the card's keys (PKCS11Provider)."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN, Desk
from tests.peers.sshd import sshd
from tests.peers.stage import Stage


@pytest.fixture(scope="module")
def port(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An sshd that lets in the card's keys."""
    directory = tmp_path_factory.mktemp("sshd")
    keys = directory / "authorized_keys"
    keys.write_text(desk.say("ssh-keygen", "-D", OPENSC_MODULE))
    with sshd(desk, directory, keys) as port:
        yield port


def log_in(desk: Desk, port: int, pin: str, tmp_path: Path) -> tuple[int, str]:
    """Run `echo` over ssh, the PIN coming from a program as it would from a desktop's dialog."""
    (tmp_path / "pin").write_text(pin)
    ask = tmp_path / "askpass"
    ask.write_text(f"#!/bin/sh\ncat {tmp_path}/pin\n")
    ask.chmod(0o700)
    done = desk.run(
        "ssh", "-F", "none", "-p", str(port), "-o", f"PKCS11Provider={OPENSC_MODULE}",
        "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known_hosts",
        "-o", "PreferredAuthentications=publickey", "-o", "IdentityFile=none",
        "-o", "IdentityAgent=none", "-o", "NumberOfPasswordPrompts=1",
        f"{getpass.getuser()}@127.0.0.1", "echo", "logged in",
        env={"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.returncode, done.stdout.decode(errors="replace")


def test_ssh_keygen_prints_one_public_key_a_certificate(desk: Desk) -> None:
    keys = desk.say("ssh-keygen", "-D", OPENSC_MODULE).splitlines()
    assert [key.split()[0] for key in keys] == ["ssh-rsa"] * 3


def test_the_right_pin_logs_in(desk: Desk, port: int, tmp_path: Path) -> None:
    status, said = log_in(desk, port, PIN, tmp_path)
    assert (status, said.splitlines()[-1]) == (0, "logged in")


def test_a_wrong_pin_does_not(stage: Stage, desk: Desk, port: int, tmp_path: Path) -> None:
    status, said = log_in(desk, port, WRONG_PIN, tmp_path)
    assert status == 255
    assert "Permission denied (publickey)" in said
    # ssh asks once for each of the three keys, which leaves no try.
    assert log_in(desk, port, PIN, tmp_path)[0] == 255
    stage.daemon.ctl("pin", "reset")
    assert log_in(desk, port, PIN, tmp_path)[0] == 0
