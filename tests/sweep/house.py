# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon without its sockets, in a process that a sweep can stop at any call of the kernel's."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import vccid.backends.certificates  # here, and not in each child
import vccid.keys.worker.workers  # noqa: F401
from vccid.card import pin as card_pin
from vccid.card.card import Session
from vccid.control.call_parameters import Taker
from vccid.control.methods import Methods
from vccid.errors import VccidError
from vccid.readers import card_threads
from vccid.readers.manager import ReaderManager
from vccid.settings.config import ReaderSettings, Settings
from vccid.settings.directories import Directories

READER = "vccid0"

#: Seconds a child may take.
PATIENCE = 60


class House:
    """The readers, the control socket's methods, and a host's session with the card.

    Attributes:
        state: its folder of state.
    """

    def __init__(self, root: Path) -> None:
        """`root` has a folder `state`."""
        self.state = root / "state"
        directories = Directories(root / "run", self.state, root / "conf", None)
        settings = Settings(readers={READER: ReaderSettings(ifd=False)})
        self._manager = ReaderManager(directories, settings)
        self._methods = Methods(self._manager, settings, "")
        self._session: Session | None = None

    async def open(self) -> None:
        """As the daemon does at its start."""
        await self._manager.start()
        await self._manager.restore()

    async def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """A method of io.vccid."""
        given = Taker(json.loads(json.dumps(parameters)))
        return dict(await self._methods.table[method](given))

    async def said(self, method: str, /, **parameters: Any) -> str:
        """What a method comes to: done, warned, or refused with a reason."""
        try:
            reply = await self.call(method, **parameters)
        except VccidError as error:
            return f"refused: {error.message}"
        return f"warned: {warnings}" if (warnings := reply.get("warnings")) else "done"

    @property
    def has_card(self) -> bool:
        return self._manager.readers.by_name[READER].reader.card is not None

    async def power_on(self) -> None:
        """Begin a session, nothing proved."""
        card = self._manager.readers.by_name[READER].reader.card
        assert card is not None, "no card is in"
        if self._session is not None:
            self._session.close()
        self._session = await card.connect()

    async def apdu(self, command: bytes) -> bytes:
        """A command to the card, and all of its answer."""
        if self._session is None:
            await self.power_on()
        assert self._session is not None
        answer = self._session.execute(command)
        answer = answer if isinstance(answer, bytes) else await answer
        whole = answer[:-2]
        while answer[-2] == 0x61:
            more = self._session.execute(bytes.fromhex("00 C0 00 00") + answer[-1:])
            answer = more if isinstance(more, bytes) else await more
            whole += answer[:-2]
        return whole + answer[-2:]


Work = Callable[[House], Awaitable[str]]


class Child:
    """A process with a house of its own, that does one thing once it is told to.

    Attributes:
        pid: its process id.
    """

    def __init__(self, root: Path, before: Work, work: Work) -> None:
        """Fork it; it has done `before` when this returns, and waits.

        Args:
            root: as House.
            before: what it does at once.
            work: what it does when it is told to; its result is text.
        """
        told, self._tell = os.pipe()
        self._said, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._tell)
                os.close(self._said)
                signal.alarm(PATIENCE)
                _live(root, before, work, told, say)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(told)
        os.close(say)
        self._ready = self._line()

    def finish(self) -> str | None:
        """Let it work; what that came to, or None where it was killed in the middle."""
        assert self._ready is not None, "it did not come so far"
        os.write(self._tell, b"\n")
        said = self._line()
        _, ended = os.waitpid(self.pid, 0)
        os.close(self._tell)
        os.close(self._said)
        if said is None:
            assert os.WIFSIGNALED(ended), f"it ended with {ended}"
            assert os.WTERMSIG(ended) == signal.SIGKILL, f"it ended with {ended}"
        return said

    def _line(self) -> str | None:
        """A line of its, or None at its end."""
        data = b""
        while not data.endswith(b"\n"):
            if not (more := os.read(self._said, 65536)):
                return None
            data += more
        return str(json.loads(data))


def do(root: Path, work: Work) -> str:
    """Do something in a house of its own, undisturbed."""

    async def nothing(house: House) -> str:
        return ""

    said = Child(root, nothing, work).finish()
    assert said is not None
    return said


def _live(root: Path, before: Work, work: Work, told: int, say: int) -> None:
    logging.disable(logging.CRITICAL)
    card_pin.SCRYPT_COST = 16  # a PIN's hash costs what a sweep can spare
    one = ThreadPoolExecutor(1)  # strace counts a thread's calls
    card_threads.Threads = lambda *args, **kwargs: one  # type: ignore[assignment, misc]

    async def live() -> None:
        asyncio.get_running_loop().set_default_executor(one)
        house = House(root)
        await house.open()
        os.write(say, json.dumps(await before(house)).encode() + b"\n")
        os.read(told, 1)
        os.write(say, json.dumps(await work(house)).encode() + b"\n")
        os._exit(0)

    asyncio.run(live())
