# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one host has proved (SP 800-73-5 part 2, 2.4.2), and what it is about to prove."""

from __future__ import annotations

from vccid.card.pin_status import PinStatus
from vccid.card.piv.keys import CardKey
from vccid.card.piv.management_states import MANAGEMENT, Event, State
from vccid.card.piv.references import PinPolicy
from vccid.card.piv.session_keys import SessionKeys


class Indicators:
    """The security status of one session.

    Attributes:
        pin: the PIN's.
        management: the management key's.
        random: what the host is to encrypt, or to have decrypted; b"" where it is to do neither.
        paired: whether the pairing code was verified.
        session: keys of secure messaging, or None.
        protected: whether the present command came under it.
    """

    __slots__ = ("management", "paired", "pin", "protected", "random", "session")

    def __init__(self) -> None:
        self.pin = PinStatus()
        self.management = MANAGEMENT.initial
        self.random = b""
        self.paired = self.protected = False
        self.session: SessionKeys | None = None

    def clear(self) -> None:
        """Another application was selected: all of them fall."""
        self.pin.fall()
        self.move(Event.FELL)
        self.paired, self.session = False, None

    def move(self, event: Event, random: bytes = b"") -> None:
        """The management key was asked for, with these random bytes, or proved, or not."""
        self.management = MANAGEMENT.after(self.management, event)
        self.random = random

    @property
    def may_manage(self) -> bool:
        """Whether the management key was proved."""
        return self.management is State.PROVED

    def may_use(self, key: CardKey) -> bool:
        """Whether the key's rule is met."""
        if key.pin_policy is PinPolicy.NEVER:
            return True
        return self.pin.is_fresh if key.pin_policy is PinPolicy.ALWAYS else self.pin.is_verified
