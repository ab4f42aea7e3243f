# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command APDU goes through before a card application has it, and its answer after.

Each processor is a small class with one method, `process`, and is handed the `process` of the
next one. `line_ups` puts them in a row; what a card does otherwise is a processor of its own, or
an argument of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from vccid.card.class_byte import NOT_THE_LAST, SECURE_MESSAGING, ClassKind, ClassKinds
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

#: A response APDU: at once, or later where a key, a PIN or somebody else's card is waited for.
Answer = bytes | Awaitable[bytes]

#: Any processor's one method.
Process = Callable[[Command], Answer]

#: As much as an extended Lc can say. A chain could go on for ever, and memory would not.
_LONGEST_CHAIN: Final = 0xFFFF

#: The most data a short response has. Where GET RESPONSE has no Le, which is how Yubico's library
#: sends it, it is taken to be so much.
_SHORT_RESPONSE: Final = 256


class Unfinished:
    """What one command leaves to the next; any that is not the next drops it.

    Attributes:
        chain: the parts of a chained command so far, as one command, or None.
        response: what GET RESPONSE has yet to fetch, with the status word at its end, or b"".
    """

    __slots__ = ("chain", "response")

    def __init__(self) -> None:
        self.chain: Command | None = None
        self.response = b""

    def drop(self) -> None:
        """Leave no trace of either."""
        self.chain = None
        self.response = b""


class ClassByte:
    """Sends a command where its class byte says: each kind of class has a processor."""

    def __init__(self, kinds: ClassKinds, routes: Mapping[ClassKind, Process]) -> None:
        # A processor for each of the 256 classes: one look-up for a command.
        self._routes = tuple(map(routes.__getitem__, kinds))

    def process(self, command: Command) -> Answer:
        """Take a command of any class."""
        return self._routes[command.cla](command)


class Refusal:
    """Answers every command with one status word, and drops what was unfinished."""

    def __init__(self, answer: bytes, unfinished: Unfinished) -> None:
        self._answer = answer
        self._unfinished = unfinished

    def process(self, command: Command) -> Answer:
        """Refuse."""
        self._unfinished.drop()
        return self._answer


class LibcacardProprietaryClass:
    """A class of B0 to CF, as libcacard: whatever its low bits are, it stands for 00."""

    def __init__(self, following: Process) -> None:
        self._following = following

    def process(self, command: Command) -> Answer:
        """Take a command of such a class."""
        return self._following(command._replace(cla=0x00))


class LibcacardReservedClass:
    """A reserved class, as libcacard: an applet does not look at it, the card itself does.

    So the card's own commands are refused, and GET RESPONSE loses nothing by that.
    """

    def __init__(
        self, owns: Callable[[Command], bool], following: Process, unfinished: Unfinished
    ) -> None:
        """`owns`: whether the selected applet answers a command itself, not the card for it."""
        self._owns = owns
        self._following = following
        self._unfinished = unfinished

    def process(self, command: Command) -> Answer:
        """Take a command of a reserved class."""
        self._unfinished.chain = None
        if self._owns(command):
            return self._following(command)
        if command.ins != INS_GET_RESPONSE:
            self._unfinished.response = b""
        return status.COMMAND_NOT_ALLOWED


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


class ResponseChaining:
    """Answers longer than Le, and GET RESPONSE for the rest (ISO/IEC 7816-4:2020, 5.3.4, 11.7.1).

    The common part; how an answer that is too long begins is what the two kinds differ in.
    """

    def __init__(
        self,
        following: Process,
        unfinished: Unfinished,
        nothing_waits: bytes = status.CONDITIONS_NOT_SATISFIED,
    ) -> None:
        """`nothing_waits`: what GET RESPONSE answers where there is nothing to fetch."""
        self._following = following
        self._unfinished = unfinished
        self._nothing_waits = nothing_waits

    def process(self, command: Command) -> Answer:
        """Take a whole command; its answer is no longer than Le allows."""
        if command.ins == INS_GET_RESPONSE:
            return self._get_response(command.le or _SHORT_RESPONSE)
        self._unfinished.response = b""
        answer = self._following(command)
        if not isinstance(answer, bytes):
            return self._wait(answer, command)
        return answer if len(answer) - 2 <= command.le else self._shorten(answer, command)

    async def _wait(self, waiting: Awaitable[bytes], command: Command) -> bytes:
        answer = await waiting
        return answer if len(answer) - 2 <= command.le else self._shorten(answer, command)

    def _get_response(self, le: int) -> bytes:
        waiting = self._unfinished.response
        if not waiting:
            return self._nothing_waits
        count = len(waiting) - 2
        if count <= le:
            self._unfinished.response = b""
            return waiting
        self._unfinished.response = waiting[le:]
        return waiting[:le] + status.bytes_available(count - le)

    def _shorten(self, answer: bytes, command: Command) -> bytes:
        """As much as Le allows comes at once; no Le is taken for 256, as Yubico's tools need it."""
        self._unfinished.response = answer
        return self._get_response(command.le or _SHORT_RESPONSE)


class LibcacardResponseChaining(ResponseChaining):
    """The same as libcacard: an answer longer than Le waits as a whole, and no Le is Le = 0."""

    def __init__(
        self, following: Process, unfinished: Unfinished, untouched: Collection[int] = ()
    ) -> None:
        """`untouched`: instructions that tell what is left in a way of their own."""
        super().__init__(following, unfinished, status.REFERENCED_DATA_NOT_FOUND)
        self._untouched = untouched

    def _shorten(self, answer: bytes, command: Command) -> bytes:
        if command.ins in self._untouched:
            return answer
        self._unfinished.response = answer
        return status.bytes_available(len(answer) - 2)
