# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processor of commands that come in parts (ISO/IEC 7816-4:2020, 5.3.3)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from vccid.card.class_byte import NOT_THE_LAST, SECURE_MESSAGING
from vccid.card.processors import Answer, Process, Unfinished
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

#: As much as an extended Lc can say. A chain could go on for ever, and memory would not.
_LONGEST_CHAIN: Final = 0xFFFF


class CommandChaining:
    """Command chaining (ISO/IEC 7816-4:2020, 5.3.3): parts come in, a whole command goes on.

    A command that is not the next part ends the chain, which then leaves no trace
    (SP 800-73-5 part 2, 3.2.4), and goes on as any other.
    """

    def __init__(
        self, following: Process, unfinished: Unfinished, only: Collection[int] | None = None
    ) -> None:
        """`only`: the instructions that may come in parts, None for all; others get 6884."""
        self._following = following
        self._unfinished = unfinished
        self._only = only

    def process(self, command: Command) -> Answer:
        """Take a command, or a part of one."""
        if command.cla & NOT_THE_LAST or self._unfinished.chain is not None:
            return self._take_part(command)
        return self._following(command)

    def _take_part(self, command: Command) -> Answer:
        unfinished = self._unfinished
        before, unfinished.chain = unfinished.chain, None
        is_last = not command.cla & NOT_THE_LAST
        if not is_last and command.ins == INS_GET_RESPONSE:
            return status.COMMAND_NOT_ALLOWED  # nothing to chain: what waits still waits
        if before is not None and _is_same(before, command):
            command = command._replace(data=before.data + command.data)
            if len(command.data) > _LONGEST_CHAIN:
                return status.WRONG_LENGTH
        if is_last:
            return self._following(command)
        unfinished.response = b""
        if self._only is not None and command.ins not in self._only:
            return status.CHAINING_NOT_SUPPORTED
        unfinished.chain = command
        return status.SUCCESS


def _is_same(part: Command, later: Command) -> bool:
    """5.3.3: the parts differ in nothing but the data and the chaining bit.

    Of the class only the bits of secure messaging count: libcacard's applets, and so its hosts,
    do not tell 00 from 80.
    """
    return part[1:4] == later[1:4] and not (part.cla ^ later.cla) & SECURE_MESSAGING
