# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host may do next to a blank PIV card: commands drawn from a model of it, most of them apt.

for raw in next_move(model, dice):
    model.judge(raw, card(raw))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.card.piv.host import MANAGEMENT_KEY, Host, ecb, encode, encrypt
from tests.unit.card.piv.model import MADE_BY_THE_CARD, Counter, Model

PIN: Final = b"654321\xff\xff"
PUK: Final = b"12345678"

_TAGS: Final = (
    0x5FC105, 0x5FC10A, 0x5FC101, 0x5FC109, 0x5FC103, 0x5FC102, 0x5FC107, 0x7E, 0x7F61, 0x5FFF00,
    0x5FC10C, 0x60C101,
)  # fmt: skip
_SLOTS: Final = (0x9A, 0x9C, 0x9D, 0x9E, 0x82, 0x95, 0x04, 0x9B, 0x81)
_POINT: Final = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_bytes(
    Encoding.X962, PublicFormat.UncompressedPoint
)  # fmt: skip


class Dice(Protocol):
    """Where chance comes from."""

    def below(self, count: int) -> int:
        """0 to count - 1."""

    def some(self, most: int) -> bytes:
        """At most so many bytes."""


def model_of(host: Host) -> Model:
    """A model of a blank card as `piv_card` makes it."""
    return Model(Counter(PIN), Counter(PUK), dict(host.card.memory.contents.objects))


def next_move(model: Model, dice: Dice) -> list[bytes]:
    """One command, or the parts of a chained one; the last may be missing."""
    header, body = _MOVES[dice.below(len(_MOVES))](model, dice)
    if dice.below(12) == 0:
        body = _spoilt(body, dice)
    if dice.below(24) == 0:
        header = bytes((header[0], header[1], dice.below(256), header[3]))
    if dice.below(40) == 0:
        header = bytes((dice.below(256),)) + header[1:]
    return _framed(header, body, dice)


def _framed(header: bytes, body: bytes, dice: Dice) -> list[bytes]:
    """Short and whole, extended, or in parts of any size."""
    shape = dice.below(4)
    if shape == 0 and body:
        return [header + b"\0" + len(body).to_bytes(2, "big") + body + b"\0\0"]
    if shape > 1 and len(body) <= 255:
        return [header + (bytes((len(body),)) + body if body else b"") + b"\0"]
    parts = []
    while len(body) > 255 or (len(body) > 1 and dice.below(2)):
        size = 255 if len(body) > 1024 else 1 + dice.below(min(255, len(body)))
        chained = bytes((header[0] | 0x10,)) + header[1:]
        parts.append(chained + bytes((size,)) + body[:size])
        body = body[size:]
    if parts and dice.below(10) == 0:
        return parts  # broken off
    return [*parts, header + (bytes((len(body),)) + body if body else b"") + b"\0"]


def _spoilt(body: bytes, dice: Dice) -> bytes:
    """With a byte changed, left out, or more behind."""
    if not body:
        return dice.some(9)
    at, how = dice.below(len(body)), dice.below(4)
    if how == 0:
        return body[:at]
    if how == 1:
        return body + dice.some(4)
    return body[:at] + bytes((body[at] ^ (1 << dice.below(8)),)) + body[at + 1 :]


def _a_pin(model: Model, dice: Dice) -> bytes:
    return (model.pin.value, PIN, b"000000\xff\xff", b"1234567\xff", b"\xff" * 8, b"12\xff" * 3,
            b"abcdef\xff\xff")[dice.below(7)]  # fmt: skip


def _a_puk(model: Model, dice: Dice) -> bytes:
    return (model.puk.value, PUK, b"00000000", b"\xff" * 8)[dice.below(4)]


def _verify(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    reference = (0x80, 0x80, 0x80, 0x80, 0x81, 0x00, 0x96)[dice.below(7)]
    if dice.below(3) == 0:
        return bytes((0, 0x20, (0, 0xFF)[dice.below(2)], reference)), b""
    return bytes((0, 0x20, 0, reference)), _a_pin(model, dice)


def _right_pin(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    return bytes.fromhex("00200080"), model.pin.value


def _change(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    if dice.below(2):
        return bytes.fromhex("00240080"), _a_pin(model, dice) + _a_pin(model, dice)
    return bytes.fromhex("00240081"), _a_puk(model, dice) + _a_puk(model, dice)


def _unblock(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    return bytes.fromhex("002C0080"), _a_puk(model, dice) + _a_pin(model, dice)


def _tag(dice: Dice) -> tuple[int, bytes]:
    tag = _TAGS[dice.below(len(_TAGS))]
    name = tag.to_bytes(3, "big").lstrip(b"\0")
    return tag, encode(0x5C, name)


def _get(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    tag, listed = _tag(dice)
    if tag in MADE_BY_THE_CARD and tag not in model.objects:
        listed = encode(0x5C, b"\x7e")
    return bytes.fromhex("00CB3FFF"), listed


def _put(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    tag, listed = _tag(dice)
    content = dice.some(40) * (1, 1, 1, 20)[dice.below(4)]
    if tag in (0x7E, 0x7F61):
        return bytes.fromhex("00DB3FFF"), encode(tag, content)
    return bytes.fromhex("00DB3FFF"), listed + encode(0x53, content)


def _select(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    aid = bytes.fromhex("A000000308000010000100")
    names = (aid, aid[:9], aid[:5], aid[:4], bytes.fromhex("A0000005272001"))
    return bytes.fromhex("00A40400"), names[dice.below(5)]


def _slot(dice: Dice) -> int:
    return _SLOTS[dice.below(len(_SLOTS))]


def _use(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    there = sorted(model.keys)
    slot = there[dice.below(len(there))] if there and dice.below(5) else _slot(dice)
    header = bytes((0, 0x87, 0x11 if dice.below(8) else 0x07, slot))
    asked, given = encode(0x82, b""), encode(0x81, dice.some(40))
    if dice.below(4) == 0:
        given = encode(0x85, _POINT)
    return header, encode(0x7C, given + asked if dice.below(2) else asked + given)


def _prove(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    """The next step of challenge and response, or a first one."""
    header, cipher = bytes((0, 0x87, (3, 0)[dice.below(2)], 0x9B)), ecb(3, MANAGEMENT_KEY)
    step = dice.below(5)
    if model.challenge and step:
        return header, encode(0x7C, encode(0x82, encrypt(cipher, model.challenge)))
    if model.witness and step:
        members = encode(0x80, model.witness) + encode(0x81, bytes(8))
        return header, encode(0x7C, members + (encode(0x82, b"") if step & 1 else b""))
    return header, encode(0x7C, encode((0x80, 0x81)[dice.below(2)], b""))


def _generate(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    policy = (b"", encode(0xAA, bytes((dice.below(5),))))[dice.below(2)]
    return bytes((0, 0x47, 0, _slot(dice))), encode(0xAC, encode(0x80, b"\x11") + policy)


def _get_response(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    return bytes.fromhex("00C00000"), b""


def _unknown(model: Model, dice: Dice) -> tuple[bytes, bytes]:
    known = (0x2D, 0x70, 0x84, 0xB0, 0xCA, 0xDA)
    return bytes((0, known[dice.below(len(known))], 0, 0)), dice.some(5)


_MOVES: Final[Sequence[Callable[[Any, Any], tuple[bytes, bytes]]]] = (
    _verify, _verify, _verify, _right_pin, _change, _unblock, _get, _get, _put, _put, _select,
    _use, _use, _use,
    _prove, _prove, _prove, _prove, _generate, _generate, _get_response, _unknown,
)  # fmt: skip
