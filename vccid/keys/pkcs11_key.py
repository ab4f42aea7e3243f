# SPDX-License-Identifier: LGPL-2.1-or-later
"""Private keys on a PKCS#11 token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vccid.errors import KeyOperationError, KeyUnsuitable, LoginLost, PrivateKeyMissing
from vccid.keys.base import EcPrivateKey, PublicKey, RsaPrivateKey
from vccid.keys.ec import NIST_CURVES, Curve, Point, ecdsa_der, fit_digest, peer_key
from vccid.keys.pkcs11_module import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_MODULUS,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKK_EC,
    CKK_GENERIC_SECRET,
    CKK_RSA,
    CKM_ECDSA,
    CKM_RSA_PKCS,
    CKM_RSA_X_509,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    CKR_USER_NOT_LOGGED_IN,
    Pkcs11Error,
    Template,
    ulong,
)
from vccid.keys.pkcs11_token import Pkcs11Token
from vccid.keys.rsa import Modulus, unpad_signature_block

#: An ECDSA signature is two numbers of a curve of at most 384 bits.
_MAX_SIGNATURE: Final = 2 * 48


@dataclass(frozen=True, slots=True)
class _Handle:
    """A key that was found.

    Attributes:
        generation: the token's when it was found; at another one it must be looked for again.
        value: CK_OBJECT_HANDLE.
        verb: "Sign" or "Decrypt", whichever the key may do.
    """

    generation: int
    value: int
    verb: str


class _Place:
    """Where the private key of one certificate is; it is looked for at its first use after login.

    Attributes:
        token: the token.
    """

    def __init__(
        self, token: Pkcs11Token, name: str, candidates: Callable[[int], Iterator[int]]
    ) -> None:
        """Tie a key to its certificate.

        Args:
            name: the certificate's, for messages.
            candidates: on a session, the handles of private keys it may be, the likeliest first.
        """
        self.token = token
        self._name = name
        self._candidates = candidates
        self._handle: _Handle | None = None

    def run(self, operation: Callable[[int, _Handle], bytes]) -> bytes:
        """`operation(session, key)` on the unlocked token.

        Raises:
            LoginLost: the token is locked.
            KeyOperationError, PrivateKeyMissing, TokenGone: as `PrivateKey`'s operations.
        """
        if not self.token.usable:
            raise LoginLost(f"{self.token.name} is locked", "verify the PIN again")
        try:
            return self.token.run(lambda session: operation(session, self._key(session)))
        except Pkcs11Error as error:
            hint = ""
            if error.rv == CKR_USER_NOT_LOGGED_IN:
                hint = "a key that wants its PIN at each use (CKA_ALWAYS_AUTHENTICATE) cannot serve"
            raise KeyOperationError(f"{self.token.name}: {error.message}", hint) from None

    def require(self) -> None:
        """Look for the key now.

        Raises:
            PrivateKeyMissing: the token is unlocked and has no such key.
            TokenGone, Pkcs11Error: the token does not answer.
        """
        self.token.run(self._find)

    def _key(self, session: int) -> _Handle:
        handle = self._handle
        if handle is None or handle.generation != self.token.generation:
            handle = self._prepare(session)
        return handle

    def _prepare(self, session: int) -> _Handle:
        found = self._find(session)
        may = self.token.module.attributes(session, found, (CKA_SIGN, CKA_DECRYPT))
        verb = "Decrypt" if may.get(CKA_SIGN) == b"\0" and may.get(CKA_DECRYPT) else "Sign"
        value, generation = self.token.copy_key(found)
        self._handle = _Handle(generation, value, verb)
        return self._handle

    def _find(self, session: int) -> int:
        for handle in self._candidates(session):
            return handle
        raise PrivateKeyMissing(
            f"certificate {self._name} has no private key in {self.token.name}",
            "import certificate and key together, as pk12util -i does for an NSS database",
        )


class Pkcs11RsaKey(RsaPrivateKey):
    """An RSA key on a token."""

    def __init__(self, token: Pkcs11Token, name: str, id_: bytes, modulus: Modulus) -> None:
        """Tie a key to its certificate, which has this name, CKA_ID and modulus."""
        self._modulus = modulus
        self._id = id_
        self._place = _Place(token, name, self._candidates)

    @property
    def size_bits(self) -> int:
        return self._modulus.bits

    def require(self) -> None:
        """As `_Place.require`."""
        self._place.require()

    def raw(self, block: bytes) -> bytes:
        self._modulus.check(block)
        return self._place.run(lambda session, key: self._operate(session, key, block))

    def _operate(self, session: int, key: _Handle, block: bytes) -> bytes:
        token = self._place.token
        mechanism, data = CKM_RSA_X_509, block
        if not token.raw_rsa:
            mechanism, data = CKM_RSA_PKCS, unpad_signature_block(block)
        result = token.module.private_operation(
            key.verb, session, key.value, mechanism, data, len(block)
        )
        # Some modules drop leading zeros.
        return result.rjust(len(block), b"\0")

    def _candidates(self, session: int) -> Iterator[int]:
        """By CKA_ID, else by modulus; a key whose modulus is another's is passed over."""
        module = self._place.token.module
        rsa = {CKA_CLASS: ulong(CKO_PRIVATE_KEY), CKA_KEY_TYPE: ulong(CKK_RSA)}
        clues = [{CKA_ID: self._id}] if self._id else []
        for clue in (*clues, {CKA_MODULUS: self._modulus.encoded}):
            for handle in module.find(session, rsa | clue):
                shown = module.attributes(session, handle, (CKA_MODULUS,)).get(CKA_MODULUS)
                if not shown or int.from_bytes(shown, "big") == self._modulus.value:
                    yield handle


class Pkcs11EcKey(EcPrivateKey):
    """A key of ECDSA and ECDH on a token."""

    def __init__(self, token: Pkcs11Token, name: str, id_: bytes, point: Point) -> None:
        """Tie a key to its certificate, which has this name, CKA_ID and public key."""
        self._point = point
        self._id = id_
        self._place = _Place(token, name, self._candidates)

    @property
    def curve(self) -> Curve:
        return self._point.curve

    def require(self) -> None:
        """As `_Place.require`."""
        self._place.require()

    def sign(self, data: bytes) -> bytes:
        digest = fit_digest(data, self.curve)
        module = self._place.token.module
        return ecdsa_der(
            self._place.run(
                lambda session, key: module.private_operation(
                    "Sign", session, key.value, CKM_ECDSA, digest, _MAX_SIGNATURE
                )
            )
        )

    def derive(self, peer: bytes) -> bytes:
        peer_key(self.curve, peer)  # no module has to be trusted with a point off the curve
        return self._place.run(lambda session, key: self._agree(session, key, peer))

    def _agree(self, session: int, key: _Handle, peer: bytes) -> bytes:
        module, size = self._place.token.module, self.curve.size
        template = {
            CKA_CLASS: ulong(CKO_SECRET_KEY),
            CKA_KEY_TYPE: ulong(CKK_GENERIC_SECRET),
            CKA_TOKEN: b"\0",
            CKA_SENSITIVE: b"\0",
            CKA_EXTRACTABLE: b"\1",
            CKA_VALUE_LEN: ulong(size),
        }
        secret = module.ecdh(session, key.value, peer, template)
        try:
            value = module.attributes(session, secret, (CKA_VALUE,)).get(CKA_VALUE)
        finally:
            module.destroy_object(session, secret)
        if not value:
            raise KeyOperationError(f"{self._place.token.name} keeps the agreed secret to itself")
        return value.rjust(size, b"\0")

    def _candidates(self, session: int) -> Iterator[int]:
        """By CKA_ID, else by that of the public key; a key on another curve is passed over."""
        module = self._place.token.module
        private = {CKA_CLASS: ulong(CKO_PRIVATE_KEY), CKA_KEY_TYPE: ulong(CKK_EC)}
        for id_ in (self._id, *self._public_ids(session)):
            if not id_:
                continue
            for handle in module.find(session, private | {CKA_ID: id_}):
                shown = module.attributes(session, handle, (CKA_EC_PARAMS,)).get(CKA_EC_PARAMS)
                if not shown or shown == self.curve.oid:
                    yield handle

    def _public_ids(self, session: int) -> Iterator[bytes]:
        """CKA_ID of public keys that are the certificate's: the point is an OCTET STRING there."""
        module, encoded = self._place.token.module, self._point.encoded
        template: Template = {
            CKA_CLASS: ulong(CKO_PUBLIC_KEY),
            CKA_EC_POINT: bytes((0x04, len(encoded))) + encoded,
        }
        for handle in module.find(session, template):
            yield module.attributes(session, handle, (CKA_ID,)).get(CKA_ID, b"")


def pkcs11_key(
    token: Pkcs11Token, name: str, id_: bytes, public: PublicKey
) -> Pkcs11RsaKey | Pkcs11EcKey:
    """The private key of a certificate on a token.

    Args:
        name: the certificate's, for messages.
        id_: CKA_ID, as the certificate has it.
        public: the certificate's key.

    Raises:
        KeyUnsuitable: it is of a kind that tokens are not asked for.
    """
    if isinstance(public, Modulus):
        return Pkcs11RsaKey(token, name, id_, public)
    if public.curve.name in NIST_CURVES:
        return Pkcs11EcKey(token, name, id_, public)
    raise KeyUnsuitable(
        f"the key of certificate {name} is {public.description}, which cannot be used on a token",
        "a PEM or PKCS#12 file can hold it",
    )
