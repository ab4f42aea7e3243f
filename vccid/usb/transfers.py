# SPDX-License-Identifier: LGPL-2.1-or-later
"""Transfers: what a host asks of an endpoint, and how it ends (USB 2.0, 5.3.2, 8.5, 9.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import ClassVar


class Status(IntEnum):
    """How a transfer ended. A cancelled one has no completion at all."""

    DONE = auto()
    #: the endpoint is halted, or on endpoint 0 the request is refused
    STALL = auto()
    #: there was more than the host asked for, and it cannot be cut
    OVERFLOW = auto()


@dataclass(slots=True)
class Transfer:
    """One transfer.

    Attributes:
        id: the host's name for it, not used twice at the same time.
        endpoint: 0 to 15.
        is_in: device to host. A control transfer's own direction is in `setup`.
        length: bytes there are (OUT) or there is room for (IN).
        data: OUT only; may hold a PIN and is never shown.
        setup: the 8 bytes of a control transfer.
    """

    id: int
    endpoint: int
    is_in: bool
    length: int
    data: bytes = field(default=b"", repr=False)
    setup: bytes = b""


@dataclass(slots=True)
class Completion:
    """The end of a transfer; `length` is never above what was asked for.

    Attributes:
        length: bytes really moved.
        data: IN only, `length` bytes.
    """

    transfer: Transfer
    status: Status
    length: int = 0
    data: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Setup:
    """A control request (9.3, table 9-2)."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    #: bmRequestType, bRequest, wValue, wIndex, wLength, little-endian
    STRUCT: ClassVar[struct.Struct] = struct.Struct("<BBHHH")

    @classmethod
    def parse(cls, raw: bytes) -> Setup:
        """Read the 8 bytes."""
        return cls(*cls.STRUCT.unpack(raw))

    @property
    def is_in(self) -> bool:
        """bmRequestType bit 7: the data stage goes to the host."""
        return bool(self.request_type & 0x80)
