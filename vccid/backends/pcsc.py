# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real card in a PC/SC reader of this host, passed through with its own ATR.

`PcscRelay` follows one reader: what is in it is in ours. Every call to PC/SC may block for
as long as a card or pcscd likes, so a relay has two threads of its own: one waits for cards
to come and go, one speaks to the card.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Final

from smartcard import scard

from vccid.backends.pcsc_card import PcscCard, Worker
from vccid.errors import ReaderError
from vccid.reader import Reader

_log = logging.getLogger(__name__)

#: Milliseconds after which the watch looks whether it is still wanted.
_GLANCE: Final = 1000
#: Seconds between two looks for a pcscd or a reader that is not there.
_ABSENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How a real card is shared.

    Attributes:
        exclusive: no other program of this host may use the card while a host here owns it.
        idle: seconds after which another host may have a card its owner does not use.
        tries_kept: a PIN is not passed on while the card has fewer tries left than this;
            0 passes every one.
    """

    exclusive: bool = False
    idle: float = 10.0
    tries_kept: int = 2


def is_own(name: str, readers: tuple[str, ...]) -> bool:
    """Whether a PC/SC reader is one of ours by another door: pcscd's driver, or our USB reader."""
    return any(f"vccid {reader} " in name or f"vccid {reader}]" in name for reader in readers)


class PcscRelay:
    """One PC/SC reader shown in one of ours.

    Attributes:
        name: of the PC/SC reader, complete, such as "ACS ACR38U 00 00".
        trouble: why there is no card to be had, or "".
    """

    def __init__(
        self,
        reader: Reader,
        name: str,
        own: tuple[str, ...],
        settings: RelaySettings = RelaySettings(),  # noqa: B008 - frozen
    ) -> None:
        """`own` names our readers.

        Raises:
            ReaderError: the PC/SC reader is ours, and would show itself to itself.
        """
        if is_own(name, own):
            raise ReaderError(
                f"{name} is a reader of this daemon", "name a real reader: pcsc_scan -r"
            )
        self.name = name
        self.trouble = ""
        self._reader = reader
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._card: PcscCard | None = None
        self._context: int | None = None
        self._worker = Worker(name)
        self._stopping = threading.Event()
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        if self.trouble:
            return self.trouble
        return "card present" if self._card is not None else "no card"

    async def start(self) -> None:
        """Begin to follow the reader; a card that is in comes a moment later."""
        watch = threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True)
        watch.start()

    async def stop(self) -> None:
        """Take the card out and follow no more. May be repeated."""
        self._stopping.set()
        if self._context is not None:
            scard.SCardCancel(self._context)  # or the watch ends a glance later
        await self._over
        self._show(b"", "")
        self._worker.end()

    # -- on the loop -----------------------------------------------------------------

    def _show(self, atr: bytes, trouble: str) -> None:
        """A card with this ATR came, or b"": none is there any more."""
        if trouble and trouble != self.trouble:
            _log.warning("%s: %s", self.name, trouble)
        self.trouble = trouble
        card, self._card = self._card, None
        if card is not None and self._reader.card is card:
            self._reader.remove()
        if not atr or self._stopping.is_set():
            return
        if self._reader.card is not None:
            self.trouble = f"reader {self._reader.name} holds another card"
            return
        self._card = PcscCard(self.name, atr, self._worker, self._settings)
        self._reader.insert(self._card)

    # -- the watch, a thread ---------------------------------------------------------

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
            return f"no pcscd: {scard.SCardGetErrorMessage(result)}"
        self._context = context
        try:
            return self._follow(context)
        finally:
            self._context = None
            scard.SCardReleaseContext(context)

    def _follow(self, context: int) -> str:
        known = scard.SCARD_STATE_UNAWARE
        while not self._stopping.is_set():
            result, states = scard.SCardGetStatusChange(context, _GLANCE, [(self.name, known)])
            if result in (scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED):
                continue
            if result != scard.SCARD_S_SUCCESS:
                return f"no such reader: {scard.SCardGetErrorMessage(result)}"
            _, state, atr = states[0]
            if state & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE):
                return "the reader is gone"
            if _changed(known, state):
                self._tell(bytes(atr) if _usable(state) else b"", _mute(state))
            known = state & ~scard.SCARD_STATE_CHANGED
        return ""

    def _tell(self, atr: bytes, trouble: str) -> None:
        self._loop.call_soon_threadsafe(self._show, atr, trouble)


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


def list_readers() -> list[str]:
    """The PC/SC readers there are; blocks. Empty without a pcscd."""
    result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    if result != scard.SCARD_S_SUCCESS:
        return []
    try:
        result, names = scard.SCardListReaders(context, [])
        return list(names) if result == scard.SCARD_S_SUCCESS else []
    finally:
        scard.SCardReleaseContext(context)
