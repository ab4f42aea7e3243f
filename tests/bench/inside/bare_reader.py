# SPDX-License-Identifier: LGPL-2.1-or-later
"""bare_reader.py: the least a USB reader in Python can do, the floor of vhci's APDU.

It attaches itself to vhci_hcd and answers 9000 to every command, from a loop of blocking recv.
vccid's own modules answer the control transfers. Says "attached"; ends with its first signal.
"""

import socket
import struct

from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import MessageType
from vccid.ccid.interface import Interface
from vccid.ccid.responses import HEADER
from vccid.frontends.usb.vhci_ports import Ports
from vccid.iso7816.atr import T1_ATR
from vccid.usb.descriptors import BULK_OUT as BULK
from vccid.usb.descriptors import Identity, Speed
from vccid.usb.device import Device
from vccid.usb.transfers import Status, Transfer
from vccid.wire.usbip import UrbStatus, reply_submit, reply_unlink

LABEL = "bare"
DEVICE_ID = 0x00010001
CMD_UNLINK = 2
#: command, seqnum, devid, direction, ep, transfer_flags, transfer_buffer_length, setup
URB = struct.Struct(">7I12x8s")

#: bmFindexDindex, bmTCCKST1, bGuardTimeT1, bWaitingIntegersT1, bClockStop, bIFSC, bNadValue
#: (CCID rev 1.1, 6.2.3), and the protocol they are of
T1, T1_PARAMETERS = 1, bytes.fromhex("11 10 00 15 00 FE 00")
#: bMessageType of a command -> of its response, byte 9, data; a card is in and active
ANSWERS: dict[int, tuple[int, int, bytes]] = {
    MessageType.XFR_BLOCK: (MessageType.DATA_BLOCK, 0, b"\x90\x00"),
    MessageType.ICC_POWER_ON: (MessageType.DATA_BLOCK, 0, T1_ATR),
    MessageType.SET_PARAMETERS: (MessageType.PARAMETERS, T1, T1_PARAMETERS),
}
STATUS = (MessageType.SLOT_STATUS, 0, b"")


def answer_to(command: bytes) -> bytes:
    kind, specific, data = ANSWERS.get(command[0], STATUS)
    slot, seq = command[5:7]
    head: bytes = HEADER.pack(kind, len(data), slot, seq, 0, 0, specific)
    return head + data


def serve(kernel: socket.socket, device: Device) -> None:
    answer = b""
    while urbs := kernel.recv(65536):
        at = 0
        while at < len(urbs):
            command, seqnum, _, is_in, endpoint, _, length, setup = URB.unpack_from(urbs, at)
            at += URB.size
            if command == CMD_UNLINK:
                kernel.sendall(reply_unlink(seqnum, UrbStatus.UNLINKED))
            elif endpoint == 0:
                device.submit(Transfer(seqnum, 0, bool(is_in), length, setup=setup))
                (end,) = device.take_completions()
                status = UrbStatus.OK if end.status is Status.DONE else UrbStatus.STALL
                kernel.sendall(reply_submit(seqnum, status, end.length, end.data))
            elif not is_in:
                kernel.sendall(reply_submit(seqnum, UrbStatus.OK, length))
                answer = answer_to(urbs[at : at + length])
                at += length
            elif endpoint == BULK:  # on the interrupt pipe there is never any news
                kernel.sendall(reply_submit(seqnum, UrbStatus.OK, len(answer), answer))


def main() -> None:
    descriptor = ClassDescriptor.for_reader()
    device = Device(Identity("BA4E", LABEL), Interface(descriptor), Speed.FULL)
    ours, kernels = socket.socketpair()
    with kernels:
        Ports().attach(kernels.fileno(), DEVICE_ID, Speed.FULL)
    print("attached", flush=True)
    serve(ours, device)


if __name__ == "__main__":
    main()
