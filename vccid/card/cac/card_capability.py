# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card capability container: who the card is, and where its objects are (GSC-IS 2.1, 7)."""

from __future__ import annotations

from typing import Final

from vccid.card.cac.containers import (
    ACA_AID,
    RID_DOD,
    RID_GSC,
    CardObject,
    ContainerApplet,
    ccc_properties,
)
from vccid.iso7816 import tlv

CCC_AID: Final = RID_GSC + b"\xdb\x00"

#: How many bytes of F0 are the card's own; OpenSC's serial number is all of them. They must differ
#: from card to card: by them OpenSC finds what it keeps of a card's certificates.
CARD_ID_SIZE: Final = 14

_GENERIC, _PKI = 0x01, 0x04

#: Manufacturer, and card type 02: Java.
_MANUFACTURER, _JAVA_CARD = b"\x03", b"\x02"

#: (RID, object id, last two bytes of the AID) of what every card has, in libcacard's order.
_CONTAINERS: Final = (
    (RID_DOD, b"\x02\xfb", b"\x02\xfb"),
    (RID_DOD, b"\x02\xfe", b"\x02\xfe"),
    (RID_DOD, b"\x02\xfd", b"\x02\xfd"),
    (RID_DOD, b"\x02\x00", b"\x02\x00"),
    (RID_DOD, b"\x02\x01", b"\x02\x01"),
    (RID_GSC, b"\x30\x00", b"\x30\x00"),
    (RID_GSC, b"\x60\x10", b"\x30\x00"),
    (RID_GSC, b"\x60\x30", b"\x30\x00"),
    (RID_GSC, b"\x90\x00", b"\x30\x00"),
    (RID_DOD, b"\x12\x01", b"\x12\x01"),
    (RID_DOD, b"\x12\x02", b"\x12\x02"),
)


def card_url(rid: bytes, kind: int, oid: bytes, aid_tail: bytes) -> bytes:
    """A card URL (7.3), 16 bytes; access profile and key information are empty on such cards."""
    return rid + bytes((kind,)) + oid + aid_tail + bytes(6)


def ccc_applet(card_id: bytes, pki_count: int) -> ContainerApplet:
    """The container of a card with so many PKI applets.

    Args:
        card_id: `CARD_ID_SIZE` bytes no other card has.
        pki_count: 1 to 10.
    """
    urls = [card_url(rid, _GENERIC, oid, aid_tail) for rid, oid, aid_tail in _CONTAINERS]
    for index in range(pki_count):
        pki = bytes((0x01, index))
        urls.append(card_url(RID_DOD, _PKI, pki, pki))
    items = [
        (0xF0, RID_DOD + _MANUFACTURER + _JAVA_CARD + card_id),
        (0xF1, b"\x21"),  # capability container version
        (0xF2, b"\x21"),  # capability grammar version
        *((0xF3, url) for url in urls),
        (0xF4, b"\x00"),  # PKCS#15
        (0xF5, b"\x10"),  # registered data model
        (0xF6, b"\x07" + ACA_AID + bytes(9)),  # access control rule table
        # A value in any of these, and OpenSC fails at the empty FD.
        *((tag, b"") for tag in (0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE)),
    ]
    item = CardObject(CCC_AID[-2:], *tlv.buffers(items))
    return ContainerApplet(CCC_AID, [item], ccc_properties(item))
