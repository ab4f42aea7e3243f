# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processor of secure messaging: commands are unwrapped, answers wrapped.

SP 800-73-5 part 2, 4.2 and 4.3. What fails here is answered in plain and ends the session; what
fails in the application is answered within it, and the session goes on.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable
from typing import Final

from vccid.card.class_byte import SECURE_MESSAGING
from vccid.card.piv.cipher_suites import BLOCK, MAC_SIZE, cmac, decrypt, encrypt, one_block
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.session_keys import SessionKeys
from vccid.card.processors import Answer, Process
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import (
    INS_CHANGE_REFERENCE_DATA,
    INS_GENERAL_AUTHENTICATE,
    INS_GET_DATA_BY_TAG_LIST,
    INS_VERIFY,
    Command,
)

#: The commands that may be protected (4.2.1).
_PROTECTABLE: Final = frozenset(
    (
        INS_GET_DATA_BY_TAG_LIST,
        INS_VERIFY,
        INS_CHANGE_REFERENCE_DATA,
        INS_GENERAL_AUTHENTICATE,
    )
)

# Data objects (4.2.2 to 4.2.5).
_CRYPTOGRAM, _LE, _STATUS, _MAC = 0x87, 0x97, 0x99, 0x8E

#: What is before the ciphertext in 87: it is padded as ISO/IEC 7816-4 has it.
_PADDED: Final = b"\x01"
_PADDING: Final = b"\x80"

#: As much as an extended Le asks for.
_ALL: Final = 65536


class SecureMessaging:
    """Takes commands of either kind; hands on what they say in plain."""

    def __init__(self, following: Process, indicators: Indicators) -> None:
        """`indicators` are those of the application that follows; the session is among them."""
        self._following = following
        self._indicators = indicators

    def process(self, command: Command) -> Answer:
        """Take a whole command."""
        indicators = self._indicators
        indicators.protected = False
        if not command.cla & SECURE_MESSAGING:
            return self._following(command)
        keys, indicators.session = indicators.session, None
        if command.ins not in _PROTECTABLE or command.cla & SECURE_MESSAGING != SECURE_MESSAGING:
            return status.SECURE_MESSAGING_NOT_SUPPORTED
        if keys is None:
            return status.SECURITY_STATUS_NOT_SATISFIED
        plain = _unwrapped(keys, command)
        if isinstance(plain, bytes):
            return plain
        indicators.session, indicators.protected = keys, True
        answer = self._following(plain)
        return _wrapped(keys, answer) if isinstance(answer, bytes) else _wrap_later(keys, answer)


async def _wrap_later(keys: SessionKeys, waiting: Awaitable[bytes]) -> bytes:
    return _wrapped(keys, await waiting)


def _unwrapped(keys: SessionKeys, command: Command) -> Command | bytes:
    """What a command says (4.2.2 to 4.2.4), or the status word for what is wrong with it."""
    data, end = command.data, len(command.data) - 2 - MAC_SIZE
    try:
        objects = list(ber.parse(data))
    except RemoteProtocolError:
        return status.SECURE_MESSAGING_INCORRECT
    tags = [tag for tag, _ in objects]
    if _MAC not in tags:
        return status.SECURE_MESSAGING_MISSING
    if tags not in ([_MAC], [_CRYPTOGRAM, _MAC], [_LE, _MAC], [_CRYPTOGRAM, _LE, _MAC]):
        return status.SECURE_MESSAGING_INCORRECT
    if data[end : end + 2] != bytes((_MAC, MAC_SIZE)):
        return status.SECURE_MESSAGING_INCORRECT
    header = bytes((SECURE_MESSAGING, command.ins, command.p1, command.p2))
    mac = cmac(keys.mac, keys.command_chaining + _padded(header) + data[:end])
    if not hmac.compare_digest(mac[:MAC_SIZE], data[end + 2 :]):
        return status.SECURE_MESSAGING_INCORRECT
    keys.command_chaining = mac
    members = dict(objects)
    if members.get(_LE, b"\0") != b"\0":
        return status.SECURE_MESSAGING_INCORRECT
    keys.begin()
    plain = _decrypted(keys, members.get(_CRYPTOGRAM))
    if plain is None:
        return status.SECURE_MESSAGING_INCORRECT
    return command._replace(cla=0x00, data=plain, le=_ALL if _LE in members else 0)


def _decrypted(keys: SessionKeys, cryptogram: bytes | None) -> bytes | None:
    """What is in 87, b"" where there is none; None where it is malformed."""
    if cryptogram is None:
        return b""
    indicator, data = cryptogram[:1], cryptogram[1:]
    if indicator != _PADDED or not data or len(data) % BLOCK:
        return None
    padded = decrypt(keys.encryption, one_block(keys.encryption, keys.command_counter), data)
    plain = padded.rstrip(b"\0")
    # One to sixteen bytes of padding (4.2.3): it ends within the last block.
    if not plain.endswith(_PADDING) or len(padded) - len(plain) >= BLOCK:
        return None
    return plain[: -len(_PADDING)]


def _wrapped(keys: SessionKeys, answer: bytes) -> bytes:
    """An answer under secure messaging (4.2.5, 4.2.6); its own status word is within."""
    data, word = answer[:-2], answer[-2:]
    objects = b""
    if data:
        iv = one_block(keys.encryption, keys.response_counter)
        cryptogram = _PADDED + encrypt(keys.encryption, iv, _padded(data))
        objects = ber.encode(_CRYPTOGRAM, cryptogram)
    objects += ber.encode(_STATUS, word)
    keys.response_chaining = cmac(keys.response_mac, keys.response_chaining + objects)
    return objects + ber.encode(_MAC, keys.response_chaining[:MAC_SIZE]) + status.SUCCESS


def _padded(data: bytes) -> bytes:
    """ISO/IEC 7816-4:2020, 10.2.3.1: whole blocks."""
    return data + _PADDING + bytes(-(len(data) + 1) % BLOCK)
