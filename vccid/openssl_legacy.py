# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenSSL's legacy provider (OSSL_PROVIDER-legacy(7)): RC2, RC4, single DES and older.

Debian 13 has it in a package of its own, and `cryptography` does not even load where it is
missing. It then gets one that is empty: provider(7), "Provider".
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

from vccid import openssl_library
from vccid.errors import SourceUnusable

_NAME: Final = b"legacy"
#: OPENSSL_INFO_MODULES_DIR of OPENSSL_info(3).
_MODULES: Final = 1003
#: OSSL_DISPATCH: a number and a function; this table holds only its end.
_NOTHING: Final = (c_void_p * 2)()


def _start_empty(handle: int, offered: int, functions: Any, context: Any) -> int:
    """OSSL_provider_init of a provider without algorithms."""
    functions[0] = ctypes.addressof(_NOTHING)
    context[0] = handle
    return 1


_INIT: Final = ctypes.CFUNCTYPE(
    c_int, c_void_p, c_void_p, ctypes.POINTER(c_void_p), ctypes.POINTER(c_void_p)
)(_start_empty)


def is_there() -> bool:
    """Whether the provider's file is where OpenSSL looks for it (OPENSSL_MODULES, or built in).

    Raises:
        SourceUnusable: there is no libcrypto.
    """
    folder = os.environ.get("OPENSSL_MODULES")
    if folder is None:
        ask = ctypes.CDLL(openssl_library.name()).OPENSSL_info
        ask.restype = c_char_p
        folder = os.fsdecode(ask(_MODULES) or b"")
    return Path(folder, "legacy.so").exists()


@cache
def do_without() -> None:
    """Let `cryptography` load where the provider is missing; to be called before it does."""
    try:
        missing = not is_there()
    except SourceUnusable:  # Then `cryptography` brought an OpenSSL of its own, and all of it.
        return
    if missing:
        add = ctypes.CDLL(openssl_library.name()).OSSL_PROVIDER_add_builtin
        add.argtypes = (c_void_p, c_char_p, c_void_p)
        add(None, _NAME, ctypes.cast(_INIT, c_void_p))
