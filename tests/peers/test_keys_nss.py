# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys in NSS databases as certutil makes them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.key_material import NssFolder, assert_signs, certificate, der, key_pem, pem, rsa_key, run
from vccid.errors import (
    CertificateNotFound,
    KeyOperationError,
    PrivateKeyMissing,
    SourceUnusable,
    WrongPassword,
)
from vccid.keys.base import Credential
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords
from vccid.keys.worker.remote import WorkerToken

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> NssFolder:
    """Without a password."""
    return NssFolder(tmp_path_factory.mktemp("nss") / "plain", "", "cert1", "cert2", "cert3")


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> NssFolder:
    """With a password."""
    return NssFolder(tmp_path_factory.mktemp("nss") / "se cret-ä", PASSWORD, "cert1")


@contextmanager
def opened(database: NssFolder, *names: str, password: bytes | None = None) -> Iterator[Loading]:
    loading = Loading(names, f"sql:{database.path}", Passwords(password))
    try:
        loading.open()
        yield loading
    finally:
        loading.close()


def only_token(loading: Loading) -> WorkerToken:
    (locked,) = loading.tokens
    return locked.token


def imported(database: NssFolder, name: str, **validity: datetime) -> bytes:
    """Import one more certificate of key 1 under this nickname; returns it in DER."""
    cert = certificate("renewed", rsa_key(1).public_key(), **validity)
    folder = database.path.parent
    (folder / "k").write_bytes(key_pem(rsa_key(1)))
    (folder / "c").write_bytes(pem(cert))
    bundle = folder / "bundle.p12"
    run("openssl", "pkcs12", "-export", "-inkey", folder / "k", "-in", folder / "c",
        "-name", name, "-out", bundle, "-passout", "pass:x")  # fmt: skip
    run("pk12util", "-d", f"sql:{database.path}", "-i", bundle, "-W", "x", "-K", "")
    return der(cert)


def test_three_certificates_sign(plain: NssFolder) -> None:
    with opened(plain, "cert1", "cert2", "NSS Certificate DB:cert3") as loading:
        assert loading.tokens == []
        credentials = loading.read()
        assert [item.name for item in credentials] == ["cert1", "cert2", "cert3"]
        assert loading.warnings == []
        for item in credentials:
            assert item.key.size_bits == 2048
            assert_signs(item.key.raw, item.certificate)


def test_blocks_that_do_not_fit_never_reach_the_token(plain: NssFolder) -> None:
    with opened(plain, "cert1") as loading:
        (credential,) = loading.read()
        for block in (b"", bytes(255), bytes(257), b"\xff" * 256):
            with pytest.raises(KeyOperationError):
                credential.key.raw(block)
        assert_signs(credential.key.raw, credential.certificate)


def test_the_password_unlocks(secret: NssFolder) -> None:
    with opened(secret, "cert1") as loading:
        token = only_token(loading)
        assert (token.login_required, token.logged_in) == (True, False)
        assert token.name == str(secret.path)
        (credential,) = loading.read()
        with pytest.raises(KeyOperationError, match="is locked"):
            credential.key.raw(bytes(256))
        with pytest.raises(WrongPassword) as caught:
            token.login(b"battery staple")
        assert caught.value.message == f"wrong password for {secret.path}"
        assert caught.value.tries_left is None
        token.login(PASSWORD.encode())
        assert token.logged_in
        assert_signs(credential.key.raw, credential.certificate)
    assert not token.logged_in, "the last to let go logs out"


def test_two_cards_share_a_database_and_its_login(secret: NssFolder) -> None:
    with opened(secret, "cert1") as one, opened(secret, "cert1") as two:
        assert only_token(one) is only_token(two)
        only_token(one).login(PASSWORD.encode())
        (credential,) = two.read()
        one.close()
        assert_signs(credential.key.raw, credential.certificate)
    with opened(secret, "cert1") as again:
        assert only_token(again) is only_token(one), "wrong PINs stay known"
        assert not only_token(again).logged_in


def test_a_closed_database_answers_no_more(plain: NssFolder) -> None:
    with opened(plain, "cert1") as loading:
        (credential,) = loading.read()
        credential.key.raw(bytes(256))
    with pytest.raises(Exception, match="was closed, for its card was removed"):
        credential.key.raw(bytes(256))


def test_many_databases_at_once_and_one_after_another(tmp_path: Path, plain: NssFolder) -> None:
    folders = []
    for number in range(5):
        copy = tmp_path / f"db{number}"
        shutil.copytree(plain.path, copy)
        folders.append(copy)
    for _ in range(30):  # More than softokn has slot numbers, all in all.
        loadings = [Loading(["cert1"], str(folder), Passwords()) for folder in folders]
        for loading in loadings:
            loading.open()
        credentials = [loading.read()[0] for loading in loadings]
        for item in credentials[:1]:
            assert_signs(item.key.raw, item.certificate)
        for loading in loadings:
            loading.close()


def test_many_threads(secret: NssFolder, plain: NssFolder) -> None:
    with opened(secret, "cert1") as one, opened(plain, "cert1", "cert2") as two:
        only_token(one).login(PASSWORD.encode())
        credentials = one.read() + two.read()

        def sign(item: Credential) -> None:
            for _ in range(10):
                assert_signs(item.key.raw, item.certificate)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(sign, credentials * 2))


def test_what_certutil_adds_meanwhile_is_there_at_the_next_insert(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db", "", "cert1")
    with opened(database, "cert1") as before:
        (old,) = before.read()
        database.add("cert2")
        with opened(database, "cert2") as after:
            (new,) = after.read()
            assert_signs(new.key.raw, new.certificate)
            assert_signs(old.key.raw, old.certificate)


def test_a_database_replaced_by_another_is_opened_anew(tmp_path: Path) -> None:
    first, second = NssFolder(tmp_path / "a", "", "cert1"), NssFolder(tmp_path / "b", "", "cert1")
    with opened(first, "cert1") as before:
        (old,) = before.read()
        for name in ("cert9.db", "key4.db"):
            (second.path / name).rename(first.path / name)
        with opened(first, "cert1") as after:
            (new,) = after.read()
            assert new.certificate != old.certificate
            assert_signs(new.key.raw, new.certificate)


def test_the_newest_valid_certificate_with_a_key(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db")
    now, day = datetime.now(UTC), timedelta(days=1)
    imported(database, "card", not_before=now - 9 * day, not_after=now + day)
    newest = imported(database, "card", not_before=now - 2 * day, not_after=now + day)
    imported(database, "card", not_before=now + 2 * day, not_after=now + 4 * day)
    with opened(database, "card") as loading:
        (credential,) = loading.read()
        assert credential.certificate == newest
        assert loading.warnings == []
        assert_signs(credential.key.raw, credential.certificate)


def test_a_newer_certificate_without_a_key_is_passed_over(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db")
    now, day = datetime.now(UTC), timedelta(days=1)
    older = imported(database, "card", not_before=now - 9 * day, not_after=now + day)
    keyless = certificate("renewed", rsa_key(2).public_key())
    database.certutil("-A", "-n", "card", "-t", ",,", "-a", stdin=pem(keyless))
    with opened(database, "card") as loading:
        (credential,) = loading.read()
        assert credential.certificate == older


@pytest.mark.parametrize(("offset", "says"), [("-24", "expired on"), ("24", "is not valid before")])
def test_out_of_its_time_it_is_told_and_signs(tmp_path: Path, offset: str, says: str) -> None:
    database = NssFolder(tmp_path / "db")
    database.add("cert1", "-w", offset, "-v", "1")
    with opened(database, "cert1") as loading:
        (credential,) = loading.read()
        (warning,) = loading.warnings
        assert warning.startswith(f"certificate cert1 {says} 20")
        assert warning.endswith("; it still signs")
        assert_signs(credential.key.raw, credential.certificate)


def test_no_private_key_is_told_only_when_it_can_be_known(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db", PASSWORD)
    cert = certificate("keyless", rsa_key(2).public_key())
    database.certutil("-A", "-a", "-n", "keyless", "-t", ",,", stdin=pem(cert))
    with opened(database, "keyless") as loading:
        (credential,) = loading.read()
        only_token(loading).login(PASSWORD.encode())
        missing = f"certificate keyless has no private key in {database.path}"
        with pytest.raises(PrivateKeyMissing) as caught:
            credential.key.raw(bytes(256))
        assert caught.value.message == missing
        with pytest.raises(PrivateKeyMissing) as caught:
            loading.read()
        assert caught.value.message == missing


def test_nicknames_near_the_wanted_one_come_first(plain: NssFolder) -> None:
    with opened(plain, "Cert_3") as loading, pytest.raises(CertificateNotFound) as caught:
        loading.read()
    assert caught.value.message == f"{plain.path} has no certificate with nickname Cert_3"
    assert caught.value.hint.startswith("it has cert3, ")


def test_the_password_is_changed_where_the_database_was_made(secret: NssFolder) -> None:
    with (
        opened(secret, "cert1") as loading,
        pytest.raises(KeyOperationError, match="takes no new password here"),
    ):
        only_token(loading).change_pin(PASSWORD.encode(), b"another")


@contextmanager
def write_lock(*paths: Path) -> Iterator[None]:
    """Another process writes to these databases, and takes its time."""
    code = (
        "import sqlite3, sys\n"
        "held = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]\n"
        "[one.execute('BEGIN EXCLUSIVE') for one in held]\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, paths)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()


def test_a_locked_database_holds_up_no_other(tmp_path: Path, plain: NssFolder) -> None:
    locked = tmp_path / "locked"
    shutil.copytree(plain.path, locked)
    loading = Loading(["cert1"], str(locked), Passwords())
    loading.open()
    (waiting,) = loading.read()
    with ThreadPoolExecutor(2) as pool:
        with write_lock(locked / "key4.db", locked / "cert9.db"):
            stuck = pool.submit(waiting.key.raw, bytes(256))
            with opened(plain, "cert1", "cert2") as other:
                for item in other.read():
                    assert_signs(item.key.raw, item.certificate)
            assert not stuck.done(), "the other database was to be served meanwhile"
        assert stuck.result(60) == bytes(256)
    loading.close()


def test_a_database_locked_at_insert_is_told_to_be(tmp_path: Path, plain: NssFolder) -> None:
    locked = tmp_path / "locked"
    shutil.copytree(plain.path, locked)
    with write_lock(locked / "key4.db"), pytest.raises(SourceUnusable) as caught:
        Loading(["cert1"], str(locked), Passwords()).open()
    assert caught.value.message == (
        f"NSS database {locked} is locked: another program is writing to it"
    )


def test_nothing_is_written(tmp_path: Path, plain: NssFolder) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(plain.path, copy)
    content = {path.name: path.read_bytes() for path in copy.iterdir()}
    loading = Loading(["cert1"], str(copy), Passwords())
    loading.open()
    loading.read()[0].key.raw(bytes(256))
    loading.close()
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == content


def test_sqlite_is_the_library_softokn_uses() -> None:
    """Two copies of SQLite in one process would drop each other's locks."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        copies = {line.split()[-1] for line in maps if "libsqlite3" in line}
    assert len(copies) == 1, (copies, sqlite3.sqlite_version)
