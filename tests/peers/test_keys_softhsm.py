# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys on PKCS#11 tokens: SoftHSM as Debian ships it, directly and through p11-kit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from tests.key_material import (
    NssFolder,
    assert_signs,
    certificate,
    der,
    key_der,
    rsa_key,
    signature_block,
)
from tests.softhsm import MODULE, PIN, configure, make_token, put, put_pair
from vccid.backends.certificates import CertificateBackend, CertificateRequest
from vccid.card.state import StateStore
from vccid.errors import (
    CertificateNotFound,
    KeyOperationError,
    KeyUnsuitable,
    PasswordNeeded,
    PrivateKeyMissing,
    SourceUnusable,
    TokenGone,
    VccidError,
    WrongPassword,
)
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords
from vccid.keys.pkcs11_module import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_ID,
    CKA_SIGN,
    CKM_RSA_X_509,
    CKO_PRIVATE_KEY,
    Module,
    Pkcs11Error,
    ulong,
)
from vccid.keys.worker.remote import WorkerToken
from vccid.readers.card_threads import CardThreads

QUERY = f"?module-path={MODULE}"
CERT = certificate("hsm", rsa_key(1).public_key())


@pytest.fixture(scope="module", autouse=True)
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One token, `main`, with two pairs and a certificate alone; yields the token folder."""
    old = os.environ.get("SOFTHSM2_CONF")
    file = configure(tmp_path_factory.mktemp("softhsm"))
    os.environ["SOFTHSM2_CONF"] = str(file)
    try:
        make_token("main")
        put_pair("main", "one", "01", rsa_key(1), CERT)
        put_pair("main", "two", "02", rsa_key(2), certificate("two", rsa_key(2).public_key()))
        put("main", "alone", "03", _der("alone", 3), "cert")
        yield file.parent / "tokens"
    finally:
        if old is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = old


def _der(name: str, key: int) -> bytes:
    return der(certificate(name, rsa_key(key).public_key()))


@contextmanager
def opened(*uris: str, login: bool = True) -> Iterator[Loading]:
    loading = Loading(uris, "sql:/nowhere", Passwords())
    try:
        loading.open()
        if login:
            only_token(loading).login(PIN.encode())
        yield loading
    finally:
        loading.close()


def only_token(loading: Loading) -> WorkerToken:
    (locked,) = loading.tokens
    return locked.token


@pytest.mark.parametrize(
    "uri",
    [
        f"pkcs11:token=main;object=one{QUERY}",
        f"pkcs11:token=main;id=%01;type=cert{QUERY}",
        f"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;object=one{QUERY}",
        "pkcs11:token=main;object=one?module-name=softhsm2",
        "pkcs11:token=main;object=one",
    ],
)
def test_ways_to_name_it(uri: str) -> None:
    with opened(uri) as loading:
        (credential,) = loading.read()
        assert credential.name == uri.partition("?")[0]
        assert credential.token is only_token(loading)
        assert_signs(credential.key.raw, credential.certificate)


def test_it_decrypts_as_well() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        ciphertext = (
            rsa_key(1)
            .public_key()
            .encrypt(
                b"a secret", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            )
        )
        n, d = rsa_key(1).public_key().public_numbers().n, rsa_key(1).private_numbers().d
        expected = pow(int.from_bytes(ciphertext, "big"), d, n).to_bytes(256, "big")
        assert credential.key.raw(ciphertext) == expected
        assert credential.key.raw(bytes(255) + b"\1") == bytes(255) + b"\1"


def test_blocks_that_would_end_the_process() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        for block in (b"", bytes(255), bytes(257), bytes(5000), b"\xff" * 256):
            with pytest.raises(KeyOperationError):
                credential.key.raw(block)
        assert_signs(credential.key.raw, credential.certificate)


def test_many_threads() -> None:
    uris = [f"pkcs11:token=main;object={name}{QUERY}" for name in ("one", "two")]
    with opened(*uris) as loading:
        credentials = loading.read()

        def sign(number: int) -> None:
            item = credentials[number % 2]
            assert_signs(item.key.raw, item.certificate)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(sign, range(64)))


def test_login() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}", login=False) as loading:
        token = only_token(loading)
        (credential,) = loading.read()
        assert (token.name, token.login_required) == ("token main", True)
        with pytest.raises(KeyOperationError, match="token main is locked"):
            credential.key.raw(bytes(256))
        for pin in (b"wrong", b"", b"9" * 300):
            with pytest.raises(WrongPassword, match="wrong password for token main"):
                token.login(pin)
        token.login(PIN.encode())
        assert_signs(credential.key.raw, credential.certificate)
    assert not token.logged_in


def test_somebody_elses_login_proves_no_pin() -> None:
    """p11-kit has the same library inside."""
    with (
        opened(f"pkcs11:token=main;object=one{QUERY}"),
        opened("pkcs11:token=main;object=one", login=False) as other,
    ):
        assert not only_token(other).logged_in
        with pytest.raises(WrongPassword):
            only_token(other).login(b"wrong")
        assert not only_token(other).logged_in
        only_token(other).login(PIN.encode())


def test_a_new_pin() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}") as loading:
        token = only_token(loading)
        with pytest.raises(WrongPassword):
            token.change_pin(b"wrong", b"11112222")
        with pytest.raises(KeyOperationError, match="takes no new password"):
            token.change_pin(PIN.encode(), b"1")
        token.change_pin(PIN.encode(), b"11112222")
        token.change_pin(b"11112222", PIN.encode())
    with opened(f"pkcs11:token=main;object=one{QUERY}") as loading:
        assert only_token(loading).logged_in


def test_a_pin_source(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(PIN + "\n")
    uri = f"pkcs11:token=main;object=one{QUERY}&pin-source=file:{tmp_path}/pin"
    with opened(uri, login=False) as loading:
        (locked,) = loading.tokens
        assert locked.password == PIN.encode()
        assert PIN not in repr(locked)


def test_the_key_is_missing_only_after_login() -> None:
    uri = f"pkcs11:token=main;object=alone{QUERY}"
    with opened(uri, login=False) as loading:
        loading.read()
    with opened(uri) as loading, pytest.raises(PrivateKeyMissing) as caught:
        loading.read()
    assert caught.value.message == (
        "certificate pkcs11:token=main;object=alone has no private key in token main"
    )


def test_a_key_whose_id_is_not_the_certificates() -> None:
    put("main", "odd", "0A", _der("odd", 4), "cert")
    put("main", "odd", "0B", key_der(rsa_key(4)), "privkey", "--usage-sign")
    with opened(f"pkcs11:token=main;object=odd{QUERY}") as loading:
        (credential,) = loading.read()
        assert_signs(credential.key.raw, credential.certificate)


def test_a_key_for_decryption_alone() -> None:
    put("main", "decrypt", "0C", _der("decrypt", 5), "cert")
    put("main", "decrypt", "0D", key_der(rsa_key(5)), "privkey")
    with opened(f"pkcs11:token=main;object=decrypt{QUERY}") as loading:
        module = Module(MODULE)
        (slot,) = (slot for slot in module.slots() if module.token_info(slot).label == "main")
        session = module.open_session(slot, writable=True)
        module.login(session, PIN.encode())
        (signing,) = module.find(session, {CKA_CLASS: ulong(CKO_PRIVATE_KEY), CKA_ID: b"\x0d"})
        only = {CKA_ID: b"\x0c", CKA_SIGN: b"\0", CKA_DECRYPT: b"\1"}
        copy = module.copy_object(session, signing, only)
        with pytest.raises(Pkcs11Error, match="KEY_FUNCTION_NOT_PERMITTED"):
            module.private_operation("Sign", session, copy, CKM_RSA_X_509, bytes(256), 256)
        (credential,) = loading.read()
        assert_signs(credential.key.raw, credential.certificate)
        module.finalize()


def test_a_token_that_is_not_there_disturbs_no_other() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        with pytest.raises(TokenGone, match="no token fits"):
            Loading([f"pkcs11:token=none{QUERY}"], "", Passwords()).open()
        assert_signs(credential.key.raw, credential.certificate)


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        (f"pkcs11:token=none{QUERY}", TokenGone, "no token fits pkcs11:token=none"),
        (f"pkcs11:token=main;object=x{QUERY}", CertificateNotFound, "no certificate fits"),
        (f"pkcs11:token=main{QUERY}", CertificateNotFound, "certificates fit pkcs11:token=main"),
        ("pkcs11:?module-name=nosuch", SourceUnusable, "there is no PKCS#11 module nosuch"),
        ("pkcs11:?module-path=/nosuch.so", SourceUnusable, "No such file"),
        ("pkcs11:?module-path=/etc/passwd", SourceUnusable, "is no PKCS#11 module"),
        (
            "pkcs11:?module-path=/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
            SourceUnusable,
            "is no PKCS#11 module",
        ),
    ],
)
def test_what_does_not_fit(uri: str, error: type[VccidError], says: str) -> None:
    with pytest.raises(error, match=says) as caught, opened(uri) as loading:
        loading.read()
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_module_others_can_change_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    shutil.copy(MODULE, folder / "module.so")
    folder.chmod(0o777)
    with pytest.raises(SourceUnusable, match="is not loaded: other users can change .*/open"):
        Loading([f"pkcs11:?module-path={folder}/module.so"], "", Passwords()).open()
    folder.chmod(0o755)
    (folder / "module.so").chmod(0o666)
    with pytest.raises(SourceUnusable, match="is not loaded: other users can change .*module.so"):
        Loading([f"pkcs11:?module-path={folder}/module.so"], "", Passwords()).open()


def test_an_elliptic_curve_key() -> None:
    cert = certificate("ec", ec.generate_private_key(ec.SECP256R1()).public_key())
    put("main", "ec", "0E", der(cert), "cert")
    uri = f"pkcs11:token=main;object=ec{QUERY}"
    with opened(uri) as loading, pytest.raises(KeyUnsuitable) as caught:
        loading.read()
    assert caught.value.message == (
        "the key of certificate pkcs11:token=main;object=ec is EC on secp256r1,"
        " which CAC PKI applet 1 (ID) cannot hold"
    )


def test_a_token_made_after_the_module_was_loaded() -> None:
    with opened(f"pkcs11:token=main;object=one{QUERY}"):
        pass
    make_token("later")
    put_pair("later", "one", "01", rsa_key(1), CERT)
    with opened(f"pkcs11:token=later;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        assert_signs(credential.key.raw, credential.certificate)


def test_a_token_deleted_while_in_use(softhsm: Path) -> None:
    before = set(softhsm.iterdir())
    make_token("fleeting")
    put_pair("fleeting", "one", "01", rsa_key(1), CERT)
    (folder,) = set(softhsm.iterdir()) - before
    away = softhsm.parent / "away"
    with opened(f"pkcs11:token=fleeting;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        assert_signs(credential.key.raw, credential.certificate)
        folder.rename(away)
        with pytest.raises(TokenGone, match="token fleeting is gone"):
            credential.key.raw(signature_block(b""))
        assert not only_token(loading).logged_in
        with pytest.raises(TokenGone, match="token fleeting is gone"):
            only_token(loading).login(PIN.encode())
        with pytest.raises(TokenGone, match="no token fits"):
            Loading([f"pkcs11:token=fleeting{QUERY}"], "", Passwords()).open()
    away.rename(folder)
    with opened(f"pkcs11:token=fleeting;object=one{QUERY}") as loading:
        (credential,) = loading.read()
        assert_signs(credential.key.raw, credential.certificate)


async def test_two_locked_tokens_need_a_pin_of_the_cards_own(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db", "correct horse", "cert1")
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "vccid.password.db").write_text("correct horse")
    uri = f"pkcs11:token=main;object=one{QUERY}"
    request = CertificateRequest(("cert1", uri, "cert1"), str(database.path))
    states = StateStore(tmp_path / "cards")
    with pytest.raises(PasswordNeeded) as caught:
        await CertificateBackend(states, CardThreads).card(request)
    assert caught.value.message == f"{database.path} needs a password"
    backend = CertificateBackend(states, CardThreads, tmp_path)
    with pytest.raises(PasswordNeeded) as caught:
        await backend.card(request)
    assert caught.value.message == "token main needs a password"
    items = ("cert1", f"{uri}&pin-source=file:{tmp_path}/pin", "cert1")
    card, warnings = await backend.card(CertificateRequest(items, str(database.path)))
    assert card.info().pin_kind == "card"
    assert len(warnings) == 1 and "factory PIN" in warnings[0]
    card.close()


WITHOUT_RAW_RSA = """
import sys
from tests.key_material import assert_signs
from vccid.errors import KeyOperationError
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords
loading = Loading([sys.argv[1]], "", Passwords())
loading.open()
loading.tokens[0].token.login(sys.argv[2].encode())
(credential,) = loading.read()
assert not credential.token.raw_rsa
assert_signs(credential.key.raw, credential.certificate)
try:
    credential.key.raw(bytes(255) + b"2")
except KeyOperationError as error:
    print(error.message)
"""


def test_a_token_without_raw_rsa(softhsm: Path, tmp_path: Path) -> None:
    file = tmp_path / "softhsm2.conf"
    file.write_text(f"directories.tokendir = {softhsm}\nslots.mechanisms = CKM_RSA_PKCS\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAW_RSA, f"pkcs11:token=main;object=one{QUERY}", PIN],
        env={**os.environ, "SOFTHSM2_CONF": str(file)},
        cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "the token has no raw RSA (CKM_RSA_X_509), and this block is no PKCS #1 v1.5 signature\n"
    )
