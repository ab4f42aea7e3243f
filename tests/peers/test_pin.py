# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIN tries as OpenSC shows them, blocked and unblocked, and two hosts before one card."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, WRONG_PIN, Desk
from tests.peers.libcacard import Database
from tests.peers.pcsc_client import PcscClient
from tests.peers.pem import make_pem
from tests.peers.stage import Stage
from vccid.iso7816 import status

SELECT_ID = bytes.fromhex("00A4040007A0000000790100")
VERIFY_EMPTY = bytes.fromhex("0020000000")
#: 240 bytes now, 16 more behind: the first half of a private-key operation.
SIGN = (bytes.fromhex("80428000F0") + bytes(240), bytes.fromhex("8042000010") + bytes(16))

OK = status.SUCCESS
NOT_SATISFIED = status.SECURITY_STATUS_NOT_SATISFIED


def verify(pin: str) -> bytes:
    """VERIFY as OpenSC sends it: padded to 8 bytes with FF."""
    return bytes.fromhex("0020000008") + pin.encode().ljust(8, b"\xff")


def log_in(desk: Desk, pin: str) -> str:
    """What pkcs11-tool says of a PIN."""
    done = desk.run(
        "pkcs11-tool", "--module", OPENSC_MODULE, "--login", "--pin", pin, "--list-objects"
    )
    return done.stdout.decode()


def slots(desk: Desk) -> str:
    return desk.say("pkcs11-tool", "--module", OPENSC_MODULE, "--list-slots")


@pytest.fixture
def unblocked(stage: Stage, desk: Desk) -> Iterator[Desk]:
    """The card with all its tries, before and after."""
    stage.daemon.ctl("pin", "reset")
    yield desk
    stage.daemon.ctl("pin", "reset")


def test_three_wrong_pins_lock_and_reset_unlocks(stage: Stage, unblocked: Desk) -> None:
    desk = unblocked
    assert "CKR_PIN_INCORRECT" in log_in(desk, WRONG_PIN)
    assert "CKR_PIN_INCORRECT" in log_in(desk, WRONG_PIN)
    assert "final user PIN try" in slots(desk)
    assert "CKR_PIN" in log_in(desk, WRONG_PIN)
    assert "user PIN locked" in slots(desk)
    assert "CKR_PIN_LOCKED" in log_in(desk, PIN)

    stage.daemon.ctl("pin", "reset")
    assert "user PIN locked" not in slots(desk)
    assert log_in(desk, PIN).count("Private Key Object") == 3


def test_the_right_pin_gives_the_tries_back(unblocked: Desk) -> None:
    log_in(unblocked, WRONG_PIN)
    log_in(unblocked, WRONG_PIN)
    log_in(unblocked, PIN)
    with PcscClient(unblocked.env) as application:
        assert application.transmit(verify(WRONG_PIN))[:1] == b"\x63"
        assert application.transmit(VERIFY_EMPTY) == status.tries_left(2)


def test_a_pin_verified_by_one_host_is_not_verified_for_another(
    stage: Stage, unblocked: Desk
) -> None:
    other_desk = stage.host("other")
    with PcscClient(unblocked.env) as one, PcscClient(other_desk.env) as other:
        for host in (one, other):
            assert host.transmit(SELECT_ID)[:1] in (b"\x61", b"\x90")
        assert one.transmit(verify(PIN)) == OK
        assert one.transmit(VERIFY_EMPTY) == OK
        assert other.transmit(VERIFY_EMPTY) == status.tries_left(3)

        assert one.transmit(SIGN[0]) == OK
        assert one.transmit(SIGN[1])[:1] == b"\x61"
        other.transmit(SIGN[0])
        assert other.transmit(SIGN[1]) == NOT_SATISFIED

        # A guess there costs a try of the card, and takes nothing from who has proved it here.
        assert other.transmit(verify(WRONG_PIN)) == status.tries_left(2)
        assert one.transmit(SIGN[0]) == OK
        assert one.transmit(SIGN[1])[:1] == b"\x61"
        assert other.transmit(verify(PIN)) == OK
        assert other.transmit(SIGN[0]) == OK
        assert other.transmit(SIGN[1])[:1] == b"\x61"


def test_the_card_put_in_again_is_the_same_with_the_same_tries(
    stage: Stage, unblocked: Desk, database: Database
) -> None:
    log_in(unblocked, WRONG_PIN)
    before = stage.daemon.ctl("card", "info")
    stage.daemon.ctl("remove", "--wait")
    stage.daemon.ctl(
        "insert", "--db", f"sql:{database.directory}", "--certs", "cert1,cert2,cert3", "--wait"
    )
    assert stage.daemon.ctl("card", "info") == before
    assert "2" in next(line for line in before.splitlines() if "PIN" in line)


def test_a_card_pin_is_changed_through_opensc(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("own")
    pem, pin = make_pem(directory / "own.pem"), directory / "pin"
    pin.write_text(f"{PIN}\n")
    with Stage(directory) as stage:
        desk = stage.host()
        stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin, "--wait")
        desk.say("pkcs15-tool", "--change-pin", "--pin", PIN, "--new-pin", "87654321")
        assert "CKR_PIN_INCORRECT" in log_in(desk, PIN)
        assert log_in(desk, "87654321").count("Private Key Object") == 1
