# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a reader is attached to beyond pcscd's driver: programs, the kernel, hosts, guests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast, get_args

from vccid.errors import ReaderError

Kind = Literal["ifd", "vhci", "usbip", "vsc", "vpicc", "usbredir", "pty", "tty", "cuse", "pcsc"]
#: What may be asked for; whether pcscd's driver finds a reader is a setting.
KINDS: Final = tuple(kind for kind in get_args(Kind) if kind != "ifd")

#: Kinds that say where the guest is; the others have one place each.
WITH_ADDRESS: Final = frozenset(("vsc", "vpicc", "usbredir"))
#: Kinds that get a name of their own when they are first attached, and keep it.
KEEPS_PLACE: Final = frozenset(("tty", "usbip"))
#: Kinds that can also wait at the address for the guest to dial.
CAN_LISTEN: Final = frozenset(("usbredir",))

_TTY: Final = "/dev/ttyVCCID"
_BUS: Final = "1-"

#: Kinds that may say what their place is to be called: the pattern, what it is, and a hint.
_NAMES: Final = {
    "pty": ("/.*", "path from the root on", "name all of it"),
    "pcsc": ("/.*", "path from the root on", "name all of it"),
    "tty": (f"{_TTY}(0|[1-9][0-9]{{0,2}})", "name for a terminal", f"as {_TTY}0"),
    "usbip": (f"{_BUS}[1-9][0-9]{{0,3}}", "bus id", f"as {_BUS}1"),
}


class Frontend(Protocol):
    """What shows a reader to one kind of host."""

    @property
    def status(self) -> str:
        """How it stands, in a few words for `vccidctl status`."""

    async def start(self) -> None:
        """Begin.

        Raises:
            ConfigError, ReaderError, NotPermitted: the place cannot be had.
        """

    async def stop(self) -> None:
        """Let every host go. May be repeated."""


@dataclass(frozen=True, slots=True, order=True)
class Attachment:
    """What `vccidctl attach` asks for; kept over restarts.

    Attributes:
        kind: one of `KINDS`.
        address: where the guest is: a unix socket's path or HOST:PORT; of pty the path of the
            link to the terminal, of pcsc that of the socket, "" for the usual one; of tty the
            device; of usbip the bus id; "" for the other kinds.
        listen: wait there for the guest, not dial.
    """

    kind: Kind
    address: str = ""
    listen: bool = False

    def __str__(self) -> str:
        """As vccidctl takes it."""
        return " ".join(filter(None, (self.kind, "--listen" * self.listen, self.address)))

    @classmethod
    def parse(cls, kind: str, address: str, listen: bool) -> Attachment:
        """What a user or a file names.

        Raises:
            ReaderError: there is no such kind, or its address is missing or too much.
        """
        if kind not in KINDS:
            raise ReaderError(
                f"a reader cannot be attached to {kind!r}", f"one of {', '.join(KINDS)}"
            )
        if kind in _NAMES:
            pattern, what, hint = _NAMES[kind]
            if address and not re.fullmatch(pattern, address):
                raise ReaderError(f"{address} is no {what}", hint)
        elif bool(address) != (kind in WITH_ADDRESS):
            wanted = "takes no address" if address else "needs the address of the guest"
            raise ReaderError(
                f"attach {kind} {wanted}",
                "a socket's path or HOST:PORT, for " + ", ".join(sorted(WITH_ADDRESS)),
            )
        if listen and kind not in CAN_LISTEN:
            raise ReaderError(
                f"attach {kind} cannot listen", f"only {', '.join(sorted(CAN_LISTEN))} can"
            )
        return cls(cast(Kind, kind), address, listen)


def place_for(kind: str, reader: str, taken: Collection[str]) -> str:
    """A reader's terminal or bus id where none was named.

    A terminal has the number of the reader's name, if that is free; else the first free one.
    """
    if kind == "usbip":
        return _first_free(_BUS, range(1, len(taken) + 2), taken)
    number = re.search(r"(?<![0-9])(0|[1-9][0-9]?)$", reader)
    wanted = [int(number[1])] if number else []
    return _first_free(_TTY, (*wanted, *range(len(taken) + 1)), taken)


def _first_free(prefix: str, numbers: Iterable[int], taken: Collection[str]) -> str:
    return next(place for place in (f"{prefix}{n}" for n in numbers) if place not in taken)
