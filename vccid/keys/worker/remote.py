# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token and its keys in a worker, as the daemon has them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from vccid.errors import KeyOperationError, KeyUnsuitable, TokenGone
from vccid.keys.base import EcPrivateKey, PublicKey, RsaPrivateKey, Token
from vccid.keys.ec import NIST_CURVES, Curve, Point, ecdsa_der, fit_digest, peer_key
from vccid.keys.rsa import Modulus
from vccid.keys.token_nouns import CertificateObject, KeyClue
from vccid.keys.worker.messages import Reply, State, Verb, pack_clue, read_number

#: Fields of a certificate in a reply.
_CERTIFICATE = 3


class Link(Protocol):
    """What a token's worker does for it: see `Worker`."""

    name: str

    def ask(self, verb: Verb, *fields: bytes) -> Reply:
        """One request's reply, in which an error may be."""

    def when_lost(self, told: Callable[[str], None]) -> None:
        """Have `told` called with the reason if it ends unasked."""

    def end(self) -> None:
        """End it."""


class WorkerToken(Token):
    """One token, shared by every card that has a key in it.

    Attributes:
        short_name: what a systemd credential for its password is named after.
    """

    def __init__(self, name: str, short_name: str, pin_refusal: str = "") -> None:
        """Describe a token; `open` opens it.

        Args:
            name: what to call it in a message.
            short_name: a database folder's last part, or a token's label.
            pin_refusal: why its PIN cannot be changed here, or "".
        """
        self.short_name = short_name
        self._name = name
        self._pin_refusal = pin_refusal
        self._state = State()
        self._link: Link | None = None
        self._why = "was never opened"
        self._lock = threading.Lock()
        self._watchers: list[Callable[[TokenGone], None]] = []

    def open(self, link: Link, name: bytes, *identity: bytes) -> None:
        """Open the token in a worker that has its module, and is ended if that fails.

        Args:
            name: what the worker calls it: an NSS database's folder.
            identity: of a token by URI, label, manufacturer, serial and model.

        Raises:
            KeySourceError: it cannot be opened.
        """
        link.name = self._name
        reply = link.ask(Verb.OPEN, name, *identity)
        if reply.error is not None:
            link.end()
            raise reply.error
        with self._lock:
            self._state = reply.state
            self._link = link
        link.when_lost(lambda reason: self._lost(link, reason))

    def close(self) -> None:
        """Log out, and end the worker."""
        with self._lock:
            link, self._link = self._link, None
            self._state = self._state._replace(logged_in=False)
            self._why = "was closed, for its card was removed"
        if link is not None:
            link.end()

    def watch(self, told: Callable[[TokenGone], None]) -> None:
        """Have `told` called, in some thread, if the worker ends unasked, or did already."""
        with self._lock:
            self._watchers.append(told)
            late = self._link is None
        if late:
            told(self._gone())

    def unwatch(self, told: Callable[[TokenGone], None]) -> None:
        """Not any more. May be repeated."""
        if told in self._watchers:
            self._watchers.remove(told)

    def _lost(self, link: Link, reason: str) -> None:
        with self._lock:
            if self._link is not link:
                return
            self._link = None
            self._state = self._state._replace(logged_in=False)
            self._why = f"is gone: {reason}"
        for told in tuple(self._watchers):
            told(self._gone())

    def _gone(self) -> TokenGone:
        return TokenGone(f"{self._name} {self._why}", "vccidctl insert puts the card back")

    @property
    def there(self) -> bool:
        """Whether it has a worker."""
        return self._link is not None

    @property
    def name(self) -> str:
        return self._name

    @property
    def login_required(self) -> bool:
        return self._state.login_required

    @property
    def logged_in(self) -> bool:
        return self._state.logged_in

    @property
    def raw_rsa(self) -> bool:
        """Whether it offers CKM_RSA_X_509."""
        return self._state.raw_rsa

    @property
    def tries_left(self) -> int | None:
        return self._state.tries_left

    @property
    def pin_refusal(self) -> str:
        return self._pin_refusal

    def fewest_tries(self) -> int | None:
        return read_number((self.call(Verb.STATE, answers=2))[0])

    def still_logged_in(self) -> bool:
        if self.logged_in:
            try:
                return bool(read_number(self.call(Verb.STATE, answers=2)[1]))
            except (TokenGone, KeyOperationError):
                return self.usable
        return self.usable

    def login(self, pin: bytes) -> None:
        self.call(Verb.LOGIN, pin)

    def change_pin(self, old: bytes, new: bytes) -> None:
        if self._pin_refusal:
            raise KeyOperationError(f"{self._name} takes no new password here", self._pin_refusal)
        self.call(Verb.CHANGE_PIN, old, new)

    def certificates(self) -> list[CertificateObject]:
        """Every X.509 certificate on the token that has a value.

        Raises:
            KeySourceError: they cannot be had.
        """
        fields = self.call(Verb.CERTIFICATES)
        return [
            CertificateObject(label.decode("utf-8", "replace"), id_, der)
            for label, id_, der in zip(*[iter(fields)] * _CERTIFICATE, strict=False)
        ]

    def call(self, verb: Verb, *fields: bytes, answers: int | None = None) -> tuple[bytes, ...]:
        """What its worker answers.

        Args:
            answers: how many fields that has.

        Raises:
            TokenGone: it has no worker any more.
            VccidError: as the worker says.
        """
        link = self._link
        if link is None:
            raise self._gone()
        reply = link.ask(verb, *fields)
        if reply.state != self._state:
            with self._lock:
                if self._link is link:
                    self._state = reply.state
        if reply.error is not None:
            raise reply.error
        if answers is not None and len(reply.fields) != answers:
            raise KeyOperationError(f"{self._name}: its process answers {len(reply.fields)} fields")
        return reply.fields


class WorkerRsaKey(RsaPrivateKey):
    """An RSA key of a token."""

    def __init__(self, token: WorkerToken, name: str, id_: bytes, modulus: Modulus) -> None:
        """Tie a key to its certificate, which has this name, CKA_ID and modulus."""
        self._token = token
        self._modulus = modulus
        self._clue = pack_clue(KeyClue(name, id_, modulus.encoded))

    @property
    def size_bits(self) -> int:
        return self._modulus.bits

    def require(self) -> None:
        """Look for the key now.

        Raises:
            PrivateKeyMissing: the token is unlocked and has no such key.
            KeySourceError: the token does not answer.
        """
        self._token.call(Verb.FIND, self._clue)

    def raw(self, block: bytes) -> bytes:
        self._modulus.check(block)
        (result,) = self._token.call(Verb.RAW, self._clue, block, answers=1)
        if len(result) != len(block):
            raise KeyOperationError(f"{self._token.name} answered {len(result)} bytes")
        return result


class WorkerEcKey(EcPrivateKey):
    """A key of ECDSA and ECDH of a token."""

    def __init__(self, token: WorkerToken, name: str, id_: bytes, point: Point) -> None:
        """Tie a key to its certificate, which has this name, CKA_ID and public key."""
        self._token = token
        self._point = point
        self._clue = pack_clue(KeyClue(name, id_, point.encoded, point.curve.oid))

    @property
    def curve(self) -> Curve:
        return self._point.curve

    def require(self) -> None:
        """As `WorkerRsaKey.require`."""
        self._token.call(Verb.FIND, self._clue)

    def sign(self, data: bytes) -> bytes:
        digest = fit_digest(data, self.curve)
        return ecdsa_der(self._token.call(Verb.SIGN, self._clue, digest, answers=1)[0])

    def derive(self, peer: bytes) -> bytes:
        peer_key(self.curve, peer)  # no module has to be trusted with a point off the curve
        (secret,) = self._token.call(Verb.DERIVE, self._clue, peer, answers=1)
        if len(secret) != self.curve.size:
            raise KeyOperationError(f"{self._token.name} agreed on {len(secret)} bytes")
        return secret


def worker_key(
    token: WorkerToken, name: str, id_: bytes, public: PublicKey
) -> WorkerRsaKey | WorkerEcKey:
    """The private key of a certificate on a token.

    Args:
        name: the certificate's, for messages.
        id_: CKA_ID, as the certificate has it.
        public: the certificate's key.

    Raises:
        KeyUnsuitable: it is of a kind that tokens are not asked for.
    """
    if isinstance(public, Modulus):
        return WorkerRsaKey(token, name, id_, public)
    if public.curve.name in NIST_CURVES:
        return WorkerEcKey(token, name, id_, public)
    raise KeyUnsuitable(
        f"the key of certificate {name} is {public.description}, which cannot be used on a token",
        "a PEM or PKCS#12 file can hold it",
    )
