# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon and a worker say to each other, as bytes.

A frame is four bytes of length, big-endian, and as many of a message. A request is a byte that
names its verb, then fields; a reply has one that is 0 or the place of an error in `ERRORS`, three
that tell the token's state, then fields. A field is four bytes of length and its content. One
request at a time, and one reply to each. Neither side trusts the other's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from vccid.errors import (
    CertificateNotFound,
    KeyOperationError,
    KeySourceError,
    KeyUnsuitable,
    LoginLost,
    PrivateKeyMissing,
    RemoteProtocolError,
    SourceUnusable,
    TokenGone,
    TokenLocked,
    VccidError,
    WrongPassword,
)
from vccid.keys.token_nouns import KeyClue

#: Bytes of the longest message: a token full of certificates is shorter.
MAX_MESSAGE: Final = 1 << 24
#: Characters of the longest sentence of an error.
_MAX_SENTENCE: Final = 4096
#: Where a number of tries is none.
_NO_NUMBER: Final = 0xFF

_LENGTH: Final = Struct(">I")
#: Error or 0; flags; tries left.
_REPLY: Final = Struct(">BBB")
_LOGIN_REQUIRED, _LOGGED_IN, _RAW_RSA = 1, 2, 4

#: The errors that cross, by their place from 1 on; another goes as the nearest base among them.
ERRORS: Final[tuple[type[VccidError], ...]] = (
    VccidError,
    KeySourceError,
    SourceUnusable,
    CertificateNotFound,
    PrivateKeyMissing,
    KeyUnsuitable,
    WrongPassword,
    TokenLocked,
    TokenGone,
    KeyOperationError,
    LoginLost,
)
#: No line end and no control character gets into a log line.
_ONE_LINE: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0))
}
_ONE_LINE.update({0x2028: "\N{REPLACEMENT CHARACTER}", 0x2029: "\N{REPLACEMENT CHARACTER}"})


class Verb(IntEnum):
    """What is asked of a worker."""

    #: A module's file, or "" for NSS's; then its environment, NAME=VALUE each.
    LOAD = 1
    #: Every token there is.
    LIST = 2
    #: A token by its name in messages, label, manufacturer, serial and model; or a database's path.
    OPEN = 3
    CERTIFICATES = 4
    #: The PIN.
    LOGIN = 5
    #: How many tries are left at least, and whether it is still logged in.
    STATE = 6
    #: The old PIN and the new one.
    CHANGE_PIN = 7
    #: Whether there is the private key of a certificate: a `KeyClue`.
    FIND = 8
    #: The bare RSA operation: a `KeyClue` and the block.
    RAW = 9
    #: ECDSA: a `KeyClue` and the digest.
    SIGN = 10
    #: ECDH: a `KeyClue` and the point.
    DERIVE = 11
    #: Log out and let go of the module.
    CLOSE = 12


class State(NamedTuple):
    """How a token stands.

    Attributes:
        login_required: whether its private keys need a password.
        logged_in: whether its process is logged in.
        raw_rsa: whether it offers CKM_RSA_X_509.
        tries_left: as `Token.tries_left`.
    """

    login_required: bool = False
    logged_in: bool = False
    raw_rsa: bool = False
    tries_left: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        state: the token's, after it.
        fields: the answer, where there is no error.
        error: what went wrong, or None.
    """

    state: State
    fields: tuple[bytes, ...]
    error: VccidError | None


def pack_clue(clue: KeyClue) -> bytes:
    """A clue as one field of a request: its own are packed within."""
    return _pack((clue.name.encode("utf-8", "replace"), clue.id, clue.public, clue.oid))


def read_clue(packed: bytes) -> KeyClue:
    """The clue in a field.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        name, id_, public, oid = _unpack(packed, 0)
    except ValueError:
        raise RemoteProtocolError("a key was named by other fields") from None
    return KeyClue(name.decode("utf-8", "replace"), id_, public, oid)


class FrameReader:
    """Bytes of one peer to its message, of which there is one at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """The message, once its last byte is there.

        Raises:
            RemoteProtocolError: it is too long, or something follows it.
        """
        buffer, size = self._buffer, len(data) - _LENGTH.size
        if not buffer and 0 <= size <= MAX_MESSAGE and data.startswith(_LENGTH.pack(size)):
            return data[_LENGTH.size :]  # whole, as all but the longest come
        buffer += data
        if len(buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(buffer)
        if size > MAX_MESSAGE:
            raise RemoteProtocolError(f"a message of {size} bytes was announced")
        whole = _LENGTH.size + size
        if len(buffer) < whole:
            return None
        if len(buffer) > whole:
            raise RemoteProtocolError("a message came that nobody asked for")
        message = bytes(memoryview(buffer)[_LENGTH.size :])
        self._buffer = bytearray()
        return message


def frame(message: bytes) -> bytes:
    """A message as it is sent."""
    return _LENGTH.pack(len(message)) + message


def request(verb: Verb, *fields: bytes) -> bytes:
    """A request."""
    return bytes((verb,)) + _pack(fields)


def read_request(message: bytes) -> tuple[Verb, tuple[bytes, ...]]:
    """A request's verb and fields.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        verb = Verb(message[0])
    except (IndexError, ValueError):
        raise RemoteProtocolError("a request without a verb") from None
    return verb, _unpack(message, 1)


def reply(state: State, *fields: bytes) -> bytes:
    """The answer to a request."""
    return _head(0, state) + _pack(fields)


def error_reply(state: State, error: VccidError) -> bytes:
    """The answer to a request that failed."""
    base = next(kind for kind in type(error).__mro__ if kind in ERRORS)
    tries = number(error.tries_left if isinstance(error, WrongPassword) else None)
    texts = (text.encode("utf-8", "replace") for text in (error.message, error.hint))
    return _head(ERRORS.index(base) + 1, state) + _pack((*texts, tries))


def read_reply(message: bytes) -> Reply:
    """What a reply says.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(message) < _REPLY.size:
        raise RemoteProtocolError("a reply was cut off")
    kind, flags, tries = _REPLY.unpack_from(message)
    state = State(
        bool(flags & _LOGIN_REQUIRED),
        bool(flags & _LOGGED_IN),
        bool(flags & _RAW_RSA),
        None if tries == _NO_NUMBER else tries,
    )
    fields = _unpack(message, _REPLY.size)
    if not kind:
        return Reply(state, fields, None)
    if kind > len(ERRORS) or len(fields) != 3:
        raise RemoteProtocolError("a reply with an error nobody knows")
    return Reply(state, (), _error(ERRORS[kind - 1], *fields))


def _error(kind: type[VccidError], message: bytes, hint: bytes, tries: bytes) -> VccidError:
    said = sentence(message), sentence(hint)
    if issubclass(kind, WrongPassword):
        return kind(*said, read_number(tries))
    return kind(*said)


def number(value: int | None) -> bytes:
    """A small number, or none, as a field."""
    return bytes((_NO_NUMBER if value is None else value,))


def read_number(field: bytes) -> int | None:
    """The number in a field.

    Raises:
        RemoteProtocolError: it has another length.
    """
    if len(field) != 1:
        raise RemoteProtocolError("a number that is none")
    return None if field[0] == _NO_NUMBER else field[0]


def sentence(field: bytes) -> str:
    """A field as one line of text, whatever is in it."""
    return field[:_MAX_SENTENCE].decode("utf-8", "replace").translate(_ONE_LINE)


def _head(kind: int, state: State) -> bytes:
    flags = (
        (_LOGIN_REQUIRED if state.login_required else 0)
        | (_LOGGED_IN if state.logged_in else 0)
        | (_RAW_RSA if state.raw_rsa else 0)
    )
    return _REPLY.pack(kind, flags, _NO_NUMBER if state.tries_left is None else state.tries_left)


def _pack(fields: Sequence[bytes]) -> bytes:
    return b"".join([part for field in fields for part in (_LENGTH.pack(len(field)), field)])


def _unpack(message: bytes, at: int) -> tuple[bytes, ...]:
    fields, end = [], len(message)
    while at < end:
        begin = at + _LENGTH.size
        if begin > end:
            raise RemoteProtocolError("a field was cut off")
        at = begin + _LENGTH.unpack_from(message, at)[0]
        if at > end:
            raise RemoteProtocolError("a field was cut off")
        fields.append(message[begin:at])
    return tuple(fields)
