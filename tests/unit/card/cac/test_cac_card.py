# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Common Access Card, byte by byte, where libcacard's scenarios do not say it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cards import (
    PIN,
    Driver,
    MemoryToken,
    card_with_token,
    credential,
    select_command,
    serial_of,
    three_credentials,
)
from tests.conversations.cac import ACA, CCC, PERSON_INSTANCE, PKI0, tags_and_values
from vccid.card.cac.cac_card import CacCard, card_serial
from vccid.errors import (
    RemoteProtocolError,
)
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command
from vccid.iso7816.atr import T1_ATR

MakeDriver = Callable[..., Driver]
VERIFY = "00 20 00 00 08 " + PIN.hex(" ")


# Identity


def test_serial_number_everywhere(driver: Driver) -> None:
    serial = bytes.fromhex(driver.card.serial)
    assert len(serial) == 14 and driver.card.info().serial == driver.card.serial
    driver.hex(select_command(CCC))
    identifier = tags_and_values(driver)[0]
    assert identifier == (0xF0, bytes.fromhex("A0 00 00 00 79 03 02") + serial)
    driver.hex(select_command("A0 00 00 00 03 00 00"))
    assert driver.hex("80 CA 9F 7F 2D") == (
        "9F 7F 2A "
        "00 05 00 45 D0 01 40 21 01 01 07 4F "
        + serial[-6:].hex(" ").upper()
        + " 47 92 72 05 16 73 72 05 16 74 72 05 00 00 0A 40 00 00 00 00 00 09 29 BB "
        "90 00"
    )


def test_other_certificates_another_card() -> None:
    first, second, third = three_credentials()
    serials = {
        serial_of([first, second, third]),
        serial_of([first, third, second]),
        serial_of([first, second]),
        serial_of([first]),
    }
    assert len(serials) == 4
    assert card_serial([b"\x01", b"\x02"]) == card_serial([b"\x01", b"\x02"])


def test_info(driver: Driver) -> None:
    info = driver.card.info()
    assert (info.kind, info.label, info.names) == ("cac", "cert1", ("cert1", "cert2", "cert3"))
    assert (info.tries_left, info.pin_kind) == (3, "card")
    assert info.certificates == tuple(item.certificate for item in three_credentials())
    driver.hex("00 20 00 00 04 31 31 31 31")
    assert driver.card.info().tries_left == 2


def test_atr(make: MakeDriver) -> None:
    assert make(atr=T1_ATR).power_on() == T1_ATR


@pytest.mark.parametrize("count", [1, 2, 10])
def test_as_many_pki_applets_as_certificates(make: MakeDriver, count: int) -> None:
    driver = make(*(credential(f"small{index}", 1024) for index in range(count)))
    for index in range(count):
        assert driver.send(select_command(f"A0 00 00 00 79 01 {index:02X}"))[-2:] == status.SUCCESS
    assert driver.send(select_command(f"A0 00 00 00 79 01 {count:02X}")) == status.NOT_FOUND
    driver.hex(select_command(CCC))
    urls = [value for tag, value in tags_and_values(driver) if tag == 0xF3]
    assert urls[11:] == [
        bytes.fromhex(f"A0 00 00 00 79 04 01 {index:02X} 01 {index:02X} 00 00 00 00 00 00")
        for index in range(count)
    ]
    driver.hex(select_command(ACA))
    assert len(driver.whole("80 4C 21 00 00")) == 10 + 12 * (12 + count)


def test_too_few_and_too_many(make: MakeDriver) -> None:
    small = credential("small0", 1024)
    with pytest.raises(ValueError):
        CacCard([], None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        make(*[small] * 11)


# Access control tables: a real card's


def test_access_control_rules(driver: Driver) -> None:
    driver.hex(select_command(ACA))
    assert driver.hex("80 4C 00 00 00") == (
        "01 05 10 02 06 02 02 "
        "A1 01 0B "
        "A0 03 00 00 00 "
        "A0 03 01 01 00 "
        "A0 03 02 00 00 "
        "A0 05 06 06 01 1E 00 "
        "A0 05 04 04 01 1F 21 "
        "A0 07 08 03 02 1D 01 1E 01 "
        "A0 05 09 02 01 1D 02 "
        "A0 07 0A 03 02 1D 03 1E 01 "
        "A0 05 0B 02 01 1D 04 "
        "A0 03 10 00 00 "
        "A0 03 11 00 00 "
        "90 00"
    )


def test_access_method_providers(driver: Driver) -> None:
    driver.hex(select_command(ACA))
    assert driver.hex("80 4C 20 00 00") == (
        "01 05 10 02 06 02 02 "
        "91 01 03 "
        "90 0A 1F 92 07 A0 00 00 00 79 03 00 "
        "90 0A 1E 92 07 A0 00 00 00 79 03 00 "
        "90 0A 1D 92 07 A0 00 00 00 79 03 00 "
        "90 00"
    )


def test_one_applets_rules(driver: Driver) -> None:
    driver.hex(select_command(ACA))
    assert driver.hex(f"80 4C 11 00 07 {CCC} 00") == (
        "01 05 10 02 06 02 02 "
        "80 1A 4F 02 "
        "82 08 DB 00 58 00 04 52 00 00 "
        "82 0C FF FF 82 01 00 11 84 00 11 20 00 10 "
        "90 00"
    )
    assert driver.hex(f"80 4C 11 00 07 {PKI0} 00") == (
        "01 05 10 02 06 02 02 "
        "80 16 61 02 "
        "82 0B 01 00 58 00 04 52 00 00 42 00 06 "
        "82 05 FF FF 20 00 10 "
        "90 00"
    )


# Properties


def test_pki_properties(make: MakeDriver) -> None:
    held = credential("cert1")
    driver = make(held)
    driver.hex(select_command(PKI0))
    size = (len(held.certificate) + 3).to_bytes(2, "little").hex(" ").upper()
    assert driver.hex("80 56 01 00 1D") == (
        "01 05 10 02 06 02 03 "
        "40 01 01 "
        "51 11 "
        "41 02 01 00 "
        f"42 05 00 0C 00 {size} "
        "43 04 06 20 01 01 "
        "90 00"
    )


def test_properties_opensc_can_read(driver: Driver) -> None:
    driver.hex(select_command(PERSON_INSTANCE))
    assert driver.send("00 56 01 00 FF") == status.wrong_le(29)
    assert driver.hex("00 56 01 00 1D") == (
        "01 05 10 02 06 02 03 "
        "40 01 01 "
        "50 11 "
        "41 02 02 00 "
        "42 05 00 60 00 60 00 "
        "26 01 01 26 01 01 "
        "90 00"
    )


# Containers with data


def test_data_behind_the_pin(make: MakeDriver) -> None:
    data = bytes.fromhex("01 05 4D 61 72 69 65" "02 00" "03 06 54 75 72 6E 65 72")
    driver = make(person_instance=data)
    driver.hex(select_command(PERSON_INSTANCE))
    assert "42 05 00 08 00 0D 00" in driver.hex("80 56 01 00 1D")
    assert driver.hex("80 52 00 00 02 01 FF 08") == "06 00 01 05 02 00 03 06 90 00"
    assert driver.send("80 52 00 00 02 02 FF 0D") == status.SECURITY_STATUS_NOT_SATISFIED
    driver.hex(VERIFY)
    assert driver.hex("80 52 00 00 02 02 FF 0D") == "0B 00 4D 61 72 69 65 54 75 72 6E 65 72 90 00"


def test_data_that_is_none(make: MakeDriver) -> None:
    with pytest.raises(RemoteProtocolError):
        make(personnel=b"\x01\x05\x00")


# What the card answers itself


def test_pin_status_and_tries(driver: Driver) -> None:
    assert driver.send("00 20 00 00") == status.tries_left(3)
    assert driver.send("00 20 00 00 00") == status.tries_left(3), "T=0 sends five bytes"
    for left in (2, 1, 0):
        assert driver.send("00 20 00 00 08 30 30 30 30 FF FF FF FF") == status.tries_left(left)
    assert driver.send("00 20 00 00 08 30 30 30 30 FF FF FF FF") == status.AUTHENTICATION_BLOCKED
    assert driver.send(VERIFY) == status.AUTHENTICATION_BLOCKED
    assert driver.send("00 20 00 00") == status.tries_left(0)
    driver.run(driver.card.pin.reset())
    assert driver.send(VERIFY) == status.SUCCESS
    assert driver.send("00 20 00 00") == status.SUCCESS


@pytest.mark.parametrize("field", ["31 32 33 34 35 36 37 38", "31 32 33 34 35 36 37 38 FF FF"])
@pytest.mark.parametrize("cla", ["00", "80"])
def test_padding_is_taken_off(driver: Driver, field: str, cla: str) -> None:
    data = bytes.fromhex(field)
    assert driver.send(f"{cla} 20 00 00 {len(data):02X} {field}") == status.SUCCESS


def test_a_long_password(tmp_path: Path) -> None:
    password = b"correct horse battery staple " * 8
    making = card_with_token(three_credentials(), tmp_path, MemoryToken(password))
    driver = Driver(making)
    try:
        assert driver.send(f"00 20 00 00 {len(password):02X}" + password.hex()) == status.SUCCESS
        assert driver.send("00 20 00 00 00 01 00" + "31" * 256) == status.WRONG_LENGTH
    finally:
        driver.close()


@pytest.mark.parametrize("header", ["00 24 00 00", "80 24 01 00"])
def test_change_reference_data(driver: Driver, header: str) -> None:
    old, new = PIN.hex(), "36 35 34 33 32 31 FF FF"
    assert driver.send(f"{header} 10 {'30' * 8} {new}") == status.tries_left(2)
    assert driver.send(f"{header} 10 {old} {new}") == status.SUCCESS
    assert driver.send(VERIFY) == status.tries_left(2)
    assert driver.send("00 20 00 00 06 36 35 34 33 32 31") == status.SUCCESS


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("00 24 02 00 10" + "31" * 16, status.INCORRECT_P1_P2),
        ("00 24 00 01 10" + "31" * 16, status.INCORRECT_P1_P2),
        ("00 24 00 00", status.WRONG_LENGTH),
        ("00 24 00 00 08" + "31" * 8, status.WRONG_LENGTH),
        ("00 24 00 00 10" + PIN.hex() + "31 32 33 FF FF FF FF FF", status.INCORRECT_DATA),
        ("00 24 00 00 10" + PIN.hex() + "FF" * 8, status.INCORRECT_DATA),
    ],
)
def test_change_reference_data_refused(driver: Driver, command: str, answer: bytes) -> None:
    assert driver.send(command) == answer
    assert driver.send("00 20 00 00") == status.tries_left(3), "no try was spent"


@pytest.mark.parametrize("le", [1, 8, 0xFF, 0x100])
def test_challenge(driver: Driver, le: int) -> None:
    command = bytes.fromhex("00 84 00 00") + bytes((le & 0xFF,))
    first, second = driver.transmit(command), driver.transmit(command)
    assert len(first) == le + 2 and first[-2:] == status.SUCCESS
    assert le < 8 or first != second


@pytest.mark.parametrize("command", ["00 84 00 00", "00 84 00 00 00 01 01", "00 84 00 00 01 00 08"])
def test_no_challenge(driver: Driver, command: str) -> None:
    assert driver.send(command) == status.WRONG_LENGTH


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("01 A4 04 00", status.CHANNEL_NOT_SUPPORTED),
        ("02 A4 04 00", status.CHANNEL_NOT_SUPPORTED),
        ("83 52 00 00 02 01 02", status.CHANNEL_NOT_SUPPORTED),
        ("41 A4 04 00", status.CHANNEL_NOT_SUPPORTED),
        ("04 A4 04 00", status.SECURE_MESSAGING_NOT_SUPPORTED),
        ("0C 20 00 00", status.SECURE_MESSAGING_NOT_SUPPORTED),
        ("8C 52 00 00 02 01 02", status.SECURE_MESSAGING_NOT_SUPPORTED),
        ("60 A4 04 00", status.SECURE_MESSAGING_NOT_SUPPORTED),
        ("FF 11 18 F6", status.COMMAND_NOT_ALLOWED),
        ("20 A4 04 00", status.COMMAND_NOT_ALLOWED),
        ("00 A4", status.WRONG_LENGTH),
    ],
)
def test_classes_and_lengths(driver: Driver, command: str, answer: bytes) -> None:
    assert driver.send(command) == answer


def test_chains(driver: Driver) -> None:
    """Any command can be chained (5.3.3); another one in between drops the chain."""
    first, last = "10 A4 04 00 04 A0 00 00 00", "00 A4 04 00 03 79 01 00 00"
    assert driver.send(first) == status.SUCCESS
    assert driver.hex(last)[:17] == "6F 0B 84 07 A0 00"
    driver.hex(first)
    driver.hex("00 20 00 00")
    assert driver.send(last) == status.NOT_FOUND
    driver.hex(first)
    driver.hex("00 A4 04 0C 00")  # another P2
    assert driver.send(last) == status.NOT_FOUND


def test_a_chain_without_end(driver: Driver) -> None:
    part = bytes.fromhex("10 A4 04 00 00 FF FF") + bytes(65_535)
    assert driver.transmit(part) == status.SUCCESS
    assert driver.transmit(part) == status.WRONG_LENGTH
    assert driver.transmit(part) == status.SUCCESS
    assert driver.send("00 A4 04 00 01 00") == status.WRONG_LENGTH


def test_get_response_without_le(driver: Driver) -> None:
    assert driver.send(select_command(PKI0, "")) == status.bytes_available(13)
    assert driver.send("00 C0 00 00")[-2:] == status.SUCCESS
    assert driver.send("00 C0 00 00") == status.REFERENCED_DATA_NOT_FOUND


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes(driver: Driver, commands: list[bytes]) -> None:
    """Whatever comes, something comes back that fits what was asked for."""
    driver.power_on()
    for raw in commands:
        answer = driver.transmit(raw)
        assert 2 <= len(answer) <= 65_538
        if len(answer) > 2:
            assert len(answer) - 2 <= (Command.parse(raw).le or 256)
