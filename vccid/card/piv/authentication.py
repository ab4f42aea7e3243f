# SPDX-License-Identifier: LGPL-2.1-or-later
"""GENERAL AUTHENTICATE (SP 800-73-5 part 2, 3.2.4): keys used, and the management key proved."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

from vccid.card.piv.algorithms import BlockCipher
from vccid.card.piv.commands import (
    CHALLENGE,
    EXPONENTIATION,
    RESPONSE,
    WITNESS,
    GeneralAuthenticate,
    Refused,
)
from vccid.card.piv.contents import ManagementKey
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.keys import CardKey
from vccid.card.piv.management_states import Event, State
from vccid.card.piv.references import AGREEING
from vccid.errors import (
    KeyOperationError,
    KeySourceError,
    LoginLost,
    PrivateKeyMissing,
    TokenGone,
)
from vccid.iso7816 import ber, status
from vccid.keys.base import EcPrivateKey, RsaPrivateKey
from vccid.keys.ec import ED25519

_DYNAMIC_TEMPLATE = 0x7C

_log = logging.getLogger(__name__)


def prove_management(
    key: ManagementKey, command: GeneralAuthenticate, indicators: Indicators
) -> bytes:
    """Prove the management key, or give random bytes: one step of challenge and response.

    What the card encrypts for anybody is a witness of its own making. A challenge of the host's
    it encrypts only for who has shown, in the same command, to know the key: else who has no key
    could have the card answer its own challenge.
    """
    if command.algorithm is not key.algorithm:
        return status.INCORRECT_P1_P2
    cipher = BlockCipher(key.algorithm, key.key)
    state, random = indicators.management, indicators.random
    try:
        members = command.members()
    except Refused:
        indicators.move(Event.FELL)
        raise
    if members == {CHALLENGE: b""}:
        indicators.move(Event.CHALLENGE, cipher.random())
        return _template(CHALLENGE, indicators.random)
    if members == {WITNESS: b""}:
        indicators.move(Event.WITNESS, cipher.random())
        return _template(WITNESS, cipher.encrypt(indicators.random))
    event, answer = _judged(members, state, random, cipher)
    indicators.move(event)
    return answer


def _judged(
    members: Mapping[int, bytes], state: State, random: bytes, cipher: BlockCipher
) -> tuple[Event, bytes]:
    """What a host answers, to `random` in `state`, makes of that, and the answer it gets."""
    if members.keys() == {RESPONSE} and state is State.CHALLENGED:
        if not hmac.compare_digest(members[RESPONSE], cipher.encrypt(random)):
            return Event.FELL, status.SECURITY_STATUS_NOT_SATISFIED
        return Event.PROVED, status.SUCCESS
    wanted = members.get(RESPONSE, b"")
    if members.keys() - {RESPONSE} != {WITNESS, CHALLENGE} or wanted:
        return Event.FELL, status.INCORRECT_DATA
    if state is not State.WITNESSED or len(members[CHALLENGE]) != cipher.size:
        return Event.FELL, status.INCORRECT_DATA
    if not hmac.compare_digest(members[WITNESS], random):
        return Event.FELL, status.SECURITY_STATUS_NOT_SATISFIED
    return Event.PROVED, _template(RESPONSE, cipher.encrypt(members[CHALLENGE]))


def operation(
    key: CardKey, command: GeneralAuthenticate, agreeing: Collection[int] = AGREEING
) -> Callable[[], bytes] | None:
    """What a command asks of a key, to be run in a thread; None where its data are wrong.

    `agreeing` are the keys that agree on a secret. A point that is not on its curve, for one, is
    found out only when it runs.
    """
    members, private = command.members(), key.private
    if members.get(RESPONSE) != b"":
        return None
    if members.keys() == {RESPONSE, EXPONENTIATION}:
        if not isinstance(private, EcPrivateKey) or command.reference not in agreeing:
            return None
        return partial(private.derive, members[EXPONENTIATION])
    if members.keys() != {RESPONSE, CHALLENGE}:
        return None
    data = members[CHALLENGE]
    if isinstance(private, RsaPrivateKey):
        fits = len(data) * 8 == private.size_bits
        return partial(private.raw, data) if fits else None
    if not isinstance(private, EcPrivateKey):
        return None
    if private.curve is not ED25519 and not 0 < len(data) <= private.curve.size:
        return None
    return partial(private.sign, data)


def result(response: bytes) -> bytes:
    """The answer that holds what a key gave."""
    return _template(RESPONSE, response)


def failure(error: KeyOperationError | KeySourceError, key: CardKey, serial: str) -> bytes:
    """The status word for a key that failed; the log has the reason."""
    _log.error(
        "the key %s failed: %s; %s", key.source, error.message, error.hint, extra={"card": serial}
    )
    if isinstance(error, LoginLost):
        return status.SECURITY_STATUS_NOT_SATISFIED
    if isinstance(error, KeyOperationError):
        return status.INCORRECT_DATA
    if isinstance(error, PrivateKeyMissing):
        return status.REFERENCED_DATA_NOT_FOUND
    return status.EXECUTION_ERROR if isinstance(error, TokenGone) else status.NO_PRECISE_DIAGNOSIS


def _template(member: int, value: bytes) -> bytes:
    return ber.encode(_DYNAMIC_TEMPLATE, ber.encode(member, value)) + status.SUCCESS
