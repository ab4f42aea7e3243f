# SPDX-License-Identifier: LGPL-2.1-or-later
"""GnuPG with a PIV card: its scdaemon has the application from 2.3 on, gpg-card makes keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.peers.desk import PIN
from tests.peers.piv import MANAGEMENT_KEY, within_run

_VERSION = subprocess.run(["gpg", "--version"], capture_output=True, text=True, check=True).stdout
HAS_PIV = not _VERSION.startswith("gpg (GnuPG) 2.2.")

#: Types the PIN, wherever GnuPG asks for one.
PINENTRY = """#!/bin/sh
echo OK
while read -r command rest; do
    [ "$command" != GETPIN ] || echo "D $(cat $PIN_FILE)"
    echo OK
    [ "$command" != BYE ] || exit
done
"""

#: A home of its own, whose agent and scdaemon end with the shell. A certificate is read before
#: scdaemon comes, which shares the card with nobody.
HOME = f"""set -e
umask 077
export GNUPGHOME=$PWD/home PIN_FILE=$PWD/pin
mkdir home
printf {PIN} >pin
chmod +x pinentry
echo disable-ccid >home/scdaemon.conf
echo "pinentry-program $PWD/pinentry" >home/gpg-agent.conf
echo disable-crl-checks >home/gpgsm.conf
[ ! -e ca.pem ] || pkcs15-tool --read-certificate 03 >encrypt.pem
trap "gpgconf --kill all" EXIT
"""

LOOK = """gpg-connect-agent "scd serialno piv" "scd learn --force" "scd getinfo app_list" /bye"""

#: Mail signed and read. The authority is trusted without a question.
MAIL = """
echo hello >message
gpgsm --import <ca.pem
print=$(openssl x509 -in ca.pem -noout -fingerprint -sha1)
echo "${print#*=} S relax" >home/trustlist.txt
gpgconf --reload gpg-agent
gpgsm --learn-card
gpgsm --detach-sign --local-user /CN=cert2 --output message.cms message
openssl cms -verify -binary -inform DER -in message.cms -content message -CAfile ca.pem -purpose any
openssl cms -encrypt -binary -outform DER -in message -aes-128-cbc -out secret.cms encrypt.pem
gpgsm --decrypt --output plain secret.cms
cmp plain message
"""

#: The first arguments go to one card: gpg-card takes several commands at once.
GENERATE = f"""
gpg-card auth {MANAGEMENT_KEY} -- generate --algo=nistp384 PIV.9C -- generate --algo=rsa2048 PIV.9D
gpg-card list
vccidctl card info
"""


@pytest.fixture
def pinentry(tmp_path: Path) -> None:
    (tmp_path / "pinentry").write_text(PINENTRY)


@pytest.mark.parametrize("algorithm", ["p256", "rsa2048"])
def test_it_finds_signs_and_decrypts(tmp_path: Path, pinentry: None, algorithm: str) -> None:
    """2.2 does not, and says so; and the card is as good as before."""
    script = HOME + LOOK + (MAIL if HAS_PIV else "\npkcs11-tool --test --login --pin 123456\n")
    options = ("--generate", "--card", "piv", "--algorithm", algorithm, "--ca", "ca.pem")
    said = within_run(tmp_path, options, script)
    if not HAS_PIV:
        assert ":piv:" not in said and "No errors" in said
        return
    found = re.findall(r"S KEYPAIRINFO \w{40} PIV\.(\w\w) (\w+)", said)
    assert sorted(found) == [("9A", "a"), ("9C", "sc"), ("9D", "e"), ("9E", "a")]
    assert "S CHV-STATUS -2 3 -2" in said
    assert "CMS Verification successful" in said


if HAS_PIV:  # gpg-card comes with it

    def test_it_makes_keys_on_a_blank_card(tmp_path: Path, pinentry: None) -> None:
        said = within_run(tmp_path, ("--blank",), HOME + GENERATE)
        assert re.search(r"PIV\.9C +\(sign,cert\)\n +algorithm \.+: nistp384", said), said
        assert re.search(r"PIV\.9D +\(encr\)\n +algorithm \.+: rsa2048", said), said
        assert re.search(r"^9C +P-384 +always +generated on the card", said, re.MULTILINE), said
