# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card's end of T=1: blocks in, blocks and whole commands out (ISO/IEC 7816-3:2006, 11.6).

No I/O and no clock: the owner lets commands run, and says when they take long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vccid.iso7816 import status, t1_blocks
from vccid.iso7816.apdu import MAX_COMMAND
from vccid.iso7816.t1_blocks import BadBlock, Block, Edc
from vccid.tpdu.t1_states import T1_LINK, Event, State

#: Block waiting times asked for at once. One: the next is asked for before it runs out, so a host
#: never waits long for a card that has gone.
_WTX_MULTIPLIER: Final = 1


@dataclass(frozen=True, slots=True)
class Execute:
    """A command is complete: `respond` is to have its answer."""

    command: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GoOn:
    """More time was granted to the command that runs."""


class Link:
    """One card's link layer, from reset on.

    Attributes:
        state: where it stands with a command.
    """

    def __init__(self, ifsc: int = t1_blocks.FIRST_SIZE, edc: Edc = Edc.LRC) -> None:
        """`ifsc`: bytes of information the card takes in a block, as its ATR has it."""
        self.state = T1_LINK.initial
        self._ifsc = ifsc
        self._edc = edc
        self._nad = 0
        self._start()

    def _start(self) -> None:
        self._ifsd = t1_blocks.FIRST_SIZE
        self._sent = 1  # N(S) of the last I-block sent; the first one is to have 0
        self._expected = 0  # N(S) of the host's next I-block
        self._command = bytearray()
        self._response = b""  # what follows the part that was sent last
        self._last: Block | None = None
        self._part: Block | None = None  # the last I-block

    @property
    def running(self) -> bool:
        """A command was given out and not answered."""
        return self.state is not State.READY

    def receive(self, raw: bytes) -> bytes | Execute | GoOn:
        """Take a block.

        Returns:
            The block to answer with, or what is to be done first.
        """
        try:
            block = Block.parse(raw, self._edc)
            if len(block.information) > self._ifsc:
                raise BadBlock(t1_blocks.OTHER_ERROR, "more information than the card takes")
            return self._take(block)
        except BadBlock as bad:
            return self._refuse(bad.error)

    def respond(self, response: bytes) -> bytes:
        """The command's answer; returns its first block.

        Raises:
            LocalProtocolError: no command runs, or the time asked for was not granted yet.
        """
        self._move(Event.ANSWERED)
        self._response = response
        return self._send_part()

    def extend(self) -> bytes:
        """The command takes longer: ask for another block waiting time.

        Raises:
            LocalProtocolError: no command runs, or time is asked for already.
        """
        self._move(Event.ASKS_FOR_TIME)
        return self._send(t1_blocks.S_BLOCK | t1_blocks.WTX, bytes((_WTX_MULTIPLIER,)))

    def _take(self, block: Block) -> bytes | Execute | GoOn:
        self._nad = _swapped(block.nad)
        if block.pcb & t1_blocks.S_BLOCK == t1_blocks.S_BLOCK:
            return self._take_supervisory(block)
        if self.state is State.EXTENDING:
            raise BadBlock(t1_blocks.OTHER_ERROR, "no S(WTX response)")
        return self._take_ready(block) if block.is_ready else self._take_information(block)

    def _take_information(self, block: Block) -> bytes | Execute:
        # 11.6.2.3: while a chain goes out, only R-blocks come in.
        if block.number != self._expected or self._response:
            raise BadBlock(t1_blocks.OTHER_ERROR, "an I-block out of turn")
        self._expected ^= 1
        # One byte too many is kept, so that what is too long is seen to be.
        self._command += block.information[: MAX_COMMAND + 1 - len(self._command)]
        if block.pcb & t1_blocks.MORE:
            return self._send(t1_blocks.R_BLOCK | self._expected << 4)
        command, self._command = bytes(self._command), bytearray()
        self._move(Event.COMMAND)
        if len(command) > MAX_COMMAND:
            return self.respond(status.WRONG_LENGTH)
        return Execute(command)

    def _take_ready(self, block: Block) -> bytes:
        part = self._part
        if part is not None and block.number == part.number:
            return self._repeat(part)
        if block.number == self._sent:
            raise BadBlock(t1_blocks.OTHER_ERROR, "an R-block for what was never sent")
        if self._response:
            return self._send_part()
        # All of the answer has arrived: it is an R-block of ours that did not.
        if self._last is None or not self._last.is_ready:
            raise BadBlock(t1_blocks.OTHER_ERROR, "an R-block for more where there is none")
        return self._repeat(self._last)

    def _take_supervisory(self, block: Block) -> bytes | GoOn:
        kind, information = block.pcb & 0x1F, block.information
        if block.pcb & t1_blocks.S_RESPONSE:
            granted = kind == t1_blocks.WTX and information == bytes((_WTX_MULTIPLIER,))
            if self.state is not State.EXTENDING or not granted:
                raise BadBlock(t1_blocks.OTHER_ERROR, "an S-block that answers nothing")
            self._move(Event.GRANTED)
            return GoOn()
        if kind == t1_blocks.RESYNCH:
            # Rule 6.3: as after reset. A host that keeps its IFSD takes short blocks as well.
            self._start()
            self._move(Event.RESYNCH)
        elif kind == t1_blocks.ABORT:
            self._command.clear()
            self._response = b""
            self._move(Event.ABORT)
        elif kind == t1_blocks.IFS and self._takes_size(information[0]):
            self._ifsd = information[0]
        else:  # S(WTX request) is the card's alone
            raise BadBlock(t1_blocks.OTHER_ERROR, f"S-block {block.pcb:02X} out of turn")
        return self._send(block.pcb | t1_blocks.S_RESPONSE, information)

    def _takes_size(self, size: int) -> bool:
        return self.state is not State.EXTENDING and 1 <= size <= t1_blocks.LONGEST_INFORMATION

    def _refuse(self, error: int) -> bytes:
        """Answer an invalid block."""
        last = self._last
        # Rules 7.2 and 7.3: an R-block and S(… request) are sent again.
        if last is not None and (last.is_ready or self.state is State.EXTENDING):
            return self._repeat(last)
        return self._send(t1_blocks.R_BLOCK | self._expected << 4 | error)

    def _send_part(self) -> bytes:
        information, self._response = self._response[: self._ifsd], self._response[self._ifsd :]
        self._sent ^= 1
        pcb = self._sent << 6 | (t1_blocks.MORE if self._response else 0)
        self._part = Block(self._nad, pcb, information)
        return self._repeat(self._part)

    def _send(self, pcb: int, information: bytes = b"") -> bytes:
        return self._repeat(Block(self._nad, pcb, information))

    def _repeat(self, block: Block) -> bytes:
        self._last = block
        return block.serialize(self._edc)

    def _move(self, event: Event) -> None:
        self.state = T1_LINK.after(self.state, event)


def _swapped(nad: int) -> int:
    """The node address of the way back."""
    return nad << 4 & 0xF0 | nad >> 4
