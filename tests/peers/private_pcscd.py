# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pcscd of one's own: its socket, readers and log in one directory, the system's left alone.

    with PrivatePcscd(tmp_path / "pcscd", [ReaderEntry("vccid vccid0", device, library)]) as pcscd:
        subprocess.run(["opensc-tool", "-l"], env=pcscd.env, timeout=10)

pcscd's socket is always /run/pcscd/pcscd.comm, so it runs in a mount namespace where that
directory is one of ours; clients reach it from outside by PCSCLITE_CSOCK_NAME. Needs root.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vccid.run import pcscd

#: Where Debian's pcscd looks for USB drivers (libccid).
USB_DRIVERS = Path("/usr/lib/pcsc/drivers")

#: Seconds pcscd is given to open its socket, and to leave after SIGTERM.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class ReaderEntry:
    """One record of reader.conf.d.

    Attributes:
        name: FRIENDLYNAME; clients see it with " 00 00" behind.
        device: DEVICENAME, handed to IFDHCreateChannelByName.
        library: LIBPATH, absolute.
    """

    name: str
    device: str
    library: Path


class PrivatePcscd:
    """One pcscd in the foreground, started and ended by its own process id.

    Attributes:
        directory: everything it has: conf/, run/pcscd.comm, log.
        socket: where its clients connect.
        log: what it printed, of all its starts.
        pid: of the running pcscd.
    """

    def __init__(
        self,
        directory: Path,
        readers: Sequence[ReaderEntry] = (),
        *,
        usb: bool = False,
        log_apdus: bool = False,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: str | None = None,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            directory: made if missing; keep its path short (a socket's path has 107 bytes).
            readers: records of reader.conf.d.
            usb: whether libccid takes this host's USB readers as well.
            log_apdus: `-a`: every APDU in the log.
            options: more of pcscd's options, such as "--auto-exit".
            environment: more variables for pcscd, such as LD_PRELOAD.
            program: another pcscd than this system's.
        """
        self.directory = directory
        self.socket = directory / "run" / "pcscd.comm"
        self.log = directory / "log"
        self._usb = usb
        self._options = [*(["--apdu"] if log_apdus else []), *options]
        self._environment = dict(environment or {})
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("conf", "run", "empty"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        records = [
            f'FRIENDLYNAME "{entry.name}"\nDEVICENAME {entry.device}\nLIBPATH {entry.library}\n'
            for entry in readers
        ]
        (directory / "conf" / "readers").write_text("\n".join(records))

    @property
    def pid(self) -> int:
        assert self._process is not None, "pcscd is not running"
        return self._process.pid

    @property
    def env(self) -> dict[str, str]:
        """The environment of a client (a new process: libpcsclite reads it once)."""
        return {**os.environ, "PCSCLITE_CSOCK_NAME": str(self.socket)}

    def start(self) -> None:
        """Start pcscd and wait until it takes clients."""
        assert self._process is None, "pcscd is running already"
        self.socket.unlink(missing_ok=True)
        (self.socket.parent / "pcscd.pid").unlink(missing_ok=True)
        script = 'mkdir -p /run/pcscd && mount --bind "$1" /run/pcscd && '
        if not self._usb and USB_DRIVERS.is_dir():
            script += f'mount --bind "$2" {USB_DRIVERS} && '
        script += 'shift 2 && exec "$@"'
        command = pcscd.command(self._program or pcscd.find(), self.directory / "conf")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    script,
                    "sh",
                    str(self.socket.parent),
                    str(self.directory / "empty"),
                    *command,
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        try:
            self._wait_for_socket()
        except BaseException:
            self.stop()
            raise

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """End pcscd; does nothing when it is not running.

        Args:
            with_signal: SIGTERM leaves at once, SIGINT closes the readers first,
                SIGKILL is the worst case.
        """
        process, self._process = self._process, None
        if process is None:
            return
        # Twice: where pcscd's signal thread comes a millisecond later than its main loop allows,
        # that waits for a client and does not know it has to end (SVCServiceRunLoop).
        for _ in range(2):
            process.send_signal(with_signal)
            try:
                process.wait(PATIENCE / 2)
                return
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()
        raise AssertionError(f"pcscd did not leave; its log: {self.log_tail()}")

    def alive(self) -> bool:
        """Whether pcscd is still running by itself."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> PrivatePcscd:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_for_socket(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not self.alive():
                raise AssertionError(f"pcscd ended at once; its log: {self.log_tail()}")
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(self.socket))
                except OSError:
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError(f"pcscd opened no socket; its log: {self.log_tail()}")
