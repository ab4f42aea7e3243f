# SPDX-License-Identifier: LGPL-2.1-or-later
"""Elliptic keys in SoftHSM and in NSS databases: ECDSA and ECDH by the token itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.key_material import NssFolder, certificate, der, key_der, p12_for_nss, run
from tests.softhsm import MODULE, PIN, configure, make_token, put
from vccid.errors import KeyOperationError, PrivateKeyMissing
from vccid.keys.base import EcPrivateKey
from vccid.keys.holder import Holder
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords

PASSWORD = "correct horse"
ANYWHERE = Holder("a test's place", "any key", lambda public: True)
KEYS = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
}
EACH = pytest.mark.parametrize("name", KEYS)


@pytest.fixture(scope="module", autouse=True)
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token, `main`, with both keys, and one certificate without its key."""
    with pytest.MonkeyPatch.context() as patch:
        file = configure(tmp_path_factory.mktemp("softhsm"))
        patch.setenv("SOFTHSM2_CONF", str(file))
        make_token("elliptic")
        for number, (name, key) in enumerate(KEYS.items(), start=1):
            cert = certificate(name, key.public_key())
            put("elliptic", name, f"{number:02}", key_der(key), "privkey",
                "--usage-sign", "--usage-derive")  # fmt: skip
            put("elliptic", name, f"{number:02}", der(cert), "cert")
        lone = ec.generate_private_key(ec.SECP256R1()).public_key()
        put("elliptic", "alone", "09", der(certificate("alone", lone)), "cert")
        yield


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> NssFolder:
    """With a password, and both keys."""
    folder = NssFolder(tmp_path_factory.mktemp("nss") / "elliptic", PASSWORD)
    for name, key in KEYS.items():
        bundle = folder.path.parent / "bundle.p12"
        bundle.write_bytes(p12_for_nss(name, key, certificate(name, key.public_key()), "x"))
        run("pk12util", "-d", f"sql:{folder.path}", "-i", bundle, "-W", "x", "-K", PASSWORD)
    return folder


@pytest.fixture(params=["SoftHSM", "NSS"])
def loaded(request: pytest.FixtureRequest, name: str, database: NssFolder) -> Iterator[Loading]:
    """The item's loading, its token unlocked."""
    items = {
        "SoftHSM": f"pkcs11:token=elliptic;object={name}?module-path={MODULE}",
        "NSS": name,
    }
    loading = Loading([items[request.param]], str(database.path), Passwords(), lambda _: ANYWHERE)
    try:
        loading.open()
        (locked,) = loading.tokens
        locked.token.login({"SoftHSM": PIN, "NSS": PASSWORD}[request.param].encode())
        yield loading
    finally:
        loading.close()


def key_of(loading: Loading) -> EcPrivateKey:
    key = loading.read()[0].key
    assert isinstance(key, EcPrivateKey)
    return key


@EACH
def test_signatures(loaded: Loading, name: str) -> None:
    public, key = KEYS[name].public_key(), key_of(loaded)
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        digest = hashlib.new(algorithm.name, os.urandom(20)).digest()
        public.verify(key.sign(digest), digest, ec.ECDSA(Prehashed(algorithm)))


@EACH
def test_agreement(loaded: Loading, name: str) -> None:
    peer = ec.generate_private_key(KEYS[name].curve)
    point = peer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = key_of(loaded)
    for _ in range(3):
        assert key.derive(point) == peer.exchange(ec.ECDH(), KEYS[name].public_key())
    with pytest.raises(KeyOperationError, match="the point is not one of"):
        key.derive(point[:-1] + bytes((point[-1] ^ 1,)))


def test_a_certificate_alone() -> None:
    uri = f"pkcs11:token=elliptic;object=alone?module-path={MODULE}"
    loading = Loading([uri], "", Passwords(), lambda _: ANYWHERE)
    try:
        loading.open()
        loading.tokens[0].token.login(PIN.encode())
        with pytest.raises(PrivateKeyMissing):
            loading.read()
    finally:
        loading.close()


def test_the_key_is_found_by_its_public_key(tmp_path: Path) -> None:
    """A certificate whose CKA_ID is another than its key's, as some tools leave it."""
    key = KEYS["p256"]
    put("elliptic", "apart", "30", key_der(key), "privkey", "--usage-sign")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    put("elliptic", "apart", "30", public, "pubkey")
    put("elliptic", "apart", "31", der(certificate("apart", key.public_key())), "cert")
    uri = f"pkcs11:token=elliptic;object=apart?module-path={MODULE}"
    loading = Loading([uri], "", Passwords(), lambda _: ANYWHERE)
    try:
        loading.open()
        loading.tokens[0].token.login(PIN.encode())
        digest = bytes(32)
        signature = key_of(loading).sign(digest)
        key.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    finally:
        loading.close()
