# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of the standard's optional objects a new card is to have (SP 800-73-5 part 1, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.card.piv.facial_image import Picture
from vccid.errors import KeySourceError


@dataclass(frozen=True, slots=True)
class Choices:
    """What its owner wants of a card.

    Attributes:
        printed_information: whether it has that.
        facial_image: a file with the picture, or "" for none.
        secure_messaging: kind of its key 04, as `new_credential` has it, or "" for none.
    """

    printed_information: bool = False
    facial_image: str = ""
    secure_messaging: str = ""

    def __bool__(self) -> bool:
        return self != NO_CHOICES

    @property
    def name(self) -> str:
        """What tells cards apart that have other such objects; "" for none."""
        words = ["printed information"] * self.printed_information
        words += [f"facial image {self.facial_image}"] * bool(self.facial_image)
        words += [f"secure messaging {self.secure_messaging}"] * bool(self.secure_messaging)
        return "".join(f" with {word}" for word in words)

    def picture(self) -> Picture | None:
        """The picture, or None. Blocks.

        Raises:
            KeySourceError: it cannot be read.
            VccidError: it is none that a card can have.
        """
        if not self.facial_image:
            return None
        try:
            return Picture.parse(Path(self.facial_image).read_bytes())
        except OSError as error:
            raise KeySourceError(
                f"{self.facial_image} cannot be read: {error.strerror}",
                "the daemon's user has to be able to read the picture",
            ) from error


NO_CHOICES: Final = Choices()
