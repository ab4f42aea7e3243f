# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an instruction is called, what its parameters mean, and which of its fields are told.

The tables are by application: `interindustry`, `gsc_is`, `global_platform`, `piv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Parameter:
    """P1, P2, or both as one number.

    Attributes:
        name: what the standard calls it.
        values: names for some of its values; "" for one that need not be told.
    """

    name: str
    values: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """A part of the command data field that may be told; what has none of these is not.

    Attributes:
        name: what the standard calls it; "" where its value says it all.
        size: bytes; 0 for all that is left.
        values: names for some of its values.
    """

    name: str
    size: int = 0
    values: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One command of one application.

    Attributes:
        name: the standard's.
        p1: what P1 means, None where it is nothing to tell.
        p2: likewise.
        p1_p2: what both mean together, instead of the two.
        fields: of the command data, in order.
        secrets: what is secret in the command data: then not even its length is told.
        secret_answer: whether the answer's data is, a decrypted key for one.
    """

    name: str
    p1: Parameter | None = None
    p2: Parameter | None = None
    p1_p2: Parameter | None = None
    fields: tuple[Field, ...] = ()
    secrets: tuple[str, ...] = ()
    secret_answer: bool = False


@dataclass(frozen=True, slots=True)
class Application:
    """What a card application adds to the interindustry commands.

    Attributes:
        name: for people.
        aids: beginnings of the names that select it.
        instructions: by instruction byte.
        status_words: names by SW1 SW2 that differ from the standard's.
    """

    name: str
    aids: tuple[bytes, ...]
    instructions: Mapping[int, Instruction]
    status_words: Mapping[int, str] = field(default_factory=dict)
