# SPDX-License-Identifier: LGPL-2.1-or-later
"""Private keys on a PKCS#11 token, in the process that has the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vccid.errors import KeyOperationError, LoginLost, PrivateKeyMissing
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
from vccid.keys.token_nouns import KeyClue

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


class Pkcs11RsaKey:
    """An RSA key on a token."""

    def __init__(self, token: Pkcs11Token, clue: KeyClue) -> None:
        """Tie a key to its certificate, of which `clue` tells."""
        self._modulus = Modulus.of(int.from_bytes(clue.public, "big"))
        self._id = clue.id
        self._place = _Place(token, clue.name, self._candidates)

    def require(self) -> None:
        """As `_Place.require`."""
        self._place.require()

    def raw(self, block: bytes) -> bytes:
        """As `RsaPrivateKey.raw`."""
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


class Pkcs11EcKey:
    """A key of ECDSA and ECDH on a token."""

    def __init__(self, token: Pkcs11Token, clue: KeyClue) -> None:
        """Tie a key to its certificate, of which `clue` tells."""
        self._clue = clue
        # 04, x, y (SEC 1, 2.3.3)
        self._size = (len(clue.public) - 1) // 2
        self._place = _Place(token, clue.name, self._candidates)

    def require(self) -> None:
        """As `_Place.require`."""
        self._place.require()

    def sign(self, digest: bytes) -> bytes:
        """ECDSA of a digest that fits the curve: r and s, as long as a coordinate each."""
        module = self._place.token.module
        return self._place.run(
            lambda session, key: module.private_operation(
                "Sign", session, key.value, CKM_ECDSA, digest, _MAX_SIGNATURE
            )
        )

    def derive(self, peer: bytes) -> bytes:
        """ECDH with a point on the curve: the shared x-coordinate."""
        return self._place.run(lambda session, key: self._agree(session, key, peer))

    def _agree(self, session: int, key: _Handle, peer: bytes) -> bytes:
        module, size = self._place.token.module, self._size
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
        for id_ in (self._clue.id, *self._public_ids(session)):
            if not id_:
                continue
            for handle in module.find(session, private | {CKA_ID: id_}):
                shown = module.attributes(session, handle, (CKA_EC_PARAMS,)).get(CKA_EC_PARAMS)
                if not shown or shown == self._clue.oid:
                    yield handle

    def _public_ids(self, session: int) -> Iterator[bytes]:
        """CKA_ID of public keys that are the certificate's: the point is an OCTET STRING there."""
        module, encoded = self._place.token.module, self._clue.public
        template: Template = {
            CKA_CLASS: ulong(CKO_PUBLIC_KEY),
            CKA_EC_POINT: bytes((0x04, len(encoded))) + encoded,
        }
        for handle in module.find(session, template):
            yield module.attributes(session, handle, (CKA_ID,)).get(CKA_ID, b"")
