# SPDX-License-Identifier: LGPL-2.1-or-later
"""FUSE messages of a CUSE channel against linux/fuse.h, one field a line."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import LocalProtocolError, RemoteProtocolError
from vccid.wire import fuse


def u16(value: int) -> bytes:
    return struct.pack("=H", value)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def request(opcode: int, *body: bytes) -> bytes:
    """A request of process 812, user 1000, group 100, with unique 6."""
    size = 40 + sum(map(len, body))
    return b"".join(
        (
            u32(size),  # len
            u32(opcode),
            u64(6),  # unique
            u64(0),  # nodeid
            u32(1000),  # uid
            u32(100),  # gid
            u32(812),  # pid
            u16(0),  # total_extlen
            u16(0),  # padding
            *body,
        )
    )


def answer(unique: int, *body: bytes, error: int = 0) -> bytes:
    size = 16 + sum(map(len, body))
    return b"".join((u32(size), struct.pack("=i", error), u64(unique), *body))


INIT = request(
    4096,
    u32(7),  # major
    u32(41),  # minor
    u32(0),  # unused
    u32(1),  # flags: CUSE_UNRESTRICTED_IOCTL
)
OPEN = request(
    14,
    u32(0o4002),  # flags: O_RDWR, O_NONBLOCK
    u32(0),  # open_flags
)
READ = request(
    15,
    u64(3),  # fh
    u64(0),  # offset
    u32(65_538),  # size
    u32(0),  # read_flags
    u64(0),  # lock_owner
    u32(0o2),  # flags: O_RDWR
    u32(0),  # padding
)
WRITE = request(
    16,
    u64(3),  # fh
    u64(0),  # offset
    u32(5),  # size
    u32(0),  # write_flags
    u64(0),  # lock_owner
    u32(0o4002),  # flags
    u32(0),  # padding
    bytes.fromhex("00A4040000"),
)
RELEASE = request(
    18,
    u64(3),  # fh
    u32(0o2),  # flags
    u32(0),  # release_flags
    u64(0),  # lock_owner
)
INTERRUPT = request(
    36,
    u64(4),  # unique of the victim
)
IOCTL = request(
    39,
    u64(3),  # fh
    u32(0),  # flags
    u32(0x4004_5601),  # cmd
    u64(0x7FFE_0000_1000),  # arg
    u32(4),  # in_size
    u32(33),  # out_size
    bytes.fromhex("01020304"),
)
POLL = request(
    40,
    u64(3),  # fh
    u64(9),  # kh
    u32(1),  # flags: FUSE_POLL_SCHEDULE_NOTIFY
    u32(0x41),  # events: POLLIN, POLLRDNORM
)

REQUESTS = {
    INIT: fuse.Init(6, 7, 41, 1),
    OPEN: fuse.Open(6, 1000, 100, 812, 0o4002),
    READ: fuse.Read(6, 3, 65_538, 0o2),
    WRITE: fuse.Write(6, 3, 0o4002, bytes.fromhex("00A4040000")),
    RELEASE: fuse.Release(6, 3),
    INTERRUPT: fuse.Interrupt(6, 4),
    IOCTL: fuse.Ioctl(6, 3, 0, 0x4004_5601, 0x7FFE_0000_1000, 33, bytes.fromhex("01020304")),
    POLL: fuse.Poll(6, 3, 9, True, 0x41),
}


@pytest.mark.parametrize("raw", REQUESTS)
def test_a_request(raw: bytes) -> None:
    assert fuse.parse(raw) == REQUESTS[raw]
    assert fuse.parse(memoryview(raw)) == REQUESTS[raw]


@pytest.mark.parametrize("raw", REQUESTS)
def test_a_request_that_ends_early(raw: bytes) -> None:
    for end in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            fuse.parse(raw[:end])
        with pytest.raises(RemoteProtocolError):
            fuse.parse(u32(end) + raw[4:end])


@pytest.mark.parametrize("raw", REQUESTS)
def test_a_request_with_more_behind(raw: bytes) -> None:
    for more in (b"\0", raw):
        with pytest.raises(RemoteProtocolError):
            fuse.parse(raw + more)
        with pytest.raises(RemoteProtocolError):
            fuse.parse(u32(len(raw + more)) + raw[4:] + more)


def test_other_requests_are_named() -> None:
    assert fuse.parse(request(26)) == fuse.Unknown(6, 26)
    assert fuse.parse(request(9999, b"anything")) == fuse.Unknown(6, 9999)


def test_a_poll_that_wants_no_notice() -> None:
    quiet = request(40, u64(3), u64(9), u32(0), u32(1))
    assert fuse.parse(quiet) == fuse.Poll(6, 3, 9, False, 1)


def test_what_may_be_a_pin_is_not_shown() -> None:
    for raw in (WRITE, IOCTL):
        assert "data" not in repr(fuse.parse(raw))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        fuse.parse(u32(len(raw)) + raw[4:])


def test_init() -> None:
    assert fuse.reply_init(fuse.Init(2, 7, 41, 1), "vccid!office") == answer(
        2,
        u32(7),  # major
        u32(31),  # minor
        u32(0),  # unused
        u32(0),  # flags
        u32(131_072),  # max_read
        u32(131_072),  # max_write
        u32(0),  # dev_major
        u32(0),  # dev_minor
        bytes(40),  # spare
        b"DEVNAME=vccid!office\0",
    )


def test_init_as_older_kernels_and_other_devices_want_it() -> None:
    raw = fuse.reply_init(fuse.Init(2, 7, 23, 1), "a", unrestricted=True, number=(240, 7))
    assert raw == answer(
        2,
        u32(7),  # major
        u32(23),  # minor
        u32(0),  # unused
        u32(1),  # flags: CUSE_UNRESTRICTED_IOCTL
        u32(131_072),  # max_read
        u32(131_072),  # max_write
        u32(240),  # dev_major
        u32(7),  # dev_minor
        bytes(40),  # spare
        b"DEVNAME=a\0",
    )


@pytest.mark.parametrize(("major", "minor"), [(7, 15), (8, 0), (6, 99)])
def test_another_protocol(major: int, minor: int) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"{major}\.{minor}"):
        fuse.reply_init(fuse.Init(2, major, minor, 1), "a")


@pytest.mark.parametrize("name", ["", "a\0b", "a" * 4096])
def test_no_such_device_name(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        fuse.reply_init(fuse.Init(2, 7, 41, 1), name)


def test_answers() -> None:
    assert fuse.reply_open(6, 3) == answer(
        6,
        u64(3),  # fh
        u32(4),  # open_flags: FOPEN_NONSEEKABLE
        u32(0),  # padding
    )
    assert fuse.reply_read(6, b"\x90\x00") == answer(6, b"\x90\x00")
    assert fuse.reply_read(6, b"") == answer(6)
    assert fuse.reply_write(6, 5) == answer(
        6,
        u32(5),  # size
        u32(0),  # padding
    )
    assert fuse.reply_release(6) == answer(6)
    assert fuse.reply_poll(6, 0x45) == answer(
        6,
        u32(0x45),  # revents
        u32(0),  # padding
    )


def test_ioctl_answers() -> None:
    assert fuse.reply_ioctl(6, fuse.IoctlResult(-1, b"\x3b\x00")) == answer(
        6,
        u32(0xFFFF_FFFF),  # result
        u32(0),  # flags
        u32(0),  # in_iovs
        u32(0),  # out_iovs
        b"\x3b\x00",
    )
    retry = fuse.IoctlRetry([(0x1000, 60)], [(0x2000, 4), (0x3000, 5)])
    assert fuse.reply_ioctl(6, retry) == answer(
        6,
        u32(0),  # result
        u32(4),  # flags: FUSE_IOCTL_RETRY
        u32(1),  # in_iovs
        u32(2),  # out_iovs
        *(u64(0x1000), u64(60)),
        *(u64(0x2000), u64(4)),
        *(u64(0x3000), u64(5)),
    )


def test_refusals() -> None:
    assert fuse.refuse(6, 4) == answer(6, error=-4)
    for errno in (0, -4, 512):
        with pytest.raises(LocalProtocolError):
            fuse.refuse(6, errno)


def test_the_notification_of_pollers() -> None:
    assert fuse.notify_poll(9) == answer(
        0,  # no request's
        u64(9),  # kh
        error=1,  # FUSE_NOTIFY_POLL
    )


def test_somebody_s_answers() -> None:
    assert fuse.answered(answer(6, error=-2)) == 6
    assert fuse.answered(fuse.notify_poll(9)) == 0
    with pytest.raises(LocalProtocolError):
        fuse.answered(answer(6)[:15])


def test_somebody_s_file_becomes_a_stream() -> None:
    def opened(flags: int) -> bytes:
        return answer(6, u64(3), u32(flags), u32(0))  # fh, open_flags, backing_id

    direct, nonseekable, stream, no_flush = 1, 4, 16, 32
    assert fuse.as_stream(opened(direct | nonseekable)) == opened(
        direct | nonseekable | stream | no_flush
    )
    for other in (opened(direct), answer(6, error=-2), answer(6, u64(3))):
        assert fuse.as_stream(other) == other
