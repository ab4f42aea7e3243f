# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over a serial reader's two protocols: frames on the line, and T=1's blocks in them.

python -m tests.fuzz.fuzz_serial -runs=10000000

Frames: whole and in pieces the same messages come out, and those that come out are frames of the
input. Blocks: every answer is a whole block; a command is executed only when it has all its parts.
"""

import sys
from functools import reduce
from operator import xor

import atheris

with atheris.instrument_imports(
    include=["vccid.wire.gempctwin", "vccid.tpdu.t1_link", "vccid.iso7816"]
):
    from vccid.iso7816.t1_blocks import Edc
    from vccid.tpdu.t1_link import Execute, GoOn, Link
    from vccid.wire.gempctwin import LONGEST_MESSAGE, Receiver


def frames(stream: bytes, cut: int) -> None:
    """The same out of one piece, out of two, and out of bytes."""
    whole, parts, single = Receiver(), Receiver(), Receiver()
    messages = whole.feed(stream)
    assert messages == parts.feed(stream[:cut]) + parts.feed(stream[cut:])
    assert messages == [m for byte in stream for m in single.feed(bytes((byte,)))]
    messages += whole.silence()
    assert not whole.is_waiting
    for message in messages:
        assert 10 <= len(message) <= LONGEST_MESSAGE
        frame = b"\x03\x06" + message
        assert frame + bytes((reduce(xor, frame),)) in stream


def secured(block: bytes, edc: Edc) -> bytes:
    return block + edc.compute(block)


def check_block(raw: bytes, edc: Edc, ifsd: int) -> None:
    """ISO/IEC 7816-3, 11.3: what every block of a card has."""
    assert raw[-edc.size :] == edc.compute(raw[: -edc.size])
    _, pcb, length = raw[:3]
    assert length == len(raw) - 3 - edc.size
    if not pcb & 0x80:
        assert pcb & 0x1F == 0 and length <= ifsd
    elif pcb & 0x40:
        assert pcb & 0x1F <= 3
    else:
        assert pcb & 0x2C == 0 and length == 0


def blocks(provider: atheris.FuzzedDataProvider) -> None:
    """A host that says anything; most of it with a right EDC, so that it is looked at."""
    edc = Edc(provider.ConsumeIntInRange(0, 1))
    link, ifsd = Link(provider.ConsumeIntInRange(1, 254), edc), 254
    while provider.remaining_bytes():
        raw = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 20))
        if provider.ConsumeIntInRange(0, 7):
            raw = secured(raw[:2] + bytes((max(0, len(raw) - 2),)) + raw[2:], edc)
        step = link.receive(raw)
        if isinstance(step, Execute | GoOn):
            assert link.running
            answer = bytes(provider.ConsumeIntInRange(0, 600)) + b"\x90\x00"
            step = link.extend() if provider.ConsumeBool() else link.respond(answer)
        check_block(step, edc, ifsd)


def one_input(data: bytes) -> None:
    """The first byte chooses the protocol, and where a stream is cut."""
    if data and data[0] & 1:
        blocks(atheris.FuzzedDataProvider(data[1:]))
    elif data:
        frames(data[1:], data[0] >> 1)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
