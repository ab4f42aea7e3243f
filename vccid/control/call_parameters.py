# SPDX-License-Identifier: LGPL-2.1-or-later
"""A call's parameters, taken one by one and checked; what is left over is an error."""

from __future__ import annotations

import base64
from typing import Final

from vccid.errors import VccidError
from vccid.process import user_text
from vccid.wire.varlink import Parameters

#: The longest a call may wait for hosts, in seconds.
LONGEST_WAIT: Final = 3600.0

#: Characters of a name, path or URI; none of them is longer.
LONGEST_TEXT: Final = 8192


class BadParameter(VccidError):
    """A parameter is missing, unknown, or of the wrong type.

    Attributes:
        name: the parameter's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"parameter {name} is missing, unknown or unfit")
        self.name = name


class Unfit(BadParameter):
    """A parameter is of its type, and of no use: a name no file can have, a time too long."""

    def __init__(self, name: str, message: str, hint: str) -> None:
        super().__init__(name)
        self.message, self.hint = f"{name}: {message}", hint


class Taker:
    """Takes parameters out of a call."""

    def __init__(self, parameters: Parameters) -> None:
        # varlink.org: a nullable parameter that is null is one that is not there.
        self._left = {name: value for name, value in parameters.items() if value is not None}

    def text(self, name: str) -> str | None:
        """A string that a file, certificate or token can be called."""
        if name not in self._left:
            return None
        return _text(name, self._left.pop(name))

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of such strings."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if not isinstance(value, list):
            raise BadParameter(name)
        return tuple(_text(name, item) for item in value)

    def secret(self, name: str) -> bytes | None:
        """Bytes in base64."""
        if name not in self._left:
            return None
        return _secret(name, self._left.pop(name))

    def secrets(self, name: str) -> tuple[bytes, ...] | None:
        """A list of bytes in base64."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if not isinstance(value, list):
            raise BadParameter(name)
        return tuple(_secret(name, item) for item in value)

    def flag(self, name: str) -> bool:
        """True, or false where it is not given."""
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise BadParameter(name)
        return value

    def seconds(self, name: str) -> float | None:
        """A time to wait, 0 to `LONGEST_WAIT`."""
        if name not in self._left:
            return None
        value = self._left.pop(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadParameter(name)
        if not 0 <= value <= LONGEST_WAIT:  # neither is NaN
            raise Unfit(name, "no time to wait", f"wait 0 to {LONGEST_WAIT:g} seconds")
        return float(value)

    def done(self) -> None:
        """Nothing else may have been given."""
        for name in self._left:
            raise BadParameter(name)


def _text(name: str, value: object) -> str:
    # What goes on to a log line or a terminal is made printable there.
    if not isinstance(value, str):
        raise BadParameter(name)
    if len(value) > LONGEST_TEXT:
        hint = f"no name, path or URI has more than {LONGEST_TEXT}"
        raise Unfit(name, f"{len(value)} characters", hint)
    if fault := user_text.fault(value):
        hint = "rename it, or name a link to it that has none"
        raise Unfit(name, f"'{user_text.shown(value)}' has {fault} in its name", hint)
    return value


def _secret(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise BadParameter(name)
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        # `from None`: the chain would carry the secret.
        raise BadParameter(name) from None
