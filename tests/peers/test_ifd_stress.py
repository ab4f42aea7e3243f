# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real pcscd with clients that never rest: what they see of the card is counted.

`./dev stress` has more rounds of it.
"""

from __future__ import annotations

import os
import time

import pytest
from smartcard import scard

from tests.peers.pcsc_application import Application
from tests.peers.pcsc_churn import SUCCESS, Churn
from tests.peers.plain_card import ATR_T0, ATR_T1
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd

READER = "vccid vccid0 00 00"
#: Rounds of a card put in, exchanged and taken out, and seconds of sending.
ROUNDS = int(os.environ.get("VCCID_STRESS_ROUNDS", "60"))
SECONDS = float(os.environ.get("VCCID_STRESS_SECONDS", "4"))


def insertions_and_removals(application: Application) -> int:
    """pcscd's count of them (below 65,536), in the upper half of the reader's state."""
    known = [[READER, scard.SCARD_STATE_UNAWARE]]
    ((_, state, _),) = application.must("SCardGetStatusChange", application.context, 0, known)[0]
    return int(state) >> 16


#: What is done to the first reader, and the ATR that is seen then; b"": an empty reader.
CHANGES = {"insert": ATR_T0, "exchange": ATR_T1, "remove": b""}


@pytest.mark.parametrize("work", ["unpower", "reset", "both", "send"])
def test_what_has_been_seen_stays_so(
    daemon: PlainDaemon, pcscd: PrivatePcscd, application: Application, work: str
) -> None:
    """`vccidctl remove --wait` and its like say "seen": from then on the reader's state is that."""
    daemon.ask("attached 0")
    wrong: list[tuple[int, str, int, bytes]] = []
    with Churn(pcscd.env, READER, work) as churn:
        for number in range(ROUNDS // 4):
            for change, wanted in CHANGES.items():
                daemon.ask(f"{change} 0")
                assert daemon.ask("seen 0") == "True"
                time.sleep(0.015)  # a mark that comes late
                state, atr = application.state(READER)
                present = bool(state & scard.SCARD_STATE_PRESENT)
                mute = bool(state & scard.SCARD_STATE_MUTE)
                if (present, mute, atr) != (bool(wanted), False, wanted):
                    wrong.append((number, change, state, atr))
    assert wrong == []
    assert insertions_and_removals(application) == 4 * (ROUNDS // 4)
    assert churn.results["SCardConnect", SUCCESS] > 0


def test_a_program_that_unpowers_the_card_takes_it_from_nobody(
    daemon: PlainDaemon, pcscd: PrivatePcscd, application: Application
) -> None:
    """As with any reader: another's command fails, and a reset makes the card work again."""
    daemon.ask("insert 0")
    assert daemon.ask("seen 0") == "True"
    before = insertions_and_removals(application)
    with (
        Churn(pcscd.env, READER, "unpower") as unpowering,
        Churn(pcscd.env, READER, "send") as one,
        Churn(pcscd.env, READER, "send") as other,
    ):
        time.sleep(SECONDS)
    assert insertions_and_removals(application) == before
    gone = {scard.SCARD_E_NO_SMARTCARD & 0xFFFFFFFF, scard.SCARD_W_REMOVED_CARD & 0xFFFFFFFF}
    for churn in (one, other):
        assert churn.results["SCardTransmit", SUCCESS] > 0
        assert not {code for _, code in churn.results} & gone, churn.results
    assert unpowering.results["SCardConnect", SUCCESS] > 0
