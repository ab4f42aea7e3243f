# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command and response APDUs (ISO/IEC 7816-4:2020, 5.1 to 5.3)."""

from __future__ import annotations

from typing import Final, NamedTuple

from vccid.errors import RemoteProtocolError

#: The longest command: header, extended Lc, 65,535 bytes of data, extended Le.
MAX_COMMAND: Final = 4 + 3 + 65_535 + 2

#: The longest response: 65,536 bytes of data and the status word.
MAX_RESPONSE: Final = 65_536 + 2

INS_VERIFY: Final = 0x20
INS_CHANGE_REFERENCE_DATA: Final = 0x24
INS_RESET_RETRY_COUNTER: Final = 0x2C
INS_GENERATE_KEY_PAIR: Final = 0x47
INS_GET_CHALLENGE: Final = 0x84
INS_GENERAL_AUTHENTICATE: Final = 0x87
INS_SELECT: Final = 0xA4
INS_GET_RESPONSE: Final = 0xC0
INS_GET_DATA: Final = 0xCA
INS_GET_DATA_BY_TAG_LIST: Final = 0xCB
INS_PUT_DATA_BY_TAG_LIST: Final = 0xDB

#: A NamedTuple's own `__new__` is a Python function: without it a command is made in two thirds
#: of the time, and one is made for every APDU.
_new = tuple.__new__


class Command(NamedTuple):
    """A command APDU. Each of the four cases, short or extended, becomes the same fields.

    Attributes:
        cla: class byte.
        ins: instruction byte.
        p1: first parameter byte.
        p2: second parameter byte.
        data: 0 to 65,535 bytes; empty where Lc is absent.
        le: the most bytes of data wanted, 1 to 65,536; 0 where Le is absent.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    le: int

    @classmethod
    def parse(cls, raw: bytes) -> Command:
        """Take a command apart.

        Raises:
            RemoteProtocolError: its lengths do not agree; a card answers 6700.
        """
        count = len(raw) - 4
        if count > 1:
            lc = raw[4]
            if lc:  # cases 3 and 4, short
                if count == 1 + lc:
                    return _new(cls, (raw[0], raw[1], raw[2], raw[3], raw[5:], 0))
                if count == 2 + lc:
                    return _new(cls, (raw[0], raw[1], raw[2], raw[3], raw[5:-1], raw[-1] or 256))
                raise RemoteProtocolError(f"Lc is {lc} in a command of {len(raw)} bytes")
            return _parse_extended(raw)
        if count == 1:  # case 2, short
            return _new(cls, (raw[0], raw[1], raw[2], raw[3], b"", raw[4] or 256))
        if count == 0:  # case 1
            return _new(cls, (raw[0], raw[1], raw[2], raw[3], b"", 0))
        raise RemoteProtocolError(f"a command of {len(raw)} bytes has no whole header")


def _parse_extended(raw: bytes) -> Command:
    """A command whose fifth byte is 00 with more behind it."""
    header = raw[0], raw[1], raw[2], raw[3]
    count = len(raw) - 4
    length = int.from_bytes(raw[5:7], "big")
    if count == 3:
        return Command(*header, b"", length or 65_536)
    if count > 3 and length:
        if count == 3 + length:
            return Command(*header, raw[7:], 0)
        if count == 5 + length:
            return Command(*header, raw[7:-2], int.from_bytes(raw[-2:], "big") or 65_536)
    raise RemoteProtocolError(f"extended Lc is {length} in a command of {len(raw)} bytes")


class Response(NamedTuple):
    """A response APDU.

    Attributes:
        data: 0 to 65,536 bytes.
        sw: SW1 SW2 as one number, big-endian.
    """

    data: bytes
    sw: int

    @classmethod
    def parse(cls, raw: bytes) -> Response:
        """Take a response apart.

        Raises:
            RemoteProtocolError: it is too short or too long to be one.
        """
        if not 2 <= len(raw) <= MAX_RESPONSE:
            raise RemoteProtocolError(f"a response of {len(raw)} bytes")
        return cls(raw[:-2], int.from_bytes(raw[-2:], "big"))
