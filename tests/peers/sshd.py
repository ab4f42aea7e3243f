# SPDX-License-Identifier: LGPL-2.1-or-later
"""An sshd on the loopback address that takes public keys and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.peers.desk import Desk
from tests.peers.servers import free_port, serving

#: sshd wants this folder even where nothing is separated.
_PRIVILEGE_SEPARATION = Path("/run/sshd")


@contextlib.contextmanager
def sshd(desk: Desk, directory: Path, authorized_keys: Path, *more: str) -> Iterator[int]:
    """Its port; `directory` holds its files, `more` are lines for its configuration."""
    desk.say("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host_key")
    port = free_port()
    lines = (
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {directory}/host_key",
        f"AuthorizedKeysFile {authorized_keys}",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        *more,
    )
    (directory / "sshd_config").write_text("".join(f"{line}\n" for line in lines))
    made = not _PRIVILEGE_SEPARATION.exists()
    _PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")]
    try:
        with serving(argv, port, directory / "log"):
            yield port
    finally:
        if made:
            _PRIVILEGE_SEPARATION.rmdir()
