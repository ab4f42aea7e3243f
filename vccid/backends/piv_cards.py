# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes PIV cards: what they keep is on the disk, or nowhere."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from vccid.card.cac.cac_card import CacCard
from vccid.card.cac_piv_card import CacPivCard
from vccid.card.card import Offload
from vccid.card.pin import Pin
from vccid.card.piv.choices import NO_CHOICES, Choices
from vccid.card.piv.contents import CardMemory, Contents, Keeper, MemoryKeeper, SharedContents
from vccid.card.piv.contents_file import FileKeeper, Sealer
from vccid.card.piv.pins import Puk
from vccid.card.piv.piv_card import PivCard
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.slots import given_keys, new_contents
from vccid.card.state import MemoryStateStore, StateStore
from vccid.errors import StateError
from vccid.iso7816.atr import CAC_PIV_ATR
from vccid.keys.base import Credential

#: The systemd credential under which keys are encrypted at rest.
CREDENTIAL: Final = "vccid.card-key"

#: The ending of the file of a card's PUK.
_PUK_ENDING: Final = ".puk.json"


class PivCards:
    """What all PIV cards of a daemon share."""

    def __init__(self, directory: Path, credentials: Path | None) -> None:
        """Prepare.

        Args:
            directory: of the cards' files, which is there.
            credentials: systemd's CREDENTIALS_DIRECTORY.
        """
        self._directory = directory
        self._credentials = credentials
        self._puks = StateStore(directory, _PUK_ENDING)
        self._shared: WeakValueDictionary[str, SharedContents] = WeakValueDictionary()

    async def card(
        self,
        guid: bytes,
        credentials: Sequence[Credential],
        pin: Pin,
        offload: Offload[Any],
        release: Callable[[], None],
        *,
        in_memory: bool,
        cac: CacCard | None = None,
        atr: bytes | None = None,
        profile: Profile = PLAIN,
        number: int = 0,
        choices: Choices = NO_CHOICES,
    ) -> PivCard:
        """A card.

        Args:
            guid: its UUID.
            credentials: certificates and keys it comes with.
            pin: its PIN, opened with the UUID for a serial number.
            offload: runs what blocks.
            release: called once the card has left its reader.
            in_memory: whether it keeps nothing.
            cac: what the card is besides, or None.
            atr: its answer to reset; None for the kind's.
            profile: whom it is taken for.
            number: its serial number as Yubico's tools ask for it; 0 for one of its own.
            choices: what it has besides, where it is new.

        Raises:
            KeyUnsuitable: a key that no PIV card holds.
            StateError: what it kept cannot be read, or its first file not be written.
        """
        serial = guid.hex()
        given = given_keys(credentials)
        fresh = partial(_new_contents, guid, credentials, profile, choices)
        if in_memory:
            contents = await offload(partial(_new, MemoryKeeper(), fresh))
            shared = SharedContents(contents, MemoryKeeper())
        else:
            shared = await self._kept(guid, fresh, offload)
        puks = MemoryStateStore() if in_memory else self._puks
        puk = await Puk.open(puks, serial, offload)
        memory = CardMemory(shared, given, offload)
        names = [item.name for item in credentials]
        if cac is not None:
            own = atr or CAC_PIV_ATR
            return CacPivCard(memory, pin, puk, fresh, names, own, release, cac=cac)
        own = atr or profile.atr
        return PivCard(memory, pin, puk, fresh, names, own, release, profile, number)

    async def _kept(
        self, guid: bytes, fresh: Callable[[], Contents], offload: Offload[Any]
    ) -> SharedContents:
        """What the card keeps: the same for the same card in another reader."""
        serial = guid.hex()
        shared = self._shared.get(serial)
        if shared is None:
            keeper = FileKeeper(self._directory, serial, self._sealer())
            contents = await offload(partial(_new, keeper, fresh))
            # Another insert of the same card may have been as far meanwhile.
            shared = self._shared.get(serial) or SharedContents(contents, keeper)
            self._shared[serial] = shared
        return shared

    def _sealer(self) -> Sealer:
        if self._credentials is None:
            return Sealer(None)
        path = self._credentials / CREDENTIAL
        try:
            secret = path.read_bytes()
        except FileNotFoundError:
            return Sealer(None)
        except OSError as error:
            raise StateError(
                f"systemd credential {path} cannot be read: {error.strerror}",
                "see LoadCredentialEncrypted= in systemd.exec(5)",
            ) from error
        if not secret:
            raise StateError(f"systemd credential {path} is empty", "give it 32 random bytes")
        return Sealer(secret)


def _new(keeper: Keeper, fresh: Callable[[], Contents]) -> Contents:
    """What was kept, or else what a new card has, which is kept then. Blocks."""
    kept = keeper.load()
    if kept is None:
        kept = fresh()
        keeper.save(kept)
    return kept


def _new_contents(
    guid: bytes, credentials: Sequence[Credential], profile: Profile, choices: Choices
) -> Contents:
    now = datetime.datetime.now(datetime.UTC)
    return new_contents(guid, credentials, now, profile, choices)
