# SPDX-License-Identifier: LGPL-2.1-or-later
"""The data objects' encodings (SP 800-73-5 part 1, 3 and appendix A), and those made on reading."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import zlib
from typing import Final

from vccid.card.piv.contents import Contents, Issuer
from vccid.card.piv.data_model import (
    AID,
    ATTESTATION_CERTIFICATE,
    CARD_CAPABILITY,
    CERTIFICATES,
    CHUID,
    DISCOVERY,
    KEY_HISTORY,
    MAX_OBJECT,
    OBJECTS,
    PAIRING_CODE,
    SECURITY_OBJECT,
    SM_SIGNER,
)
from vccid.card.piv.fascn import FascN
from vccid.card.piv.references import RETIRED
from vccid.card.piv.signing import CHUID_CONTENT, LDS_CONTENT, lds_security_object, signed_data
from vccid.card.piv.sm_credential import SmCredential
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import ber

_ERROR_DETECTION = 0xFE
_CERTIFICATE, _CERTIFICATE_INFORMATION = 0x70, 0x71
_PLAIN, _GZIP = b"\x00", b"\x01"

#: What a certificate's object holds on every card that is no larger than the standard asks for.
_CERTIFICATE_ROOM: Final = 1856

#: Of the printed information (appendix A, table 14).
_MONTHS: Final = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_NAME_ROOM: Final = 125
_SERIAL_ROOM: Final = 20

#: F0 of the CCC: GSC-IS' RID, a Java card of another manufacturer, and the card's own number.
_CARD_IDENTIFIER: Final = bytes.fromhex("A0 00 00 01 16 FF 02")

#: The security object has room for so many data groups (part 1, 3.1.7).
_MAX_GROUPS: Final = 16

#: Signed on their own, so they need no hash; and what holds the hashes.
_SIGNED: Final = frozenset((CHUID, SECURITY_OBJECT, *CERTIFICATES.values()))


def chuid(guid: bytes, expires: datetime.date, issuer: Issuer) -> bytes:
    """Card Holder Unique Identifier (3.1.2), signed by the issuer."""
    fields = [
        (0x30, FascN().encode()),
        (0x34, guid),
        (0x35, expires.isoformat().replace("-", "").encode()),
    ]
    # Signed is every element but the signature (3.1.2.1), as GSA's tests compute it.
    content = ber.encode_all([*fields, (_ERROR_DETECTION, b"")])
    signature = signed_data(issuer, CHUID_CONTENT, content, detached=True, certificate=True)
    return ber.encode_all([*fields, (0x3E, signature), (_ERROR_DETECTION, b"")])


def card_capability(guid: bytes) -> bytes:
    """Card Capability Container (3.1.1): data model 10, and nothing for other models."""
    fields = [
        (0xF0, _CARD_IDENTIFIER + guid[:14]), (0xF1, b"\x21"), (0xF2, b"\x21"), (0xF3, b""),
        (0xF4, b"\x00"), (0xF5, b"\x10"), (0xF6, b""), (0xF7, b""), (0xFA, b""), (0xFB, b""),
        (0xFC, b""), (0xFD, b""), (_ERROR_DETECTION, b""),
    ]  # fmt: skip
    return ber.encode_all(fields)


def discovery(*, virtual_contact: bool = False) -> bytes:
    """Discovery Object (3.3.2): the application PIN alone; and the virtual contact interface."""
    return ber.encode_all([(0x4F, AID), (0x5F2F, b"\x48\x00" if virtual_contact else b"\x40\x00")])


def with_secure_messaging(objects: dict[int, bytes], held: SmCredential | None) -> dict[int, bytes]:
    """The same objects, and those that go with secure messaging (3.3.7, 3.3.8)."""
    if held is None:
        return objects
    code = ber.encode_all([(0x99, held.pairing_code.encode()), (_ERROR_DETECTION, b"")])
    return {
        **objects,
        DISCOVERY: discovery(virtual_contact=True),
        SM_SIGNER: held.signer,
        PAIRING_CODE: code,
    }


def printed_information(name: str, expires: datetime.date, guid: bytes) -> bytes:
    """Printed Information (3.3.1): what would stand on the plastic of a card of nobody's."""
    month = _MONTHS[expires.month - 1]
    fields = [
        (0x01, name.encode("ascii", "replace")[:_NAME_ROOM]),
        (0x02, b"NONE"),
        (0x04, f"{expires.year:04}{month}{expires.day:02}".encode()),
        (0x05, guid.hex().upper()[:_SERIAL_ROOM].encode()),
        (0x06, b"999900000000001"),  # agency 9999, as in the CHUID: none
        (_ERROR_DETECTION, b""),
    ]
    return ber.encode_all(fields)


def certificate(der: bytes) -> bytes:
    """A certificate's object (appendix A), compressed where it would be too long."""
    stored, information = der, _PLAIN
    if len(der) > _CERTIFICATE_ROOM:
        stored, information = gzip.compress(der, 9, mtime=0), _GZIP
    return ber.encode_all(
        [
            (_CERTIFICATE, stored),
            (_CERTIFICATE_INFORMATION, information),
            (_ERROR_DETECTION, b""),
        ]
    )


def certificate_in(content: bytes) -> bytes | None:
    """The certificate in its object, DER; None where the object holds none."""
    try:
        fields = dict(ber.parse(content))
    except RemoteProtocolError:
        return None
    stored = fields.get(_CERTIFICATE, b"")
    if fields.get(_CERTIFICATE_INFORMATION, _PLAIN)[:1] != _GZIP:
        return stored or None
    try:  # never more than an object's worth, whatever a host has written
        return zlib.decompressobj(wbits=31).decompress(stored, MAX_OBJECT) or None
    except zlib.error:
        return None


def new_objects(guid: bytes, expires: datetime.date, issuer: Issuer) -> dict[int, bytes]:
    """What is on a card before anybody has written to it."""
    return {
        CARD_CAPABILITY: card_capability(guid),
        CHUID: chuid(guid, expires, issuer),
        DISCOVERY: discovery(),
    }


class Objects:
    """A card's objects as they are read: those that say what else is there follow it."""

    def __init__(self) -> None:
        self._security: tuple[Contents, bytes] | None = None

    def read(self, contents: Contents, tag: int) -> bytes | None:
        """The content of an object; None where the card has none."""
        stored = contents.objects.get(tag)
        if stored is not None:
            return stored
        if tag == KEY_HISTORY:
            return _key_history(contents)
        if tag == SECURITY_OBJECT:
            return self._security_object(contents)
        if tag == ATTESTATION_CERTIFICATE:
            return certificate(contents.attester.certificate)
        return None

    def _security_object(self, contents: Contents) -> bytes:
        """A signature is made once for the same contents."""
        if self._security is None or self._security[0] is not contents:
            self._security = (contents, self._sign(contents))
        return self._security[1]

    def _sign(self, contents: Contents) -> bytes:
        """Security Object (3.1.7): every object that is not signed itself, with its hash."""
        unsigned = [tag for tag in OBJECTS if tag not in _SIGNED][: _MAX_GROUPS - 1]
        present = {
            tag: content for tag in (CHUID, *unsigned) if (content := self.read(contents, tag))
        }
        mapping, digests = b"", {}
        for group, (tag, content) in enumerate(present.items(), start=1):
            mapping += bytes((group,)) + OBJECTS[tag].container.to_bytes(2, "big")
            digests[group] = hashlib.sha256(content).digest()
        signature = signed_data(
            contents.issuer,
            LDS_CONTENT,
            lds_security_object(digests),
            detached=False,
            certificate=False,
        )
        return ber.encode_all([(0xBA, mapping), (0xBB, signature), (_ERROR_DETECTION, b"")])


def _key_history(contents: Contents) -> bytes:
    """Key History Object (3.3.3): how many retired certificates are on the card."""
    count = sum(CERTIFICATES[reference] in contents.objects for reference in RETIRED)
    return ber.encode_all([(0xC1, bytes((count,))), (0xC2, b"\x00"), (_ERROR_DETECTION, b"")])
