# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log lines: priorities, fields, and nothing that could pass for another line."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from vccid.daemon.logging import LineFormatter, goes_to_journal


def line(message: str, level: int = logging.INFO, journal: bool = True, **fields: Any) -> str:
    record = logging.LogRecord("vccid", level, "", 0, message, (), None)
    vars(record).update(fields)
    return LineFormatter(journal).format(record)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)],
)
def test_priorities_are_syslogs(level: int, priority: int) -> None:
    assert line("hello", level) == f"<{priority}>hello"


def test_fields_stand_at_the_end() -> None:
    assert line("card-inserted", reader="vccid0", card="ab12") == (
        "<6>card-inserted READER=vccid0 CARD=ab12"
    )


def test_without_a_journal_there_is_a_time_and_no_prefix() -> None:
    text = line("hello", journal=False, reader="vccid0")
    assert text.endswith(" INFO hello READER=vccid0")
    assert not text.startswith("<")


def test_a_message_stays_one_line_and_moves_no_cursor() -> None:
    assert line("a\n<0>b\x1b[2J", reader="x\ny") == "<6>a\\x0a<0>b\\x1b[2J READER=x\\x0ay"


def test_each_line_of_a_traceback_has_the_priority() -> None:
    try:
        raise ValueError("why\x1b")
    except ValueError as error:
        record = logging.LogRecord(
            "vccid", logging.ERROR, "", 0, "it failed", (), (ValueError, error, error.__traceback__)
        )
    first, *rest = LineFormatter(True).format(record).split("\n")
    assert first == "<3>it failed"
    assert rest[0] == "<3>Traceback (most recent call last):"
    assert rest[-1] == "<3>ValueError: why\\x1b"


def test_the_journals_stream_is_known_by_its_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        name = f"{status.st_dev}:{status.st_ino}"
        assert goes_to_journal({"JOURNAL_STREAM": name}, stream.fileno())
        assert not goes_to_journal({"JOURNAL_STREAM": f"{status.st_dev}:1"}, stream.fileno())
        assert not goes_to_journal({}, stream.fileno())
    assert not goes_to_journal({"JOURNAL_STREAM": name}, 999)
