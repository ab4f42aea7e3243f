# SPDX-License-Identifier: LGPL-2.1-or-later
"""One conversation with the daemon over its control socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from vccid.errors import NotPermitted, RemoteProtocolError, VccidError
from vccid.wire.varlink import INTERFACE, Call, Decoder, Parameters, Reply

SYSTEM_SOCKET: Final = Path("/run/vccid/control")


class NoDaemon(VccidError):
    """Nobody listens at the control socket."""


class DaemonError(VccidError):
    """The daemon refused a call.

    Attributes:
        kind: the error's name in the interface, such as "PasswordNeeded".
    """

    def __init__(self, kind: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.kind = kind


def connect(path: Path | None = None, patience: float | None = None) -> Client:
    """The daemon at `path`; without one the caller's own where one runs, else the system's.

    Raises:
        NoDaemon, NotPermitted: as Client.
    """
    own = None if path is not None else _own_socket()
    if own is not None:
        # A killed daemon leaves its socket behind.
        with contextlib.suppress(NoDaemon, NotPermitted):
            return Client(own, patience)
    return Client(path or SYSTEM_SOCKET, patience)


def _own_socket() -> Path | None:
    """The caller's, if XDG_RUNTIME_DIR is: after su and sudo -E it may be another user's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(runtime) or os.geteuid() == 0:  # a relative one counts as none (XDG)
        return None
    try:
        is_ours = os.stat(runtime).st_uid == os.geteuid()
    except OSError:
        return None
    return Path(runtime) / "vccid" / "control" if is_ours else None


class Client:
    """A connected control socket; a context manager.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, patience: float | None = None) -> None:
        """Connect.

        Args:
            patience: seconds to wait for the daemon each time, or None for ever.

        Raises:
            NoDaemon: nobody listens there.
            NotPermitted: the socket is closed to this user.
        """
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(patience)
        self._decoder = Decoder()
        self._messages: deque[bytes] = deque()
        try:
            self._socket.connect(os.fspath(path))
        except PermissionError as error:
            self._socket.close()
            raise NotPermitted(
                f"you may not use {path}",
                f"be root or a member of group {_group_of(path)}, then log in again",
            ) from error
        except OSError as error:
            self._socket.close()
            raise NoDaemon(
                f"no daemon listens at {path} ({error.strerror or error})",
                "start it: systemctl start vccid; or name another socket: vccidctl --socket PATH",
            ) from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, method: str, parameters: Parameters | None = None) -> Parameters:
        """Call io.vccid.<method>; returns its output.

        Raises:
            DaemonError: the daemon answered with an error.
            NoDaemon: it went away before it answered, or took too long.
        """
        self._send(Call(f"{INTERFACE}.{method}", parameters or {}))
        return self._reply().parameters

    def stream(self, method: str) -> Iterator[Parameters]:
        """Call io.vccid.<method> with `more`; yields each reply until the last."""
        self._send(Call(f"{INTERFACE}.{method}", more=True))
        while True:
            reply = self._reply()
            yield reply.parameters
            if not reply.continues:
                return

    def _send(self, call: Call) -> None:
        try:
            self._socket.sendall(call.serialize())
        except OSError as error:
            raise self._lost(error) from error

    def _reply(self) -> Reply:
        while not self._messages:
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise NoDaemon(
                    "the daemon ended the conversation without an answer",
                    "its log says why: journalctl -u vccid",
                )
            self._messages.extend(self._decoder.feed(data))
        reply = Reply.parse(self._messages.popleft())
        if reply.error:
            raise _daemon_error(reply)
        return reply

    def _lost(self, error: OSError) -> NoDaemon:
        if isinstance(error, TimeoutError):
            return NoDaemon(
                f"the daemon did not answer within {self._socket.gettimeout():g} seconds",
                "it may be busy, or stopped: systemctl status vccid",
            )
        return NoDaemon("the daemon closed the connection", "try again")


def _daemon_error(reply: Reply) -> VccidError:
    interface, _, kind = reply.error.rpartition(".")
    message, hint = reply.parameters.get("message"), reply.parameters.get("hint")
    if interface != INTERFACE or not isinstance(message, str):
        details = ", ".join(f"{name} {value}" for name, value in reply.parameters.items())
        return RemoteProtocolError(
            f"the daemon does not know this call: {kind} ({details})",
            "vccidctl and vccid should be of one version: vccidctl version",
        )
    hint = hint if isinstance(hint, str) else ""
    if kind == "NotPermitted":
        return NotPermitted(message, hint)
    return DaemonError(kind, message, hint)


def _group_of(path: Path) -> str:
    """The group whose members may use the socket, as far as it can be seen."""
    import grp

    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "vccid"
