# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which file OpenSSL's libcrypto is on this system: libcrypto.so.3, or a later one."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from functools import cache
from typing import Final

from vccid.errors import SourceUnusable

#: OpenSSL has numbered them by its major version since 3.0; up to 2 they lack what is used here.
_NAMES: Final = tuple(f"libcrypto.so.{number}" for number in range(3, 10))


@cache
def name() -> str:
    """What to give to ctypes.CDLL.

    It is the one that Python itself uses, where that uses one, and so `cryptography` where both
    come from the same distribution: a second in the same process would cost some megabytes.

    Raises:
        SourceUnusable: there is none.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("_hashlib")  # which is linked with libcrypto
    for mode in (os.RTLD_NOLOAD | os.RTLD_NOW, os.RTLD_NOW):
        for candidate in _NAMES:
            with contextlib.suppress(OSError):
                ctypes.CDLL(candidate, mode=mode)
                return candidate
    raise SourceUnusable(
        "OpenSSL's library libcrypto, version 3 or later, is not to be found",
        "install OpenSSL: Debian's package is libssl3 or libssl3t64",
    )
