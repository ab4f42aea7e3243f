# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program gets from a reader's PIN pad over the driver's socket, byte by byte."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from tests.peers.plain_card import PlainCard, PlainSession
from tests.unit.frontends.pcsc.test_driver import (
    BUSY,
    CARD_REMOVED,
    COMMANDS,
    CONTROL,
    FAILED,
    NOT_SUPPORTED,
    OK,
    POWER_OFF,
    Driver,
    frame,
    powered,
    until,
)
from vccid.card.card import Session
from vccid.frontends.pcsc.driver import IfdFrontend
from vccid.frontends.pin_pad import PinPad
from vccid.reader import Reader

GET_FEATURES = bytes.fromhex("42000D48")
VERIFY = bytes.fromhex("42330006")
MODIFY = bytes.fromhex("42330007")
PIN_PROPERTIES = bytes.fromhex("4233000A")
TLV_PROPERTIES = bytes.fromhex("42330012")

VERIFY_STRUCTURE = bytes.fromhex(
    "1E"  # bTimerOut
    "1E"  # bTimerOut2
    "82"  # bmFormatString: ASCII, bytes
    "08"  # bmPINBlockString
    "00"  # bmPINLengthFormat
    "0804"  # wPINMaxExtraDigit: 4 to 8
    "02"  # bEntryValidationCondition
    "00"  # bNumberMessage
    "0000"  # wLangId
    "00"  # bMsgIndex
    "000000"  # bTeoPrologue
    "0D000000"  # ulDataLength
    "0020000008FFFFFFFFFFFFFFFF"
)
MODIFY_STRUCTURE = bytes.fromhex(
    "1E"  # bTimerOut
    "1E"  # bTimerOut2
    "02"  # bmFormatString: ASCII
    "08"  # bmPINBlockString
    "00"  # bmPINLengthFormat
    "00"  # bInsertionOffsetOld
    "08"  # bInsertionOffsetNew
    "0804"  # wPINMaxExtraDigit: 4 to 8
    "03"  # bConfirmPIN: the old one first, the new one twice
    "02"  # bEntryValidationCondition
    "00"  # bNumberMessage
    "0000"  # wLangId
    "000102"  # bMsgIndex1 to 3
    "000000"  # bTeoPrologue
    "15000000"  # ulDataLength
    "0024000010FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
)


class PinCard(PlainCard):
    """Keeps the commands it got, and answers each as it is told."""

    def __init__(self, answer: bytes = b"\x90\x00") -> None:
        super().__init__()
        self.answer = answer
        self.commands: list[bytes] = []

    async def connect(self) -> Session:
        session = PinSession(self)
        self.sessions.add(session)
        return session


class PinSession(PlainSession):
    def __init__(self, card: PinCard) -> None:
        super().__init__(card)
        self._pin_card = card

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        self._pin_card.commands.append(command)
        return self._pin_card.answer


@pytest.fixture
def reader() -> Reader:
    return Reader("vccid0")


@pytest.fixture
def pad() -> PinPad:
    return PinPad()


@pytest.fixture
async def frontend(reader: Reader, pad: PinPad, tmp_path: Path) -> AsyncIterator[IfdFrontend]:
    frontend = IfdFrontend(reader, tmp_path / "vccid0.ifd", pin_pad=pad, keepalive=0.02)
    await frontend.start()
    yield frontend
    await frontend.stop()


async def asked(commands: Driver, pad: PinPad, code: bytes, structure: bytes) -> None:
    """Begin an entry and wait until the pad shows it."""
    commands.writer.write(frame(CONTROL, code + structure))
    await pad.wait_asked(10)


async def answer(commands: Driver) -> tuple[int, bytes]:
    """Status and payload, whatever BUSY came before."""
    while (header := await commands.receive(6)) == frame(BUSY):
        pass
    assert header[0] == CONTROL
    return header[1], await commands.receive(int.from_bytes(header[2:], "big"))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (GET_FEATURES, "06 04 42330006" "07 04 42330007" "0A 04 4233000A"),
        (PIN_PROPERTIES, "0000" "02" "00"),  # wLcdLayout, bEntryValidationCondition, bTimeOut2
        (TLV_PROPERTIES, "01 02 0000" "02 01 02" "03 01 00"),
    ],
    ids=["features", "PIN properties", "TLV properties"],
)
async def test_what_a_pin_pad_tells_of_itself(
    frontend: IfdFrontend, code: bytes, told: str
) -> None:
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(CONTROL, code) == (OK, bytes.fromhex(told))


@pytest.mark.parametrize("sw", ["9000", "63C2", "6983"])
async def test_what_is_typed_goes_to_the_card_and_its_answer_to_the_program(
    frontend: IfdFrontend, reader: Reader, pad: PinPad, sw: str
) -> None:
    card = PinCard(bytes.fromhex(sw))
    reader.insert(card)
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    assert pad.entry is not None
    assert pad.entry.host == f"ifd pcscd (pid {os.getpid()})"
    assert pad.entry.request.timeout == 30
    pad.first().enter(["123456"])
    assert await answer(commands) == (OK, bytes.fromhex(sw))
    assert card.commands == [bytes.fromhex("0020000008" "313233343536FFFF")]
    assert pad.entry is None


async def test_a_pin_is_changed(frontend: IfdFrontend, reader: Reader, pad: PinPad) -> None:
    card = PinCard()
    reader.insert(card)
    commands = await powered(frontend)
    await asked(commands, pad, MODIFY, MODIFY_STRUCTURE)
    pad.first().enter(["123456", "654321", "654321"])
    assert await answer(commands) == (OK, b"\x90\x00")
    assert card.commands == [bytes.fromhex("0024000010" "313233343536FFFF" "363534333231FFFF")]
    await asked(commands, pad, MODIFY, MODIFY_STRUCTURE)
    pad.first().enter(["123456", "654321", "654322"])
    assert await answer(commands) == (OK, b"\x64\x02")
    assert len(card.commands) == 1


async def test_an_entry_without_a_pin(frontend: IfdFrontend, reader: Reader, pad: PinPad) -> None:
    card = PinCard()
    reader.insert(card)
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    pad.first().cancel()
    assert await answer(commands) == (OK, b"\x64\x01")
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    pad.first().time_out()
    assert await answer(commands) == (OK, b"\x64\x00")
    assert not card.commands


async def test_busy_is_said_while_nobody_types(
    frontend: IfdFrontend, reader: Reader, pad: PinPad
) -> None:
    reader.insert(PinCard())
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    for _ in range(3):
        assert await commands.receive(6) == frame(BUSY)
    pad.first().enter(["1234"])
    assert await answer(commands) == (OK, b"\x90\x00")


async def test_removal_ends_the_entry(frontend: IfdFrontend, reader: Reader, pad: PinPad) -> None:
    card = PinCard()
    reader.insert(card)
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    reader.remove()
    assert await answer(commands) == (CARD_REMOVED, b"")
    await until(lambda: pad.entry is None)
    assert not card.commands


async def test_a_program_that_leaves_ends_its_entry(
    frontend: IfdFrontend, reader: Reader, pad: PinPad
) -> None:
    card = PinCard()
    reader.insert(card)
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    await commands.close()
    await until(lambda: pad.entry is None)
    assert not card.sessions


async def test_nothing_is_asked_without_a_powered_card(
    frontend: IfdFrontend, reader: Reader, pad: PinPad
) -> None:
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(CONTROL, VERIFY + VERIFY_STRUCTURE) == (FAILED, b"")
    reader.insert(PinCard())
    commands = await powered(frontend)
    await commands.ask(POWER_OFF)
    assert await commands.ask(CONTROL, VERIFY + VERIFY_STRUCTURE) == (FAILED, b"")
    assert pad.entry is None


@pytest.mark.parametrize(
    ("code", "structure"),
    [
        (VERIFY, b""),
        (VERIFY, VERIFY_STRUCTURE[:-1]),
        (VERIFY, VERIFY_STRUCTURE + b"\xff"),
        (VERIFY, VERIFY_STRUCTURE[:2] + b"\x83" + VERIFY_STRUCTURE[3:]),  # no such encoding
        (MODIFY, VERIFY_STRUCTURE),
        (bytes.fromhex("42330008"), b""),  # FEATURE_MCT_READER_DIRECT
        (bytes.fromhex("42000001"), b""),  # escape
    ],
)
async def test_what_is_wrong_or_unknown_is_not_supported(
    frontend: IfdFrontend, reader: Reader, pad: PinPad, code: bytes, structure: bytes
) -> None:
    reader.insert(PinCard())
    commands = await powered(frontend)
    assert await commands.ask(CONTROL, code + structure) == (NOT_SUPPORTED, b"")
    assert pad.entry is None
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    pad.first().enter(["1234"])
    assert await answer(commands) == (OK, b"\x90\x00")


async def test_no_pin_is_logged(
    frontend: IfdFrontend, reader: Reader, pad: PinPad, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reader.insert(PinCard())
    commands = await powered(frontend)
    await asked(commands, pad, VERIFY, VERIFY_STRUCTURE)
    pad.first().enter(["86420975"])
    assert await answer(commands) == (OK, b"\x90\x00")
    assert "86420975" not in caplog.text
    assert "3836343230393735" not in caplog.text
