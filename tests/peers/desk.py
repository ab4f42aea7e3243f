# SPDX-License-Identifier: LGPL-2.1-or-later
"""A user's desk: one pcscd, and the programs of Debian that look at its cards.

Every program gets a home of its own and an OpenSC that keeps no cache, so that no run
sees what an earlier one left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

#: OpenSC's PKCS#11 module as Debian ships it.
OPENSC_MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"

#: The PIN of every card in these tests, and a wrong one.
PIN = "123456"
WRONG_PIN = "654321"

_OPENSC_CONF = "app default { framework pkcs15 { use_file_caching = no; } }\n"


class Desk:
    """Where client programs run.

    Attributes:
        directory: scratch space; also the programs' working directory.
        env: their environment, complete.
    """

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        """Lay out a home below `directory`; `env` names the pcscd (PCSCLITE_CSOCK_NAME)."""
        self.directory = directory
        home = directory / "home"
        home.mkdir(parents=True)
        (directory / "opensc.conf").write_text(_OPENSC_CONF)
        self.env = {
            **env,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "OPENSC_CONF": str(directory / "opensc.conf"),
            "LC_ALL": "C.UTF-8",
        }

    def run(
        self,
        *argv: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end; standard error comes with standard output."""
        return subprocess.run(
            [str(word) for word in argv],
            input=b"" if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**self.env, **(env or {})},
            timeout=timeout,
            check=False,
        )

    def say(
        self,
        *argv: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> str:
        """What a program that must succeed printed."""
        done = self.run(*argv, stdin=stdin, env=env, timeout=timeout)
        text = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(map(str, argv))} -> {done.returncode}\n{text}"
        return text

    def pkcs11(self, *arguments: str | Path, pin: str = PIN) -> str:
        """`pkcs11-tool` with OpenSC's module, logged in."""
        return self.say(
            "pkcs11-tool", "--module", OPENSC_MODULE, "--login", "--pin", pin, *arguments
        )

    def public_key(self, key_id: str) -> Path:
        """The public key of a key on the card, PEM, read through OpenSC."""
        path = self.directory / f"public-{key_id}.pem"
        if not path.exists():
            self.say("pkcs15-tool", "--read-public-key", key_id, "--output", path)
        return path

    def write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path
