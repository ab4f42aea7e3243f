# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program asks of a card it is connected to, once it was checked (machines.CHECKS)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from vccid.frontends.pcsc.machines import Power
from vccid.frontends.pcsc.shared_card import Refused, refuse
from vccid.frontends.pcsc.shown_reader import ShownReader
from vccid.frontends.pcsc.slot import Handle
from vccid.wire.pcsclite import (
    Begin,
    CardRequest,
    Control,
    Disconnect,
    Disposition,
    End,
    GetAttribute,
    Reconnect,
    Rv,
    SetAttribute,
    Status,
    Transmit,
)

#: Seconds an answer is withheld while another's transaction bars the way; None for as long as it
#: does. The library repeats the first three by itself, and not the last. It may hold a lock that
#: its other threads need, so it has to have an answer soon.
PATIENCE: Final[dict[type[CardRequest], float | None]] = {
    Begin: 0.1,
    Transmit: 0.1,
    Reconnect: 0.1,
    Disconnect: None,
}

#: Fills the answer in; an awaitable where it has to wait.
_Work = Callable[[Any, ShownReader, Handle], Awaitable[None] | None]


def do(request: CardRequest, shown: ShownReader, handle: Handle) -> Awaitable[None] | None:
    """Do what was asked, and put into the request what its answer has.

    Raises:
        Refused: also out of the awaitable.
    """
    return _WORK[type(request)](request, shown, handle)


async def wait_and_do(request: CardRequest, shown: ShownReader, handle: Handle) -> None:
    """Let another's transaction end first.

    Raises:
        Refused: it did not end in time, or whatever came of the request.
    """
    slot, to_begin = shown.slot, isinstance(request, Begin)
    limit = PATIENCE[type(request)]
    began = await shown.pass_lock(handle, limit, to_begin=to_begin)
    done = False
    try:
        refuse(slot.refusal(request, handle))
        if not (to_begin and began):
            work = do(request, shown, handle)
            if work is not None:
                await work
        done = True
    finally:
        if began and not (to_begin and done):
            slot.lock.end(handle)


async def _reconnect(request: Reconnect, shown: ShownReader, handle: Handle) -> None:
    await shown.reopen(handle, request)
    request.protocol = shown.slot.active_protocol(handle)


def _disconnect(request: Disconnect, shown: ShownReader, handle: Handle) -> Awaitable[None] | None:
    if request.disposition in (Disposition.RESET, Disposition.UNPOWER) and not handle.is_gone:
        return shown.close(handle, request.disposition)
    shown.forget(handle)
    return None


def _begin(request: Begin, shown: ShownReader, handle: Handle) -> None:
    shown.slot.lock.begin(handle)


def _end(request: End, shown: ShownReader, handle: Handle) -> Awaitable[None] | None:
    if request.disposition in (Disposition.RESET, Disposition.UNPOWER):
        return _reset_and_end(shown, handle)
    rv = _unlock(shown, handle)
    refuse(Rv.E_UNSUPPORTED_FEATURE if request.disposition == Disposition.EJECT else rv)
    return None


async def _reset_and_end(shown: ShownReader, handle: Handle) -> None:
    empty = shown.slot.power is Power.ABSENT
    await shown.card.reset()
    rv = _unlock(shown, handle)
    refuse(Rv.W_REMOVED_CARD if empty else rv)


def _unlock(shown: ShownReader, handle: Handle) -> Rv | None:
    lock = shown.slot.lock
    if lock.bars(handle):
        return Rv.E_SHARING_VIOLATION
    if lock.owner is not handle:
        return Rv.E_NOT_TRANSACTED
    lock.end(handle)
    return None


def _transmit(request: Transmit, shown: ShownReader, handle: Handle) -> Awaitable[None] | None:
    answer = shown.card.transmit(handle, request, request.data)
    if isinstance(answer, bytes):
        _answer_transmit(request, answer)
        return None
    return transmit_later(request, answer)


async def transmit_later(request: Transmit, answer: Awaitable[bytes]) -> None:
    """Put an answer into the request when it comes.

    Raises:
        Refused: there is none, or it is longer than the program's room.
    """
    _answer_transmit(request, await answer)


def _answer_transmit(request: Transmit, answer: bytes) -> None:
    room, request.room, request.data = request.room, len(answer), answer
    refuse(Rv.E_INSUFFICIENT_BUFFER if len(answer) > room else None)


async def _control(request: Control, shown: ShownReader, handle: Handle) -> None:
    answer = await shown.control(request.code, request.data)
    request.returned, request.data = len(answer), answer
    refuse(Rv.E_INSUFFICIENT_BUFFER if len(answer) > request.room else None)


def _status(request: Status, shown: ShownReader, handle: Handle) -> None:
    """All it tells stands in the reader's state already."""


def _get_attribute(request: GetAttribute, shown: ShownReader, handle: Handle) -> None:
    request.value = shown.attribute(request.attribute)
    request.room = len(request.value)


def _set_attribute(request: SetAttribute, shown: ShownReader, handle: Handle) -> None:
    raise Refused(Rv.E_UNSUPPORTED_FEATURE)


_WORK: Final[dict[type[CardRequest], _Work]] = {
    Reconnect: _reconnect,
    Disconnect: _disconnect,
    Begin: _begin,
    End: _end,
    Transmit: _transmit,
    Control: _control,
    Status: _status,
    GetAttribute: _get_attribute,
    SetAttribute: _set_attribute,
}
