# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thin binding to one PKCS#11 module through its C_GetFunctionList.

Standard: PKCS #11 Cryptographic Token Interface Base Specification 2.40; the section
of each function stands beside its entry. ctypes gives the interpreter's lock up during
every call, so a slow token holds up only the thread that asked it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_char, c_char_p, c_ubyte, c_ulong, c_void_p
from dataclasses import dataclass

from vccid.errors import KeySourceError
from vccid.keys.ckr import Consequence, answer

# Flags of C_OpenSession (3.2), CK_TOKEN_INFO (3.2) and C_Initialize (3.7).
CKF_RW_SESSION = 0x2
CKF_SERIAL_SESSION = 0x4
CKF_LOGIN_REQUIRED = 0x4
CKF_TOKEN_INITIALIZED = 0x400
CKF_USER_PIN_COUNT_LOW = 0x10000
CKF_USER_PIN_FINAL_TRY = 0x20000
CKF_USER_PIN_LOCKED = 0x40000
CKF_OS_LOCKING_OK = 0x2
CKU_USER = 1
#: Session states in which the user is logged in: read-only, read-write (3.2).
CKS_USER_FUNCTIONS = frozenset({1, 3})

# Attributes and classes (4.2, 4.6, 4.8).
CKA_CLASS = 0x0
CKA_TOKEN = 0x1
CKA_LABEL = 0x3
CKA_VALUE = 0x11
CKA_KEY_TYPE = 0x100
CKA_ID = 0x102
CKA_DECRYPT = 0x105
CKA_SIGN = 0x108
CKA_MODULUS = 0x120
CKA_VALUE_LEN = 0x161
CKA_SENSITIVE = 0x103
CKA_EXTRACTABLE = 0x162
CKA_EC_PARAMS = 0x180
CKA_EC_POINT = 0x181
CKO_CERTIFICATE = 1
CKO_PUBLIC_KEY = 2
CKO_PRIVATE_KEY = 3
CKO_SECRET_KEY = 4
CKK_RSA = 0
CKK_EC = 3
CKK_GENERIC_SECRET = 0x10
CKM_RSA_PKCS = 0x1
CKM_RSA_X_509 = 0x3
CKM_ECDSA = 0x1041
CKM_ECDH1_DERIVE = 0x1050
_CKD_NULL = 1

# Return values (5.1 of the header, 3.6).
CK_UNAVAILABLE_INFORMATION = c_ulong(-1).value
CKR_OK = 0x0
CKR_ATTRIBUTE_SENSITIVE = 0x11
CKR_ATTRIBUTE_TYPE_INVALID = 0x12
CKR_FUNCTION_NOT_SUPPORTED = 0x54
CKR_PIN_INCORRECT = 0xA0
CKR_USER_ALREADY_LOGGED_IN = 0x100
CKR_USER_NOT_LOGGED_IN = 0x101
CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191

#: Functions in the order CK_FUNCTION_LIST has them (5.4 to 5.14), as far as needed.
_FUNCTIONS = (
    "C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList",
    "C_GetSlotInfo", "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken",
    "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession", "C_CloseAllSessions",
    "C_GetSessionInfo", "C_GetOperationState", "C_SetOperationState", "C_Login", "C_Logout",
    "C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize",
    "C_GetAttributeValue", "C_SetAttributeValue", "C_FindObjectsInit", "C_FindObjects",
    "C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate", "C_EncryptFinal",
    "C_DecryptInit", "C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit",
    "C_Digest", "C_DigestUpdate", "C_DigestKey", "C_DigestFinal", "C_SignInit", "C_Sign",
    "C_SignUpdate", "C_SignFinal", "C_SignRecoverInit", "C_SignRecover", "C_VerifyInit",
    "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit", "C_VerifyRecover",
    "C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate",
    "C_DecryptVerifyUpdate", "C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey",
    "C_DeriveKey",
)  # fmt: skip

Template = Mapping[int, bytes]


def ulong(value: int) -> bytes:
    """A CK_ULONG attribute value, in this machine's size and byte order."""
    return bytes(c_ulong(value))


class Pkcs11Error(KeySourceError):
    """A function of the module answered something other than CKR_OK.

    Attributes:
        rv: the CK_RV.
    """

    def __init__(self, function: str, rv: int) -> None:
        super().__init__(f"{function} answered {answer(rv).name} (0x{rv:X})")
        self.rv = rv

    @property
    def consequence(self) -> Consequence:
        """What follows from it."""
        return answer(self.rv).consequence


class _InitializeArgs(ctypes.Structure):  # CK_C_INITIALIZE_ARGS, 3.7
    _fields_ = (
        ("create_mutex", c_void_p), ("destroy_mutex", c_void_p), ("lock_mutex", c_void_p),
        ("unlock_mutex", c_void_p), ("flags", c_ulong), ("reserved", c_char_p),
    )  # fmt: skip


class _Version(ctypes.Structure):  # CK_VERSION, 3.1
    _fields_ = (("major", c_ubyte), ("minor", c_ubyte))


class _FunctionList(ctypes.Structure):  # CK_FUNCTION_LIST, 3.6
    _fields_ = (("version", _Version), ("functions", c_void_p * len(_FUNCTIONS)))


class _Info(ctypes.Structure):  # CK_INFO, 3.1
    _fields_ = (
        ("cryptoki", _Version), ("manufacturer", c_char * 32), ("flags", c_ulong),
        ("description", c_char * 32), ("library", _Version),
    )  # fmt: skip


class _SlotInfo(ctypes.Structure):  # CK_SLOT_INFO, 3.2
    _fields_ = (
        ("description", c_char * 64), ("manufacturer", c_char * 32), ("flags", c_ulong),
        ("hardware", _Version), ("firmware", _Version),
    )  # fmt: skip


class _TokenInfo(ctypes.Structure):  # CK_TOKEN_INFO, 3.2
    _fields_ = (
        ("label", c_char * 32), ("manufacturer", c_char * 32), ("model", c_char * 16),
        ("serial", c_char * 16), ("flags", c_ulong), ("counts", c_ulong * 10),
        ("hardware", _Version), ("firmware", _Version), ("utc", c_char * 16),
    )  # fmt: skip


class _SessionInfo(ctypes.Structure):  # CK_SESSION_INFO, 3.2
    _fields_ = (("slot", c_ulong), ("state", c_ulong), ("flags", c_ulong), ("error", c_ulong))


class _Attribute(ctypes.Structure):  # CK_ATTRIBUTE, 3.3
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class _Mechanism(ctypes.Structure):  # CK_MECHANISM, 3.4
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class _Ecdh1Parameters(ctypes.Structure):  # CK_ECDH1_DERIVE_PARAMS (Mechanisms 2.40, 2.3.8)
    _fields_ = (
        ("kdf", c_ulong), ("shared_length", c_ulong), ("shared", c_void_p),
        ("public_length", c_ulong), ("public", c_char_p),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """CK_TOKEN_INFO's text fields without their padding, and its flags."""

    label: str
    manufacturer: str
    model: str
    serial: str
    flags: int


class Module:
    """One loaded and initialised PKCS#11 module.

    Every method may block as long as the token does, and raises Pkcs11Error.
    Handles are plain integers; a session must be used by one thread at a time.
    """

    def __init__(self, library: str, parameters: bytes | None = None) -> None:
        """Load and initialise.

        Args:
            library: path, or a name dlopen finds.
            parameters: NSS's LibraryParameters, for pReserved.

        Raises:
            OSError: it cannot be loaded.
            AttributeError: it is no PKCS#11 module.
        """
        self._library = ctypes.CDLL(library)
        table = POINTER(_FunctionList)()
        _check("C_GetFunctionList", self._library.C_GetFunctionList(byref(table)))
        pointers = table.contents.functions
        # Modules leave out what they do not do, against 3.6.
        self._call: dict[str, Callable[..., int]] = {
            name: ctypes.CFUNCTYPE(c_ulong)(pointers[index]) if pointers[index] else _unsupported
            for index, name in enumerate(_FUNCTIONS)
        }
        self._parameters = parameters
        self._initialize()

    def _initialize(self) -> None:
        arguments = _InitializeArgs(flags=CKF_OS_LOCKING_OK, reserved=self._parameters)
        rv = self._call["C_Initialize"](byref(arguments))
        if rv != CKR_CRYPTOKI_ALREADY_INITIALIZED:
            _check("C_Initialize", rv)

    def restart(self) -> None:
        """C_Finalize and C_Initialize, 5.4: every handle is void, new tokens are seen."""
        self._do("C_Finalize", None)
        self._initialize()

    def _do(self, function: str, *arguments: object) -> None:
        _check(function, self._call[function](*arguments))

    def slots(self) -> list[int]:
        """Slots with a token in them (C_GetSlotList, 5.5)."""
        count = c_ulong()
        self._do("C_GetSlotList", c_ubyte(1), None, byref(count))
        slots = (c_ulong * count.value)()
        self._do("C_GetSlotList", c_ubyte(1), slots, byref(count))
        return list(slots[: count.value])

    def slot_texts(self, slot: int) -> tuple[str, str]:
        """CK_SLOT_INFO's description and manufacturer, without touching the token.

        C_GetSlotInfo, 5.5.
        """
        info = _SlotInfo()
        self._do("C_GetSlotInfo", c_ulong(slot), byref(info))
        return _text(info, _SlotInfo.description), _text(info, _SlotInfo.manufacturer)

    def library_texts(self) -> tuple[str, str, str]:
        """CK_INFO's libraryDescription, manufacturerID and libraryVersion (C_GetInfo, 5.4)."""
        info = _Info()
        self._do("C_GetInfo", byref(info))
        version = f"{info.library.major}.{info.library.minor}"
        return _text(info, _Info.description), _text(info, _Info.manufacturer), version

    def token_info(self, slot: int) -> TokenInfo:
        """C_GetTokenInfo, 5.5."""
        info = _TokenInfo()
        self._do("C_GetTokenInfo", c_ulong(slot), byref(info))
        return TokenInfo(
            label=_text(info, _TokenInfo.label),
            manufacturer=_text(info, _TokenInfo.manufacturer),
            model=_text(info, _TokenInfo.model),
            serial=_text(info, _TokenInfo.serial),
            flags=info.flags,
        )

    def mechanisms(self, slot: int) -> frozenset[int]:
        """C_GetMechanismList, 5.5."""
        count = c_ulong()
        self._do("C_GetMechanismList", c_ulong(slot), None, byref(count))
        mechanisms = (c_ulong * count.value)()
        self._do("C_GetMechanismList", c_ulong(slot), mechanisms, byref(count))
        return frozenset(mechanisms[: count.value])

    def open_session(self, slot: int, writable: bool = False) -> int:
        """C_OpenSession, 5.6."""
        flags = CKF_SERIAL_SESSION | (CKF_RW_SESSION if writable else 0)
        session = c_ulong()
        self._do("C_OpenSession", c_ulong(slot), c_ulong(flags), None, None, byref(session))
        return session.value

    def close_session(self, session: int) -> None:
        """C_CloseSession, 5.6."""
        self._do("C_CloseSession", c_ulong(session))

    def session_state(self, session: int) -> int:
        """CK_SESSION_INFO's state (C_GetSessionInfo, 5.6)."""
        info = _SessionInfo()
        self._do("C_GetSessionInfo", c_ulong(session), byref(info))
        return int(info.state)

    def login(self, session: int, pin: bytes) -> None:
        """Log the process in as the user (C_Login, 5.6)."""
        self._do("C_Login", c_ulong(session), c_ulong(CKU_USER), pin, c_ulong(len(pin)))

    def logout(self, session: int) -> None:
        """C_Logout, 5.6."""
        self._do("C_Logout", c_ulong(session))

    def set_pin(self, session: int, old: bytes, new: bytes) -> None:
        """C_SetPIN, 5.5; the session must be a writable one."""
        self._do("C_SetPIN", c_ulong(session), old, c_ulong(len(old)), new, c_ulong(len(new)))

    def create_object(self, session: int, template: Template) -> int:
        """C_CreateObject, 5.7."""
        handle = c_ulong()
        attributes = _attributes(template)
        self._do(
            "C_CreateObject",
            c_ulong(session), attributes, c_ulong(len(template)), byref(handle),
        )  # fmt: skip
        return handle.value

    def copy_object(self, session: int, source: int, template: Template) -> int:
        """C_CopyObject, 5.7."""
        handle = c_ulong()
        attributes = _attributes(template)
        self._do(
            "C_CopyObject",
            c_ulong(session), c_ulong(source), attributes, c_ulong(len(template)), byref(handle),
        )  # fmt: skip
        return handle.value

    def find(self, session: int, template: Template) -> list[int]:
        """Handles of every object that has these attributes (C_FindObjects*, 5.7)."""
        attributes = _attributes(template)
        self._do("C_FindObjectsInit", c_ulong(session), attributes, c_ulong(len(template)))
        found: list[int] = []
        page = (c_ulong * 64)()
        count = c_ulong(1)
        try:
            while count.value:
                self._do("C_FindObjects", c_ulong(session), page, c_ulong(64), byref(count))
                found += page[: count.value]
        finally:
            self._do("C_FindObjectsFinal", c_ulong(session))
        return found

    def attributes(self, session: int, handle: int, types: Sequence[int]) -> dict[int, bytes]:
        """Attribute values; one the object lacks or keeps secret is left out (5.7)."""
        # All lengths, then all values: each question may be a search on the disk.
        wanted = (_Attribute * len(types))(*(_Attribute(kind, None, 0) for kind in types))
        self._get_attributes(session, handle, wanted)
        there = [entry for entry in wanted if entry.length != CK_UNAVAILABLE_INFORMATION]
        rooms = [ctypes.create_string_buffer(entry.length) for entry in there]
        found = (_Attribute * len(there))(
            *(
                _Attribute(entry.type, ctypes.cast(room, c_void_p), entry.length)
                for entry, room in zip(there, rooms, strict=True)
            )
        )
        self._get_attributes(session, handle, found)
        return {
            entry.type: room.raw[: entry.length] for entry, room in zip(found, rooms, strict=True)
        }

    def _get_attributes(
        self, session: int, handle: int, attributes: ctypes.Array[_Attribute]
    ) -> None:
        """C_GetAttributeValue; what cannot be had is marked in the attribute itself."""
        ask = self._call["C_GetAttributeValue"]
        rv = ask(c_ulong(session), c_ulong(handle), attributes, c_ulong(len(attributes)))
        if rv not in (CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID):
            _check("C_GetAttributeValue", rv)

    def private_operation(
        self, verb: str, session: int, key: int, mechanism: int, data: bytes, size: int
    ) -> bytes:
        """C_Sign (5.11) or C_Decrypt (5.9), whole.

        Args:
            verb: "Sign" or "Decrypt".
            size: the most bytes the answer can have.
        """
        chosen = _Mechanism(mechanism, None, 0)
        self._do(f"C_{verb}Init", c_ulong(session), byref(chosen), c_ulong(key))
        room = ctypes.create_string_buffer(size)
        length = c_ulong(size)
        self._do(f"C_{verb}", c_ulong(session), data, c_ulong(len(data)), room, byref(length))
        return room.raw[: length.value]

    def ecdh(self, session: int, key: int, peer: bytes, template: Template) -> int:
        """A secret key agreed on with a peer's point (C_DeriveKey, 5.13; CKM_ECDH1_DERIVE).

        Args:
            peer: the point, uncompressed.
            template: the secret key's attributes.
        """
        parameters = _Ecdh1Parameters(_CKD_NULL, 0, None, len(peer), peer)
        chosen = _Mechanism(
            CKM_ECDH1_DERIVE,
            ctypes.cast(ctypes.pointer(parameters), c_void_p),
            ctypes.sizeof(parameters),
        )
        handle = c_ulong()
        attributes = _attributes(template)
        self._do(
            "C_DeriveKey",
            c_ulong(session), byref(chosen), c_ulong(key), attributes, c_ulong(len(template)),
            byref(handle),
        )  # fmt: skip
        return handle.value

    def destroy_object(self, session: int, handle: int) -> None:
        """C_DestroyObject, 5.7."""
        self._do("C_DestroyObject", c_ulong(session), c_ulong(handle))


def _unsupported(*arguments: object) -> int:
    return CKR_FUNCTION_NOT_SUPPORTED


def _check(function: str, rv: int) -> None:
    if rv != CKR_OK:
        raise Pkcs11Error(function, rv)


def _text(info: ctypes.Structure, field: object) -> str:
    """A blank-padded text field that need not end in NUL (3.1)."""
    offset, size = field.offset, field.size  # type: ignore[attr-defined]
    raw = bytes(info)[offset : offset + size]
    return raw.rstrip(b" \0").decode("utf-8", "replace")


def _attributes(template: Template) -> ctypes.Array[_Attribute]:
    """A CK_ATTRIBUTE array; ctypes keeps the values alive with it."""
    array = (_Attribute * len(template))()
    for entry, (kind, value) in zip(array, template.items(), strict=True):
        entry.type = kind
        entry.value = ctypes.cast(c_char_p(value), c_void_p)
        entry.length = len(value)
    return array
