# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands and answers in words: `VERIFY → 63C2 (2 tries left), expected 9000`.

Only what the vocabulary says may be told is told: a PIN, a key or the data of a command nobody
knows is not, whether or not it can be parsed. Of what is secret not even the length is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vccid.errors import RemoteProtocolError
from vccid.iso7816.apdu import Command
from vccid.trace.global_platform import GLOBAL_PLATFORM
from vccid.trace.gsc_is import GSC_IS, INS_GET_CERTIFICATE
from vccid.trace.interindustry import INTERINDUSTRY
from vccid.trace.piv import PIV
from vccid.trace.words import Application, Field, Instruction, Parameter

APPLICATIONS: Final = (GSC_IS, GLOBAL_PLATFORM, PIV)

#: As much of one field as is told: an AID has 16 bytes at most (ISO/IEC 7816-4:2020, 12.2.3).
_LONGEST_FIELD: Final = 16


def application_of(aid: bytes) -> Application | None:
    """The application that a name selects, or None for one without words of its own."""
    for application in APPLICATIONS:
        if aid.startswith(application.aids):
            return application
    return None


def instruction(ins: int, application: Application | None = None) -> Instruction | None:
    """An instruction's entry: the application's, else the standard's, else anybody's."""
    in_order = [INTERINDUSTRY, *APPLICATIONS]
    if application is not None:
        in_order.insert(0, application)
    return next((word for item in in_order if (word := item.instructions.get(ins))), None)


def command_text(raw: bytes, application: Application | None = None) -> str:
    """A command APDU: its name, its parameters and those of its fields that may be told.

    Args:
        raw: the command, whole or not.
        application: the selected one, where it is known.
    """
    try:
        command = Command.parse(raw)
    except RemoteProtocolError:
        entry = instruction(raw[1], application) if _is_class(raw[:1]) and len(raw) > 1 else None
        return "a malformed command" if entry is None else f"a malformed {entry.name}"
    if not _is_class(raw[:1]):
        return "a command of a reserved class"
    entry = instruction(command.ins, application)
    if entry is None:
        return _unknown(command)
    told = _parameters(entry, command)
    if _is_secured(command.cla):
        told.append("secured")
    elif not entry.secrets:
        told += _data(entry.fields, command.data)
    if command.cla & 0x10:  # command chaining (5.3.3)
        told.append("to be continued")
    return f"{entry.name} {', '.join(told)}" if told else entry.name


def status_text(answer: bytes, ins: int = 0, application: Application | None = None) -> str:
    """A response APDU: how much data, and its status word with its name unless that is 9000.

    Args:
        answer: the whole of it, or its status word alone.
        ins: the command's instruction; a few have a status word of their own.
        application: the selected one, where it is known.
    """
    if len(answer) < 2:
        return "no answer" if not answer else "a malformed answer"
    word = int.from_bytes(answer[-2:], "big")
    name = "" if word == 0x9000 else _status_name(word, ins, application)
    told = f"{word:04X} ({name})" if name else f"{word:04X}"
    count = len(answer) - 2
    return f"{_bytes(count)} and {told}" if count else told


def outcome_text(ins: int, answer: bytes, application: Application | None = None) -> str:
    """An instruction's name and its answer, where nothing else of the command is to be told."""
    entry = instruction(ins, application)
    name = f"instruction {ins:02X}" if entry is None else entry.name
    return f"{name} → {status_text(answer, ins, application)}"


def exchange_text(
    raw: bytes,
    answer: bytes,
    expected: bytes | None = None,
    application: Application | None = None,
) -> str:
    """A command, what it was answered and, if given, what it should have been answered."""
    ins = raw[1] if len(raw) > 1 else 0
    line = f"{command_text(raw, application)} → {status_text(answer, ins, application)}"
    if expected is None:
        return line
    return f"{line}, expected {status_text(expected, ins, application)}"


def _is_class(cla: bytes) -> bool:
    """Whether it is a card's: 20 to 3F, ASCII's digits among them, and FF are nobody's."""
    return len(cla) == 1 and not 0x20 <= cla[0] <= 0x3F and cla[0] != 0xFF


def _is_secured(cla: int) -> bool:
    """Secure messaging (5.4.1): what is in the data field is not what the command carries."""
    return bool(cla & 0x20) if 0x40 <= cla <= 0x7F else bool(cla & 0x0C)


def _unknown(command: Command) -> str:
    """An instruction nobody knows; in a class nobody uses the bytes may be no command at all."""
    name = f"instruction {command.ins:02X}"
    if command.cla & 0x6F:
        return name
    name += f" with {command.p1:02X} {command.p2:02X}"
    return ", ".join([name, *_data((), command.data)])


def _parameters(entry: Instruction, command: Command) -> list[str]:
    if entry.p1_p2 is not None:
        return _parameter(entry.p1_p2, command.p1 << 8 | command.p2, 4)
    told = [] if entry.p1 is None else _parameter(entry.p1, command.p1, 2)
    return told if entry.p2 is None else told + _parameter(entry.p2, command.p2, 2)


def _parameter(parameter: Parameter, value: int, digits: int) -> list[str]:
    name = parameter.values.get(value)
    if name is None:
        return [f"{parameter.name} {value:0{digits}X}"]
    return [name] if name else []


def _data(fields: tuple[Field, ...], data: bytes) -> list[str]:
    told = []
    for item in fields:
        part = data[: item.size] if item.size else data
        data = data[len(part) :]
        if part:
            told.append(_field(item, part))
    return [*told, _bytes(len(data))] if data else told


def _field(item: Field, value: bytes) -> str:
    name = item.values.get(value)
    if name is not None:
        return f"{item.name} {name}" if len(name) == 1 else name
    told = _bytes(len(value)) if len(value) > _LONGEST_FIELD else value.hex().upper()
    return f"{item.name} {told}".lstrip()


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _status_name(word: int, ins: int, application: Application | None) -> str:
    first, second = divmod(word, 256)
    names: Mapping[int, str] = {} if application is None else application.status_words
    name = names.get(word)
    if name is not None:
        return name
    if first == 0x63 and ins == INS_GET_CERTIFICATE:
        return f"{second or 256} more bytes"
    if word & 0xFFF0 == 0x63C0:
        tries = word & 0x000F
        return "1 try left" if tries == 1 else f"{tries} tries left"
    if first == 0x61:
        return f"{_bytes(second)} more" if second else "256 bytes or more"
    if first == 0x6C:
        return f"wrong Le, {second or 256} would be right"
    return INTERINDUSTRY.status_words.get(word, "")
