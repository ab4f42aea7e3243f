# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the VSC parser: whole, and in pieces, it must see the same or refuse the same.

python -m tests.fuzz.fuzz_vsc -runs=10000000
"""

import sys

import atheris

with atheris.instrument_imports(include=["vccid.wire.vsc"]):
    from vccid.errors import RemoteProtocolError
    from vccid.wire import vsc


def parse(pieces: list[bytes]) -> tuple[list[vsc.Message | vsc.Unknown], str]:
    """The messages, and how it ended."""
    parser, messages = vsc.Parser(), []
    try:
        for piece in pieces:
            for message in parser.feed(piece):
                messages.append(message)
    except RemoteProtocolError as error:
        return messages, str(error)
    return messages, ""


def one_input(data: bytes) -> None:
    """The first byte says where the stream is cut."""
    cut, stream = (data[0] if data else 0), data[1:]
    whole = parse([stream])
    assert whole == parse([stream[:cut], stream[cut:]])
    for message in whole[0]:
        if isinstance(message, vsc.Unknown | vsc.ReaderAdd):
            continue
        again = list(vsc.Parser().feed(vsc.serialize(message)))
        assert again == [message]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
