# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processors in a row, from a command's bytes to the card application: two line-ups."""

from __future__ import annotations

from collections.abc import Callable, Collection

from vccid.card.class_byte import AS_LIBCACARD, BY_STANDARD, ClassKind
from vccid.card.command_chaining import CommandChaining
from vccid.card.processors import (
    ClassByte,
    LibcacardProprietaryClass,
    LibcacardReservedClass,
    Process,
    Refusal,
    Unfinished,
)
from vccid.card.response_chaining import LibcacardResponseChaining, ResponseChaining
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command


def by_standard(
    application: Process,
    *,
    secure_messaging: Callable[[Process], Process] | None = None,
    chained: Collection[int] | None = None,
) -> Process:
    """A card by ISO/IEC 7816-4:2020 and SP 800-73-5.

    Args:
        application: the end of the row; it answers SELECT as well, never GET RESPONSE.
        secure_messaging: handed `application`, gives what unwraps a command for it and wraps its
            answer. It gets commands in plain as well, with CLA 00, whole ones always; CLA has bits
            0C where the host asked for secure messaging. None: a card without it (6882).
        chained: the instructions that may come in parts; None for all.
    """
    unfinished = Unfinished()
    inner = application if secure_messaging is None else secure_messaging(application)
    response_chaining = ResponseChaining(inner, unfinished)
    whole = CommandChaining(response_chaining.process, unfinished, chained).process

    def refuse(answer: bytes) -> Process:
        return Refusal(answer, unfinished).process

    no_secure_messaging = refuse(status.SECURE_MESSAGING_NOT_SUPPORTED)
    routes = {
        ClassKind.INTERINDUSTRY: whole,
        ClassKind.PROPRIETARY: refuse(status.CLASS_NOT_SUPPORTED),
        ClassKind.SECURE: no_secure_messaging if secure_messaging is None else whole,
        ClassKind.CHANNEL: refuse(status.CHANNEL_NOT_SUPPORTED),
        ClassKind.RESERVED: refuse(status.CLASS_NOT_SUPPORTED),
    }
    return ClassByte(BY_STANDARD, routes).process


def as_libcacard(
    application: Process,
    *,
    owns: Callable[[Command], bool],
    untouched: Collection[int] = (),
) -> Process:
    """A card as libcacard 2.8.0, but for docs/libcacard-differences.md.

    Args:
        application: the end of the row; it answers SELECT as well, never GET RESPONSE.
        owns: whether the selected applet answers a command by itself, not the card for it.
        untouched: instructions whose answers tell what is left in a way of their own.
    """
    unfinished = Unfinished()
    response_chaining = LibcacardResponseChaining(application, unfinished, untouched).process
    whole = CommandChaining(response_chaining, unfinished).process
    routes = {
        ClassKind.INTERINDUSTRY: whole,
        ClassKind.PROPRIETARY: LibcacardProprietaryClass(whole).process,
        ClassKind.SECURE: Refusal(status.SECURE_MESSAGING_NOT_SUPPORTED, unfinished).process,
        ClassKind.CHANNEL: Refusal(status.CHANNEL_NOT_SUPPORTED, unfinished).process,
        ClassKind.RESERVED: LibcacardReservedClass(owns, response_chaining, unfinished).process,
    }
    return ClassByte(AS_LIBCACARD, routes).process
