# SPDX-License-Identifier: LGPL-2.1-or-later
"""The conversations of libcacard's own test programs, and some of ours, with a CAC.

Named as there. Each checks what libcacard's checks, so it holds with libcacard itself; where our
card answers otherwise on purpose, either answer passes here, and tests of our own say which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.conversations.steps import (
    MORE,
    SUCCESS,
    Ask,
    AskExact,
    AskFor,
    AskWhole,
    Card,
    Conversation,
    Exchange,
    Need,
    PowerOn,
    Send,
    Step,
    Succeed,
    Verify,
    successful,
    whole,
)
from tests.simple_tlv import simple_tlv

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

LIBCACARD_ATR: Final = bytes.fromhex("3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34")
KEY_SIZE: Final = 256


# --- steps a CAC has of its own ------------------------------------------------------------------


def ask(command: str, *answers: str) -> Ask:
    """A command and its answers, in hexadecimal."""
    return Ask(bytes.fromhex(command), tuple(map(bytes.fromhex, answers)))


def select(aid: str, waiting: str = "61 0D") -> Ask:
    """SELECT by name, without Le."""
    return ask(f"00 A4 04 00 {len(bytes.fromhex(aid)):02X} {aid}", waiting)


def select_object(oid: str, answer: str = "90 00") -> Ask:
    """SELECT of an object of the selected applet."""
    return ask(f"00 A4 02 00 02 {oid}", answer)


def login() -> tuple[Step, ...]:
    """VERIFY at the access control applet."""
    return select(ACA), Verify()


@dataclass(frozen=True)
class Properties(Step):
    """GET PROPERTIES of the selected applet (GSC-IS 2.1, 5.3.3.8).

    Attributes:
        oid: of its object.
        kind: "tv", "pki", "empty" (type 01), "none" (no objects) or "aca".
    """

    oid: str
    kind: str

    def take(self, card: Card) -> None:
        AskExact(bytes.fromhex("80 56 01 00"), self._told).take(card)
        Ask(bytes.fromhex("80 56 02 00 02 01 01 00"), (bytes.fromhex("6C 0E"),)).take(card)
        AskFor(bytes.fromhex("80 56 02 00 02 01 01 0E"), 14).take(card)
        AskExact(bytes.fromhex("80 56 40 00")).take(card)

    def _told(self, data: bytes) -> bool:
        items = simple_tlv(data)
        assert [tag for tag, _ in items].count(0x01) == 1
        assert dict(items)[0x01][0] == 0x10 and len(dict(items)[0x01]) == 5
        objects = [value for tag, value in items if tag in (0x50, 0x51)]
        assert {tag for tag, _ in items} <= {0x01, 0x40, 0x50, 0x51, 0x39, 0x3A}
        if self.kind != "aca":
            assert dict(items)[0x40] == bytes((len(objects),))
        assert len(objects) == (self.kind not in ("none", "aca")) or self.oid == "30 00"
        for described in objects[:1]:
            self._object(described)
        return True

    def _object(self, described: bytes) -> None:
        inner = simple_tlv(described)
        assert {tag for tag, _ in inner} <= {0x41, 0x42, 0x43, 0x26}
        assert all(value == b"\x01" for tag, value in inner if tag == 0x26)
        assert dict(inner)[0x41] == bytes.fromhex(self.oid)
        assert dict(inner)[0x42][0] == (self.kind == "empty") and len(dict(inner)[0x42]) == 5
        if self.kind == "pki":
            assert dict(inner)[0x43] == bytes((0x06, KEY_SIZE // 8, 0x01, 0x01))


def read_buffer(card: Card, kind: str) -> bytes:
    """READ BUFFER to the end: two bytes of length, then at most 255 at a time."""
    start = successful(card.transmit(bytes.fromhex(f"80 52 00 00 02 {kind} 02 02")))
    assert len(start) == 2
    size, data = int.from_bytes(start, "little"), b""
    while len(data) < size:
        offset, count = 2 + len(data), min(size - len(data), 255)
        header = bytes.fromhex("80 52") + offset.to_bytes(2, "big")
        part = successful(card.transmit(header + bytes.fromhex(f"02 {kind} {count:02X} 00")))
        assert len(part) == count
        data += part
    return data


def tags_and_values(card: Card) -> list[tuple[int, bytes]]:
    """Both buffers of the selected object, put together again (GSC-IS 2.1, 8.4)."""
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


@dataclass(frozen=True)
class Read(Step):
    """Both buffers; `check` looks at the tags."""

    check: Callable[[list[int]], bool]

    def take(self, card: Card) -> None:
        tags = [tag for tag, _ in tags_and_values(card)]
        assert self.check(tags), [f"{tag:02X}" for tag in tags]


@dataclass(frozen=True)
class ReadNothing(Step):
    """Both buffers are empty."""

    def take(self, card: Card) -> None:
        assert read_buffer(card, "01") == read_buffer(card, "02") == b""


@dataclass(frozen=True)
class ReadAtTheEnd(Step):
    """Offsets just before, at and just behind a buffer's end."""

    def take(self, card: Card) -> None:
        for kind in ("01", "02"):
            size = 2 + len(read_buffer(card, kind))
            for offset, data in ((size - 1, 1), (size, 0)):
                AskFor(bytes.fromhex(f"80 52 {offset:04X} 02 {kind} FF 00"), data).take(card)
            ask(f"80 52 {size:04X} 02 {kind} FF", "90 00").take(card)
            ask(f"80 52 {size + 1:04X} 02 {kind} FF", "6A 86").take(card)


@dataclass(frozen=True)
class AccessRules(Step):
    """GET ACR (GSC-IS 2.1, 5.3.3.5): a version, perhaps a count, and records of one tag."""

    command: str
    count_tag: int | None
    record_tag: int

    def take(self, card: Card) -> None:
        items = simple_tlv(successful(card.transmit(bytes.fromhex(self.command))))
        self._check(items)

    def _check(self, items: list[tuple[int, bytes]]) -> None:
        assert items[0][0] == 0x01 and len(items[0][1]) == 5 and items[0][1][0] == 0x10
        records = items[1:]
        if self.count_tag is not None:
            tag, count = records.pop(0)
            assert (tag, count) == (self.count_tag, bytes((len(records),)))
        assert records and {tag for tag, _ in records} == {self.record_tag}


@dataclass(frozen=True)
class AllAccessRules(AccessRules):
    """The same where the table is too long for one answer and waits (6100)."""

    def take(self, card: Card) -> None:
        ask(self.command, "61 00").take(card)
        first = card.transmit(bytes.fromhex("00 C0 00 00 00"))
        assert len(first) == 258 and first[-2] == MORE and first[-1], first.hex(" ")
        rest = whole(card, bytes((0x00, 0xC0, 0, 0, first[-1])))
        self._check(simple_tlv(first[:-2] + rest))


@dataclass(frozen=True)
class ReadLengthInTwo(Step):
    """READ BUFFER whose answers wait: the last one asked for is told, and told once."""

    def take(self, card: Card) -> None:
        size = successful(card.transmit(bytes.fromhex("00 C0 00 00 02")))[0]
        ask(f"00 52 00 02 02 01 {size:02X}", f"61 {size:02X}").take(card)
        AskFor(bytes.fromhex(f"00 C0 00 00 {size:02X}"), size).take(card)
        ask(f"00 C0 00 00 {size:02X}", "6A 88").take(card)


@dataclass(frozen=True)
class Operate(Step):
    """SIGN/DECRYPT of a block: whole by extended length, then in two parts; the same comes."""

    block: Callable[[], bytes]

    def take(self, card: Card) -> None:
        block, waiting = self.block(), bytes((MORE, KEY_SIZE & 0xFF))
        header = bytes.fromhex("80 42 00 00")
        command = header + b"\x00" + KEY_SIZE.to_bytes(2, "big") + block
        assert card.transmit(command) == waiting
        result = whole(card, bytes.fromhex("00 C0 00 00 00"))
        assert len(result) == KEY_SIZE
        first, last = block[:0x47], block[0x47:]
        assert card.transmit(bytes.fromhex("80 42 80 00 47") + first) == SUCCESS
        assert card.transmit(header + bytes((len(last),)) + last) == waiting
        assert whole(card, bytes.fromhex("00 C0 00 00 00")) == result


@dataclass(frozen=True)
class SignBadData(Step):
    """A block that is above the modulus: a result, or a refusal."""

    def take(self, card: Card) -> None:
        block = b"\x00\xff" + b"\xff" * (KEY_SIZE - 23) + b"\x00" + bytes(20)
        answer = card.transmit(bytes.fromhex("80 42 00 00 00 01 00") + block)
        assert answer[:1] in (b"\x61", b"\x69"), answer.hex(" ")


def padded_digest() -> bytes:
    """A PKCS #1 block of 20 random bytes."""
    return b"\x00\x01" + b"\xff" * (KEY_SIZE - 23) + b"\x00" + os.urandom(20)


def any_number() -> bytes:
    """What a public key made: here any number below the modulus."""
    return b"\x00" + b"\x5a" * (KEY_SIZE - 1)


# --- OpenSC's own conversation -------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSc(Step):
    """What OpenSC 0.23.0 was seen to send, with Le (T=1) or without (T=0: answers are fetched)."""

    with_le: bool

    def take(self, card: Card) -> None:
        for _ in range(2):
            self._ask(card, bytes.fromhex(f"00 A4 04 0C 07 {CCC}"), "00")
        self._buffers(card)
        for index, aid in enumerate((PKI0, PKI1, PKI2)):
            card.transmit(bytes.fromhex(f"00 A4 04 00 07 {aid}"))
            self._ask(card, bytes.fromhex(f"00 A4 02 00 02 01 {index:02X}"), "00")
            exact = card.transmit(bytes.fromhex("00 56 01 00 FF"))
            assert exact[0] == 0x6C
            card.transmit(bytes.fromhex("00 56 01 00") + exact[1:])
            self._buffers(card)
        card.transmit(bytes.fromhex("00 20 00 00 00"))
        Verify().take(card)
        card.transmit(bytes.fromhex(f"00 A4 04 00 07 {PKI0}"))
        self._ask(card, bytes.fromhex("00 A4 02 0C 02 01 00"), "00")
        block = b"\x00\x01" + b"\xff" * 202 + b"\x00" + bytes(range(51))
        first = self._ask(card, bytes.fromhex("00 42 80 00 F0") + block[:0xF0], "")
        assert first == SUCCESS
        last = self._ask(card, bytes.fromhex("00 42 00 00 10") + block[0xF0:], "FF")
        assert len(last) == 258

    def _ask(self, card: Card, command: bytes, le: str) -> bytes:
        return whole_answer(card, command + bytes.fromhex(le) if self.with_le else command)

    def _buffers(self, card: Card) -> None:
        for kind in ("01", "02"):
            start = self._ask(card, bytes.fromhex(f"00 52 00 00 02 {kind} 02"), "02")
            size, at = int.from_bytes(start[:2], "little"), 0
            while at < size:
                count = min(size - at, 0xF0)
                header = bytes.fromhex("00 52") + (2 + at).to_bytes(2, "big")
                data = bytes.fromhex(f"02 {kind} {count:02X}")
                assert len(self._ask(card, header + data, f"{count:02X}")) == count + 2
                at += count


def whole_answer(card: Card, command: bytes) -> bytes:
    """An answer and its status word; what waits is fetched."""
    answer = card.transmit(command)
    if answer[-2] == MORE:
        return whole(card, bytes((0x00, 0xC0, 0, 0, answer[-1]))) + SUCCESS
    return answer


OPENSC_PROBES: Final = tuple(
    ask(command, "6A 82", "69 00")
    for command in (
        "00 A4 04 00 07 62 76 01 FF 00 00 00",  # coolkey
        "00 A4 04 00 06 A0 00 00 00 01 01",  # muscle
        "00 A4 04 00 0B E8 2B 06 01 04 01 81 C3 1F 02 01",  # sc-hsm
        "00 A4 04 0C 0F D2 33 00 00 00 45 73 74 45 49 44 20 76 33 35",  # mcrd
        "00 CA DF 30 05",  # setcos
        "00 CB 3F FF 03 5C 01 7E",  # PIV-II
        "00 A4 04 00 09 A0 00 00 03 08 00 00 10 00",
    )
)


# --- the conversations ---------------------------------------------------------------------------


def _of_each(*aids: str, steps: Callable[[str], tuple[Step, ...]]) -> tuple[Step, ...]:
    return tuple(step for aid in aids for step in (select(aid), *steps(aid)))


def _object_of(aid: str) -> str:
    return aid[-5:]


def _invalid_acr() -> Iterator[Step]:
    yield select(ACA)
    yield ask("80 4C 00 FF 00", "6A 86")
    for parameter in ("00", "01", "10", "11"):
        yield ask(f"80 4C {parameter} 00 02 0A 0B 00", "69 84")
    for parameter in ("12", "20", "21"):
        yield ask(f"80 4C {parameter} 00 01 0A 00", "69 84")
    yield ask("80 4C 22 00 00", "69 00")


def _nothing_selected() -> Iterator[Step]:
    for _ in range(2):
        yield PowerOn()
        for instruction in ("52", "56", "42", "4C", "70", "82", "88", "B0", "C2", "CA", "DA", "E2"):
            yield ask(f"00 {instruction} 00 00 00", "69 00")
        yield ask("00 C0 00 00 00", "6A 88")
        yield ask("00 A4 02 00 02 01 00", "6A 81")
        yield select(PKI0)
        yield ask("00 A4 04 00 06 A0 00 00 00 79 01", "6A 82")
        yield ask("00 52 00 00 02 01 02", "69 00")


_EXTENDED: Final = frozenset((Need.EXTENDED_LENGTH,))
_ANY_LENGTH: Final = frozenset((Need.ANY_LENGTH,))
_LE_WITH_DATA: Final = frozenset((Need.LE_WITH_DATA,))
_RESET: Final = frozenset((Need.RESET,))

#: Those of the program libcacard and of hwtests, then ours.
CONVERSATIONS: Final = (
    Conversation(
        "xfer",
        "a command to a card that selects nothing",
        (Send(bytes.fromhex("00 A4 04 00 07 62 76 01 FF 00 00 00")),),
    ),
    Conversation(
        "select_coid",
        "objects selected by their id, and one that is not there",
        (
            select(CCC),
            Properties("DB 00", "tv"),
            select_object("DB 00"),
            select_object("DB DB", "6A 82"),
            select(ACF),
            select_object("30 00"),
            select_object("90 00"),
            select_object("90 90", "6A 82"),
        ),
        _LE_WITH_DATA,
    ),
    Conversation(
        "cac_pki",
        "a certificate's applet",
        (
            select(PKI0),
            Properties("01 00", "pki"),
            Read(lambda tags: tags == [0x71, 0x70, 0x72, 0xFE]),
        ),
        _LE_WITH_DATA,
    ),
    Conversation(
        "cac_ccc",
        "the card capability container",
        (select(CCC), Properties("DB 00", "tv"), Read(lambda tags: tags.count(0xF3) == 11 + 3)),
        _ANY_LENGTH | _LE_WITH_DATA,
    ),
    Conversation(
        "cac_aca",
        "the access control applet and its tables",
        (
            select(ACA),
            Properties("03 00", "aca"),
            AccessRules("80 4C 00 00 00", 0xA1, 0xA0),
            AccessRules("80 4C 01 00 01 0A 00", None, 0xA0),
            ask("80 4C 01 00 01 0F 00", "6A 88"),
            AllAccessRules("80 4C 10 00 00", 0x81, 0x80),
            AccessRules("80 4C 11 00 07 A0 00 00 00 79 12 02 00", None, 0x80),
            ask("80 4C 11 00 07 A0 00 00 00 79 11 02 00", "6A 88"),
            AccessRules("80 4C 12 00 02 DB 00 00", None, 0x82),
            ask("80 4C 12 00 02 DB DB 00", "6A 80"),
            AccessRules("80 4C 20 00 00", 0x91, 0x90),
            AccessRules("80 4C 21 00 00", 0x94, 0x93),
            *(Succeed(bytes.fromhex(f"80 4C {kind} 00 00")) for kind in ("40", "60", "61")),
            ask("80 4C 50 00 00", "61 00"),
        ),
        _LE_WITH_DATA,
    ),
    Conversation(
        "get_response",
        "what waits is told once, and the last that was asked for",
        (
            select(CCC),
            ask("00 52 00 00 02 01 02", "61 02"),
            ask("00 52 00 00 02 01 02", "61 02"),
            ReadLengthInTwo(),
        ),
        _ANY_LENGTH,
    ),
    Conversation(
        "check_login_count",
        "VERIFY without a PIN tells the tries",
        (
            PowerOn(),
            ask("00 20 00 00 00", "63 C3", "6A 88"),
            ask("00 20 01 00 00", "6A 00"),
        ),
        _RESET,
    ),
    Conversation("login", "VERIFY", (PowerOn(), *login(), ask("00 20 00 00 00", "90 00")), _RESET),
    Conversation(
        "sign", "a signature", (*login(), select(PKI0), Operate(padded_digest)), _EXTENDED
    ),
    Conversation(
        "sign_bad_data",
        "a block that no key takes",
        (*login(), select(PKI0), SignBadData()),
        _EXTENDED,
    ),
    Conversation(
        "sign_logout_sign",
        "a signature, and one more",
        (*login(), select(PKI0), Operate(padded_digest)) * 2,
        _EXTENDED,
    ),
    Conversation(
        "decipher", "decryption", (*login(), select(PKI0), Operate(any_number)), _EXTENDED
    ),
    Conversation(
        "empty_applets",
        "containers without content, and without objects",
        (
            *_of_each(
                *EMPTY, steps=lambda aid: (Properties(_object_of(aid), "empty"), ReadNothing())
            ),
            *_of_each(*BARE, steps=lambda aid: (Properties(_object_of(aid), "none"),)),
        ),
        _LE_WITH_DATA,
    ),
    Conversation(
        "gp_applet",
        "the card manager",
        (
            select(CARD_MANAGER, "61 1B"),
            AskWhole(bytes.fromhex("00 C0 00 00 1B"), lambda data: len(data) == 0x1B),
            AskFor(bytes.fromhex("00 CA 9F 7F 00"), 45, lambda data: any(data[15:21])),
            AskFor(bytes.fromhex("00 CA 00 66 00"), 51),
            ask("00 CA 00 67 00", "6A 88"),
        ),
    ),
    Conversation(
        "msft_applet",
        "Microsoft's plug and play",
        (
            PowerOn(),
            select(MICROSOFT, "61 11"),
            AskWhole(bytes.fromhex("00 C0 00 00 11"), lambda data: len(data) == 0x11),
            AskFor(bytes.fromhex("00 CA 7F 68 00"), 31),
            ask("00 20 00 00 00", "63 C3"),
        ),
        _RESET,
    ),
    Conversation(
        "invalid_properties_apdu",
        "GET PROPERTIES with wrong parameters",
        _of_each(
            CCC,
            PKI0,
            PERSON_INSTANCE,
            EMPTY[0],
            BARE[0],
            ACA,
            steps=lambda aid: (
                ask("80 56 00 00 00", "6A 86"),
                ask("80 56 01 00 02 01 40", "69 84"),
                ask("80 56 01 01 00", "6A 86"),
                ask("80 56 02 00 00", "69 84"),
                ask("80 56 02 00 02 00 FF 00", "6A 88"),
                ask("80 56 88 00 00", "6A 86"),
            ),
        ),
    ),  # fmt: skip
    Conversation(
        "invalid_select_apdu",
        "SELECT with wrong parameters",
        _of_each(
            CCC,
            PKI0,
            PERSON_INSTANCE,
            EMPTY[0],
            ACF,
            steps=lambda aid: (
                ask("00 A4 02 00 00", "69 84"),
                ask("00 A4 02 00 07 A0 00 00 00 79 01 00", "69 84"),
                ask("00 A4 08 00 02 01 00", "6A 81"),
            ),
        ),
    ),  # fmt: skip
    Conversation(
        "invalid_instruction",
        "instructions that an applet has not",
        (
            select(CCC),
            ask("80 FF 00 00 00", "6D 00"),
            ask("80 4C 00 00 00", "6D 00"),
            ask("80 58 00 00 00", "69 00"),
            select(PKI0),
            ask("80 58 00 00 00", "69 85"),
            select(ACA),
            *(ask(f"80 {ins} 00 00 02 01 02 00", "6D 00") for ins in ("52", "58", "42")),
        ),
    ),
    Conversation(
        "invalid_read_buffer",
        "READ BUFFER with wrong parameters",
        _of_each(
            CCC,
            PKI0,
            PERSON_INSTANCE,
            EMPTY[0],
            steps=lambda aid: (
                ask("80 52 00 00 00", "69 84"),
                ask("80 52 00 00 04 01 02 03 04", "69 84"),
                ask("80 52 00 00 02 06 02 00", "69 84"),
                *(ask(f"80 52 08 08 02 {kind} 02 00", "6A 86") for kind in ("01", "02")),
            ),
        ),
    ),  # fmt: skip
    Conversation("invalid_acr", "GET ACR with wrong parameters", tuple(_invalid_acr())),
    Conversation(
        "get_atr",
        "the answer to reset",
        (PowerOn(LIBCACARD_ATR),),
        frozenset((Need.LIBCACARD_ATR,)),
    ),
    Conversation(
        "passthrough_applet",
        "containers that can be read, before and after a login",
        _of_each(
            PERSON_INSTANCE,
            PERSONNEL,
            steps=lambda aid: (
                Properties(_object_of(aid), "tv"),
                *login(),
                select(aid),
                Read(lambda tags: True),
            ),
        ),
        _LE_WITH_DATA,
    ),  # fmt: skip
    Conversation(
        "nothing_selected",
        "what a card answers before any SELECT, and after one that failed",
        tuple(_nothing_selected()),
        _RESET,
    ),
    Conversation(
        "read_at_the_end",
        "offsets at a buffer's end",
        _of_each(CCC, PKI0, EMPTY[0], BARE[0], PERSONNEL, steps=lambda aid: (ReadAtTheEnd(),)),
        _ANY_LENGTH,
    ),
    Conversation(
        "exchange",
        "a card that leaves takes the verified mark along",
        (*login(), Exchange(), ask("00 20 00 00 00", "63 C3"), *login()),
        frozenset((Need.HANDS,)),
    ),
    Conversation(
        "opensc_t0", "OpenSC over T=0", (PowerOn(), *OPENSC_PROBES, OpenSc(with_le=False)), _RESET
    ),
    Conversation(
        "opensc_t1",
        "OpenSC over T=1",
        (PowerOn(), *OPENSC_PROBES, OpenSc(with_le=True)),
        _RESET | _ANY_LENGTH,
    ),
)
