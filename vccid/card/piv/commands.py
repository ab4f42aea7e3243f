# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands as types: what the standard forbids cannot be in one.

Each `parse` raises `Refused` with the status word of the first check that fails, in the order of
SP 800-73-5 part 2, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vccid.card.piv.algorithms import (
    CIPHER_KEYS,
    CURVES,
    RSA_BITS,
    Algorithm,
    asymmetric,
    symmetric,
)
from vccid.card.piv.data_model import BARE, DATA, MAX_OBJECT, is_storable
from vccid.card.piv.references import APPLICATION_PIN, CARD_MANAGEMENT, KEYS, PUK, PinPolicy
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import Command

#: Reference data on the wire: 8 bytes, a PIN right-padded with FF (part 2, 2.4.3).
REFERENCE_SIZE: Final = 8

_TAG_LIST: Final = 0x5C
_DYNAMIC_TEMPLATE: Final = 0x7C
_GENERATE_TEMPLATE: Final = 0xAC

#: Members of the dynamic authentication template (part 2, table 7).
WITNESS, CHALLENGE, RESPONSE, EXPONENTIATION = 0x80, 0x81, 0x82, 0x85
_MEMBERS: Final = frozenset((WITNESS, CHALLENGE, RESPONSE, EXPONENTIATION))

#: Yubico's members of GENERATE and IMPORT.
_PIN_POLICY, _TOUCH_POLICY = 0xAA, 0xAB
_MECHANISM, _PARAMETER = 0x80, 0x81
_TOUCH_NEVER, _TOUCH_ALWAYS = 1, 2


class Refused(Exception):
    """A command is answered with a status word and nothing else.

    Attributes:
        answer: the status word.
    """

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer.hex())
        self.answer = answer


@dataclass(frozen=True, slots=True)
class GetData:
    """GET DATA (part 2, 3.1.2)."""

    tag: int

    @classmethod
    def parse(cls, command: Command) -> GetData:
        """Take the tag list apart."""
        _require(command.p1 == 0x3F and command.p2 == 0xFF, status.INCORRECT_P1_P2)
        tag, value = _only(command.data)
        _require(tag == _TAG_LIST, status.INCORRECT_DATA)
        return cls(_named(value))


@dataclass(frozen=True, slots=True)
class PutData:
    """PUT DATA (part 2, 3.3.1).

    Attributes:
        tag: the object's.
        content: what is within its 53, or within its own tag; empty deletes it.
    """

    tag: int
    content: bytes

    @classmethod
    def parse(cls, command: Command) -> PutData:
        """Take the objects apart."""
        _require(command.p1 == 0x3F and command.p2 == 0xFF, status.INCORRECT_P1_P2)
        items = _all(command.data)
        if len(items) == 1 and items[0][0] in BARE:
            made = cls(*items[0])
        else:
            _require([tag for tag, _ in items] == [_TAG_LIST, DATA], status.INCORRECT_DATA)
            made = cls(_named(items[0][1]), items[1][1])
            _require(made.tag not in BARE, status.INCORRECT_DATA)
        _require(len(made.content) <= MAX_OBJECT, status.NOT_ENOUGH_MEMORY)
        return made


@dataclass(frozen=True, slots=True)
class QueryPin:
    """VERIFY without data: how things stand."""


@dataclass(frozen=True, slots=True)
class ForgetPin:
    """VERIFY with P1 = FF: no longer verified."""


@dataclass(frozen=True, slots=True)
class VerifyPin:
    """VERIFY with data.

    Attributes:
        pin: without its padding; what is malformed is some PIN that no card has.
    """

    pin: bytes = field(repr=False)


def parse_verify(command: Command) -> QueryPin | ForgetPin | VerifyPin:
    """VERIFY (part 2, 3.2.1): P1, then data; the key reference was looked at."""
    _require(command.p1 in (0x00, 0xFF), status.INCORRECT_P1_P2)
    if command.p1 == 0xFF:
        _require(not command.data, status.INCORRECT_DATA)
        return ForgetPin()
    return VerifyPin(_candidate(command.data)) if command.data else QueryPin()


@dataclass(frozen=True, slots=True)
class ChangeReference:
    """CHANGE REFERENCE DATA (part 2, 3.2.2).

    Attributes:
        reference: the PIN's or the PUK's.
        old: what it is, as it is compared.
        new: what it is to be; a PIN without its padding, or a PUK's 8 bytes.
    """

    reference: int
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)

    @classmethod
    def parse(cls, command: Command) -> ChangeReference:
        """Take old and new apart."""
        reference, data = command.p2, command.data
        _require(reference in (APPLICATION_PIN, PUK), status.REFERENCED_DATA_NOT_FOUND)
        _require(command.p1 == 0x00, status.INCORRECT_P1_P2)
        _require(len(data) == 2 * REFERENCE_SIZE, status.INCORRECT_DATA)
        old, new = data[:REFERENCE_SIZE], data[REFERENCE_SIZE:]
        if reference == PUK:
            return cls(reference, old, new)
        return cls(reference, _candidate(old), _candidate(new))


@dataclass(frozen=True, slots=True)
class ResetRetryCounter:
    """RESET RETRY COUNTER (part 2, 3.2.3)."""

    puk: bytes = field(repr=False)
    new_pin: bytes = field(repr=False)

    @classmethod
    def parse(cls, command: Command) -> ResetRetryCounter:
        """Take PUK and new PIN apart."""
        _require(command.p2 == APPLICATION_PIN, status.REFERENCED_DATA_NOT_FOUND)
        _require(command.p1 == 0x00, status.INCORRECT_P1_P2)
        _require(len(command.data) == 2 * REFERENCE_SIZE, status.INCORRECT_DATA)
        return cls(command.data[:REFERENCE_SIZE], _candidate(command.data[REFERENCE_SIZE:]))


@dataclass(frozen=True, slots=True)
class GeneralAuthenticate:
    """GENERAL AUTHENTICATE (part 2, 3.2.4).

    Attributes:
        algorithm: P1.
        reference: P2.
        data: the template, not looked at before the key and its rule.
    """

    algorithm: Algorithm
    reference: int
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, command: Command) -> GeneralAuthenticate:
        """Take P1 and P2 apart."""
        reference = command.p2
        _require(reference in KEYS or reference == CARD_MANAGEMENT, status.INCORRECT_P1_P2)
        known = symmetric if reference == CARD_MANAGEMENT else asymmetric
        algorithm = known(command.p1)
        if algorithm is None:
            raise Refused(status.INCORRECT_P1_P2)
        return cls(algorithm, reference, command.data)

    def members(self) -> dict[int, bytes]:
        """The template's members, each once; an empty one is asked for.

        Raises:
            Refused: it is no template of this command's.
        """
        return template_members(self.data)


def template_members(data: bytes) -> dict[int, bytes]:
    """The members of a dynamic authentication template, each once.

    Raises:
        Refused: it is none.
    """
    tag, value = _only(data)
    _require(tag == _DYNAMIC_TEMPLATE, status.INCORRECT_DATA)
    members = _once(_all(value))
    _require(bool(members) and members.keys() <= _MEMBERS, status.INCORRECT_DATA)
    return members


@dataclass(frozen=True, slots=True)
class Policies:
    """What a new key is to want; None is the key reference's own rule."""

    pin: PinPolicy | None = None
    touch: int = 1


@dataclass(frozen=True, slots=True)
class Generate:
    """GENERATE ASYMMETRIC KEY PAIR (part 2, 3.3.2), with Yubico's policies."""

    reference: int
    algorithm: Algorithm
    policies: Policies

    @classmethod
    def parse(cls, command: Command) -> Generate:
        """Take the template apart."""
        _require(command.p1 == 0x00 and command.p2 in KEYS, status.INCORRECT_P1_P2)
        tag, value = _only(command.data)
        _require(tag == _GENERATE_TEMPLATE, status.INCORRECT_DATA)
        members = _once(_all(value))
        mechanism = members.pop(_MECHANISM, b"")
        algorithm = asymmetric(mechanism[0]) if len(mechanism) == 1 else None
        exponent = members.pop(_PARAMETER, b"")
        _require(exponent in (b"", b"\x01\x00\x01"), status.INCORRECT_DATA)
        if algorithm is None:
            raise Refused(status.INCORRECT_DATA)
        return cls(command.p2, algorithm, _policies(members))


@dataclass(frozen=True, slots=True)
class ImportKey:
    """Yubico's IMPORT ASYMMETRIC KEY: `parts` are p and q, or one scalar."""

    reference: int
    algorithm: Algorithm
    parts: tuple[bytes, ...] = field(repr=False)
    policies: Policies = field(default_factory=Policies)

    @classmethod
    def parse(cls, command: Command) -> ImportKey:
        """Take the key's parts apart."""
        algorithm = asymmetric(command.p1)
        if algorithm is None or command.p2 not in KEYS:
            raise Refused(status.INCORRECT_P1_P2)
        members = _once(_all(command.data))
        if algorithm in RSA_BITS:
            half = RSA_BITS[algorithm] // 16
            parts = tuple(members.pop(tag, b"") for tag in range(1, 6))
            _require(all(0 < len(part) <= half for part in parts), status.INCORRECT_DATA)
            parts = parts[:2]
        else:
            parts = (members.pop(_SCALAR_TAGS[algorithm], b""),)
            _require(len(parts[0]) == CURVES[algorithm].size, status.INCORRECT_DATA)
        return cls(command.p2, algorithm, parts, _policies(members))


_SCALAR_TAGS: Final = {
    Algorithm.P_256: 0x06,
    Algorithm.P_384: 0x06,
    Algorithm.ED25519: 0x07,
    Algorithm.X25519: 0x08,
}


@dataclass(frozen=True, slots=True)
class SetManagementKey:
    """Yubico's SET MANAGEMENT KEY."""

    algorithm: Algorithm
    key: bytes = field(repr=False)
    touch: int = 1

    @classmethod
    def parse(cls, command: Command) -> SetManagementKey:
        """Take algorithm and key apart."""
        _require(command.p1 == 0xFF and command.p2 in (0xFE, 0xFF), status.INCORRECT_P1_P2)
        data = command.data
        algorithm = symmetric(data[0]) if len(data) > 3 and data[1] == CARD_MANAGEMENT else None
        if algorithm is None or data[2] != len(data) - 3:
            raise Refused(status.INCORRECT_DATA)
        _require(data[2] == CIPHER_KEYS[algorithm], status.INCORRECT_DATA)
        return cls(algorithm, data[3:], _TOUCH_ALWAYS if command.p2 == 0xFE else _TOUCH_NEVER)


def _require(held: bool, answer: bytes) -> None:
    if not held:
        raise Refused(answer)


def _candidate(field_: bytes) -> bytes:
    """A PIN without its padding. A malformed one stays one that no card has, and so counts.

    Part 2, 3.2.1 allows it; Yubico's reset, for one, blocks a PIN with eight FF.
    """
    return field_.rstrip(b"\xff") if len(field_) == REFERENCE_SIZE else b""


def _all(data: bytes) -> list[tuple[int, bytes]]:
    try:
        return list(ber.parse(data))
    except RemoteProtocolError:
        raise Refused(status.INCORRECT_DATA) from None


def _only(data: bytes) -> tuple[int, bytes]:
    items = _all(data)
    _require(len(items) == 1, status.INCORRECT_DATA)
    return items[0]


def _once(items: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    members: dict[int, bytes] = {}
    for tag, value in items:
        _require(tag not in members, status.INCORRECT_DATA)
        members[tag] = value
    return members


def _named(tag_bytes: bytes) -> int:
    tag = int.from_bytes(tag_bytes, "big")
    whole = tag_bytes in (b"\x7e", b"\x7f\x61") or len(tag_bytes) == 3
    _require(whole and is_storable(tag), status.INCORRECT_DATA if not whole else status.NOT_FOUND)
    return tag


def _policies(members: dict[int, bytes]) -> Policies:
    """What is left of a new key's members; 0 stands for the default."""
    pin, touch = members.pop(_PIN_POLICY, b"\0"), members.pop(_TOUCH_POLICY, b"\0")
    _require(not members and len(pin) == len(touch) == 1, status.INCORRECT_DATA)
    _require(pin[0] <= PinPolicy.ALWAYS and touch[0] <= 3, status.INCORRECT_DATA)
    return Policies(PinPolicy(pin[0]) if pin[0] else None, touch[0] or 1)
