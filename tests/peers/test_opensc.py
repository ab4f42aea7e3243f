# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenSC as Debian ships it looks at a card that is in."""

from __future__ import annotations

import re

import pytest

from tests.peers.desk import OPENSC_MODULE, Desk

#: libcacard's answer to reset, which the card has by default.
ATR = "3b:7a:18:00:00:73:66:74:65:20:63:64:31:34:34"


def test_opensc_sees_a_card_in_the_reader(desk: Desk) -> None:
    line = desk.say("opensc-tool", "--list-readers").splitlines()[-1]
    number, presence, name = line.split(maxsplit=2)
    assert (number, presence) == ("0", "Yes")
    assert name.startswith("vccid vccid0")


def test_opensc_takes_it_for_a_common_access_card(desk: Desk) -> None:
    assert desk.say("opensc-tool", "--name").strip().endswith("Common Access Card (CAC)")


def test_there_is_no_file_tree_as_on_every_cac(desk: Desk) -> None:
    done = desk.run("opensc-tool", "--list-files")
    assert done.returncode != 0
    assert b"SELECT FILE failed" in done.stdout


def test_pkcs15_dump_shows_pin_keys_and_certificates(desk: Desk) -> None:
    dump = desk.say("pkcs15-tool", "--dump")
    assert dump.count("Private RSA Key [") == 3
    assert dump.count("X.509 Certificate [") == 3
    assert len(re.findall(r"^PIN \[", dump, re.MULTILINE)) == 1
    for number in ("0001", "0002", "0003"):
        assert re.search(rf"ID +: {number}$", dump, re.MULTILINE)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_certificate_reads_as_it_was_put_in(desk: Desk, number: int) -> None:
    path = desk.directory / f"certificate-{number}.pem"
    desk.say("pkcs15-tool", "--read-certificate", f"000{number}", "--output", path)
    shown = desk.say("openssl", "x509", "-in", path, "-noout", "-subject", "-nameopt", "RFC2253")
    assert shown.strip() == f"subject=CN=cert{number}"


def test_pkcs11_slots_show_the_token(desk: Desk) -> None:
    slots = desk.say("pkcs11-tool", "--module", OPENSC_MODULE, "--list-slots")
    assert re.search(r"token label +: cert1", slots)
    assert re.search(r"token manufacturer +: Common Access Card", slots)
    assert "PIN initialized" in slots
    assert "final user PIN try" not in slots


def test_pkcs11_objects_are_there_before_login_and_keys_after(desk: Desk) -> None:
    before = desk.say("pkcs11-tool", "--module", OPENSC_MODULE, "--list-objects")
    assert before.count("Certificate Object") == 3
    after = desk.pkcs11("--list-objects")
    assert after.count("Private Key Object; RSA") == 3


def test_pkcs11_self_test_finds_no_errors(desk: Desk) -> None:
    report = desk.pkcs11("--test")
    assert report.splitlines()[-1] == "No errors"


def test_pcsc_tools_parse_the_answer_to_reset(desk: Desk) -> None:
    shown = desk.say("opensc-tool", "--atr").splitlines()[-1].strip()
    assert shown == ATR
    analysis = desk.say("ATR_analysis", shown.replace(":", " "))
    assert "TS = 3B --> Direct Convention" in analysis
    assert "K: 10 (historical bytes)" in analysis
    assert "wrong" not in analysis.lower()
    assert "error" not in analysis.lower()
