# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one host has proved (SP 800-73-5 part 2, 2.4.2), and what it is about to prove."""

from __future__ import annotations

from vccid.card.piv.keys import CardKey
from vccid.card.piv.references import PinPolicy
from vccid.card.piv.session_keys import SessionKeys


class Indicators:
    """The security status of one session.

    Attributes:
        pin: whether the PIN was verified.
        fresh: whether no key was used since it was.
        management: whether the management key was proved.
        challenge: what the host is to encrypt, or b"".
        witness: what the host is to have decrypted, or b"".
        paired: whether the pairing code was verified.
        session: keys of secure messaging, or None.
        protected: whether the present command came under it.
    """

    __slots__ = (
        "challenge",
        "fresh",
        "management",
        "paired",
        "pin",
        "protected",
        "session",
        "witness",
    )

    def __init__(self) -> None:
        self.protected = False
        self.clear()

    def clear(self) -> None:
        """Another application was selected: all of them fall."""
        self.pin = self.fresh = self.management = self.paired = False
        self.session: SessionKeys | None = None
        self.forget_proof()

    def set_pin(self, verified: bool) -> None:
        """The PIN was compared."""
        self.pin = self.fresh = verified

    def forget_proof(self) -> None:
        """What was asked of the host is void."""
        self.challenge = self.witness = b""

    def may_use(self, key: CardKey) -> bool:
        """Whether the key's rule is met."""
        if key.pin_policy is PinPolicy.NEVER:
            return True
        return self.fresh if key.pin_policy is PinPolicy.ALWAYS else self.pin
