# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PKI applet: one certificate, and its private key behind the PIN."""

from __future__ import annotations

import logging
import zlib
from functools import partial
from typing import Any, Final

from vccid.card.cac.applet import AppletSession
from vccid.card.cac.containers import (
    RID_DOD,
    CardObject,
    ContainerApplet,
    pki_properties,
)
from vccid.card.card import Offload
from vccid.card.processors import Answer
from vccid.errors import (
    KeyOperationError,
    KeySourceError,
    KeyUnsuitable,
    LoginLost,
    PrivateKeyMissing,
    TokenGone,
)
from vccid.iso7816 import status, tlv
from vccid.iso7816.apdu import Command
from vccid.keys.base import Credential, RsaPrivateKey
from vccid.keys.libcrypto import rsa_modulus
from vccid.trace.gsc_is import GSC_IS, INS_GET_CERTIFICATE
from vccid.trace.lines import outcome_text

INS_SIGN_DECRYPT: Final = 0x42

MIN_KEY_BITS, MAX_KEY_BITS = 1024, 4096

#: SIGN/DECRYPT's P1.
_LAST_BLOCK, _MORE_BLOCKS = 0x00, 0x80

# Tags of the object (GSC-IS 2.1, appendix D; CAC data model).
_TAG_CERTIFICATE_INFORMATION, _TAG_CERTIFICATE = 0x71, 0x70
_TAG_MSCUID, _TAG_ERROR_DETECTION = 0x72, 0xFE

_PLAIN, _COMPRESSED = b"\x00", b"\x01"

#: The longest certificate that OpenSC's CAC driver reads, in bytes (card-cac.c: CAC_MAX_SIZE - 1).
MOST_FOR_OPENSC: Final = 4095

_TAKES: Final = (
    "a CAC's PKI applet takes RSA keys of 1024 to 4096 bits; --card piv takes EC keys too"
)

_log = logging.getLogger(__name__)


class PkiApplet(ContainerApplet):
    """One certificate with its key."""

    def __init__(
        self, index: int, credential: Credential, offload: Offload[Any], compress: bool
    ) -> None:
        """Make PKI applet `index`, 0 to 9.

        Raises:
            KeyUnsuitable: no certificate of an RSA key of 1024 to 4096 bits, or too large a one.
        """
        key, modulus = _rsa(credential)
        stored = zlib.compress(credential.certificate, 9)
        if not compress and not len(stored) <= MOST_FOR_OPENSC < len(credential.certificate):
            stored = credential.certificate
        information = _PLAIN if stored is credential.certificate else _COMPRESSED
        # Apple's CACNG wants the information before the certificate it is about.
        items = [
            (_TAG_CERTIFICATE_INFORMATION, information),
            (_TAG_CERTIFICATE, stored),
            (_TAG_MSCUID, b""),
            (_TAG_ERROR_DETECTION, b""),
        ]
        try:
            buffers = tlv.buffers(items)
        except ValueError as error:
            raise KeyUnsuitable(
                f"certificate {credential.name} of {len(stored)} bytes is too large for a card",
                "an applet holds 65,534 bytes",
            ) from error
        oid = bytes((0x01, index))
        item = CardObject(oid, *buffers)
        super().__init__(RID_DOD + oid, [item], pki_properties(item, key.size_bits))
        self._name = credential.name
        self._key = key
        self._offload = offload
        self._stored = information + stored
        self._modulus = modulus
        self._size = key.size_bits // 8
        self.handlers |= {
            INS_SIGN_DECRYPT: self.sign_decrypt,
            INS_GET_CERTIFICATE: self.get_certificate,
        }

    def update_buffer(self, session: AppletSession, command: Command) -> bytes:
        """UPDATE BUFFER: the certificate is not written through the card."""
        return status.CONDITIONS_NOT_SATISFIED

    def sign_decrypt(self, session: AppletSession, command: Command) -> Answer:
        """SIGN/DECRYPT (GSC-IS 2.1, 5.3.4): the bare RSA operation, its block in one part or more.

        As libcacard, a wrong P2 leaves the parts collected so far, a wrong P1 does not.
        """
        if command.p2:
            return status.INCORRECT_P1_P2
        selection = session.selection
        block = selection.blocks
        # One byte too many is as wrong as any number, and costs no memory.
        block += command.data[: self._size + 1 - len(block)]
        if command.p1 == _MORE_BLOCKS:
            selection.blocks = block
            return status.SUCCESS
        selection.blocks = b""
        if command.p1 != _LAST_BLOCK:
            return status.INCORRECT_P1_P2
        if not session.pin_status.is_verified:
            # Not libcacard's 6985: on 6982 OpenSC verifies again by itself and repeats the command.
            return status.SECURITY_STATUS_NOT_SATISFIED
        if len(block) != self._size or int.from_bytes(block, "big") >= self._modulus:
            return status.DATA_INVALID
        return (self._operate_at_once if self._key.is_quick else self._operate)(session, block)

    def get_certificate(self, session: AppletSession, command: Command) -> bytes:
        """GET CERTIFICATE of the first CAC: Le bytes, then 63xx while xx more bytes follow.

        libcacard has it no more; programs from before GSC-IS 2.1 know nothing else.
        """
        selection = session.selection
        start = selection.certificate_offset
        end = start + (command.le or 256)
        left = len(self._stored) - end
        selection.certificate_offset = end if left > 0 else 0
        return self._stored[start:end] + (status.more_data(left) if left > 0 else status.SUCCESS)

    def _operate_at_once(self, session: AppletSession, block: bytes) -> bytes:
        try:
            return self._key.raw(block) + status.SUCCESS
        except (KeyOperationError, KeySourceError) as error:
            return self._failed(session, error)

    async def _operate(self, session: AppletSession, block: bytes) -> bytes:
        work = self._offload(partial(self._key.raw, block))
        try:
            result: bytes = await session.lifetime.wait_for(work)
        except (KeyOperationError, KeySourceError) as error:
            return self._failed(session, error)
        return result + status.SUCCESS

    def _answer_to(
        self, session: AppletSession, error: KeyOperationError | KeySourceError
    ) -> bytes:
        if isinstance(error, LoginLost):
            return self._unlockable(session)
        if isinstance(error, KeyOperationError):
            return status.DATA_INVALID
        if isinstance(error, PrivateKeyMissing):
            return status.REFERENCED_DATA_NOT_FOUND
        return (
            status.EXECUTION_ERROR if isinstance(error, TokenGone) else status.NO_PRECISE_DIAGNOSIS
        )

    def _unlockable(self, session: AppletSession) -> bytes:
        """What to answer where the token is locked again: its PIN can be verified, or it is not.

        A card's own PIN unlocks no token; then the card is to be inserted again.
        """
        if session.pin.kind != "token":
            return status.EXECUTION_ERROR
        session.pin_status.fall()
        return status.SECURITY_STATUS_NOT_SATISFIED

    def _failed(self, session: AppletSession, error: KeyOperationError | KeySourceError) -> bytes:
        answer = self._answer_to(session, error)
        _log.error(
            "%s: the key of %s failed: %s; %s",
            outcome_text(INS_SIGN_DECRYPT, answer, GSC_IS),
            self._name,
            error.message,
            error.hint,
            extra={"card": session.serial},
        )
        return answer


def _rsa(credential: Credential) -> tuple[RsaPrivateKey, int]:
    """A credential's key and its certificate's modulus."""
    modulus, key = rsa_modulus(credential.certificate), credential.key
    if modulus is None or not isinstance(key, RsaPrivateKey):
        raise KeyUnsuitable(f"{credential.name} is no certificate of an RSA key", _TAKES)
    bits = key.size_bits
    if modulus.bit_length() != bits:
        raise KeyUnsuitable(
            f"certificate {credential.name} is for a key of {modulus.bit_length()} bits, "
            f"its private key has {bits}",
        )
    if not MIN_KEY_BITS <= bits <= MAX_KEY_BITS or bits % 8:
        raise KeyUnsuitable(f"the RSA key of {credential.name} has {bits} bits", _TAKES)
    return key, modulus
