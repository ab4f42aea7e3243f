# SPDX-License-Identifier: LGPL-2.1-or-later
"""The device as a host asks it (USB 2.0, 9.4): setup bytes in, data or a stall out."""

from __future__ import annotations

import pytest

from tests.unit.ccid.host import T0_ATR, message
from vccid.ccid.actions import Noticed, PowerOn
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.interface import Interface
from vccid.usb.descriptors import Identity, Speed
from vccid.usb.device import Device
from vccid.usb.transfers import Completion, Status, Transfer

SET_CONFIGURATION = "0009010000000000"
IDENTITY = Identity(serial="5F3A", label="office")


class Port:
    """A device and the host's end of its cable."""

    def __init__(self, speed: Speed = Speed.FULL, slots: int = 1, max_message: int = 65554) -> None:
        descriptor = ClassDescriptor.for_reader(slots, max_message=max_message)
        self.interface = Interface(descriptor)
        self.device = Device(IDENTITY, self.interface, speed)
        self.next_id = 0

    def submit(
        self, endpoint: int, is_in: bool, length: int, data: bytes = b"", setup: str = ""
    ) -> int:
        self.next_id += 1
        self.device.submit(
            Transfer(self.next_id, endpoint, is_in, length, data, bytes.fromhex(setup))
        )
        return self.next_id

    def completions(self) -> list[Completion]:
        return self.device.take_completions()

    def control(self, setup: str, data: bytes = b"") -> bytes | None:
        """The data stage, or None for a stall."""
        raw = bytes.fromhex(setup)
        length = int.from_bytes(raw[6:8], "little")
        self.submit(0, bool(raw[0] & 0x80), length, data, setup)
        (completion,) = self.completions()
        return completion.data if completion.status is Status.DONE else None

    def configure(self) -> Port:
        assert self.control(SET_CONFIGURATION) == b""
        return self

    def out(self, data: bytes) -> list[Completion]:
        self.submit(1, False, len(data), data)
        return self.completions()

    def bulk_in(self, length: int = 65556) -> list[Completion]:
        self.submit(1, True, length)
        return self.completions()


STATUS = message(0x65, 0, 1)
EMPTY_SLOT = bytes.fromhex("81" "00000000" "00" "01" "02" "00" "01")


def test_device_descriptor() -> None:
    assert (
        Port().control("8006000100001200")
        == bytes.fromhex(
            "12"  # bLength
            "01"  # bDescriptorType
            "0002"  # bcdUSB 2.00
            "00"  # bDeviceClass: in the interface
            "00"  # bDeviceSubClass
            "00"  # bDeviceProtocol
            "40"  # bMaxPacketSize0
            "0F0E"  # idVendor
            "0400"  # idProduct
            "0001"  # bcdDevice 1.00
            "01"  # iManufacturer
            "02"  # iProduct
            "03"  # iSerialNumber
            "01"  # bNumConfigurations
        )
    )


def test_configuration_descriptor() -> None:
    raw = Port().control("800600020000FF00")
    assert raw == bytes.fromhex(
        "09" "02"  # bLength, configuration
        "5D00"  # wTotalLength: 93
        "01"  # bNumInterfaces
        "01"  # bConfigurationValue
        "00"  # iConfiguration
        "80"  # bmAttributes: bus-powered
        "32"  # bMaxPower: 100 mA
        "09" "04" "00" "00" "03" "0B" "00" "00" "04"  # interface: smart card, 3 endpoints
    ) + ClassDescriptor.for_reader().serialize() + bytes.fromhex(
        "07" "05" "01" "02" "4000" "00"  # bulk OUT 1
        "07" "05" "81" "02" "4000" "00"  # bulk IN 1
        "07" "05" "82" "03" "0800" "10"  # interrupt IN 2, every 16 ms
    )  # fmt: skip


def test_high_speed() -> None:
    port = Port(Speed.HIGH)
    raw = port.control("800600020000FF00")
    assert raw is not None
    assert raw[72:] == bytes.fromhex(
        "07"
        "05"
        "01"
        "02"
        "0002"
        "00"
        "07"
        "05"
        "81"
        "02"
        "0002"
        "00"
        "07"
        "05"
        "82"
        "03"
        "0800"
        "08"
    )
    assert port.control("8006000600000A00") == bytes.fromhex(
        "0A" "06" "0002" "00" "00" "00" "40" "01" "00"
    )
    other = port.control("800600070000FF00")
    full = Port().control("800600020000FF00")
    assert other is not None
    assert full is not None
    assert other[1] == 7
    assert other[2:] == full[2:]


def test_super_speed_bos() -> None:
    port = Port(Speed.SUPER)
    device = port.control("8006000100001200")
    assert device is not None
    assert device[2:4] == bytes.fromhex("0003")
    assert device[7] == 9
    assert (
        port.control("8006000F0000FF00")
        == bytes.fromhex(
            "05"
            "0F"
            "1600"
            "02"  # BOS, 22 bytes, two capabilities
            "07"
            "10"
            "02"
            "02000000"  # USB 2.0 extension: LPM
            "0A"
            "10"
            "03"
            "00"
            "0E00"
            "01"
            "00"
            "0000"  # SuperSpeed: full, high and super
        )
    )


def test_super_speed_companions() -> None:
    port = Port(Speed.SUPER)
    raw = port.control("800600020000FF00")
    assert raw is not None
    assert len(raw) == int.from_bytes(raw[2:4], "little") == 93 + 3 * 6
    assert raw[72:] == bytes.fromhex(
        "07"
        "05"
        "01"
        "02"
        "0004"
        "00"
        "06"
        "30"
        "00"
        "00"
        "0000"
        "07"
        "05"
        "81"
        "02"
        "0004"
        "00"
        "06"
        "30"
        "00"
        "00"
        "0000"
        "07"
        "05"
        "82"
        "03"
        "0800"
        "08"
        "06"
        "30"
        "00"
        "00"
        "0800"
    )


def test_super_speed_requests() -> None:
    port = Port(Speed.SUPER)
    assert port.control("003000000000" "0600", bytes(6)) == b""
    assert port.control("003128000000" "0000") == b""
    port.configure()
    assert port.control("0003300000000000") == b""
    assert port.control("8000000000000200") == b"\x04\x00"
    assert port.control("0001300000000000") == b""
    assert port.control("8000000000000200") == b"\x00\x00"
    assert port.control("0103000000000000") == b""


@pytest.mark.parametrize(
    ("setup", "answer"),
    [
        ("800600030000FF00", bytes.fromhex("04030904")),
        ("800601030904FF00", b"\x0c\x03" + "vccid".encode("utf-16-le")),
        ("800603030904FF00", b"\x0a\x03" + "5F3A".encode("utf-16-le")),
        ("800604030904FF00", b"\x0e\x03" + "office".encode("utf-16-le")),
        ("8006040309040200", b"\x0e\x03"),
        ("8006000100000800", bytes.fromhex("1201000200000040")),
        ("8000000000000200", b"\0\0"),
        ("8100000000000200", b"\0\0"),
        ("8200000081000200", b"\0\0"),
        ("8200000000000200", b"\0\0"),
        ("8008000000000100", b"\x01"),
        ("810A000000000100", b"\x00"),
        ("010B000000000000", b""),
        ("0201000082000000", b""),
        ("A102000000000400", bytes.fromhex("A00F0000")),
        ("A103000000000400", bytes.fromhex("002A0000")),
        ("2101000700000000", b""),
    ],
)
def test_requests(setup: str, answer: bytes) -> None:
    assert Port().configure().control(setup) == answer


@pytest.mark.parametrize(
    "setup",
    [
        "800600030904FF00"[:4] + "050309" + "04FF00",  # no such string
        "8006EE0300001200",  # Microsoft OS descriptors
        "8006020307040000",  # no such language
        "8006000600000A00",  # qualifier at full speed
        "800600070000FF00",
        "8006000F00000500",  # BOS
        "800601010000" "1200",  # a second device descriptor
        "0007000100000000",  # SET_DESCRIPTOR
        "0009020000000000",  # no such configuration
        "010B010000000000",  # no such alternate setting
        "010B000001000000",  # no such interface
        "8100000001000200",
        "8200000083000200",  # no such endpoint
        "0201000083000000",
        "0203000003000000",
        "0201010081000000",  # no such endpoint feature
        "0003010000000000",  # remote wake-up
        "0003020000000100",  # test mode
        "0003300000000000",  # U1 at full speed
        "0103000000000000",
        "0030000000000600",
        "820C000081000200",  # SYNCH_FRAME
        "2101010700000000",  # ABORT for a slot there is not
        "A102000001000400",
        "A1FF000000000400",
        "C0010000" "04001000",  # vendor
    ],
)
def test_refused_requests(setup: str) -> None:
    assert Port().configure().control(setup) is None


@pytest.mark.parametrize("setup", ["8100000000000200", "8200000081000200", "A103000000000400"])
def test_nothing_of_the_interface_before_it_is_configured(setup: str) -> None:
    port = Port()
    assert port.control(setup) is None
    assert port.control("8008000000000100") == b"\x00"
    assert [c.status for c in port.out(STATUS)] == [Status.STALL]


def test_a_command_and_its_response() -> None:
    port = Port().configure()
    (sent,) = port.out(STATUS)
    assert (sent.status, sent.length, sent.data) == (Status.DONE, 10, b"")
    (answer,) = port.bulk_in(10)
    assert (answer.status, answer.length, answer.data) == (Status.DONE, 10, EMPTY_SLOT)


def test_a_waiting_in_transfer_is_answered_when_there_is_something() -> None:
    port = Port().configure()
    assert port.bulk_in() == []
    assert [c.data for c in port.out(STATUS)] == [b"", EMPTY_SLOT]


def test_never_more_than_asked_for() -> None:
    port = Port().configure()
    port.out(STATUS)
    (short,) = port.bulk_in(9)
    assert (short.status, short.length, short.data) == (Status.OVERFLOW, 0, b"")
    port.out(STATUS)
    assert [c.data for c in port.bulk_in()] == [EMPTY_SLOT]


def powered(max_message: int = 65554, slots: int = 1) -> Port:
    port = Port(max_message=max_message, slots=slots).configure()
    port.interface.slots[0].insert(1)
    port.out(message(0x62, 0, 1))
    (action,) = port.interface.take_actions()
    assert isinstance(action, PowerOn)
    port.interface.slots[0].powered(action.work, T0_ATR)
    assert [c.data[10:] for c in port.bulk_in()] == [T0_ATR]
    port.interface.take_actions()
    return port


def test_a_response_that_did_not_fit_shows_nothing() -> None:
    port = Port().configure()
    port.interface.slots[0].insert(1)
    port.out(STATUS)
    assert [c.status for c in port.bulk_in(9)] == [Status.OVERFLOW]
    assert port.interface.take_actions() == []
    port.out(STATUS)
    port.bulk_in(10)
    assert port.interface.take_actions() == [Noticed(0, 1)]


def answer(port: Port, response: bytes) -> None:
    port.out(message(0x6F, 0, 2, data=b"apdu"))
    work = port.interface.take_actions()[-1].work  # type: ignore[union-attr]
    port.interface.slots[0].answered(work, response)
    port.device.pump()


def test_a_message_in_pieces_of_whole_packets() -> None:
    port = powered()
    answer(port, bytes(150))
    assert [c.length for c in port.bulk_in(64)] == [64]
    assert [c.length for c in port.bulk_in(64)] == [64]
    assert [c.length for c in port.bulk_in(64)] == [32]
    assert port.bulk_in(64) == []


def test_a_message_that_ends_with_a_full_packet_is_closed_by_an_empty_one() -> None:
    port = powered()
    answer(port, bytes(118))
    assert [c.length for c in port.bulk_in(64)] == [64]
    assert [c.length for c in port.bulk_in(64)] == [64]
    assert [c.length for c in port.bulk_in(64)] == [0]
    answer(port, bytes(118))
    assert [c.length for c in port.bulk_in(128)] == [128]
    # A host that goes on with its next command had no need of it.
    answer(port, b"\x90\x00")
    assert [c.length for c in port.bulk_in()] == [12]


def test_a_command_to_another_slot_leaves_the_empty_packet_due() -> None:
    port = powered(slots=2)
    answer(port, bytes(118))
    assert [c.length for c in port.bulk_in(64)] == [64]
    port.out(message(0x65, 1, 3))
    assert [c.length for c in port.bulk_in(64)] == [64]
    port.out(message(0x65, 1, 4))
    assert [c.length for c in port.bulk_in(64)] == [0]
    assert [c.data[5:7].hex() for c in port.bulk_in(64) + port.bulk_in(64)] == ["0103", "0104"]


def test_the_rest_of_a_command_leaves_the_empty_packet_due() -> None:
    port = powered(slots=2)
    answer(port, bytes(118))
    raw = message(0x6F, 1, 3, data=bytes(118))
    port.out(raw[:64])
    assert [c.length for c in port.bulk_in(128)] == [128]
    port.out(raw[64:])
    assert [c.length for c in port.bulk_in(64)] == [0]


def test_sixty_four_kibibytes_both_ways() -> None:
    port = powered()
    raw = message(0x6F, 0, 2, data=bytes(65544))
    for at in range(0, len(raw), 16384):
        assert [c.length for c in port.out(raw[at : at + 16384])] == [len(raw[at : at + 16384])]
    action = port.interface.take_actions()[-1]
    port.interface.slots[0].answered(action.work, bytes(65538))  # type: ignore[union-attr]
    assert [c.length for c in port.bulk_in()] == [65548]


def test_interrupt_waits_for_a_change_and_survives_cancellation() -> None:
    port = Port().configure()
    first = port.submit(2, True, 8)
    assert port.device.listening
    assert port.device.cancel(first)
    assert not port.device.cancel(first)
    port.interface.slots[0].insert(1)
    port.device.pump()
    assert port.completions() == []
    port.submit(2, True, 8)
    (told,) = port.completions()
    assert (told.data, told.length) == (b"\x50\x03", 2)
    port.submit(2, True, 8)
    assert port.completions() == []
    assert port.device.pending == 1


def test_an_event_too_long_for_its_transfer_is_kept() -> None:
    port = Port().configure()
    port.interface.slots[0].insert(1)
    port.submit(2, True, 1)
    assert [(c.status, c.length) for c in port.completions()] == [(Status.OVERFLOW, 0)]
    port.submit(2, True, 8)
    assert [c.data for c in port.completions()] == [b"\x50\x03"]


def test_halt_and_its_clearing() -> None:
    port = Port().configure()
    waiting = port.submit(1, True, 10)
    port.submit(0, False, 0, setup="0203000081000000")
    assert [(c.transfer.id, c.status) for c in port.completions()] == [
        (waiting + 1, Status.DONE),
        (waiting, Status.STALL),
    ]
    port.control("0201000081000000")
    port.control("0203000001000000")
    assert [c.status for c in port.out(STATUS)] == [Status.STALL]
    assert port.control("8200000001000200") == b"\x01\x00"
    port.control("0201000001000000")
    assert port.control("8200000001000200") == b"\x00\x00"
    assert [c.status for c in port.out(STATUS)] == [Status.DONE]


def test_a_command_of_less_than_a_header_halts_the_pipe() -> None:
    port = Port().configure()
    assert [(c.status, c.length) for c in port.out(b"\x65\0\0")] == [(Status.STALL, 0)]
    assert [c.status for c in port.out(STATUS)] == [Status.STALL]
    port.control("0201000001000000")
    port.out(STATUS)
    assert [c.data for c in port.bulk_in(10)] == [EMPTY_SLOT]


@pytest.mark.parametrize(("endpoint", "is_in"), [(2, False), (3, True), (3, False), (15, True)])
def test_no_such_endpoint(endpoint: int, is_in: bool) -> None:
    port = Port().configure()
    port.submit(endpoint, is_in, 8)
    assert [c.status for c in port.completions()] == [Status.STALL]


def test_the_command_pipe_waits_while_nobody_fetches() -> None:
    port = Port().configure()
    for _ in range(32):
        assert len(port.out(STATUS)) == 1
    assert port.out(STATUS) == []
    assert [c.transfer.is_in for c in port.bulk_in(10)] == [True, False]


def test_set_configuration_is_a_reset() -> None:
    port = powered()
    answer(port, bytes(118))
    port.bulk_in(64)
    port.configure()
    port.interface.take_actions()
    port.out(STATUS)
    assert [c.data[7] for c in port.bulk_in()] == [0x01]
    port.submit(2, True, 8)
    assert [c.data for c in port.completions()] == [b"\x50\x03"]


def test_unplugged() -> None:
    port = Port().configure()
    port.submit(2, True, 8)
    port.device.reset()
    assert port.device.pending == 0
    assert not port.device.configured
