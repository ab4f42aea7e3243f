#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the test's commands inside the guest.

JSON lines over a virtio serial port, bytes as base64. From the host:

    {"id": n, "start": "shell command", "input": base64, "timeout": seconds or null}
    {"id": n, "signal": number}

and back, in this order for each id:

    {"ready": true}                                   once, at start
    {"id": n, "pid": number}
    {"id": n, "stdout" or "stderr": base64}           as it comes
    {"id": n, "exit": code or -signal, "timed_out": bool}

A command ends when its shell does: what it leaves in the background lives on.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import selectors
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT_NAME = "vccid.agent"
CHUNK_BYTES = 65536


class Agent:
    """One port to the host; a thread for each command that runs."""

    def __init__(self, port: int) -> None:
        # The port can be opened once only.
        self._requests = os.fdopen(port, "rb")
        self._answers = os.fdopen(os.dup(port), "wb")
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def send(self, **message: object) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._answers.write(line)
            self._answers.flush()

    def serve(self) -> None:
        self.send(ready=True)
        for line in self._requests:
            request = json.loads(line)
            if "start" in request:
                threading.Thread(target=self._run, args=(request,), daemon=True).start()
            elif (process := self._running.get(request["id"])) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, request["signal"])

    def _run(self, request: dict[str, Any]) -> None:
        number = request["id"]
        with os.fdopen(os.memfd_create("input"), "r+b") as stdin:
            stdin.write(base64.b64decode(request["input"]))
            stdin.seek(0)
            process = subprocess.Popen(
                ["/bin/sh", "-c", request["start"]],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._running[number] = process
        self.send(id=number, pid=process.pid)
        timed_out = self._relay(number, process, request["timeout"])
        code = process.wait()
        del self._running[number]
        self.send(id=number, exit=code, timed_out=timed_out)

    def _relay(self, number: int, process: subprocess.Popen[bytes], timeout: float | None) -> bool:
        """Pass the output on until the process ends; True if its time ran out."""
        deadline = None if timeout is None else time.monotonic() + timeout
        timed_out = False
        assert process.stdout is not None
        assert process.stderr is not None
        streams = {"stdout": process.stdout, "stderr": process.stderr}
        for stream in streams.values():
            os.set_blocking(stream.fileno(), False)
        with selectors.DefaultSelector() as selector, pidfd(process) as ended:
            selector.register(ended, selectors.EVENT_READ)
            for name, stream in streams.items():
                selector.register(stream, selectors.EVENT_READ, name)
            running = True
            while running:
                rest = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = [key for key, _ in selector.select(rest)]
                if not ready:
                    os.killpg(process.pid, signal.SIGKILL)
                    timed_out, deadline = True, None
                running = all(key.fd != ended for key in ready)
                for key in ready:
                    if key.fd != ended and not self._pass_on(number, key.data, key.fd):
                        selector.unregister(key.fd)
        # All it wrote was in the pipes by the time it ended; its offspring may hold them open.
        for name, stream in streams.items():
            with stream, contextlib.suppress(BlockingIOError):
                while self._pass_on(number, name, stream.fileno()):
                    pass
        return timed_out

    def _pass_on(self, number: int, name: str, stream: int) -> bool:
        """Send one piece of output; False at its end."""
        data = os.read(stream, CHUNK_BYTES)
        if data:
            self.send(id=number, **{name: base64.b64encode(data).decode()})
        return bool(data)


@contextlib.contextmanager
def pidfd(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """A descriptor that is readable once the process has ended."""
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_port() -> str:
    """The device of the port that the host opened for us."""
    for port in pathlib.Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == PORT_NAME:
            return "/dev/" + port.name
    raise SystemExit("no virtio port named " + PORT_NAME)


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    Agent(os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)).serve()
