# SPDX-License-Identifier: LGPL-2.1-or-later
"""Response APDUs that know their command, so that a failed comparison is told in words.

`VERIFY → 63C2 (2 tries left), expected 9000`: tests/conftest.py hands `told` to pytest.
"""

from __future__ import annotations

from typing import Any

from vccid.trace.lines import exchange_text, status_text


class Answer(bytes):
    """A response APDU, or a part cut from one.

    Attributes:
        command: what it answers.
    """

    command: bytes

    def __new__(cls, response: bytes, command: bytes) -> Answer:
        answer = super().__new__(cls, response)
        answer.command = command
        return answer

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return Answer(part, self.command) if isinstance(part, bytes) else part


def told(left: object, right: object) -> list[str] | None:
    """What to say of two that are not equal, or None where they are no answers."""
    if isinstance(right, Answer) and not isinstance(left, Answer):
        left, right = right, left
    if not isinstance(left, bytes) or not isinstance(right, bytes):
        return None
    if isinstance(left, Answer):
        line = exchange_text(left.command, left, right)
    elif len(right) == 2 and right[0] >> 4 in (6, 9):
        line = f"{status_text(left)}, expected {status_text(right)}"
    else:
        return None
    if len(left) <= 2 and len(right) <= 2:
        return [line]
    return [line, f"answer   {left.hex(' ')}", f"expected {right.hex(' ')}"]
