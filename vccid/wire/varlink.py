# SPDX-License-Identifier: LGPL-2.1-or-later
"""Varlink messages: JSON objects, each ended by one NUL byte.

Source: varlink.org, "Method Call" and "Reply", and "org.varlink.service".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from vccid.errors import RemoteProtocolError

#: The interface every Varlink service answers, and ours.
SERVICE: Final = "org.varlink.service"
INTERFACE: Final = "io.vccid"

#: Longest message taken, in bytes without its NUL: a password file and ten URIs fit many times.
MAX_MESSAGE_BYTES: Final = 1 << 20

Parameters = dict[str, Any]


class Decoder:
    """Cuts a stream into messages, however it arrives."""

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._buffer = bytearray()
        self._limit = limit

    @property
    def partial(self) -> bool:
        """Whether the beginning of a message is waiting for its end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, without their NUL.

        Raises:
            RemoteProtocolError: a message is longer than the limit.
        """
        *complete, rest = data.split(b"\0")
        messages = []
        for part in complete:
            self._append(part)
            messages.append(bytes(self._buffer))
            self._buffer.clear()
        self._append(rest)
        return messages

    def _append(self, part: bytes) -> None:
        if len(self._buffer) + len(part) > self._limit:
            raise RemoteProtocolError(f"a message is longer than {self._limit} bytes")
        self._buffer += part


@dataclass(frozen=True, slots=True)
class Call:
    """One method call.

    Attributes:
        method: fully qualified: "io.vccid.Status".
        parameters: the method's input, by name.
        oneway: no reply is wanted, not even an error.
        more: several replies are wanted.
    """

    method: str
    parameters: Parameters = field(default_factory=dict, repr=False)
    oneway: bool = False
    more: bool = False

    @classmethod
    def parse(cls, message: bytes) -> Call:
        """Read one message, without its NUL.

        Raises:
            RemoteProtocolError: it is no method call.
        """
        fields = _json_object(message)
        method = fields.get("method")
        if not isinstance(method, str) or "." not in method:
            raise RemoteProtocolError("a call names no interface and method")
        if _flag(fields, "upgrade"):
            raise RemoteProtocolError("a call asks for another protocol (upgrade)")
        oneway, more = _flag(fields, "oneway"), _flag(fields, "more")
        if oneway and more:
            raise RemoteProtocolError("a call wants no reply (oneway) and several (more)")
        return cls(method, _parameters(fields), oneway, more)

    def serialize(self) -> bytes:
        """The message, with its NUL."""
        fields: Parameters = {"method": self.method, "parameters": self.parameters}
        if self.oneway:
            fields["oneway"] = True
        if self.more:
            fields["more"] = True
        return _message(fields)

    @property
    def interface(self) -> str:
        """What stands before the last dot."""
        return self.method.rpartition(".")[0]

    @property
    def member(self) -> str:
        """What stands after the last dot."""
        return self.method.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply.

    Attributes:
        parameters: the method's output, or the error's, by name.
        continues: more replies to the same call follow.
        error: fully qualified name of an error, or "".
    """

    parameters: Parameters = field(default_factory=dict)
    continues: bool = False
    error: str = ""

    @classmethod
    def parse(cls, message: bytes) -> Reply:
        """Read one message, without its NUL.

        Raises:
            RemoteProtocolError: it is no reply.
        """
        fields = _json_object(message)
        error = fields.get("error") or ""
        if not isinstance(error, str):
            raise RemoteProtocolError("a reply's error is no string")
        return cls(_parameters(fields), _flag(fields, "continues"), error)

    def serialize(self) -> bytes:
        """The message, with its NUL."""
        fields: Parameters = {"parameters": self.parameters}
        if self.continues:
            fields["continues"] = True
        if self.error:
            fields["error"] = self.error
        return _message(fields)


def service_error(name: str, **parameters: str) -> Reply:
    """One of the errors every service may answer: org.varlink.service.<name>."""
    return Reply(parameters, error=f"{SERVICE}.{name}")


def _message(fields: Parameters) -> bytes:
    # ASCII only, so that a NUL or a lone surrogate in a string is escaped too.
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\0"


def _json_object(message: bytes) -> Parameters:
    try:
        fields = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError):
        # `from None`: the chain would carry the message, and a message may hold a PIN.
        raise RemoteProtocolError("a message is no JSON") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("a message is no JSON object")
    return fields


def _parameters(fields: Parameters) -> Parameters:
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RemoteProtocolError("a message's parameters are no object")
    return parameters


def _flag(fields: Parameters, name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise RemoteProtocolError(f"a message's {name} is neither true nor false")
    return bool(value)
