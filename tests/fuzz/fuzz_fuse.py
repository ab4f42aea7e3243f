# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the FUSE request parser: what comes is taken as it is, or refused.

python -m tests.fuzz.fuzz_fuse -runs=10000000
"""

import struct
import sys

import atheris

with atheris.instrument_imports(include=["vccid.wire.fuse"]):
    from vccid.errors import RemoteProtocolError
    from vccid.wire import fuse

#: The first field of the header.
LENGTH = struct.Struct("=I")


def one_input(data: bytes) -> None:
    """The length is made right in all but one of four inputs."""
    raw = data[1:]
    if data[:1] > b"\x3f" and len(raw) >= LENGTH.size:
        raw = LENGTH.pack(len(raw)) + raw[LENGTH.size :]
    try:
        request = fuse.parse(raw)
    except RemoteProtocolError:
        return
    assert LENGTH.unpack_from(raw) == (len(raw),)
    assert request == fuse.parse(memoryview(bytearray(raw)))
    assert request.unique == int.from_bytes(raw[8:16], sys.byteorder)
    if isinstance(request, fuse.Write | fuse.Ioctl):
        assert raw.endswith(request.data) and len(request.data) < len(raw)
        assert not request.data or repr(request.data) not in repr(request)
    if isinstance(request, fuse.Init):
        try:
            assert len(fuse.reply_init(request, "vccid!fuzz")) > 88
        except RemoteProtocolError:
            assert request.major != fuse.MAJOR or request.minor < fuse.MINOR_MIN


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
