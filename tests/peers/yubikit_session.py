# SPDX-License-Identifier: LGPL-2.1-or-later
"""Personalises and uses a blank PIV card by yubikit, the library of yubikey-manager.

    python3 -m tests.peers.yubikit_session

With the only reader of libpcsclite's; says "done" at the end.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.core.smartcard import ApduError
from yubikit.piv import (
    KEY_TYPE,
    MANAGEMENT_KEY_TYPE,
    OBJECT_ID,
    PIN_POLICY,
    SLOT,
    InvalidPinError,
    PivSession,
)

from tests.key_material import certificate
from tests.peers.desk import PIN, WRONG_PIN
from tests.peers.piv import MANAGEMENT_KEY, PUK

MESSAGE: Final = b"a message worth signing"


def expect(error: type[Exception], action: object, *arguments: object) -> None:
    """The action is refused so."""
    try:
        action(*arguments)  # type: ignore[operator]
    except error:
        return
    raise AssertionError(f"{action} was not refused")


def pins(card: PivSession) -> None:
    """Told, changed, blocked and unblocked."""
    assert card.get_pin_metadata().default_value and card.get_puk_metadata().default_value
    expect(InvalidPinError, card.verify_pin, WRONG_PIN)
    assert card.get_pin_attempts() == 2
    card.change_pin(PIN, "77777777")
    card.change_puk(PUK, "87654321")
    for _ in range(3):
        expect(InvalidPinError, card.verify_pin, WRONG_PIN)
    assert card.get_pin_attempts() == 0
    card.unblock_pin("87654321", PIN)
    card.verify_pin(PIN)


def keys_on_curves(card: PivSession) -> None:
    """Made on the card: signs in 9A, agrees in 9D, and is attested."""
    public = card.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)
    card.verify_pin(PIN)
    signature = card.sign(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256, MESSAGE, hashes.SHA256())
    public.verify(signature, MESSAGE, ec.ECDSA(hashes.SHA256()))
    attested = card.attest_key(SLOT.AUTHENTICATION).public_key()
    assert attested.public_numbers() == public.public_numbers()
    agreeing = card.generate_key(SLOT.KEY_MANAGEMENT, KEY_TYPE.ECCP384)
    peer = ec.generate_private_key(ec.SECP384R1())
    secret = card.calculate_secret(SLOT.KEY_MANAGEMENT, peer.public_key())
    assert secret == peer.exchange(ec.ECDH(), agreeing)
    told = card.get_slot_metadata(SLOT.KEY_MANAGEMENT)
    assert told.key_type == KEY_TYPE.ECCP384 and told.generated


def an_rsa_key(card: PivSession) -> None:
    """Brought along: signs and decrypts; extended length, since the ATR says so."""
    key = rsa.generate_private_key(65537, 2048)
    card.put_key(SLOT.SIGNATURE, key, PIN_POLICY.ALWAYS)
    card.verify_pin(PIN)
    signature = card.sign(
        SLOT.SIGNATURE, KEY_TYPE.RSA2048, MESSAGE, hashes.SHA256(), padding.PKCS1v15()
    )
    key.public_key().verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    expect(
        ApduError, card.sign, SLOT.SIGNATURE, KEY_TYPE.RSA2048, MESSAGE, hashes.SHA256(),
        padding.PKCS1v15(),
    )  # fmt: skip
    card.verify_pin(PIN)
    secret = key.public_key().encrypt(MESSAGE, padding.PKCS1v15())
    assert card.decrypt(SLOT.SIGNATURE, secret, padding.PKCS1v15()) == MESSAGE
    told = card.get_slot_metadata(SLOT.SIGNATURE)
    assert not told.generated and told.pin_policy == PIN_POLICY.ALWAYS
    der = (serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert told.public_key.public_bytes(*der) == key.public_key().public_bytes(*der)
    card.put_certificate(SLOT.SIGNATURE, certificate("ours", key.public_key()))
    assert card.get_certificate(SLOT.SIGNATURE).subject.rfc4514_string() == "CN=ours"
    card.delete_certificate(SLOT.SIGNATURE)
    expect(ApduError, card.get_certificate, SLOT.SIGNATURE)


def main() -> None:
    card = PivSession(ScardSmartCardConnection(readers()[0].createConnection()))
    assert tuple(card.version) == (5, 4, 3)
    pins(card)
    factory = bytes.fromhex(MANAGEMENT_KEY)
    expect(ApduError, card.generate_key, SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)
    card.authenticate(MANAGEMENT_KEY_TYPE.TDES, factory)
    keys_on_curves(card)
    an_rsa_key(card)
    card.put_object(OBJECT_ID.PRINTED, b"\x01\x02printed")
    assert card.get_object(OBJECT_ID.PRINTED) == b"\x01\x02printed"
    new = bytes(range(32))
    card.set_management_key(MANAGEMENT_KEY_TYPE.AES256, new)
    assert card.get_management_key_metadata().key_type == MANAGEMENT_KEY_TYPE.AES256
    expect(ApduError, card.authenticate, MANAGEMENT_KEY_TYPE.AES256, bytes(32))
    card.authenticate(MANAGEMENT_KEY_TYPE.AES256, new)
    card.verify_pin(PIN)
    card.set_pin_attempts(5, 6)
    assert card.get_pin_attempts() == 5
    card.reset()
    assert card.get_management_key_metadata().default_value
    expect(ApduError, card.get_slot_metadata, SLOT.AUTHENTICATION)
    print("done")


if __name__ == "__main__":
    main()
