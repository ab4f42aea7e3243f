# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a source of certificates and keys offers, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from vccid.keys.ec import Curve, Point
from vccid.keys.rsa import Modulus

#: What a certificate or a card shows of a key.
PublicKey = Modulus | Point


class PrivateKey(ABC):
    """A private key that may live in a token; what it can do is its kind's.

    An operation may block for as long as the token does; call it in a thread.
    A key of a locked token is looked for only at its first use after login.
    """

    @property
    @abstractmethod
    def size_bits(self) -> int:
        """Length in bits, a multiple of 8: of the modulus, or of the curve's coordinates."""


class EcPrivateKey(PrivateKey):
    """A key on a curve."""

    @property
    @abstractmethod
    def curve(self) -> Curve:
        """The curve."""

    @property
    def size_bits(self) -> int:
        return self.curve.size * 8

    @abstractmethod
    def sign(self, data: bytes) -> bytes:
        """ECDSA of a digest (FIPS 186-5, 6.4.1), or Ed25519 of a message (RFC 8032).

        Args:
            data: a digest of any length, or the message.

        Returns:
            SEQUENCE of INTEGER r and s, DER; or 64 bytes.

        Raises:
            KeyOperationError: the curve signs nothing, or the token refused.
            PrivateKeyMissing: there is no such key in the unlocked token.
            TokenGone: the token is no longer there.
        """

    @abstractmethod
    def derive(self, peer: bytes) -> bytes:
        """ECDH (SP 800-56A rev. 3, 5.7.1.2) or X25519 (RFC 7748): the shared x-coordinate.

        Args:
            peer: the other side's public key, as `Point.encoded`.

        Returns:
            As many bytes as a coordinate has.

        Raises:
            KeyOperationError: the point is not on the curve, the curve agrees on nothing, or
                the token refused.
            PrivateKeyMissing, TokenGone: as `sign`.
        """


class RsaPrivateKey(PrivateKey):
    """An RSA key."""

    @property
    def is_quick(self) -> bool:
        """Whether `raw` is done so soon that a thread for it would cost more than it spares."""
        return False

    @abstractmethod
    def raw(self, block: bytes) -> bytes:
        """The bare RSA operation, RSASP1 and RSADP alike (RFC 8017, 5.1.2 and 5.2.1).

        Args:
            block: big-endian, as long as the modulus and numerically below it.

        Returns:
            As many bytes as the modulus has.

        Raises:
            KeyOperationError: the block does not fit, or the token refused it.
            PrivateKeyMissing: there is no such key in the unlocked token.
            TokenGone: the token is no longer there.
        """


class Token(ABC):
    """What one password or PIN unlocks: an NSS database or a PKCS#11 token.

    A login belongs to the whole process, so it never gates a card's key by itself:
    the card keeps a verified flag for each session (`vccid.card.pin`).
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in a message: a path, or a token's label."""

    @property
    @abstractmethod
    def login_required(self) -> bool:
        """Whether its private keys need a password."""

    @property
    @abstractmethod
    def logged_in(self) -> bool:
        """Whether this process is logged in to it."""

    @property
    @abstractmethod
    def tries_left(self) -> int | None:
        """Tries the token itself leaves: 0 locked, 1 final, None unknown or not counted."""

    @property
    def usable(self) -> bool:
        """Whether private keys can be seen now."""
        return self.logged_in or not self.login_required

    def fewest_tries(self) -> int | None:
        """The fewest tries it may have left, asked anew: None where it has all, or counts none.

        Raises:
            TokenGone: the token is no longer there.
        """
        return self.tries_left

    def still_logged_in(self) -> bool:
        """Whether this process is logged in, the token asked; one that needs no login always is."""
        return self.usable

    @property
    def pin_refusal(self) -> str:
        """Why its PIN cannot be changed here, or ""."""
        return ""

    @abstractmethod
    def login(self, pin: bytes) -> None:
        """Log in; a second login with the process logged in already does nothing.

        Raises:
            WrongPassword: refused; the token may have counted the try.
            TokenLocked: it looked at no PIN.
            TokenGone: the token is no longer there.
            KeyOperationError: it could not tell.
        """

    @abstractmethod
    def change_pin(self, old: bytes, new: bytes) -> None:
        """Set a new password (C_SetPIN).

        Raises:
            WrongPassword: `old` was refused.
            KeyOperationError: the token does not take `new`, or is read-only.
        """


@dataclass(frozen=True, slots=True)
class Credential:
    """One certificate with its private key.

    Attributes:
        name: what the user called it (nickname, URI without secrets, or path).
        certificate: X.509, DER.
        key: its private key.
        token: what must be unlocked before the key works, or None for a file already open.
    """

    name: str
    certificate: bytes
    key: PrivateKey
    token: Token | None
