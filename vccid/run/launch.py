# SPDX-License-Identifier: LGPL-2.1-or-later
"""One `vccid run` from its first process to its last."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from vccid.ctl import cards, output, secrets
from vccid.ctl.client import Client
from vccid.daemon.main import Given
from vccid.errors import RunFailed
from vccid.run import pcscd, process
from vccid.run.keeper import Keeper, Plan
from vccid.settings.config import DEFAULT_READER
from vccid.settings.directories import Directories
from vccid.wire.varlink import Parameters

if TYPE_CHECKING:
    from vccid.run.generate import Recipe

#: A folder whose path pcscd's reader.conf(5) takes, short enough for a socket's, and not hidden
#: by a /run of pcscd's own.
_FIT: Final = re.compile(r"(?!/run/)[A-Za-z0-9=/._@:-]{1,60}")

#: Seconds pcscd is given to see the card.
_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    Attributes:
        given: the daemon's own options.
        card: parameters of Insert, or empty where no card was asked for.
        generate: what certificates are to be made for the card, or None.
        readers: how many.
        driver: libifdvccid.so.
        log: where daemon and pcscd log to, or None.
    """

    given: Given
    card: Parameters
    generate: Recipe | None
    readers: int
    driver: Path
    log: Path | None


class Interrupted(BaseException):
    """A signal told us to end before the command ran.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(wish: Wish, command: list[str]) -> int:
    """Start daemon and pcscd, insert the card, run the command, end all; returns its wait status.

    Raises:
        RunFailed: daemon or pcscd cannot be had.
        VccidError: the card cannot be made.
    """
    program = pcscd.find()
    with _interruptible(), _scratch() as directory:
        plan = _plan(wish, directory, program)
        with _kept(plan) as keeper:
            new = _new_certificates(wish.generate)  # while daemon and pcscd start
            keeper.wait()
            _insert({**_generated(new, directory), **wish.card}, plan)
            return process.run_command(command, _environment(plan))


def _environment(plan: Plan) -> dict[str, str]:
    """What leads the command's programs to daemon and pcscd."""
    return {
        **os.environ,
        "VCCID_SOCKET": str(plan.control),
        "PCSCLITE_CSOCK_NAME": str(plan.pcscd_socket),
    }


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A new folder, ours alone; the keeper removes it too, in case we cannot."""
    base = tempfile.gettempdir()
    place = base if _FIT.fullmatch(base) else "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="vccid-run.", dir=place, ignore_cleanup_errors=True
    ) as directory:
        yield Path(directory)


def _plan(wish: Wish, directory: Path, program: str) -> Plan:
    """Settle who is where.

    Raises:
        ConfigError: a directory that was named cannot be made.
    """
    places = Directories(
        runtime=(wish.given.runtime or directory / "run").absolute(),
        state=(wish.given.state or directory / "state").absolute(),
        configuration=(wish.given.configuration or directory / "etc").absolute(),
        credentials=None,
    )
    places.create()
    options = [
        f"--runtime-directory={places.runtime}",
        f"--state-directory={places.state}",
        f"--configuration-directory={places.configuration}",
        *(f"--{'-'.join(key)}={value}" for key, value in wish.given.overrides.items()),
    ]
    return Plan(
        directory=directory,
        runtime=places.runtime,
        daemon=[sys.executable, "-P", "-m", "vccid.daemon.main", *options],
        pcscd=program,
        driver=wish.driver,
        readers=wish.readers,
        log=wish.log or directory / "log",
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have signals that mean the end undo what was begun."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the command would end unseen
    yield


@contextlib.contextmanager
def _kept(plan: Plan) -> Iterator[Keeper]:
    """Daemon and pcscd, once the keeper was waited for."""
    keeper = Keeper(plan)
    try:
        yield keeper
    finally:
        for name in keeper.end():
            click.echo(f"vccid: {name} ended before the command did; see --log", err=True)


def _new_certificates(recipe: Recipe | None) -> dict[str, bytes]:
    if recipe is None:
        return {}
    from vccid.run import generate

    return generate.new_certificates(recipe)


def _generated(certificates: dict[str, bytes], directory: Path) -> Parameters:
    """What Insert is told of new certificates."""
    if not certificates:
        return {}
    from vccid.run import generate

    pin = secrets.encoded(generate.PIN)
    return {"certificates": generate.write(certificates, directory), "pin": pin}


def _insert(card: Parameters, plan: Plan) -> None:
    """Put the card in, and wait until pcscd has seen it."""
    if not card:
        return
    with Client(plan.control) as client:
        _make_room(client)
        reply = cards.call_insert(client, {"reader": DEFAULT_READER, "wait": _WAIT, **card})
    output.print_warnings(reply["warnings"])
    if not reply["seen"]:
        raise RunFailed(f"not seen by: {', '.join(reply['unseen'])}", "see --log")


def _make_room(client: Client) -> None:
    """A state directory that was used before has its card back in."""
    for reader in client.call("ListReaders")["readers"]:
        if reader["name"] == DEFAULT_READER and (reader["card"] or reader["wanted"]):
            client.call("Remove", {"reader": DEFAULT_READER})
