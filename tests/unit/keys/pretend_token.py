# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token that answers as a test tells it to: `pretend_token.c`, compiled and loaded."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from vccid.keys.pkcs11_module import CKO_CERTIFICATE, CKO_PRIVATE_KEY, Module
from vccid.keys.pkcs11_token import Pkcs11Token

PIN = b"123456"
WRONG = b"654321"

_SOURCE = Path(__file__).with_name("pretend_token.c")


@cache
def _compiled() -> tuple[TemporaryDirectory[str], Path]:
    folder = TemporaryDirectory(prefix="vccid-pretend-")
    library = Path(folder.name, "pretend-token.so")
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, _SOURCE], check=True
    )
    return folder, library


class PretendToken:
    """The module, its token as new.

    Attributes:
        token: it, open.
        path: the module.
    """

    def __init__(self) -> None:
        self.path = _compiled()[1]
        library = str(self.path)
        self._library = ctypes.CDLL(library)
        self._library.pretend_new()
        self.token = Pkcs11Token(Module(library), "token pretend", "pretend", lambda: 0)
        self.token.open()

    def answer(self, function: str, rv: int) -> None:
        """Let a function answer this and do nothing; "" is none, so all are themselves."""
        self._library.pretend_answer(function.encode(), ctypes.c_ulong(rv))

    def add_pair(self, label: str, certificate: bytes, modulus: bytes, id_: bytes = b"\1") -> None:
        """A certificate, and a key that gives back what it is to sign."""
        for kind, value in ((CKO_CERTIFICATE, certificate), (CKO_PRIVATE_KEY, modulus)):
            self._library.pretend_object(
                ctypes.c_ulong(kind), label.encode(), id_, ctypes.c_size_t(len(id_)),
                value, ctypes.c_size_t(len(value)),
            )  # fmt: skip

    def pull(self) -> None:
        """Pull it and put it back: it is locked, and its sessions are void."""
        self._library.pretend_pulled()

    def give_tries(self, left: int) -> None:
        """What its own tools do."""
        self._library.pretend_tries(left)

    @property
    def logins(self) -> int:
        """How many PINs it looked at."""
        return int(self._library.pretend_logins())
