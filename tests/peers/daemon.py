# SPDX-License-Identifier: LGPL-2.1-or-later
"""A vccid of one's own: the real daemon as a child, in directories of its own.

with Daemon(tmp_path / "vccid") as daemon:
    daemon.ctl("insert", "--certs", "cert1,cert2,cert3", "--db", f"sql:{database}")
    ...  # pcscd's driver connects to daemon.ifd("vccid0")
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

BIN = Path(sys.executable).parent

#: Seconds for READY, for the end after SIGTERM, and for a vccidctl.
PATIENCE = 20.0


class Daemon:
    """One `vccid`, started and ended by its own process id; it may be started again.

    Attributes:
        directory: run/ state/ conf/ log and the notification socket.
        runtime: its runtime directory.
        control: its control socket.
        log: what it printed, of all its starts.
        notified: everything it told its service manager, of all its starts.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        *,
        settings: str = "",
        options: Sequence[str] = (),
        user: int | None = None,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            directory: made if missing; keep its path short (a socket's path has 107 bytes).
            environment: more variables, such as CREDENTIALS_DIRECTORY.
            settings: content of vccid.toml.
            options: of the command line.
            user: run it as this user and group id (needs root).
        """
        self.directory = directory
        self.runtime = directory / "run"
        self.control = self.runtime / "control"
        self.state = directory / "state"
        self.settings = directory / "conf" / "vccid.toml"
        self.log = directory / "log"
        self.notified: list[str] = []
        self._options = list(options)
        self._environment = dict(environment or {})
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._notify: socket.socket | None = None
        for name in ("run", "state", "conf"):
            (directory / name).mkdir(parents=True, exist_ok=True)
            if user is not None:
                os.chown(directory / name, user, user)
        self.settings.write_text(settings)

    @property
    def pid(self) -> int:
        assert self._process is not None, "vccid is not running"
        return self._process.pid

    def ifd(self, reader: str = "vccid0") -> Path:
        """The socket of a reader for pcscd's driver."""
        return self.runtime / f"{reader}.ifd"

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [str(BIN / "vccid"), *self._options]

    @property
    def env(self) -> dict[str, str]:
        """The daemon's environment."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "WATCHDOG_"))}
        return {
            **plain,
            "RUNTIME_DIRECTORY": str(self.runtime),
            "STATE_DIRECTORY": str(self.state),
            "CONFIGURATION_DIRECTORY": str(self.directory / "conf"),
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "PYTHONUNBUFFERED": "1",
            **self._environment,
        }

    def start(self, wrapper: Sequence[str] = ()) -> None:
        """Start it and wait until it is ready."""
        self.launch(wrapper)
        try:
            self.wait_for(lambda: any("READY=1" in text for text in self.new_notifications()))
        except BaseException:
            self.stop()
            raise

    def launch(self, wrapper: Sequence[str] = ()) -> None:
        """Start it and do not wait; it may be one that ends with an error."""
        assert self._process is None, "vccid is running already"
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(path))
        path.chmod(0o666)
        self._notify.setblocking(False)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )

    def new_notifications(self) -> list[str]:
        """What it told its service manager since this was last asked."""
        assert self._notify is not None
        new = []
        while True:
            try:
                new.append(self._notify.recv(65536).decode())
            except BlockingIOError:
                self.notified += new
                return new

    def wait_for_word(self, word: str) -> None:
        """Wait, without looking again and again, until it tells its service manager so."""
        assert self._notify is not None
        self._notify.settimeout(PATIENCE)
        try:
            while word not in self._notify.recv(65536).decode():
                continue
        finally:
            self._notify.setblocking(False)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Look until it is so; fail once the daemon has ended or patience has."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process is not None
            ended = self._process.poll()
            assert ended is None, f"vccid ended with {ended}:\n{self.printed()}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.printed()}"
            time.sleep(0.01)

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        finally:
            self.stop(signal.SIGKILL)

    def stop(self, with_signal: int = signal.SIGTERM) -> int | None:
        """End it; returns its exit code, or None where it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if self._notify is not None:
                self._notify.close()

    def kill(self) -> None:
        """End it as a crash would."""
        self.stop(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def printed(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def run_ctl(self, *arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run `vccidctl` on it, to its end."""
        return subprocess.run(
            [str(BIN / "vccidctl"), "--socket", str(self.control), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **{"stdin": subprocess.DEVNULL, **how},
        )

    def ctl(self, *arguments: str | Path) -> str:
        """What a `vccidctl` that must succeed printed."""
        done = self.run_ctl(*arguments)
        assert (
            done.returncode == 0
        ), f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}\n{self.printed()}"
        return done.stdout

    def ctl_json(self, *arguments: str | Path) -> Any:
        """The same with --json, parsed."""
        return json.loads(self.ctl("--json", *arguments))

    def reader(self, name: str = "vccid0") -> dict[str, Any]:
        """How a reader stands."""
        readers = self.ctl_json("status")["readers"]
        return next(reader for reader in readers if reader["name"] == name)

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def make_nss_database(directory: Path, names: Sequence[str] = ("cert1", "cert2", "cert3")) -> str:
    """An NSS database without a password, with self-signed certificates as QEMU's manual has
    them; returns what `--db` takes."""
    directory.mkdir(parents=True)
    database = f"sql:{directory}"
    noise = directory / "noise"
    noise.write_bytes(os.urandom(64))
    certutil = shutil.which("certutil") or "certutil"

    def run(*arguments: str) -> None:
        subprocess.run(
            [certutil, "-d", database, *arguments],
            check=True, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    run("-N", "--empty-password")
    for name in names:
        run("-S", "-x", "-t", "CT,CT,CT", "-s", f"CN={name}", "-n", name, "-z", str(noise),
            "-m", str(names.index(name) + 1))  # fmt: skip
    return database
