# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processors of answers that go in parts, and GET RESPONSE (ISO/IEC 7816-4:2020, 5.3.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Final

from vccid.card.processors import Answer, Process, Unfinished
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

#: The most data a short response has. Where GET RESPONSE has no Le, which is how Yubico's library
#: sends it, it is taken to be so much.
_SHORT_RESPONSE: Final = 256


class ResponseChaining:
    """Answers longer than Le, and GET RESPONSE for the rest (ISO/IEC 7816-4:2020, 5.3.4, 11.7.1).

    The common part; how an answer that is too long begins is what the two kinds differ in.
    """

    def __init__(
        self,
        following: Process,
        unfinished: Unfinished,
        nothing_waits: bytes = status.CONDITIONS_NOT_SATISFIED,
    ) -> None:
        """`nothing_waits`: what GET RESPONSE answers where there is nothing to fetch."""
        self._following = following
        self._unfinished = unfinished
        self._nothing_waits = nothing_waits

    def process(self, command: Command) -> Answer:
        """Take a whole command; its answer is no longer than Le allows."""
        if command.ins == INS_GET_RESPONSE:
            return self._get_response(command.le or _SHORT_RESPONSE)
        self._unfinished.response = b""
        answer = self._following(command)
        if not isinstance(answer, bytes):
            return self._wait(answer, command)
        return answer if len(answer) - 2 <= command.le else self._shorten(answer, command)

    async def _wait(self, waiting: Awaitable[bytes], command: Command) -> bytes:
        answer = await waiting
        return answer if len(answer) - 2 <= command.le else self._shorten(answer, command)

    def _get_response(self, le: int) -> bytes:
        waiting = self._unfinished.response
        if not waiting:
            return self._nothing_waits
        count = len(waiting) - 2
        if count <= le:
            self._unfinished.response = b""
            return waiting
        self._unfinished.response = waiting[le:]
        return waiting[:le] + status.bytes_available(count - le)

    def _shorten(self, answer: bytes, command: Command) -> bytes:
        """As much as Le allows comes at once; no Le is taken for 256, as Yubico's tools need it."""
        self._unfinished.response = answer
        return self._get_response(command.le or _SHORT_RESPONSE)


class LibcacardResponseChaining(ResponseChaining):
    """The same as libcacard: an answer longer than Le waits as a whole, and no Le is Le = 0."""

    def __init__(
        self, following: Process, unfinished: Unfinished, untouched: Collection[int] = ()
    ) -> None:
        """`untouched`: instructions that tell what is left in a way of their own."""
        super().__init__(following, unfinished, status.REFERENCED_DATA_NOT_FOUND)
        self._untouched = untouched

    def _shorten(self, answer: bytes, command: Command) -> bytes:
        if command.ins in self._untouched:
            return answer
        self._unfinished.response = answer
        return status.bytes_available(len(answer) - 2)
