# SPDX-License-Identifier: LGPL-2.1-or-later
"""NSS databases, several at once, through softokn's own PKCS#11 module.

softokn is initialised without any database; each one is added as a slot of its own by
creating an NSS "new slot" object (nss/lib/util/pkcs11n.h), read-only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from vccid.errors import CertificateNotFound, SourceUnusable
from vccid.keys.nss_checks import check_folder, database_folder, is_locked, is_plain
from vccid.keys.pkcs11_module import CKA_CLASS, Module, Pkcs11Error, ulong
from vccid.keys.pkcs11_token import CertificateObject, Pkcs11Token
from vccid.keys.registry import TOKENS, Lease

#: What begins the registry's keys of NSS databases.
_KEY: Final = "nss"
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
#: The slot on which slots are added, and the numbers added ones may have.
_FIRST_SLOT: Final = 1
_SLOTS: Final = range(4, 101)
#: How many of the nicknames there a message lists.
_LISTED: Final = 10


class _Softoken:
    """softokn and its slot numbers."""

    def __init__(self) -> None:
        self.module = Module(_LIBRARY, _NO_DATABASE)
        self._lock = threading.Lock()
        self._free = set(_SLOTS)
        #: what keeps the folders open whose paths softokn's parameters cannot hold
        self._open: dict[int, int] = {}

    def add(self, folder: Path) -> int:
        """Open a database in a slot of its own; returns the slot's number.

        Raises:
            SourceUnusable: it does not open.
        """
        with self._lock:
            if not self._free:
                raise SourceUnusable(
                    f"{len(_SLOTS)} NSS databases are open, and NSS takes no more",
                    "remove a card first",
                )
            slot = min(self._free)
            self._free.remove(slot)
        try:
            specification = (
                f"tokens=[0x{slot:x}=<configDir='sql:{self._path(slot, folder)}'"
                f" tokenDescription='vccid {slot}' flags=readOnly>]"
            )
            self._create(_FIRST_SLOT, _CKO_NSS_NEWSLOT, specification)
        except (Pkcs11Error, OSError) as error:
            self._give_back(slot)
            raise _refused(folder, error) from None
        return slot

    def _path(self, slot: int, folder: Path) -> str:
        """The folder as softokn can be told it: one with a quote or bracket by a descriptor."""
        if is_plain(folder):
            return str(folder)
        self._open[slot] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._open[slot]}"

    def _give_back(self, slot: int) -> None:
        """Free a slot's number."""
        if (descriptor := self._open.pop(slot, None)) is not None:
            os.close(descriptor)
        with self._lock:
            self._free.add(slot)

    def remove(self, slot: int) -> None:
        """Close a slot's database and free its number."""
        try:
            self._create(slot, _CKO_NSS_DELSLOT, f"tokens=[0x{slot:x}=<>]")
        finally:
            self._give_back(slot)

    def _create(self, slot: int, kind: int, specification: str) -> None:
        session = self.module.open_session(slot)
        template = {
            CKA_CLASS: ulong(kind),
            _CKA_NSS_MODULE_SPEC: specification.encode() + b"\0",
        }
        try:
            self.module.create_object(session, template)
        except Pkcs11Error:
            self.module.close_session(session)
            raise
        if kind == _CKO_NSS_NEWSLOT:  # A removed slot took its sessions with it.
            self.module.close_session(session)


@cache
def _load_softoken() -> _Softoken:
    try:
        return _Softoken()
    except OSError:
        raise SourceUnusable(
            f"NSS's module {_LIBRARY} cannot be loaded", "install the package libnss3"
        ) from None


_loading = threading.Lock()


def _softoken() -> _Softoken:
    """softokn, initialised by the first that needs it: after any fork of the daemon."""
    with _loading:
        return _load_softoken()


def _refused(folder: Path, error: Pkcs11Error | OSError) -> SourceUnusable:
    if isinstance(error, OSError):
        return SourceUnusable(f"NSS database folder {folder}: {error.strerror}")
    if is_locked(folder):
        return SourceUnusable(
            f"NSS database {folder} is locked: another program is writing to it",
            "try again when that has ended",
        )
    name = _DATABASE_FAILED.get(error.rv)
    if name is None:
        return SourceUnusable(f"NSS does not open {folder}: {error.message}")
    return SourceUnusable(f"{name} is damaged in NSS database {folder}", "restore it from a backup")


def lease_database(database: str) -> Lease:
    """The token of an NSS database, opened anew where its files were changed since.

    Args:
        database: "sql:FOLDER" or "FOLDER".

    Raises:
        SourceUnusable: missing, unreadable, damaged, or of another kind.
    """
    folder = database_folder(database)
    stamp = check_folder(folder)
    softoken = _softoken()

    def make() -> Pkcs11Token:
        place = _Place(softoken, folder)
        # A password's KDF runs at each use of a stored key, and once for a copy.
        return Pkcs11Token(
            softoken.module,
            str(folder),
            folder.name,
            place.find,
            copy_keys=True,
            leave=place.leave,
            pin_refusal=f"it is opened read-only: certutil -W -d sql:{folder}, then insert again",
        )

    return TOKENS.lease((_KEY, folder.resolve(), stamp), make)


class _Place:
    """Where in softokn a database is, while it is there."""

    def __init__(self, softoken: _Softoken, folder: Path) -> None:
        self._softoken = softoken
        self._folder = folder
        self._slot: int | None = None

    def find(self) -> int:
        """Its slot, which is added if need be."""
        if self._slot is None:
            self._slot = self._softoken.add(self._folder)
        return self._slot

    def leave(self, slot: int) -> None:
        """Take the slot away."""
        self._slot = None
        self._softoken.remove(slot)


def by_nickname(
    certificates: Sequence[CertificateObject], nickname: str, database: str
) -> list[CertificateObject]:
    """Every certificate with this nickname: after a renewal there are several.

    Raises:
        CertificateNotFound: there is none; the hint has those there are, near ones first.
    """
    found = [certificate for certificate in certificates if certificate.label == nickname]
    if not found:  # A blank at an end is seldom meant, and sometimes lost on the way.
        found = [item for item in certificates if item.label.strip() == nickname.strip()]
    if not found:
        raise CertificateNotFound(
            f"{database} has no certificate with nickname {nickname}",
            _known([certificate.label for certificate in certificates], nickname),
        )
    return found


def _known(labels: Sequence[str], wanted: str) -> str:
    """The names there are, the nearest to `wanted` first."""
    names = sorted({label for label in labels if label})
    if not names:
        return "it holds no certificates"
    import difflib

    def distance(name: str) -> float:
        return -difflib.SequenceMatcher(None, wanted.casefold(), name.casefold()).ratio()

    names.sort(key=distance)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "it has " + ", ".join(names[:_LISTED]) + more
