# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every card application has: an AID, an answer to SELECT, and its instructions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, INS_SELECT, INS_VERIFY, Command

if TYPE_CHECKING:
    from vccid.card.session import CardSession

#: Answers one instruction, at once or later.
Handler = Callable[["CardSession", Command], bytes | Awaitable[bytes]]

#: SELECT's P1 (ISO/IEC 7816-4:2020, 11.2.2; GSC-IS 2.1, 5.3.3.2).
SELECT_OBJECT: Final = 0x02
SELECT_BY_NAME: Final = 0x04

#: What libcacard's card answers itself, whichever applet is selected.
_CARD_INSTRUCTIONS: Final = frozenset((INS_VERIFY, INS_SELECT, INS_GET_RESPONSE))


class Applet:
    """One card application. It belongs to the card: what a session changes is in the session.

    Attributes:
        aid: what selects it, matched in full length.
        fci: what SELECT answers, without a status word.
        unknown: the answer to an instruction it does not have.
        handlers: by instruction byte.
    """

    def __init__(self, aid: bytes, fci: bytes, unknown: bytes) -> None:
        self.aid = aid
        self.fci = fci
        self.unknown = unknown
        self.handlers: dict[int, Handler] = {}

    def add_missing(self, handlers: Mapping[int, Handler]) -> None:
        """Take the instructions it does not answer itself."""
        self.handlers = {**handlers, **self.handlers}

    def owns(self, command: Command) -> bool:
        """Whether the applet answers a command by itself, not the card for it."""
        return command.ins not in _CARD_INSTRUCTIONS


class NoApplet(Applet):
    """Stands for none: after power-on, and after a SELECT that failed."""

    def __init__(self) -> None:
        super().__init__(b"", b"", status.COMMAND_NOT_ALLOWED)

    def owns(self, command: Command) -> bool:
        return False


def file_control_information(aid: bytes, proprietary: bytes = b"") -> bytes:
    """The FCI template an applet of a Java card answers (GlobalPlatform 2.3, 11.9.3.1)."""
    fields = bytes((0x84, len(aid))) + aid + bytes((0xA5, len(proprietary))) + proprietary
    return bytes((0x6F, len(fields))) + fields
