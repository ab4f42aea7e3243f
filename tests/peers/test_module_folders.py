# SPDX-License-Identifier: LGPL-2.1-or-later
"""`module-name=` finds a PKCS#11 module where other distributions than Debian have theirs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.softhsm import MODULE

#: As Fedora's /usr/lib64: Debian has but the dynamic linker there, which has to stay.
LIKE_FEDORA = """
set -e
mount -t tmpfs tmpfs /mnt
cp -a /usr/lib64/. /mnt
mkdir /mnt/pkcs11
cp "$1" /mnt/pkcs11/libown.so
mount --move /mnt /usr/lib64
exec "$2" -c 'from vccid.keys import pkcs11
from vccid.keys.uri import Pkcs11Uri
print(pkcs11._library(Pkcs11Uri.parse("pkcs11:?module-name=own")))'
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="puts a folder over /usr/lib64, which takes root")
def test_modules_below_lib64_have_names_too() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", LIKE_FEDORA, "sh", MODULE, sys.executable],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("/usr/lib64/pkcs11/libown.so\n", "")
