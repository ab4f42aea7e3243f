# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards of every shape: how many certificates, how long the keys, whence, and which ATR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.peers.desk import PIN, Desk
from tests.peers.libcacard import Database
from tests.peers.pcsc_client import PcscClient
from tests.peers.pem import make_pem
from tests.peers.stage import Stage
from vccid.iso7816 import status

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"

SELECT_ID = bytes.fromhex("00A4040007A0000000790100")


@pytest.fixture(scope="module")
def host(stage: Stage) -> Desk:
    return stage.host()


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    path = tmp_path / "pin"
    path.write_text(f"{PIN}\n")
    return path


@pytest.fixture(autouse=True)
def empty_afterwards(stage: Stage) -> Iterator[None]:
    yield
    stage.daemon.run_ctl("remove", "--wait")


def sign_with(desk: Desk, key: str) -> None:
    """Sign through OpenSC, and let openssl verify it by the card's own certificate."""
    message, signature = desk.write("message", b"a message worth signing\n"), desk.directory / "sig"
    certificate, public = desk.directory / "certificate", desk.directory / "public"
    desk.pkcs11(
        "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", key,
        "--input-file", message, "--output-file", signature,
    )  # fmt: skip
    desk.say("pkcs15-tool", "--read-certificate", key, "--output", certificate)
    public.write_text(desk.say("openssl", "x509", "-in", certificate, "-noout", "-pubkey"))
    said = desk.say(
        "openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, message
    )
    assert "Verified OK" in said


@pytest.mark.parametrize("count", [1, 2, 10])
def test_as_many_certificates_as_were_put_in(
    stage: Stage, host: Desk, tmp_path: Path, pin_file: Path, count: int
) -> None:
    files = [make_pem(tmp_path / f"number{number}.pem", 1024) for number in range(count)]
    certs = ",".join(map(str, files))
    stage.daemon.ctl("insert", "--certs", certs, "--pin-file", pin_file, "--wait")
    listed = host.say("pkcs15-tool", "--list-certificates")
    assert listed.count("X.509 Certificate [") == count
    sign_with(host, f"{count:04}" if count < 10 else "000a")


@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_keys_of_each_length_opensc_takes(
    stage: Stage, host: Desk, tmp_path: Path, pin_file: Path, bits: int
) -> None:
    pem = make_pem(tmp_path / "key.pem", bits)
    stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin_file, "--wait")
    sign_with(host, "0001")


def test_a_4096_bit_key_by_apdus(stage: Stage, host: Desk, tmp_path: Path, pin_file: Path) -> None:
    """OpenSC 0.23 knows CAC keys up to 3072 bits only."""
    pem = make_pem(tmp_path / "key.pem", 4096)
    stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin_file, "--wait")
    block = b"\x00\x01" + b"\xff" * 509 + b"\x00"
    with PcscClient(host.env) as application:
        application.transmit(SELECT_ID)
        verify = bytes.fromhex("0020000008") + PIN.encode().ljust(8, b"\xff")
        assert application.transmit(verify) == status.SUCCESS
        for part in (block[:240], block[240:480]):
            sign = bytes((0x80, 0x42, 0x80, 0x00, len(part))) + part
            assert application.transmit(sign) == status.SUCCESS
        answer = application.transmit(bytes((0x80, 0x42, 0x00, 0x00, 32)) + block[480:])
        signature = answer[:-2]
        while answer[-2] == 0x61:
            answer = application.transmit(bytes((0x00, 0xC0, 0x00, 0x00, answer[-1])))
            signature += answer[:-2]
    public = load_pem_public_key(
        host.say("openssl", "x509", "-in", pem, "-noout", "-pubkey").encode()
    )
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    recovered = pow(int.from_bytes(signature, "big"), numbers.e, numbers.n)
    assert recovered.to_bytes(512, "big") == block


def test_keys_from_pkcs12(stage: Stage, host: Desk, tmp_path: Path, pin_file: Path) -> None:
    pem, packed = make_pem(tmp_path / "key.pem"), tmp_path / "key.p12"
    host.say("openssl", "pkcs12", "-export", "-in", pem, "-out", packed, "-passout", "pass:secret")
    password = tmp_path / "password"
    password.write_text("secret\n")
    stage.daemon.ctl(
        "insert", "--certs", packed, "--password-file", password, "--pin-file", pin_file, "--wait"
    )
    sign_with(host, "0001")


def test_the_t1_answer_to_reset(stage: Stage, host: Desk, database: Database) -> None:
    stage.daemon.ctl(
        "insert", "--atr", "t1", "--db", f"sql:{database.directory}",
        "--certs", "cert1,cert2,cert3", "--wait",
    )  # fmt: skip
    shown = host.say("opensc-tool", "--atr").splitlines()[-1].strip()
    assert shown == "3b:f9:13:00:00:81:31:fe:45:80:31:c1:73:c0:21:c0:51:43:d1"
    assert "TCK = D1 (correct checksum)" in host.say("ATR_analysis", shown.replace(":", " "))
    assert host.pkcs11("--test").splitlines()[-1] == "No errors"


def make_token(desk: Desk, directory: Path) -> str:
    """A SoftHSM token with one key and its certificate; returns the configuration's path."""
    tokens, configuration = directory / "tokens", directory / "softhsm2.conf"
    tokens.mkdir()
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    pem = make_pem(directory / "softhsm.pem")
    env = {"SOFTHSM2_CONF": str(configuration)}
    desk.say(
        "softhsm2-util", "--init-token", "--free", "--label", "vccid", "--pin", PIN,
        "--so-pin", "11111111", env=env,
    )  # fmt: skip
    desk.say(
        "softhsm2-util", "--import", pem.with_suffix(".key"), "--token", "vccid",
        "--label", "mine", "--id", "01", "--pin", PIN, env=env,
    )  # fmt: skip
    der = directory / "certificate.der"
    desk.say("openssl", "x509", "-in", pem, "-outform", "DER", "-out", der)
    desk.say(
        "pkcs11-tool", "--module", SOFTHSM, "--token-label", "vccid", "--login", "--pin", PIN,
        "--write-object", der, "--type", "cert", "--id", "01", "--label", "mine", env=env,
    )  # fmt: skip
    return str(configuration)


def test_keys_from_a_softhsm_token(
    host: Desk, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The token's PIN is the card's; the daemon that serves it is one of its own."""
    configuration = make_token(host, tmp_path)
    uri = f"pkcs11:token=vccid;object=mine?module-path={SOFTHSM}"
    directory = tmp_path_factory.mktemp("token")
    with Stage(directory, {"SOFTHSM2_CONF": configuration}) as stage:
        desk = stage.host()
        stage.daemon.ctl("insert", "--certs", uri, "--wait")
        sign_with(desk, "0001")
        serial = stage.daemon.reader()["card"]["serial"]
        stage.daemon.ctl("remove")
        # The whole token, with whatever is on it.
        token = f"pkcs11:token=vccid?module-path={SOFTHSM}"
        stage.daemon.ctl("insert", "--hardware", token, "--wait")
        assert stage.daemon.reader()["card"]["serial"] == serial
        sign_with(desk, "0001")
        stage.daemon.ctl("remove")
        # A PIV card of it, over a restart too.
        stage.daemon.ctl("insert", "--hardware", token, "--card", "piv", "--wait")
        stage.daemon.stop()
        stage.daemon.start()
        stage.daemon.wait_for(lambda: stage.daemon.reader()["card"] is not None)
        assert stage.daemon.reader()["card"]["kind"] == "piv"
        stage.daemon.ctl("remove", "--wait")
        stage.daemon.ctl("insert", "--wait")
        sign_with(desk, "01")
