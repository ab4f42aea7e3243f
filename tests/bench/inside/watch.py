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
POLL = 0.002


def main(what: str, count: str, call: str = "") -> None:
    look = pcsc.list_readers if what == "listed" else pcsc.with_card
    context = pcsc.establish()
    with socket.socket(socket.AF_UNIX) as control:
        if call:
            control.connect(CONTROL)
        print("armed", flush=True)
        start = time.monotonic()
        if call:
            control.sendall(call.encode() + b"\0")
        while len(found := look(context)) != int(count):
            time.sleep(POLL)
        print(f"seconds\n{time.monotonic() - start}", *found, sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
