# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card remembers on disk: its PIN and the tries left, one JSON file for each serial number.

A file is replaced whole and synced with its folder before `save` returns, so a try that was
counted stays counted wherever the process dies. A file that cannot be read is an error, never
a fresh start: that would give the tries back.
"""

from __future__ import annotations

import asyncio
import json
import os
import string
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from vccid.errors import StateError

#: How often a PIN may be wrong in a row where nobody said otherwise: as on a CAC.
MAX_TRIES: Final = 3

#: The version of the file's layout; a file of a later one is not touched.
VERSION: Final = 1

_RESET_HINT: Final = "vccidctl pin reset gives the card a new PIN and all its tries"


@dataclass(frozen=True, slots=True)
class PinHash:
    """A PIN as scrypt keeps it (RFC 7914).

    Attributes:
        salt: 16 random bytes.
        digest: 32 bytes derived from the PIN.
        n: CPU and memory cost.
        r: block size.
        p: parallelisation.
    """

    salt: bytes
    digest: bytes
    n: int
    r: int
    p: int


@dataclass(frozen=True, slots=True)
class PinState:
    """A card's PIN state.

    Attributes:
        tries_left: 0 (blocked) to `limit`.
        pin: the card's own PIN, or None where it never had one.
        factory: whether that PIN is the one every new card gets.
        limit: how often it may be wrong in a row.
        first: the PIN it had when it was new, where somebody had chosen that, or None.
    """

    tries_left: int
    pin: PinHash | None = None
    factory: bool = False
    limit: int = MAX_TRIES
    first: PinHash | None = None


class StateStore:
    """The folder that holds the state files."""

    def __init__(self, directory: Path, ending: str = ".json") -> None:
        """Take a folder, and make it if it is missing, for this user alone.

        Args:
            directory: the folder.
            ending: of each file's name, behind the card's serial number.

        Raises:
            StateError: it cannot be made.
        """
        self.directory = directory
        self._ending = ending
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            raise StateError(
                f"state folder {directory} cannot be made: {error.strerror}",
                "name another with STATE_DIRECTORY",
            ) from error

    def path(self, serial: str) -> Path:
        """The file of the card with this serial number (hexadecimal)."""
        if not serial or not set(serial) <= set(string.hexdigits):
            raise ValueError("a card's serial number is hexadecimal")
        return self.directory / f"{serial}{self._ending}"

    def lock(self, serial: str) -> asyncio.Lock:
        """What to hold from `load` to `save`: one lock for all cards with this serial number."""
        lock = self._locks.get(serial)
        if lock is None:
            self._locks[serial] = lock = asyncio.Lock()
        return lock

    def load(self, serial: str) -> PinState | None:
        """A card's state, or None for a card never seen before. Blocks.

        Raises:
            StateError: the file is there and cannot be read, or is not what `save` writes.
        """
        path = self.path(serial)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"PIN state {path} cannot be read: {error.strerror}",
                "the daemon must own the file and be able to read it",
            ) from error
        try:
            return _decode(raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(f"PIN state {path} is damaged", _RESET_HINT) from error
        except StateError as error:
            raise StateError(f"PIN state {path} {error.message}", error.hint) from error

    def save(self, serial: str, state: PinState) -> None:
        """Replace a card's state; it is on the disk when this returns. Blocks.

        Raises:
            StateError: the disk is full, or will not take it. The old state is there.
        """
        path = self.path(serial)
        try:
            replace_file(path, _encode(state))
        except OSError as error:
            raise StateError(
                f"PIN state {path} cannot be written: {error.strerror}",
                f"make room in {self.directory} or let the daemon write there",
            ) from error

    def forget(self, serial: str) -> None:
        """Remove a card's state: it is a card never seen before. Blocks.

        Raises:
            StateError: it cannot be removed.
        """
        remove_file(self.path(serial))


class MemoryStateStore(StateStore):
    """Keeps states for as long as it lives itself, and nothing on the disk."""

    def __init__(self) -> None:
        self._locks = WeakValueDictionary()
        self._states: dict[str, PinState] = {}
        self.directory = Path("/nowhere")
        self._ending = ""

    def load(self, serial: str) -> PinState | None:
        return self._states.get(serial)

    def save(self, serial: str, state: PinState) -> None:
        self._states[serial] = state

    def forget(self, serial: str) -> None:
        self._states.pop(serial, None)


def remove_file(path: Path) -> None:
    """Remove a file that need not be there; its folder is synced. Blocks.

    Raises:
        StateError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise StateError(
            f"{path} cannot be removed: {error.strerror}", "let the daemon write in its folder"
        ) from error


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole, for this user alone; it and its folder are synced. Blocks.

    Raises:
        OSError: the disk is full, or will not take it. The old content is still there, or there
            again: what is told to have failed has not happened.
    """
    put_back = _way_back(path)
    _put(path, content)
    try:
        _sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            put_back()
        raise


def _way_back(path: Path) -> Callable[[], None]:
    """What makes a file as it is now; nothing where it cannot be read, and is replaced for that."""
    try:
        return partial(_put, path, path.read_bytes())
    except FileNotFoundError:
        return path.unlink
    except OSError:
        return lambda: None


def _put(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    try:
        _write_synced(new, content)
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def _write_synced(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(state: PinState) -> bytes:
    pin = state.pin
    content = {
        "version": VERSION,
        "tries_left": state.tries_left,
        "factory": state.factory,
        **({} if state.limit == MAX_TRIES else {"limit": state.limit}),
        "pin": pin and _encode_pin(pin),
        **({} if state.first is None else {"first": _encode_pin(state.first)}),
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def _encode_pin(pin: PinHash) -> dict[str, object]:
    return {
        "salt": pin.salt.hex(),
        "digest": pin.digest.hex(),
        "n": pin.n,
        "r": pin.r,
        "p": pin.p,
    }


def _decode(raw: bytes) -> PinState:
    content = json.loads(raw)
    version = _integer(content["version"])
    if version > VERSION:
        raise StateError(
            f"is of version {version}, from a later vccid",
            f"start that vccid again, or: {_RESET_HINT}",
        )
    tries_left = _integer(content["tries_left"])
    limit = _integer(content.get("limit", MAX_TRIES))
    if version < 1 or not 0 <= tries_left <= limit or type(content["factory"]) is not bool:
        raise ValueError("a field is out of range")
    kept, first = _decode_pin(content["pin"]), _decode_pin(content.get("first"))
    return PinState(tries_left, kept, content["factory"], limit, first)


def _decode_pin(pin: dict[str, object] | None) -> PinHash | None:
    if pin is None:
        return None
    salt, digest = (bytes.fromhex(str(pin[name])) for name in ("salt", "digest"))
    n, r, p = (_integer(pin[name]) for name in ("n", "r", "p"))
    # hashlib.scrypt's own limits, and no more memory than a daemon may take for one PIN.
    if len(salt) < 8 or len(digest) != 32 or n < 2 or n & (n - 1) or min(r, p) < 1:
        raise ValueError("no scrypt parameters")
    if n * r * p > 1 << 20:
        raise ValueError("scrypt parameters out of measure")
    return PinHash(salt, digest, n, r, p)


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value
