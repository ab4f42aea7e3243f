# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a card from certificates and keys, wherever those are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from vccid.backends.host_limits import cac_warnings, is_pin_for_hosts, password_warning
from vccid.backends.piv_cards import PivCards
from vccid.card.cac.cac_card import MAX_CREDENTIALS, CacCard, card_serial
from vccid.card.cac_piv_card import CAC_SHARE, cac_piv_holder
from vccid.card.card import Card, Offload
from vccid.card.login import TokenLogins
from vccid.card.pin import FACTORY_PIN, CardPin, Pin, TokenPin
from vccid.card.piv.choices import Choices
from vccid.card.piv.pins import MAX_PIN, AnyPin, PivPin
from vccid.card.piv.profiles import profile_named
from vccid.card.piv.slots import MAX_CREDENTIALS as MAX_PIV_CREDENTIALS
from vccid.card.piv.slots import guid_of, piv_holder
from vccid.card.state import MemoryStateStore, StateStore
from vccid.errors import ConfigError, KeySourceError, StateError
from vccid.iso7816.atr import CAC_T1_ATR, LIBCACARD_ATR, Atr
from vccid.keys.base import Credential
from vccid.keys.holder import Holder, cac_applet
from vccid.keys.load import Loading, LockedToken
from vccid.keys.passwords import Passwords

DEFAULT_DATABASE: Final = "sql:/etc/pki/nssdb"
_ATRS: Final = {"cac": LIBCACARD_ATR, "t1": CAC_T1_ATR}
#: ID, signature, encryption.
_NORM: Final = 3


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What `vccidctl insert` asks for, without its secrets: it may be kept on disk.

    Attributes:
        items: nicknames, PKCS#11 URIs and files (`vccid.keys.items`).
        database: NSS database of the nicknames.
        atr: of a CAC: libcacard's T=0 answer to reset, or one of T=1.
        profile: whom a PIV card is taken for, by name, or "".
        number: its serial number as Yubico's tools ask for it; 0 for one of its own.
        secure_messaging: kind of a PIV card's key 04, "" for a card without.
        printed_information: whether a new PIV card has that.
        facial_image: a file with the picture that a new PIV card has, or "".
        own_atr: any card's, in place of that; None for the kind's.
        card: its kind.
        serial: of a blank PIV card, 32 hexadecimal digits; "" for a card made of certificates.
        in_memory: whether a PIV card keeps nothing.
        tries_kept: no PIN reaches a token that may have fewer tries left; 0 passes every one.
        environment: of the processes that have PKCS#11 modules, NAME=VALUE each.
    """

    items: tuple[str, ...]
    database: str = DEFAULT_DATABASE
    atr: Literal["cac", "t1"] = "cac"
    card: Literal["cac", "piv", "cac+piv"] = "cac"
    serial: str = ""
    in_memory: bool = False
    tries_kept: int = 0
    environment: tuple[str, ...] = ()
    own_atr: bytes | None = None
    profile: str = ""
    number: int = 0
    secure_messaging: str = ""
    printed_information: bool = False
    facial_image: str = ""


class CertificateCard(CacCard):
    """A CAC that holds on to databases and tokens until it leaves its reader.

    Attributes:
        release: lets go of them.
    """

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
        self.release = Release(offload, release)

    def close(self) -> None:
        """Let go of databases and tokens, in a thread; call it on the loop. May be repeated."""
        self.release()


class Release:
    """Lets go of databases and tokens in a thread, once.

    Attributes:
        done: what to wait for, once it was called.
    """

    def __init__(self, offload: Offload[Any], release: Callable[[], None]) -> None:
        self._run = offload
        self._release = release
        self.done: asyncio.Future[None] | None = None

    def __call__(self) -> None:
        """Let go; call it on the loop. May be repeated."""
        if self.done is None:
            self.done = asyncio.ensure_future(self._run(self._release))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between kinds of cards.

    Attributes:
        holders: where each certificate goes.
        serial: the serial number of a card with these certificates (DER).
        pin: its own PIN.
        warn: what it means that it has so many certificates.
    """

    holders: Callable[[int], Holder]
    serial: Callable[[Sequence[bytes]], str]
    pin: type[CardPin]
    warn: Callable[[int], list[str]]


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
        self._piv = PivCards(states.directory, credentials_directory)
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
        kind = _KINDS[request.card]
        _check_protocols(request)
        warnings = [] if request.serial else kind.warn(len(request.items))
        passwords = Passwords(password, self._credentials_directory)
        loading = Loading(
            request.items, request.database, passwords, kind.holders, request.environment
        )
        states = MemoryStateStore() if request.in_memory else self._states
        offload = self._new_offload()
        try:
            await offload(loading.open)
            own_pin = pin is not None or len(loading.tokens) != 1
            for locked in loading.tokens:
                self._logins.of(locked.token, request.tries_kept)
            await self._unlock(loading.tokens, own_pin, offload)
            credentials = await offload(loading.read)
            serial = _serial(request, credentials)
            pins = AnyPin if request.profile else kind.pin
            opening = _PinOpening(states, serial, pins, self._logins, offload)
            opened = await opening.open(loading.tokens, pin)
            shared = {"cac": len(credentials), "cac+piv": CAC_SHARE}.get(request.card, 0)
            limits = cac_warnings(credentials[:shared])
            warnings += [*loading.warnings, *limits, *opened.warnings]
            card = await self._assemble(request, credentials, opened.pin, offload, loading)
            card.watch = loading.watch
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

    async def _assemble(
        self,
        request: CertificateRequest,
        credentials: Sequence[Credential],
        pin: Pin,
        offload: Offload[Any],
        loading: Loading,
    ) -> Card:
        if request.card == "cac":
            atr = request.own_atr or _ATRS[request.atr]
            return CertificateCard(credentials, pin, offload, atr, loading.close)
        cac = None
        if request.card == "cac+piv":
            cac = CacCard(credentials[:CAC_SHARE], pin, offload)
        return await self._piv.card(
            bytes.fromhex(_serial(request, credentials)),
            credentials,
            pin,
            offload,
            Release(offload, loading.close),
            in_memory=request.in_memory,
            cac=cac,
            atr=request.own_atr,
            profile=profile_named(request.profile),
            number=request.number,
            choices=_choices(request),
        )


def _choices(request: CertificateRequest) -> Choices:
    return Choices(request.printed_information, request.facial_image, request.secure_messaging)


def _serial(request: CertificateRequest, credentials: Sequence[Credential]) -> str:
    """The card's serial number; one with another look, or other objects, is another card."""
    if request.serial:
        return request.serial
    certificates = [item.certificate for item in credentials]
    if request.profile:
        looks = f"{request.profile} {request.number}"
    elif _choices(request):
        looks = request.card
    else:
        return _KINDS[request.card].serial(certificates)
    return guid_of(certificates, looks + _choices(request).name).hex()


def _check_protocols(request: CertificateRequest) -> None:
    """A PIV card's long answers and parts are those of T=1."""
    if request.card == "cac" or request.own_atr is None:
        return
    if 1 not in Atr.parse(request.own_atr).protocols:
        raise ConfigError(
            "a PIV card speaks T=1, and this answer to reset offers none",
            "name one that has it, as 3BF71300008131FE458031C173C021C0CD",
        )


@dataclass(frozen=True, slots=True)
class _PinOpening:
    """What it takes to open a card's PIN.

    Attributes:
        states: where PINs are kept.
        serial: the card's serial number.
        kind: a PIN of its own.
        logins: which PINs were wrong for which token.
        offload: runs what blocks.
    """

    states: StateStore
    serial: str
    kind: type[CardPin]
    logins: TokenLogins
    offload: Offload[Any]

    async def open(self, tokens: Sequence[LockedToken], initial: bytes | None) -> _OpenedPin:
        """The card's PIN: the one token's, unless the user gave the card a PIN of its own."""
        known = await self.offload(self._has_users_pin)
        unlocked = all(locked.password is not None for locked in tokens)
        if len(tokens) == 1 and initial is None and not (known and unlocked):
            login = self.logins.of(tokens[0].token)
            pin = await TokenPin.open(login, self.states, self.serial, self.offload)
            return _OpenedPin(pin, _length_warnings(tokens[0], self.kind))
        own = await self.kind.open(self.states, self.serial, self.offload, initial)
        return _OpenedPin(own, _pin_warnings(own, known, initial, bool(tokens)))

    def _has_users_pin(self) -> bool:
        """Whether the card has a PIN that somebody chose; the factory's would guard no token."""
        try:
            state = self.states.load(self.serial)
        except StateError:
            return False  # The card shows its certificates all the same: `Pin.fault`.
        return state is not None and state.pin is not None and not state.factory


@dataclass(frozen=True, slots=True)
class _OpenedPin:
    pin: Pin
    warnings: list[str]


def _length_warnings(locked: LockedToken, kind: type[CardPin]) -> list[str]:
    """What hosts can send is less than what a token's password may be."""
    if locked.password is None:
        return []
    if not issubclass(kind, PivPin):
        fits = is_pin_for_hosts(locked.password)
        return [] if fits else [password_warning(locked.token.name)]
    if len(locked.password) <= MAX_PIN:
        return []
    return [
        f"the password of {locked.token.name} is longer than the {MAX_PIN} characters that a PIV"
        " card's PIN has: give the card a PIN of its own with --pin-file"
    ]


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


def _piv_warnings(count: int) -> list[str]:
    if not 1 <= count <= MAX_PIV_CREDENTIALS:
        raise KeySourceError(
            f"a PIV card is made of 1 to {MAX_PIV_CREDENTIALS} certificates, not {count}",
            "they go into 9A, 9C, 9D, 9E, and 82 to 95; --blank makes a card without any",
        )
    return []


def _cac_warnings(count: int) -> list[str]:
    """What it means that a CAC has other than three certificates."""
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


_KINDS: Final = {
    "cac": _Kind(cac_applet, card_serial, CardPin, _cac_warnings),
    "piv": _Kind(piv_holder, lambda ders: guid_of(ders).hex(), PivPin, _piv_warnings),
    "cac+piv": _Kind(
        cac_piv_holder, lambda ders: guid_of(ders, "CAC and PIV").hex(), PivPin, _piv_warnings
    ),
}
