# SPDX-License-Identifier: LGPL-2.1-or-later
"""Applets, each a card application with its AID, and what one session has of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from vccid.card.pin import Pin
from vccid.card.pin_status import PinStatus
from vccid.card.processors import Answer
from vccid.card.session import Lifetime
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, INS_SELECT, INS_VERIFY, Command

#: SELECT's P1 (ISO/IEC 7816-4:2020, 11.2.2; GSC-IS 2.1, 5.3.3.2). To the standard 02 is an EF: an
#: applet has no files, and GSC-IS means its objects.
SELECT_OBJECT: Final = 0x02
SELECT_BY_NAME: Final = 0x04

#: What libcacard's card answers itself, whichever applet is selected. (GET RESPONSE is no
#: applet's either.)
_CARD_INSTRUCTIONS: Final = frozenset((INS_VERIFY, INS_SELECT, INS_GET_RESPONSE))


class Selection:
    """What lasts while one applet is selected.

    Attributes:
        object_index: which of the applet's objects is current.
        blocks: what SIGN/DECRYPT has been given so far.
        certificate_offset: how far GET CERTIFICATE has come.
    """

    object_index = 0
    blocks = b""
    certificate_offset = 0


class AppletSession:
    """The end of a row: the selected applet answers, and SELECT by name selects another.

    Attributes:
        pin: the card's PIN.
        serial: the card's serial number, for the log.
        lifetime: what a key or a PIN is waited for by.
        applet: the selected one.
        selection: its state.
        pin_status: what this session has shown of the PIN.
    """

    def __init__(
        self,
        pin: Pin,
        serial: str,
        applets: Mapping[bytes, Applet],
        none: Applet,
        lifetime: Lifetime,
    ) -> None:
        """Begin with nothing selected and nothing verified.

        Args:
            pin: the card's PIN.
            serial: the card's serial number.
            applets: by AID.
            none: stands for no applet.
            lifetime: the session's.
        """
        self.pin = pin
        self.serial = serial
        self.lifetime = lifetime
        self.applet = none
        self.selection = Selection()
        self.pin_status = PinStatus()
        self._applets = applets
        self._none = none

    def process(self, command: Command) -> Answer:
        """Take a whole command, in plain."""
        return self.applet.by_instruction[command.ins](self, command)

    def owns(self, command: Command) -> bool:
        """Whether the selected applet answers a command by itself."""
        return self.applet.owns(command)

    def select(self, command: Command) -> bytes:
        """SELECT (ISO/IEC 7816-4:2020, 11.2.2) by name.

        As libcacard, a failed one leaves no applet selected.
        """
        if command.p1 != SELECT_BY_NAME:
            return status.FUNCTION_NOT_SUPPORTED
        applet = self._applets.get(command.data)
        self.selection = Selection()
        if applet is None:
            self.applet = self._none
            return status.NOT_FOUND
        self.applet = applet
        return applet.selected


#: Answers one instruction.
Handler = Callable[[AppletSession, Command], Answer]


class Applet:
    """One card application. It belongs to the card: what a session changes is in the session.

    Attributes:
        aid: what selects it, matched in full length.
        selected: the answer to SELECT.
        handlers: its own instructions, by instruction byte.
        by_instruction: what answers each instruction byte, 00 to FF, once `complete` was called.
    """

    def __init__(self, aid: bytes, fci: bytes, unknown: bytes) -> None:
        """`fci`: what SELECT tells; `unknown`: the answer to an instruction it does not have."""
        self.aid = aid
        self.selected = fci + status.SUCCESS
        self.handlers: dict[int, Handler] = {}
        self.by_instruction: Sequence[Handler] = ()
        self._unknown = unknown

    def complete(self, handlers: Mapping[int, Handler]) -> None:
        """Take the instructions of every applet that it does not answer itself."""
        known = {**handlers, **self.handlers}
        self.by_instruction = tuple([known.get(ins, self._refuse) for ins in range(256)])

    def _refuse(self, session: AppletSession, command: Command) -> Answer:
        return self._unknown

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
