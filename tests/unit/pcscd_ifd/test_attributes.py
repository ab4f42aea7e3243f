# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the driver tells of a reader (IFDHGetCapabilities, SCardGetAttrib)."""

from __future__ import annotations

import pytest

from tests.unit.pcscd_ifd.conftest import (
    ATR,
    CONTROL,
    DOWN,
    EMPTY_SEEN,
    ERROR_TAG,
    INSUFFICIENT_BUFFER,
    LUN,
    POWER_OFF,
    SUCCESS,
    Daemon,
    Stub,
    card,
    finish,
    frame,
    powered,
)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("0xFAF", "ff"),  # TAG_IFD_SIMULTANEOUS_ACCESS
        ("0xFAD", "01"),  # TAG_IFD_THREAD_SAFE
        ("0xFAC", "01"),  # TAG_IFD_SLOT_THREAD_SAFE
        ("0xFAE", "01"),  # TAG_IFD_SLOTS_NUMBER
        ("0xFB1", "00"),  # TAG_IFD_POLLING_THREAD_KILLABLE
        ("0x303", ATR.hex()),  # TAG_IFD_ATR
        ("0x90303", ATR.hex()),  # SCARD_ATTR_ATR_STRING
        ("0x90300", "02"),  # SCARD_ATTR_ICC_PRESENCE
        ("0x90301", "01"),  # SCARD_ATTR_ICC_INTERFACE_STATUS
        ("0x10100", b"vccid\0".hex()),  # SCARD_ATTR_VENDOR_NAME
        ("0x10102", "00000100"),  # SCARD_ATTR_VENDOR_IFD_VERSION, 0.1 in this host's order
        ("0x7A007", "0c000100"),  # SCARD_ATTR_MAXINPUT
    ],
)
async def test_capabilities(stub: Stub, daemon: Daemon, tag: str, value: str) -> None:
    await powered(stub, daemon)
    size = len(value) // 2
    assert await stub.call("get", LUN, tag, 264) == f"0 {size} {value}"
    assert await stub.call("get", LUN, tag, size - 1) == f"{INSUFFICIENT_BUFFER} 0"
    await finish(stub)


async def test_the_serial_number_is_the_daemons_word(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    for status, told, room, wanted in (
        (0, b"0123456789ABCDEF", 17, f"0 17 {b'0123456789ABCDEF'.hex()}00"),
        (0, b"0123456789ABCDEF", 16, f"{INSUFFICIENT_BUFFER} 0"),
        (0, b"7" * 263, 264, f"0 264 {(b'7' * 263).hex()}00"),
        (0, b"7" * 264, 264, f"{INSUFFICIENT_BUFFER} 0"),
        (0, b"", 264, f"{ERROR_TAG} 0"),
        (3, b"", 264, f"{ERROR_TAG} 0"),
    ):
        await stub.begin("&get", LUN, "0x10103", room)
        assert await commands.receive(10) == frame(CONTROL, bytes.fromhex("42007663"))
        commands.send(frame(CONTROL, told, status=status))
        assert await stub.late() == wanted
    await finish(stub)


async def test_a_card_without_power_has_no_atr(stub: Stub, daemon: Daemon) -> None:
    """As with libccid the attribute is there, and empty."""
    _, commands = await powered(stub, daemon)
    await stub.begin("&power", LUN, DOWN)
    assert await commands.receive(6) == frame(POWER_OFF)
    commands.send(frame(POWER_OFF))
    assert await stub.late() == SUCCESS
    for tag in ("0x303", "0x90303"):
        assert await stub.call("get", LUN, tag, 264) == "0 0"
    assert await stub.call("get", LUN, "0x90300", 264) == "0 1 02"
    assert await stub.call("get", LUN, "0x90301", 264) == "0 1 00"
    await finish(stub)


async def test_the_atr_leaves_with_its_card(stub: Stub, daemon: Daemon) -> None:
    events, _ = await powered(stub, daemon)
    events.send(card(2, b""))
    assert await stub.event() == EMPTY_SEEN
    for tag in ("0x303", "0x90303"):
        assert await stub.call("get", LUN, tag, 264) == "0 0"
    await finish(stub)
