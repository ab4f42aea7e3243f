# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a reader is attached to beyond pcscd's driver: this host's kernel, other hosts, guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast, get_args

from vccid.errors import ReaderError

Kind = Literal["ifd", "vhci", "usbip", "vsc", "usbredir", "pty", "cuse"]
#: What may be asked for; whether pcscd's driver finds a reader is a setting.
KINDS: Final = tuple(kind for kind in get_args(Kind) if kind != "ifd")

#: Kinds that say where the guest is; the others have one place each.
WITH_ADDRESS: Final = frozenset(("vsc", "usbredir"))
#: Kinds that may say what their place is to be called.
MAY_HAVE_ADDRESS: Final = frozenset(("pty",))
#: Kinds that can also wait at the address for the guest to dial.
CAN_LISTEN: Final = frozenset(("usbredir",))


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
            link to the terminal, "" for the usual one; "" for the other kinds.
        listen: wait there for the guest, not dial.
    """

    kind: Kind
    address: str = ""
    listen: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.address}".rstrip()

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
        if kind in MAY_HAVE_ADDRESS:
            if address and not address.startswith("/"):
                raise ReaderError(f"{address} is no path from the root on", "name all of it")
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
