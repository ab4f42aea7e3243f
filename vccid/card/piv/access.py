# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what over which interface (SP 800-73-5 part 1, 5.1 and 5.5; part 2, table 2)."""

from __future__ import annotations

from typing import Final

from vccid.card.piv.contents import CardMemory
from vccid.card.piv.data_model import (
    BIOMETRIC_GROUP,
    CERTIFICATES,
    CHUID,
    DISCOVERY,
    PIN_TO_READ,
    SM_SIGNER,
)
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.keys import CardKey
from vccid.card.piv.references import CARD_AUTHENTICATION
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import ber

#: Read over either interface by anybody (part 1, table 2).
_PUBLIC: Final = frozenset(
    (CHUID, CERTIFICATES[CARD_AUTHENTICATION], DISCOVERY, BIOMETRIC_GROUP, SM_SIGNER)
)

_POLICY: Final = 0x5F2F
#: Bits of the PIN usage policy's first byte (part 1, 3.3.2).
_VCI, _VCI_WITHOUT_PAIRING = 0x08, 0x04

#: Tries of the PIN that nobody uses up without contact: VERIFY's intermediate retry value.
TRIES_KEPT: Final = 1


class Access:
    """The rules, for one session.

    Attributes:
        contactless: whether the host is on the contactless interface.
    """

    def __init__(self, memory: CardMemory, indicators: Indicators, *, contactless: bool) -> None:
        self.contactless = contactless
        self._memory = memory
        self._indicators = indicators

    @property
    def virtual_contact(self) -> bool:
        """Whether the present command came by contact, or by the virtual contact interface."""
        if not self.contactless:
            return True
        indicators, policy = self._indicators, self._policy
        if not indicators.protected or not policy & _VCI:
            return False
        return indicators.paired or bool(policy & _VCI_WITHOUT_PAIRING)

    @property
    def pairs(self) -> bool:
        """Whether the pairing code may be verified at all."""
        return bool(self._policy & _VCI) and self._memory.contents.secure_messaging is not None

    @property
    def secure(self) -> bool:
        """Whether the present command came by contact, or under secure messaging."""
        return not self.contactless or self._indicators.protected

    def may_read(self, tag: int) -> bool:
        """Whether an object may be read now."""
        if tag in _PUBLIC:
            return True
        return self.virtual_contact and (tag not in PIN_TO_READ or self._indicators.pin.is_verified)

    def may_use(self, reference: int, key: CardKey) -> bool:
        """Whether a key may be used now."""
        if reference != CARD_AUTHENTICATION and not self.virtual_contact:
            return False
        return self._indicators.may_use(key)

    @property
    def _policy(self) -> int:
        """The PIN usage policy's first byte; 0 where there is no discovery object."""
        content = self._memory.contents.objects.get(DISCOVERY, b"")
        try:
            return (dict(ber.parse(content)).get(_POLICY) or b"\0")[0]
        except RemoteProtocolError:
            return 0
