# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's side of the processes that have the modules. All of it may block, in threads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final

from vccid.errors import KeySourceError, RemoteProtocolError, TokenGone
from vccid.keys.token_nouns import TokenPlace
from vccid.keys.worker.messages import (
    FrameReader,
    Reply,
    Verb,
    frame,
    read_reply,
    request,
)
from vccid.keys.worker.worker_states import WORKER, Event, State

# As `process` has them, which imports what only the other side needs.
FORK, KILL, CONNECT = b"F", b"K", b"C"
NUMBER: Final = Struct("=i")

#: struct timeval
_TIMEVAL: Final = Struct("@ll")
_CHUNK: Final = 1 << 16
#: Seconds for what needs no module: a process to be made, or to be reported as ended.
_SOON: Final = 20.0
#: Seconds a module gets to let go of a token.
_LAST_WORDS: Final = 5.0
_PLACE: Final = 7
_LIBRARY_TEXTS: Final = 3

#: What systemd tells the daemon alone.
_NOT_FOR_WORKERS: Final = (
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)


class Worker:
    """One process with one module.

    Attributes:
        name: whose it is, for messages.
        timeout: seconds an answer may take.
        pid: its process id.
    """

    def __init__(self, nursery: _Nursery, timeout: float) -> None:
        """Have one forked.

        Raises:
            TokenGone: no process can be had.
        """
        self.name = "a PKCS#11 module"
        self.timeout = timeout
        self._lost: Callable[[str], None] = lambda reason: None
        self._nursery = nursery
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._reason = ""
        self._state = WORKER.initial
        control, its_control = socket.socketpair()
        self._connections = _Connections(control)
        self._pipe, its_pipe = os.pipe()
        with its_control:
            try:
                nursery.fork(its_control.fileno(), its_pipe)
            finally:
                os.close(its_pipe)
        self.pid = self._number()
        if self.pid is None:
            nursery.over = True
            os.close(self._pipe)
            self._connections.end()
            raise TokenGone("no process for a PKCS#11 module can be had", "see ulimit and free")
        threading.Thread(target=self._watch, name="vccid-worker", daemon=True).start()

    # -- what is asked of it ---------------------------------------------------------------

    def load(self, library: str, environment: tuple[str, ...]) -> None:
        """Load a module, once; "" is NSS's; `environment` is added to the daemon's own.

        Raises:
            SourceUnusable: it is none.
            TokenGone: the process ended.
        """
        self.name = f"PKCS#11 module {library}" if library else "NSS"
        variables = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_WORKERS}
        for variable in environment:
            key, _, value = variable.partition("=")
            variables[key] = value
        every = (f"{key}={value}" for key, value in variables.items())
        self.call(Verb.LOAD, os.fsencode(library), *map(os.fsencode, every))

    def places(self) -> tuple[tuple[str, ...], list[TokenPlace]]:
        """CK_INFO's libraryDescription, manufacturerID and libraryVersion, and every token.

        Raises:
            TokenGone: the module failed, or its process ended.
        """
        fields = self.call(Verb.LIST).fields
        texts = [field.decode("utf-8", "replace") for field in fields]
        library, rest = tuple(texts[:_LIBRARY_TEXTS]), texts[_LIBRARY_TEXTS:]
        try:
            return library, [
                TokenPlace(int(rest[at]), *rest[at + 1 : at + _PLACE])
                for at in range(0, len(rest), _PLACE)
            ]
        except (ValueError, TypeError):
            raise self._fail("it lists what are no tokens") from None

    def call(self, verb: Verb, *fields: bytes) -> Reply:
        """Ask, and wait for the answer; from any thread.

        Raises:
            TokenGone: it ended, it does not answer and was ended, or it answers nonsense.
            VccidError: what it said went wrong.
        """
        answered = self.ask(verb, *fields)
        if answered.error is not None:
            raise answered.error
        return answered

    def ask(self, verb: Verb, *fields: bytes) -> Reply:
        """As `call`, but for an error of the module's, which is in the reply."""
        try:
            connection = self._connections.take(self.timeout)
        except BrokenPipeError:
            raise self._fail("") from None
        try:
            connection.sendall(frame(request(verb, *fields)))
            answered = read_reply(self._receive(connection))
        except TimeoutError:
            connection.close()
            raise self._fail(f"it did not answer for {self.timeout:g} s, and was ended") from None
        except RemoteProtocolError as error:
            connection.close()
            raise self._fail(f"it does not keep to the protocol: {error.message}") from None
        except OSError:
            connection.close()
            raise self._fail("") from None
        self._connections.give_back(connection)
        return answered

    def end(self) -> None:
        """Let go of the token and end it; may be repeated."""
        with self._lock:
            if self._state is not State.RUNNING:
                return
            self._move(Event.END)
        self.timeout = min(self.timeout, _LAST_WORDS)
        self._connections.close_idle()
        with contextlib.suppress(TokenGone):
            self.ask(Verb.CLOSE)
        self.kill()

    def when_lost(self, told: Callable[[str], None]) -> None:
        """Have `told` called, in some thread, once it has ended unasked; with the reason."""
        with self._lock:
            self._lost = told
            late = not self.there
        if late:
            told(self._reason)

    @property
    def there(self) -> bool:
        """Whether it has not ended."""
        return self._state is not State.ENDED

    def kill_quietly(self) -> None:
        """End one that holds nothing."""
        with self._lock:
            self._move(Event.END)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._nursery.kill(self.pid or 0)

    # -- how -------------------------------------------------------------------------------

    def _receive(self, connection: socket.socket) -> bytes:
        reader, deadline = FrameReader(), None
        while True:
            try:
                data = connection.recv(_CHUNK)
            except BlockingIOError:
                raise TimeoutError from None
            if not data:
                raise ConnectionResetError
            message = reader.feed(data)
            if message is not None:
                return message
            # One that dribbles is as one that hangs.
            if deadline is None:
                deadline = time.monotonic() + self.timeout
            elif time.monotonic() > deadline:
                raise TimeoutError

    def _fail(self, reason: str) -> TokenGone:
        """End it; what is said of that. Without a reason, it ended by itself."""
        if reason:
            self._reason = self._reason or reason
            self.kill()
        self._told.wait(_SOON)
        return TokenGone(
            f"{self.name} is gone: {self._reason or 'its process was ended'}",
            "vccidctl insert puts the card back",
        )

    def _number(self) -> int | None:
        try:
            data = os.read(self._pipe, NUMBER.size)
        except OSError:
            return None
        return NUMBER.unpack(data)[0] if len(data) == NUMBER.size else None

    def _watch(self) -> None:
        """Wait for its end, and tell of it."""
        ended = _how_it_ended(self._number())
        self._reason = self._reason or ended
        with self._lock:
            unasked = self._state is State.RUNNING
            self._move(Event.ENDED)
        os.close(self._pipe)
        self._connections.end()
        if unasked:
            self._lost(self._reason)
        self._told.set()

    def _move(self, event: Event) -> None:
        self._state = WORKER.after(self._state, event)


class _Connections:
    """Sockets to one worker: each thread that asks something has one to itself meanwhile."""

    def __init__(self, control: socket.socket) -> None:
        """`control`: what the worker is sent new ones by."""
        self._control = control
        self._idle: deque[socket.socket] = deque()

    def take(self, timeout: float) -> socket.socket:
        """One that nobody uses; a new one's operations may take so many seconds.

        Raises:
            BrokenPipeError: the worker takes none any more.
            OSError: there can be no more sockets.
        """
        try:
            return self._idle.pop()
        except IndexError:
            pass
        ours, its = socket.socketpair()
        with its:
            try:
                socket.send_fds(self._control, [CONNECT], [its.fileno()])
            except OSError as error:
                ours.close()
                raise BrokenPipeError from error
        # By the kernel's clock, not poll()'s: one system call less for each answer.
        limit = _TIMEVAL.pack(int(timeout), int(timeout % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        return ours

    def give_back(self, connection: socket.socket) -> None:
        """Its answer was read."""
        self._idle.append(connection)

    def close_idle(self) -> None:
        """Close those that nobody uses."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def end(self) -> None:
        """The worker is gone."""
        self._control.close()
        self.close_idle()


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "the process that looks after it was ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"its process ended by itself, with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was ended by {name}"


class _Nursery:
    """The process that forks workers."""

    def __init__(self) -> None:
        self._control, its_control = socket.socketpair()
        self._lock = threading.Lock()
        self.over = False
        # PR_SET_PDEATHSIG is sent when this thread ends, so it lives as long as the process.
        threading.Thread(
            target=self._live, args=(its_control,), name="vccid-nursery", daemon=True
        ).start()

    def _live(self, its_control: socket.socket) -> None:
        command = [sys.executable, "-P", "-m", "vccid.keys.worker"]
        fd = its_control.fileno()
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_WORKERS}
        try:
            with its_control:
                process = subprocess.Popen(
                    [*command, str(fd), str(os.getpid())],
                    pass_fds=(fd,),
                    stdin=subprocess.DEVNULL,
                    env=environment,
                )
        except OSError:
            self.over = True
            return
        process.wait()
        self.over = True

    def fork(self, control: int, pipe: int) -> None:
        """Have a worker that gets these descriptors.

        Raises:
            TokenGone: it cannot.
        """
        try:
            with self._lock:
                socket.send_fds(self._control, [FORK], [control, pipe])
        except OSError:
            self.over = True
            raise TokenGone(
                "no process for a PKCS#11 module can be had", "see ulimit and free"
            ) from None

    def kill(self, pid: int) -> None:
        """End a worker that it forked."""
        with contextlib.suppress(OSError), self._lock:
            self._control.sendall(KILL + NUMBER.pack(pid))

    def end(self) -> None:
        """End it, and all it forked."""
        self.over = True
        self._control.close()


class Workers:
    """All of the daemon's. One more than is in use waits, with softokn if that was wanted last.

    Attributes:
        timeout: seconds a module may take for an answer.
    """

    def __init__(self) -> None:
        self.timeout = 60.0
        self._lock = threading.Lock()
        self._nursery: _Nursery | None = None
        # Held while the spare one is made or taken.
        self._spare_lock = threading.Lock()
        self._spare: Worker | None = None
        self._spare_for_nss = True

    def prepare(self) -> None:
        """Have a worker wait, unless one does."""
        with self._spare_lock:
            if self._spare is None:
                with contextlib.suppress(KeySourceError):
                    self._spare = self._spare_one()

    def load(self, library: str, environment: tuple[str, ...] = ()) -> Worker:
        """A worker with a module; whoever asked for it ends it.

        Args:
            library: its file, or "" for NSS's.
            environment: NAME=VALUE each.

        Raises:
            SourceUnusable: it is no module.
            TokenGone: it ended, or no process can be had.
        """
        with self._spare_lock:
            spare, self._spare = self._spare, None
            fits = self._spare_for_nss == (library == "")
            self._spare_for_nss = library == ""
        threading.Thread(target=self.prepare, name="vccid-spare", daemon=True).start()
        if spare is not None and not (fits and spare.there):
            spare.kill_quietly()
            spare = None
        if spare is not None:
            spare.timeout = self.timeout
        if spare is not None:
            with contextlib.suppress(TokenGone):  # it may have been killed just now
                spare.load(library, environment)
                return spare
        worker = self._new()
        try:
            worker.load(library, environment)
        except BaseException:
            worker.end()
            raise
        return worker

    def end(self) -> None:
        """End them all, at the daemon's end."""
        with self._lock:
            if self._nursery is not None:
                self._nursery.end()
            self._nursery = None

    def _spare_one(self) -> Worker:
        worker = self._new()
        if self._spare_for_nss:
            worker.load("", ())
        return worker

    def _new(self) -> Worker:
        try:
            try:
                return Worker(self._there(), self.timeout)
            except TokenGone:
                return Worker(self._there(), self.timeout)  # the nursery may have been killed
        except OSError as error:  # too few descriptors, say
            raise TokenGone(
                f"no process for a PKCS#11 module can be had: {error.strerror}", "see ulimit"
            ) from None

    def _there(self) -> _Nursery:
        with self._lock:
            if self._nursery is None or self._nursery.over:
                if self._nursery is not None:
                    self._nursery.end()
                self._nursery = _Nursery()
            return self._nursery


#: The process's own.
WORKERS: Final = Workers()
