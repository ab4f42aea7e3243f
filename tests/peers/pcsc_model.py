# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second reading of pcscd: what each command answers, written from its description alone.

One reader, several programs; nothing of vccid is imported here. Where pcscd has faults that
nobody copies (docs/pcsc.md), or where a command would wait, the model says None: do not ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.peers import pcsclite_client as pc

PRESENT, ABSENT, OFF = 0x34, 0x02, 0x04
USABLE = 1 | 2 | 4 | 0x1000


@dataclass(eq=False)
class Held:
    """An open handle.

    Attributes:
        program: whose it is.
        event: 0, or what Begin, End, Status and Transmit say until a Reconnect.
    """

    program: int
    event: int = 0


@dataclass
class Model:
    """A reader with a card that offers `offers`; nobody has it open, and it has no power."""

    offers: int = pc.T0
    card: bool = True
    powered: bool = False
    protocol: int = 0
    handles: list[Held] = field(default_factory=list)
    owner: Held | None = None
    depth: int = 0
    exclusive: Held | None = None

    def seen(self) -> tuple[int, int, int]:
        """readerState, readerSharing, cardProtocol."""
        state = (PRESENT if self.powered else OFF) if self.card else ABSENT
        return state, -1 if self.exclusive else len(self.handles), self.protocol

    def locked_for(self, handle: Held | None) -> bool:
        """Section 13; EXCLUSIVE has a lock of its own."""
        return any(held not in (None, handle) for held in (self.owner, self.exclusive))

    # -- handles -------------------------------------------------------------------------------

    def connect(self, program: int, mode: int, protocols: int) -> int | None:
        """Section 11; a handle is appended where it succeeds."""
        if mode != pc.DIRECT and not protocols & USABLE:
            return pc.PROTO_MISMATCH
        if mode not in (pc.EXCLUSIVE, pc.SHARED, pc.DIRECT):
            return pc.INVALID_VALUE
        if protocols & pc.RAW:
            return None
        if self.exclusive:
            return pc.SHARING_VIOLATION
        if self.owner:
            return None
        if mode != pc.DIRECT:
            if not self.card:
                return pc.NO_SMARTCARD
            self.powered = True
            if not self._choose(protocols):
                return pc.PROTO_MISMATCH
        if mode == pc.EXCLUSIVE and self.handles:
            return pc.SHARING_VIOLATION
        self.handles.append(Held(program))
        if mode == pc.EXCLUSIVE:
            self.exclusive = self.handles[-1]
        return pc.SUCCESS

    def reconnect(self, handle: Held, mode: int, protocols: int, how: int) -> int | None:
        """Sections 12 and 14."""
        if how not in (pc.LEAVE, pc.RESET, pc.UNPOWER):
            return pc.INVALID_VALUE
        if mode not in (pc.EXCLUSIVE, pc.SHARED, pc.DIRECT):
            return pc.INVALID_VALUE
        if mode != pc.DIRECT and not protocols & USABLE:
            return pc.PROTO_MISMATCH
        if protocols & pc.RAW or (self.exclusive is handle and mode != pc.EXCLUSIVE):
            return None
        if self.locked_for(handle):
            return pc.SHARING_VIOLATION
        if not self.card:
            return pc.NO_SMARTCARD if how == pc.LEAVE else None
        if how == pc.LEAVE and not self.powered:
            return None
        others = [other for other in self.handles if other is not handle]
        if mode == pc.EXCLUSIVE and self.owner is handle and self.exclusive is not handle:
            return None
        fits = mode == pc.DIRECT or bool(self._wanted(protocols) & self.offers)
        if how != pc.LEAVE:
            if not fits or (mode == pc.EXCLUSIVE and others):
                return None
            self._reset(but=handle)
        if mode != pc.DIRECT:
            self.powered = True
            if not self._choose(protocols):
                return pc.PROTO_MISMATCH
        if mode == pc.EXCLUSIVE:
            if others:
                return pc.SHARING_VIOLATION
            self.exclusive = handle
        handle.event = 0
        return pc.SUCCESS

    def disconnect(self, handle: Held, how: int) -> int | None:
        """Sections 12 and 14."""
        if how not in (pc.LEAVE, pc.RESET, pc.UNPOWER, pc.EJECT):
            return pc.INVALID_VALUE
        if how != pc.LEAVE and self.locked_for(handle):
            return None
        if how in (pc.RESET, pc.UNPOWER):
            if not self.card:
                return None
            self._reset(but=handle)
            self.powered = how == pc.RESET
        self._close(handle)
        return pc.SUCCESS

    def kill(self, program: int) -> None:
        """Section 9: the end of a connection."""
        for handle in [held for held in self.handles if held.program == program]:
            held = self.owner is handle or self.exclusive is handle
            if held and not handle.event and self.card:
                self._reset(but=handle)
            self._close(handle)

    # -- commands ------------------------------------------------------------------------------

    def begin(self, handle: Held) -> int | None:
        if handle.event:
            return handle.event
        if self.locked_for(handle):
            return pc.SHARING_VIOLATION
        self.owner, self.depth = handle, self.depth + 1
        return pc.SUCCESS

    def end(self, handle: Held, how: int) -> int | None:
        if how not in (pc.LEAVE, pc.RESET, pc.UNPOWER, pc.EJECT):
            return pc.INVALID_VALUE
        if handle.event:
            return handle.event
        if how != pc.LEAVE and self.locked_for(handle):
            return pc.SHARING_VIOLATION
        if how in (pc.RESET, pc.UNPOWER):
            if not self.card:
                return None
            self._reset()
        if self.locked_for(handle):
            return pc.SHARING_VIOLATION
        if self.owner is not handle:
            return pc.UNSUPPORTED_FEATURE if how == pc.EJECT else pc.NOT_TRANSACTED
        self.depth -= 1
        if not self.depth:
            self.owner = None
        return pc.UNSUPPORTED_FEATURE if how == pc.EJECT else pc.SUCCESS

    def status(self, handle: Held) -> int | None:
        return pc.SHARING_VIOLATION if self.locked_for(handle) else handle.event

    def transmit(self, handle: Held, protocol: int) -> int | None:
        if self.locked_for(handle):
            return pc.SHARING_VIOLATION
        if handle.event:
            return handle.event
        if not self.card:
            return pc.NO_SMARTCARD
        if protocol != self.protocol:
            return pc.PROTO_MISMATCH
        return pc.SUCCESS if self.powered and self.protocol else None

    def control(self, handle: Held) -> int | None:
        return pc.SHARING_VIOLATION if self.locked_for(handle) else pc.SUCCESS

    def attribute(self, handle: Held) -> int | None:
        return self.status(handle)

    # -- the card ------------------------------------------------------------------------------

    def remove(self) -> None:
        """Section 10: card out."""
        self.card = self.powered = False
        self.protocol = self.depth = 0
        self.owner = None
        for handle in self.handles:
            handle.event = pc.REMOVED_CARD

    def insert(self) -> None:
        self.card = self.powered = True

    def _reset(self, but: Held | None = None) -> None:
        self.protocol, self.powered = 0, True
        for handle in self.handles:
            if handle is not but:
                handle.event = pc.RESET_CARD

    def _close(self, handle: Held) -> None:
        self.handles.remove(handle)
        if self.exclusive is handle:
            self.exclusive = None
        if self.owner is handle:
            self.owner, self.depth = None, 0

    def _wanted(self, protocols: int) -> int:
        return pc.T0 | pc.T1 if protocols & 0x1000 else protocols

    def _choose(self, protocols: int) -> bool:
        if self.protocol:
            return bool(self.protocol & protocols)
        both = self._wanted(protocols) & self.offers
        if both:
            self.protocol = pc.T1 if both & pc.T1 else pc.T0
        return bool(both)
