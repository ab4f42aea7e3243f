# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pcscd of one's own: Debian's program, with readers and a socket that nobody else has.

pcscd has its folder for a pid file, /run/pcscd, compiled in and ends where it cannot be had. And
it takes every USB reader it may open. So it gets a mount namespace with a /run/pcscd of its own
and no USB drivers; an ordinary user gets one by way of a user namespace. Where the kernel allows
neither, as in most containers, it runs without, which serves as long as there is a /run/pcscd.

Source: pcscd(8); pcsc-lite 1.9.9 and 2.3.3, src/pcscdaemon.c; unshare(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from vccid.errors import RunFailed

#: Compiled into Debian's pcscd.
IPC_DIRECTORY: Final = Path("/run/pcscd")
#: As Debian has it compiled in, and as Fedora.
_USB_DRIVERS: Final = (Path("/usr/lib/pcsc/drivers"), Path("/usr/lib64/pcsc/drivers"))

#: PCSCLITE_MAX_READERS_CONTEXTS: readers one pcscd takes.
MOST_READERS: Final = 16

#: pcscd is no program for users' PATH.
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"

# unshare(2), mount(2)
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SLAVE: Final = 1 << 19

_libc: Final = ctypes.CDLL(None, use_errno=True)


def find() -> str:
    """Where pcscd is.

    Raises:
        RunFailed: it is not installed.
    """
    found = shutil.which("pcscd") or shutil.which("pcscd", path=_SYSTEM_PATH)
    if found is None:
        raise RunFailed("there is no pcscd", "as root: apt install pcscd")
    return found


def command(program: str, configuration: Path) -> list[str]:
    """How to start it in the foreground with the readers declared in a folder."""
    argv = [program, "--foreground", "--config", str(configuration)]
    help = subprocess.run([program, "--help"], capture_output=True, check=False).stdout
    if b"--disable-polkit" in help:  # its clients are all ours; the socket's folder sees to that
        argv.append("--disable-polkit")
    return argv


def environment(inherited: Mapping[str, str], empty: Path) -> dict[str, str]:
    """Its environment; `empty` is a folder without USB drivers, which pcscd 2 looks for there."""
    kept = {k: v for k, v in inherited.items() if not k.startswith("PCSCLITE_")}
    return {**kept, "PCSCLITE_HP_DROPDIR": str(empty)}


def declare(configuration: Path, readers: Iterable[tuple[str, Path]], driver: Path) -> None:
    """Write reader.conf(5).

    Args:
        readers: what programs shall see each by, and the socket the driver finds it at.
    """
    configuration.mkdir()
    records = [
        f'FRIENDLYNAME "{name}"\nDEVICENAME vccid:{socket}\nLIBPATH {driver}\n'
        for name, socket in readers
    ]
    (configuration / "vccid").write_text("\n".join(records))


def isolate(ipc: Path, empty: Path, needed: Iterable[Path]) -> None:
    """Give this process a /run/pcscd of its own and no USB drivers, where the kernel lets us.

    Args:
        ipc: what it shall see as /run/pcscd.
        empty: an empty folder.
        needed: folders that it shall see where they are.
    """
    try:
        _own_mounts(os.geteuid(), os.getegid())
        if not IPC_DIRECTORY.is_dir():
            _cover(IPC_DIRECTORY.parent, needed)
            IPC_DIRECTORY.mkdir()
        _mount(str(ipc), IPC_DIRECTORY, None, _MS_BIND)
        for bundle in (found for place in _USB_DRIVERS for found in place.glob("*.bundle")):
            _mount(str(empty), bundle, None, _MS_BIND)
    except OSError as error:
        print(f"pcscd runs without namespaces of its own: {error}", flush=True)


def hint() -> str:
    """What to do about a pcscd that did not start."""
    if IPC_DIRECTORY.is_dir():
        return "its own words are above"
    return f"it needs {IPC_DIRECTORY}, or user namespaces; once, as root: mkdir {IPC_DIRECTORY}"


def _own_mounts(uid: int, gid: int) -> None:
    _check(_libc.unshare(_CLONE_NEWNS if uid == 0 else _CLONE_NEWNS | _CLONE_NEWUSER), "unshare")
    if uid != 0:
        # user_namespaces(7): one's own ids may be mapped, once setgroups is given up.
        for name, content in _maps(uid, gid):
            Path("/proc/self", name).write_text(content)
    _mount(None, Path("/"), None, _MS_SLAVE | _MS_REC)


def _maps(uid: int, gid: int) -> Iterable[tuple[str, str]]:
    return ("uid_map", f"{uid} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1")


def _cover(folder: Path, needed: Iterable[Path]) -> None:
    """Put an empty folder over one, in which those needed below it are at their places."""
    below = [path for path in map(Path.resolve, needed) if path.is_relative_to(folder)]
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in below}
    _mount("tmpfs", folder, "tmpfs", 0)
    for path, fd in held.items():
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{fd}", path, None, _MS_BIND | _MS_REC)
        os.close(fd)


def _mount(source: str | None, target: Path, kind: str | None, flags: int) -> None:
    words = (None if word is None else os.fsencode(word) for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
