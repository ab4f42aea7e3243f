# SPDX-License-Identifier: LGPL-2.1-or-later
"""Secure messaging with key 04, the virtual contact interface, and the contactless one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.key_material import rsa_key
from tests.unit.card.piv import sm_vectors as vectors
from tests.unit.card.piv.host import (
    NOW,
    PIN,
    Host,
    credentials,
    elliptic,
    encode,
    tlv,
)
from tests.unit.card.piv.requirements import meets
from tests.unit.card.piv.sm_host import SmHost, exchange, point_of
from vccid.card.piv.choices import Choices
from vccid.card.piv.cipher_suites import SUITES
from vccid.card.piv.key_establishment import establish
from vccid.card.piv.objects import with_secure_messaging
from vccid.card.piv.slots import guid_of, new_contents
from vccid.card.piv.sm_credential import SmCredential

KINDS = {"cs2": 0x27, "cs2-intermediate": 0x27, "cs7": 0x2E, "cs7-intermediate": 0x2E}
CS2 = 0x27
P256, RSA_2048 = 0x11, 0x07


@pytest.fixture
def contact(make: Callable[..., Host]) -> Host:
    return make(credentials(), secure_messaging="cs2")


@pytest.fixture
def contactless(make: Callable[..., Host]) -> Host:
    return make(credentials(), secure_messaging="cs2", contactless=True)


def pairing_code(host: Host) -> bytes:
    held = host.card.memory.contents.secure_messaging
    assert held is not None
    return held.pairing_code.encode()


def paired(host: Host) -> SmHost:
    """A session over the virtual contact interface."""
    session = SmHost(host.raw, CS2)
    assert session.verify(0x98, pairing_code(host)) == "90 00"
    return session


def scalar(first: int, size: int) -> int:
    return int.from_bytes(bytes(range(first, first + size)), "big")


@meets("K", "W")
@pytest.mark.parametrize("name", ["cs2", "cs7"])
def test_a_worked_conversation(
    make: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Byte for byte, with keys and nonce that are known."""
    suite = SUITES[name]
    size = suite.curve.key_size // 8
    nonce = bytes(range(0xC0, 0xC0 + suite.nonce_size))
    cvc, cryptogram, keys, steps = {
        "cs2": (vectors.CS2_CVC, vectors.CS2_CRYPTOGRAM, vectors.CS2_KEYS, vectors.CS2_STEPS),
        "cs7": (cs7_certificate(), vectors.CS7_CRYPTOGRAM, vectors.CS7_KEYS, vectors.CS7_STEPS),
    }[name]
    own = ec.derive_private_key(scalar(0x01, size), suite.curve)
    pkcs8 = own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    held = SmCredential(suite, pkcs8, cvc, b"\xfe\0", vectors.PAIRING_CODE)
    contents = new_contents(vectors.GUID, [], NOW)
    contents = dataclasses.replace(
        contents,
        objects=with_secure_messaging(dict(contents.objects), held),
        secure_messaging=held,
    )
    host = make(contents=contents, contactless=True)
    host.run(host.card.pin.reset(vectors.PIN))
    monkeypatch.setattr(
        "vccid.card.piv.application.establish", partial(establish, random=lambda count: nonce)
    )
    private = ec.derive_private_key(scalar(0x41, size), suite.curve)
    session = SmHost(host.raw, suite.identifier, private, vectors.HOST_ID)
    assert (session.mac, session.encryption, session.response_mac) == keys
    response = b"\0" + nonce + cryptogram + cvc
    assert session.answer == encode(0x7C, encode(0x82, response)) + b"\x90\x00"
    for command, answer in steps:
        assert host.raw(bytes.fromhex(command)) == bytes.fromhex(answer)


def cs7_certificate() -> bytes:
    key = encode(0x06, bytes.fromhex("2B81040022")) + encode(0x86, vectors.CS7_POINT)
    return encode(
        0x7F21,
        encode(0x5F29, b"\x80")
        + encode(0x42, bytes(range(1, 9)))
        + encode(0x5F20, vectors.GUID)
        + encode(0x7F49, key)
        + encode(0x5F4C, b"\0")
        + encode(0x5F37, vectors.CS7_SIGNATURE),
    )


@meets("S5", "A2", "K", "D17", "D19", "D22")
@pytest.mark.parametrize("kind", KINDS)
def test_the_path_from_the_signer_to_the_card(make: Callable[..., Host], kind: str) -> None:
    host = make(secure_messaging=kind)
    suite = KINDS[kind]
    ((_, template),) = tlv(host.select()[0])
    assert dict(tlv(template))[0xAC] == bytes((0x80, 1, suite, 6, 1, 0))
    session = SmHost(host.raw, suite)
    guid = dict(tlv(host.object("chuid")))[0x34]
    session.verify_certificate(host.object("5F C1 22"), guid)
    assert (0x7F21 in dict(tlv(host.object("5F C1 22")))) == kind.endswith("intermediate")


@meets("W", "D23")
@pytest.mark.parametrize("kind", ["cs2", "cs7"])
def test_keys_are_used(make: Callable[..., Host], kind: str) -> None:
    host = make(credentials(), secure_messaging=kind)
    session = SmHost(host.raw, KINDS[kind])
    digest = os.urandom(32)
    template = encode(0x7C, encode(0x82, b"") + encode(0x81, digest))
    assert session.send("0C 87 11 9A", template) == (b"", "69 82")
    assert session.verify(0x80, PIN) == "90 00"
    answer, sw = session.send("0C 87 11 9A", template)
    assert sw == "90 00"
    signature = tlv(tlv(answer)[0][1])[0][1]
    verifier = elliptic(0).public_key()
    verifier.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    # RSA-2048: in parts both ways.
    padded = (
        b"\0\1"
        + b"\xff" * 202
        + b"\0"
        + bytes.fromhex("3031300d060960864801650304020105000420")
        + digest
    )
    assert session.verify(0x80, PIN) == "90 00"
    template = encode(0x7C, encode(0x82, b"") + encode(0x81, padded))
    answer, sw = session.send("0C 87 07 9C", template)
    assert sw == "90 00" and len(answer) == 264
    signature = tlv(tlv(answer)[0][1])[0][1]
    rsa_key(1).public_key().verify(
        signature, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256())
    )
    assert (
        session.send("0C 24 00 80", PIN + b"\xff\xff" + b"111111\xff\xff", le=False)[1] == "90 00"
    )


@meets("W")
def test_every_length(contact: Host) -> None:
    """Whatever a command's length, it says under secure messaging what it says in plain."""
    session = SmHost(contact.raw, CS2)
    for length in [*range(256), 256, 300, 511, 512, 1000]:
        data = encode(0x5C, bytes(max(0, length - 2)))[:length] if length > 3 else bytes(length)
        plain = contact.whole("00 CB 3F FF", data)
        assert session.send("0C CB 3F FF", data) == plain, length
    answer, sw = session.get("5F C1 05")
    assert (answer, sw) == contact.get("9a") and len(answer) > 256


@meets("W")
@pytest.mark.parametrize("length", [0, 5, 200, 255, 256, 4000])
def test_extended_length(contact: Host, length: int) -> None:
    session = SmHost(contact.raw, CS2)
    command = session.wrap("0C CB 3F FF", bytes(length))
    extended = command[:4] + b"\0" + (len(command) - 4).to_bytes(2, "big") + command[4:] + b"\0\0"
    assert session.unwrap(contact.raw(extended)) == (b"", "6A 80")
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 03 5F C1 05"))
    extended = command[:4] + b"\0" + (len(command) - 4).to_bytes(2, "big") + command[4:] + b"\0\0"
    assert session.unwrap(contact.raw(extended)) == contact.get("9a")


def send_raw(host: Host, header: str, data: bytes) -> str:
    return exchange(host.raw, bytes.fromhex(header) + data).hex(" ").upper()


def is_over(host: Host, session: SmHost) -> bool:
    """Whether the session's keys are gone."""
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 01 7E"))
    return exchange(host.raw, command) == b"\x69\x82"


WRONG = {
    "no MAC": (lambda d: d[:-10], "69 87"),
    "nothing": (lambda d: b"", "69 87"),
    "a MAC too short": (lambda d: d[:-10] + b"\x8e\x07" + d[-8:-1], "69 88"),
    "another MAC": (lambda d: d[:-1] + bytes((d[-1] ^ 1,)), "69 88"),
    "a length in more bytes than it needs": (
        lambda d: d[:-10] + b"\x8e\x81\x08" + d[-8:], "69 88",
    ),
    "the MAC first": (lambda d: d[-10:] + d[:-10], "69 88"),
    "something behind the MAC": (lambda d: d + b"\x97\x01\x00", "69 88"),
    "an object that is not known": (lambda d: b"\x85\x01\x00" + d, "69 88"),
    "an object twice": (lambda d: d[:-13] + d[-13:-10] * 2 + d[-10:], "69 88"),
    "other data": (lambda d: d[:5] + bytes((d[5] ^ 1,)) + d[6:], "69 88"),
    "no Le any more": (lambda d: d[:-13] + d[-10:], "69 88"),
    "what is cut short": (lambda d: d[:-1], "69 88"),
    "what is no data object": (lambda d: b"\xff" * 30, "69 88"),
}  # fmt: skip


@meets("W")
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_as_it_was_sent(contact: Host, wrong: str) -> None:
    spoil, sw = WRONG[wrong]
    session = SmHost(contact.raw, CS2)
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 01 7E"))
    assert send_raw(contact, "0C CB 3F FF", spoil(command[4:])) == sw
    assert is_over(contact, session)


@meets("W")
@pytest.mark.parametrize("header", ["0C 20 3F FF", "0C CB 3E FF", "0C CB 3F FE"])
def test_another_header(contact: Host, header: str) -> None:
    session = SmHost(contact.raw, CS2)
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 01 7E"))
    assert send_raw(contact, header, command[4:]) == "69 88"
    assert is_over(contact, session)


class Forger(SmHost):
    """A host with the keys, which breaks the rules of what it protects."""

    def forge(self, objects: bytes) -> bytes:
        head = bytes.fromhex("0C CB 3F FF")
        self._sent = self.mac_of(head, objects)
        return head + objects + b"\x8e\x08" + self._sent[:8]

    def mac_of(self, head: bytes, objects: bytes) -> bytes:
        from tests.unit.card.piv.sm_host import mac_of

        return mac_of(self.mac, self._sent + head + b"\x80" + bytes(11) + objects)


@meets("W")
@pytest.mark.parametrize(
    "objects",
    [
        "87 01 01",  # no block
        "87 11 02 000102030405060708090A0B0C0D0E0F",  # another padding indicator
        "87 10 01 000102030405060708090A0B0C0D0E",  # no whole block
        "87 00",
        "87 11 01 000102030405060708090A0B0C0D0E0F",  # padding that is none
        "97 01 01",
        "97 02 00 00",
        "97 00",
    ],
)
def test_rules_broken_by_who_has_the_keys(contact: Host, objects: str) -> None:
    session = Forger(contact.raw, CS2)
    assert exchange(contact.raw, session.forge(bytes.fromhex(objects))).hex(" ") == "69 88"
    assert is_over(contact, session)


@meets("W")
def test_a_command_comes_once(contact: Host) -> None:
    session = SmHost(contact.raw, CS2)
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 01 7E"))
    first = exchange(contact.raw, command)
    assert session.unwrap(first)[1] == "90 00"
    assert exchange(contact.raw, command) == b"\x69\x88"
    assert is_over(contact, session)


@meets("W")
def test_each_part_that_is_missing_is_missed(contact: Host) -> None:
    for length in range(len(SmHost(contact.raw, CS2).wrap("0C CB 3F FF", b"\x5c\1\x7e")) - 4):
        session = SmHost(contact.raw, CS2)
        data = session.wrap("0C CB 3F FF", b"\x5c\1\x7e")[4:]
        assert send_raw(contact, "0C CB 3F FF", data[:length]) in ("69 87", "69 88")


@meets("W")
@pytest.mark.parametrize(
    "header", ["0C A4 04 00", "0C DB 3F FF", "0C 47 00 9A", "0C 2C 00 80", "0C FD 00 00"]
)
def test_commands_that_are_not_protected(contact: Host, header: str) -> None:
    session = SmHost(contact.raw, CS2)
    assert send_raw(contact, header, session.wrap(header, b"\0")[4:]) == "68 82"
    assert is_over(contact, session)


@meets("W")
@pytest.mark.parametrize("cla", ["04", "08"])
def test_other_secure_messaging(contact: Host, cla: str) -> None:
    session = SmHost(contact.raw, CS2)
    command = session.wrap("0C CB 3F FF", bytes.fromhex("5C 01 7E"))
    assert send_raw(contact, f"{cla} CB 3F FF", command[4:]) == "68 82"
    assert is_over(contact, session)


@meets("W")
def test_without_a_session(contact: Host, make: Callable[..., Host]) -> None:
    assert send_raw(contact, "0C CB 3F FF", bytes(12)) == "69 82"
    assert send_raw(make(), "0C CB 3F FF", bytes(12)) == "68 82", "a card that has none"


@meets("W")
def test_what_ends_a_session_and_what_does_not(contact: Host) -> None:
    session = SmHost(contact.raw, CS2)
    assert session.verify(0x80, b"000000") == "63 C2"
    assert session.get("5F C1 21") == (b"", "69 82")
    assert contact.get("9a")[1] == "90 00", "in plain, in between"
    assert contact.select()[1] == "90 00"
    assert session.get("7E")[1] == "90 00"
    other = SmHost(contact.raw, CS2)
    assert other.get("7E")[1] == "90 00"
    assert (
        send_raw(contact, "0C CB 3F FF", session.wrap("0C CB 3F FF", b"\x5c\1\x7e")[4:]) == "69 88"
    )
    another = SmHost(contact.raw, CS2)
    contact.reset()
    assert is_over(contact, another)


def begin(host: Host, challenge: bytes, more: bytes = b"\x82\0", suite: int = CS2) -> str:
    template = encode(0x7C, encode(0x81, challenge) + more)
    return exchange(host.raw, bytes((0, 0x87, suite, 0x04)) + template)[-2:].hex(" ").upper()


@meets("K", "A2")
def test_establishments_that_are_refused(contact: Host, make: Callable[..., Host]) -> None:
    point = point_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    good = bytes(9) + point
    assert begin(contact, good) == begin(contact, b"\x0f" + good[1:]) == "90 00"
    for suite in (0x2E, 0x11, 0x00):
        assert begin(contact, good, suite=suite) == "6A 86"
    for challenge in (
        b"", good[:-1], good + b"\0", b"\x10" + good[1:],
        bytes(9) + b"\2" + point[1:], bytes(9 + 65), bytes(9) + b"\4" + bytes(64),
        bytes(9) + point[:-1] + bytes((point[-1] ^ 1,)),
    ):  # fmt: skip
        assert begin(contact, challenge) == "6A 80", challenge.hex()
    for more in (b"", b"\x82\1\0", b"\x82\0\x80\0"):
        assert begin(contact, good, more) == "6A 80"
    assert begin(make(), good) == "6A 86", "a card that has none"
    session = SmHost(contact.raw, CS2)
    assert begin(contact, b"") == "6A 80"
    assert is_over(contact, session), "whatever comes of it, the session before is over"


@meets("D10", "D24")
def test_what_is_read_without_contact(contactless: Host) -> None:
    public = ("chuid", "9e", "discovery", "5F C1 22")
    guarded = ("ccc", "9a", "9c", "9d", "82", "key history", "security object")
    session = SmHost(contactless.raw, CS2)
    for name in public:
        assert contactless.get(name)[1] == "90 00", name
    for name in (*guarded, "pairing", "printed information"):
        assert contactless.get(name)[1] == "69 82", name
    tags = {"ccc": "5F C1 07", "9a": "5F C1 05", "9d": "5F C1 0B", "82": "5F C1 0D"}
    for tag in tags.values():
        assert session.get(tag)[1] == "69 82", "not paired"
    assert session.verify(0x98, pairing_code(contactless)) == "90 00"
    for tag in tags.values():
        assert session.get(tag)[1] == "90 00", tag
    assert contactless.get("9a")[1] == "69 82", "in plain it is not the virtual interface"
    assert session.get("5F C1 23")[1] == "69 82"
    assert session.verify(0x80, PIN) == "90 00"
    content = session.get("5F C1 23")[0]
    assert dict(tlv(tlv(content)[0][1]))[0x99] == pairing_code(contactless)


@meets("D10", "D18")
def test_by_contact_the_pairing_code_is_behind_the_pin(contact: Host) -> None:
    assert contact.get("pairing")[1] == "69 82"
    contact.verify()
    code = dict(tlv(contact.object("pairing")))[0x99]
    assert code == pairing_code(contact) and len(code) == 8 and code.isdigit()
    assert contact.sw("00 20 00 98", code) == "90 00"
    assert contact.sw("00 24 00 98", code + b"00000000") == "6A 88"


@meets("V2", "V11", "D24", "D27")
def test_pairing(contactless: Host) -> None:
    code = pairing_code(contactless)
    wrong = bytes(code[::-1]) if code != code[::-1] else b"00000000"
    assert contactless.sw("00 20 00 98", code) == "69 82"
    assert contactless.verify() == "69 82" and contactless.hex("00 20 00 80") == "69 82"
    session = SmHost(contactless.raw, CS2)
    assert session.verify(0x80, PIN) == "69 82"
    assert session.send("0C 20 00 98", le=False)[1] == "63 00"
    for _ in range(20):
        assert session.verify(0x98, wrong) == "63 00"
    assert session.verify(0x98, code) == session.send("0C 20 00 98", le=False)[1] == "90 00"
    assert SmHost(contactless.raw, CS2).get("5F C1 05")[1] == "90 00", "a new session keeps it"
    session = SmHost(contactless.raw, CS2)
    assert session.verify(0x98, wrong) == "63 00"
    assert session.get("5F C1 05")[1] == "69 82"
    assert session.verify(0x98, code) == "90 00"
    assert session.send("0C 20 FF 98", le=False)[1] == "90 00"
    assert session.get("5F C1 05")[1] == "69 82"


@meets("A3", "D11", "D29")
def test_keys_without_contact(contactless: Host) -> None:
    digest = bytes(32)
    assert isinstance(contactless.use(P256, 0x9E, digest), bytes)
    assert contactless.use(P256, 0x9A, digest) == "69 82"
    session = paired(contactless)
    template = encode(0x7C, encode(0x82, b"") + encode(0x81, digest))
    assert session.send("0C 87 11 9A", template)[1] == "69 82"
    assert session.verify(0x80, PIN) == "90 00"
    assert session.send("0C 87 11 9A", template)[1] == "90 00"
    assert contactless.use(P256, 0x9A, digest) == "69 82", "the PIN is proved, the way is not"


@meets("C2", "R1", "D28")
def test_no_management_without_contact(contactless: Host) -> None:
    paired(contactless)
    assert contactless.manage() == "6A 81"
    assert contactless.put("9a", b"x") == contactless.generate(0x9A, P256)[1] == "6A 81"
    assert contactless.unblock(b"12345678", PIN) == "6A 81"
    assert contactless.change("81", b"12345678", b"87654321") == "6A 81"
    assert contactless.change("80", PIN, b"111111") == "69 82"
    for header in ("00 FB 00 00", "00 FA 03 03", "00 FF FF FF"):
        assert contactless.sw(header) == "6A 81"


@meets("V7", "C3")
def test_the_last_try_is_kept_for_contact(contactless: Host) -> None:
    session = paired(contactless)
    assert session.verify(0x80, b"000000") == "63 C2"
    assert session.verify(0x80, b"000000") == "63 C1"
    assert session.verify(0x80, PIN) == "69 83"
    change = PIN + b"\xff\xff" + b"111111\xff\xff"
    assert session.send("0C 24 00 80", change, le=False)[1] == "69 83"
    assert session.send("0C 20 00 80", le=False)[1] == "63 C1"
    contactless.card.contactless = False
    contactless.reset()
    assert contactless.verify() == "90 00"


@meets("D24")
def test_without_pairing_where_the_card_says_so(make: Callable[..., Host]) -> None:
    host = make(credentials(), secure_messaging="cs2")
    assert host.object("discovery")[-2:] == b"\x48\0"
    assert host.manage() == "90 00"
    policy = host.object("discovery")[:-2]
    assert host.put("discovery", policy + b"\x4c\0") == "90 00"
    host.card.contactless = True
    host.reset()
    assert SmHost(host.raw, CS2).get("5F C1 05")[1] == "90 00"
    host.card.contactless = False
    host.reset()
    assert host.manage() == "90 00" and host.put("discovery", policy + b"\x40\0") == "90 00"
    host.card.contactless = True
    host.reset()
    session = SmHost(host.raw, CS2)
    assert session.get("5F C1 05")[1] == "69 82"
    assert session.verify(0x98, pairing_code(host)) == "6A 88", "no virtual contact interface"


def test_a_reset_leaves_secure_messaging(contact: Host) -> None:
    code = pairing_code(contact)
    for _ in range(3):
        contact.verify(b"000000")
        contact.unblock(b"00000000", PIN)
    assert contact.hex("00 FB 00 00") == "90 00"
    assert pairing_code(contact) == code
    assert contact.object("discovery")[-2:] == b"\x48\0"
    assert SmHost(contact.raw, CS2).get("7E")[1] == "90 00"


def test_a_guid_of_certificates_is_in_the_cards_own() -> None:
    contents = new_contents(guid_of([]), [], NOW, choices=Choices(secure_messaging="cs2"))
    assert contents.secure_messaging is not None
    assert contents.guid in contents.secure_messaging.certificate
