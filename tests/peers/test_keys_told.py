# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the user is told of an NSS database that cannot serve, in one line with a hint."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.key_material import NssFolder, key_pem, pem, rsa_key, run
from tests.key_material import certificate as make_certificate
from vccid.errors import SourceUnusable, VccidError
from vccid.keys.load import Loading
from vccid.keys.nss_checks import check_folder
from vccid.keys.passwords import Passwords

NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> NssFolder:
    return NssFolder(tmp_path_factory.mktemp("nss") / "db", "", "cert1")


@pytest.fixture
def folder(good: NssFolder) -> Iterator[Path]:
    """A copy of a good database below folders that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="vccid-told-") as parent:
        os.chmod(parent, 0o755)
        yield Path(shutil.copytree(good.path, Path(parent) / "db"))


def told(folder: Path | str) -> VccidError:
    """The error of an insert from this folder, which must be one line."""
    loading = Loading(["cert1"], str(folder), Passwords())
    try:
        with pytest.raises(VccidError) as caught:
            loading.open()
            loading.read()
    finally:
        loading.close()
    assert "\n" not in caught.value.message + caught.value.hint
    assert "0xCE53435" not in caught.value.message
    return caught.value


def told_as_nobody(check: Callable[[], object]) -> tuple[str, str]:
    """The message and hint of an error raised in a child that runs as `nobody`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        answer = ("no error", "")
        try:
            check()
        except VccidError as error:
            answer = (error.message, error.hint)
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    message, hint = json.loads(answer)
    return message, hint


def test_no_folder(tmp_path: Path) -> None:
    error = told(tmp_path / "none")
    assert error.message == f"NSS database folder {tmp_path}/none does not exist"
    assert error.hint == f"certutil -N -d sql:{tmp_path}/none makes one"


@pytest.mark.parametrize("name", ["cert9.db", "key4.db"])
def test_a_file_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = told(folder)
    assert error.message == f"{folder} is no NSS database: it has no {name}"
    assert error.hint == f"certutil -N -d sql:{folder} makes one"


def test_no_folder_but_a_file(folder: Path) -> None:
    assert told(folder / "key4.db").message == f"{folder}/key4.db is no NSS database"


def test_the_old_format_and_that_its_conversion_works(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    run("certutil", "-N", "-d", f"dbm:{old}", "--empty-password")
    (tmp_path / "noise").write_bytes(os.urandom(64))
    run("certutil", "-d", f"dbm:{old}", "-x", "-t", "CT,CT,CT", "-S", "-s", "CN=cert1",
        "-n", "cert1", "-z", tmp_path / "noise")  # fmt: skip
    for name in (str(old), f"sql:{old}", f"dbm:{old}"):
        error = told(name)
        assert error.message == f"{old} is in the old dbm format"
    words = error.hint.removeprefix("convert it: ").split()
    assert words[0] == "certutil"
    run(*words)
    loading = Loading(["cert1"], str(old), Passwords())
    loading.open()
    assert loading.read()[0].key.raw(bytes(256)) == bytes(256)
    loading.close()


@pytest.mark.parametrize("name", ["cert9.db", "key4.db"])
def test_unreadable(folder: Path, name: str) -> None:
    for other in ("cert9.db", "key4.db"):
        (folder / other).chmod(0o644)
    (folder / name).chmod(0o600)
    folder.chmod(0o755)
    message, hint = told_as_nobody(lambda: check_folder(folder))
    assert message == f"{folder}/{name} cannot be read by user nobody (mode 0600, owner root)"
    assert hint == f"allow its group: chgrp nogroup {folder}/{name} && chmod g+r {folder}/{name}"
    for command in hint.removeprefix("allow its group: ").split(" && "):
        run(*command.split())
    assert told_as_nobody(lambda: check_folder(folder)) == ("no error", "")


def test_a_folder_that_cannot_be_entered(folder: Path) -> None:
    folder.chmod(0o700)
    message, hint = told_as_nobody(lambda: check_folder(folder))
    assert message == f"{folder} cannot be read by user nobody (mode 0700, owner root)"
    assert hint == f"allow its group: chgrp nogroup {folder} && chmod g+rx {folder}"
    parent = folder.parent
    parent.chmod(0o700)
    message, hint = told_as_nobody(lambda: check_folder(folder))
    assert message == f"{parent} cannot be entered by user nobody (mode 0700, owner root)"
    assert hint == f"allow its group: chgrp nogroup {parent} && chmod g+x {parent}"


def test_an_unreadable_file_of_ones_own(folder: Path) -> None:
    path = folder.parent / "mine.pem"
    path.write_bytes(pem(make_certificate("a", rsa_key().public_key())) + key_pem(rsa_key()))
    path.chmod(0o640)
    loading = Loading([str(path)], "", Passwords())
    message, _ = told_as_nobody(loading.read)
    assert message == f"{path} cannot be read by user nobody (mode 0640, owner root)"


def _cut(path: Path) -> None:
    os.truncate(path, 9000)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _text(path: Path) -> None:
    path.write_text("hello")


def _overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(os.urandom(12288))


def _swapped(path: Path) -> None:
    other = "cert9.db" if path.name == "key4.db" else "key4.db"
    shutil.copy(path.with_name(other), path)


@pytest.mark.parametrize("name", ["cert9.db", "key4.db"])
@pytest.mark.parametrize("damage", [_cut, _empty, _text, _overwritten, _swapped])
def test_damaged(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    error = told(folder)
    assert isinstance(error, SourceUnusable)
    assert error.message == f"{name} is damaged in NSS database {folder}"


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("", "cannot be given to NSS"),
        ("sql:", "cannot be given to NSS"),
        ("/a'b", "NSS database folder /a'b does not exist"),
        ("sql:/a>b", "NSS database folder /a>b does not exist"),
        ("~/nssdb", "begins with ~, which only a shell understands"),
        ("/a\nb", "cannot be given to NSS"),
        ("rdb:/a", "type rdb: is not served"),
        ("dbm:/a", "/a is in the old dbm format"),
    ],
)
def test_databases_of_another_kind(database: str, says: str) -> None:
    assert says in told(database).message
