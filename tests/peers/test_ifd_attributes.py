# SPDX-License-Identifier: LGPL-2.1-or-later
"""What SCardGetAttrib says of a reader: our driver beside libccid, in one pcscd."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from smartcard import scard

from tests.peers.pcsc_application import Application
from tests.peers.plain_card import ATR_T0
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER, ROOT
from tests.peers.test_serial_pty import TWIN

OURS, LIBCCIDS = "ours 00 00", "libccids 00 00"  # each its library's first

#: Each attribute of PC/SC part 3, 3.1.2, that libpcsclite names.
ATTRIBUTES = {
    name: number
    for name, number in vars(scard).items()
    if name.startswith("SCARD_ATTR_") and not name.endswith(("_A", "_W"))
}
#: What both drivers say, byte for byte, with a card that is powered.
SAME = {
    "SCARD_ATTR_ATR_STRING": ATR_T0,
    "SCARD_ATTR_ICC_PRESENCE": b"\x02",  # present and swallowed
    "SCARD_ATTR_ICC_INTERFACE_STATUS": b"\x01",
}
#: What each says of itself: ours, libccidtwin's. A serial line has no descriptors to tell a name
#: or a number from; libccid's texts of a USB device end in a NUL, which the length counts.
OWN = {
    "SCARD_ATTR_VENDOR_NAME": (b"vccid\0", b""),
    "SCARD_ATTR_VENDOR_IFD_SERIAL_NO": (b"a\0", b""),
    "SCARD_ATTR_VENDOR_IFD_VERSION": (b"\x00\x00\x01\x00", bytes(4)),
    "SCARD_ATTR_MAXINPUT": (b"\x0c\x00\x01\x00", b"\x05\x01\x00\x00"),  # 65,548 and 261
    "SCARD_ATTR_ICC_TYPE_PER_ATR": (b"\x01", None),
    # pcscd's own answer, where a driver has none
    "SCARD_ATTR_DEVICE_FRIENDLY_NAME": (b"ours 00 00\0", b"libccids 00 00\0"),
    "SCARD_ATTR_DEVICE_SYSTEM_NAME": (b"ours 00 00\0", b"libccids 00 00\0"),
}


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """Before two readers, each with a card that is powered."""
    subprocess.run(["make", "-s", "-C", ROOT / "pcscd-ifd"], check=True, timeout=100)
    with tempfile.TemporaryDirectory(prefix="vccid-attr-") as path:
        places = [Path(path, "a.ifd"), Path(path, "b.tty")]
        entries = [
            ReaderEntry("ours", f"vccid:{places[0]}", DRIVER),
            ReaderEntry("libccids", str(places[1]), TWIN),
        ]
        with (
            PlainDaemon(places) as daemon,
            PrivatePcscd(Path(path, "pcscd"), entries, usb=True) as pcscd,
            Application(pcscd.env) as application,
        ):
            for number, reader in enumerate((OURS, LIBCCIDS)):
                daemon.ask(f"insert {number}")
                application.wait_for(reader, scard.SCARD_STATE_PRESENT)
            yield application


def told(application: Application, reader: str, attribute: int) -> bytes | None:
    """The value, or None where the reader has no such attribute."""
    card = application.connect(reader)[0]
    code, rest = application.call("SCardGetAttrib", card, attribute)
    application.must("SCardDisconnect", card, scard.SCARD_LEAVE_CARD)
    if code & 0xFFFFFFFF == 0x8010001F:  # SCARD_E_UNSUPPORTED_FEATURE of pcsc-lite
        return None
    assert code == scard.SCARD_S_SUCCESS
    return bytes(rest[0])


def test_each_attribute_beside_libccids(application: Application) -> None:
    expected = {
        name: OWN.get(name, (SAME.get(name), SAME.get(name))) for name in sorted(ATTRIBUTES)
    }
    assert expected == {
        name: tuple(told(application, reader, number) for reader in (OURS, LIBCCIDS))
        for name, number in sorted(ATTRIBUTES.items())
    }


def test_a_card_without_power_has_no_atr(application: Application) -> None:
    for reader in (OURS, LIBCCIDS):
        card = application.connect(reader)[0]
        application.must("SCardDisconnect", card, scard.SCARD_UNPOWER_CARD)
        context, direct = application.context, scard.SCARD_SHARE_DIRECT
        card = application.must("SCardConnect", context, reader, direct, 0)[0]
        attribute = scard.SCARD_ATTR_ATR_STRING
        assert application.must("SCardGetAttrib", card, attribute) == [[]]
        application.must("SCardDisconnect", card, scard.SCARD_LEAVE_CARD)
