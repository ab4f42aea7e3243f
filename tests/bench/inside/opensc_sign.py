# SPDX-License-Identifier: LGPL-2.1-or-later
"""opensc_sign.py PIN COUNT: the median seconds of a SHA256-RSA-PKCS C_SignInit and C_Sign.

OPENSC_CONF leaves OpenSC one reader. PKCS#11 v2.20 through ctypes: the guest has no binding.
"""

import ctypes
import sys
import time
from ctypes import byref, c_ulong, c_void_p
from statistics import median

MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
CKF_SERIAL_SESSION = 4
CKU_USER = 1
CKA_CLASS = 0
CKO_PRIVATE_KEY = 3
CKM_SHA256_RSA_PKCS = 0x40

library = ctypes.CDLL(MODULE)


class Attribute(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("size", c_ulong))


class Mechanism(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("parameter", c_void_p), ("size", c_ulong))


def call(name: str, *arguments: object) -> None:
    result = getattr(library, name)(*arguments)
    if result != 0:
        sys.exit(f"{name}: CKR {result:#x}")


def logged_in(pin: bytes) -> c_ulong:
    """A session with the first token."""
    call("C_Initialize", None)
    slots, count = (c_ulong * 16)(), c_ulong(16)
    call("C_GetSlotList", 1, slots, byref(count))
    session = c_ulong()
    call("C_OpenSession", c_ulong(slots[0]), CKF_SERIAL_SESSION, None, None, byref(session))
    call("C_Login", session, CKU_USER, pin, len(pin))
    return session


def first_key(session: c_ulong) -> c_ulong:
    wanted = c_ulong(CKO_PRIVATE_KEY)
    template = Attribute(CKA_CLASS, ctypes.addressof(wanted), ctypes.sizeof(wanted))
    key, count = c_ulong(), c_ulong()
    call("C_FindObjectsInit", session, byref(template), 1)
    call("C_FindObjects", session, byref(key), 1, byref(count))
    call("C_FindObjectsFinal", session)
    return key


def main(pin: str, count: str) -> None:
    session = logged_in(pin.encode())
    key = first_key(session)
    mechanism = Mechanism(CKM_SHA256_RSA_PKCS, None, 0)
    message = b"a message worth signing"
    times = []
    for _ in range(int(count) + 1):
        room, size = ctypes.create_string_buffer(512), c_ulong(512)
        start = time.perf_counter()
        call("C_SignInit", session, byref(mechanism), key)
        call("C_Sign", session, message, len(message), room, byref(size))
        times.append(time.perf_counter() - start)
    print(median(times[1:]))
    call("C_Finalize", None)


if __name__ == "__main__":
    main(*sys.argv[1:])
