# SPDX-License-Identifier: LGPL-2.1-or-later
"""One `vccid run` from its first process to its last."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from vccid.ctl import cards, output, secrets
from vccid.ctl.client import Client, NoDaemon
from vccid.daemon.main import Given
from vccid.errors import RunFailed
from vccid.process import umask
from vccid.readers import card_maker
from vccid.run import job, pcscd, scratch
from vccid.run.keeper import Keeper
from vccid.run.log import Log
from vccid.run.plan import Pcscd, Plan
from vccid.settings import directories
from vccid.settings.config import DEFAULT_READER
from vccid.wire.varlink import Parameters

if TYPE_CHECKING:
    from vccid.run.generate import Recipe

#: What tells us to end while there is no command that it could be passed on to.
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Readers that OpenSC's PKCS#11 module shows by itself, and where its settings are.
_OPENSC_READERS: Final = 4
_OPENSC_CONF: Final = Path("/etc/opensc/opensc.conf")

#: Seconds pcscd is given to see the card.
_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Attributes:
        given: the daemon's own options.
        card: parameters of Insert, or empty where no card was asked for.
        generate: what certificates are to be made for the card, or None.
        readers: how many.
        driver: libifdvccid.so, where pcscd is to be between; else None.
        log: where daemon and pcscd log to, or None.
        closed: standard streams that the command shall find closed.
        detached: it goes on after us.
        end_with: a process with whose end it ends, or None.
    """

    given: Given
    card: Parameters
    generate: Recipe | None
    readers: int
    driver: Path | None
    log: Path | None
    closed: tuple[int, ...]
    detached: bool = False
    end_with: int | None = None


class Interrupted(BaseException):
    """A signal told us to end before the command ran.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(options: Options, command: list[str]) -> int:
    """Start the servers, insert the card, run the command, end all; returns its wait status.

    Raises:
        RunFailed: daemon or pcscd cannot be had.
        VccidError: the card cannot be made.
    """
    inherited = umask.make_fit()
    with _begun(options) as (plan, _):
        return job.run_command(command, plan.handed_on(os.environ), options.closed, inherited)


def detach(options: Options, tell: Callable[[dict[str, str]], None]) -> NoReturn:
    """Start the servers, insert the card, and leave: they end with `vccid stop`.

    Args:
        tell: is given the variables that lead programs there; where it fails, all ends.

    Raises:
        RunFailed, VccidError: as `run`.
        OSError: nobody could be told.
    """
    umask.make_fit()
    with _begun(options) as (plan, keeper):
        tell(plan.handed_on({}))
        keeper.let_go()
        os._exit(0)  # with nothing cleaned up


@contextlib.contextmanager
def _begun(options: Options) -> Iterator[tuple[Plan, Keeper]]:
    """The servers, with the card in."""
    if not os.path.exists("/proc/self/fd"):
        raise RunFailed("/proc is not mounted", "mount -t proc proc /proc")
    behind = None if options.driver is None else Pcscd(pcscd.find(), options.driver)
    if options.card or options.generate is not None:
        card_maker.load()  # once, for the daemon and for new certificates
    with scratch.folder() as directory:
        plan = _plan(options, directory, behind)
        with _kept(plan) as keeper:
            new = _new_certificates(options.generate)  # while daemon and pcscd start
            keeper.wait()
            try:
                _insert({**_generated(new, directory), **options.card}, plan)
            except NoDaemon as error:
                keeper.check()
                raise RunFailed(plan.log.quoted(error.message), "see --log") from error
            keeper.check()
            yield plan, keeper


def _plan(options: Options, directory: Path, behind: Pcscd | None) -> Plan:
    """Settle who is where.

    Raises:
        ConfigError: a directory that was named cannot be made.
        RunFailed: the log cannot be had.
    """
    log = Log.open(options.log or directory / "log")
    places = directories.find(
        os.environ,
        os.geteuid(),
        (options.given.runtime or directory / "run").absolute(),
        (options.given.state or directory / "state").absolute(),
        (options.given.configuration or directory / "etc").absolute(),
    )
    places.create()
    settings = {**_defaults(behind is None), **options.given.overrides}
    if settings.get(("pcsc", "everyone")) == "true":
        directory.chmod(0o711)  # for whoever our command becomes
    _show_all_in_opensc(directory / "opensc.conf", options.readers)
    return Plan(
        directory=directory,
        places=places,
        settings=settings,
        behind=behind,
        readers=options.readers,
        log=log,
        detached=options.detached,
        end_with=options.end_with,
        label=options.card.get("reader_name") or _reader_name(options.card.get("profile")),
    )


def _reader_name(profile: str | None) -> str | None:
    if profile is None:
        return None
    from vccid.card.piv.profiles import profile_named

    return profile_named(profile).reader_name


def _defaults(at_the_daemon: bool) -> dict[tuple[str, str], str]:
    """Settings, unless somebody says otherwise."""
    # A control socket for our own user alone.
    settings = {("control", "mode"): "0600"}
    if at_the_daemon:
        settings["pcsc", "all"] = "true"
        settings["pcsc", "group"] = "root"  # and not vccid's, whose members may be others
    return settings


def _show_all_in_opensc(path: Path, readers: int) -> None:
    """OpenSC's PKCS#11 module has 16 slots, four of them for each reader, unless it is told."""
    if readers <= _OPENSC_READERS or "OPENSC_CONF" in os.environ:
        return
    with contextlib.suppress(OSError):
        own = _OPENSC_CONF.read_text() if _OPENSC_CONF.exists() else ""
        slots = f"pkcs11 {{ max_virtual_slots = {4 * readers}; }}"
        path.write_text(f"{own}\napp opensc-pkcs11 {{ {slots} }}\n")
        path.chmod(0o644)


def be_interruptible() -> None:
    """Have signals that mean the end raise `Interrupted` from now on."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(number)

    for number in _INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the command would end unseen


@contextlib.contextmanager
def _kept(plan: Plan) -> Iterator[Keeper]:
    """Daemon and pcscd, once the keeper was waited for."""
    keeper = None
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            keeper = Keeper(plan)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield keeper
    finally:
        for name in keeper.end() if keeper is not None else ():
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

    try:
        files = generate.write(certificates, directory)
    except OSError as error:
        raise scratch.refused(error, directory) from error
    return {"certificates": files, "pin": secrets.encoded(generate.PIN)}


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
