# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host's end of PIV secure messaging, written from SP 800-73-5 part 2, section 4, alone.

It shares no code with the card: AES, CMAC and elliptic curves are `cryptography`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from tests.unit.card.piv.host import encode, tlv

Transmit = Callable[[bytes], bytes]

#: P1: curve, hash, bytes of a session key, of the nonce, AES' identifier, and the curve's OID.
SUITES: Final = {
    0x27: (ec.SECP256R1(), hashes.SHA256(), 16, 16, 0x09, "2A8648CE3D030107"),
    0x2E: (ec.SECP384R1(), hashes.SHA384(), 32, 24, 0x0D, "2B81040022"),
}


def aes(key: bytes, mode: Any, data: bytes, *, back: bool = False) -> bytes:
    cipher = Cipher(algorithms.AES(key), mode)
    context = cipher.decryptor() if back else cipher.encryptor()
    return context.update(data) + context.finalize()


def mac_of(key: bytes, data: bytes) -> bytes:
    made = CMAC(algorithms.AES(key))
    made.update(data)
    return made.finalize()


def exchange(transmit: Transmit, command: bytes) -> bytes:
    """A short command, in parts of 255 where it is longer; all that GET RESPONSE has."""
    header, data = command[:4], command[4:]
    while len(data) > 255:
        part = bytes((header[0] | 0x10,)) + header[1:] + b"\xff" + data[:255]
        answer = transmit(part)
        if answer != b"\x90\x00":
            return answer
        data = data[255:]
    length = bytes((len(data),)) if data else b""
    answer = transmit(header + length + data + b"\0")
    found = answer[:-2]
    while answer[-2] == 0x61:
        answer = transmit(b"\x00\xc0\x00\x00" + answer[-1:])
        found += answer[:-2]
    return found + answer[-2:]


class SmHost:
    """One end of a session.

    Attributes:
        certificate: the card's CVC.
        mac: SK_MAC.
        encryption: SK_ENC.
        response_mac: SK_RMAC.
    """

    def __init__(
        self,
        transmit: Transmit,
        suite: int,
        key: ec.EllipticCurvePrivateKey | None = None,
        identifier: bytes = b"\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8",
    ) -> None:
        """Establish keys (4.1.1), with a new ephemeral key unless one is given."""
        self.transmit = transmit
        curve, self._hash, size, nonce_size, aes_id, oid = SUITES[suite]
        private = key or ec.generate_private_key(curve)
        point = point_of(private.public_key())
        challenge = encode(0x81, b"\0" + identifier + point) + encode(0x82, b"")
        self.command = bytes((0, 0x87, suite, 0x04)) + encode(0x7C, challenge)
        self.answer = exchange(transmit, self.command)
        assert self.answer[-2:] == b"\x90\x00", self.answer.hex()
        ((_, template),) = tlv(self.answer[:-2])
        ((_, response),) = tlv(template)
        control, nonce = response[0], response[1 : 1 + nonce_size]
        cryptogram = response[1 + nonce_size : 17 + nonce_size]
        self.certificate = response[17 + nonce_size :]
        assert control == 0
        card_point = dict(tlv(dict(self.cvc())[0x7F49]))
        assert card_point[0x06].hex().upper() == oid
        peer = ec.EllipticCurvePublicKey.from_encoded_point(curve, card_point[0x86])
        secret = private.exchange(ec.ECDH(), peer)
        card_id = hashlib.sha256(self.certificate).digest()[:8]
        other = (
            bytes((4,)) + bytes((aes_id,)) * 4
            + bytes((8,)) + identifier
            + bytes((1, 0))
            + bytes((16,)) + point[1:17]
            + bytes((8,)) + card_id
            + bytes((nonce_size,)) + nonce
            + bytes((1, control))
        )  # fmt: skip
        rounds = (4 * size * 8 - 1) // (self._hash.digest_size * 8) + 1
        keys = b"".join(
            hashlib.new(self._hash.name, number.to_bytes(4, "big") + secret + other).digest()
            for number in range(1, rounds + 1)
        )
        confirm, self.mac, self.encryption, self.response_mac = (
            keys[at : at + size] for at in range(0, 4 * size, size)
        )
        assert mac_of(confirm, b"KC_1_V" + card_id + identifier + point[1:]) == cryptogram
        self._counter, self._sent, self._received = 0, bytes(16), bytes(16)

    def cvc(self) -> list[tuple[int, bytes]]:
        """The card's certificate, taken apart."""
        ((tag, value),) = tlv(self.certificate)
        assert tag == 0x7F21
        return tlv(value)

    def verify_certificate(self, signer_object: bytes, guid: bytes) -> None:
        """The path from the X.509 signer in 5FC122 to the card's key (4.1.5)."""
        fields = dict(tlv(signer_object))
        signer = x509.load_der_x509_certificate(fields[0x70])
        identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        above, issuer = signer.public_key(), identifier.value.digest[:8]
        if 0x7F21 in fields:
            between = dict(tlv(fields[0x7F21]))
            assert between[0x42] == issuer and between[0x5F4C] == b"\x12"
            assert isinstance(above, rsa.RSAPublicKey)
            body, signature = signed(encode(0x7F21, fields[0x7F21]))
            above.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
            key = encode(0x7F49, between[0x7F49])
            issuer = hashlib.sha1(key).digest()[:8]
            assert between[0x5F20] == issuer
            point = dict(tlv(between[0x7F49]))[0x86]
            curve = ec.SECP256R1() if len(point) == 65 else ec.SECP384R1()
            above = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        assert isinstance(above, ec.EllipticCurvePublicKey)
        own = dict(self.cvc())
        assert [tag for tag, _ in self.cvc()] == [0x5F29, 0x42, 0x5F20, 0x7F49, 0x5F4C, 0x5F37]
        assert (own[0x5F29], own[0x42], own[0x5F20], own[0x5F4C]) == (
            b"\x80", issuer, guid, b"\0",
        )  # fmt: skip
        body, signature = signed(self.certificate)
        above.verify(signature, body, ec.ECDSA(self._hash))

    # -- commands (4.2) ------------------------------------------------------------------------

    def wrap(self, header: str, data: bytes = b"", *, le: bool = True) -> bytes:
        """The protected command: CLA 0C to P2, then its data."""
        _, ins, p1, p2 = bytes.fromhex(header)
        self._counter += 1
        objects = b""
        if data:
            iv = aes(self.encryption, modes.ECB(), self._counter.to_bytes(16, "big"))
            padded = data + b"\x80" + bytes(-(len(data) + 1) % 16)
            objects = encode(0x87, b"\x01" + aes(self.encryption, modes.CBC(iv), padded))
        if le:
            objects += b"\x97\x01\x00"
        head = bytes((0x0C, ins, p1, p2))
        self._sent = mac_of(self.mac, self._sent + head + b"\x80" + bytes(11) + objects)
        return head + objects + b"\x8e\x08" + self._sent[:8]

    def unwrap(self, answer: bytes) -> tuple[bytes, str]:
        """Data and the inner status word; the MAC must be right."""
        assert answer[-2:] == b"\x90\x00", answer.hex()
        objects = tlv(answer[:-2])
        assert [tag for tag, _ in objects] in ([0x99, 0x8E], [0x87, 0x99, 0x8E])
        protected = answer[: -2 - 10]
        self._received = mac_of(self.response_mac, self._received + protected)
        members = dict(objects)
        assert members[0x8E] == self._received[:8]
        data = b""
        if 0x87 in members:
            assert members[0x87][0] == 1
            counter = b"\x80" + self._counter.to_bytes(15, "big")
            iv = aes(self.encryption, modes.ECB(), counter)
            padded = aes(self.encryption, modes.CBC(iv), members[0x87][1:], back=True)
            data = padded.rstrip(b"\0")
            assert data[-1] == 0x80
            data = data[:-1]
        return data, members[0x99].hex(" ").upper()

    def send(self, header: str, data: bytes = b"", *, le: bool = True) -> tuple[bytes, str]:
        """One command under secure messaging."""
        return self.unwrap(exchange(self.transmit, self.wrap(header, data, le=le)))

    def get(self, tag: str) -> tuple[bytes, str]:
        return self.send("0C CB 3F FF", encode(0x5C, bytes.fromhex(tag)))

    def verify(self, reference: int, value: bytes) -> str:
        return self.send(f"0C 20 00 {reference:02X}", value.ljust(8, b"\xff"), le=False)[1]


def signed(certificate: bytes) -> tuple[bytes, bytes]:
    """What a CVC's signature is of, and the signature."""
    ((_, value),) = tlv(certificate)
    objects = tlv(value)
    assert objects[-1][0] == 0x5F37
    body = b"".join(encode(tag, content) for tag, content in objects[:-1])
    ((_, sequence),) = tlv(objects[-1][1])
    _, (_, bits) = tlv(sequence)
    return body, bits[1:]


def point_of(public: ec.EllipticCurvePublicKey) -> bytes:
    """04, x, y."""
    size = (public.curve.key_size + 7) // 8
    numbers = public.public_numbers()
    return b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
