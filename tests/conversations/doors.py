# SPDX-License-Identifier: LGPL-2.1-or-later
"""The doors a host can come to a card through, and what each cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.conversations.steps import Card, Conversation, Need

_T0: Final = "T=0 has neither extended length nor data and Le in one command"
_FIFTY_TWO: Final = "an answer of 52 bytes goes in two, which QEMU's reader needs (docs/qemu.md)"
_NO_RESET: Final = "VSC has no power-on: a session lasts until the card is taken out"
_NO_HANDS: Final = "the card is the test's own, in another process"
_ONE_READER: Final = "libcacard's reader is never empty"
_NO_PIV: Final = "libcacard has no PIV card"
_T1_CARD: Final = "the card there is the one of T=1"


@dataclass(frozen=True)
class Door:
    """One way.

    Attributes:
        name: for the table, and to record what was held over it.
        way: from the program to the card.
        lacks: what it cannot carry, and why.
        takes_tpdus: the reader takes T=0's TPDUs, and the program does what a host of T=0 does.
    """

    name: str
    way: str
    lacks: Mapping[Need, str] = field(default_factory=dict)
    takes_tpdus: bool = False

    def hole(self, conversation: Conversation) -> str:
        """Why a conversation cannot be held over it, or ""."""
        return next((why for need, why in self.lacks.items() if need in conversation.needs), "")

    def open_to(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """Those that can."""
        return [held for held in conversations if not self.hole(held)]


_BY_VSC: Final = {
    Need.ANY_LENGTH: _FIFTY_TWO,
    Need.RESET: _NO_RESET,
}

IN_PROCESS: Final = Door("in process", "the session itself")
LIBCACARD: Final = Door(
    "libcacard",
    "libcacard's own card, beside ours",
    {Need.HANDS: _ONE_READER, Need.PIV: _NO_PIV},
)
DRIVER: Final = Door("driver", "pcscd, libifdvccid")
OWN_PCSC: Final = Door("PC/SC", "libpcsclite, the daemon itself in pcscd's place")
VPCD: Final = Door("vpcd", "pcscd, vsmartcard's vpcd")
NODE: Final = Door("device node", "/dev/vccid/NAME, CUSE")
VSC: Final = Door(
    "VSC",
    "a guest's libccid, QEMU's ccid-card-passthru",
    {**_BY_VSC, Need.EXTENDED_LENGTH: _T0, Need.LE_WITH_DATA: _T0, Need.HANDS: _NO_HANDS},
    takes_tpdus=True,
)
USBREDIR: Final = Door("usbredir", "a guest's libccid, QEMU's usb-redir", {Need.HANDS: _NO_HANDS})
VHCI: Final = Door("vhci", "libccid, vhci_hcd")
USBIP: Final = Door("USB/IP", "libccid, vhci_hcd, TCP")
TTY: Final = Door("tty", "libccidtwin, T=1, CUSE", {Need.LIBCACARD_ATR: _T1_CARD})
PTY: Final = Door("pty", "libccidtwin, T=1, a pseudo-terminal", {Need.LIBCACARD_ATR: _T1_CARD})
RELAYED: Final = Door("relayed card", "pcscd, another vccid that passes the card through")
FAR: Final = Door("far card", "pcscd, another vccid over VSC", _BY_VSC)
FAR_VPCD: Final = Door("far card, vpcd", "pcscd, another vccid that is the vpcd")

DOORS: Final = (
    IN_PROCESS, LIBCACARD, DRIVER, OWN_PCSC, VPCD, NODE, VSC, USBREDIR, VHCI, USBIP, TTY, PTY,
    RELAYED, FAR, FAR_VPCD,
)  # fmt: skip

#: Told to pytest's report for each conversation that was held: the door's and its own name.
HELD: Final = "conversation held"


def hold(
    door: Door,
    conversations: Sequence[Conversation],
    card: Card,
    record: Callable[[str, object], None],
) -> None:
    """Hold every conversation that is open over a door, in this process.

    Args:
        record: pytest's record_property.
    """
    for conversation in door.open_to(conversations):
        conversation.hold(card)
        record(HELD, (door.name, conversation.name))


def note(
    door: Door,
    conversations: Sequence[Conversation],
    told: Mapping[str, str],
    record: Callable[[str, object], None],
) -> None:
    """Take what a program elsewhere told of each: "" or what was wrong.

    Raises:
        AssertionError: one was not held, or not told of.
    """
    wrong = {held.name: told.get(held.name, "not held") for held in door.open_to(conversations)}
    assert not any(wrong.values()), "\n".join(f"{name}: {why}" for name, why in wrong.items())
    for name in wrong:
        record(HELD, (door.name, name))
