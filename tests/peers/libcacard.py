# SPDX-License-Identifier: LGPL-2.1-or-later
"""libcacard itself, in a child process: the card that ours is compared with.

It keeps its state in globals and ends its process on a failed assertion, so it lives in a
child of its own. The child is this same file, run as a program.

    with Libcacard(make_database(tmp_path)) as libcacard:
        answers = libcacard.transmit([POWER_ON, bytes.fromhex("00A4040007A0000000790100")])

Frames on the child's pipes, both ways: a count (u32), then that many strings, each behind its
length (u32), all big-endian. An empty string powers the card on and is answered with the ATR.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

#: Stands in a batch for "power the card on".
POWER_ON = b""

#: Asks the child to run the batch behind it so many times, and to answer the seconds it took.
_REPEAT = struct.Struct(">4sI")
_REPEAT_MAGIC = b"\xffRPT"

_COUNT = struct.Struct(">I")

#: The nicknames of the seed's three certificates.
NICKNAMES = ("cert1", "cert2", "cert3")


@dataclass(frozen=True, slots=True)
class Database:
    """A scratch NSS database.

    Attributes:
        directory: where cert9.db and key4.db are.
        password: what unlocks it, or "" for none.
    """

    directory: Path
    password: str


def make_database(directory: Path, password: str, usages: str = "") -> Database:
    """An NSS database with cert1, cert2, cert3, made with the seed's own certutil commands.

    `usages` is what their extended key usage shall be, as certutil names it.
    """
    extended = ("--extKeyUsage", usages) if usages else ()
    database = _empty_database(directory, password)
    noise = directory / "noise"
    for nickname in NICKNAMES:
        noise.write_bytes(os.urandom(2048))
        _run(
            "certutil", "-d", f"sql:{directory}", "-x", "-t", "CT,CT,CT", "-S",
            "-s", f"CN={nickname}", "-n", nickname, "-z", str(noise),
            "-f", str(directory / "password"), *extended,
        )  # fmt: skip
    return database


def fill_database(directory: Path, password: str, pkcs12: Sequence[bytes]) -> Database:
    """An NSS database with certificates and keys from PKCS#12 files of the same password."""
    database = _empty_database(directory, password)
    for raw in pkcs12:
        path = directory / "credential.p12"
        path.write_bytes(raw)
        _run(
            "pk12util", "-d", f"sql:{directory}", "-i", str(path),
            "-k", str(directory / "password"), "-W", password,
        )  # fmt: skip
    return database


def _empty_database(directory: Path, password: str) -> Database:
    directory.mkdir(parents=True)
    password_file = directory / "password"
    password_file.write_text(password + "\n")
    _run("certutil", "-N", "-d", f"sql:{directory}", "-f", str(password_file))
    return Database(directory, password)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


class Libcacard:
    """A running libcacard with one card; end it with `close` or leave the `with` block."""

    def __init__(self, database: Database) -> None:
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(database.directory), *NICKNAMES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Libcacard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child. May be repeated."""
        self._child.kill()
        self._child.communicate()

    def transmit(self, batch: Sequence[bytes]) -> list[bytes]:
        """Run a batch of APDUs, in order; returns their answers."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None and stdout is not None
        _write_batch(stdin, batch)
        return _read_batch(stdout)

    def seconds_for(self, batch: Sequence[bytes], times: int) -> float:
        """How long `times` runs of a batch take within the child, through ctypes alone."""
        answer = self.transmit([_REPEAT.pack(_REPEAT_MAGIC, times), *batch])
        return float(answer[0].decode())


def _write_batch(stream: IO[bytes], batch: Sequence[bytes]) -> None:
    parts = [_COUNT.pack(len(batch))]
    for item in batch:
        parts += (_COUNT.pack(len(item)), item)
    stream.write(b"".join(parts))
    stream.flush()


def _read_batch(stream: IO[bytes]) -> list[bytes]:
    def exactly(count: int) -> bytes:
        data: bytes = stream.read(count)
        if len(data) != count:
            raise EOFError("libcacard's process ended")
        return data

    def number() -> int:
        value: int = _COUNT.unpack(exactly(4))[0]
        return value

    return [exactly(number()) for _ in range(number())]


class _Card:
    """The card in libcacard's only reader (vreader.h)."""

    def __init__(self, directory: str, nicknames: Sequence[str]) -> None:
        library = ctypes.CDLL("libcacard.so.0")
        library.vcard_emul_options.restype = ctypes.c_void_p
        library.vcard_emul_init.argtypes = [ctypes.c_void_p]
        library.vreader_get_reader_by_name.restype = ctypes.c_void_p
        library.vreader_xfr_bytes.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_int),
        ]  # fmt: skip
        library.vreader_power_on.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int),
        ]  # fmt: skip
        arguments = f'db="sql:{directory}" use_hw=no soft=(,Test,CAC,,{",".join(nicknames)})'
        options = library.vcard_emul_options(arguments.encode())
        if library.vcard_emul_init(options) != 0:
            raise SystemExit("libcacard found no certificates")
        self._reader = library.vreader_get_reader_by_name(b"Test")
        self._library = library
        self._buffer = ctypes.create_string_buffer(1 << 17)
        self._length = ctypes.c_int()
        self._length_pointer = ctypes.byref(self._length)

    def transmit(self, command: bytes) -> bytes:
        self._length.value = len(self._buffer)
        if command == POWER_ON:
            status = self._library.vreader_power_on(
                self._reader, self._buffer, self._length_pointer
            )
        else:
            status = self._library.vreader_xfr_bytes(
                self._reader, command, len(command), self._buffer, self._length_pointer
            )
        if status != 0:
            raise SystemExit(f"libcacard answered status {status}")
        return ctypes.string_at(self._buffer, self._length.value)

    def seconds_for(self, batch: Sequence[bytes], times: int) -> float:
        transmit = self.transmit
        start = time.perf_counter()
        for _ in range(times):
            for command in batch:
                transmit(command)
        return time.perf_counter() - start


def _main(directory: str, *nicknames: str) -> None:
    card = _Card(directory, nicknames)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            batch = _read_batch(stdin)
        except EOFError:
            return
        if batch[0].startswith(_REPEAT_MAGIC):
            seconds = card.seconds_for(batch[1:], _REPEAT.unpack(batch[0])[1])
            _write_batch(stdout, [repr(seconds).encode()])
        else:
            _write_batch(stdout, [card.transmit(command) for command in batch])


if __name__ == "__main__":
    _main(*sys.argv[1:])
