# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private key on a PKCS#11 token."""

from __future__ import annotations

from dataclasses import dataclass

from vccid.errors import KeyOperationError, PrivateKeyMissing
from vccid.keys.base import PrivateKey
from vccid.keys.pkcs11_module import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_MODULUS,
    CKA_SIGN,
    CKK_RSA,
    CKM_RSA_PKCS,
    CKM_RSA_X_509,
    CKO_PRIVATE_KEY,
    CKR_USER_NOT_LOGGED_IN,
    Pkcs11Error,
    ulong,
)
from vccid.keys.pkcs11_token import Pkcs11Token
from vccid.keys.rsa import Modulus, unpad_signature_block


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


class Pkcs11Key(PrivateKey):
    """The private key of one certificate; it is looked for at its first use after login."""

    def __init__(self, token: Pkcs11Token, name: str, id_: bytes, modulus: Modulus) -> None:
        """Tie a key to its certificate.

        Args:
            name: the certificate's, for messages.
            id_: CKA_ID, as the certificate has it.
        """
        self._token = token
        self._name = name
        self._id = id_
        self._modulus = modulus
        self._handle: _Handle | None = None

    @property
    def size_bits(self) -> int:
        return self._modulus.bits

    def raw(self, block: bytes) -> bytes:
        self._modulus.check(block)
        if not self._token.usable:
            raise KeyOperationError(f"{self._token.name} is locked", "verify the PIN again")
        try:
            return self._token.run(lambda session: self._operate(session, block))
        except Pkcs11Error as error:
            hint = ""
            if error.rv == CKR_USER_NOT_LOGGED_IN:
                hint = "a key that wants its PIN at each use (CKA_ALWAYS_AUTHENTICATE) cannot serve"
            raise KeyOperationError(f"{self._token.name}: {error.message}", hint) from None

    def require(self) -> None:
        """Look for the key now.

        Raises:
            PrivateKeyMissing: the token is unlocked and has no such key.
            TokenGone, Pkcs11Error: the token does not answer.
        """
        self._token.run(self._find)

    def _operate(self, session: int, block: bytes) -> bytes:
        handle = self._handle
        if handle is None or handle.generation != self._token.generation:
            handle = self._prepare(session)
        mechanism, data = CKM_RSA_X_509, block
        if not self._token.raw_rsa:
            mechanism, data = CKM_RSA_PKCS, unpad_signature_block(block)
        result = self._token.module.private_operation(
            handle.verb, session, handle.value, mechanism, data, len(block)
        )
        # Some modules drop leading zeros.
        return result.rjust(len(block), b"\0")

    def _prepare(self, session: int) -> _Handle:
        found = self._find(session)
        module = self._token.module
        may = module.attributes(session, found, (CKA_SIGN, CKA_DECRYPT))
        verb = "Decrypt" if may.get(CKA_SIGN) == b"\0" and may.get(CKA_DECRYPT) else "Sign"
        value, generation = self._token.copy_key(found)
        self._handle = _Handle(generation, value, verb)
        return self._handle

    def _find(self, session: int) -> int:
        """By CKA_ID, else by modulus; a key whose modulus is another's is passed over."""
        module = self._token.module
        rsa = {CKA_CLASS: ulong(CKO_PRIVATE_KEY), CKA_KEY_TYPE: ulong(CKK_RSA)}
        clues = [{CKA_ID: self._id}] if self._id else []
        for clue in (*clues, {CKA_MODULUS: self._modulus.encoded}):
            for handle in module.find(session, rsa | clue):
                shown = module.attributes(session, handle, (CKA_MODULUS,)).get(CKA_MODULUS)
                if not shown or int.from_bytes(shown, "big") == self._modulus.value:
                    return handle
        raise PrivateKeyMissing(
            f"certificate {self._name} has no private key in {self._token.name}",
            "import certificate and key together, as pk12util -i does for an NSS database",
        )
