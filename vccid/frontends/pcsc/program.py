# SPDX-License-Identifier: LGPL-2.1-or-later
"""One program's conversation: a context of PC/SC, from its first message to its last.

No socket: messages come in by `received`, and bytes go out by a function.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from vccid.errors import RemoteProtocolError
from vccid.frontends.pcsc.card_requests import PATIENCE, do, transmit_later, wait_and_do
from vccid.frontends.pcsc.machines import WaitEvent
from vccid.frontends.pcsc.registry import Registry, new_number
from vccid.frontends.pcsc.shared_card import Refused, refuse
from vccid.frontends.pcsc.shown_reader import ShownReader
from vccid.frontends.pcsc.slot import Handle, mode_refusal
from vccid.frontends.pcsc.version import AgreedVersion
from vccid.frontends.pcsc.waiter import ProgramWaiter
from vccid.wire.pcsclite import (
    Cancel,
    CardRequest,
    Connect,
    Control,
    Disconnect,
    Establish,
    Message,
    Query,
    Release,
    Request,
    Rv,
    Transmit,
    Version,
    serialize,
    serialize_signal,
    serialize_size,
    serialize_transmit,
)

log = logging.getLogger(__name__)

#: Handles of one context: pcscd's own limit.
HANDLES_MAX: Final = 200

_MOST_SCOPE: Final = 3


class Program:
    """One connection.

    Attributes:
        refusal: what it is told instead of being served, or None.
        resume: called when it was busy and may send again.
    """

    def __init__(
        self,
        registry: Registry,
        send: Callable[[bytes], None],
        refusal: Rv | None = None,
        resume: Callable[[], None] = lambda: None,
    ) -> None:
        self.refusal = refusal
        self.resume = resume
        self._registry = registry
        self._send = send
        self._agreed = AgreedVersion()
        self._context = 0
        self._handles: dict[int, tuple[ShownReader, Handle]] = {}
        self._waiter = ProgramWaiter(registry, send)
        self._task: asyncio.Task[None] | None = None
        self._requests: dict[type[Any], Callable[[Any], None]] = {
            Version: self._version,
            Establish: self._establish,
            Release: self._release,
            Connect: self._connect,
            Cancel: self._cancel,
        }

    @property
    def busy(self) -> bool:
        """It waits for an answer, and so has nothing to say."""
        return self._task is not None

    def received(self, message: Message) -> None:
        """Serve a message; not while it is `busy`.

        Raises:
            RemoteProtocolError: it is to be let go.
        """
        if isinstance(message, Transmit):
            self.transmit(message)
        elif isinstance(message, Query):
            self._query(message)
        elif (serve := self._requests.get(type(message))) is not None:
            serve(message)
        elif not isinstance(message, Version | Establish | Release | Connect | Cancel):
            self._ask_card(message)

    def transmit(self, request: Transmit) -> None:
        """Serve the message that comes most, as a rule at once.

        Raises:
            RemoteProtocolError: it is to be let go.
        """
        known = self._handles.get(request.handle)
        if known is None or not known[0].slot.is_free_for(known[1], request.send_protocol):
            self._ask_card(request)
            return
        shown, handle = known
        try:
            answer = shown.card.transmit(handle, request, request.data)
        except Refused as refused:
            self._send(_refusal(request, refused.rv))
            return
        if isinstance(answer, bytes):
            self._send(serialize_transmit(request, answer))
        else:
            self._later(request, transmit_later(request, answer))

    def closed(self) -> None:
        """The program is gone, whatever it was at. May be repeated."""
        if self._task is not None:
            self._task.cancel()
        for rest in self._let_go():
            self._registry.keep(_awaited(rest))

    # -- the context ---------------------------------------------------------------------------

    def _version(self, request: Version) -> None:
        if self.refusal is not None:
            request.rv = self.refusal
        else:
            self._agreed.say(request)
        self._send(serialize(request))

    def _establish(self, request: Establish) -> None:
        contexts = self._registry.contexts
        if self.refusal is not None:
            request.rv = self.refusal
        elif request.scope > _MOST_SCOPE:
            request.rv = Rv.E_INVALID_VALUE
        else:
            contexts.pop(self._context, None)
            self._context = request.context = new_number(contexts)
            contexts[self._context] = self._waiter
            request.rv = Rv.SUCCESS
        self._send(serialize(request))

    def _release(self, request: Release) -> None:
        self._check_established()
        if request.context != self._context:
            request.rv = Rv.E_INVALID_VALUE
            self._send(serialize(request))
            return
        request.rv = Rv.SUCCESS
        rest = self._let_go()
        if rest:
            self._later(request, _all(rest))
        else:
            self._send(serialize(request))

    def _let_go(self) -> list[Awaitable[None]]:
        """End the context; returns what of that takes longer."""
        self._registry.contexts.pop(self._context, None)
        self._context = 0
        self._waiter.end()
        handles, self._handles = self._handles, {}
        self._registry.handles.difference_update(handles)
        rest = [shown.abandon(handle) for shown, handle in handles.values()]
        return [work for work in rest if work is not None]

    def _check_established(self) -> None:
        if not self._context:
            raise RemoteProtocolError("no context was established")

    # -- waiting -------------------------------------------------------------------------------

    def _query(self, query: Query) -> None:
        if self.refusal is not None:
            raise RemoteProtocolError("a query of one who may not ask")
        registry = self._registry
        if query is Query.STOP:
            self._waiter.step(WaitEvent.STOP)
        elif query is Query.READER_EVENTS:
            self._send(serialize_signal(registry.events, Rv.SUCCESS))
        elif query is Query.STATES_SIZE:
            self._send(serialize_size(registry.entries))
        elif query is Query.STATES_ARRAY:
            self._send(self._states(new=True))
            self._waiter.step(WaitEvent.ARRAY_SENT)
        elif query is Query.WAIT and self._agreed.is_newest:
            self._waiter.step(WaitEvent.WAIT_AND_READ)
        else:
            self._send(self._states(new=False))
            if query is Query.WAIT:
                self._waiter.step(WaitEvent.WAIT)

    def _states(self, *, new: bool) -> bytes:
        raw = {shown for shown, handle in self._handles.values() if handle.is_raw}
        return self._registry.states(raw, new=new)

    def _cancel(self, request: Cancel) -> None:
        """The context of another connection is meant."""
        if self.refusal is not None:
            request.rv = self.refusal
        elif (waiter := self._registry.contexts.get(request.context)) is None:
            request.rv = Rv.E_INVALID_HANDLE
        else:
            waiter.step(WaitEvent.CANCEL)
            request.rv = Rv.SUCCESS
        self._send(serialize(request))

    # -- cards ---------------------------------------------------------------------------------

    def _connect(self, request: Connect) -> None:
        self._check_established()
        rv = mode_refusal(request.mode, request.protocols)
        if request.context != self._context:
            rv = Rv.E_INVALID_VALUE
        elif rv is None and len(self._handles) >= HANDLES_MAX:
            rv = Rv.E_NO_MEMORY
        shown = self._registry.find(request.name)
        if rv is None and shown is None:
            rv = Rv.E_UNKNOWN_READER
        request.handle = request.protocol = 0
        if rv is not None or shown is None:
            request.rv = rv or Rv.E_UNKNOWN_READER
            self._send(serialize(request))
        else:
            self._later(request, self._open(request, shown))

    async def _open(self, request: Connect, shown: ShownReader) -> None:
        handle = Handle(new_number(self._registry.handles))
        await shown.open(handle, request)
        self._registry.handles.add(handle.number)
        self._handles[handle.number] = shown, handle
        request.handle, request.protocol = handle.number, shown.slot.active_protocol(handle)

    def _ask_card(self, request: CardRequest) -> None:
        known = self._handles.get(request.handle)
        if known is None:
            raise RemoteProtocolError(f"no handle {request.handle:#x} of this connection")
        shown, handle = known
        rv = shown.slot.refusal(request, handle)
        if rv is Rv.E_SHARING_VIOLATION and type(request) in PATIENCE:
            self._later(request, wait_and_do(request, shown, handle))
            return
        try:
            refuse(rv)
            rest = do(request, shown, handle)
        except Refused as refused:
            self._send(_refusal(request, refused.rv))
            return
        if rest is None:
            self._done(request)
        else:
            self._later(request, rest)

    def _done(self, request: Request) -> None:
        request.rv = Rv.SUCCESS
        if isinstance(request, Disconnect):
            del self._handles[request.handle]
            self._registry.handles.discard(request.handle)
        self._send(serialize(request))

    # -- what takes longer -----------------------------------------------------------------------

    def _later(self, request: Request, work: Awaitable[None]) -> None:
        """Answer once `work` is done, and take nothing else meanwhile."""
        self._task = self._registry.keep(self._answer(request, work))

    async def _answer(self, request: Request, work: Awaitable[None]) -> None:
        try:
            await work
        except Refused as refused:
            self._send(_refusal(request, refused.rv))
        except Exception:
            log.exception("a program's request failed")
            self._send(_refusal(request, Rv.F_INTERNAL_ERROR))
        else:
            self._done(request)
        finally:
            self._task = None
        self.resume()


def _refusal(request: Request, rv: Rv) -> bytes:
    request.rv = rv
    if isinstance(request, Transmit | Control):
        request.data = b""
        if rv is not Rv.E_INSUFFICIENT_BUFFER and isinstance(request, Transmit):
            request.room = 0
    return serialize(request)


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _all(works: list[Awaitable[None]]) -> None:
    for work in works:
        await work
