# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIN structures (CCID rev 1.1, 6.1.11; PC/SC part 10) and the templates they complete."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vccid.ccid.messages import Refused
from vccid.ccid.pin_entry import PinFormat, PinOperation, PinRequest
from vccid.errors import RemoteProtocolError

TEMPLATE = bytes.fromhex("00200000" "08" "FFFFFFFFFFFFFFFF")
VERIFY = (
    bytes.fromhex(
        "00"  # bPINOperation: verify
        "1E"  # bTimeOut: 30 s
        "82"  # bmFormatString: bytes, position 0, left, ASCII
        "08"  # bmPINBlockString: no length field, block of 8 bytes
        "00"  # bmPINLengthFormat
        "0804"  # wPINMaxExtraDigit: 4 to 8
        "02"  # bEntryValidationCondition: key
        "00"  # bNumberMessage
        "0000"  # wLangId
        "00"  # bMsgIndex
        "000000"  # bTeoPrologue
    )
    + TEMPLATE
)
CHANGE = bytes.fromhex("00240000" "10" + "FF" * 16)
MODIFY = (
    bytes.fromhex(
        "01"  # bPINOperation: modify
        "00"  # bTimeOut: the reader's own
        "02"  # bmFormatString: bits, position 0, left, ASCII
        "08"  # bmPINBlockString
        "00"  # bmPINLengthFormat
        "00"  # bInsertionOffsetOld
        "08"  # bInsertionOffsetNew
        "0804"  # wPINMaxExtraDigit
        "03"  # bConfirmPIN: ask the current one, and the new one twice
        "02"  # bEntryValidationCondition
        "00"  # bNumberMessage: so no bMsgIndex2 and 3
        "0000"  # wLangId
        "00"  # bMsgIndex1
        "000000"  # bTeoPrologue
    )
    + CHANGE
)


def changed(raw: bytes, change: dict[int, int]) -> bytes:
    """With other bytes at some places, counted from bPINOperation."""
    other = bytearray(raw)
    for at, value in change.items():
        other[at] = value
    return bytes(other)


def test_verification() -> None:
    request = PinRequest.parse(VERIFY)
    assert request.operation is PinOperation.VERIFY
    assert (request.timeout, request.minimum, request.maximum) == (30, 4, 8)
    assert request.prompts == ("current",)
    assert request.complete(["123456"]) == bytes.fromhex("00200000" "08" "313233343536FFFF")


def test_modification() -> None:
    request = PinRequest.parse(MODIFY)
    assert request.prompts == ("current", "new", "confirm")
    assert request.complete(["123456", "654321", "654321"]) == bytes.fromhex(
        "00240000" "10" "313233343536FFFF" "363534333231FFFF"
    )
    assert request.complete(["123456", "654321", "654320"]) is None


@pytest.mark.parametrize(
    ("messages", "indices"),
    [
        ("00", 0),
        ("01", 1),
        ("02", 1),
        ("03", 2),
        ("FF", 1),  # as 6.1.11.7 has it
        ("FF", 2),  # as libccid sends it
        ("00", 2),  # as libccid sends it to a GemPC PinPad
        ("01", 2),
        ("02", 2),
    ],
)
@pytest.mark.parametrize("is_block", [False, True])
@pytest.mark.parametrize(
    "template",
    [
        CHANGE.hex(),
        "00240000",
        "00240081",
        "00240100" "10",
        "00240000" "10" + "FF" * 16 + "00",
        "80240000" "02" "0102",
    ],
)  # fmt: skip
def test_the_template_moves_with_the_number_of_messages(
    messages: str, indices: int, is_block: bool, template: str
) -> None:
    length = len(template) // 2
    prologue = bytes((0, 0x40, length)) if is_block else bytes(3)
    raw = MODIFY[:11] + bytes.fromhex(messages) + MODIFY[12:15] + bytes(range(1, 1 + indices))
    request = PinRequest.parse(raw + prologue + bytes.fromhex(template))
    assert request.template.hex() == template.lower()
    assert request.prologue == prologue


def test_a_template_that_tells_nothing_of_the_default_number_of_messages() -> None:
    raw = MODIFY[:11] + b"\xff" + MODIFY[12:15] + bytes(1 + 3)
    with pytest.raises(Refused) as refused:
        PinRequest.parse(raw + bytes.fromhex("00240000" "08" "FFFF"))
    assert refused.value.error == 0x15


@pytest.mark.parametrize(
    ("confirm", "prompts"),
    [(0, ("new",)), (1, ("new", "confirm")), (2, ("current", "new"))],
)
def test_what_is_asked(confirm: int, prompts: tuple[str, ...]) -> None:
    request = PinRequest.parse(MODIFY[:9] + bytes((confirm,)) + MODIFY[10:])
    assert request.prompts == prompts


def test_part10_structures_hold_the_same() -> None:
    verify = (
        bytes.fromhex(
            "1E"  # bTimerOut
            "1E"  # bTimerOut2
            "82"  # bmFormatString
            "08"  # bmPINBlockString
            "00"  # bmPINLengthFormat
            "0804"  # wPINMaxExtraDigit
            "02"  # bEntryValidationCondition
            "00"  # bNumberMessage
            "0000"  # wLangId
            "00"  # bMsgIndex
            "000000"  # bTeoPrologue
            "0D000000"  # ulDataLength
        )
        + TEMPLATE
    )
    assert PinRequest.parse_part10(PinOperation.VERIFY, verify) == PinRequest.parse(VERIFY)
    swapped = verify[:5] + b"\x04\x08" + verify[7:15] + b"\x00\x00\x00\x0d" + TEMPLATE
    assert PinRequest.parse_part10(PinOperation.VERIFY, swapped) == PinRequest.parse(VERIFY)
    modify = (
        bytes.fromhex(
            "00"  # bTimerOut
            "00"  # bTimerOut2
            "02"  # bmFormatString
            "08"  # bmPINBlockString
            "00"  # bmPINLengthFormat
            "00"  # bInsertionOffsetOld
            "08"  # bInsertionOffsetNew
            "0804"  # wPINMaxExtraDigit
            "03"  # bConfirmPIN
            "02"  # bEntryValidationCondition
            "00"  # bNumberMessage
            "0000"  # wLangId
            "000102"  # bMsgIndex1 to 3
            "000000"  # bTeoPrologue
            "15000000"  # ulDataLength
        )
        + CHANGE
    )
    assert PinRequest.parse_part10(PinOperation.MODIFY, modify) == PinRequest.parse(MODIFY)
    swapped = modify[:7] + b"\x04\x08" + modify[9:20] + b"\x00\x00\x00\x15" + CHANGE
    assert PinRequest.parse_part10(PinOperation.MODIFY, swapped) == PinRequest.parse(MODIFY)
    for broken in (modify[:-1], verify, b"", modify[:24], modify[:20] + b"\xff" * 4 + CHANGE):
        with pytest.raises(RemoteProtocolError):
            PinRequest.parse_part10(PinOperation.MODIFY, broken)


@pytest.mark.parametrize("change", [{7: 1}, {7: 7}, {8: 1}, {8: 0xFF}])
def test_conditions_and_messages_there_are(change: dict[int, int]) -> None:
    assert PinRequest.parse(changed(VERIFY, change)) == PinRequest.parse(VERIFY)


@pytest.mark.parametrize(
    ("raw", "change", "error"),
    [
        (VERIFY, {0: 7}, 0x0A),  # no such bPINOperation
        (VERIFY, {0: 4}, 0x00),  # not offered
        (VERIFY, {2: 0x83}, 0x0C),  # no such encoding
        (VERIFY, {5: 3}, 0x0F),  # at least 4, at most 3
        (VERIFY, {7: 0}, 0x11),  # bEntryValidationCondition
        (VERIFY, {7: 8}, 0x11),
        (VERIFY, {8: 2}, 0x12),  # bNumberMessage
        (VERIFY, {19: 0}, 0x01),  # Lc 0 with data: extended
        (VERIFY, {19: 6}, 0x01),  # two bytes behind the data
        (MODIFY, {9: 4}, 0x13),  # bConfirmPIN
        (MODIFY, {10: 0}, 0x14),  # bEntryValidationCondition
        (MODIFY, {10: 8}, 0x14),
        (MODIFY, {11: 4}, 0x15),  # bNumberMessage
        (MODIFY, {11: 0xFE}, 0x15),
    ],
)
def test_what_is_refused(raw: bytes, change: dict[int, int], error: int) -> None:
    with pytest.raises(Refused) as refused:
        PinRequest.parse(changed(raw, change))
    assert refused.value.error == error


@pytest.mark.parametrize(
    ("change", "maximum"),
    [
        ({5: 10}, 8),  # eight bytes of ASCII
        ({5: 18, 2: 0x81}, 16),  # eight bytes of BCD
        ({3: 0x04, 2: 0x86}, 4),  # right-justified in four bytes
        ({3: 0x48, 2: 0x81, 5: 18}, 15),  # BCD behind a length field of four bits
        ({3: 0x30, 2: 0x89}, 7),  # no block, a length field of three bits
        ({3: 0x00, 5: 99}, 99),
    ],
)
def test_no_more_digits_than_block_and_length_field_hold(
    change: dict[int, int], maximum: int
) -> None:
    assert PinRequest.parse(changed(VERIFY, change)).maximum == maximum


@pytest.mark.parametrize(
    ("raw", "change", "error"),
    [
        (VERIFY, {3: 0x03}, 0x0F),  # at least 4 in three bytes
        (VERIFY, {3: 0x28}, 0x0F),  # at least 4 in two bits
        (MODIFY, {3: 0x03}, 0x11),
        (MODIFY, {6: 0xFF}, 0x11),  # the new PIN behind the longest data field
    ],
)
def test_a_minimum_that_does_not_fit(raw: bytes, change: dict[int, int], error: int) -> None:
    with pytest.raises(Refused) as refused:
        PinRequest.parse(changed(raw, change))
    assert refused.value.error == error


def test_the_new_pin_does_not_touch_the_current_one() -> None:
    request = PinRequest.parse(changed(MODIFY, {7: 10, 9: 2}))
    assert request.maximum == 8
    assert request.complete(["1" * request.maximum, "2222"]) == bytes.fromhex(
        "00240000" "10" "3131313131313131" "32323232FFFFFFFF"
    )


@pytest.mark.parametrize("template", ["00240000", "00240000" "10"])
@pytest.mark.parametrize("confirm", [0, 1, 2, 3])
def test_a_template_without_data_gets_whole_blocks(template: str, confirm: int) -> None:
    raw = changed(MODIFY, {9: confirm})[: -len(CHANGE)] + bytes.fromhex(template)
    request = PinRequest.parse(raw)
    current = "31323334" if confirm & 2 else "FFFFFFFF"
    pins = ["1234" if prompt == "current" else "4321" for prompt in request.prompts]
    assert request.complete(pins) == bytes.fromhex(
        "00240000" "10" + current + "FFFFFFFF" "34333231" "FFFFFFFF"
    )


def test_an_offset_that_is_not_asked_for_may_be_anything() -> None:
    assert PinRequest.parse(changed(MODIFY, {5: 0xFF, 9: 1})).prompts == ("new", "confirm")
    with pytest.raises(Refused):
        PinRequest.parse(changed(MODIFY, {5: 0xFF, 9: 2}))


#: Templates with data and perhaps Le.
TEMPLATES = st.tuples(st.binary(min_size=1, max_size=255), st.binary(max_size=1)).map(
    lambda parts: bytes.fromhex("00200000") + bytes((len(parts[0]),)) + b"".join(parts)
)


@settings(deadline=None)
@given(st.sampled_from(PinOperation), st.binary(min_size=20, max_size=20), st.data())
def test_whatever_a_program_asks_for_becomes_a_short_command(
    operation: PinOperation, head: bytes, data: st.DataObject
) -> None:
    """bTimerOut to bTeoPrologue are any bytes; what is accepted can be typed and sent."""
    template = data.draw(st.one_of(st.binary(min_size=4, max_size=300), TEMPLATES))
    size = 15 if operation is PinOperation.VERIFY else 20
    raw = head[:size] + len(template).to_bytes(4, "little") + template
    try:
        request = PinRequest.parse_part10(operation, raw)
    except RemoteProtocolError:
        return
    pins = ["0" * data.draw(st.sampled_from((request.minimum, request.maximum)))]
    command = request.complete(pins * len(request.prompts))
    assert command is not None
    assert command[:4] == template[:4]
    assert len(command) - 5 - command[4] == (len(template) > 5 and len(template) - 5 > template[4])


@pytest.mark.parametrize("raw", [VERIFY[:10], VERIFY[:18], MODIFY[:13], MODIFY[:21]])
def test_a_short_structure(raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        PinRequest.parse(raw)
    assert refused.value.error == 0x01


@pytest.mark.parametrize(
    ("name", "form", "template", "pin", "command"),
    [
        # The standard's own example: 4 bits of length behind a 2h, BCD from byte 1 on.
        ("length and BCD", (0x89, 0x47, 0x04), "00200000" "08" "20FFFFFFFFFFFFFF", "12345",
         "00200000" "08" "2512345FFFFFFFFF"),
        ("global platform", (0x41, 0x48, 0x04), "00200000" "08" "20FFFFFFFFFFFFFF", "1234",
         "00200000" "08" "241234FFFFFFFFFF"),
        ("binary", (0x80, 0x04, 0x00), "00200000" "04" "FFFFFFFF", "1234",
         "00200000" "04" "01020304"),
        ("right justified", (0x86, 0x08, 0x00), "00200000" "08" "0000000000000000", "1234",
         "00200000" "08" "0000000031323334"),
        ("no data, no block", (0x82, 0x00, 0x00), "00200000", "1234",
         "00200000" "04" "31323334"),
        ("no data, a block", (0x82, 0x08, 0x00), "00200000", "1234",
         "00200000" "08" "31323334FFFFFFFF"),
        ("Lc but no data", (0x82, 0x08, 0x00), "00200000" "08", "1234",
         "00200000" "08" "31323334FFFFFFFF"),
        ("Le", (0x82, 0x08, 0x00), "00200000" "08" "FFFFFFFFFFFFFFFF" "00", "1234",
         "00200000" "08" "31323334FFFFFFFF" "00"),
        ("too little data", (0x82, 0x00, 0x00), "00200000" "02" "FFFF", "1234",
         "00200000" "04" "31323334"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)  # fmt: skip
def test_how_digits_are_laid(
    name: str, form: tuple[int, int, int], template: str, pin: str, command: str
) -> None:
    request = PinRequest(
        PinOperation.VERIFY, 0, PinFormat.parse(*form), 1, 8, ("current",), (0,),
        bytes.fromhex(template),
    )  # fmt: skip
    completed = request.complete([pin])
    assert completed is not None
    assert completed.hex() == bytes.fromhex(command).hex()
