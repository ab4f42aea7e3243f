# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's machine protocol, as much of it as tests need (QEMU: docs/interop/qmp-spec)."""

import json
import socket
from typing import Any


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qmp:
    """A QMP connection over a stream socket that QEMU serves."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        """Take the greeting and leave negotiation mode; `timeout` is for each answer, in s."""
        self._connection = connection
        self._connection.settimeout(timeout)
        self._lines = connection.makefile("rb")
        self.events: list[dict[str, Any]] = []
        self._receive()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command (an underscore in an argument's name stands for a hyphen).

        Raises:
            QmpError: with QEMU's own words.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command, "arguments": named}
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._receive()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            self.events.append(message)

    def wait_event(self, name: str) -> dict[str, Any]:
        """The next event of this name, a DEVICE_DELETED say; earlier ones that came count too."""
        while True:
            for index, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(index)
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU closed its monitor")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._connection.close()
