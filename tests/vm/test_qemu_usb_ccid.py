# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own usb-ccid with libcacard's card: what vccid is measured against works here."""

import pytest

from tests.peers.libcacard import NICKNAMES, make_database

from .conftest import MakeGuest
from .devices import usb_ccid_emulated, usb_controller
from .guest import Guest, GuestOptions, until

PIN = "123456"


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A guest with QEMU's reader and card, and a pcscd that has seen them."""
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN)
    emulated = usb_ccid_emulated(database.directory, NICKNAMES)
    guest = make_guest(GuestOptions(qemu=[*usb_controller(), *emulated]))
    guest.run(until("lsusb | grep -q 08e6:4433"))
    guest.start("pcscd --foreground")
    guest.run(until("opensc-tool -l | grep -q Yes"))
    return guest


def test_opensc_sees_a_cac(guest: Guest, quiet_kernel: None) -> None:
    assert guest.run("opensc-tool -n").text == "Common Access Card (CAC)\n"


def test_opensc_signs(guest: Guest, quiet_kernel: None) -> None:
    guest.write("/tmp/message", "a message worth signing")
    guest.run("pkcs15-tool --read-public-key 0001 --output /tmp/public.pem")
    guest.run(
        f"pkcs11-tool --login --pin {PIN} --sign --mechanism SHA256-RSA-PKCS --id 0001"
        " --input-file /tmp/message --output-file /tmp/signature"
    )
    verified = guest.run(
        "openssl dgst -sha256 -verify /tmp/public.pem -signature /tmp/signature /tmp/message"
    )
    assert "Verified OK" in verified.text
