# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccidctl: the command line that drives the daemon."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import click

from vccid import __version__
from vccid.ctl import cards, output, pins, readers
from vccid.ctl import mount as files
from vccid.ctl.client import DaemonError
from vccid.ctl.context import Context, Exit, exit_code, json_option, pass_context
from vccid.errors import VccidError, unexpected
from vccid.process import standard_streams


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),
    envvar="VCCID_SOCKET",
    help="Control socket of the daemon to drive.",
)
@json_option
@click.version_option(__version__, prog_name="vccidctl")
@pass_context
def cli(context: Context, socket: Path | None) -> None:
    """Drive vccid, the virtual smart card reader and CAC card.

    Exit status: 0 done, 1 failed, 2 wrong command line, 3 no daemon, 4 the socket is closed to
    you, 5 done but not seen by every host within --wait.
    """
    context.socket = socket


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.argument("command", type=click.Choice(["vccidctl", "vccid"]), default="vccidctl")
def completion(shell: str, command: str) -> None:
    """Print the completion script for SHELL, of vccidctl or of COMMAND."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click completes all three"
    # The script asks the command itself; of what is given here it takes the names.
    click.echo(kind(cli, {}, command, f"_{command.upper()}_COMPLETE").source())


for command in (
    cards.insert,
    cards.remove,
    cards.card,
    pins.pin,
    cards.touch,
    readers.status,
    readers.reader,
    readers.attach,
    readers.detach,
    readers.monitor,
    files.mount,
    readers.version,
):
    cli.add_command(command)


def main() -> None:
    """Run one verb; errors end as one line, a hint and an exit code."""
    standard_streams.set_up()
    context = Context()
    try:
        cli.main(prog_name="vccidctl", obj=context, standalone_mode=False)
        standard_streams.flush()
    except click.ClickException as error:
        if _wants_json(context):
            _print_usage_error(error)
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)  # 128 + SIGINT, as a shell has it
    except VccidError as error:
        kind = error.kind if isinstance(error, DaemonError) else type(error).__name__
        output.print_error(error, kind, context.json)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.exit(Exit.FAILED)
    except OSError as error:
        explained = standard_streams.explained(error)
        output.print_error(explained, type(explained).__name__, context.json)
        sys.exit(Exit.FAILED)
    except Exception as error:  # whatever comes: text a stream cannot carry, no memory, our fault
        traceback.print_exc()
        output.print_error(unexpected(error), type(error).__name__, context.json)
        sys.exit(Exit.FAILED)


def _wants_json(context: Context) -> bool:
    """Also where the command line went wrong before --json was come to."""
    words = sys.argv[1:]
    return context.json or "--json" in words[: words.index("--") if "--" in words else None]


def _print_usage_error(error: click.ClickException) -> None:
    where = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see: {where.command_path} --help" if where is not None else "see: vccidctl --help"
    message = error.format_message()
    output.print_error(VccidError(message, hint), type(error).__name__, as_json=True)


if __name__ == "__main__":
    main()
