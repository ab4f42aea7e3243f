# SPDX-License-Identifier: LGPL-2.1-or-later
"""A blank card in the hands of Yubico's tools: yubico-piv-tool, ykcs11, and piv-go's own tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.key_material import certificate, der, key_pem, pem
from tests.peers.daemon import BIN
from tests.peers.desk import PIN, Desk
from tests.peers.piv import PUK, Issued, new_key
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER, ROOT, Stage

#: Debian's own copy, with its tests.
PIV_GO = Path("/usr/share/gocode/src/github.com/go-piv/piv-go")

#: Only Yubico's authority vouches for Yubico's attestation keys.
NOT_MET = {"TestYubiKeyAttestation"}


@pytest.fixture(scope="module")
def yubikey(stage: Stage) -> Iterator[Desk]:
    """A host whose reader has a name that Yubico's software goes by; a blank card is in."""
    entry = ReaderEntry("Yubico YubiKey CCID", f"vccid:{stage.daemon.ifd()}", DRIVER)
    with PrivatePcscd(stage.directory / "yubikey", [entry]) as pcscd:
        stage.daemon.ctl("insert", "--blank", "--wait")
        yield Desk(stage.directory / "yubikey-desk", pcscd.env)
        stage.daemon.ctl("remove", "--wait")


@pytest.fixture
def fresh(stage: Stage, yubikey: Desk) -> Desk:
    """The same, the card as it was when it was new."""
    stage.daemon.ctl("card", "reset")
    return yubikey


def tool(desk: Desk, *arguments: str | Path) -> str:
    return desk.say("yubico-piv-tool", *arguments)


def refused(desk: Desk, *arguments: str) -> str:
    done = desk.run("yubico-piv-tool", *arguments)
    assert done.returncode
    return done.stdout.decode()


def issue(desk: Desk, public: Path) -> Path:
    """A certificate for a public key."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public.read_bytes())
    return desk.write("cert.pem", pem(certificate("issued", key)))


@pytest.mark.parametrize(
    ("slot", "algorithm"),
    [("9a", "ECCP256"), ("9c", "RSA2048"), ("9d", "ECCP384"), ("9e", "RSA1024"), ("82", "RSA2048")],
)
def test_generate_and_use(fresh: Desk, slot: str, algorithm: str) -> None:
    public = fresh.directory / "public.pem"
    said = tool(fresh, "-a", "generate", "-s", slot, "-A", algorithm, "-o", public)
    assert "Successfully generated a new private key." in said
    cert = issue(fresh, public)
    tool(fresh, "-a", "import-certificate", "-s", slot, "-i", cert)
    read = tool(fresh, "-a", "read-certificate", "-s", slot)
    assert read.strip() == cert.read_text().strip()
    said = tool(fresh, "-P", PIN, "-a", "verify-pin", "-a", "test-signature", "-s", slot,
                "-i", cert)  # fmt: skip
    assert "Successful " in said
    if slot in ("9d", "82"):
        said = tool(fresh, "-P", PIN, "-a", "verify-pin", "-a", "test-decipher", "-s", slot,
                    "-i", cert)  # fmt: skip
        assert "Successfully performed" in said
    attested = tool(fresh, "-a", "attest", "-s", slot)
    shown = x509.load_pem_x509_certificate(attested.encode()).public_key()
    expected = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    assert shown.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ) == expected.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tool(fresh, "-a", "delete-certificate", "-s", slot)
    assert "Failed" in refused(fresh, "-a", "read-certificate", "-s", slot)


@pytest.mark.parametrize(
    ("slot", "algorithm"), [("9a", "ECCP256"), ("9c", "RSA2048"), ("9d", "ECCP384")]
)
def test_selfsign_and_request(fresh: Desk, slot: str, algorithm: str) -> None:
    """2.2.0 signs with OpenSSL 3's own copy of the public key, and never asks the card."""
    public = fresh.directory / "public.pem"
    tool(fresh, "-a", "generate", "-s", slot, "-A", algorithm, "-o", public)
    is_old = "2.2.0" in tool(fresh, "--version")
    for action, kind in (("selfsign-certificate", "x509"), ("request-certificate", "req")):
        made = fresh.directory / f"{kind}.pem"
        arguments = ("--verbose=2", "-P", PIN, "-a", "verify-pin", "-a", action, "-s", slot,
                     "-S", "/CN=made by the card/", "-i", public, "-o", made)  # fmt: skip
        if is_old:
            said = refused(fresh, *map(str, arguments))
            assert "Failed signing" in said and "> 00 20 00 80 08" in said and "> 00 87" not in said
            continue
        tool(fresh, *arguments)
        check = ("verify", "-CAfile", made, made) if kind == "x509" else (
            "req", "-verify", "-noout", "-in", made
        )  # fmt: skip
        assert "OK" in fresh.say("openssl", *check)
    if not is_old:
        tool(fresh, "-a", "import-certificate", "-s", slot, "-i", fresh.directory / "x509.pem")
        assert "made by the card" in tool(fresh, "-a", "status")


@pytest.mark.parametrize(
    ("kind", "policy"), [("P-256", "always"), ("P-384", "never"), ("RSA2048", "once")]
)
def test_import_with_a_policy(fresh: Desk, kind: str, policy: str) -> None:
    key = new_key(kind)
    cert = certificate("imported", key.public_key())
    file = fresh.write("pair.pem", key_pem(key))
    tool(fresh, "-a", "import-key", "-s", "9a", "--pin-policy", policy, "-i", file)
    tool(fresh, "-a", "import-certificate", "-s", "9a", "-i", fresh.write("c.pem", pem(cert)))
    verify = () if policy == "never" else ("-P", PIN, "-a", "verify-pin")
    said = tool(fresh, *verify, "-a", "test-signature", "-s", "9a", "-i", fresh.directory / "c.pem")
    assert "Successful " in said
    assert "Failed" in refused(fresh, "-a", "attest", "-s", "9a")


def test_status_and_identity(fresh: Desk) -> None:
    assert "Application version 5.4.3 found." in tool(fresh, "-a", "version")
    before = tool(fresh, "-a", "status")
    for line in ("Version:\t5.4.3", "CHUID:\t30", "CCC:\tf015", "PIN tries left:\t3"):
        assert line in before
    tool(fresh, "-a", "set-chuid", "-a", "set-ccc")
    after = tool(fresh, "-a", "status")
    assert after != before and "CHUID:\t3019d4e739da739ced39ce739d83" in after
    tool(fresh, "-a", "write-object", "--id", "0x5fff00", "-i", fresh.write("data", b"61626364"))
    assert "61626364" in tool(fresh, "-a", "read-object", "--id", "0x5fff00")


def test_pins_and_keys(fresh: Desk) -> None:
    tool(fresh, "-a", "change-pin", "-P", PIN, "-N", "654321")
    assert "2 tries left" in refused(fresh, "-a", "verify-pin", "-P", PIN)
    tool(fresh, "-a", "change-puk", "-P", PUK, "-N", "87654321")
    tool(fresh, "-a", "unblock-pin", "-P", "87654321", "-N", PIN)
    tool(fresh, "-a", "verify-pin", "-P", PIN)
    key = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123"
    tool(fresh, "-a", "set-mgm-key", "-n", key)
    assert "Failed" in refused(fresh, "-a", "set-chuid")
    tool(fresh, f"-k{key}", "-a", "set-chuid")
    tool(fresh, "-P", PIN, f"-k{key}", "-a", "verify-pin", "-a", "pin-retries",
         "--pin-retries", "5", "--puk-retries", "6")  # fmt: skip
    assert "PIN tries left:\t5" in tool(fresh, "-a", "status")


def test_reset(fresh: Desk) -> None:
    """As Yubico's instructions have it: PIN and PUK are blocked first."""
    tool(fresh, "-a", "generate", "-s", "9a", "-A", "ECCP256")
    assert "Reset failed" in refused(fresh, "-a", "reset")
    for _ in range(3):
        refused(fresh, "-a", "verify-pin", "-P", "000000")
    for _ in range(3):
        refused(fresh, "-a", "change-puk", "-P", "000000", "-N", "00000000")
    assert "Successfully reset the application." in tool(fresh, "-a", "reset")
    tool(fresh, "-a", "verify-pin", "-P", PIN)
    assert "Failed" in refused(fresh, "-a", "attest", "-s", "9a")


def test_ykcs11(fresh: Desk, tmp_path: Path) -> None:
    issued = Issued(tmp_path, "P-256")
    tool(fresh, "-a", "import-key", "-s", "9a", "-i", issued.files[0])
    tool(fresh, "-a", "import-certificate", "-s", "9a", "-i", issued.files[0])
    module = "/usr/lib/x86_64-linux-gnu/libykcs11.so.2"
    listed = fresh.say("pkcs11-tool", "--module", module, "--list-objects")
    assert "X.509 Certificate for PIV Authentication" in listed
    digest = fresh.write("digest", bytes(32))
    signature = fresh.directory / "signature"
    fresh.say("pkcs11-tool", "--module", module, "--login", "--pin", PIN, "--sign", "-m", "ECDSA",
              "--id", "01", "--signature-format", "openssl", "-i", digest,
              "-o", signature)  # fmt: skip
    public = fresh.write("public.pem", issued.keys[0].public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))  # fmt: skip
    fresh.say("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-in", digest,
              "-sigfile", signature)  # fmt: skip
    assert der(issued.certificates[0])


def test_yubikit(fresh: Desk) -> None:
    """yubikey-manager's library, as `ykman piv` uses it."""
    said = fresh.say(sys.executable, "-m", "tests.peers.yubikit_session",
                     env={"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert said.splitlines()[-1] == "done"


@pytest.mark.timeout(300)
def test_the_tests_of_piv_go(fresh: Desk, tmp_path: Path) -> None:
    """Compiled from Debian's package, on a YubiKey's double: each but one passes."""
    source = tmp_path / "piv-go"
    shutil.copytree(PIV_GO, source)
    program = tmp_path / "piv.test"
    go = {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GO111MODULE": "on", "PATH": os.environ["PATH"],
          "GOCACHE": str(tmp_path / "cache")}  # fmt: skip
    done = fresh.run(
        "sh", "-c", f"cd {source} && go test -c -o {program} ./piv", env=go, timeout=240
    )
    assert done.returncode == 0, done.stdout.decode()
    double = (BIN / "vccid", "run", "--card", "piv", "--profile", "yubikey-5", "--")
    done = fresh.run(*double, program, "-test.v", "-wipe-yubikey", timeout=200)
    lines = done.stdout.decode().splitlines()
    results = {line.split()[2]: line.split()[1] for line in lines if line.startswith("--- ")}
    failed = {name for name, result in results.items() if result == "FAIL:"}
    assert failed == NOT_MET, "\n".join(lines)
    assert sum(result == "PASS:" for result in results.values()) == 39
