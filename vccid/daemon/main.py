# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command `vccid`: options, then the daemon in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from vccid import __version__
from vccid.daemon import logging as daemon_logging
from vccid.daemon import sd_notify, socket_and_lock
from vccid.errors import ConfigError, DaemonRunning, VccidError, unexpected
from vccid.process import standard_streams, umask
from vccid.readers import card_threads
from vccid.settings import config, config_files, directories


class Exit(IntEnum):
    """How vccid ends; 2 is click's own, 75 and 78 are those of sysexits.h."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ALREADY_RUNNING = 75
    SETTINGS = 78


#: prctl(2)
_PR_SET_DUMPABLE: Final = 4
#: mallopt(3)
_M_ARENA_MAX: Final = -8

#: LimitNOFILE= of vccid.service.
_FILES: Final = 16384

#: Seconds that threads inside a token's module get to come back at the end.
_LAST_WAIT: Final = 1.0

_directory = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Given:
    """What stood before the command's own verb: directories, and settings by table and key."""

    runtime: Path | None
    state: Path | None
    configuration: Path | None
    overrides: dict[tuple[str, str], str]


def _shown(default: config.Value) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default) or "empty"


def _setting_options() -> list[click.Option]:
    """`--TABLE-KEY` for the settings that go on the command line."""
    return [
        click.Option(
            [config.option(table, key)],
            metavar="VALUE",
            help=f"{declaration.help} Default: {_shown(declaration.default)}.",
        )
        for table in config.ON_COMMAND_LINE
        for key, declaration in config.declared(config.TABLES[table]).items()
    ]


#: Verbs beside the daemon, by name: what loads them when they are asked for.
VERBS: Final[dict[str, Callable[[], click.Command]]] = {}


class _Verbs(click.Group):
    """The daemon, or one of VERBS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return VERBS[cmd_name]() if cmd_name in VERBS else None


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=_setting_options(),
    epilog="Exit status: 0 ended when told to, 1 failed, 2 wrong command line, "
    "75 another vccid uses these directories, 78 unfit settings.",
)
@click.option("--check", is_flag=True, help="Read the settings, say what they are, and exit.")
@click.option("--runtime-directory", type=_directory, help="Sockets.  [$RUNTIME_DIRECTORY]")
@click.option("--state-directory", type=_directory, help="What is kept.  [$STATE_DIRECTORY]")
@click.option(
    "--configuration-directory",
    type=_directory,
    help="vccid.toml and vccid.toml.d.  [$CONFIGURATION_DIRECTORY]",
)
@click.version_option(__version__, prog_name="vccid")
@click.pass_context
def cli(
    ctx: click.Context,
    /,
    check: bool,
    runtime_directory: Path | None,
    state_directory: Path | None,
    configuration_directory: Path | None,
    **settings: str | None,
) -> None:
    """Virtual smart card readers with cards made from certificates; see vccidctl.

    Runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the settings again.
    """
    overrides = _overrides(settings)
    if ctx.invoked_subcommand is not None:
        if check:
            raise click.UsageError("--check stands alone")
        ctx.obj = Given(runtime_directory, state_directory, configuration_directory, overrides)
        return
    places = directories.find(
        os.environ, os.geteuid(), runtime_directory, state_directory, configuration_directory
    )
    if check:
        _say(config_files.load(places.configuration, overrides))
    else:
        run(places, overrides)


def run(places: directories.Directories, overrides: Mapping[tuple[str, str], str]) -> None:
    """Be the daemon until told to end.

    Raises:
        DaemonRunning: there is one in this runtime directory.
        ConfigError: settings, directories or sockets cannot be had.
    """
    handed = sd_notify.control_sockets(os.environ)
    try:
        _serve(places, overrides, handed)
    except Exception as error:
        told = error if isinstance(error, VccidError) else unexpected(error)
        for listening in handed:
            _answer_waiting(listening, told)
        raise


def _serve(
    places: directories.Directories,
    overrides: Mapping[tuple[str, str], str],
    handed: tuple[socket.socket, ...],
) -> None:
    settings = config_files.load(places.configuration, overrides)
    umask.make_fit()
    # Whoever started us may have them blocked, and then nobody could tell us to end.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _keep_memory_private()
    _keep_memory_small()
    _open_many_files()
    daemon_logging.start(settings.log.level, os.environ)
    places.create()
    # Both: tries counted by two daemons in one state directory would not add up.
    lock = socket_and_lock.InstanceLock(places.runtime, places.state)
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        from vccid.daemon.daemon import Daemon

        _collect_garbage()

        async def live() -> None:
            await Daemon(places, settings, overrides, handed).run()

        runner.run(live())
    finally:
        # asyncio ends its threads from one more, which there may be none for; it closes all else.
        with contextlib.suppress(RuntimeError):
            runner.close()
    del lock


def _answer_waiting(listening: socket.socket, error: VccidError) -> None:
    from vccid.control.callers import Access
    from vccid.control.no_daemon import answer_waiting

    # Which group may know is a setting, and those may be what is wrong: its default, then.
    answer_waiting(listening, error, Access(config.Settings().control.group))


def main() -> None:
    """Run `vccid`; errors end as one line, a hint and an exit code."""
    standard_streams.set_up()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # ^C ends us as it does any program, until there is something to undo.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = _run_to_its_end(lambda: cli.main(prog_name="vccid", standalone_mode=False))
    if not card_threads.finish(_LAST_WAIT):
        # A module that never answers must not keep a daemon that was told to end.
        os._exit(code)
    sys.exit(code)


def be_daemon(
    places: directories.Directories, overrides: Mapping[tuple[str, str], str]
) -> NoReturn:
    """Be the daemon, in a process that was forked for it, and end as `vccid` does."""
    standard_streams.set_up()
    code = _run_to_its_end(lambda: run(places, overrides))
    card_threads.finish(_LAST_WAIT)
    os._exit(code)  # what the process it was forked from has open is not ours to close


def _run_to_its_end(work: Callable[[], object]) -> int:
    """Returns the exit code."""
    try:
        work()
        standard_streams.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return Exit.FAILED
    except VccidError as error:
        _complain(error)
        return _exit_code(error)
    except BrokenPipeError:
        return Exit.FAILED
    except OSError as error:
        _complain(standard_streams.explained(error))
        return Exit.FAILED
    except Exception as error:  # whatever comes: a fault of ours, or no memory, or no thread
        traceback.print_exc()
        _complain(unexpected(error))
        return Exit.FAILED
    return Exit.OK


def _complain(error: VccidError) -> None:
    click.echo(f"vccid: {error.message}\n  {error.hint}".rstrip(), err=True)


def _exit_code(error: VccidError) -> Exit:
    if isinstance(error, DaemonRunning):
        return Exit.ALREADY_RUNNING
    return Exit.SETTINGS if isinstance(error, ConfigError) else Exit.FAILED


def _overrides(given: dict[str, str | None]) -> dict[tuple[str, str], str]:
    """The settings named on the command line, checked as a file's are."""
    overrides: dict[tuple[str, str], str] = {}
    for table in config.ON_COMMAND_LINE:
        for key, declaration in config.declared(config.TABLES[table]).items():
            value = given[f"{table}_{key}"]
            if value is None:
                continue
            if wanted := config.check_value(declaration, config.from_text(declaration, value)):
                raise click.UsageError(f"{config.option(table, key)} must be {wanted}")
            overrides[table, key] = value
    return overrides


def _say(settings: config.Settings) -> None:
    """The settings as a file would have them."""
    for path in settings.files:
        click.echo(f"# read: {path}")
    for table in config.TABLES:
        _say_table(table, getattr(settings, table))
    for name, reader in settings.readers.items():
        _say_table(f"{config.READER_TABLE}.{name}", reader)


def _say_table(title: str, table: Any) -> None:
    click.echo(f"\n[{title}]")
    kind: type = type(table)
    for key in config.declared(kind):
        value = getattr(table, key)
        click.echo(f"{key} = {_toml(value)}")


def _toml(value: config.Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower()


def _loop_factory() -> Any:
    """uvloop's loop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _keep_memory_private() -> None:
    """Keys and PINs are in memory: no core dump, and no other process of our user looks in."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _open_many_files() -> None:
    """A descriptor for each program, each reader and more: the unit's number, where we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then there are as many as there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _collect_garbage() -> None:
    """From now on, and never in what was loaded."""
    gc.freeze()
    gc.enable()


def _keep_memory_small() -> None:
    """One heap for all threads: few run at a time, and each would begin one of its own."""
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


if __name__ == "__main__":
    main()
