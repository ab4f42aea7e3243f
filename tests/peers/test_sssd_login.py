# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PAM login through SSSD with the card, set up as docs/howto/sssd.md has it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.peers.daemon import BIN
from tests.peers.desk import PIN, WRONG_PIN
from tests.peers.pem import make_pem

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "sssd.md"

#: In a mount namespace: nothing of this machine's SSSD, PAM or users is touched.
LOGINS = """set -e
cp -a /var/lib/sss lib
mount -t tmpfs run /run
mount -t tmpfs etc /etc/sssd
mount -t tmpfs lib /var/lib/sss
mount -t tmpfs log /var/log/sssd
cp -a lib/. /var/lib/sss
find /var/lib/sss -type s -delete
cp -r /etc/pam.d pam.d
cp cardtest pam.d
mount --bind pam.d /etc/pam.d
cp /etc/passwd passwd
echo me:x:4242:4242::/:/bin/sh >>passwd
mount --bind passwd /etc/passwd
mkdir /etc/sssd/pki
cp me.pem /etc/sssd/pki/sssd_auth_ca_db.pem
install -m 600 sssd.conf /etc/sssd
sssd --interactive --logger=files --debug-level=6 >sssd.log 2>&1 &
trap 'kill $!; wait' EXIT
until [ -S /var/lib/sss/pipes/pam ] && [ -e /run/sssd.pid ]; do
    kill -0 $! || { cat sssd.log; exit 1; }
    sleep 0.1
done
for pin in "$@"; do
    echo "$pin" | pamtester cardtest me authenticate || cat /var/log/sssd/p11_child.log
done
vccidctl card info
"""

RULE = "<SUBJECT>^CN=me$"

#: How `vccid run` makes each, with me.pem as what SSSD trusts, and whom SSSD takes for user "me".
CARDS = {
    "CAC": (("--certs", "me.pem", "--pin-file", "pin"), RULE),
    "PIV": (
        ("--generate", "--card", "piv", "--ca", "me.pem", "--user", "me@EXAMPLE.TEST"),
        "<SAN:Principal>^me@EXAMPLE.TEST$",
    ),
}


def block(mark: str) -> str:
    """The page's block that has this in it."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if mark in text)


@pytest.mark.skipif(os.geteuid() != 0, reason="runs SSSD")
@pytest.mark.parametrize("card", CARDS)
def test_the_right_pin_logs_in_and_a_wrong_one_does_not(tmp_path: Path, card: str) -> None:
    options, rule = CARDS[card]
    make_pem(tmp_path / "me.pem")
    page = block("[certmap")
    assert RULE in page
    (tmp_path / "sssd.conf").write_text(page.replace(RULE, rule))
    (tmp_path / "cardtest").write_text(block("pam_sss.so"))
    (tmp_path / "pin").write_text(PIN)
    done = subprocess.run(
        [
            "unshare", "--mount", BIN / "vccid", "run", *options,
            "--", "sh", "-c", LOGINS, "sh", PIN, WRONG_PIN,
        ],
        cwd=tmp_path, env={**os.environ, "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    answers = re.findall(r"pamtester: (.*)", done.stdout)
    assert answers == ["successfully authenticated", "Authentication failure"], done.stdout
    assert "card, 2 left" in done.stdout
