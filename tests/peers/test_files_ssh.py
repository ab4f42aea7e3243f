# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ssh-copy-id` with a file of the file view, then `ssh` with the card.

The files are laid out on disk; that a mount has the same ones is shown in test_files.py.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.sshd import sshd
from tests.peers.stage import Stage
from vccid.files.tree import Directory, File, Link, Node, content_of


def lay_out(directory: Path, name: str, node: Node) -> None:
    if isinstance(node, Directory):
        (directory / name).mkdir()
        for child, of in (node.entries or {}).items():
            lay_out(directory / name, child, of)
    elif isinstance(node, Link):
        (directory / name).symlink_to(node.target)
    elif isinstance(node, File):
        (directory / name).write_bytes(node.content)


@pytest.fixture(scope="module")
def port(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An sshd whose home folder is one of ours; so far it lets in the key `old` alone."""
    directory = tmp_path_factory.mktemp("sshd")
    desk.say("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", desk.directory / "old")
    keys = directory / "home" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_bytes((desk.directory / "old.pub").read_bytes())
    with sshd(desk, directory, keys, f"SetEnv HOME={directory}/home") as port:
        yield port


def test_ssh_copy_id_lets_the_card_in(stage: Stage, desk: Desk, port: int, tmp_path: Path) -> None:
    told = stage.daemon.ctl_json("card", "info")
    lay_out(tmp_path, "card", content_of(stage.daemon.reader(), told)["card"])
    known = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"]
    where = ["-p", str(port), *known]
    target = f"{getpass.getuser()}@127.0.0.1"

    def log_in() -> tuple[int, str]:
        ask = tmp_path / "askpass"
        ask.write_text(f"#!/bin/sh\necho {PIN}\n")
        ask.chmod(0o700)
        done = desk.run(
            *("ssh", "-F", "none", *where, "-o", f"PKCS11Provider={OPENSC_MODULE}"),
            *("-o", "IdentityFile=none", "-o", "IdentityAgent=none", target, "echo logged in"),
            env={"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"},
        )
        return done.returncode, done.stdout.decode(errors="replace")

    assert log_in()[0] == 255
    (Path(desk.env["HOME"]) / ".ssh").mkdir(mode=0o700)
    copied = desk.say(
        *("ssh-copy-id", "-f", "-i", tmp_path / "card" / "certs" / "id.pub"),
        *(*where, "-o", "IdentitiesOnly=yes", "-o", f"IdentityFile={desk.directory}/old", target),
        env={"PATH": os.environ["PATH"]},
    )
    assert "Number of key(s) added: 1" in copied
    status, said = log_in()
    assert (status, said.splitlines()[-1]) == (0, "logged in")
