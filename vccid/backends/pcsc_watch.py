# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follows one PC/SC reader of this host: cards that come and go, pcscd that goes and comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from smartcard import scard

from vccid.errors import ReaderError

#: Milliseconds after which the watch looks whether it is still wanted.
_GLANCE: Final = 1000
#: Seconds between two looks for a pcscd or a reader that is not there.
_ABSENCE: Final = 0.5
#: What libifdvccid.so has for the vendor's name.
_DRIVER: Final = "vccid"


class PcscRefusal(ReaderError):
    """pcscd lets the daemon's user neither in nor at a card: polkit, which it asks, says so."""

    def __init__(self) -> None:
        super().__init__(
            "pcscd refuses the daemon's user: no polkit rule allows it",
            "docs/examples/50-vccid-pcscd.rules is such a rule, for /etc/polkit-1/rules.d",
        )


def check_reader(context: int, name: str, is_ours: Callable[[str], bool]) -> None:
    """Ask a PC/SC reader whose it is; blocks. No card is needed, and none is powered.

    Raises:
        PcscRefusal: the daemon may not use it.
        ReaderError: it is ours, or there is none, or nobody serves it.
    """
    result, card, _ = scard.SCardConnect(context, name, scard.SCARD_SHARE_DIRECT, 0)
    if result == scard.SCARD_E_SHARING_VIOLATION:
        return  # another program has it for itself; it is asked again before it is used
    if result == scard.SCARD_W_SECURITY_VIOLATION:
        raise PcscRefusal
    if result != scard.SCARD_S_SUCCESS:
        raise ReaderError(f"no such reader: {scard.SCardGetErrorMessage(result)}")
    try:
        check_connected(card, name, is_ours)
    finally:
        scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)


def check_connected(card: int, name: str, is_ours: Callable[[str], bool]) -> None:
    """The same, by a handle of SCardConnect.

    Both doors to a reader of vccid's tell its serial number: libifdvccid.so asks the daemon,
    and libccid has it from the USB device.

    Raises:
        ReaderError: it is ours, or nobody serves it.
    """
    serial = _attribute(card, scard.SCARD_ATTR_VENDOR_IFD_SERIAL_NO)
    if is_ours(serial):
        raise ReaderError(f"{name} is a reader of this daemon", "name a real one: pcsc_scan -r")
    if not serial and _attribute(card, scard.SCARD_ATTR_VENDOR_NAME) == _DRIVER:
        raise ReaderError(f"no vccid serves {name}", "start it: systemctl start vccid")


def _attribute(card: int, attribute: int) -> str:
    result, value = scard.SCardGetAttrib(card, attribute)
    if result != scard.SCARD_S_SUCCESS:
        return ""
    return bytes(value).partition(b"\0")[0].decode("ascii", "replace")


class PcscWatch:
    """One reader, watched in a thread; PC/SC's calls block."""

    def __init__(
        self, name: str, is_ours: Callable[[str], bool], tell: Callable[[bytes, str], None]
    ) -> None:
        """
        Args:
            name: of the PC/SC reader, complete, such as "ACS ACR38U 00 00".
            is_ours: whether a serial number is that of a reader of ours, which would show
                itself to itself and so is not followed. Called in the watch's thread.
            tell: called on the loop: the ATR of the card that came, or b"" where none is
                there any more, and what is wrong, or "".
        """
        self._name = name
        self._is_ours = is_ours
        self._tell_loop = tell
        self._loop = asyncio.get_running_loop()
        self._context: int | None = None
        self._stopping = threading.Event()
        self._over: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Begin; what is there now is told a moment later."""
        threading.Thread(target=self._watch, name=f"watch {self._name}", daemon=True).start()

    async def stop(self) -> None:
        """End; nothing is told any more. May be repeated."""
        self._stopping.set()
        if self._context is not None:
            scard.SCardCancel(self._context)  # or the watch ends a glance later
        await self._over

    def _watch(self) -> None:
        try:
            while not self._stopping.is_set():
                trouble = self._watch_pcscd()
                self._tell(b"", trouble)
                self._stopping.wait(_ABSENCE)
        finally:
            self._loop.call_soon_threadsafe(self._over.set_result, None)

    def _watch_pcscd(self) -> str:
        """Follow the reader while pcscd and it are there; returns why it ended."""
        result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if result != scard.SCARD_S_SUCCESS:
            return _no_pcscd(result)
        self._context = context
        try:
            return self._follow(context)
        finally:
            self._context = None
            scard.SCardReleaseContext(context)

    def _follow(self, context: int) -> str:
        # Each time the reader comes: its name may be another one's by now.
        try:
            check_reader(context, self._name, self._is_ours)
        except ReaderError as error:
            return error.message
        known = scard.SCARD_STATE_UNAWARE
        while not self._stopping.is_set():
            result, states = scard.SCardGetStatusChange(context, _GLANCE, [(self._name, known)])
            if result in (scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED):
                continue
            if result != scard.SCARD_S_SUCCESS:
                return f"no such reader: {scard.SCardGetErrorMessage(result)}"
            _, state, atr = states[0]
            if state & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE):
                return "the reader is gone"
            if known == scard.SCARD_STATE_UNAWARE or _changed(known, state):
                self._tell(bytes(atr) if _usable(state) else b"", _mute(state))
            known = state & ~scard.SCARD_STATE_CHANGED
        return ""

    def _tell(self, atr: bytes, trouble: str) -> None:
        self._loop.call_soon_threadsafe(self._told, atr, trouble)

    def _told(self, atr: bytes, trouble: str) -> None:
        if not self._stopping.is_set():
            self._tell_loop(atr, trouble)


def _no_pcscd(result: int) -> str:
    if result == scard.SCARD_W_SECURITY_VIOLATION:
        refusal = PcscRefusal()
        return f"{refusal.message}; {refusal.hint}"
    return f"no pcscd: {scard.SCardGetErrorMessage(result)}"


def _usable(state: int) -> bool:
    return bool(state & scard.SCARD_STATE_PRESENT) and not state & scard.SCARD_STATE_MUTE


def _mute(state: int) -> str:
    return "the card does not answer" if state & scard.SCARD_STATE_MUTE else ""


def _changed(before: int, after: int) -> bool:
    """Whether a card came or left, not only whether somebody uses it.

    pcscd counts the comings and goings in the upper 16 bits: an exchange that nobody saw
    half-way is one too.
    """
    return _usable(before) != _usable(after) or before >> 16 != after >> 16
