# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys and counters of one session of secure messaging (SP 800-73-5 part 2, 4.1.6, 4.2)."""

from __future__ import annotations

from typing import Final

#: Bytes of the encryption counter and of a MAC chaining value.
_SIZE: Final = 16
#: The first byte of the counter of an answer (4.2.5).
_OF_A_RESPONSE: Final = 0x80


class SessionKeys:
    """A session: what key establishment gave, and how far commands have come.

    Attributes:
        mac: SK_MAC.
        encryption: SK_ENC.
        response_mac: SK_RMAC.
        command_chaining: MAC chaining value of commands, 16 bytes.
        response_chaining: that of answers.
    """

    __slots__ = (
        "_counter",
        "command_chaining",
        "encryption",
        "mac",
        "response_chaining",
        "response_mac",
    )

    def __init__(self, mac: bytes, encryption: bytes, response_mac: bytes) -> None:
        self.mac = mac
        self.encryption = encryption
        self.response_mac = response_mac
        self.command_chaining = self.response_chaining = bytes(_SIZE)
        self._counter = 0

    def begin(self) -> None:
        """One more command: the first has number 1."""
        self._counter += 1

    @property
    def command_counter(self) -> bytes:
        """What the present command's initial vector is made of."""
        return self._counter.to_bytes(_SIZE, "big")

    @property
    def response_counter(self) -> bytes:
        """What its answer's is made of."""
        return bytes((_OF_A_RESPONSE,)) + self.command_counter[1:]

    def __repr__(self) -> str:
        return f"SessionKeys(command {self._counter})"
