# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where our card answers otherwise than libcacard 2.8.0 on purpose, as predicates.

docs/libcacard-differences.md has the reason for each, by the same name. `compare` follows one
conversation, since an answer that differs is told in parts by GET RESPONSE, and since bytes
that name the card lie anywhere in what is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vccid.errors import RemoteProtocolError
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command
from vccid.trace.lines import application_of, exchange_text

CCC: Final = bytes.fromhex("A000000116DB00")
ACA: Final = bytes.fromhex("A0000000790300")
CARD_MANAGER: Final = bytes.fromhex("A0000000030000")
BARE: Final = tuple(bytes.fromhex(f"A000000079 02{tail}") for tail in ("F0", "F1", "F2"))

#: Where the card's own number stands: in the CCC's V buffer behind its length and 7 bytes of F0,
#: in CPLC data behind 9F7F2A and 12 bytes.
CARD_ID: Final = range(9, 23)
CPLC_SERIAL: Final = range(15, 21)


@dataclass
class Context:
    """What is known of a conversation when an answer is compared.

    Attributes:
        command: the command.
        applet: the AID selected, b"" for none.
        theirs: libcacard's answer.
        ours: our card's.
        asked: the last command that was no GET RESPONSE, and the applet it was for.
        told: how much of its answer has been told before this command.
        loose: whether what waits is not the same on both cards, for a reason below.
    """

    command: Command
    applet: bytes
    theirs: bytes
    ours: bytes
    asked: tuple[Command, bytes]
    told: int
    loose: bool


def _pin_wrong(at: Context) -> bool:
    """pin-wrong"""
    return (
        at.command.ins == 0x20
        and at.theirs == status.CONDITIONS_NOT_SATISFIED
        and (at.ours[0] == 0x63 or at.ours in (status.AUTHENTICATION_BLOCKED, status.WRONG_LENGTH))
    )


def _pin_status(at: Context) -> bool:
    """pin-status"""
    return (
        at.command.ins == 0x20
        and not at.command.data
        and at.theirs in (status.REFERENCED_DATA_NOT_FOUND, status.tries_left(3))
        and at.ours[0] == 0x63
    )


def _key_without_pin(at: Context) -> bool:
    """key-without-pin"""
    return at.command.ins == 0x42 and (at.theirs, at.ours) == (
        status.CONDITIONS_NOT_SATISFIED,
        status.SECURITY_STATUS_NOT_SATISFIED,
    )


def _challenge(at: Context) -> bool:
    """challenge"""
    if at.command.ins != 0x84 or at.theirs not in (
        status.COMMAND_NOT_ALLOWED,
        status.INSTRUCTION_NOT_SUPPORTED,
    ):
        return False
    return at.ours == status.WRONG_LENGTH or len(at.ours) == at.command.le + 2


def _change_reference_data(at: Context) -> bool:
    """change-reference-data"""
    answers = (
        status.WRONG_LENGTH,
        status.INCORRECT_P1_P2,
        status.INCORRECT_DATA,
        status.AUTHENTICATION_BLOCKED,
        status.SUCCESS,
    )
    return (
        at.command.ins == 0x24
        and at.theirs in (status.COMMAND_NOT_ALLOWED, status.INSTRUCTION_NOT_SUPPORTED)
        and (at.ours in answers or at.ours[0] == 0x63)
    )


def _get_certificate(at: Context) -> bool:
    """get-certificate"""
    pki = at.applet[:6] == bytes.fromhex("A00000007901")
    return at.command.ins == 0x36 and pki and at.theirs == status.INSTRUCTION_NOT_SUPPORTED


def _class_byte(at: Context) -> bool:
    """class-byte"""
    cla = at.command.cla
    if 0x40 <= cla <= 0x7F:
        return at.ours == (
            status.SECURE_MESSAGING_NOT_SUPPORTED if cla & 0x20 else status.CHANNEL_NOT_SUPPORTED
        )
    if cla & 0xF0 not in (0x00, 0x10, 0x80, 0x90, 0xA0):
        return False
    if cla & 0x0C:
        return at.ours == status.SECURE_MESSAGING_NOT_SUPPORTED
    if cla & 0x03:
        return at.ours == status.CHANNEL_NOT_SUPPORTED
    expected = status.COMMAND_NOT_ALLOWED if at.command.ins == 0xC0 else status.SUCCESS
    return cla & 0x10 != 0 and at.ours == expected


def _get_response_without_le(at: Context) -> bool:
    """get-response-without-le"""
    return (
        at.command.ins == 0xC0 and not at.command.le and len(at.theirs) == 2
        and at.theirs[0] == 0x61 and len(at.ours) > 2
    )  # fmt: skip


def _properties(at: Context) -> bool:
    """object-properties"""
    command, applet = at.asked
    has_objects = applet not in (CCC, ACA, *BARE)
    return command.ins == 0x56 and has_objects and at.theirs[-2] in (0x61, 0x6C, 0x90)


def _access_control_tables(at: Context) -> bool:
    """access-control-tables"""
    command, applet = at.asked
    whole = command.p1 in (0x00, 0x01, 0x10, 0x20, 0x21, 0x40, 0x41, 0x50, 0x51, 0x52)
    wrong = whole or (command.p1 == 0x11 and command.data == CCC)
    told = at.theirs[-2] in (0x61, 0x90) and at.ours[-2] in (0x61, 0x90)
    return command.ins == 0x4C and applet == ACA and wrong and told


def _card_identity(at: Context) -> bool:
    """card-identity"""
    command, applet = at.asked
    if applet == CCC and command.ins == 0x52 and command.data[:1] == b"\x02":
        start, hidden = (command.p1 << 8 | command.p2) + at.told, CARD_ID
    elif applet == CARD_MANAGER and (command.ins, command.p1, command.p2) == (0xCA, 0x9F, 0x7F):
        start, hidden = at.told, CPLC_SERIAL
    else:
        return False
    if len(at.theirs) != len(at.ours) or at.theirs[-2:] != at.ours[-2:]:
        return False
    pairs = zip(at.theirs[:-2], at.ours[:-2], strict=True)
    return all(a == b or start + index in hidden for index, (a, b) in enumerate(pairs))


def _loose(at: Context) -> bool:
    return at.command.ins == 0xC0 and at.loose


#: By the names in the document.
DIFFERENCES: Final[tuple[Callable[[Context], bool], ...]] = (
    _pin_wrong, _pin_status, _key_without_pin, _challenge, _change_reference_data,
    _get_certificate, _class_byte, _get_response_without_le, _properties,
    _access_control_tables, _card_identity,
)  # fmt: skip

#: After these, what waits for GET RESPONSE is not the same any more.
_LEAVES_LOOSE: Final = (
    _challenge, _get_certificate, _class_byte, _get_response_without_le, _properties,
    _access_control_tables,
)  # fmt: skip


def name(difference: Callable[[Context], bool]) -> str:
    """A difference's name in the document."""
    return str(difference.__doc__)


@dataclass
class Conversation:
    """One conversation with both cards, from power-on.

    Attributes:
        seen: names of the differences met.
    """

    seen: set[str] = field(default_factory=set)
    _applet: bytes = b""
    _asked: tuple[Command, bytes] = (Command(0, 0, 0, 0, b"", 0), b"")
    _told: int = 0
    _loose: bool = False

    def compare(self, raw: bytes, theirs: bytes, ours: bytes) -> None:
        """Take the next exchange.

        Raises:
            AssertionError: the answers differ, and none of `DIFFERENCES` says they may.
        """
        try:
            command = Command.parse(raw)
        except RemoteProtocolError:
            assert (
                theirs == ours == status.WRONG_LENGTH
            ), f"{raw.hex()}: {theirs.hex()} {ours.hex()}"
            return
        if command.ins != 0xC0:
            self._asked, self._told, self._loose = (command, self._applet), 0, False
        at = Context(command, self._applet, theirs, ours, self._asked, self._told, self._loose)
        if theirs != ours:
            self._explain(at, raw)
        self._told += len(theirs) - 2
        if command.ins == 0xA4 and command.p1 == 0x04 and _class_of(command) == "plain":
            self._applet = command.data if theirs[0] in (0x61, 0x6F, 0x90) else b""

    def _explain(self, at: Context, raw: bytes) -> None:
        if _loose(at):
            return
        for difference in DIFFERENCES:
            if difference(at):
                self.seen.add(name(difference))
                self._loose = self._loose or difference in _LEAVES_LOOSE
                return
        raise AssertionError(
            f"{exchange_text(raw, at.ours, at.theirs, application_of(at.applet))}\n"
            f"{raw.hex(' ')} (applet {at.applet.hex()}):\n"
            f"  libcacard {at.theirs.hex(' ')}\n  ours      {at.ours.hex(' ')}"
        )


def _class_of(command: Command) -> str:
    kind = command.cla & 0xF0
    if kind in (0x00, 0x80, 0xA0) and command.cla & 0x0F == 0:
        return "plain"
    return "plain" if kind in (0xB0, 0xC0) else "other"
