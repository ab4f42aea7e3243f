# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's end of the line to inside/agent.py: start commands, collect what they say."""

import base64
import contextlib
import itertools
import json
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

# Longer than the agent's own clock for a command, for the answer's way back.
GRACE_SECONDS = 15.0


class GuestError(Exception):
    """The guest is gone, rebooted, or does not answer."""


class GuestTimeout(GuestError):
    """A command did not end in its time; it was killed."""


class CommandFailed(AssertionError):
    """A command in the guest ended with another exit code than 0."""


@dataclass(frozen=True)
class Result:
    """How a command ended. `code` is negative for the signal that killed it."""

    command: str
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def errors(self) -> str:
        """Standard error as text."""
        return self.stderr.decode(errors="replace")

    def check(self) -> "Result":
        """Itself.

        Raises:
            CommandFailed: the exit code was not 0.
        """
        if self.code != 0:
            raise CommandFailed(
                f"in the guest: {self.command}\nexit code {self.code}\n{self.text}{self.errors}"
            )
        return self


class GuestProcess:
    """A command that runs in the guest."""

    def __init__(self, channel: "Channel", number: int, command: str) -> None:
        self.command = command
        self._channel = channel
        self._number = number
        self._output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._code: int | None = None
        self._began = time.monotonic()
        self._timed_out = False
        self._pid = 0
        self._failure: str | None = None
        self.changed = threading.Condition()

    def handle(self, message: dict[str, Any]) -> None:
        """Take in a message of the agent; called by the channel's thread."""
        with self.changed:
            if "pid" in message:
                self._pid = message["pid"]
            elif "exit" in message:
                self._code, self._timed_out = message["exit"], message["timed_out"]
            else:
                for name in self._output.keys() & message.keys():
                    self._output[name] += base64.b64decode(message[name])
            self.changed.notify_all()

    def fail(self, why: str) -> None:
        """The line is lost: everyone who waits learns it."""
        with self.changed:
            self._failure = why
            self.changed.notify_all()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._code is None and self._failure is None

    @property
    def output(self) -> str:
        """Standard output and standard error so far."""
        with self.changed:
            both = self._output["stdout"] + self._output["stderr"]
        return both.decode(errors="replace")

    @property
    def pid(self) -> int:
        """Its process id in the guest, which is its process group's too."""
        self._until(lambda: self._pid != 0, GRACE_SECONDS)
        return self._pid

    def wait_for(self, text: str, timeout: float = 90.0) -> str:
        """The output so far, once it contains `text`.

        Raises:
            GuestTimeout: it did not within `timeout` seconds, or the command ended before.
        """
        self._until(lambda: text in self.output or self._code is not None, timeout)
        if text not in self.output:
            raise GuestTimeout(f"{self.command} ended without saying {text!r}:\n{self.output}")
        return self.output

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self._channel.send(id=self._number, signal=number)

    def wait(self, timeout: float) -> Result:
        """How it ended.

        Raises:
            GuestTimeout: it has not within `timeout` seconds, or the agent killed it for that.
        """
        self._until(lambda: self._code is not None, timeout)
        assert self._code is not None
        if self._timed_out:
            # The agent goes by the guest's clock, which is to run as ours does.
            here = time.monotonic() - self._began
            raise GuestTimeout(f"{self.command} took too long ({here:.0f} s here):\n{self.output}")
        stdout, stderr = (bytes(self._output[name]) for name in ("stdout", "stderr"))
        return Result(self.command, self._code, stdout, stderr)

    def stop(self, timeout: float = 15.0) -> Result:
        """End it by SIGTERM and return how it ended; fine if it has ended already."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def _until(self, done: Any, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self.changed:
            while not done():
                if self._failure is not None:
                    raise GuestError(f"{self.command}: {self._failure}")
                if not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    raise GuestTimeout(f"{self.command}: no answer in {timeout} s:\n{self.output}")


class Channel:
    """One connection to the agent; a thread reads what it sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._processes: dict[int, GuestProcess] = {}
        self._boots = 0
        self._lost: str | None = None
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def boots(self) -> int:
        """How often an agent has said that it is ready."""
        return self._boots

    def wait_boot(self, number: int, timeout: float) -> None:
        """Wait until the agent has come up `number` times.

        Raises:
            GuestError: QEMU ended.
            GuestTimeout: it has not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._boots < number:
                if self._lost is not None:
                    raise GuestError(self._lost)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise GuestTimeout(f"the guest's agent is not up after {timeout} s")

    def start(self, command: str, stdin: bytes, timeout: float | None) -> GuestProcess:
        """Start a shell command; the agent kills it after `timeout` seconds, if given."""
        with self._changed:
            if self._lost is not None:
                raise GuestError(self._lost)
            number = next(self._numbers)
            process = self._processes[number] = GuestProcess(self, number, command)
        encoded = base64.b64encode(stdin).decode()
        self.send(id=number, start=command, input=encoded, timeout=timeout)
        return process

    def send(self, **message: Any) -> None:
        """Send one request to the agent."""
        with self._send_lock:
            try:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError as error:
                raise GuestError("QEMU is gone") from error

    def _read(self) -> None:
        # A killed QEMU resets the line instead of closing it.
        with self._connection.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
            for line in lines:
                self._handle(json.loads(line))
        with self._changed:
            self._lost = "QEMU ended"
            self._changed.notify_all()
        self._fail_all(self._lost)

    def _handle(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._fail_all("the guest rebooted")
            with self._changed:
                self._boots += 1
                self._changed.notify_all()
            return
        with self._changed:
            process = self._processes.get(message["id"])
            if "exit" in message:
                self._processes.pop(message["id"], None)
        if process is not None:
            process.handle(message)

    def _fail_all(self, why: str) -> None:
        with self._changed:
            processes = list(self._processes.values())
            self._processes.clear()
        for process in processes:
            process.fail(why)

    def close(self) -> None:
        """Give the line up; the reader thread ends."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()
