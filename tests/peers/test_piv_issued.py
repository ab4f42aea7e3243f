# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card whose certificates an authority issued, by `vccid run`: SSSD, PAM, NSS.

Kerberos, ssh and LUKS are in docs/howto, whose commands the tests run too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN
from tests.peers.piv import within_run

P11_KIT_MODULE = "/usr/lib/x86_64-linux-gnu/pkcs11/opensc-pkcs11.so"

#: What SSSD does before it asks for a PIN and with it; the last of another authority, and another
#: PIN. Of what p11_child says, each line but the certificates.
SSSD = f"""
child() {{
    echo "== $1"
    shift
    /usr/libexec/sssd/p11_child "$@" | grep -v ^MI || echo failed
}}
auth="--auth --pin --token_name=cert1 --module_name={P11_KIT_MODULE}"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -keyout other.key -out other.pem
child listed --pre --ca_db=$PWD/ca.pem
printf {PIN} | child login $auth --ca_db=$PWD/ca.pem --key_id=01
child "listed by another" --pre --ca_db=$PWD/other.pem
printf {PIN} | child "login of another" $auth --ca_db=$PWD/other.pem --key_id=01
printf {WRONG_PIN} | child "wrong PIN" $auth --ca_db=$PWD/ca.pem --key_id=01
vccidctl card info
"""

#: In a mount namespace: nothing of this machine's PAM or users is touched.
PAM = f"""set -e
cp -r /etc/pam.d pam.d
cp cardtest pam.d
mount --bind pam.d /etc/pam.d
mkdir -p home/.eid
pkcs15-tool --read-certificate 01 >home/.eid/authorized_certificates
chown -R 4242 home
cp /etc/passwd passwd
echo "me:x:4242:4242::$PWD/home:/bin/sh" >>passwd
mount --bind passwd /etc/passwd
for pin in {PIN} {WRONG_PIN}; do
    echo $pin | pamtester cardtest me authenticate || true
done
vccidctl card info
"""

#: Mail signed by 9C, and a server that wants to see 9A; in a network of its own.
NSS = f"""set -e
ip link set lo up
mkdir nss
printf '{PIN}\n' >pin
certutil -N -d sql:nss --empty-password
modutil -dbdir sql:nss -add OpenSC -libfile {OPENSC_MODULE} -force
certutil -A -d sql:nss -n ca -t CT,C,C -i ca.pem
echo hello >message
cmsutil -S -d sql:nss -f pin -N "cert1:Certificate for Digital Signature" \
    -Y "cert1:Certificate for Key Management" -T -H SHA256 -i message -o message.cms
openssl cms -verify -binary -inform DER -in message.cms -content message -CAfile ca.pem -purpose any
pkcs15-tool --read-certificate 03 >encrypt.pem
openssl cms -encrypt -binary -outform DER -in message -aes-128-cbc -out secret.cms encrypt.pem
cmsutil -D -d sql:nss -f pin -i secret.cms && echo decrypted || echo not decrypted
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout s.key -out server.pem
certutil -A -d sql:nss -n server -t P,, -i server.pem
openssl s_server -accept 127.0.0.1:7777 -www -cert server.pem -key s.key -Verify 1 -CAfile ca.pem \
    >server.log 2>&1 &
trap "kill $!" EXIT
until ss -ltn | grep -q :7777; do sleep 0.05; done
tstclnt -4 -h localhost -p 7777 -d sql:nss -n "cert1:Certificate for PIV Authentication" -W pin \
    -Q -V tls1.2:tls1.2
cat server.log
"""


def with_a_card(directory: Path, algorithm: str, script: str, wrapper: Sequence[str] = ()) -> str:
    """What a shell says that sees one, and in `directory` the authority's ca.pem."""
    options = ("--generate", "--card", "piv", "--algorithm", algorithm)
    named = ("--ca", "ca.pem", "--user", "me@EXAMPLE.TEST")
    return within_run(directory, (*options, *named), script, wrapper)


@pytest.mark.parametrize("algorithm", ["p256", "p384", "rsa2048"])
def test_sssd_takes_what_its_authority_issued(tmp_path: Path, algorithm: str) -> None:
    said = with_a_card(tmp_path, algorithm, SSSD)
    answers = dict(re.findall(r"^== (.*)\n((?:(?!==).*\n)*)", said, re.MULTILINE))
    told = {name: text.splitlines() for name, text in answers.items()}
    assert re.findall(r"^0\d$", answers["listed"], re.MULTILINE) == ["04", "03", "02", "01"], said
    login = [line for line in told["login"] if not line.startswith(("ERROR", "WARNING"))]
    assert login == ["0", "cert1", P11_KIT_MODULE, "01", "Certificate for PIV Authentication"], said
    for other in ("listed by another", "login of another"):
        assert "cert1" not in told[other], said
    assert not {"0", "cert1"} & set(told["wrong PIN"]), said
    assert "card, 2 left" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts in a namespace of its own")
@pytest.mark.parametrize("algorithm", ["p256", "rsa2048"])
def test_pam_p11_logs_in_whose_certificate_is_on_the_card(tmp_path: Path, algorithm: str) -> None:
    """As sudo would, set up so."""
    (tmp_path / "cardtest").write_text(
        f"auth required pam_p11.so {OPENSC_MODULE}\naccount required pam_permit.so\n"
    )
    said = with_a_card(tmp_path, algorithm, PAM, ("unshare", "--mount"))
    answers = re.findall(r"pamtester: (.*)", said)
    assert answers[0] == "successfully authenticated", said
    # As pam_p11 of 0.3 and of 0.6 puts it.
    no = ("Authentication failure", "Insufficient credentials to access authentication data")
    assert len(answers) == 2 and answers[1] in no, said
    assert "card, 2 left" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network of its own")
@pytest.mark.parametrize(("algorithm", "decrypts"), [("p256", False), ("rsa2048", True)])
def test_nss_signs_decrypts_and_shows_a_server_who_it_is(
    tmp_path: Path, algorithm: str, decrypts: bool
) -> None:
    """As Thunderbird and Firefox do. NSS has no way to decrypt what was agreed with a key on EC."""
    said = with_a_card(tmp_path, algorithm, NSS, ("unshare", "--net"))
    assert "CMS Verification successful" in said
    assert ("\ndecrypted" in said) == decrypts, said
    assert re.search(r"depth=0 CN ?= ?cert1\nverify return:1", said), said
