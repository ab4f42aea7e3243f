# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command APDU goes through before a card application has it, and its answer after.

Each processor is a small class with one method, `process`, and is handed the `process` of the
next one. `line_ups` puts them in a row; what a card does otherwise is a processor of its own, or
an argument of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from vccid.card.class_byte import ClassKind, ClassKinds
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

#: A response APDU: at once, or later where a key, a PIN or somebody else's card is waited for.
Answer = bytes | Awaitable[bytes]

#: Any processor's one method.
Process = Callable[[Command], Answer]


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
