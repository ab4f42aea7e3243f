# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card's side of key establishment with key 04 (SP 800-73-5 part 2, 4.1.2)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from vccid.card.piv.cipher_suites import cmac
from vccid.card.piv.commands import CHALLENGE, RESPONSE, Refused, template_members
from vccid.card.piv.session_keys import SessionKeys
from vccid.card.piv.sm_credential import SmCredential
from vccid.iso7816 import ber, status

_DYNAMIC_TEMPLATE: Final = 0x7C

#: Bytes of an identifier of either side, and of the host's key that both sides agree they saw.
_ID_SIZE: Final = 8
_SEEN: Final = 16

#: What is before the identifiers in the data that the card's cryptogram confirms (4.1.7).
_CONFIRMS: Final = b"KC_1_V"
#: CB_ICC: the card asks for nothing.
_CONTROL: Final = b"\0"


def establish(
    card: SmCredential,
    template: bytes,
    random: Callable[[int], bytes] = os.urandom,
) -> tuple[SessionKeys, bytes]:
    """One pass: the keys of a new session, and the answer.

    Args:
        template: of GENERAL AUTHENTICATE.
        random: gives so many random bytes.

    Raises:
        Refused: the template or the host's key is none.
    """
    suite = card.suite
    members = template_members(template)
    if members.keys() != {CHALLENGE, RESPONSE} or members[RESPONSE]:
        raise Refused(status.INCORRECT_DATA)
    control, host_id, host_point = _taken_apart(members[CHALLENGE], suite.point_size)
    secret = _agreed(card, host_point)
    card_id = hashlib.sha256(card.certificate).digest()[:_ID_SIZE]
    nonce, coordinates = random(suite.nonce_size), host_point[1:]
    other_info = (
        _sized(bytes((suite.algorithm_id,)) * 4)
        + _sized(host_id)
        + _sized(control)
        + _sized(coordinates[:_SEEN])
        + _sized(card_id)
        + _sized(nonce)
        + _sized(_CONTROL)
    )
    material, size = suite.derive(secret, other_info), suite.key_size
    confirm, mac, encryption, response_mac = (
        material[start : start + size] for start in range(0, 4 * size, size)
    )
    cryptogram = cmac(confirm, _CONFIRMS + card_id + host_id + coordinates)
    response = ber.encode(RESPONSE, _CONTROL + nonce + cryptogram + card.certificate)
    answer = ber.encode(_DYNAMIC_TEMPLATE, response) + status.SUCCESS
    return SessionKeys(mac, encryption, response_mac), answer


def _taken_apart(challenge: bytes, point_size: int) -> tuple[bytes, bytes, bytes]:
    """CB_H, ID_sH and Q_eH."""
    if len(challenge) != 1 + _ID_SIZE + point_size or challenge[0] & 0xF0:
        raise Refused(status.INCORRECT_DATA)
    return challenge[:1], challenge[1 : 1 + _ID_SIZE], challenge[1 + _ID_SIZE :]


def _agreed(card: SmCredential, host_point: bytes) -> bytes:
    """Z, the x-coordinate both sides come to."""
    if host_point[0] != 0x04:
        raise Refused(status.INCORRECT_DATA)
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(card.suite.curve, host_point)
    except ValueError:
        raise Refused(status.INCORRECT_DATA) from None
    key = load_der_private_key(card.pkcs8, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.exchange(ec.ECDH(), peer)


def _sized(value: bytes) -> bytes:
    return bytes((len(value),)) + value
