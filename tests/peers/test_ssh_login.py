# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ssh` logs in to a loopback sshd with the card's keys (PKCS11Provider)."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN, Desk
from tests.peers.servers import free_port, serving
from tests.peers.stage import Stage

#: sshd wants this folder even where nothing is separated.
PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(frozen=True, slots=True)
class Server:
    """An sshd that takes the card's keys and nothing else."""

    port: int
    directory: Path


@pytest.fixture(scope="module")
def server(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("sshd")
    desk.say("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host_key")
    keys = desk.say("ssh-keygen", "-D", OPENSC_MODULE)
    (directory / "authorized_keys").write_text(keys)
    port = free_port()
    (directory / "sshd_config").write_text(
        f"""ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
PidFile none
StrictModes no
UsePAM no
"""
    )
    made = not PRIVILEGE_SEPARATION.exists()
    PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")]
    try:
        with serving(argv, port, directory / "log"):
            yield Server(port, directory)
    finally:
        if made:
            PRIVILEGE_SEPARATION.rmdir()


def log_in(desk: Desk, server: Server, pin: str, tmp_path: Path) -> tuple[int, str]:
    """Run `echo` over ssh, the PIN coming from a program as it would from a desktop's dialog."""
    (tmp_path / "pin").write_text(pin)
    ask = tmp_path / "askpass"
    ask.write_text(f"#!/bin/sh\ncat {tmp_path}/pin\n")
    ask.chmod(0o700)
    done = desk.run(
        "ssh", "-F", "none", "-p", str(server.port), "-o", f"PKCS11Provider={OPENSC_MODULE}",
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


def test_the_right_pin_logs_in(desk: Desk, server: Server, tmp_path: Path) -> None:
    status, said = log_in(desk, server, PIN, tmp_path)
    assert (status, said.splitlines()[-1]) == (0, "logged in")


def test_a_wrong_pin_does_not(stage: Stage, desk: Desk, server: Server, tmp_path: Path) -> None:
    status, said = log_in(desk, server, WRONG_PIN, tmp_path)
    assert status == 255
    assert "Permission denied (publickey)" in said
    # ssh asks once for each of the three keys, which leaves no try.
    assert log_in(desk, server, PIN, tmp_path)[0] == 255
    stage.daemon.ctl("pin", "reset")
    assert log_in(desk, server, PIN, tmp_path)[0] == 0
