# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon and a worker say: whole, byte by byte, and from a peer that means harm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vccid.errors import (
    KeyOperationError,
    LoginLost,
    RemoteProtocolError,
    TokenGone,
    VccidError,
    WrongPassword,
)
from vccid.keys.pkcs11_module import Pkcs11Error
from vccid.keys.token_nouns import KeyClue
from vccid.keys.worker.messages import (
    ERRORS,
    MAX_MESSAGE,
    FrameReader,
    State,
    Verb,
    error_reply,
    frame,
    pack_clue,
    read_clue,
    read_reply,
    read_request,
    reply,
    request,
    sentence,
)

LOGIN = bytes.fromhex(
    "0000000B"  # length of the message
    "05"  # LOGIN
    "00000006"  # length of the PIN
    "313233343536"
)
GIVEN = bytes.fromhex(
    "0000000A"  # length of the message
    "00"  # no error
    "03"  # needs a login, and has it
    "02"  # tries left
    "00000003"  # length of the field
    "616263"
)
WRONG = bytes.fromhex(
    "00000014"  # length of the message
    "07"  # WrongPassword
    "01"  # needs a login
    "FF"  # tries are not told
    "00000002"  # length of the message
    "6E6F"
    "00000002"  # length of the hint
    "3A29"
    "00000001"  # length of the number
    "01"  # tries left
)


def fed(data: bytes, step: int) -> bytes | None:
    reader = FrameReader()
    got = None
    for at in range(0, len(data), step):
        assert got is None
        got = reader.feed(data[at : at + step])
    return got


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_bytes(step: int) -> None:
    assert frame(request(Verb.LOGIN, b"123456")) == LOGIN
    message = fed(LOGIN, step)
    assert message is not None
    assert read_request(message) == (Verb.LOGIN, (b"123456",))

    state = State(login_required=True, logged_in=True, tries_left=2)
    assert frame(reply(state, b"abc")) == GIVEN
    message = fed(GIVEN, step)
    assert message is not None
    assert (read_reply(message).state, read_reply(message).fields) == (state, (b"abc",))

    error = WrongPassword("no", ":)", 1)
    assert frame(error_reply(State(login_required=True), error)) == WRONG
    message = fed(WRONG, step)
    assert message is not None
    read = read_reply(message).error
    assert isinstance(read, WrongPassword)
    assert (read.message, read.hint, read.tries_left) == ("no", ":)", 1)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)), st.sampled_from(Verb), st.integers(1, 400))
def test_any_fields(fields: list[bytes], verb: Verb, step: int) -> None:
    message = fed(frame(request(verb, *fields)), step)
    assert message is not None
    assert read_request(message) == (verb, tuple(fields))


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not WrongPassword])
def test_every_error(kind: type[VccidError]) -> None:
    read = read_reply(error_reply(State(), kind("what", "way out"))).error
    assert type(read) is kind
    assert (read.message, read.hint) == ("what", "way out")


def test_an_error_that_does_not_cross_is_its_base() -> None:
    read = read_reply(error_reply(State(), Pkcs11Error("C_Sign", 5))).error
    assert read is not None
    assert type(read).__name__ == "KeySourceError"
    assert read.message == "C_Sign answered GENERAL_ERROR (0x5)"
    assert issubclass(LoginLost, KeyOperationError) and TokenGone in ERRORS


@pytest.mark.parametrize(
    "data",
    [
        "FFFFFFFF",  # longer than any message
        (MAX_MESSAGE + 1).to_bytes(4, "big").hex(),
        "00000001 05 00",  # a byte behind it
        LOGIN.hex() + LOGIN.hex(),
    ],
)
def test_a_frame_that_is_none(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        FrameReader().feed(bytes.fromhex(data))


def test_nothing_is_held_for_what_is_only_announced() -> None:
    reader = FrameReader()
    assert reader.feed(MAX_MESSAGE.to_bytes(4, "big")) is None
    assert len(reader._buffer) == 4


@pytest.mark.parametrize(
    "message",
    [
        "",  # no verb
        "00",  # none such
        "7F",
        "05 00",  # a length cut off
        "05 00000006 3132",  # a field cut off
        "05 FFFFFFFF",
    ],
)
def test_a_request_that_is_none(message: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_request(bytes.fromhex(message))


@pytest.mark.parametrize(
    "message",
    [
        "",
        "00 00",  # cut off
        "00 00 FF 000000",  # a length cut off
        "00 00 FF 00000001",  # a field cut off
        "63 00 FF",  # an error nobody knows
        "07 00 FF",  # one without its texts
        "07 00 FF 00000000 00000000 00000000",  # a number of no bytes
    ],
)
def test_a_reply_that_is_none(message: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_reply(bytes.fromhex(message))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_comes(data: bytes) -> None:
    for read in (read_request, read_reply, FrameReader().feed):
        try:
            read(data)
        except RemoteProtocolError as error:
            assert error.message


@settings(deadline=None)
@given(st.binary(max_size=6000))
def test_a_sentence_is_one_line(field: bytes) -> None:
    said = sentence(field)
    assert len(said.splitlines()) <= 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in said)
    assert len(said) <= 4096


def test_a_clue() -> None:
    rest = b"\1", b"\2" * 256, b"\3"
    clue = KeyClue("nickname \u00e4\udcff", *rest)
    assert read_clue(pack_clue(clue)) == KeyClue("nickname \u00e4?", *rest)
    for damaged in (b"", pack_clue(clue)[:-1], pack_clue(clue) * 2):
        with pytest.raises(RemoteProtocolError):
            read_clue(damaged)
