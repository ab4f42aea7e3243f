# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the usbredir parser: whole, and in pieces, it must see the same or refuse the same.

python -m tests.fuzz.fuzz_usbredir -runs=10000000
"""

import struct
import sys

import atheris

with atheris.instrument_imports(include=["vccid.wire.usbredir"]):
    from vccid.errors import RemoteProtocolError
    from vccid.wire import usbredir


def hello(capabilities: int) -> bytes:
    return struct.pack("<III64sI", 0, 68, 0, b"fuzz", capabilities)


def parse(pieces: list[bytes]) -> tuple[list[usbredir.Message], str]:
    """The messages, and how it ended."""
    codec, messages = usbredir.Codec("vccid"), []
    try:
        for piece in pieces:
            for message in codec.feed(piece):
                messages.append(message)
    except RemoteProtocolError as error:
        return messages, str(error)
    return messages, ""


def one_input(data: bytes) -> None:
    """Two bytes: where the stream is cut, and what the peer can (0: it says so itself)."""
    cut, capabilities, stream = *(data[:2].ljust(2, b"\0")), data[2:]
    if capabilities:
        stream = hello(capabilities) + stream
    whole = parse([stream])
    assert whole == parse([stream[:cut], stream[cut:]])
    for message in whole[0]:
        if isinstance(message, usbredir.ControlPacket | usbredir.BulkPacket):
            assert len(message.data) == (0 if message.is_in else message.length)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
