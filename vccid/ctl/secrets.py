# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a password or PIN reaches vccidctl: from a file or a hidden prompt, never by argument."""

from __future__ import annotations

import base64
import stat
import sys
from pathlib import Path

import click

from vccid.errors import ConfigError


def from_file(path: Path) -> bytes:
    """The first line of a file, without its end; "-" is standard input.

    Raises:
        ConfigError: it cannot be read, or its first line is empty.
    """
    try:
        if str(path) == "-":
            # Unbuffered: what stands behind the line is for whoever reads next.
            with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
                line = file.readline()
        else:
            with path.open("rb") as file:
                line = file.readline()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", "name a file you may read"
        ) from error
    secret = line.rstrip(b"\r\n")
    if not secret:
        raise ConfigError(f"the first line of {path} is empty", "put the secret on its first line")
    return secret


def exposure(path: Path) -> str:
    """A warning where others can read the file, or ""."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    # A pipe or a terminal has nothing to be read a second time.
    if not stat.S_ISREG(mode) or not mode & (stat.S_IRGRP | stat.S_IROTH):
        return ""
    who = "every user" if mode & stat.S_IROTH else "its group"
    return f"{path} can be read by {who}: chmod 600 {path}"


def ask(what: str, confirm: bool = False) -> bytes:
    """Ask at the terminal, without echo.

    Raises:
        ConfigError: there is no terminal to ask at.
    """
    need_terminal(what)
    answer = click.prompt(
        what[:1].upper() + what[1:], hide_input=True, confirmation_prompt=confirm, err=True
    )
    return str(answer).encode("utf-8")


def need_terminal(what: str) -> None:
    """Complain before anything else is done.

    Raises:
        ConfigError: there is no terminal to ask at.
    """
    if not can_ask():
        raise ConfigError(f"there is no terminal to ask for {what} at", "give it in a file")


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def encoded(secret: bytes | None) -> str | None:
    """As the control socket carries it."""
    return None if secret is None else base64.b64encode(secret).decode("ascii")
