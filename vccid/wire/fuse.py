# SPDX-License-Identifier: LGPL-2.1-or-later
"""FUSE messages as a CUSE device meets them (Linux: include/uapi/linux/fuse.h, fs/fuse/cuse.c).

One read from /dev/cuse is one request, one write one answer or notification. All integers are
in the host's byte order. The first request is CUSE_INIT; what a file system is asked besides
(LOOKUP, FORGET, FLUSH, DESTROY …) never comes on this channel.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vccid.errors import LocalProtocolError, RemoteProtocolError

#: FUSE_KERNEL_VERSION and the newest minor whose messages are the ones here.
MAJOR: Final = 7
MINOR: Final = 31
#: The oldest minor with iovecs of 16 bytes for every caller in an ioctl's RETRY.
MINOR_MIN: Final = 16

#: Most bytes of one READ or WRITE: FUSE_DEFAULT_MAX_PAGES_PER_REQ of 4,096 bytes each.
MAX_TRANSFER: Final = 32 * 4096
#: Room for any request: the largest WRITE, and the kernel wants 8,192 at least.
MAX_REQUEST: Final = MAX_TRANSFER + 4096

_OPEN: Final = 14
_READ: Final = 15
_WRITE: Final = 16
_RELEASE: Final = 18
_INTERRUPT: Final = 36
_IOCTL: Final = 39
_POLL: Final = 40
_CUSE_INIT: Final = 4096

#: CUSE_UNRESTRICTED_IOCTL
_UNRESTRICTED: Final = 1
#: FUSE_IOCTL_RETRY
_RETRY: Final = 4
#: FUSE_POLL_SCHEDULE_NOTIFY
_SCHEDULE_NOTIFY: Final = 1
#: FUSE_NOTIFY_POLL: stands where an answer has its error.
_NOTIFY_POLL: Final = 1
#: FOPEN_NONSEEKABLE, FOPEN_STREAM and FOPEN_NOFLUSH
_NONSEEKABLE: Final = 4
_STREAM: Final = 16
_NOFLUSH: Final = 32
#: The kernel takes errors above -512 (ERESTARTSYS) only.
_ERRNO_MAX: Final = 511
#: CUSE_INIT_INFO_MAX
_INFO_MAX: Final = 4096

#: fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
_HEADER: Final = struct.Struct("=IIQQIIIHH")
#: fuse_out_header: len, error, unique
_ANSWER: Final = struct.Struct("=IiQ")
#: cuse_init_in: major, minor, unused, flags
_INIT_IN: Final = struct.Struct("=IIII")
#: cuse_init_out: major, minor, unused, flags, max_read, max_write, dev_major, dev_minor, spare
_INIT_OUT: Final = struct.Struct("=IIIIIIII40x")
#: fuse_open_in: flags, open_flags
_OPEN_IN: Final = struct.Struct("=II")
#: fuse_open_out: fh, open_flags, padding
_OPEN_OUT: Final = struct.Struct("=QI4x")
#: fuse_read_in and fuse_write_in: fh, offset, size, read_flags, lock_owner, flags, padding
_TRANSFER_IN: Final = struct.Struct("=QQIIQI4x")
#: fuse_write_out: size, padding
_WRITE_OUT: Final = struct.Struct("=I4x")
#: fuse_release_in: fh, flags, release_flags, lock_owner
_RELEASE_IN: Final = struct.Struct("=QIIQ")
#: fuse_interrupt_in: unique
_INTERRUPT_IN: Final = struct.Struct("=Q")
#: fuse_ioctl_in: fh, flags, cmd, arg, in_size, out_size
_IOCTL_IN: Final = struct.Struct("=QIIQII")
#: fuse_ioctl_out: result, flags, in_iovs, out_iovs
_IOCTL_OUT: Final = struct.Struct("=iIII")
#: fuse_ioctl_iovec: base, len
_IOVEC: Final = struct.Struct("=QQ")
#: fuse_poll_in: fh, kh, flags, events
_POLL_IN: Final = struct.Struct("=QQII")
#: fuse_poll_out: revents, padding
_POLL_OUT: Final = struct.Struct("=I4x")
#: fuse_notify_poll_wakeup_out: kh
_WAKEUP: Final = struct.Struct("=Q")


@dataclass(frozen=True, slots=True)
class Init:
    """CUSE_INIT: the kernel offers to make the device."""

    unique: int
    major: int
    minor: int
    flags: int


@dataclass(frozen=True, slots=True)
class Open:
    """FUSE_OPEN.

    Attributes:
        uid, gid, pid: of the caller; pid is 0 outside our own pid namespace.
        flags: open(2)'s, O_CREAT and its like left out.
    """

    unique: int
    uid: int
    gid: int
    pid: int
    flags: int


@dataclass(frozen=True, slots=True)
class Read:
    """FUSE_READ: up to `size` bytes are wanted; fewer end the system call.

    Attributes:
        flags: the file's, as fcntl(F_GETFL) has them now.
    """

    unique: int
    fh: int
    size: int
    flags: int


@dataclass(frozen=True, slots=True)
class Write:
    """FUSE_WRITE.

    Attributes:
        flags: as in `Read`.
        data: up to MAX_TRANSFER bytes; may hold a PIN and is never shown.
    """

    unique: int
    fh: int
    flags: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Release:
    """FUSE_RELEASE: the last descriptor of an open file is closed."""

    unique: int
    fh: int


@dataclass(frozen=True, slots=True)
class Ioctl:
    """FUSE_IOCTL.

    Attributes:
        flags: FUSE_IOCTL_COMPAT (1), UNRESTRICTED (2), 32BIT (8), COMPAT_X32 (32).
        command, argument: ioctl(2)'s second and third.
        out_size: the most bytes the answer may carry.
        data: restricted, what the command's number says; unrestricted, what RETRY asked for.
    """

    unique: int
    fh: int
    flags: int
    command: int
    argument: int
    out_size: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Poll:
    """FUSE_POLL: answered at once with what is ready.

    Attributes:
        kh: the kernel's handle, for `notify_poll`.
        notify: the kernel wants to hear of the next change.
        events: what the caller polls for.
    """

    unique: int
    fh: int
    kh: int
    notify: bool
    events: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """FUSE_INTERRUPT: a signal came for the caller of the request `victim`. Has no answer."""

    unique: int
    victim: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other request; ENOSYS is its answer."""

    unique: int
    opcode: int


Request = Init | Open | Read | Write | Release | Ioctl | Poll | Interrupt | Unknown


class IoctlAnswer(ABC):
    """What became of an ioctl: `IoctlResult` or `IoctlRetry`."""

    __slots__ = ()

    @property
    @abstractmethod
    def body(self) -> bytes:
        """fuse_ioctl_out and what follows it."""


@dataclass(frozen=True, slots=True)
class IoctlResult(IoctlAnswer):
    """The end of an ioctl.

    Attributes:
        value: what ioctl(2) returns.
        data: up to the request's `out_size`; goes where the command's number (or the RETRY
            before) says.
    """

    value: int = 0
    data: bytes = field(default=b"", repr=False)

    @property
    def body(self) -> bytes:
        return _IOCTL_OUT.pack(self.value, 0, 0, 0) + self.data


@dataclass(frozen=True, slots=True)
class IoctlRetry(IoctlAnswer):
    """Unrestricted only: the ioctl is to come again, with its data and room for the answer.

    Attributes:
        inputs, outputs: address and length of the caller's memory, at most 256 together.
    """

    inputs: Sequence[tuple[int, int]] = ()
    outputs: Sequence[tuple[int, int]] = ()

    @property
    def body(self) -> bytes:
        areas = (*self.inputs, *self.outputs)
        head = _IOCTL_OUT.pack(0, _RETRY, len(self.inputs), len(self.outputs))
        return head + b"".join(_IOVEC.pack(*area) for area in areas)


def parse(raw: bytes | memoryview) -> Request:
    """One request, as one read gave it.

    Raises:
        RemoteProtocolError: it is shorter or longer than it says, or than its kind is.
    """
    if len(raw) < _HEADER.size:
        raise RemoteProtocolError(f"a FUSE request of {len(raw)} bytes")
    length, opcode, unique, _, uid, gid, pid, _, _ = _HEADER.unpack_from(raw)
    if length != len(raw):
        raise RemoteProtocolError(f"a FUSE request of {len(raw)} bytes that says {length}")
    if opcode == _READ:
        fh, _, size, _, _, flags = _body(_TRANSFER_IN, raw)
        return Read(unique, fh, size, flags)
    if opcode == _WRITE:
        (fh, _, size, _, _, flags), data = _body_and_data(_TRANSFER_IN, raw)
        _check_size(size, data)
        return Write(unique, fh, flags, data)
    if opcode == _POLL:
        fh, kh, flags, events = _body(_POLL_IN, raw)
        return Poll(unique, fh, kh, bool(flags & _SCHEDULE_NOTIFY), events)
    if opcode == _IOCTL:
        (fh, flags, command, argument, size, room), data = _body_and_data(_IOCTL_IN, raw)
        _check_size(size, data)
        return Ioctl(unique, fh, flags, command, argument, room, data)
    if opcode == _OPEN:
        return Open(unique, uid, gid, pid, _body(_OPEN_IN, raw)[0])
    if opcode == _RELEASE:
        return Release(unique, _body(_RELEASE_IN, raw)[0])
    if opcode == _INTERRUPT:
        return Interrupt(unique, _body(_INTERRUPT_IN, raw)[0])
    if opcode == _CUSE_INIT:
        major, minor, _, flags = _body(_INIT_IN, raw)
        return Init(unique, major, minor, flags)
    return Unknown(unique, opcode)


def reply_init(
    request: Init, name: str, *, unrestricted: bool = False, number: tuple[int, int] = (0, 0)
) -> bytes:
    """Make the device.

    Args:
        name: of the node below /dev; `!` stands for a slash.
        unrestricted: whether ioctls may ask for the caller's memory with `IoctlRetry`.
        number: major and minor; a major of 0 takes a free one.

    Raises:
        RemoteProtocolError: the kernel speaks another protocol.
        LocalProtocolError: no such name is possible.
    """
    if request.major != MAJOR or request.minor < MINOR_MIN:
        raise RemoteProtocolError(
            f"FUSE {request.major}.{request.minor}, at least {MAJOR}.{MINOR_MIN} is needed"
        )
    info = f"DEVNAME={name}\0".encode()
    if len(info) > _INFO_MAX or not name or "\0" in name:
        raise LocalProtocolError(f"{name!r} is no name of a device")
    flags = _UNRESTRICTED if unrestricted else 0
    minor = min(request.minor, MINOR)
    body = _INIT_OUT.pack(MAJOR, minor, 0, flags, MAX_TRANSFER, MAX_TRANSFER, *number)
    return _reply(request.unique, body + info)


def reply_open(unique: int, fh: int) -> bytes:
    """The file is open; later requests name it by `fh`."""
    return _reply(unique, _OPEN_OUT.pack(fh, _NONSEEKABLE))


def reply_read(unique: int, data: bytes) -> bytes:
    """At most as many bytes as were asked for; none is the end of the file."""
    return _reply(unique, data)


def reply_write(unique: int, size: int) -> bytes:
    """So many bytes were taken."""
    return _reply(unique, _WRITE_OUT.pack(size))


def reply_release(unique: int) -> bytes:
    """The closing process waits for it."""
    return _reply(unique, b"")


def reply_ioctl(unique: int, answer: IoctlAnswer) -> bytes:
    """An ioctl's end, or what it needs before."""
    return _reply(unique, answer.body)


def reply_poll(unique: int, revents: int) -> bytes:
    """What is ready now, in poll(2)'s bits."""
    return _reply(unique, _POLL_OUT.pack(revents))


def refuse(unique: int, errno: int) -> bytes:
    """The system call fails. Never ENOSYS for OPEN or POLL: the kernel would ask no more.

    Raises:
        LocalProtocolError: the kernel takes no such number.
    """
    if not 0 < errno <= _ERRNO_MAX:
        raise LocalProtocolError(f"{errno} is no error number")
    return _ANSWER.pack(_ANSWER.size, -errno, unique)


def notify_poll(kh: int) -> bytes:
    """FUSE_NOTIFY_POLL: the file with the kernel's handle `kh` is to be polled again."""
    return _ANSWER.pack(_ANSWER.size + _WAKEUP.size, _NOTIFY_POLL, 0) + _WAKEUP.pack(kh)


def answered(raw: bytes) -> int:
    """Which request somebody's answer is to; 0 for a notification.

    Raises:
        LocalProtocolError: it is shorter than an answer.
    """
    if len(raw) < _ANSWER.size:
        raise LocalProtocolError(f"a FUSE answer of {len(raw)} bytes")
    return int(_ANSWER.unpack_from(raw)[2])


def as_stream(raw: bytes) -> bytes:
    """Somebody's answer to OPEN; what it calls not seekable becomes a stream.

    Reads of one open file then need not take turns in the kernel, where no signal reaches who
    waits for his; and close(2) does not ask, and so fails with nobody who is gone meanwhile.
    """
    if len(raw) != _ANSWER.size + _OPEN_OUT.size:
        return raw
    fh, flags = _OPEN_OUT.unpack_from(raw, _ANSWER.size)
    if not flags & _NONSEEKABLE:
        return raw
    return _reply(answered(raw), _OPEN_OUT.pack(fh, flags | _STREAM | _NOFLUSH))


def _reply(unique: int, body: bytes) -> bytes:
    return _ANSWER.pack(_ANSWER.size + len(body), 0, unique) + body


def _body(layout: struct.Struct, raw: bytes | memoryview) -> tuple[int, ...]:
    """The fields of a request that ends with them."""
    if len(raw) != _HEADER.size + layout.size:
        raise RemoteProtocolError(f"a FUSE request of {len(raw)} bytes is none of its kind")
    return layout.unpack_from(raw, _HEADER.size)


def _body_and_data(layout: struct.Struct, raw: bytes | memoryview) -> tuple[tuple[int, ...], bytes]:
    """The fields of a request, and the data behind them."""
    end = _HEADER.size + layout.size
    if len(raw) < end:
        raise RemoteProtocolError(f"a FUSE request of {len(raw)} bytes is none of its kind")
    return layout.unpack_from(raw, _HEADER.size), bytes(raw[end:])


def _check_size(size: int, data: bytes) -> None:
    if size != len(data):
        raise RemoteProtocolError(f"a FUSE request with {len(data)} bytes of data, not {size}")
