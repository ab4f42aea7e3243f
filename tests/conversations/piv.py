# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conversations with a PIV card: what OpenSC, Windows and Yubico's tools say, in their order.

The card has P-256 in 9A, RSA-2048 in 9C, P-256 in 9D and 9E, and RSA-2048 in 82.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.conversations.steps import (
    Ask,
    AskWhole,
    Conversation,
    Need,
    PowerOn,
    Step,
    Verify,
)
from vccid.iso7816 import status

#: In the order of the slots.
KINDS: Final = ("P-256", "RSA2048", "P-256", "P-256", "RSA2048")

AID: Final = "A0 00 00 03 08 00 00 10 00 01 00"
TEMPLATE: Final = bytes.fromhex(f"61 16 4F 0B {AID} 79 07 4F 05 A0 00 00 03 08")
DISCOVERY: Final = bytes.fromhex(f"7E 12 4F 0B {AID} 5F 2F 02 40 00")
VERSION: Final = bytes.fromhex("05 04 03")

_DIGEST: Final = bytes(range(32))
_BLOCK: Final = b"\x00\x01" + b"\xff" * 202 + b"\x00" + bytes(51)


def ask(command: str, answer: bytes) -> Ask:
    """A command whose whole answer is this, in hexadecimal and in bytes."""
    return Ask(bytes.fromhex(command), (answer,))


def select(name: str, answer: bytes) -> Ask:
    """SELECT by name, with Le."""
    return ask(f"00 A4 04 00 {len(bytes.fromhex(name)):02X} {name} 00", answer)


def get(tag: str, check: Callable[[bytes], object] = len, le: str = "00") -> AskWhole:
    """GET DATA of an object, with all that waits."""
    size = len(bytes.fromhex(tag))
    return AskWhole(bytes.fromhex(f"00 CB 3F FF {size + 2:02X} 5C {size:02X} {tag} {le}"), check)


def use(data: bytes) -> bytes:
    """The template of GENERAL AUTHENTICATE that asks for an answer to `data`."""
    size = len(data)
    length = bytes((size,)) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    inner = b"\x82\x00\x81" + length + data
    size = len(inner)
    length = bytes((size,)) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return b"\x7c" + length + inner


def chained(header: str, data: bytes) -> tuple[Step, ...]:
    """A command in two parts; the last is for `AskWhole` to send."""
    first = bytes.fromhex(header)
    return (
        Ask(bytes((first[0] | 0x10,)) + first[1:] + b"\xff" + data[:255], (status.SUCCESS,)),
        AskWhole(first + bytes((len(data) - 255,)) + data[255:] + b"\0", lambda d: len(d) == 264),
    )


def _is_certificate(data: bytes) -> bool:
    return data[:1] == b"\x53" and data[-5:] == b"\x71\x01\x00\xfe\x00"


def _is_signature(data: bytes) -> bool:
    return data[:1] == b"\x7c" and data[2:3] == b"\x82" and data[4:5] == b"\x30"


#: The other application that Windows knows how to use.
_GIDS: Final = select("A0 00 00 03 97 42 54 46 59", status.NOT_FOUND)
_SIGN_9E: Final = bytes.fromhex("00 87 11 9E 26") + use(_DIGEST) + b"\0"

CONVERSATIONS: Final = (
    Conversation(
        "piv_opensc",
        "what OpenSC asks of a card it does not know, and of a PIV card then",
        (
            AskWhole(bytes.fromhex("00 CB 3F FF 03 5C 01 7E 08"), lambda d: d == DISCOVERY),
            select(AID[: 9 * 3 - 1], TEMPLATE + status.SUCCESS),
            ask("00 FD 00 00 03", VERSION + status.SUCCESS),
            get("5F C1 07", lambda d: d[:1] == b"\x53" and b"\xf5\x01\x10" in d, "08"),
            ask("00 CB 3F FF 03 5C 01 7E 14", DISCOVERY + status.SUCCESS),
            get("5F C1 0C", lambda d: d == bytes.fromhex("53 08 C1 01 01 C2 01 00 FE 00"), "08"),
            get("5F C1 02", lambda d: len(d) > 61),
            *(get(f"5F C1 {tag}", _is_certificate) for tag in ("05", "0A", "0B", "01", "0D")),
            ask("00 CB 3F FF 05 5C 03 5F C1 22 08", status.NOT_FOUND),
            ask("00 CB 3F FF 05 5C 03 5F C1 09 00", status.SECURITY_STATUS_NOT_SATISFIED),
        ),
        frozenset({Need.PIV}),
    ),
    Conversation(
        "piv_windows_plug_and_play",
        "what Windows asks of a new card, to find a driver for it",
        (
            PowerOn(),
            select("A0 00 00 03 97 43 49 44 5F 01 00", status.NOT_FOUND),
            ask("00 CA 7F 68 00", status.INSTRUCTION_NOT_SUPPORTED),
            ask("00 A4 00 00 02 3F 00", status.NOT_FOUND),
            ask("00 A4 00 00 02 2F 01", status.NOT_FOUND),
            ask("00 B0 00 00 00", status.INSTRUCTION_NOT_SUPPORTED),
            select(AID, TEMPLATE + status.SUCCESS),
            _GIDS,
        ),
        frozenset({Need.PIV}),
    ),
    Conversation(
        "piv_windows_name",
        "what Windows asks for the card's name: GIDS before PIV, of a card whose PIN is verified",
        (
            select(AID, TEMPLATE + status.SUCCESS),
            Verify(b"\x00\x20\x00\x80\x08"),
            _GIDS,
            ask("00 20 00 80", status.SUCCESS),
            select(AID, TEMPLATE + status.SUCCESS),
            ask("00 20 00 80", status.SUCCESS),
        ),
        frozenset({Need.PIV, Need.RESET}),
    ),
    Conversation(
        "piv_windows_logon",
        "what Windows' own driver asks: identity, certificates, the PIN, a signature, a decryption",
        (
            select(AID, TEMPLATE + status.SUCCESS),
            get("5F C1 02", lambda d: len(d) > 61),
            get("7E", lambda d: d == DISCOVERY),
            get("5F C1 0C", lambda d: d[:1] == b"\x53"),
            *(get(f"5F C1 {tag}", _is_certificate) for tag in ("05", "0A", "0B", "01", "0D")),
            ask("00 20 00 80", status.tries_left(3)),
            Verify(b"\x00\x20\x00\x80\x08"),
            AskWhole(bytes.fromhex("00 87 11 9A 26") + use(_DIGEST) + b"\0", _is_signature),
            *chained("00 87 07 82", use(_BLOCK)),
            PowerOn(),
            select(AID, TEMPLATE + status.SUCCESS),
            ask("00 20 00 80", status.tries_left(3)),
        ),
        frozenset({Need.PIV, Need.RESET}),
    ),
    Conversation(
        "piv_yubico",
        "what Yubico's tools ask, without Le, behind a name cut short",
        (
            AskWhole(bytes.fromhex("00 A4 04 00 05 A0 00 00 03 08"), lambda d: d == TEMPLATE),
            ask("00 FD 00 00 00", VERSION + status.SUCCESS),
            AskWhole(bytes.fromhex("00 F8 00 00 00"), lambda d: len(d) == 4),
            AskWhole(bytes.fromhex("00 F7 00 9B 00"), lambda d: d[:3] == b"\x01\x01\x03"),
            ask("00 A4 04 00 08 A0 00 00 05 27 20 01 01", status.NOT_FOUND),
            AskWhole(bytes.fromhex("00 CB 3F FF 05 5C 03 5F C1 05"), _is_certificate),
            AskWhole(bytes.fromhex("00 87 03 9B 04 7C 02 81 00"), lambda d: len(d) == 12),
        ),
        frozenset({Need.PIV}),
    ),
    Conversation(
        "piv_card_authentication",
        "a signature that wants no PIN",
        (AskWhole(_SIGN_9E, _is_signature), AskWhole(_SIGN_9E, _is_signature)),
        frozenset({Need.PIV}),
    ),
    Conversation(
        "piv_login",
        "a wrong PIN, the right one, chained RSA, and a key that wants the PIN each time",
        (
            ask("00 20 00 80", status.tries_left(3)),
            ask("00 20 00 80 08 30 30 30 30 30 30 FF FF", status.tries_left(2)),
            Ask(bytes.fromhex("00 87 07 82 06 7C 04 82 00 81 00"),
                (status.SECURITY_STATUS_NOT_SATISFIED,)),
            Verify(b"\x00\x20\x00\x80\x08"),
            ask("00 20 00 80", status.SUCCESS),
            *chained("00 87 07 82", use(_BLOCK)),
            Verify(b"\x00\x20\x00\x80\x08"),
            *chained("00 87 07 9C", use(_BLOCK)),
            Ask(bytes.fromhex("00 87 07 9C 06 7C 04 82 00 81 00"),
                (status.SECURITY_STATUS_NOT_SATISFIED,)),
            ask("00 20 FF 80", status.SUCCESS),
            ask("00 20 00 80", status.tries_left(3)),
        ),
        frozenset({Need.PIV, Need.RESET}),
    ),
    Conversation(
        "piv_extended",
        "the same RSA in one piece either way",
        (
            Verify(b"\x00\x20\x00\x80\x08"),
            AskWhole(
                bytes.fromhex("00 87 07 82 00 01 0A") + use(_BLOCK) + b"\0\0",
                lambda d: len(d) == 264,
            ),
        ),
        frozenset({Need.PIV, Need.RESET, Need.EXTENDED_LENGTH}),
    ),
)  # fmt: skip
