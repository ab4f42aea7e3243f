# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user may write for a certificate: a nickname, a PKCS#11 URI or a file.

`pkcs11:` begins a URI. A file is what contains a "/", or ends in one of FILE_ENDINGS and
exists; of several certificates in it, `#` and a name or number behind it choose one. Everything
else is a nickname in the NSS database; one that contains a "/" is written with NSS's own prefix,
`NSS Certificate DB:a/b`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.errors import SourceUnusable
from vccid.keys.uri import SCHEME, Pkcs11Uri
from vccid.process.user_text import fault

FILE_ENDINGS: Final = (".pem", ".crt", ".cer", ".der", ".p12", ".pfx")

#: How certutil and its kin write the database's own token before a nickname.
NSS_TOKEN_PREFIXES: Final = ("NSS Certificate DB:", "NSS FIPS 140-2 Certificate DB:")


@dataclass(frozen=True, slots=True)
class Nickname:
    """A certificate of an NSS database.

    Attributes:
        database: folder, or "sql:" and folder, as the user wrote it.
        nickname: its CKA_LABEL.
    """

    database: str
    nickname: str


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """PEM, DER or PKCS#12; which of them is seen from its content.

    Attributes:
        path: where it is.
        choice: of several certificates in it, the name or number of one; "" for any.
    """

    path: Path
    choice: str = ""


Item = Nickname | Pkcs11Uri | CertificateFile


def parse_item(text: str, database: str) -> Item:
    """Read one item of `vccidctl insert --certs`.

    Args:
        text: what the user wrote.
        database: where nicknames are looked up.

    Raises:
        SourceUnusable: it is empty, or a URI that cannot be read.
    """
    if not text.strip() or fault(text):
        raise SourceUnusable(
            "a certificate's name is empty or has unprintable characters",
            "write --certs NAME,NAME,NAME",
        )
    if text[: len(SCHEME)].lower() == SCHEME:
        return Pkcs11Uri.parse(text)
    for prefix in NSS_TOKEN_PREFIXES:
        if text.startswith(prefix):
            return Nickname(database, text.removeprefix(prefix))
    return _file(text) or Nickname(database, text)


def _file(text: str) -> CertificateFile | None:
    """`PATH` or `PATH#CHOICE`; a "#" belongs to the path where that exists so."""
    path, mark, choice = text.rpartition("#")
    if mark and path and not os.path.lexists(text) and _is_path(path):
        return CertificateFile(Path(path), choice)
    return CertificateFile(Path(text)) if _is_path(text) else None


def _is_path(text: str) -> bool:
    return "/" in text or (text.lower().endswith(FILE_ENDINGS) and os.path.lexists(text))
