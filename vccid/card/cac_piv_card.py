# SPDX-License-Identifier: LGPL-2.1-or-later
"""A CAC with a PIV end point: both applications on one card, with one PIN."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any, Final

from vccid.card.cac.cac_card import CacCard
from vccid.card.cac.card_manager import MICROSOFT_AID
from vccid.card.card import CardInfo
from vccid.card.line_ups import by_standard
from vccid.card.piv.application import PivApplication, is_piv
from vccid.card.piv.piv_card import PivCard
from vccid.card.piv.slots import piv_holder
from vccid.card.processors import Answer, Process
from vccid.card.session import CardSession, Lifetime
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_SELECT, Command
from vccid.keys.holder import Holder, cac_applet

#: ID, signature and encryption are in both views: 9A, 9C and 9D are PKI applets 1 to 3.
CAC_SHARE: Final = 3

_SELECT_BY_NAME: Final = 0x04
#: How an answer to SELECT begins or ends that has selected something: 9000, or 61xx.
_SELECTED: Final = (0x90, 0x61)


def cac_piv_holder(position: int) -> Holder:
    """Where the certificate at a position of the request goes; the first has position 0."""
    piv = piv_holder(position)
    if position >= CAC_SHARE:
        return piv
    cac = cac_applet(position)
    return Holder(
        f"{piv.name}, which is {cac.name} too,",
        "RSA keys of 1024, 2048, 3072 or 4096 bits; --card piv takes EC keys too",
        lambda public: piv.fits(public) and cac.fits(public),
    )


class CacPivCard(PivCard):
    """Both. The CAC's own PIN is the PIV application's."""

    def __init__(self, *parts: Any, cac: CacCard, **more: Any) -> None:
        """As PivCard, with the CAC that it is as well."""
        super().__init__(*parts, **more)
        self._cac = cac

    def info(self) -> CardInfo:
        return replace(super().info(), kind="cac+piv")

    async def connect(self) -> CardSession:
        lifetime = Lifetime()
        # Microsoft's applet would have Windows look for a driver other than its own for PIV.
        names = self._cac.names - {MICROSOFT_AID}
        switch = Switch(self.application(lifetime), self._cac.row(lifetime), names)
        return CardSession(self.atr, switch.process, lifetime)


class Switch:
    """Hands a command to the application that is selected; PIV is after a reset.

    A name that is on neither changes nothing: other programs of the host look for other cards'
    applications while one has proved its PIN.
    """

    def __init__(self, piv: PivApplication, cac: Process, names: Set[bytes]) -> None:
        """`names`: those of the CAC's applets."""
        self._piv = piv
        self._piv_row = by_standard(piv.process)
        self._cac_row = cac
        self._names = names
        self._current = self._piv_row

    def process(self, command: Command) -> Answer:
        """Take a command of any class."""
        by_name = command.ins == INS_SELECT and command.p1 == _SELECT_BY_NAME
        if not by_name or command.cla not in (0x00, 0x80):
            return self._current(command)
        if is_piv(command.data):
            return self._select(self._piv_row, command)
        if command.data not in self._names:
            return status.NOT_FOUND
        self._piv.deselect()
        return self._select(self._cac_row, command)

    def _select(self, row: Process, command: Command) -> Answer:
        answer = row(command)
        if isinstance(answer, bytes) and answer[-2] in _SELECTED:
            self._current = row
        return answer
