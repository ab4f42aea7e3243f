# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log lines as the journal likes them: a priority in front, one line each, fields at the end.

Source: sd-daemon(3), "<N>" prefixes; JOURNAL_STREAM in systemd.exec(5).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

#: syslog(3) priorities
_PRIORITY: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}

#: `extra=` names that become fields at the end of a line.
FIELDS: Final = ("reader", "card", "peer")


class LineFormatter(logging.Formatter):
    """`message READER=name CARD=serial`; in the journal `<N>` in front, else time and level."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One record; a traceback's lines each become a line of the same priority."""
        text = super().format(record)
        first, *more = text.split("\n") if record.exc_info else [text]
        lines = [_printable(first) + _fields(record), *map(_printable, more)]
        prefix = f"<{_PRIORITY.get(record.levelno, 6)}>" if self._journal else ""
        return "\n".join(prefix + line for line in lines)


def _fields(record: logging.LogRecord) -> str:
    given = [(name, getattr(record, name, "")) for name in FIELDS]
    return "".join(f" {name.upper()}={_printable(str(value))}" for name, value in given if value)


def _printable(text: str) -> str:
    """What a peer or a file made us say must not begin a line or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def goes_to_journal(environ: Mapping[str, str], stream_fd: int) -> bool:
    """Whether the stream is the one systemd connected to the journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream_fd)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def start(level: str, environ: Mapping[str, str]) -> None:
    """Log to standard error from now on, from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(goes_to_journal(environ, sys.stderr.fileno())))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.raiseExceptions = False  # a full or closed log must not end the daemon


def set_level(level: str) -> None:
    """Change the least level that is logged."""
    logging.getLogger().setLevel(level.upper())
