# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a Common Access Card from certificates and keys, wherever those are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from vccid.backends.host_limits import cac_warnings, is_pin_for_hosts, password_warning
from vccid.card.cac.cac_card import MAX_CREDENTIALS, CacCard, card_serial
from vccid.card.card import Card, Offload
from vccid.card.login import TokenLogins
from vccid.card.pin import FACTORY_PIN, CardPin, Pin, TokenPin
from vccid.card.state import StateStore
from vccid.errors import KeySourceError, StateError
from vccid.iso7816.atr import LIBCACARD_ATR, T1_ATR
from vccid.keys.base import Credential
from vccid.keys.load import Loading, LockedToken
from vccid.keys.passwords import Passwords

DEFAULT_DATABASE: Final = "sql:/etc/pki/nssdb"
_ATRS: Final = {"cac": LIBCACARD_ATR, "t1": T1_ATR}
#: ID, signature, encryption.
_NORM: Final = 3


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What `vccidctl insert` asks for, without its secrets: it may be kept on disk.

    Attributes:
        items: nicknames, PKCS#11 URIs and files (`vccid.keys.items`).
        database: NSS database of the nicknames.
        atr: libcacard's T=0 answer to reset, or one of T=1.
        tries_kept: no PIN reaches a token that may have fewer tries left; 0 passes every one.
    """

    items: tuple[str, ...]
    database: str = DEFAULT_DATABASE
    atr: Literal["cac", "t1"] = "cac"
    tries_kept: int = 0


class CertificateCard(CacCard):
    """A CAC that holds on to databases and tokens until it leaves its reader."""

    def __init__(
        self,
        credentials: Sequence[Credential],
        pin: Pin,
        offload: Offload[Any],
        atr: bytes,
        release: Callable[[], None],
    ) -> None:
        """As CacCard.

        Args:
            release: lets go of the databases and tokens; may block.
        """
        super().__init__(credentials, pin, offload, atr)
        self._run = offload
        self._release = release
        self._released: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Let go of databases and tokens, in a thread; call it on the loop. May be repeated."""
        if self._released is None:
            self._released = asyncio.ensure_future(self._run(self._release))


class CertificateBackend:
    """Makes cards from requests.

    One for the daemon: it remembers which PINs were wrong for which token.
    """

    def __init__(
        self,
        states: StateStore,
        new_offload: Callable[[], Offload[Any]],
        credentials_directory: Path | None = None,
    ) -> None:
        """Prepare.

        Args:
            states: where PIN states are kept.
            new_offload: makes each card's own threads, so that none waits for another's token.
            credentials_directory: systemd's CREDENTIALS_DIRECTORY.
        """
        self._states = states
        self._new_offload = new_offload
        self._credentials_directory = credentials_directory
        self._logins = TokenLogins()
        self._closing: set[asyncio.Future[None]] = set()

    async def card(
        self, request: CertificateRequest, password: bytes | None = None, pin: bytes | None = None
    ) -> tuple[Card, list[str]]:
        """Make a card.

        Args:
            password: for every database, token and file in the request that needs one.
            pin: the card's own PIN, for a card that has none yet.

        Returns:
            The card, and warnings of one line each.

        Raises:
            KeySourceError: certificates or keys cannot be had.
            StateError: the PIN's state cannot be written.
            VccidError: `pin` is none a card can have.
        """
        warnings = _count_warnings(len(request.items))
        passwords = Passwords(password, self._credentials_directory)
        loading = Loading(request.items, request.database, passwords)
        offload = self._new_offload()
        try:
            await offload(loading.open)
            own_pin = pin is not None or len(loading.tokens) != 1
            for locked in loading.tokens:
                self._logins.of(locked.token, request.tries_kept)
            await self._unlock(loading.tokens, own_pin, offload)
            credentials, kept = await offload(partial(self._read, loading))
            opened = await self._open_pin(loading.tokens, kept, pin, offload)
            warnings += [*loading.warnings, *cac_warnings(credentials), *opened.warnings]
            card = CertificateCard(
                credentials, opened.pin, offload, _ATRS[request.atr], loading.close
            )
        except BaseException:
            # Not waited for here: it waits itself for what is still under way.
            closing = asyncio.ensure_future(offload(loading.close))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            raise
        return card, warnings

    async def _unlock(
        self, tokens: Sequence[LockedToken], all_now: bool, offload: Offload[Any]
    ) -> None:
        """Log in wherever there is a password, and everywhere if `all_now`."""
        for locked in tokens:
            if locked.password is None:
                if all_now:
                    raise locked.needs_password()
                continue
            login = self._logins.of(locked.token)
            async with login.lock:
                await offload(partial(login.unlock, locked.password))

    def _read(self, loading: Loading) -> tuple[list[Credential], _KeptPin]:
        """The card's credentials, and what is kept of its PIN. Blocks."""
        credentials = loading.read()
        serial = card_serial([credential.certificate for credential in credentials])
        return credentials, _KeptPin(serial, self._has_users_pin(serial))

    async def _open_pin(
        self,
        tokens: Sequence[LockedToken],
        kept: _KeptPin,
        initial: bytes | None,
        offload: Offload[Any],
    ) -> _OpenedPin:
        """The card's PIN: the one token's, unless the user gave the card a PIN of its own."""
        serial, known = kept.serial, kept.users
        unlocked = all(locked.password is not None for locked in tokens)
        if len(tokens) == 1 and initial is None and not (known and unlocked):
            token, password = tokens[0].token, tokens[0].password
            told = password is not None and not is_pin_for_hosts(password)
            opened = await TokenPin.open(self._logins.of(token), self._states, serial, offload)
            return _OpenedPin(opened, [password_warning(token.name)] if told else [])
        pin = await CardPin.open(self._states, serial, offload, initial)
        return _OpenedPin(pin, _pin_warnings(pin, known, initial, bool(tokens)))

    def _has_users_pin(self, serial: str) -> bool:
        """Whether the card has a PIN that somebody chose; the factory's would guard no token."""
        try:
            state = self._states.load(serial)
        except StateError:
            return False  # The card shows its certificates all the same: `Pin.fault`.
        return state is not None and state.pin is not None and not state.factory


@dataclass(frozen=True, slots=True)
class _KeptPin:
    """What the disk says of a card's PIN.

    Attributes:
        serial: the card's serial number.
        users: whether it has a PIN that somebody chose.
    """

    serial: str
    users: bool


@dataclass(frozen=True, slots=True)
class _OpenedPin:
    pin: Pin
    warnings: list[str]


def _pin_warnings(pin: CardPin, known: bool, initial: bytes | None, tokens: bool) -> list[str]:
    if pin.fault is not None:
        return [f"{pin.fault.message}: no PIN is accepted; {pin.fault.hint}"]
    if pin.factory:
        return [
            f"the card's PIN is the factory PIN {FACTORY_PIN.decode()};"
            " vccidctl pin reset sets another"
        ]
    if known and initial is not None:
        return ["the card keeps the PIN it had before; vccidctl pin reset sets another"]
    if known and tokens:
        return ["the card keeps the PIN of its own that was set before, not the token's"]
    return []


def _count_warnings(count: int) -> list[str]:
    """What it means that a card has other than three certificates."""
    if not 1 <= count <= MAX_CREDENTIALS:
        raise KeySourceError(
            f"a card holds 1 to {MAX_CREDENTIALS} certificates, not {count}",
            "the first three are ID, signature and encryption",
        )
    if count == 1:
        return [
            "one certificate: it is the ID certificate, and programs find neither a signature"
            " nor an encryption certificate"
        ]
    if count < _NORM:
        return [
            "two certificates: they are ID and email signature, and programs find no encryption"
            " certificate"
        ]
    if count > _NORM:
        return [
            f"{count} certificates: the first three are ID, email signature and encryption;"
            f" OpenSC shows the rest as CAC Cert {_NORM + 1} to {count}"
        ]
    return []
