# SPDX-License-Identifier: LGPL-2.1-or-later
"""The access control applet: which instruction on which object needs what (GSC-IS 2.1, 5.3.3.5).

All tables are those of a real card. They describe the card; what it enforces is what a card
without an issuer's keys can: a PIN before a private key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from vccid.card.cac.applet import AppletSession
from vccid.card.cac.card_capability import CCC_AID
from vccid.card.cac.containers import (
    ACA_AID,
    INS_READ_BUFFER,
    INS_UPDATE_BUFFER,
    RID_DOD,
    RID_GSC,
    CardObject,
    ContainerApplet,
    Properties,
)
from vccid.card.cac.pki import INS_SIGN_DECRYPT
from vccid.iso7816 import status, tlv
from vccid.iso7816.apdu import INS_GET_CHALLENGE, INS_VERIFY, Command

INS_GET_ACR: Final = 0x4C
_INS_EXTERNAL_AUTHENTICATE: Final = 0x82
_INS_READ_BINARY: Final = 0xB0

#: Leads every table but the extended ones: family 10, this applet's version.
_APPLET_INFORMATION: Final = (0x01, bytes.fromhex("1002060202"))

# Types of access control rules (table 3-2).
_ALWAYS, _NEVER, _EXTERNAL, _EXTERNAL_OR_PIN, _SECURE_CHANNEL, _PIN = 0, 1, 2, 3, 4, 6

# Access method providers; the ACA is each of them.
_PROVIDER_CHANNEL, _PROVIDER_PIN, _PROVIDER_EXTERNAL = 0x1F, 0x1E, 0x1D


class _Rule(NamedTuple):
    """An access control rule (table 5-15).

    Attributes:
        acrid: its number.
        kind: its type.
        applet: which provider it belongs to, told in the extended form alone.
        methods: provider and key or PIN, each.
    """

    acrid: int
    kind: int
    applet: int
    methods: tuple[tuple[int, int], ...] = ()


#: In a real card's order: 06 before 04. The keys of 09 and 0B are those of libcacard's own
#: comment; its table has others.
_RULES: Final = (
    _Rule(0x00, _ALWAYS, 0x00),
    _Rule(0x01, _NEVER, 0x00),
    _Rule(0x02, _ALWAYS, 0x1F),
    _Rule(0x06, _PIN, 0x00, ((_PROVIDER_PIN, 0x00),)),
    _Rule(0x04, _SECURE_CHANNEL, 0x1F, ((_PROVIDER_CHANNEL, 0x21),)),
    _Rule(0x08, _EXTERNAL_OR_PIN, 0x00, ((_PROVIDER_EXTERNAL, 0x01), (_PROVIDER_PIN, 0x01))),
    _Rule(0x09, _EXTERNAL, 0x00, ((_PROVIDER_EXTERNAL, 0x02),)),
    _Rule(0x0A, _EXTERNAL_OR_PIN, 0x00, ((_PROVIDER_EXTERNAL, 0x03), (_PROVIDER_PIN, 0x01))),
    _Rule(0x0B, _EXTERNAL, 0x00, ((_PROVIDER_EXTERNAL, 0x04),)),
    _Rule(0x10, _ALWAYS, 0x1E),
    _Rule(0x11, _ALWAYS, 0x1D),
)

#: (id, four bytes told in the extended form alone) of each provider (table 5-20).
_PROVIDERS: Final = (
    (_PROVIDER_CHANNEL, bytes.fromhex("12000000")),
    (_PROVIDER_PIN, bytes.fromhex("10010000")),
    (_PROVIDER_EXTERNAL, bytes.fromhex("01000000")),
)

#: Service applets but for the PKI applets before them (table 5-21). The CCC is 4F in every table,
#: or its rules could not be asked for by its AID; libcacard has F4 in one of them.
_SERVICES: Final = (
    (0x40, RID_GSC + b"\x30\x00"),
    (0x4F, CCC_AID),
    (0x4B, RID_DOD + b"\x02\xfb"),
    (0x41, RID_DOD + b"\x02\x00"),
    (0x42, RID_DOD + b"\x02\x01"),
    (0x4E, RID_DOD + b"\x02\xfe"),
    (0x4D, RID_DOD + b"\x02\xfd"),
    (0x50, RID_DOD + b"\x02\xf2"),
    (0x51, RID_DOD + b"\x02\xf0"),
    (0x52, RID_DOD + b"\x02\xf1"),
    (0x44, RID_DOD + b"\x12\x01"),
    (0x45, RID_DOD + b"\x12\x02"),
)
_FIRST_PKI_SERVICE: Final = 0x61

#: A rule on an instruction (table 5-16): INS, configuration, the byte it asks for, ACRID.
#: Configuration 01: a P1 follows; 04: a first data byte follows; 00: nothing.
_UPDATE_BY_ISSUER: Final = bytes((INS_UPDATE_BUFFER, 0x00, 0x04))
_UPDATE_BY_PIN: Final = bytes((INS_UPDATE_BUFFER, 0x00, 0x06))
_READ_ALWAYS: Final = bytes((INS_READ_BUFFER, 0x00, 0x00))
_READ_TAGS_ALWAYS: Final = bytes((INS_READ_BUFFER, 0x04, 0x01, 0x00))
_READ_BY_PIN: Final = bytes((INS_READ_BUFFER, 0x00, 0x06))
_SIGN_BY_PIN: Final = bytes((INS_SIGN_DECRYPT, 0x00, 0x06))
_VERIFY: Final = bytes((INS_VERIFY, 0x00, 0x10))

#: The applet itself, where an object's id is asked for.
_ITSELF: Final = b"\xff\xff"
_COMMON: Final = (
    bytes((_INS_EXTERNAL_AUTHENTICATE, 0x01, 0x00, 0x11)),
    bytes((INS_GET_CHALLENGE, 0x00, 0x11)),
    _VERIFY,
)

#: One object's rules: its id, then rules.
_ObjectRules = tuple[bytes, Sequence[bytes]]

_ISSUER_ONLY: Final = (_UPDATE_BY_ISSUER, _READ_ALWAYS)
_PIN_FOR_VALUES: Final = (_UPDATE_BY_PIN, _READ_TAGS_ALWAYS, _READ_BY_PIN)
_BIOMETRIC: Final = (_UPDATE_BY_ISSUER, _READ_TAGS_ALWAYS, _READ_BY_PIN)

#: Applet id and objects of what every card has; `_COMMON` for the applet itself is added.
_APPLETS: Final[tuple[tuple[int, tuple[_ObjectRules, ...]], ...]] = (
    (0x4F, ((b"\xdb\x00", _ISSUER_ONLY),)),
    (0x4B, ((b"\x02\xfb", (_UPDATE_BY_PIN, _READ_ALWAYS)),)),
    (0x41, ((b"\x02\x00", (bytes.fromhex("580009"), _READ_TAGS_ALWAYS, bytes.fromhex("520008"))),)),
    (0x42, ((b"\x02\x01", (bytes.fromhex("58000B"), _READ_TAGS_ALWAYS, bytes.fromhex("52000A"))),)),
    (
        0x40,
        (
            (b"\x30\x00", (*_ISSUER_ONLY, bytes((_INS_READ_BINARY, 0x00, 0x00)))),
            (b"\x60\x10", _BIOMETRIC),
            (b"\x60\x30", _BIOMETRIC),
            (b"\x90\x00", _ISSUER_ONLY),
        ),
    ),
    (0x4E, ((b"\x02\xfe", _ISSUER_ONLY),)),
    (0x4D, ((b"\x02\xfd", _PIN_FOR_VALUES),)),
)
#: Applets that have no objects: their rules are on themselves.
_BARE_APPLETS: Final = (0x50, 0x51, 0x52)
_LAST_APPLETS: Final[tuple[tuple[int, tuple[_ObjectRules, ...]], ...]] = (
    (0x44, ((b"\x12\x01", _PIN_FOR_VALUES),)),
    (0x45, ((b"\x12\x02", _PIN_FOR_VALUES),)),
)

#: What GET PROPERTIES' long form adds; its meaning is in no standard.
_LONG_PROPERTIES: Final = tuple(
    (int(tag, 16), bytes.fromhex(value))
    for tag, value in (
        ("23", "201100000000000000000058"),
        ("2A", "0200"),
        ("2B", "A000000079"),
        ("22", "000000DA01B403300000007000 51029D"),
        ("2C", "00"),
        ("20", "0801"),
        ("21", "0F"),
        ("32", "03030303"),
        ("30", "08"),
        ("31", "06080000"),
        ("24", "FF"),
        ("25", "0100"),
        ("26", "01"),
    )
)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What GET ACR answers to one P1.

    Attributes:
        by_data: the answer to each command data it takes.
        size: how long that data is.
        unknown: the answer to other data of that size.
    """

    by_data: Mapping[bytes, bytes]
    size: int = 0
    unknown: bytes = status.REFERENCED_DATA_NOT_FOUND


class AccessControlApplet(ContainerApplet):
    """The ACA of a card with so many PKI applets."""

    def __init__(self, pki_count: int) -> None:
        properties = Properties([_APPLET_INFORMATION], [_APPLET_INFORMATION, *_LONG_PROPERTIES])
        super().__init__(ACA_AID, [CardObject(ACA_AID[-2:])], properties)
        self._answers = _all_answers(pki_count)
        # It has properties and an object's id, and nothing to read.
        del self.handlers[INS_READ_BUFFER], self.handlers[INS_UPDATE_BUFFER]
        self.handlers[INS_GET_ACR] = self.get_acr

    def get_acr(self, session: AppletSession, command: Command) -> bytes:
        """GET ACR (GSC-IS 2.1, 5.3.3.5); P1 from 40 on asks for a packing real cards have."""
        if command.p2:
            return status.INCORRECT_P1_P2
        answers = self._answers.get(command.p1)
        if answers is None:
            return status.COMMAND_NOT_ALLOWED
        if len(command.data) != answers.size:
            return status.DATA_INVALID
        told = answers.by_data.get(command.data)
        return answers.unknown if told is None else told + status.SUCCESS


def _all_answers(pki_count: int) -> dict[int, _Answers]:
    services = [
        (_FIRST_PKI_SERVICE + index, RID_DOD + bytes((0x01, index))) for index in range(pki_count)
    ]
    services += _SERVICES
    applets = _applets(pki_count)
    objects = {oid: rules for _, held in reversed(applets) for oid, rules in reversed(held)}
    rules = _extended(_packed_rule(rule) for rule in _RULES)
    table = _extended(_packed_applet(applet, held) for applet, held in applets)
    records = {applet: (0x80, _applet_record(applet, held)) for applet, held in applets}
    return {
        0x00: _whole(0xA1, [(0xA0, _rule_record(rule)) for rule in _RULES]),
        0x01: _Answers(
            {bytes((rule.acrid,)): _table([(0xA0, _rule_record(rule))]) for rule in _RULES}, 1
        ),
        0x10: _whole(0x81, list(records.values())),
        0x11: _Answers({aid: _table([records[applet]]) for applet, aid in services}, 7),
        0x12: _Answers(
            {oid: _table([(0x82, oid + b"".join(held))]) for oid, held in objects.items()},
            2,
            status.INCORRECT_DATA,
        ),
        0x20: _whole(0x91, [(0x90, _service_record(number, ACA_AID)) for number, _ in _PROVIDERS]),
        0x21: _whole(0x94, [(0x93, _service_record(*service)) for service in services]),
        0x40: rules,
        0x41: rules,
        0x50: table,
        0x51: table,
        0x52: table,
        0x60: _extended(_packed_service(number, ACA_AID) + more for number, more in _PROVIDERS),
        0x61: _extended(_packed_service(*service) for service in services),
    }


def _applets(pki_count: int) -> list[tuple[int, list[_ObjectRules]]]:
    """The applet/object table: PKI applets come first, as in libcacard."""
    table: list[tuple[int, list[_ObjectRules]]] = []
    for index in range(pki_count):
        rules = (_UPDATE_BY_ISSUER, _READ_ALWAYS, _SIGN_BY_PIN)
        held: list[_ObjectRules] = [(bytes((0x01, index)), rules), (_ITSELF, (_VERIFY,))]
        table.append((_FIRST_PKI_SERVICE + index, held))
    table.append((_PROVIDER_CHANNEL, [(_ITSELF, (bytes((INS_VERIFY, 0x00, 0x00)),))]))
    table += ((applet, [*objects, (_ITSELF, _COMMON)]) for applet, objects in _APPLETS)
    table += ((applet, [(_ITSELF, (*_ISSUER_ONLY, *_COMMON))]) for applet in _BARE_APPLETS)
    table += ((applet, [*objects, (_ITSELF, _COMMON)]) for applet, objects in _LAST_APPLETS)
    return table


def _table(records: Sequence[tuple[int, bytes]]) -> bytes:
    return tlv.encode_all([_APPLET_INFORMATION, *records])


def _whole(count_tag: int, records: Sequence[tuple[int, bytes]]) -> _Answers:
    return _Answers({b"": _table([(count_tag, bytes((len(records),))), *records])})


def _extended(records: Iterable[bytes]) -> _Answers:
    return _Answers({b"": b"".join(records)})


def _methods(rule: _Rule) -> bytes:
    return b"".join(bytes(method) for method in rule.methods)


def _rule_record(rule: _Rule) -> bytes:
    return bytes((rule.acrid, rule.kind, len(rule.methods))) + _methods(rule)


def _packed_rule(rule: _Rule) -> bytes:
    packed = bytes((rule.acrid, rule.kind, rule.applet)) + (_methods(rule) or b"\x00\x00")
    return bytes((len(packed) + 1,)) + packed + b"\x00"


def _service_record(number: int, aid: bytes) -> bytes:
    return bytes((number,)) + tlv.encode(0x92, aid)


def _packed_service(number: int, aid: bytes) -> bytes:
    return bytes((number, 0x00, len(aid))) + aid


def _applet_record(applet: int, held: Sequence[_ObjectRules]) -> bytes:
    objects = tlv.encode_all((0x82, oid + b"".join(rules)) for oid, rules in held)
    return bytes((applet, len(held))) + objects


def _packed_applet(applet: int, held: Sequence[_ObjectRules]) -> bytes:
    packed = bytearray((applet, len(held)))
    for oid, rules in held:
        body = oid + b"".join(rules)
        packed += bytes((len(body),)) + body
    return bytes((len(packed),)) + packed
