# SPDX-License-Identifier: LGPL-2.1-or-later
"""As much of PC/SC as the scripts here need, through ctypes.

pyscard makes a list of every answer, which takes longer than a long answer, and fails when a
reader comes between two of the calls it lists readers with.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import Array, byref, c_char_p, c_long, c_ubyte, c_ulong, c_void_p

SCARD_SCOPE_SYSTEM = 2
SCARD_SHARE_SHARED = 2
SCARD_PROTOCOL_T1 = 2
SCARD_STATE_CHANGED = 0x02
SCARD_STATE_PRESENT = 0x20
SCARD_E_TIMEOUT = 0x8010000A
SCARD_E_NO_READERS_AVAILABLE = 0x8010002E
NEW_READERS = r"\\?PnP?\Notification"
#: The readers come and go between two calls, which then may fail so.
_FLEETING = (SCARD_E_NO_READERS_AVAILABLE, 0x80100008, 0x80100009)

library = ctypes.CDLL("libpcsclite.so.1")


class IoRequest(ctypes.Structure):
    _fields_ = (("protocol", c_ulong), ("size", c_ulong))


class ReaderState(ctypes.Structure):
    """SCARD_READERSTATE of pcsclite.h."""

    _fields_ = (
        ("name", c_char_p),
        ("user_data", c_void_p),
        ("current", c_ulong),
        ("event", c_ulong),
        ("atr_size", c_ulong),
        ("atr", c_ubyte * 33),
    )


def call(name: str, *arguments: object, allowed: tuple[int, ...] = ()) -> int:
    """The result, which is 0 or one of those allowed."""
    result: int = getattr(library, name)(*arguments) & 0xFFFFFFFF
    if result != 0 and result not in allowed:
        sys.exit(f"{name}: {result:#x}")
    return result


def establish() -> c_long:
    context = c_long()
    call("SCardEstablishContext", SCARD_SCOPE_SYSTEM, None, None, byref(context))
    return context


def list_readers(context: c_long) -> list[str]:
    room, size = ctypes.create_string_buffer(4096), c_ulong(4096)
    if call("SCardListReaders", context, None, room, byref(size), allowed=_FLEETING):
        return []
    return [name.decode() for name in room.raw[: size.value].split(b"\0") if name]


def look(context: c_long) -> dict[str, int]:
    """Each reader's state, in SCARD_STATE_ bits; nothing while one comes or goes."""
    states = _states(dict.fromkeys(list_readers(context), 0))
    if call("SCardGetStatusChange", context, 0, states, len(states), allowed=_FLEETING):
        return {}
    return {state.name.decode(): state.event & ~SCARD_STATE_CHANGED for state in states}


def wait(context: c_long, known: dict[str, int]) -> None:
    """Until readers or cards are other than known, or a tenth of a second is over: pcscd does
    not tell of a reader that came between `look` and this.
    """
    states = _states(known | {NEW_READERS: 0})
    allowed = (*_FLEETING, SCARD_E_TIMEOUT)
    call("SCardGetStatusChange", context, 100, states, len(states), allowed=allowed)


def _states(known: dict[str, int]) -> Array[ReaderState]:
    return (ReaderState * len(known))(
        *(ReaderState(name=name.encode(), current=state) for name, state in known.items())
    )
