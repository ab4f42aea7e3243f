# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card of ours as the real card of another host: passed through there, and emulated there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.daemon import Daemon
from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.pcsc_relay import RelayProcess
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER


@pytest.fixture
def far_host(tmp_path: Path) -> PrivatePcscd:
    """A second pcscd, for whoever serves its driver at `relay.ifd`; not started."""
    entry = ReaderEntry("far", f"vccid:{tmp_path}/relay.ifd", DRIVER)
    return PrivatePcscd(tmp_path / "far", [entry])


def test_passed_through(desk: Desk, far_host: PrivatePcscd, tmp_path: Path) -> None:
    """OpenSC, pcscd, relay, pcscd, daemon: the card is the same, and signs."""
    relay = RelayProcess(desk.env, "vccid vccid0 00 00", socket=tmp_path / "relay.ifd")
    with relay, far_host:
        atr = desk.say("opensc-tool", "--atr").splitlines()[-1]
        assert relay.ask("in") == atr.replace(":", "")
        far = Desk(tmp_path / "desk", far_host.env)
        while "Yes" not in (listed := far.say("opensc-tool", "--list-readers")):
            print(listed)
        assert "No errors" in far.pkcs11("--test")
        dumps = [host.say("pkcs15-tool", "--dump").splitlines()[1:] for host in (far, desk)]
        assert dumps[0] == dumps[1]  # but for the reader's name in the first line


def test_emulated(desk: Desk, tmp_path: Path) -> None:
    """Its certificates, through OpenSC's PKCS#11 module, on a second daemon's card."""
    uris = [f"pkcs11:id=%00%0{n};type=cert?module-path={OPENSC_MODULE}" for n in (1, 2, 3)]
    with Daemon(tmp_path / "second", environment=desk.env) as second:
        second.ctl("insert", "--certs", ",".join(uris))
        entry = ReaderEntry("second", f"vccid:{second.ifd()}", DRIVER)
        with PrivatePcscd(tmp_path / "far", [entry]) as pcscd:
            far = Desk(tmp_path / "desk", pcscd.env)
            assert "No errors" in far.pkcs11("--test", pin=PIN)
        # This host goes on using the real one meanwhile.
        assert "No errors" in desk.pkcs11("--test")
