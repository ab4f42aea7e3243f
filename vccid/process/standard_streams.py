# SPDX-License-Identifier: LGPL-2.1-or-later
"""The three standard streams, as a program of ours finds them: open, closed, full, or left.

What cannot be said on standard error changes nothing that a program does. What cannot be written
to standard output is an error; a closed one is taken for /dev/null, since nobody wants to hear.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, Final, TextIO

from vccid.errors import VccidError

_OUTPUT: Final = 1


class _Output(io.FileIO):
    """Standard output, which knows its errors from other files'.

    Attributes:
        error: why it could not be written.
    """

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """As every file."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


class _Heedless(io.FileIO):
    """A file that takes what it cannot write for written."""

    def write(self, data: Any, /) -> int:
        """Write as much as can be; returns a number of bytes."""
        with contextlib.suppress(OSError):
            written = super().write(data)
            if written is not None:  # None: it would block
                return written
        return memoryview(data).nbytes


_closed: tuple[int, ...] = ()


def closed() -> tuple[int, ...]:
    """Those of the three that were closed when the program began."""
    return _closed


def set_up() -> None:
    """Open what is closed of the three. To be done before all else.

    Otherwise the next files to be opened take their places, and are then read and written as if
    they were the terminal.
    """
    global _closed
    _closed = tuple(number for number in range(3) if not _is_open(number))
    for _ in _closed:
        # It gets the lowest number that is free.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    encoding, errors = getattr(sys.stdout, "encoding", None), getattr(sys.stdout, "errors", None)
    sys.stdout = _writer(_Output(_OUTPUT, "w", closefd=False), encoding, errors)
    sys.stderr = _writer(_Heedless(2, "w", closefd=False), encoding, "backslashreplace")


def flush() -> None:
    """Write out what standard output holds; what it cannot write is dropped.

    Raises:
        OSError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError:
        # Lest the interpreter try again at its end, and complain in words of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), _OUTPUT)
        raise


def explained(error: OSError) -> VccidError:
    """What an error that nobody expected says: it was standard output's, or some file's."""
    is_of_output = error is getattr(getattr(sys.stdout.buffer, "raw", None), "error", None)
    with contextlib.suppress(OSError):
        flush()
    reason = error.strerror or str(error)
    if is_of_output:
        return VccidError(f"standard output cannot be written: {reason}", "give it another place")
    return VccidError(reason if error.filename is None else f"{error.filename}: {reason}")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _writer(raw: io.FileIO, encoding: str | None, errors: str | None) -> TextIO:
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=True)
