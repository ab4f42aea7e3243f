# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Common Access Card: its applets put together (GSC-IS 2.1, virtual machine card edge)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

from vccid.card.cac.access_control import AccessControlApplet
from vccid.card.cac.applet import Applet, AppletSession, Handler, NoApplet
from vccid.card.cac.card_capability import CARD_ID_SIZE, ccc_applet
from vccid.card.cac.card_manager import CPLC_SERIAL_SIZE, card_manager, microsoft_applet
from vccid.card.cac.containers import RID_DOD, RID_GSC, data_container, generic_container
from vccid.card.cac.pin_instructions import change_reference_data, get_challenge, verify
from vccid.card.cac.pki import PkiApplet
from vccid.card.card import Card, CardInfo, Offload
from vccid.card.line_ups import as_libcacard
from vccid.card.pin import Pin
from vccid.card.processors import Process
from vccid.card.session import CardSession, Lifetime
from vccid.iso7816.apdu import (
    INS_CHANGE_REFERENCE_DATA,
    INS_GET_CHALLENGE,
    INS_SELECT,
    INS_VERIFY,
)
from vccid.iso7816.atr import LIBCACARD_ATR
from vccid.keys.base import Credential
from vccid.keys.x509_reading import read_certificate
from vccid.trace.gsc_is import INS_GET_CERTIFICATE

#: As many PKI applets as libcacard makes; OpenSC looks for 16.
MAX_CREDENTIALS: Final = 10

#: What every applet has, and what is there with none selected.
_CARD_HANDLERS: Final[Mapping[int, Handler]] = {
    INS_SELECT: AppletSession.select,
    INS_VERIFY: verify,
    INS_CHANGE_REFERENCE_DATA: change_reference_data,
    INS_GET_CHALLENGE: get_challenge,
}

#: Containers that are there and have nothing in them: last two bytes of the AID, object ids.
_EMPTY_CONTAINERS: Final = (
    (RID_DOD + b"\x02\xf0", ()),
    (RID_DOD + b"\x02\xf1", ()),
    (RID_DOD + b"\x02\xf2", ()),
    (RID_DOD + b"\x02\xfb", (b"\x02\xfb",)),
    (RID_DOD + b"\x02\xfe", (b"\x02\xfe",)),
    (RID_DOD + b"\x02\xfd", (b"\x02\xfd",)),
    (RID_DOD + b"\x12\x01", (b"\x12\x01",)),
    (RID_DOD + b"\x12\x02", (b"\x12\x02",)),
    # The access control file: CHUID, fingerprints, facial image, security object.
    (RID_GSC + b"\x30\x00", (b"\x30\x00", b"\x60\x10", b"\x60\x30", b"\x90\x00")),
)
_PERSON_INSTANCE, _PERSONNEL = b"\x02\x00", b"\x02\x01"


def card_serial(certificates: Sequence[bytes]) -> str:
    """The serial number of the card with these certificates (DER), 28 hexadecimal digits.

    Other certificates, or others in order, make another card: caches never mix two up. OpenSC
    shows the same number, PKCS#11 its last 16 digits.
    """
    digest = hashlib.sha256()
    for certificate in certificates:
        digest.update(certificate)
    return digest.digest()[:CARD_ID_SIZE].hex()


class CacCard(Card):
    """A Common Access Card made of certificates and their keys.

    Attributes:
        pin: its PIN, shared by all its sessions.
        serial: its serial number, see `card_serial`.
    """

    def __init__(
        self,
        credentials: Sequence[Credential],
        pin: Pin,
        offload: Offload[Any],
        atr: bytes = LIBCACARD_ATR,
        *,
        compress: bool = False,
        person_instance: bytes = b"",
        personnel: bytes = b"",
    ) -> None:
        """Put a card together.

        Args:
            credentials: 1 to `MAX_CREDENTIALS`; the first three are ID, signature, encryption.
            pin: opened with the `card_serial` of the same certificates.
            offload: runs the keys' operations.
            atr: answer to reset.
            compress: keep certificates compressed by zlib, which CoolKey 1.1.0 insists on.
            person_instance: SIMPLE-TLV data of the Person Instance container.
            personnel: the same of the Personnel container.

        Raises:
            KeyUnsuitable: no certificate of an RSA key of 1024 to 4096 bits, or too large a one.
            RemoteProtocolError: container data that is no SIMPLE-TLV.
            ValueError: too few or too many credentials.
        """
        if not 1 <= len(credentials) <= MAX_CREDENTIALS:
            raise ValueError(f"a card holds 1 to {MAX_CREDENTIALS} certificates")
        self.pin = pin
        self.serial = card_serial([item.certificate for item in credentials])
        self._atr = atr
        self._credentials = tuple(credentials)
        identity = bytes.fromhex(self.serial)
        applets: list[Applet] = [
            *(PkiApplet(i, item, offload, compress) for i, item in enumerate(credentials)),
            AccessControlApplet(len(credentials)),
            ccc_applet(identity, len(credentials)),
            *(generic_container(aid, oids) for aid, oids in _EMPTY_CONTAINERS),
            data_container(RID_DOD + _PERSON_INSTANCE, _PERSON_INSTANCE, person_instance),
            data_container(RID_DOD + _PERSONNEL, _PERSONNEL, personnel),
            card_manager(identity[-CPLC_SERIAL_SIZE:]),
            microsoft_applet(),
        ]
        self._no_applet = NoApplet()
        for applet in (self._no_applet, *applets):
            applet.complete(_CARD_HANDLERS)
        self._applets = {applet.aid: applet for applet in applets}
        self._label = _common_name(credentials[0])

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(
            kind="cac",
            serial=self.serial,
            label=self._label,
            certificates=tuple(item.certificate for item in self._credentials),
            names=tuple(item.name for item in self._credentials),
            tries_left=self.pin.tries_left,
            pin_kind=self.pin.kind,
        )

    @property
    def names(self) -> Set[bytes]:
        """The AIDs of its applets."""
        return self._applets.keys()

    async def connect(self) -> CardSession:
        lifetime = Lifetime()
        return CardSession(self._atr, self.row(lifetime), lifetime)

    def row(self, lifetime: Lifetime) -> Process:
        """A session's processors, nothing selected."""
        applets = AppletSession(self.pin, self.serial, self._applets, self._no_applet, lifetime)
        return as_libcacard(
            applets.process,
            owns=applets.owns,
            untouched=(INS_GET_CERTIFICATE,),
        )


def _common_name(credential: Credential) -> str:
    reading = read_certificate(credential.certificate)
    return reading.common_name if reading is not None and reading.common_name else credential.name
