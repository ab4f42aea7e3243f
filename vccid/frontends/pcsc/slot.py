# SPDX-License-Identifier: LGPL-2.1-or-later
"""One reader as programs share it: handles, sharing, protocol, power. Pure.

Source: pcsc-lite, winscard.c and prothandler.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vccid.frontends.pcsc.lock import Lock
from vccid.frontends.pcsc.machines import (
    CHECKS,
    MARKS,
    POWER,
    SHOWN,
    TOLD,
    Check,
    Mark,
    MarkEvent,
    Power,
    PowerEvent,
)
from vccid.wire.pcsclite import (
    Begin,
    CardRequest,
    Disconnect,
    Disposition,
    End,
    Entry,
    Protocols,
    Reconnect,
    Rv,
    Share,
    Transmit,
)

#: What a program may prefer, where it is to speak with a card.
_USABLE: Final = Protocols.T0 | Protocols.T1 | Protocols.RAW | Protocols.ANY_OLD
_PASSES: Final = (Protocols.RAW, Protocols.ANY_OLD)
_MODES: Final = frozenset(Share)
_DISPOSITIONS: Final = frozenset(Disposition)
_INITIALIZATIONS: Final = frozenset((Disposition.LEAVE, Disposition.RESET, Disposition.UNPOWER))
_COUNTERS: Final = 0xFFFF


@dataclass(slots=True, eq=False)
class Handle:
    """What SCardConnect gave out.

    Attributes:
        number: hCard, 1 to 0x7FFFFFFF.
        is_raw: it prefers RAW; pcscd makes that the protocol of everybody.
        mark: what it is to tell.
    """

    number: int
    is_raw: bool = False
    mark: Mark = MARKS.initial

    @property
    def is_gone(self) -> bool:
        """Whether its reader is no more."""
        return self.mark is Mark.GONE


def mode_refusal(mode: int, preferred: int) -> Rv | None:
    """What SCardConnect says of its share mode and protocols before it looks at a reader."""
    if mode != Share.DIRECT and not preferred & _USABLE:
        return Rv.E_PROTO_MISMATCH
    return None if mode in _MODES else Rv.E_INVALID_VALUE


class Slot:
    """A reader's handles and its card.

    Attributes:
        name: as programs see it, UTF-8.
        power: of the card.
        atr: the card's; empty where there is none.
        protocol: chosen for the card, of `Protocols`; 0 before that.
        handles: open ones.
        lock: whose the card is.
        is_gone: the reader is no more.
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.power = Power.ABSENT
        self.atr = b""
        self.protocol = 0
        self.handles: set[Handle] = set()
        self.lock: Lock[Handle] = Lock()
        self.is_gone = False
        self._comings = 0

    @property
    def sharing(self) -> int:
        """readerSharing."""
        return -1 if self.lock.exclusive is not None else len(self.handles)

    def entry(self, *, raw: bool = False) -> Entry:
        """How it stands; `raw` for a program that prefers RAW."""
        return Entry(
            self.name,
            self._comings % _COUNTERS + 1,
            SHOWN[self.power],
            self.sharing,
            self.atr,
            Protocols.RAW if raw and self.atr else self.protocol,
        )

    # -- the card ------------------------------------------------------------------------------

    def inserted(self, atr: bytes) -> None:
        """A card came."""
        self._comings += 1
        self.atr = atr
        self._power(PowerEvent.INSERTED)

    def removed(self) -> None:
        """The card left: every handle is to tell, and no transaction goes on."""
        self._comings += 1
        self.atr = b""
        self._power(PowerEvent.REMOVED)
        self.tell(MarkEvent.REMOVED)
        self.lock.drop()

    def powered(self, atr: bytes) -> None:
        """The card is on, or was reset; its protocol is to be chosen."""
        self.atr = atr
        self._power(PowerEvent.POWERED)

    def unpowered(self, why: PowerEvent) -> None:
        """The card has lost its power: UNPOWERED, FAILED or UNUSED."""
        self._power(why)

    def _power(self, event: PowerEvent) -> None:
        self.power = POWER.after(self.power, event)
        self.protocol = 0

    # -- handles -------------------------------------------------------------------------------

    def tell(self, event: MarkEvent, but: Handle | None = None) -> None:
        """Mark every handle, or every one but one."""
        for handle in self.handles:
            if handle is not but:
                handle.mark = MARKS.after(handle.mark, event)

    def reconnected(self, handle: Handle) -> None:
        """A handle has nothing to tell any more."""
        handle.mark = MARKS.after(handle.mark, MarkEvent.RECONNECTED)

    def refusal(self, request: CardRequest, handle: Handle) -> Rv | None:
        """Why a command cannot be done now, or None."""
        for check in CHECKS[type(request)]:
            if (rv := self._fails(check, request, handle)) is not None:
                return rv
        return None

    def gone(self) -> None:
        """The reader is no more; whoever waits for its card hears of that."""
        self.is_gone = True
        self.tell(MarkEvent.GONE)
        self.handles.clear()
        self.lock.exclusive = None
        self.lock.drop()

    def is_free_for(self, handle: Handle, protocol: int) -> bool:
        """Whether `refusal` has nothing against an APDU: what nearly every one comes to."""
        lock = self.lock
        return (
            not handle.mark
            and (lock.owner is None or lock.owner is handle)
            and (lock.exclusive is None or lock.exclusive is handle)
            and protocol == self.protocol != 0
        )

    def choose(self, handle: Handle, preferred: int, *, direct: bool) -> Rv | None:
        """Take a protocol that the program prefers and the card offers; why not, or None.

        RAW, among whatever others, is this handle's alone; DIRECT leaves all as it is.
        """
        handle.is_raw = bool(preferred & Protocols.RAW)
        if handle.is_raw or direct:
            return None
        if self.protocol:
            return None if self.protocol & preferred else Rv.E_PROTO_MISMATCH
        if preferred & Protocols.ANY_OLD:  # as pcscd: only where there is something to choose
            preferred = Protocols.T0 | Protocols.T1
        both = preferred & offered_protocols(self.atr)
        if not both:
            return Rv.E_PROTO_MISMATCH
        # T=1 first, whatever the card names first.
        self.protocol = Protocols.T1 if both & Protocols.T1 else Protocols.T0
        return None

    def active_protocol(self, handle: Handle) -> int:
        """dwActiveProtocol."""
        return Protocols.RAW if handle.is_raw else self.protocol

    def share(self, handle: Handle, mode: int) -> Rv | None:
        """Let a handle be among those who share, or be the only one; why not, or None."""
        lock = self.lock
        if mode == Share.EXCLUSIVE:
            if self.handles - {handle}:
                return Rv.E_SHARING_VIOLATION
            lock.exclusive = handle
        elif lock.exclusive is handle:
            lock.exclusive = None
        elif lock.exclusive is not None:
            return Rv.E_SHARING_VIOLATION
        self.handles.add(handle)
        lock.advance()
        return None

    def close(self, handle: Handle) -> None:
        """Forget a handle, and what it held."""
        self.handles.discard(handle)
        self.lock.let_go(handle)

    def _fails(self, check: Check, request: CardRequest, handle: Handle) -> Rv | None:
        if check is Check.VALUE or check is Check.MODE:
            return _value_refusal(check, request)
        if check is Check.READER:
            return Rv.E_INVALID_VALUE if handle.is_gone else None
        if check is Check.LOCK or (check is Check.LOCK_TO_ACT and _acts(request)):
            behind = isinstance(request, Begin) and self.lock.is_behind(handle)
            return Rv.E_SHARING_VIOLATION if self.lock.bars(handle) or behind else None
        if check is Check.MARK:
            return TOLD.get(handle.mark)
        if check is Check.CARD:
            return Rv.E_NO_SMARTCARD if self.power is Power.ABSENT else None
        if isinstance(request, Transmit):
            named = request.send_protocol
            if named != self.protocol and named not in _PASSES:
                return Rv.E_PROTO_MISMATCH
        return None


def _value_refusal(check: Check, request: CardRequest) -> Rv | None:
    if isinstance(request, Reconnect):
        if check is Check.MODE:
            return mode_refusal(request.mode, request.protocols)
        allowed = request.initialization in _INITIALIZATIONS and request.mode in _MODES
        return None if allowed else Rv.E_INVALID_VALUE
    if isinstance(request, Disconnect | End):
        return None if request.disposition in _DISPOSITIONS else Rv.E_INVALID_VALUE
    return None


def _acts(request: CardRequest) -> bool:
    return isinstance(request, Disconnect | End) and request.disposition != Disposition.LEAVE


def offered_protocols(atr: bytes) -> int:
    """Bits of `Protocols` the card offers, as pcscd reads its ATR (atrhandler.c).

    Lenient, and so no `Atr`: a card whose check byte is wrong is connected all the same.
    """
    if len(atr) < 2 or atr[0] not in (0x3B, 0x3F):
        return 0
    offered, at, present, number = 0, 1, atr[1] >> 4, 1
    while present:
        at += (present & 0x0F).bit_count()
        if at >= len(atr):
            break
        if number == 2 and present & 0x01:  # TA2: the one protocol of the specific mode
            named = atr[at - (present & 0x0E).bit_count()] & 0x0F
            return 1 << named if named <= 1 else 0
        if not present & 0x08:
            break
        named = atr[at] & 0x0F
        if named <= 1:
            offered |= 1 << named
        elif number == 1:
            return 0
        present, number = atr[at] >> 4, number + 1
    return offered or Protocols.T0
