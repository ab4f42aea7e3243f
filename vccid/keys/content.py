# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a file holds, whatever its form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

#: Fetches a file's password, which may cost the user a question.
#: It raises PasswordNeeded where there is none, SourceUnusable where it cannot be read.
AskPassword = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate.

    Attributes:
        der: its bytes as they stand in the file, which may be BER.
        name: its friendlyName (RFC 2985, 5.5.1), "" where it has none.
    """

    der: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A private key.

    Attributes:
        key: one of `cryptography`'s, None for a kind it does not know.
        name: its friendlyName, "" where it has none.
    """

    key: object | None = field(repr=False)
    name: str = ""


@dataclass(slots=True)
class Content:
    """A file's certificates and keys, in the file's order.

    Attributes:
        certificates: all of them, issuers too.
        keys: private keys.
        others: what else is there, for people: "a certificate request".
    """

    certificates: list[FoundCertificate] = field(default_factory=list)
    keys: list[FoundKey] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
