# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card through pcscd and OpenSC: each key and mechanism, verified by openssl; PIN and PUK."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.key_material import pem
from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN, Desk
from tests.peers.piv import MANAGEMENT_KEY, PUK, Issued
from tests.peers.stage import Stage

MESSAGE = b"a message worth signing\n"

#: In 9A, 9C, 9D, 9E and 82, to 84.
KINDS = ("P-256", "P-384", "P-256", "P-256", "RSA2048", "P-384", "RSA1024")
EC_KEYS = {"01": 0, "02": 1, "04": 3}
AGREEING = {"03": 2, "06": 5}
RSA_KEYS = {"05": 4, "07": 6}


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return Issued(tmp_path_factory.mktemp("piv"), *KINDS)


@pytest.fixture(scope="module")
def desk(stage: Stage, issued: Issued) -> Iterator[Desk]:
    """A host that sees a PIV card with every kind of key."""
    seen = stage.host()
    stage.daemon.ctl("insert", "--card", "piv", "--certs", issued.items, "--wait")
    yield seen
    stage.daemon.ctl("remove", "--wait")


def public_key(desk: Desk, issued: Issued, number: int) -> Path:
    public = issued.keys[number].public_key()
    return desk.write(
        "public.pem", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def sign(desk: Desk, key: str, mechanism: str, content: bytes) -> Path:
    signature = desk.directory / "signature"
    signature.unlink(missing_ok=True)
    desk.pkcs11(
        "--sign", "--mechanism", mechanism, "--id", key, "--signature-format", "openssl",
        "--input-file", desk.write("content", content), "--output-file", signature,
    )  # fmt: skip
    return signature


def test_name_and_serial(desk: Desk, issued: Issued) -> None:
    assert "Personal Identity Verification Card" in desk.say("opensc-tool", "--name")
    shown = desk.say("pkcs15-tool", "--list-info")
    assert "piv_II" in shown
    assert desk.say("pkcs15-tool", "--verify-pin", "--pin", PIN) is not None


def test_the_certificates(desk: Desk, issued: Issued) -> None:
    for number, expected in enumerate(issued.certificates, start=1):
        read = desk.say("pkcs15-tool", "--read-certificate", f"{number:02}")
        assert pem(expected).decode().strip() in read


def test_everything_pkcs11_tool_tests(desk: Desk) -> None:
    assert "No errors" in desk.pkcs11("--test")


@pytest.mark.parametrize("key", EC_KEYS)
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_ecdsa(desk: Desk, issued: Issued, key: str, digest: str) -> None:
    hashed = hashlib.new(digest, MESSAGE).digest()
    signature = sign(desk, key, "ECDSA", hashed)
    assert "Signature Verified Successfully" in desk.say(
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey",
        public_key(desk, issued, EC_KEYS[key]), "-sigfile", signature,
        "-in", desk.write("hashed", hashed),
    )  # fmt: skip


def test_ecdsa_sha384(desk: Desk, issued: Issued) -> None:
    signature = sign(desk, "02", "ECDSA", hashlib.sha384(MESSAGE).digest())
    assert "Verified OK" in desk.say(
        "openssl", "dgst", "-sha384", "-verify", public_key(desk, issued, 1),
        "-signature", signature, desk.write("message", MESSAGE),
    )  # fmt: skip


@pytest.mark.parametrize("key", AGREEING)
def test_ecdh(desk: Desk, issued: Issued, key: str) -> None:
    ours = issued.keys[AGREEING[key]]
    peer = ec.generate_private_key(ours.curve)
    point = peer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secret = desk.directory / "secret"
    secret.unlink(missing_ok=True)
    desk.pkcs11(
        "--derive", "--mechanism", "ECDH1-DERIVE", "--id", key,
        "--input-file", desk.write("peer", point), "--output-file", secret,
    )  # fmt: skip
    assert secret.read_bytes() == peer.exchange(ec.ECDH(), ours.public_key())


@pytest.mark.parametrize("key", RSA_KEYS)
def test_rsa_decryption(desk: Desk, issued: Issued, key: str) -> None:
    public = public_key(desk, issued, RSA_KEYS[key])
    secret, plain = desk.directory / "secret", desk.directory / "plain"
    desk.say("openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", public,
             "-in", desk.write("text", MESSAGE), "-out", secret)  # fmt: skip
    for mechanism in ("RSA-PKCS", "RSA-X-509"):
        desk.pkcs11("--decrypt", "--mechanism", mechanism, "--id", key,
                    "--input-file", secret, "--output-file", plain)  # fmt: skip
        assert plain.read_bytes().endswith(MESSAGE)


@pytest.mark.parametrize("mechanism", ["SHA256-RSA-PKCS", "SHA512-RSA-PKCS"])
def test_rsa_signature(stage: Stage, tmp_path: Path, mechanism: str) -> None:
    """Of a card whose signing keys are RSA: OpenSC lets retired keys decrypt alone."""
    issued = Issued(tmp_path, "RSA2048", "RSA3072")
    stage.daemon.ctl("reader", "add", "rsa")
    try:
        desk = stage.host(f"rsa{mechanism[3:6]}", "rsa")
        stage.daemon.ctl("insert", "rsa", "--card", "piv", "--certs", issued.items, "--wait")
        assert "No errors" in desk.pkcs11("--test")
        for key, number in (("01", 0), ("02", 1)):
            signature = desk.directory / "signature"
            desk.pkcs11("--sign", "--mechanism", mechanism, "--id", key,
                        "--input-file", desk.write("message", MESSAGE),
                        "--output-file", signature)  # fmt: skip
            assert "Verified OK" in desk.say(
                "openssl", "dgst", f"-{mechanism.partition('-')[0].lower()}", "-verify",
                public_key(desk, issued, number), "-signature", signature,
                desk.directory / "message",
            )  # fmt: skip
    finally:
        stage.daemon.ctl("reader", "remove", "rsa")


def test_pin_and_puk(desk: Desk, stage: Stage) -> None:
    desk.say("pkcs15-tool", "--change-pin", "--pin", PIN, "--new-pin", "77777777")
    assert desk.run("pkcs15-tool", "--verify-pin", "--pin", WRONG_PIN).returncode
    desk.say("pkcs15-tool", "--verify-pin", "--pin", "77777777")
    for _ in range(3):
        assert desk.run("pkcs15-tool", "--verify-pin", "--pin", WRONG_PIN).returncode
    info = stage.daemon.ctl_json("card", "info")
    assert (info["card"]["tries"], info["card"]["puk_tries"]) == (0, 3)
    desk.say("pkcs15-tool", "--unblock-pin", "--puk", PUK, "--new-pin", PIN)
    desk.say("pkcs15-tool", "--verify-pin", "--pin", PIN)


def test_personalised_by_piv_tool(stage: Stage, tmp_path: Path) -> None:
    """OpenSC's own tool: it proves the management key, generates, and writes a certificate.

    Its exit status says nothing: it is the count of bytes written, and 255 where OpenSSL 3 does
    not take the public key of a key just made as the tool hands it over.
    """
    stage.daemon.ctl("reader", "add", "blank")
    try:
        desk = stage.host("blank", "blank")
        stage.daemon.ctl("insert", "blank", "--blank", "--wait")
        pairs = [MANAGEMENT_KEY[at : at + 2] for at in range(0, len(MANAGEMENT_KEY), 2)]
        key = desk.write("mgmt", ":".join(pairs).encode())
        environment = {"PIV_EXT_AUTH_KEY": str(key)}
        desk.run("piv-tool", "-A", "M:9B:03", "-G", "9A:11", env=environment)
        shown = stage.daemon.ctl_json("card", "info", "blank")["slots"]
        assert [(slot["reference"], slot["algorithm"]) for slot in shown] == [("9A", "P-256")]
        made = Issued(tmp_path, "RSA2048").certificates[0]
        file = desk.write("cert.pem", pem(made))
        desk.run("piv-tool", "-A", "M:9B:03", "-C", "9A", "-i", file, env=environment)
        read = desk.say("pkcs15-tool", "--read-certificate", "01")
        assert pem(made).decode().strip() in read
    finally:
        stage.daemon.ctl("reader", "remove", "blank")


def test_a_cac_with_a_piv_end_point(stage: Stage, tmp_path: Path) -> None:
    """OpenSC takes PIV; told to, its CAC driver has the same card, and the PIN is the same."""
    issued = Issued(tmp_path, "RSA2048", "RSA2048", "RSA2048", "P-256")
    stage.daemon.ctl("reader", "add", "both")
    try:
        desk = stage.host("both", "both")
        stage.daemon.ctl("insert", "both", "--card", "cac+piv", "--certs", issued.items, "--wait")
        assert "Personal Identity Verification Card" in desk.say("opensc-tool", "--name")
        assert "No errors" in desk.pkcs11("--test")
        conf = desk.write("cac.conf", b"app default { card_drivers = cac; }\n")
        cac = {"OPENSC_CONF": str(conf)}
        assert "Common Access Card (CAC)" in desk.say("opensc-tool", "--name", env=cac)
        said = desk.say("pkcs11-tool", "--module", OPENSC_MODULE, "--login", "--pin", PIN, "--test",
                        env=cac)  # fmt: skip
        assert "No errors" in said
        for environment, key in (({}, "01"), (cac, "0001")):
            read = desk.say("pkcs15-tool", "--read-certificate", key, env=environment)
            assert pem(issued.certificates[0]).decode().strip() in read
        desk.say("pkcs15-tool", "--change-pin", "--pin", PIN, "--new-pin", "77777777")
        assert desk.run("pkcs15-tool", "--verify-pin", "--pin", PIN, env=cac).returncode
        desk.say("pkcs15-tool", "--verify-pin", "--pin", "77777777", env=cac)
        assert stage.daemon.ctl_json("card", "info", "both")["card"]["kind"] == "cac+piv"
    finally:
        stage.daemon.ctl("reader", "remove", "both")
