# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every verb shares: the socket, --json, a reader's name, and how it ends."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from vccid.ctl.client import Client, NoDaemon, connect
from vccid.errors import NotPermitted, VccidError

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds a daemon is given to answer while somebody waits for a completion.
PROMPT: Final = 0.5

#: The longest the daemon waits, in seconds.
LONGEST_WAIT: Final = 3600.0

#: How long --wait waits when no seconds are given.
DEFAULT_WAIT: Final = 30.0


class Exit(IntEnum):
    """How vccidctl ends; 2 is click's own for a wrong command line."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_PERMITTED = 4
    NOT_SEEN = 5


def exit_code(error: VccidError) -> Exit:
    """The exit code that tells this error."""
    if isinstance(error, NoDaemon):
        return Exit.NO_DAEMON
    return Exit.NOT_PERMITTED if isinstance(error, NotPermitted) else Exit.FAILED


@dataclass
class Context:
    """What was said before the verb."""

    socket: Path | None = None
    json: bool = False

    def connect(self, patience: float | None = None) -> Client:
        """The daemon."""
        return connect(self.socket, patience)


pass_context = click.make_pass_decorator(Context, ensure=True)


def _set_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Context).json = True


#: --json, before or after the verb.
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_set_json,
    is_eager=True,
    help="Print JSON instead of text.",
)


class WaitCommand(click.Command):
    """A verb with `wait_option`: a reader's name behind a bare --wait is not taken for seconds.

    A number is, unless there is a reader of that name and no other is named: that is to be said.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        following = [*args, ""][1:]
        number = next(
            (after for word, after in zip(args, following, strict=True) if word == "--wait"), ""
        )
        spelt = [
            f"{word}={DEFAULT_WAIT:g}" if word == "--wait" and not _is_number(after) else word
            for word, after in zip(args, following, strict=True)
        ]
        rest = super().parse_args(ctx, spelt)
        if _is_number(number) and ctx.params.get("reader") is None:
            self._check_no_reader(ctx, number)
        return rest

    @staticmethod
    def _check_no_reader(ctx: click.Context, number: str) -> None:
        if number in _reader_names(ctx, None):
            raise click.UsageError(
                f"{number} may be the reader or seconds: write --wait={number}, or {number} --wait",
                ctx,
            )


_NUMBER: Final = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


class _Seconds(click.FloatRange):
    """0 to LONGEST_WAIT; "nan" is none, though no comparison says so."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


def wait_option(until: str) -> Callable[[F], F]:
    """--wait, which may have a number of seconds with it."""
    return click.option(
        "--wait",
        metavar="[=SECONDS]",
        type=_Seconds(min=0, max=LONGEST_WAIT),
        is_flag=False,
        flag_value=DEFAULT_WAIT,
        default=None,
        help=f"{until}, {DEFAULT_WAIT:g} seconds at most, or so many.",
    )


def complete_reader(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of the daemon's readers; none where no daemon answers."""
    names = _reader_names(ctx, PROMPT)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _reader_names(ctx: click.Context, patience: float | None) -> list[str]:
    try:
        # While it parses the line, click calls nothing that would note the socket.
        with Context(socket=ctx.find_root().params.get("socket")).connect(patience) as client:
            return [reader["name"] for reader in client.call("ListReaders")["readers"]]
    except VccidError:
        return []  # a completion has nobody to complain to, and the verb will complain itself


def reader_argument(required: bool = False) -> Callable[[F], F]:
    """READER: may be left out where there is only one."""
    return click.argument("reader", required=required, default=None, shell_complete=complete_reader)
