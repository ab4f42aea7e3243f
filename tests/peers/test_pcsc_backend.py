# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real pcscd with a real card in it, passed through: vsmartcard's vpcd and vicc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.pcsc_relay import RelayProcess
from tests.peers.private_pcscd import PrivatePcscd
from tests.peers.vpcd import READER, PinCard, Vicc, free_port, vpcd_entry
from tests.unit.fakes import ATR
from vccid.iso7816 import status

RIGHT = "0020008006313233343536"
WRONG = "0020008006363534333231"
OTHER = "00B0000001"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pcscd(tmp_path: Path, port: int) -> Iterator[PrivatePcscd]:
    with PrivatePcscd(tmp_path / "p", [vpcd_entry(tmp_path, port)]) as pcscd:
        yield pcscd


def test_viccs_own_card_comes_and_goes(pcscd: PrivatePcscd, port: int) -> None:
    with RelayProcess(pcscd.env, READER) as relay:
        for _ in range(2):
            with Vicc(port):
                atr = relay.ask("in")
                assert atr == "3b951381018073ff01000b"
                assert relay.ask("on") == atr
                assert relay.send("00A4000C023F00") == status.SUCCESS
                assert relay.ask("host").startswith("CardBusy")
                assert relay.ask("off") == "off"
                assert relay.ask("on") == atr
            assert relay.ask("out") == "out"
            assert relay.ask("00A4000C023F00").startswith("CardRemoved")
            assert relay.ask("status").startswith("no card, ")


def test_the_last_tries_are_kept(pcscd: PrivatePcscd, port: int) -> None:
    with RelayProcess(pcscd.env, READER, tries_kept=2) as relay, PinCard(port) as card:
        relay.ask("in")
        relay.ask("on")
        assert relay.send(WRONG) == status.tries_left(2)
        assert relay.send(WRONG) == status.tries_left(1)
        spent = [command.hex().upper() for command in card.commands]
        # The last one is not for a guest to try: neither a wrong PIN goes out, nor the right.
        assert relay.send(WRONG) == status.AUTHENTICATION_BLOCKED
        assert relay.send(RIGHT) == status.AUTHENTICATION_BLOCKED
        assert card.tries == 1
        assert spent == ["00200080", WRONG, "00200080", WRONG]
        assert all(len(command) == 4 for command in card.commands[4:])
        # Asking costs nothing, and goes through.
        assert relay.send("00200080") == status.tries_left(1)
        card.tries = 3
        assert relay.send(RIGHT) == status.SUCCESS


@pytest.mark.parametrize(
    ("hidden", "asked"),
    [
        ("00210080" + "06" + "363534333231", "00200080"),  # VERIFY with BER-TLV data
        ("0A200080" + "06" + "363534333231", "02200080"),  # on logical channel 2
        ("45200080" + "06" + "363534333231", "45200080"),  # on logical channel 9
        ("10200080" + "03" + "363534", "00200080"),  # the first part of a chain
    ],
)
def test_no_way_round_the_guard(pcscd: PrivatePcscd, port: int, hidden: str, asked: str) -> None:
    with RelayProcess(pcscd.env, READER, tries_kept=2) as relay, PinCard(port) as card:
        card.tries = 1
        relay.ask("in")
        relay.ask("on")
        assert relay.send(hidden) == status.AUTHENTICATION_BLOCKED
        assert (
            relay.send("00C200000B" + WRONG) == status.INSTRUCTION_NOT_SUPPORTED
        )  # in an ENVELOPE
        assert [command.hex().upper() for command in card.commands] == [asked]


def test_no_guard_where_none_is_wanted(pcscd: PrivatePcscd, port: int) -> None:
    with RelayProcess(pcscd.env, READER, tries_kept=0) as relay, PinCard(port) as card:
        relay.ask("in")
        relay.ask("on")
        assert [relay.send(WRONG) for _ in range(4)] == [
            status.tries_left(2),
            status.tries_left(1),
            status.AUTHENTICATION_BLOCKED,
            status.AUTHENTICATION_BLOCKED,
        ]
        assert len(card.commands) == 4


def test_nothing_stays_verified_for_the_next_host(pcscd: PrivatePcscd, port: int) -> None:
    with RelayProcess(pcscd.env, READER) as relay, PinCard(port):
        relay.ask("in")
        relay.ask("on")
        assert relay.send(RIGHT) == status.SUCCESS
        assert relay.send(OTHER) == status.SUCCESS
        relay.ask("off")
        relay.ask("on")
        assert relay.send(OTHER) == status.SECURITY_STATUS_NOT_SATISFIED


def test_exclusive_keeps_other_programs_out(pcscd: PrivatePcscd, port: int) -> None:
    with PinCard(port), RelayProcess(pcscd.env, READER, "exclusive") as first:
        first.ask("in")
        first.ask("on")
        with RelayProcess(pcscd.env, READER) as second:
            second.ask("in")
            assert second.ask("on").startswith("CardBusy")
            first.ask("off")
            # The card is let go in the relay's own thread, a moment later.
            while (answer := second.ask("on")).startswith("CardBusy"):
                pass
            assert answer == "3b00"


def test_another_program_resets_the_card(pcscd: PrivatePcscd, port: int) -> None:
    """What the guest had verified is gone, so its session is over; the next one is good."""
    with PinCard(port), RelayProcess(pcscd.env, READER) as first:
        first.ask("in")
        first.ask("on")
        with RelayProcess(pcscd.env, READER) as second:
            second.ask("in")
            second.ask("on")
            assert first.ask(OTHER).startswith("CardRemoved")
            assert second.send(OTHER) == status.SECURITY_STATUS_NOT_SATISFIED
        assert first.ask("in") == "3b00"
        assert first.ask("on") == "3b00"


def test_pcscd_restarts(tmp_path: Path) -> None:
    port = free_port()
    pcscd = PrivatePcscd(tmp_path / "p", [vpcd_entry(tmp_path, port)])
    with RelayProcess(pcscd.env, READER) as relay:
        assert relay.ask("status") in ("no card", "") or "no pcscd" in relay.ask("status")
        for _ in range(2):
            with pcscd, Vicc(port):
                atr = relay.ask("in")
                assert relay.ask("on") == atr
            assert relay.ask("out") == "out"


def test_an_emulated_card_follows_the_real_one(pcscd: PrivatePcscd, port: int) -> None:
    with RelayProcess(pcscd.env, READER, "emulated") as relay:
        with PinCard(port):
            assert relay.ask("in") == ATR.hex()
        assert relay.ask("out") == "out"
        with PinCard(port):
            while relay.ask("status") == "no card":
                pass
            assert relay.ask("status") == "the second time it fails"
        while relay.ask("status") != "no card":
            pass
        with PinCard(port):
            assert relay.ask("in") == ATR.hex()
