# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the USB/IP parser: whole, and in pieces, it must see the same or refuse the same.

python -m tests.fuzz.fuzz_usbip -runs=10000000
"""

import sys

import atheris

with atheris.instrument_imports(include=["vccid.wire.usbip"]):
    from vccid.errors import RemoteProtocolError
    from vccid.wire import usbip


def urbs(pieces: list[bytes]) -> tuple[list[usbip.UrbMessage], str]:
    """The URB messages, and how it ended."""
    receiver, messages = usbip.Receiver(imported=True), []
    try:
        for piece in pieces:
            messages += receiver.feed(piece)
    except RemoteProtocolError as error:
        return messages, str(error)
    return messages, ""


def operation(pieces: list[bytes]) -> tuple[usbip.OpMessage | None, str]:
    """The request before the import, and how it ended."""
    receiver, request = usbip.Receiver(), None
    try:
        for piece in pieces:
            request = receiver.feed_op(piece) or request
    except RemoteProtocolError as error:
        return request, str(error)
    return request, ""


def one_input(data: bytes) -> None:
    """The first byte chooses the phase and says where the stream is cut."""
    choice, stream = (data[0] if data else 0), data[1:]
    pieces = [stream[: choice >> 1], stream[choice >> 1 :]]
    if choice & 1:
        whole, error = urbs([stream])
        parts, parts_error = urbs(pieces)
        assert error == parts_error
        # What a refusal leaves of the messages before it depends on how they came.
        assert whole == parts or error
    else:
        request, error = operation([stream])
        if request is None:
            assert operation(pieces) == (None, error)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
