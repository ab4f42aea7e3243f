# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every CKR_ value at every call: what the card makes of it, and that a PIN is judged by none
but those that judge it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cards import Driver, at_once, serial_of
from tests.key_material import certificate, der, rsa_key
from tests.unit.keys.pretend_token import PIN, WRONG, PretendToken
from vccid.card.cac.cac_card import CacCard
from vccid.card.login import TokenLogins
from vccid.card.pin import TokenPin
from vccid.card.state import StateStore
from vccid.errors import TokenLocked, VccidError
from vccid.keys.base import Credential
from vccid.keys.ckr import ANSWERS, Consequence, answer
from vccid.keys.pkcs11_key import pkcs11_key
from vccid.keys.rsa import Modulus

CERTIFICATE = der(certificate("pretend", rsa_key().public_key()))
MODULUS = Modulus.of(rsa_key().public_key().public_numbers().n)

VERIFY = "00 20 00 00 08 {} FF FF"
RIGHT, FALSE = VERIFY.format(PIN.hex()), VERIFY.format(WRONG.hex())
ASK = "00 20 00 00"
SELECT_PKI = "00 A4 04 00 07 A0 00 00 00 79 01 00"
SIGN_FIRST = "80 42 80 00 80" + "00" + "11" * 0x7F
SIGN_LAST = "80 42 00 00 80" + "11" * 0x80

#: CKR_OK is no error, and CRYPTOKI_ALREADY_INITIALIZED none of C_Initialize.
VALUES = [*ANSWERS, 0x80000001, 0x12345]


@pytest.fixture
def pretend() -> Iterator[PretendToken]:
    pretend = PretendToken()
    pretend.add_pair("pretend", CERTIFICATE, MODULUS.encoded)
    yield pretend
    pretend.answer("", 0)
    pretend.token.close()


@pytest.fixture
def logins() -> TokenLogins:
    return TokenLogins()


@pytest.fixture
def card(pretend: PretendToken, logins: TokenLogins, tmp_path: Path) -> Iterator[Driver]:
    async def make() -> CacCard:
        key = pkcs11_key(pretend.token, "pretend", b"\1", MODULUS)
        credentials = [Credential("pretend", CERTIFICATE, key, pretend.token)]
        login = logins.of(pretend.token)
        pin = await TokenPin.open(login, StateStore(tmp_path), serial_of(credentials), at_once)
        return CacCard(credentials, pin, at_once)

    driver = Driver(make())
    yield driver
    driver.close()


def signs(card: Driver) -> str:
    assert card.hex(SELECT_PKI)[:2] in ("90", "61")
    assert card.hex(SIGN_FIRST) == "90 00"
    answer = card.hex(SIGN_LAST)
    return "90 00" if answer[:2] == "61" else answer[-5:]


def verifies(card: Driver, rv: int, judges: bool) -> None:
    """What VERIFY answers while the module answers `rv`, and what is left of it afterwards."""
    got = card.hex(RIGHT)
    if judges and answer(rv).consequence is Consequence.WRONG_PIN:
        assert got == "63 C2"
    elif judges and answer(rv).consequence is Consequence.LOCKED:
        assert got == "69 83"
    else:
        assert got in ("64 00", "69 85", "90 00"), got
    if not (judges and answer(rv).consequence is Consequence.WRONG_PIN):
        assert card.card.pin.tries_left == 3


@pytest.mark.parametrize("rv", VALUES, ids=lambda rv: f"{answer(rv).name}-{rv:X}")
def test_login(pretend: PretendToken, card: Driver, rv: int) -> None:
    pretend.answer("C_Login", rv)
    verifies(card, rv, judges=True)
    pretend.answer("", 0)
    if answer(rv).consequence is not Consequence.WRONG_PIN:
        assert card.hex(RIGHT) == "90 00", "nothing was remembered"
        assert signs(card) == "90 00"


@pytest.mark.parametrize("rv", VALUES, ids=lambda rv: f"{answer(rv).name}-{rv:X}")
def test_around_the_login(pretend: PretendToken, card: Driver, rv: int) -> None:
    for function in ("C_GetSessionInfo", "C_GetTokenInfo", "C_OpenSession", "C_CloseSession"):
        pretend.answer(function, rv)
        verifies(card, rv, judges=False)
        pretend.answer("", 0)
        assert card.hex(RIGHT) == "90 00", function
        assert signs(card) == "90 00", function


@pytest.mark.parametrize("rv", VALUES, ids=lambda rv: f"{answer(rv).name}-{rv:X}")
def test_the_key(pretend: PretendToken, card: Driver, rv: int) -> None:
    """A failed operation is one; the PIN that was verified is asked for again if that helps."""
    calls = (
        "C_SignInit", "C_Sign", "C_OpenSession", "C_FindObjectsInit", "C_FindObjects",
        "C_FindObjectsFinal", "C_GetAttributeValue",
    )  # fmt: skip
    for function in calls:
        assert card.hex(RIGHT) == "90 00"
        pretend.answer(function, rv)
        assert signs(card) in ("90 00", "69 84", "69 82", "64 00", "6F 00"), function
        pretend.answer("", 0)
        assert card.card.pin.tries_left == 3
        assert card.hex(RIGHT) == "90 00", function
        assert signs(card) == "90 00", function


@pytest.mark.parametrize("rv", VALUES, ids=lambda rv: f"{answer(rv).name}-{rv:X}")
def test_elsewhere(pretend: PretendToken, rv: int) -> None:
    """Whatever is refused is refused by an error of ours."""
    token = pretend.token
    for function, work in (
        ("C_FindObjectsInit", token.certificates),
        ("C_GetAttributeValue", token.certificates),
        ("C_SetPIN", partial(token.change_pin, PIN, WRONG)),
        ("C_OpenSession", partial(token.change_pin, PIN, WRONG)),
        ("C_GetMechanismList", token.open),
        ("C_GetTokenInfo", token.fewest_tries),
    ):
        pretend.answer(function, rv)
        try:
            work()
        except VccidError as error:
            assert error.message
        pretend.answer("", 0)
    assert [one.der for one in token.certificates()] == [CERTIFICATE]


def test_a_right_pin_that_meets_a_locked_token(pretend: PretendToken, card: Driver) -> None:
    pretend.give_tries(0)
    assert card.hex(RIGHT) == "69 83"
    assert card.hex(ASK) == "63 C3", "no try of the card's was spent"
    pretend.give_tries(3)
    assert card.hex(RIGHT) == "90 00"
    assert signs(card) == "90 00"


def test_insert_says_locked_and_not_wrong(pretend: PretendToken, logins: TokenLogins) -> None:
    login = logins.of(pretend.token)
    pretend.give_tries(0)
    with pytest.raises(TokenLocked, match="token pretend is locked: too many wrong PINs"):
        login.unlock(PIN)
    pretend.give_tries(3)
    login.unlock(PIN)


def test_who_unblocks_a_token_may_choose_a_pin_that_was_wrong(
    pretend: PretendToken, card: Driver
) -> None:
    assert card.hex(FALSE) == "63 C2"
    pretend.give_tries(0)
    assert card.hex(RIGHT) == "69 83"
    pretend.give_tries(3)
    before = pretend.logins
    assert card.hex(FALSE) == "63 C1"
    assert pretend.logins == before + 1, "the token was asked again"


def test_a_token_that_comes_back_locked(pretend: PretendToken, card: Driver) -> None:
    """OpenSC asks VERIFY without data, signs, and logs in again where that says 6982."""
    assert card.hex(RIGHT) == "90 00"
    assert card.hex(ASK) == "90 00"
    pretend.pull()
    assert card.hex(ASK) == "63 C3"
    assert signs(card) == "69 82"
    assert card.hex(RIGHT) == "90 00"
    assert signs(card) == "90 00"
    pretend.pull()
    assert signs(card) == "69 82", "the key is the first to notice"
    assert signs(card) == "69 82"
    assert card.hex(RIGHT) == "90 00"
    assert signs(card) == "90 00"


@pytest.mark.parametrize(("kept", "looked_at"), [(0, 3), (1, 3), (2, 2), (3, 1)])
def test_the_last_tries_of_a_token_are_kept(
    pretend: PretendToken, logins: TokenLogins, card: Driver, kept: int, looked_at: int
) -> None:
    logins.of(pretend.token, kept)
    wrong = [VERIFY.format(pin) for pin in ("313131313131", "323232323232", "333333333333")]
    answers = [card.hex(pin) for pin in wrong]
    assert pretend.logins == looked_at
    assert answers == (["63 C2", "63 C1", "63 C0"][:looked_at] + ["69 83"] * (3 - looked_at))
    assert pretend.token.fewest_tries() == (None, 2, 1, 0)[looked_at]
