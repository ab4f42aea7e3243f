# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scenarios of libcacard's own test programs, for any card that can be sent an APDU.

Named as there. Each checks what libcacard's checks, so it passes on libcacard itself; where our
card answers otherwise on purpose, either answer passes here, and tests of our own say which.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

from tests.cards import PIN, simple_tlv
from vccid.trace.lines import exchange_text

PKI0, PKI1, PKI2 = (f"A0 00 00 00 79 01 0{index}" for index in range(3))
CCC: Final = "A0 00 00 01 16 DB 00"
ACA: Final = "A0 00 00 00 79 03 00"
ACF: Final = "A0 00 00 01 16 30 00"
PERSON_INSTANCE: Final = "A0 00 00 00 79 02 00"
PERSONNEL: Final = "A0 00 00 00 79 02 01"
CARD_MANAGER: Final = "A0 00 00 00 03 00 00"
MICROSOFT: Final = "A0 00 00 03 97 43 49 44 5F 01 00"
EMPTY: Final = tuple(
    f"A0 00 00 00 79 {tail}" for tail in ("02 FB", "02 FE", "02 FD", "12 01", "12 02")
)
BARE: Final = tuple(f"A0 00 00 00 79 02 {tail}" for tail in ("F0", "F1", "F2"))

PIN_FIELD: Final = PIN.hex(" ")
KEY_SIZE: Final = 256


class Card(Protocol):
    """What a scenario runs on."""

    def power_on(self) -> bytes: ...

    def transmit(self, command: bytes) -> bytes: ...


def send(card: Card, *fields: str | bytes) -> bytes:
    """Send a command given as hexadecimal or raw fields."""
    return card.transmit(b"".join(f if isinstance(f, bytes) else bytes.fromhex(f) for f in fields))


def expect(card: Card, command: str, *answers: str) -> bytes:
    """Send a command; its answer must be one of these."""
    answer = send(card, command)
    told = exchange_text(bytes.fromhex(command), answer, bytes.fromhex(answers[0]))
    assert answer.hex(" ").upper() in answers, f"{command}: {told}"
    return answer


def select(card: Card, aid: str, waiting: str = "61 0D") -> None:
    name = bytes.fromhex(aid)
    expect(card, f"00 A4 04 00 {len(name):02X} {aid}", waiting)


def select_object(card: Card, oid: str, answer: str = "90 00") -> None:
    expect(card, f"00 A4 02 00 02 {oid}", answer)


def login(card: Card) -> None:
    select(card, ACA)
    expect(card, f"00 20 00 00 08 {PIN_FIELD}", "90 00")


def get_response(card: Card, waiting: int) -> bytes:
    """Everything that waits, and 9000 at its end."""
    answer = send(card, f"00 C0 00 00 {waiting & 0xFF:02X}")
    data = answer[:-2]
    while answer[-2] == 0x61:
        answer = send(card, f"00 C0 00 00 {answer[-1]:02X}")
        data += answer[:-2]
    assert answer[-2:] == b"\x90\x00"
    return data


def properties(card: Card, oid: str, kind: str) -> None:
    """get_properties_coid: kind is "tv", "pki", "empty" (type 01) or "none" (no objects)."""
    asked = send(card, "80 56 01 00 00")
    assert len(asked) == 2 and asked[0] == 0x6C and asked[1] > 0
    told = send(card, "80 56 01 00", asked[1:])
    assert told[-2:] == b"\x90\x00"
    items = simple_tlv(told[:-2])
    assert [tag for tag, _ in items].count(0x01) == 1
    assert dict(items)[0x01][0] == 0x10 and len(dict(items)[0x01]) == 5
    objects = [value for tag, value in items if tag in (0x50, 0x51)]
    assert {tag for tag, _ in items} <= {0x01, 0x40, 0x50, 0x51, 0x39, 0x3A}
    if kind != "aca":
        assert dict(items)[0x40] == bytes((len(objects),))
    assert len(objects) == (kind not in ("none", "aca")) or oid == "30 00"
    for described in objects[:1]:
        _check_object(described, oid, kind)
    expect(card, "80 56 02 00 02 01 01 00", "6C 0E")
    assert len(send(card, "80 56 02 00 02 01 01 0E")) == 16
    asked = send(card, "80 56 40 00 00")
    assert len(asked) == 2 and asked[0] == 0x6C and asked[1] > 0
    assert send(card, "80 56 40 00", asked[1:])[-2:] == b"\x90\x00"


def _check_object(described: bytes, oid: str, kind: str) -> None:
    inner = simple_tlv(described)
    assert {tag for tag, _ in inner} <= {0x41, 0x42, 0x43, 0x26}
    assert all(value == b"\x01" for tag, value in inner if tag == 0x26)
    assert dict(inner)[0x41] == bytes.fromhex(oid)
    assert dict(inner)[0x42][0] == (kind == "empty") and len(dict(inner)[0x42]) == 5
    if kind == "pki":
        assert dict(inner)[0x43] == bytes((0x06, KEY_SIZE // 8, 0x01, 0x01))


def read_buffer(card: Card, kind: str) -> bytes:
    """get_buffer: two bytes of length, then at most 255 at a time."""
    start = send(card, f"80 52 00 00 02 {kind} 02 02")
    assert len(start) == 4 and start[-2:] == b"\x90\x00"
    size, data = int.from_bytes(start[:2], "little"), b""
    while len(data) < size:
        offset, count = 2 + len(data), min(size - len(data), 255)
        answer = send(card, "80 52", offset.to_bytes(2, "big"), f"02 {kind} {count:02X} 00")
        assert len(answer) == count + 2 and answer[-2:] == b"\x90\x00"
        data += answer[:-2]
    return data


def tags_and_values(card: Card) -> list[tuple[int, bytes]]:
    """Both buffers, put together again."""
    tags, values = read_buffer(card, "01"), read_buffer(card, "02")
    items, at, stream = [], 0, iter(tags)
    for tag in stream:
        length = next(stream)
        if length == 0xFF:
            length = next(stream) + 256 * next(stream)
        items.append((tag, values[at : at + length]))
        at += length
    assert at == len(values)
    return items


def xfer(card: Card) -> None:
    send(card, "00 A4 04 00 07 62 76 01 FF 00 00 00")


def select_coid(card: Card) -> None:
    select(card, CCC)
    properties(card, "DB 00", "tv")
    select_object(card, "DB 00")
    select_object(card, "DB DB", "6A 82")
    select(card, ACF)
    for oid in ("30 00", "90 00"):
        select_object(card, oid)
    select_object(card, "90 90", "6A 82")


def cac_pki(card: Card) -> None:
    select(card, PKI0)
    properties(card, "01 00", "pki")
    items = tags_and_values(card)
    assert [tag for tag, _ in items] == [0x71, 0x70, 0x72, 0xFE]


def cac_ccc(card: Card) -> None:
    select(card, CCC)
    properties(card, "DB 00", "tv")
    items = tags_and_values(card)
    assert [tag for tag, _ in items].count(0xF3) == 11 + 3


def cac_aca(card: Card) -> None:
    select(card, ACA)
    properties(card, "03 00", "aca")
    _check_acr(send(card, "80 4C 00 00 00"), 0xA1, 0xA0)
    _check_acr(send(card, "80 4C 01 00 01 0A 00"), None, 0xA0)
    expect(card, "80 4C 01 00 01 0F 00", "6A 88")
    expect(card, "80 4C 10 00 00", "61 00")
    answer = send(card, "00 C0 00 00 00")
    assert len(answer) == 258 and answer[-2] == 0x61 and answer[-1] > 0
    _check_acr(answer[:-2] + get_response(card, answer[-1]) + b"\x90\x00", 0x81, 0x80)
    _check_acr(send(card, "80 4C 11 00 07 A0 00 00 00 79 12 02 00"), None, 0x80)
    expect(card, "80 4C 11 00 07 A0 00 00 00 79 11 02 00", "6A 88")
    _check_acr(send(card, "80 4C 12 00 02 DB 00 00"), None, 0x82)
    expect(card, "80 4C 12 00 02 DB DB 00", "6A 80")
    _check_acr(send(card, "80 4C 20 00 00"), 0x91, 0x90)
    _check_acr(send(card, "80 4C 21 00 00"), 0x94, 0x93)
    for kind in ("40", "60", "61"):
        assert send(card, f"80 4C {kind} 00 00")[-2:] == b"\x90\x00"
    expect(card, "80 4C 50 00 00", "61 00")


def _check_acr(answer: bytes, count_tag: int | None, record_tag: int) -> None:
    assert answer[-2:] == b"\x90\x00"
    items = simple_tlv(answer[:-2])
    assert items[0][0] == 0x01 and len(items[0][1]) == 5 and items[0][1][0] == 0x10
    records = items[1:]
    if count_tag is not None:
        tag, count = records.pop(0)
        assert (tag, count) == (count_tag, bytes((len(records),)))
    assert records and {tag for tag, _ in records} == {record_tag}


def get_response_scenario(card: Card) -> None:
    select(card, CCC)
    expect(card, "00 52 00 00 02 01 02", "61 02")
    expect(card, "00 52 00 00 02 01 02", "61 02")
    answer = send(card, "00 C0 00 00 02")
    assert len(answer) == 4 and answer[-2:] == b"\x90\x00"
    size = answer[0]
    expect(card, f"00 52 00 02 02 01 {size:02X}", f"61 {size:02X}")
    answer = send(card, f"00 C0 00 00 {size:02X}")
    assert len(answer) == size + 2 and answer[-2:] == b"\x90\x00"
    expect(card, f"00 C0 00 00 {size:02X}", "6A 88")


def check_login_count(card: Card) -> None:
    card.power_on()
    expect(card, "00 20 00 00 00", "63 C3", "6A 88")
    expect(card, "00 20 01 00 00", "6A 00")


def login_scenario(card: Card) -> None:
    card.power_on()
    login(card)
    expect(card, "00 20 00 00 00", "90 00")


def sign(card: Card) -> None:
    login(card)
    select(card, PKI0)
    block = b"\x00\x01" + b"\xff" * (KEY_SIZE - 23) + b"\x00" + os.urandom(20)
    _operate(card, block)


def _operate(card: Card, block: bytes) -> None:
    """The whole block by extended length, then in two parts."""
    waiting = bytes((0x61, KEY_SIZE & 0xFF))
    assert send(card, "80 42 00 00 00", KEY_SIZE.to_bytes(2, "big"), block) == waiting
    whole = get_response(card, KEY_SIZE)
    assert len(whole) == KEY_SIZE
    first, last = block[:0x47], block[0x47:]
    assert send(card, "80 42 80 00 47", first) == b"\x90\x00"
    assert send(card, "80 42 00 00", bytes((len(last),)), last) == waiting
    assert get_response(card, KEY_SIZE) == whole


def sign_bad_data(card: Card) -> None:
    login(card)
    select(card, PKI0)
    block = b"\x00\xff" + b"\xff" * (KEY_SIZE - 23) + b"\x00" + bytes(20)
    assert send(card, "80 42 00 00 00 01 00", block)[:1] in (b"\x61", b"\x69")


def sign_logout_sign(card: Card) -> None:
    sign(card)
    sign(card)


def decipher(card: Card) -> None:
    """The block a public key made: here any number below the modulus."""
    login(card)
    select(card, PKI0)
    _operate(card, b"\x00" + b"\x5a" * (KEY_SIZE - 1))


def empty_applets(card: Card) -> None:
    for aid in EMPTY:
        select(card, aid)
        properties(card, aid[-5:], "empty")
        assert read_buffer(card, "01") == read_buffer(card, "02") == b""
    for aid in BARE:
        select(card, aid)
        properties(card, aid[-5:], "none")


def gp_applet(card: Card) -> None:
    select(card, CARD_MANAGER, "61 1B")
    assert len(get_response(card, 0x1B)) == 0x1B
    cplc = send(card, "00 CA 9F 7F 00")
    assert len(cplc) == 47 and cplc[-2:] == b"\x90\x00" and any(cplc[15:21])
    assert len(send(card, "00 CA 00 66 00")) == 53
    expect(card, "00 CA 00 67 00", "6A 88")


def msft_applet(card: Card) -> None:
    card.power_on()
    select(card, MICROSOFT, "61 11")
    assert len(get_response(card, 0x11)) == 0x11
    assert len(send(card, "00 CA 7F 68 00")) == 33
    expect(card, "00 20 00 00 00", "63 C3")


def invalid_properties_apdu(card: Card) -> None:
    for aid in (CCC, PKI0, PERSON_INSTANCE, EMPTY[0], BARE[0], ACA):
        select(card, aid)
        expect(card, "80 56 00 00 00", "6A 86")
        expect(card, "80 56 01 00 02 01 40", "69 84")
        expect(card, "80 56 01 01 00", "6A 86")
        expect(card, "80 56 02 00 00", "69 84")
        expect(card, "80 56 02 00 02 00 FF 00", "6A 88")
        expect(card, "80 56 88 00 00", "6A 86")


def invalid_select_apdu(card: Card) -> None:
    for aid in (CCC, PKI0, PERSON_INSTANCE, EMPTY[0], ACF):
        select(card, aid)
        expect(card, "00 A4 02 00 00", "69 84")
        expect(card, "00 A4 02 00 07 A0 00 00 00 79 01 00", "69 84")
        expect(card, "00 A4 08 00 02 01 00", "6A 81")


def invalid_instruction(card: Card) -> None:
    select(card, CCC)
    expect(card, "80 FF 00 00 00", "6D 00")
    expect(card, "80 4C 00 00 00", "6D 00")
    expect(card, "80 58 00 00 00", "69 00")
    select(card, PKI0)
    expect(card, "80 58 00 00 00", "69 85")
    select(card, ACA)
    for instruction in ("52", "58", "42"):
        expect(card, f"80 {instruction} 00 00 02 01 02 00", "6D 00")


def invalid_read_buffer(card: Card) -> None:
    for aid in (CCC, PKI0, PERSON_INSTANCE, EMPTY[0]):
        select(card, aid)
        expect(card, "80 52 00 00 00", "69 84")
        expect(card, "80 52 00 00 04 01 02 03 04", "69 84")
        expect(card, "80 52 00 00 02 06 02 00", "69 84")
        for kind in ("01", "02"):
            expect(card, f"80 52 08 08 02 {kind} 02 00", "6A 86")


def invalid_acr(card: Card) -> None:
    select(card, ACA)
    expect(card, "80 4C 00 FF 00", "6A 86")
    for parameter in ("00", "01", "10", "11"):
        expect(card, f"80 4C {parameter} 00 02 0A 0B 00", "69 84")
    for parameter in ("12", "20", "21"):
        expect(card, f"80 4C {parameter} 00 01 0A 00", "69 84")
    expect(card, "80 4C 22 00 00", "69 00")


def get_atr(card: Card) -> None:
    assert card.power_on().hex(" ").upper() == "3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34"


def passthrough_applet(card: Card) -> None:
    for aid in (PERSON_INSTANCE, PERSONNEL):
        select(card, aid)
        properties(card, aid[-5:], "tv")
        login(card)
        select(card, aid)
        tags_and_values(card)


def nothing_selected(card: Card) -> None:
    """None of libcacard's: what a card answers before any SELECT, and after one that failed."""
    for _ in range(2):
        card.power_on()
        for instruction in ("52", "56", "42", "4C", "70", "82", "88", "B0", "C2", "CA", "DA", "E2"):
            expect(card, f"00 {instruction} 00 00 00", "69 00")
        expect(card, "00 C0 00 00 00", "6A 88")
        expect(card, "00 A4 02 00 02 01 00", "6A 81")
        select(card, PKI0)
        expect(card, "00 A4 04 00 06 A0 00 00 00 79 01", "6A 82")
        expect(card, "00 52 00 00 02 01 02", "69 00")


def read_at_the_end(card: Card) -> None:
    """None of libcacard's: offsets just before, at and just behind a buffer's end."""
    for aid in (CCC, PKI0, EMPTY[0], BARE[0], PERSONNEL):
        select(card, aid)
        for kind in ("01", "02"):
            size = 2 + len(read_buffer(card, kind))
            for offset, data in ((size - 1, 1), (size, 0)):
                answer = send(card, "80 52", offset.to_bytes(2, "big"), f"02 {kind} FF 00")
                assert len(answer) == data + 2 and answer[-2:] == b"\x90\x00"
            expect(card, f"80 52 {size:04X} 02 {kind} FF", "90 00")
            expect(card, f"80 52 {size + 1:04X} 02 {kind} FF", "6A 86")


def opensc_t0(card: Card) -> None:
    """What OpenSC 0.23.0 was seen to send over T=0: no Le, each answer fetched."""
    _opensc(card, lambda command, le: _fetching(card, command))


def opensc_t1(card: Card) -> None:
    """The same over T=1."""
    _opensc(card, lambda command, le: _fetching(card, command + bytes.fromhex(le)))


def _fetching(card: Card, command: bytes) -> bytes:
    answer = card.transmit(command)
    if answer[-2] == 0x61:
        return get_response(card, answer[-1]) + b"\x90\x00"
    return answer


def _opensc(card: Card, ask: Callable[[bytes, str], bytes]) -> None:
    card.power_on()
    _opensc_probes(card)
    for _ in range(2):
        ask(bytes.fromhex(f"00 A4 04 0C 07 {CCC}"), "00")
    _opensc_buffers(ask)
    for index, aid in enumerate((PKI0, PKI1, PKI2)):
        send(card, f"00 A4 04 00 07 {aid}")
        ask(bytes.fromhex(f"00 A4 02 00 02 01 {index:02X}"), "00")
        exact = send(card, "00 56 01 00 FF")
        assert exact[0] == 0x6C
        send(card, "00 56 01 00", exact[1:])
        _opensc_buffers(ask)
    send(card, "00 20 00 00 00")
    expect(card, f"00 20 00 00 08 {PIN_FIELD}", "90 00")
    send(card, f"00 A4 04 00 07 {PKI0}")
    ask(bytes.fromhex("00 A4 02 0C 02 01 00"), "00")
    block = b"\x00\x01" + b"\xff" * 202 + b"\x00" + bytes(range(51))
    assert ask(bytes.fromhex("00 42 80 00 F0") + block[:0xF0], "") == b"\x90\x00"
    assert len(ask(bytes.fromhex("00 42 00 00 10") + block[0xF0:], "FF")) == 258


def _opensc_probes(card: Card) -> None:
    for command in (
        "00 A4 04 00 07 62 76 01 FF 00 00 00",  # coolkey
        "00 A4 04 00 06 A0 00 00 00 01 01",  # muscle
        "00 A4 04 00 0B E8 2B 06 01 04 01 81 C3 1F 02 01",  # sc-hsm
        "00 A4 04 0C 0F D2 33 00 00 00 45 73 74 45 49 44 20 76 33 35",  # mcrd
        "00 CA DF 30 05",  # setcos
        "00 CB 3F FF 03 5C 01 7E",  # PIV-II
        "00 A4 04 00 09 A0 00 00 03 08 00 00 10 00",
    ):
        expect(card, command, "6A 82", "69 00")


def _opensc_buffers(ask: Callable[[bytes, str], bytes]) -> None:
    for kind in ("01", "02"):
        start = ask(bytes.fromhex(f"00 52 00 00 02 {kind} 02"), "02")
        size, at = int.from_bytes(start[:2], "little"), 0
        while at < size:
            count = min(size - at, 0xF0)
            header = bytes.fromhex("00 52") + (2 + at).to_bytes(2, "big")
            answer = ask(header + bytes.fromhex(f"02 {kind} {count:02X}"), f"{count:02X}")
            assert len(answer) == count + 2
            at += count


#: The scenarios of the program libcacard and of hwtests, then ours.
SCENARIOS: Final[tuple[Callable[[Card], None], ...]] = (
    xfer, select_coid, cac_pki, cac_ccc, cac_aca, get_response_scenario, check_login_count,
    login_scenario, sign, sign_bad_data, sign_logout_sign, decipher, empty_applets, gp_applet,
    msft_applet, invalid_properties_apdu, invalid_select_apdu, invalid_instruction,
    invalid_read_buffer, invalid_acr, get_atr, passthrough_applet,
    nothing_selected, read_at_the_end, opensc_t0, opensc_t1,
)  # fmt: skip
