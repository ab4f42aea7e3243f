# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verb mount: the readers as files, served by this very process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from vccid.ctl import output
from vccid.ctl.client import NoDaemon
from vccid.ctl.context import Context, json_option, pass_context
from vccid.errors import VccidError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--foreground", is_flag=True, help="Stay in the foreground; SIGTERM unmounts.")
@click.option("--allow-other", is_flag=True, help="Let every user look in, not only you.")
@click.option("--user", metavar="NAME", help="As root: be this user once it is mounted.")
@json_option
@pass_context
def mount(
    context: Context, directory: Path, foreground: bool, allow_other: bool, user: str | None
) -> None:
    """Show the readers and their cards as files in DIRECTORY, until the daemon ends.

    Unmount with: fusermount3 -u DIRECTORY.
    """
    from vccid.files import mount as mounting
    from vccid.files import serve as serving

    if user is not None and os.geteuid() != 0:
        raise VccidError("only root can become another user", "leave out --user")
    serving.check()
    with context.connect() as client:
        client.call("Generation")
        socket = Path(os.path.abspath(client.path))
    place = mounting.prepare(directory)

    def serve(ready: Callable[[], None]) -> None:
        mounted = mounting.mount(place, allow_other)
        if user is not None:
            _become(user)
        if serving.serve(socket, mounted, ready) is serving.End.DAEMON_ENDED:
            raise NoDaemon(f"the daemon ended; {place} is unmounted", "mount again when it runs")

    if foreground:
        serve(lambda: _announce(context, place))
    else:
        _in_background(serve, lambda: _announce(context, place))


def _announce(context: Context, place: Path) -> None:
    if context.json:
        output.print_json({"directory": os.fspath(place)})
    else:
        click.echo(f"{place}: the readers are there")
    sys.stdout.flush()
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        sdnotify.SystemdNotifier().notify("READY=1")


def _in_background(
    serve: Callable[[Callable[[], None]], None], announce: Callable[[], None]
) -> None:
    """Go on in a child; return once it serves, or end as it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        if os.read(reading, 1):
            announce()
            return
        _, status = os.waitpid(child, 0)
        # It has said why.
        sys.exit(os.waitstatus_to_exitcode(status))
    os.close(reading)
    os.setsid()

    def leave() -> None:
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        os.write(writing, b"\n")
        os.close(writing)

    serve(leave)


def _become(user: str) -> None:
    """Give up root for good.

    Raises:
        VccidError: there is no such user.
    """
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise VccidError(f"there is no user {user}", "vccid's own is vccid") from None
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
