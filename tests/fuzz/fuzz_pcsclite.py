# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over libpcsclite's protocol: two programs say anything, and leave nothing behind.

python -m tests.fuzz.fuzz_pcsclite -runs=10000000
"""

import asyncio
import itertools
import sys

import atheris

with atheris.instrument_imports(include=["vccid.wire.pcsclite", "vccid.frontends.pcsc"]):
    from vccid.frontends.pcsc import program as program_module
    from vccid.frontends.pcsc.program import Program
    from vccid.frontends.pcsc.registry import Registry
    from vccid.wire import pcsclite

from tests.peers.plain_card import PlainCard
from vccid.errors import RemoteProtocolError
from vccid.reader import Reader


def first_number(taken) -> int:
    """Numbers that an input can name."""
    return next(number for number in itertools.count(1) if number not in taken)


program_module.new_number = first_number
LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)


def parse(pieces: list[bytes]) -> tuple[list[pcsclite.Message], str]:
    """The messages, and how it ended."""
    parser, messages = pcsclite.Parser(), []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (message := parser.next_message()) is not None:
                messages.append(message)
    except RemoteProtocolError as error:
        return messages, str(error)
    return messages, ""


def check_the_way_back(message: pcsclite.Message) -> None:
    parser = pcsclite.Parser()
    parser.feed(pcsclite.serialize_request(message))
    assert parser.next_message() == message and not parser.held


async def converse(stream: bytes) -> None:
    """Chunks of a length byte, whose lowest bit says whose they are; the top bit moves the card."""
    reader = Reader("vccid0")
    reader.insert(PlainCard())
    registry = Registry()
    shown = registry.add(reader, "1", None)
    shown.card.grace = 0.0
    sent: list[bytes] = []
    programs = [Program(registry, sent.append) for _ in range(2)]
    for program in programs:
        program.received(pcsclite.Version(4, 4 + 2 * programs.index(program), 0))
        program.received(pcsclite.Establish(0, 0, 0))
    parsers = [pcsclite.Parser() for _ in programs]
    open_ones = {0, 1}
    at = 0
    while at < len(stream):
        head, chunk = stream[at], stream[at + 1 : at + 1 + (stream[at] >> 1 & 0x3F)]
        at += 1 + len(chunk)
        if head & 0x80:
            reader.remove() if reader.card else reader.insert(PlainCard())
        who = head & 1
        if who in open_ones:
            parsers[who].feed(chunk)
            try:
                while not programs[who].busy:
                    message = parsers[who].next_message()
                    if message is None:
                        break
                    programs[who].received(message)
                    await asyncio.sleep(0)
            except RemoteProtocolError:
                open_ones.discard(who)
                programs[who].closed()
    for program in programs:
        program.closed()
    for _ in range(8):
        await asyncio.sleep(0)
    slot = shown.slot
    assert not slot.handles and slot.lock.owner is None and slot.lock.exclusive is None
    assert not registry.contexts and not registry.handles and not registry.waiting
    registry.close()


def one_input(data: bytes) -> None:
    """The first byte says where the stream is cut, or that it is a conversation."""
    cut, stream = (data[0] if data else 0), data[1:]
    if cut & 1:
        LOOP.run_until_complete(converse(stream))
        return
    whole = parse([stream])
    assert whole == parse([stream[:cut], stream[cut:]])
    for message in whole[0]:
        check_the_way_back(message)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
