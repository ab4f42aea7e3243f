# SPDX-License-Identifier: LGPL-2.1-or-later
"""watch.py listed|cards COUNT [CALL]: wait until pcscd has so many readers, or cards in them.

Says "armed" once it looks. CALL is a Varlink call for the daemon here, sent at that moment.
Prints the seconds from then on, and the readers one a line.
"""

import socket
import sys
import time

from tests.bench.inside import pcsc

CONTROL = "/run/vccid/control"


def main(what: str, count: str, call: str = "") -> None:
    bits = pcsc.SCARD_STATE_PRESENT if what == "cards" else 0
    context = pcsc.establish()
    with socket.socket(socket.AF_UNIX) as control:
        if call:
            control.connect(CONTROL)
        print("armed", flush=True)
        start = time.monotonic()
        if call:
            control.sendall(call.encode() + b"\0")
        while True:
            states = pcsc.look(context)
            found = [name for name, state in states.items() if state & bits == bits]
            if len(found) == int(count):
                break
            pcsc.wait(context, states)
        print(f"seconds\n{time.monotonic() - start}", *found, sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
