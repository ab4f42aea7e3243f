# SPDX-License-Identifier: LGPL-2.1-or-later
"""long_answer.py BYTES ROUNDS READER: median seconds of a READ BINARY with so long an answer."""

import ctypes
import sys
import time
from ctypes import byref, c_long, c_ulong
from statistics import median

from tests.bench.inside import pcsc


def main(size: str, rounds: str, reader: str) -> None:
    context, card, protocol = pcsc.establish(), c_long(), c_ulong()
    pcsc.call("SCardConnect", context, reader.encode(), pcsc.SCARD_SHARE_SHARED,
              pcsc.SCARD_PROTOCOL_T1, byref(card), byref(protocol))  # fmt: skip
    pci = pcsc.IoRequest(protocol.value, ctypes.sizeof(pcsc.IoRequest))
    command = bytes((0, 0xB0, 0, 0, 0)) + (int(size) & 0xFFFF).to_bytes(2, "big")
    answer = ctypes.create_string_buffer(65538)
    times = []
    for _ in range(int(rounds)):
        length = c_ulong(len(answer))
        start = time.perf_counter()
        pcsc.call("SCardTransmit", card, byref(pci), command, len(command), None, answer,
                  byref(length))  # fmt: skip
        times.append(time.perf_counter() - start)
        if length.value != int(size) + 2:
            sys.exit(f"{length.value} bytes came")
    print(median(times))
    pcsc.call("SCardDisconnect", card, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
