# SPDX-License-Identifier: LGPL-2.1-or-later
"""An NSS database through softokn's own PKCS#11 module, in the process that has that module.

softokn is initialised without any database; this one is added as a slot of its own by
creating an NSS "new slot" object (nss/lib/util/pkcs11n.h), read-only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from vccid.errors import SourceUnusable
from vccid.keys.pkcs11_module import CKA_CLASS, Module, Pkcs11Error, ulong

_LIBRARY: Final = "libsoftokn3.so"
#: LibraryParameters: nothing of its own to open.
_NO_DATABASE: Final = (
    b"configdir='' certPrefix='' keyPrefix='' secmod='' flags=readOnly,noCertDB,noModDB"
)
_CKO_NSS_NEWSLOT: Final = 0xCE534355
_CKO_NSS_DELSLOT: Final = 0xCE534356
_CKA_NSS_MODULE_SPEC: Final = 0xCE534368
#: CKR_NSS_CERTDB_FAILED and CKR_NSS_KEYDB_FAILED.
_DATABASE_FAILED: Final = {0xCE534351: "cert9.db", 0xCE534352: "key4.db"}
#: The slot on which slots are added, and the first an added one may have.
_FIRST_SLOT: Final = 1
_SLOT: Final = 4
#: What softokn's parameters take as it stands beside letters and digits; anything else could end
#: a quoted value or a list.
_PLAIN: Final = "_/.,:@%+=~ -"


def load_softoken() -> Module:
    """softokn, initialised.

    Raises:
        SourceUnusable: it is not installed.
    """
    try:
        return Module(_LIBRARY, _NO_DATABASE)
    except OSError:
        raise SourceUnusable(
            f"NSS's module {_LIBRARY} cannot be loaded", "install the package libnss3"
        ) from None


class Database:
    """Where in softokn a database is, while it is there."""

    def __init__(self, softoken: Module, folder: Path) -> None:
        self._softoken = softoken
        self._folder = folder
        self._added = False
        #: what keeps a folder open whose path softokn's parameters cannot hold
        self._open: int | None = None

    def find(self) -> int:
        """Its slot, which is added if need be.

        Raises:
            SourceUnusable: it does not open.
        """
        if not self._added:
            try:
                self._create(
                    _FIRST_SLOT,
                    _CKO_NSS_NEWSLOT,
                    f"tokens=[0x{_SLOT:x}=<configDir='sql:{self._path()}'"
                    f" tokenDescription='vccid {_SLOT}' flags=readOnly>]",
                )
            except (Pkcs11Error, OSError) as error:
                self._forget()
                raise _refused(self._folder, error) from None
            self._added = True
        return _SLOT

    def leave(self, slot: int) -> None:
        """Take the slot away."""
        try:
            self._create(slot, _CKO_NSS_DELSLOT, f"tokens=[0x{slot:x}=<>]")
        finally:
            self._forget()

    def _forget(self) -> None:
        self._added = False
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def _path(self) -> str:
        """The folder as softokn can be told it: one with a quote or bracket by a descriptor."""
        if all(c.isalnum() or c in _PLAIN for c in str(self._folder)):
            return str(self._folder)
        self._open = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._open}"

    def _create(self, slot: int, kind: int, specification: str) -> None:
        session = self._softoken.open_session(slot)
        template = {
            CKA_CLASS: ulong(kind),
            _CKA_NSS_MODULE_SPEC: os.fsencode(specification) + b"\0",
        }
        try:
            self._softoken.create_object(session, template)
        except Pkcs11Error:
            self._softoken.close_session(session)
            raise
        if kind == _CKO_NSS_NEWSLOT:  # A removed slot took its sessions with it.
            self._softoken.close_session(session)


def _refused(folder: Path, error: Pkcs11Error | OSError) -> SourceUnusable:
    if isinstance(error, OSError):
        return SourceUnusable(f"NSS database folder {folder}: {error.strerror}")
    from vccid.keys.nss_checks import is_locked  # and SQLite, which is not needed before

    if is_locked(folder):
        return SourceUnusable(
            f"NSS database {folder} is locked: another program is writing to it",
            "try again when that has ended",
        )
    name = _DATABASE_FAILED.get(error.rv)
    if name is None:
        return SourceUnusable(f"NSS does not open {folder}: {error.message}")
    return SourceUnusable(f"{name} is damaged in NSS database {folder}", "restore it from a backup")
