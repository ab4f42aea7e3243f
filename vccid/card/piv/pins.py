# SPDX-License-Identifier: LGPL-2.1-or-later
"""The application PIN and the PUK (SP 800-73-5 part 2, 2.4.3)."""

from __future__ import annotations

from typing import Final

from vccid.card.pin import FACTORY_PUK, CardPin, Outcome, Verdict

MIN_PIN, MAX_PIN = 6, 8
PUK_SIZE: Final = 8


def is_piv_pin(pin: bytes) -> bool:
    """Whether a PIN can be typed where a PIV card's is asked for: six to eight digits."""
    return MIN_PIN <= len(pin) <= MAX_PIN and pin.isdigit()


class PivPin(CardPin):
    """Reference 80: six to eight digits."""

    def _check_new(self, new: bytes) -> None:
        if not is_piv_pin(new):
            raise ValueError(f"a PIV card's PIN has {MIN_PIN} to {MAX_PIN} digits")

    async def renew(self, new: bytes) -> Outcome:
        """A new PIN and all its tries: RESET RETRY COUNTER, once the PUK was right.

        Raises:
            ValueError: the new one is none this card can have.
            StateError: the disk will not take it.
        """
        self._check_new(new)
        await self.reset(new)
        return Outcome(Verdict.RIGHT, self.tries_left)


class AnyPin(PivPin):
    """The same of a YubiKey's double: six to eight bytes of any value."""

    def _check_new(self, new: bytes) -> None:
        if not MIN_PIN <= len(new) <= MAX_PIN:
            raise ValueError(f"the PIN has {MIN_PIN} to {MAX_PIN} characters")


class Puk(CardPin):
    """Reference 81: eight bytes of any value."""

    initial = FACTORY_PUK

    def _check_new(self, new: bytes) -> None:
        if len(new) != PUK_SIZE:
            raise ValueError(f"a PIV card's PUK has {PUK_SIZE} characters")
