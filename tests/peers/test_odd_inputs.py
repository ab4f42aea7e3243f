# SPDX-License-Identifier: LGPL-2.1-or-later
"""Odd certificates, large ones and large keys, through the daemon, NSS and OpenSC itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.key_material import NssFolder, certificate, der, key_der, key_pem, rsa_key, run
from tests.odd_certificates import KEY, MET, extension, pem, tlv
from tests.odd_certificates import certificate as odd_certificate
from tests.peers.desk import Desk
from tests.peers.stage import Stage
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords

OID = bytes.fromhex("2A 03 04")
#: Over 4,095 bytes, and under when compressed.
LARGE = odd_certificate(extensions=[extension(OID, tlv(4, bytes(5000)))])


@pytest.fixture(scope="module")
def odd_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("odd")) as stage:
        yield stage


@pytest.fixture(scope="module")
def odd_desk(odd_stage: Stage) -> Desk:
    return odd_stage.host()


@pytest.fixture
def stage(odd_stage: Stage) -> Iterator[Stage]:
    yield odd_stage
    odd_stage.daemon.ctl("remove")


def written(folder: Path, der_bytes: bytes, key: bytes = key_pem(KEY)) -> Path:
    path = folder / "odd, one.pem"
    path.write_bytes(pem(der_bytes) + key)
    return path


def inserted(stage: Stage, path: Path) -> list[str]:
    """The warnings of an insert."""
    reply = stage.daemon.ctl_json("insert", "--certs", path, "--wait", "20")
    warnings: list[str] = reply["warnings"]
    return warnings


def shown(desk: Desk, number: str = "0001") -> bytes:
    """The first certificate, as OpenSC reads it."""
    desk.say("pkcs15-tool", "--read-certificate", number, "--output", "shown.pem")
    return run("openssl", "x509", "-in", desk.directory / "shown.pem", "-outform", "DER")


@pytest.mark.parametrize(
    "kind", ["Latin-1 in a T61String", "X.509 version 2", "critical FALSE", "dates that are none"]
)
def test_a_card_of_an_odd_certificate(
    stage: Stage, odd_desk: Desk, tmp_path: Path, kind: str
) -> None:
    path = written(tmp_path, MET[kind])
    read = subprocess.run(["openssl", "x509", "-noout", "-in", path], capture_output=True)
    if read.returncode != 0:  # Debian 13's, of dates that are none: no card, and the file is named
        refused = stage.daemon.run_ctl("insert", "--certs", path)
        assert f"a certificate in {path} is damaged" in refused.stderr
        stage.daemon.ctl("insert", "--certs", written(tmp_path, MET["critical FALSE"]))
        return
    stage.daemon.ctl("insert", "--certs", path, "--wait", "20")
    assert shown(odd_desk) == MET[kind]
    info = stage.daemon.ctl_json("card", "info")
    assert info["certificates"][0]["key"] == "RSA-1024"


def test_from_nss(tmp_path: Path) -> None:
    """What certutil stores is what the card has."""
    database = NssFolder(tmp_path / "db]'s", "")
    source, p12 = tmp_path / "good.pem", tmp_path / "good.p12"
    good = certificate("good", KEY.public_key())
    source.write_bytes(pem(der(good)) + key_pem(KEY))
    run("openssl", "pkcs12", "-export", "-in", source, "-out", p12, "-passout", "pass:a")
    run("pk12util", "-d", f"sql:{database.path}", "-i", p12, "-W", "a")
    odd = MET["critical FALSE"]
    (tmp_path / "odd.der").write_bytes(odd)
    database.certutil("-A", "-n", "odd\u00a0name", "-t", ",,", "-i", tmp_path / "odd.der")
    loading = Loading(["odd\u00a0name"], f"sql:{database.path}", Passwords())
    try:
        loading.open()
        assert loading.read()[0].certificate == odd
    finally:
        loading.close()


def test_a_large_certificate(stage: Stage, odd_desk: Desk, tmp_path: Path) -> None:
    """Kept compressed: OpenSC from 0.24 on reads it, and older ones show no other harm."""
    told = inserted(stage, written(tmp_path, LARGE))
    assert any("is kept compressed" in warning for warning in told)
    version = re.search(r"OpenSC (?:0\.)?(\d+)", odd_desk.say("opensc-tool", "--info"))
    assert version is not None
    if int(version[1]) >= 24:
        assert shown(odd_desk) == LARGE
    odd_desk.say("pkcs15-tool", "--list-pins")


def test_a_key_opensc_does_not_know(stage: Stage, odd_desk: Desk, tmp_path: Path) -> None:
    cert = certificate("wide", rsa_key(0, 4096).public_key())
    path = written(tmp_path, der(cert), key_pem(rsa_key(0, 4096)))
    told = inserted(stage, path)
    assert sum("has a size that OpenSC's CAC driver does not know" in one for one in told) == 1


def test_a_certificate_replaced_while_the_daemon_was_down(tmp_path: Path) -> None:
    """`status` says why nothing is in, and the next insert works."""
    with Stage(tmp_path / "s") as stage:
        path = written(tmp_path, MET["X.509 version 2"])
        stage.daemon.ctl("insert", "--certs", path)
        stage.daemon.stop()
        path.write_bytes(pem(b"\x30\x03\x02\x01\x00") + key_pem(KEY))
        stage.daemon.start()
        stage.daemon.wait_for(lambda: stage.daemon.reader()["problem"] is not None)
        assert f"a certificate in {path} is damaged" in stage.daemon.reader()["problem"]
        (tmp_path / "good.der").write_bytes(MET["an odd issuer"])
        (tmp_path / "good.key").write_bytes(key_der(KEY))
        stage.daemon.ctl("insert", "--certs", tmp_path / "good.der")
