# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader whose answers libccid does not wait for while it opens it."""

import itertools
import time
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from vccid.ccid.interface import Interface

#: libccid has five times less patience.
SECONDS = 0.5


def late_answers() -> AbstractContextManager[Any]:
    """Within it, the second and third answer of all readers are late; the first is waited for."""
    numbers = itertools.count(1)
    next_response = Interface.next_response

    def slow(interface: Interface) -> bytes | None:
        response = next_response(interface)
        if response is not None and next(numbers) in (2, 3):
            time.sleep(SECONDS)
        return response

    return mock.patch.object(Interface, "next_response", slow)
