# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our card beside libcacard itself, on the same NSS database: byte for byte alike.

But for the few differences of docs/libcacard-differences.md, which stand as predicates in
libcacard_differences.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cards import (
    PIN,
    Driver,
    MemoryToken,
    card_with_token,
    pkcs12_of,
    three_credentials,
)
from tests.conversations.cac import (
    ACA,
    ACF,
    BARE,
    CARD_MANAGER,
    CCC,
    CONVERSATIONS,
    EMPTY,
    MICROSOFT,
    PERSON_INSTANCE,
    PERSONNEL,
    PKI0,
    PKI1,
    PKI2,
)
from tests.conversations.doors import LIBCACARD
from tests.conversations.steps import Card
from tests.conversations.steps import Conversation as Held
from tests.peers.libcacard import (
    POWER_ON,
    Database,
    Libcacard,
    fill_database,
    make_database,
)
from tests.peers.libcacard_differences import DIFFERENCES, Conversation, name
from tests.simple_tlv import simple_tlv
from vccid.iso7816 import status

APPLETS = (
    PKI0, PKI1, PKI2, ACA, CCC, ACF, PERSON_INSTANCE, PERSONNEL, CARD_MANAGER, MICROSOFT,
    *EMPTY, *BARE,
)  # fmt: skip

DOCUMENT = Path(__file__).parents[2] / "docs" / "libcacard-differences.md"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    files = [pkcs12_of(item, PIN.decode()) for item in three_credentials()]
    return fill_database(tmp_path_factory.mktemp("nss") / "db", PIN.decode(), files)


@pytest.fixture(scope="module")
def libcacard(database: Database) -> Iterator[Libcacard]:
    with Libcacard(database) as libcacard:
        yield libcacard


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    state = tmp_path_factory.mktemp("state")
    driver = Driver(card_with_token(three_credentials(), state, MemoryToken()))
    yield driver
    driver.close()


class Both:
    """Sends each command to both cards and compares; answers as one of them does."""

    def __init__(self, libcacard: Libcacard, ours: Driver, lead: str) -> None:
        self.pin = ours.pin
        self._libcacard, self._ours, self._lead = libcacard, ours, lead
        self.conversation = Conversation()

    def power_on(self) -> bytes:
        self.conversation = Conversation(self.conversation.seen)
        theirs, ours = self._libcacard.transmit([POWER_ON])[0], self._ours.power_on()
        assert theirs == ours
        return ours

    def remove(self) -> None:
        raise NotImplementedError("libcacard's reader is never empty")

    insert = remove

    def transmit(self, command: bytes) -> bytes:
        theirs, ours = self._libcacard.transmit([command])[0], self._ours.transmit(command)
        self.conversation.compare(command, theirs, ours)
        return theirs if self._lead == "libcacard" else ours


def exchange(
    libcacard: Libcacard, ours: Driver, commands: Sequence[bytes], conversation: Conversation
) -> None:
    """Run a whole batch from power-on, one round trip to libcacard's process."""
    _, *theirs = libcacard.transmit([POWER_ON, *commands])
    ours.power_on()
    for command, answer in zip(commands, theirs, strict=True):
        conversation.compare(command, answer, ours.transmit(command))


@pytest.mark.parametrize("lead", ["libcacard", "ours"])
@pytest.mark.parametrize("held", LIBCACARD.open_to(CONVERSATIONS), ids=lambda held: str(held.name))
def test_conversation(libcacard: Libcacard, ours: Driver, held: Held, lead: str) -> None:
    """Each conversation is led by either card's answers, where it goes by them."""
    held.hold(Both(libcacard, ours, lead))


def body(data: bytes, form: int, le: int) -> bytes:
    """Lc, data and Le, in one of the forms there are."""
    wanted = bytes((le,))
    if not data:
        return (b"", wanted, b"\x00\x00" + wanted)[form % 3]
    short, extended = bytes((len(data),)) + data, b"\x00" + len(data).to_bytes(2, "big") + data
    return (short, short + wanted, extended, extended + b"\x00" + wanted)[form]


#: Classes that mean the same on both cards; the others are tried one command at a time.
CLASSES = st.sampled_from(bytes.fromhex("00 00 00 80 80 80 A0 B0 C5 20 3F D0 E1 FF"))


#: Which of the forms, and Le: 00 means as much as there is.
FORMS = st.sampled_from([0, 1, 0, 1, 2, 3])
LES = st.integers(-128, 255).map(lambda le: max(le, 0))


def command(
    header: st.SearchStrategy[bytes], data: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    return st.tuples(CLASSES, header, data, FORMS, LES).map(
        lambda p: bytes((p[0],)) + p[1] + body(p[2], p[3], p[4])
    )


def fixed(*headers: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([bytes.fromhex(header) for header in headers])


ANYTHING = st.binary(max_size=20)
SELECTS = command(
    fixed("A4 04 00", "A4 04 0C"),
    st.sampled_from([bytes.fromhex(aid) for aid in APPLETS]) | st.binary(max_size=17),
)
OBJECT_IDS = fixed(
    "DB 00", "01 00", "01 01", "03 00", "02 00", "02 FB", "30 00", "60 10", "90 00", "FF FF", "12"
)
OFFSETS = st.tuples(st.sampled_from([0, 0, 0, 1, 2, 3]), st.integers(0, 255)).map(bytes)
READS = command(
    OFFSETS.map(lambda offset: b"\x52" + offset),
    st.tuples(st.sampled_from([1, 1, 2, 2, 2, 3]), st.integers(0, 255)).map(bytes) | ANYTHING,
)
PROPERTIES = command(
    fixed("56 01 00", "56 02 00", "56 40 00", "56 00 00", "56 41 00", "56 01 01"),
    st.binary(max_size=2)
    | st.lists(st.sampled_from([1, 0x40, 0x50, 0x26]), max_size=30).map(bytes),
)
ACRS = command(
    st.tuples(
        st.sampled_from(bytes.fromhex("00 01 10 11 12 20 21 40 41 50 52 60 61 02 FF")),
        st.sampled_from([0, 0, 0, 0, 1]),
    ).map(lambda p: b"\x4c" + bytes(p)),
    st.just(b"") | OBJECT_IDS | st.sampled_from([bytes.fromhex(aid) for aid in APPLETS])
    | st.integers(0, 18).map(lambda acrid: bytes((acrid,))),
)  # fmt: skip
SIGNS = command(fixed("42 80 00", "42 80 00", "42 00 00", "42 00 01", "42 40 00"), ANYTHING)
FETCHES = command(fixed("C0 00 00"), st.just(b""))
DATA = command(fixed("CA 9F 7F", "CA 00 66", "CA 7F 68", "CA 00 00"), st.just(b""))
OTHERS = command(st.binary(min_size=3, max_size=3), ANYTHING)
SELECT_OBJECTS = command(fixed("A4 02 00", "A4 02 0C", "A4 00 00", "A4 08 00"), OBJECT_IDS)

#: No PIN here: the tests of the PIN send those, and a wrong one too many would part the cards.
COMMANDS = st.one_of(
    SELECTS, SELECTS, SELECT_OBJECTS, READS, READS, READS, PROPERTIES, PROPERTIES, ACRS, ACRS,
    SIGNS, FETCHES, FETCHES, DATA, OTHERS.filter(lambda raw: raw[1] not in (0x20, 0x24)),
    st.binary(min_size=1, max_size=12).filter(lambda raw: raw[1:2] not in (b"\x20", b"\x24")),
)  # fmt: skip
GENERATED = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
PLAIN_SELECT = st.sampled_from(APPLETS).map(lambda aid: select(aid))


def select(aid: str) -> bytes:
    raw = bytes.fromhex(aid)
    return bytes.fromhex("00 A4 04 00") + bytes((len(raw),)) + raw


@settings(GENERATED, max_examples=400)
@given(st.booleans(), PLAIN_SELECT, st.lists(COMMANDS, min_size=4, max_size=14))
def test_generated(
    libcacard: Libcacard, ours: Driver, logged_in: bool, first: bytes, commands: list[bytes]
) -> None:
    verify = [bytes.fromhex("00 20 00 00 08") + PIN] if logged_in else []
    exchange(libcacard, ours, [*verify, first, *commands], Conversation())


@settings(GENERATED, max_examples=300)
@given(PLAIN_SELECT, st.integers(0, 255), COMMANDS)
@example(first=select(PKI0), cla=0x10, raw=bytes.fromhex("00 C0 00 00"))
@example(first=select(PKI0), cla=0x90, raw=bytes.fromhex("00 C0 00 00 00"))
def test_generated_class(
    libcacard: Libcacard, ours: Driver, first: bytes, cla: int, raw: bytes
) -> None:
    """Every class byte, one command behind a SELECT: a channel or a chain parts the cards."""
    exchange(libcacard, ours, [first, bytes((cla,)) + raw[1:]], Conversation())
    exchange(libcacard, ours, [bytes((cla,)) + raw[1:]], Conversation())


VERIFIES = command(
    fixed("20 00 00", "20 00 00", "20 01 00", "20 00 80"),
    st.sampled_from([b"", b"", PIN, PIN, PIN + b"\xff\xff", PIN[:-1], b"\xff" * 8]),
)


@settings(GENERATED, max_examples=60)
@given(st.lists(VERIFIES | SIGNS | FETCHES, max_size=5))
def test_generated_verify(libcacard: Libcacard, ours: Driver, commands: list[bytes]) -> None:
    wrong = 0
    kept = [select(PKI0)]
    for raw in commands:
        wrong += raw[1:4] == b"\x20\x00\x00" and len(raw) > 7 and PIN not in raw
        if wrong < 3:
            kept.append(raw)
    ours.run(ours.card.pin.reset())
    exchange(libcacard, ours, kept, Conversation())


def drained(card: Card, header: str) -> bytes:
    """The whole of what a command without Le tells."""
    answer = card.transmit(bytes.fromhex(header))
    data = b""
    while answer[-2] == 0x61:
        answer = card.transmit(bytes.fromhex("00 C0 00 00") + answer[-1:])
        data += answer[:-2]
    assert answer[-2:] == status.SUCCESS
    return data


class Theirs:
    """libcacard alone, as a card."""

    def __init__(self, libcacard: Libcacard) -> None:
        self._libcacard = libcacard

    def power_on(self) -> bytes:
        return self._libcacard.transmit([POWER_ON])[0]

    def transmit(self, command: bytes) -> bytes:
        return self._libcacard.transmit([command])[0]


@pytest.mark.parametrize("aid", [*APPLETS[:8], *EMPTY])
@pytest.mark.parametrize("form", ["01", "40"])
def test_object_properties(libcacard: Libcacard, ours: Driver, aid: str, form: str) -> None:
    """All that differs in the properties is how often tag 26 stands in an object."""

    def without_26(data: bytes) -> list[tuple[int, object]]:
        return [
            (tag, [i for i in simple_tlv(value) if i[0] != 0x26] if tag in (0x50, 0x51) else value)
            for tag, value in simple_tlv(data)
        ]

    told = []
    for card in (Theirs(libcacard), ours):
        card.power_on()
        card.transmit(select(aid))
        told.append(drained(card, f"80 56 {form} 00"))
    assert without_26(told[0]) == without_26(told[1])
    sizes = {len(value) for tag, value in simple_tlv(told[1]) if tag == 0x50}
    assert sizes <= ({0x0B} if aid == CCC else {0x11})


def test_access_control_tables(libcacard: Libcacard, ours: Driver) -> None:
    """libcacard's tables, mended, are ours."""

    def table(card: Card, kind: str) -> bytes:
        card.power_on()
        card.transmit(select(ACA))
        return drained(card, f"80 4C {kind} 00")

    theirs = Theirs(libcacard)
    # An extended rule's key: 06 09 02 00 1D kk 00. Its own comment has 02 and 04 there.
    rules = table(theirs, "40").replace(
        bytes.fromhex("0609 0200 1D01"), bytes.fromhex("0609 0200 1D02")
    )
    rules = rules.replace(bytes.fromhex("060B 0200 1D00"), bytes.fromhex("060B 0200 1D04"))
    assert table(ours, "40") == rules
    # The CCC is applet 4F in the service table, and F4 here.
    records = table(theirs, "10").replace(b"\x80\x1a\xf4\x02", b"\x80\x1a\x4f\x02")
    assert table(ours, "10") == records
    assert table(ours, "50") == table(theirs, "50").replace(
        b"\x24\xf4\x02", b"\x24\x4f\x02"
    ).replace(b"\x18\xf4\x02", b"\x18\x4f\x02")
    # Service applets: the extended form has the AIDs that the plain one lacks.
    packed = table(theirs, "61")
    services = [
        (0x93, packed[i : i + 1] + b"\x92" + packed[i + 2 : i + 10])
        for i in range(0, len(packed), 10)
    ]
    assert simple_tlv(table(ours, "21"))[2:] == services
    assert simple_tlv(table(theirs, "21"))[:2] == simple_tlv(table(ours, "21"))[:2]
    packed = table(theirs, "60")
    providers = [
        (0x90, packed[i : i + 1] + b"\x92" + packed[i + 2 : i + 10])
        for i in range(0, len(packed), 14)
    ]
    assert simple_tlv(table(ours, "20"))[2:] == providers


def test_every_difference_is_written_down_and_met(libcacard: Libcacard, ours: Driver) -> None:
    """No difference is in the list for nothing, and the document has each of them."""
    both = Both(libcacard, ours, "ours")
    ours.run(ours.card.pin.reset())
    both.power_on()
    for raw in (
        "00 20 00 00 04 31 31 31 31", "00 20 00 00 00", "00 84 00 00 08", "00 24 00 00",
        "01 A4 04 00", f"00 A4 04 00 07 {PKI0}", "00 36 00 00 64", "00 42 00 00", "80 56 01 00",
        "00 52 00 00 02 01 02", "00 C0 00 00", f"00 A4 04 00 07 {ACA}", "80 4C 00 00 00",
        f"00 A4 04 00 07 {CCC}", "00 52 00 00 02 02 20 20",
    ):  # fmt: skip
        both.transmit(bytes.fromhex(raw))
    names = {name(difference) for difference in DIFFERENCES}
    assert both.conversation.seen == names
    headings = {
        line.removeprefix("## ") for line in DOCUMENT.read_text().splitlines() if line[:3] == "## "
    }
    assert names <= headings


def test_without_a_password(tmp_path: Path) -> None:
    """A database without one: libcacard's card has no PIN at all, ours has one of its own."""
    database = make_database(tmp_path / "db", "")
    with Libcacard(database) as libcacard:
        answers = libcacard.transmit(
            [POWER_ON, select(PKI0), bytes.fromhex("00 42 00 00 00 01 00") + bytes(256)]
        )
    assert answers[2] == status.bytes_available(256)
    assert "## card-without-pin" in DOCUMENT.read_text()
