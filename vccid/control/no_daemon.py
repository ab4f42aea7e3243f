# SPDX-License-Identifier: LGPL-2.1-or-later
"""An answer for those who wait at a socket of systemd's for a daemon that cannot start.

They would else be hung up on without a word, and their connections, left in the queue, have
systemd start the daemon again and again until it gives up the socket as well.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Final

from vccid.control.callers import Access, peer_of
from vccid.control.server import error_reply
from vccid.errors import NotPermitted, VccidError

#: Seconds all of them together are given to say what they want.
PATIENCE: Final = 2.0

#: Connections that are answered: more than the kernel keeps waiting, unless somebody connects
#: without end.
_MOST: Final = 4096

_READ_BYTES: Final = 65536


def answer_waiting(listening: socket.socket, error: VccidError, access: Access) -> None:
    """Take every connection that waits, and tell who may drive the daemon why there is none."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(OSError):  # BlockingIOError: nobody waits any more
        listening.setblocking(False)
        for _ in range(_MOST):
            connection, _address = listening.accept()
            with connection, contextlib.suppress(OSError):
                # 0, not to wait: what has been said by then is answered all the same.
                connection.settimeout(max(0.0, deadline - time.monotonic()))
                _answer(connection, error, access)


def _answer(connection: socket.socket, error: VccidError, access: Access) -> None:
    """Answer whatever is asked first."""
    try:
        access.check(peer_of(connection))
    except NotPermitted as refusal:
        error = refusal
    connection.recv(_READ_BYTES)  # hung up on before its call, a caller would not read the answer
    connection.sendall(error_reply(error).serialize())
