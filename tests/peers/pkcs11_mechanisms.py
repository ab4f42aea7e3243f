# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every asymmetric mechanism that a PKCS#11 module tells of, with keys of a card; OpenSSL verifies.

    python3 -m tests.peers.pkcs11_mechanisms MODULE PIN ID=CERTIFICATE...

ID is a key's in PKCS#11, hexadecimal, CERTIFICATE its certificate's file (PEM). Which key does what
is told by its CKA_SIGN, CKA_DECRYPT and CKA_DERIVE. Prints, as JSON, the mechanisms by key that
were right, and under "told" those that the module says the card has. It ends where one is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import PyKCS11
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MESSAGE: Final = b"a message worth signing"
HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "MD5": hashes.MD5(), "SHA1": hashes.SHA1(), "SHA224": hashes.SHA224(),
    "SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512(),
}  # fmt: skip
#: OpenSSL 3 has it no more.
NOT_VERIFIED: Final = {"CKM_RIPEMD160_RSA_PKCS"}


def hash_of(name: str) -> str:
    """The hash that a mechanism's name has in it, or ""."""
    return next((word for word in name.split("_") if word in HASHES), "")


def plain(name: str) -> Any:
    return PyKCS11.Mechanism(PyKCS11.CKM[name], None)


def pss(name: str, digest: str) -> Any:
    """With the salt that TLS has: as long as the digest."""
    hashed = "SHA_1" if digest == "SHA1" else digest
    mgf = getattr(PyKCS11, f"CKG_MGF1_{digest}")
    size = HASHES[digest].digest_size
    return PyKCS11.RSA_PSS_Mechanism(PyKCS11.CKM[name], PyKCS11.CKM[f"CKM_{hashed}"], mgf, size)


def digest_of(name: str) -> bytes:
    hasher = hashes.Hash(HASHES[name])
    hasher.update(MESSAGE)
    return hasher.finalize()


class Key:
    """One key of the card.

    Attributes:
        may: CKA_SIGN, CKA_DECRYPT, CKA_DERIVE.
    """

    def __init__(self, session: Any, identifier: str, certificate: Path) -> None:
        self._session = session
        wanted = [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY),
            (PyKCS11.CKA_ID, tuple(bytes.fromhex(identifier))),
        ]
        (self._handle,) = session.findObjects(wanted)
        self.public: Any = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        self.may = session.getAttributeValue(
            self._handle, [PyKCS11.CKA_SIGN, PyKCS11.CKA_DECRYPT, PyKCS11.CKA_DERIVE]
        )

    def sign(self, mechanism: Any, content: bytes) -> bytes:
        return bytes(self._session.sign(self._handle, content, mechanism))

    def decrypt(self, mechanism: Any, secret: bytes) -> bytes:
        return bytes(self._session.decrypt(self._handle, secret, mechanism))

    def derive(self, point: bytes, name: str) -> bytes:
        mechanism = PyKCS11.ECDH1_DERIVE_Mechanism(point)
        mechanism.to_native().mechanism = PyKCS11.CKM[name]
        size = self.public.curve.key_size // 8
        template = [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_GENERIC_SECRET),
            (PyKCS11.CKA_TOKEN, False),
            (PyKCS11.CKA_SENSITIVE, False),
            (PyKCS11.CKA_EXTRACTABLE, True),
            (PyKCS11.CKA_VALUE_LEN, size),
        ]
        made = self._session.deriveKey(self._handle, template, mechanism)
        return bytes(self._session.getAttributeValue(made, [PyKCS11.CKA_VALUE])[0])


def ecdsa(key: Key, name: str) -> None:
    """Of a digest that is given, or of the message; r and s side by side."""
    hashed = hash_of(name)
    signature = key.sign(plain(name), MESSAGE if hashed else digest_of("SHA256"))
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    algorithm = ec.ECDSA(HASHES[hashed or "SHA256"])
    key.public.verify(utils.encode_dss_signature(r, s), MESSAGE, algorithm)


def agreement(key: Key, name: str) -> None:
    peer = ec.generate_private_key(key.public.curve)
    point = peer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert key.derive(point, name) == peer.exchange(ec.ECDH(), key.public)


def rsa_signature(key: Key, name: str) -> None:
    """The bare ones take a digest (PSS), a DigestInfo (PKCS), and a whole block."""
    hashed = hash_of(name)
    if name.endswith("PSS"):
        content = MESSAGE if hashed else digest_of("SHA256")
        signature = key.sign(pss(name, hashed or "SHA256"), content)
        algorithm = HASHES[hashed or "SHA256"]
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        key.public.verify(signature, MESSAGE, scheme, algorithm)
    elif hashed:
        signature = key.sign(plain(name), MESSAGE)
        key.public.verify(signature, MESSAGE, padding.PKCS1v15(), HASHES[hashed])
    else:
        info = bytes.fromhex("3031300D060960864801650304020105000420") + digest_of("SHA256")
        size = key.public.key_size // 8
        block = b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info
        signature = key.sign(plain(name), info if name == "CKM_RSA_PKCS" else block)
        key.public.verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def rsa_decryption(key: Key, name: str) -> None:
    if name == "CKM_RSA_PKCS_OAEP":
        scheme: Any = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        mechanism = PyKCS11.RSAOAEPMechanism(PyKCS11.CKM_SHA256, PyKCS11.CKG_MGF1_SHA256)
    else:
        scheme, mechanism = padding.PKCS1v15(), plain(name)
    found = key.decrypt(mechanism, key.public.encrypt(MESSAGE, scheme))
    assert found == MESSAGE or (name == "CKM_RSA_X_509" and found.endswith(b"\0" + MESSAGE))


def uses(key: Key, name: str) -> list[Callable[[Key, str], None]]:
    """What a key may do by a mechanism."""
    signs, decrypts, derives = key.may
    if isinstance(key.public, ec.EllipticCurvePublicKey):
        return [ecdsa] * (signs and "ECDSA" in name) + [agreement] * (derives and "ECDH" in name)
    assert isinstance(key.public, rsa.RSAPublicKey)
    if "RSA" not in name:
        return []
    bare = name in ("CKM_RSA_PKCS", "CKM_RSA_X_509")
    may_decrypt = decrypts and (bare or name.endswith("OAEP"))
    return [rsa_signature] * (signs and not name.endswith("OAEP")) + [rsa_decryption] * may_decrypt


def main(module: str, pin: str, *given: str) -> None:
    library = PyKCS11.PyKCS11Lib()
    library.load(module)
    (slot,) = library.getSlotList(tokenPresent=True)
    told = [
        name for name in library.getMechanismList(slot)
        if any(kind in name for kind in ("RSA", "EC")) and name not in NOT_VERIFIED
    ]  # fmt: skip
    session = library.openSession(slot)
    session.login(pin)
    right: dict[str, list[str]] = {"told": told}
    for identifier, _, certificate in (word.partition("=") for word in given):
        key = Key(session, identifier, Path(certificate))
        right[identifier] = []
        for name in told:
            for use in uses(key, name):
                try:
                    use(key, name)
                except Exception as error:
                    raise RuntimeError(f"{name} with key {identifier}: {use.__name__}") from error
                right[identifier].append(name)
    print(json.dumps(right), flush=True)
    os._exit(0)  # the module's own end is no matter of ours


if __name__ == "__main__":
    main(*sys.argv[1:])
