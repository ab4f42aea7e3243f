# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the password of a database, token or file comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vccid.errors import PasswordNeeded
from vccid.keys.readable import read_small_file

#: systemd credential that fits any source; ".<name>" is added for one source alone.
CREDENTIAL = "vccid.password"


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords one request may use.

    Attributes:
        given: what came with the request, for every source in it that needs one.
        credentials_directory: systemd's CREDENTIALS_DIRECTORY, if there is one.
    """

    given: bytes | None = field(default=None, repr=False)
    credentials_directory: Path | None = None

    def find(self, name: str, pin_source: Path | None = None) -> bytes | None:
        """The password for one source, or None.

        A pin-source comes first, for it was named for this very token; then the one given
        with the request; then the credential `vccid.password.<name>`, then `vccid.password`.

        Args:
            name: the database folder's last part, the token's label, or the file's name.
            pin_source: RFC 7512, 2.4.

        Raises:
            SourceUnusable: a file that was named cannot be read.
        """
        if pin_source is not None:
            return _strip(read_small_file(pin_source, "pin-source file"))
        if self.given is not None:
            return self.given
        if self.credentials_directory is None:
            return None
        candidates = [CREDENTIAL] if "/" in name else [f"{CREDENTIAL}.{name}", CREDENTIAL]
        for candidate in candidates:
            path = self.credentials_directory / candidate
            if os.path.lexists(path):
                return _strip(read_small_file(path, "credential"))
        return None


def password_needed(source: str, name: str) -> PasswordNeeded:
    """The error for a locked source, with the three ways to unlock it."""
    return PasswordNeeded(
        f"{source} needs a password",
        f"give it with --password-file, as the systemd credential {CREDENTIAL}.{name},"
        " or at vccidctl's prompt",
    )


def _strip(content: bytes) -> bytes:
    """A password file's content without the line end editors put there."""
    return content.removesuffix(b"\n").removesuffix(b"\r")
