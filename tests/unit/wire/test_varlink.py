# SPDX-License-Identifier: LGPL-2.1-or-later
"""Varlink's messages: whole, byte by byte, with more behind, and what is none."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid import errors, wire
from vccid.errors import RemoteProtocolError, VccidError
from vccid.wire.varlink import Call, Decoder, Parameters, Reply, service_error

_scalars = st.none() | st.booleans() | st.integers() | st.text()
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
parameters = st.dictionaries(st.text(), _values, max_size=4)
methods = st.from_regex(r"[a-z]+(\.[a-z]+){1,3}\.[A-Z][A-Za-z]*", fullmatch=True)
calls = st.builds(Call, methods, parameters, oneway=st.booleans(), more=st.just(False)) | st.builds(
    Call, methods, parameters, oneway=st.just(False), more=st.just(True)
)


def test_a_call_on_the_wire() -> None:
    call = Call("io.vccid.Remove", {"reader": "vccid0", "wait": 1.5})
    assert call.serialize() == (
        b'{"method":"io.vccid.Remove",' b'"parameters":{"reader":"vccid0","wait":1.5}}' b"\0"
    )


def test_a_reply_on_the_wire() -> None:
    reply = Reply({"event": None}, continues=True)
    assert reply.serialize() == b'{"parameters":{"event":null},"continues":true}\0'
    assert service_error("MethodNotFound", method="io.vccid.No").serialize() == (
        b'{"parameters":{"method":"io.vccid.No"},'
        b'"error":"org.varlink.service.MethodNotFound"}\0'
    )


@given(calls)
def test_a_call_comes_back(call: Call) -> None:
    assert Call.parse(call.serialize()[:-1]) == call
    assert call.method == f"{call.interface}.{call.member}"


@given(parameters, st.booleans(), methods | st.just(""))
def test_a_reply_comes_back(output: Parameters, continues: bool, error: str) -> None:
    reply = Reply(output, continues, error)
    assert Reply.parse(reply.serialize()[:-1]) == reply


@given(st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")), max_size=5),
       st.binary(max_size=5).map(lambda raw: raw.replace(b"\0", b"")),
       st.lists(st.integers(0, 120)))  # fmt: skip
def test_however_a_stream_is_cut(messages: list[bytes], rest: bytes, cuts: list[int]) -> None:
    stream = b"".join(message + b"\0" for message in messages) + rest
    whole = Decoder()
    assert whole.feed(stream) == messages
    assert whole.partial == bool(rest)

    single = Decoder()
    assert [m for i in range(len(stream)) for m in single.feed(stream[i : i + 1])] == messages

    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    parts = Decoder()
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert [m for piece in pieces for m in parts.feed(piece)] == messages


def test_the_longest_message_and_one_byte_more() -> None:
    assert Decoder(10).feed(b"x" * 10 + b"\0") == [b"x" * 10]
    for data in (b"x" * 11, b"x" * 11 + b"\0", b"\0" + b"x" * 11):
        with pytest.raises(RemoteProtocolError, match="longer than 10 bytes"):
            Decoder(10).feed(data)
    slow = Decoder(10)
    assert slow.feed(b"x" * 10) == []
    with pytest.raises(RemoteProtocolError):
        slow.feed(b"x")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"[]",
        b'"io.vccid.Status"',
        b"[" * 100_000,
        b"1" * 10_000,
        b"{}",
        b'{"method":"Status"}',
        b'{"method":7}',
        b'{"method":"io.vccid.Status","parameters":[]}',
        b'{"method":"io.vccid.Status","more":1}',
        b'{"method":"io.vccid.Status","more":true,"oneway":true}',
        b'{"method":"io.vccid.Status","upgrade":true}',
    ],
)
def test_what_is_no_call(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Call.parse(message)


@given(st.binary(max_size=60) | parameters.map(lambda value: json.dumps(value).encode()))
def test_anything_is_a_call_or_an_error(message: bytes) -> None:
    for kind in (Call, Reply):
        try:
            kind.parse(message)
        except RemoteProtocolError:
            continue


def test_an_error_tells_nothing_of_the_message() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Call.parse(b'{"method":"io.vccid.ResetPin","parameters":{"pin":"c2VjcmV0"},}')
    assert "c2VjcmV0" not in repr(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert "c2VjcmV0" not in repr(Call("io.vccid.ResetPin", {"pin": "c2VjcmV0"}))


def test_every_error_of_the_tree_is_declared_or_below_one_that_is() -> None:
    text = Path(wire.__path__[0], "io.vccid.varlink").read_text()
    declared = set(re.findall(r"^error (\w+)", text, re.MULTILINE)) - {"Failed"}
    tree = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, VccidError)
    }
    assert declared <= set(tree)
    # Those that never come out of a method: of the daemon's own start, of `vccid run`, of a
    # session with a card, and of the wire itself.
    assert set(tree) - declared - {"VccidError"} == {
        "DaemonRunning", "RunFailed", "CardMute", "LoginLost",
        "ProtocolError", "RemoteProtocolError", "LocalProtocolError",
    }  # fmt: skip
