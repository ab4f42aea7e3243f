# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of `vccid run`."""

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import sys
import traceback
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

import vccid
from vccid.ctl.card_options import PIV_ALONE, card_options
from vccid.ctl.card_request import card_request
from vccid.daemon.main import Given
from vccid.errors import RunFailed, VccidError, unexpected
from vccid.process import standard_streams
from vccid.run.pcscd import MOST_READERS

if TYPE_CHECKING:
    from vccid.run.generate import Recipe


class Exit(IntEnum):
    """How `vccid run` ends where its command did not; as env(1) has it."""

    FAILED = 125
    NOT_RUNNABLE = 126
    NOT_FOUND = 127


#: Where the driver is: in a checkout; beside us, where pip put vccid-pcscd; else as packaged by
#: Debian and by Fedora.
_DRIVERS: Final = (
    Path(vccid.__file__).parents[1] / "build" / "libifdvccid.so",
    Path(vccid.__file__).parents[1] / "vccid_pcscd" / "libifdvccid.so",
    Path("/usr/lib/pcsc/drivers/serial/libifdvccid.so"),
    Path("/usr/lib64/pcsc/drivers/serial/libifdvccid.so"),
)


class RunCommand(click.Command):
    """A wrong command line ends with our exit code, lest it be taken for the command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.exit_code = Exit.FAILED
            raise


def _complete_command(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A program, then files."""
    if "/" in incomplete or ctx.params.get("command") or ctx.args:
        return [CompletionItem(incomplete, type="file")]
    folders = map(Path, os.get_exec_path())
    names = {path.name for folder in folders for path in folder.glob(f"{glob.escape(incomplete)}*")}
    return [CompletionItem(name) for name in sorted(names)]


@click.command(
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
    epilog="Exit status: that of COMMAND; 125 it was not started, 126 it cannot be run, "
    "127 there is no such command.",
)
@click.argument(
    "command",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="COMMAND [ARGUMENT]...",
    shell_complete=_complete_command,
)
@click.option(
    "--detach", is_flag=True, help="Run no command: print what leads programs there, and leave."
)
@click.option(
    "--json", "form", flag_value="json", help="With --detach: print the variables as JSON."
)
@click.option(
    "--github", "form", flag_value="github", help="With --detach: add them to $GITHUB_ENV."
)
@click.option(
    "--end-with",
    type=click.IntRange(1),
    metavar="PID",
    help="With --detach: end when this process does, if not before by vccid stop.",
)
@click.option("--generate", is_flag=True, help="A card of new certificates; its PIN is 123456.")
@click.option(
    "--algorithm",
    type=click.Choice(["p256", "p384", "rsa2048", "rsa3072", "rsa4096"]),
    help="Keys of the new certificates: p256 for a PIV card, else rsa2048.",
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    metavar="FILE",
    help="Have them issued by a new authority, whose certificate goes into this file.",
)
@click.option(
    "--user",
    metavar="NAME@REALM",
    help="Whom the first is to name, with --ca: as UPN, and for Kerberos.",
)
@card_options
@click.option(
    "--readers",
    type=click.IntRange(1, MOST_READERS),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="Readers, named vccid0, vccid1 and on; the card is in the first.",
)
@click.option(
    "--pcscd",
    is_flag=True,
    help="Have a pcscd of its own between, with our driver, as a host with real readers has it.",
)
@click.option(
    "--driver",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    help="libifdvccid.so for --pcscd, where it is not where the package has it.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="File to which the log of daemon and pcscd is added.",
)
@click.pass_obj
def run(
    given: Given,
    /,
    command: tuple[str, ...],
    detach: bool,
    form: str | None,
    end_with: int | None,
    generate: bool,
    algorithm: str | None,
    ca: Path | None,
    user: str | None,
    readers: int,
    pcscd: bool,
    driver: Path | None,
    log: Path | None,
    **card: Any,
) -> None:
    """Run COMMAND with a smart card reader that nothing else sees, as any user.

    A daemon of its own starts before COMMAND and ends with it; programs of PC/SC find it as they
    find pcscd. The daemon's options stand before "run"; without them it has no settings and
    forgets its cards' PIN tries.
    """
    from vccid.run import job, launch

    try:
        launch.be_interruptible()
        _check_what_for(command, detach, form is not None or end_with is not None)
        request = _card_request(generate, card)
        recipe = _recipe(generate, request.get("card"), algorithm, ca, user)
        driver = _driver(driver) if pcscd or driver is not None else None
        closed = standard_streams.closed()
        options = launch.Options(given, request, recipe, readers, driver, log, closed)
        if detach:
            _check_that_it_can_be_told(form, closed)
            options = replace(options, detached=True, end_with=end_with)
            launch.detach(options, _TELL[form or "sh"])
        status = launch.run(options, list(command))
    except launch.Interrupted as interrupted:
        beginning = "\n" if sys.stderr.isatty() else ""  # behind a question, or "^C"
        click.echo(f"{beginning}vccid: interrupted before the command began", err=True)
        status = interrupted.number  # the wait status of who was ended by it
    except click.UsageError as error:
        error.exit_code = Exit.FAILED
        raise
    except click.Abort:
        _fail(VccidError("nothing was entered", "give it in a file"))
    except VccidError as error:
        _fail(error)
    except OSError as error:
        _fail(standard_streams.explained(error))
    except Exception as error:  # whatever comes is not to be taken for the command's end
        traceback.print_exc()
        _fail(unexpected(error))
    job.end_as(status)


def _fail(error: VccidError) -> NoReturn:
    *quoted, message = error.message.splitlines()
    lines = (*quoted, f"vccid: {message}", f"  {error.hint}")
    click.echo("\n".join(lines).rstrip(), err=True)
    sys.exit(Exit.FAILED)


def _check_what_for(command: tuple[str, ...], detach: bool, of_detach: bool) -> None:
    """
    Raises:
        click.UsageError: neither a command nor --detach, or both.
    """
    if not detach and of_detach:
        raise click.UsageError("--json, --github and --end-with go with --detach")
    if detach and command:
        raise click.UsageError("--detach runs no command")
    if not detach and not command:
        raise click.UsageError("Missing argument 'COMMAND [ARGUMENT]...'.")
    if command:
        _check_command(command[0])


def _check_that_it_can_be_told(form: str | None, closed: tuple[int, ...]) -> None:
    """Nobody would know how to end what runs on."""
    if form != "github" and 1 in closed:
        raise RunFailed(
            "standard output is closed", 'see what it says: eval "$(vccid run --detach)"'
        )


def _tell_shell(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()


def _tell_json(variables: dict[str, str]) -> None:
    click.echo(json.dumps(variables))
    sys.stdout.flush()


def _tell_github(variables: dict[str, str]) -> None:
    """Source: GitHub Actions, workflow commands: environment files."""
    path = os.environ.get("GITHUB_ENV")
    if not path:
        raise RunFailed("GITHUB_ENV is not set", "--github is for a step of GitHub Actions")
    if any("\n" in value for value in variables.values()):
        raise RunFailed(
            "a line break in a directory's name ends a line of GITHUB_ENV", "name another"
        )
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())


_TELL: Final = {"sh": _tell_shell, "json": _tell_json, "github": _tell_github}


def _check_command(name: str) -> None:
    """Start nothing for a command that is not there."""
    if shutil.which(name) is not None:
        return
    found = name if "/" in name else shutil.which(name, mode=os.F_OK) or ""
    code, reason = Exit.NOT_RUNNABLE, "cannot be run"
    try:
        os.stat(found)
    except (FileNotFoundError, NotADirectoryError):
        code, reason = Exit.NOT_FOUND, "is not to be found"
    except OSError as error:
        reason += f": {error.strerror}"
    click.echo(f"vccid: {shlex.quote(name)} {reason}", err=True)
    sys.exit(code)


def _card_request(generate: bool, values: dict[str, Any]) -> dict[str, Any]:
    """Parameters of Insert; empty where no card was asked for.

    A PIV card of nothing is a blank one: there is no card of before that could be meant.
    """
    named = ("certs", "real_reader", "hardware")
    if values["kind"] in PIV_ALONE and not generate and all(values[name] is None for name in named):
        values = {**values, "blank": True}
    request = {k: v for k, v in card_request(**values).items() if v is not None}
    if generate and values["certs"] is None and not values["blank"]:
        request.pop("blank", None)  # of a profile without certificates
    sources = {"certificates", "blank", "pcsc_reader", "hardware"} & request.keys()
    if generate and sources | {"database", "password"} & request.keys():
        raise click.UsageError("--generate makes its own certificates")
    if request and not (generate or sources):
        raise click.UsageError("say what the card is made from: --certs, --blank or --generate")
    return request


def _recipe(
    generate: bool, card: str | None, algorithm: str | None, ca: Path | None, user: str | None
) -> Recipe | None:
    """What certificates are to be made, or None."""
    if not generate:
        if (algorithm, ca, user) != (None, None, None):
            raise click.UsageError("--algorithm, --ca and --user go with --generate")
        return None
    from vccid.run.generate import DEFAULT_ALGORITHM, Recipe

    card = "piv" if card in PIV_ALONE else card or "cac"
    if card != "piv" and algorithm is not None and not algorithm.startswith("rsa"):
        raise click.UsageError("a CAC takes RSA keys alone; --card piv takes all")
    if user is not None and ca is None:
        raise click.UsageError("--user goes with --ca")
    name, at, realm = (user or "").rpartition("@")
    if user is not None and not (name and at and realm and user.isprintable()):
        raise click.UsageError("--user is NAME@REALM")
    return Recipe(card, algorithm or DEFAULT_ALGORITHM[card], ca, user)


def _driver(given: Path | None) -> Path:
    paths = [path for path in (given, *_DRIVERS) if path is not None]
    driver = next(filter(os.path.exists, paths), None)
    if driver is None:
        raise RunFailed(
            "pcscd's driver libifdvccid.so is not to be found",
            "as root: apt install libifdvccid; or: pip install 'vccid[pcscd]'; or name it:"
            " vccid run --driver FILE",
        )
    return driver


@click.command(cls=RunCommand)
@click.argument("directory", required=False, type=click.Path(path_type=Path), metavar="[DIRECTORY]")
def stop(directory: Path | None) -> None:
    """End a `vccid run --detach`; returns when nothing is left of it.

    DIRECTORY is what VCCID_RUN names, where that is not set.
    """
    from vccid.run import stop as stopping

    named = directory or Path(os.environ.get("VCCID_RUN", ""))
    try:
        if named == Path():
            raise RunFailed("there is nothing to stop: VCCID_RUN is not set", "name its folder")
        stopping.stop(named)
    except VccidError as error:
        _fail(error)
