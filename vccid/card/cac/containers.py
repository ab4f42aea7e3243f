# SPDX-License-Identifier: LGPL-2.1-or-later
"""Applets that hold objects: a T and a V buffer each, and properties (GSC-IS 2.1, 5.3.3, 8.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vccid.card.cac.applet import SELECT_OBJECT, Applet, AppletSession, file_control_information
from vccid.iso7816 import status, tlv
from vccid.iso7816.apdu import INS_SELECT, Command

INS_READ_BUFFER: Final = 0x52
INS_GET_PROPERTIES: Final = 0x56
INS_UPDATE_BUFFER: Final = 0x58

#: Registered application providers: the Department of Defense, and GSC-IS itself.
RID_DOD: Final = bytes.fromhex("A000000079")
RID_GSC: Final = bytes.fromhex("A000000116")

ACA_AID: Final = RID_DOD + b"\x03\x00"

#: Tag 01: family 10 (a Java card's applet), then the applet's version in four bytes.
APPLET_INFORMATION: Final = bytes.fromhex("1002060203")

#: READ BUFFER's first data byte.
T_BUFFER, V_BUFFER = 0x01, 0x02

EMPTY_BUFFER: Final = b"\x00\x00"

# Tags of GET PROPERTIES (5.3.3.4).
_TAG_APPLET_INFORMATION, _TAG_OBJECT_COUNT = 0x01, 0x40
_TAG_OBJECT_ID, _TAG_BUFFER_PROPERTIES, _TAG_PKI_PROPERTIES = 0x41, 0x42, 0x43
_TAG_TV_OBJECT, _TAG_PKI_OBJECT = 0x50, 0x51

#: Seen on real cards, in no standard: 26 in an object; 39 and 3A (the ACA's AID) in the long form.
_UNKNOWN_26: Final = tlv.encode(0x26, b"\x01")
_LONG_FORM: Final = ((0x39, b"\x00"), (0x3A, ACA_AID))

#: What a real card says it keeps for an object, however little is in it: T and V, bytes.
_ALLOCATED: Final = (0x60, 0x60)


@dataclass(frozen=True, slots=True)
class CardObject:
    """One object of an applet.

    Attributes:
        oid: object id, two bytes.
        tags: T buffer, with its two bytes of length.
        values: V buffer, likewise.
        protected: whether the V buffer is read only after the PIN.
    """

    oid: bytes
    tags: bytes = EMPTY_BUFFER
    values: bytes = EMPTY_BUFFER
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Properties:
    """What GET PROPERTIES tells.

    Attributes:
        short: P1 = 01, and 02 for some of them: tag and value, in order.
        long: P1 = 40.
    """

    short: Sequence[tuple[int, bytes]]
    long: Sequence[tuple[int, bytes]]


class ContainerApplet(Applet):
    """An applet with properties and objects, the first of them current once it is selected."""

    def __init__(self, aid: bytes, objects: Sequence[CardObject], properties: Properties) -> None:
        super().__init__(aid, file_control_information(aid), status.INSTRUCTION_NOT_SUPPORTED)
        self.objects = objects
        self._indexes = {item.oid: index for index, item in enumerate(objects)}
        # An applet without objects still has its pair of buffers to read, with nothing in them.
        self._readable = objects or (CardObject(b""),)
        self._all = {
            0x01: tlv.encode_all(properties.short),
            0x40: tlv.encode_all(properties.long),
        }
        # Where a tag comes more than once, the first is told, as libcacard does.
        self._by_tag = {
            tag: tlv.encode(tag, value) for tag, value in reversed(tuple(properties.short))
        }
        self.handlers = {
            INS_SELECT: self.select,
            INS_GET_PROPERTIES: self.get_properties,
            INS_READ_BUFFER: self.read_buffer,
            INS_UPDATE_BUFFER: self.update_buffer,
        }

    def owns(self, command: Command) -> bool:
        return super().owns(command) or (command.ins == INS_SELECT and command.p1 == SELECT_OBJECT)

    def select(self, session: AppletSession, command: Command) -> bytes:
        """SELECT of an object (GSC-IS 2.1, 5.3.3.2); any other is the card's."""
        if command.p1 != SELECT_OBJECT:
            return session.select(command)
        if len(command.data) != 2:
            return status.DATA_INVALID
        index = self._indexes.get(command.data)
        if index is None:
            return status.NOT_FOUND
        session.selection.object_index = index
        return status.SUCCESS

    def read_buffer(self, session: AppletSession, command: Command) -> bytes:
        """READ BUFFER (GSC-IS 2.1, 5.3.3.3): P1 P2 the offset, data the buffer and a count.

        Tags and lengths are free to read, values may want the PIN: so a host learns how much there
        is before it logs in.
        """
        if len(command.data) != 2:
            return status.DATA_INVALID
        kind, count = command.data
        current = self._readable[session.selection.object_index]
        if kind == V_BUFFER:
            if current.protected and not session.pin_status.is_verified:
                return status.SECURITY_STATUS_NOT_SATISFIED
            buffer = current.values
        elif kind == T_BUFFER:
            buffer = current.tags
        else:
            return status.DATA_INVALID
        offset = command.p1 << 8 | command.p2
        if offset > len(buffer):
            return status.INCORRECT_P1_P2
        return buffer[offset : offset + count] + status.SUCCESS

    def update_buffer(self, session: AppletSession, command: Command) -> bytes:
        """UPDATE BUFFER: the issuer's business, through a channel this card does not have."""
        return status.COMMAND_NOT_ALLOWED

    def get_properties(self, session: AppletSession, command: Command) -> bytes:
        """GET PROPERTIES (GSC-IS 2.1, 5.3.3.4)."""
        if command.p2:
            return status.INCORRECT_P1_P2
        if command.p1 == 0x02:
            if not command.data:
                return status.DATA_INVALID
            try:
                told = b"".join([self._by_tag[tag] for tag in command.data])
            except KeyError:
                return status.REFERENCED_DATA_NOT_FOUND
        elif command.p1 in self._all:
            if command.p1 == 0x01 and command.data:
                return status.DATA_INVALID
            told = self._all[command.p1]
        else:
            return status.INCORRECT_P1_P2
        # A host asks with any Le first, and again with the one it is told.
        if command.le > len(told):
            return status.wrong_le(len(told))
        return told + status.SUCCESS


def object_properties(item: CardObject, simple_tlv: bool, sizes: tuple[int, int]) -> bytes:
    """Tags 41 and 42: an object's id, whether it is SIMPLE-TLV, its T and V buffers' sizes."""
    kind = b"\x00" if simple_tlv else b"\x01"
    lengths = b"".join(size.to_bytes(2, "little") for size in sizes)
    return tlv.encode(_TAG_OBJECT_ID, item.oid) + tlv.encode(_TAG_BUFFER_PROPERTIES, kind + lengths)


def tv_properties(objects: Sequence[tuple[CardObject, bytes]]) -> list[tuple[int, bytes]]:
    """The properties of an applet without keys, given each object with its own."""
    return [
        (_TAG_APPLET_INFORMATION, APPLET_INFORMATION),
        (_TAG_OBJECT_COUNT, bytes((len(objects),))),
        *((_TAG_TV_OBJECT, described) for _, described in objects),
    ]


def ccc_properties(item: CardObject) -> Properties:
    """The card capability container's."""
    described = object_properties(item, True, (len(item.tags), len(item.values)))
    short = tv_properties([(item, described)])
    return Properties(short, [*short, *_LONG_FORM])


def pki_properties(item: CardObject, key_bits: int) -> Properties:
    """A PKI applet's: the object with tag 43, and tag 26 in the long form, as real cards do."""
    described = object_properties(item, True, (len(item.tags), len(item.values)))
    # 06: RSA (table 5-6); the length in units of 64 bits; both halves of the key are there.
    described += tlv.encode(_TAG_PKI_PROPERTIES, bytes((0x06, key_bits // 64, 0x01, 0x01)))
    common = [(_TAG_APPLET_INFORMATION, APPLET_INFORMATION), (_TAG_OBJECT_COUNT, b"\x01")]
    return Properties(
        [*common, (_TAG_PKI_OBJECT, described)],
        [*common, (_TAG_PKI_OBJECT, described + _UNKNOWN_26), *_LONG_FORM],
    )


def generic_container(aid: bytes, oids: Sequence[bytes]) -> ContainerApplet:
    """A container that is there and has nothing in it; without object ids, not even objects."""
    objects = [CardObject(oid) for oid in oids]
    described = [(item, _padded(object_properties(item, False, _ALLOCATED))) for item in objects]
    return _tv_container(aid, described)


def data_container(aid: bytes, oid: bytes, data: bytes) -> ContainerApplet:
    """A container of SIMPLE-TLV data, its values behind the PIN; it may be empty.

    Raises:
        RemoteProtocolError: `data` is not SIMPLE-TLV.
        ValueError: it is more than an object holds.
    """
    if not data:
        item = CardObject(oid)
        return _tv_container(aid, [(item, _padded(object_properties(item, True, _ALLOCATED)))])
    tags, values = tlv.buffers(tlv.parse(data))
    item = CardObject(oid, tags, values, protected=True)
    described = _padded(object_properties(item, True, (len(tags), len(values))))
    return _tv_container(aid, [(item, described)])


def _tv_container(aid: bytes, described: Sequence[tuple[CardObject, bytes]]) -> ContainerApplet:
    properties = tv_properties(described)
    return ContainerApplet(aid, [item for item, _ in described], Properties(properties, properties))


def _padded(described: bytes) -> bytes:
    """An object's properties, filled up to 17 bytes: OpenSC passes over objects of other sizes."""
    return described + _UNKNOWN_26 * 2
