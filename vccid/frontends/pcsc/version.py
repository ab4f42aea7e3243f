# SPDX-License-Identifier: LGPL-2.1-or-later
"""The version of the protocol that one program speaks."""

from __future__ import annotations

from vccid.errors import RemoteProtocolError
from vccid.frontends.pcsc.version_states import VERSION, Event, State
from vccid.wire.pcsclite import MAJOR, NEWEST_MINOR, OLDEST_MINOR, Rv, Version


class AgreedVersion:
    """What a program and we agreed on, or nothing yet."""

    def __init__(self) -> None:
        self._minor = 0
        self._state = VERSION.initial

    @property
    def is_newest(self) -> bool:
        """Whether they speak the newest version."""
        return self._state is State.AGREED and self._minor == NEWEST_MINOR

    def say(self, request: Version) -> None:
        """Put the answer into what the program says it speaks.

        Raises:
            RemoteProtocolError: it was asked to say another one, and that is none of ours either.
        """
        known = request.major == MAJOR and OLDEST_MINOR <= request.minor <= NEWEST_MINOR
        self._state = VERSION.after(self._state, Event.KNOWN if known else Event.UNKNOWN)
        if self._state is State.REFUSED:
            raise RemoteProtocolError(f"protocol version {request.major}:{request.minor}")
        if known:
            # Its own, and no other: a library of 2.5 does not get on in an older one.
            self._minor, request.rv = request.minor, Rv.SUCCESS
        else:
            request.major, request.minor = MAJOR, NEWEST_MINOR
            request.rv = Rv.E_SERVICE_STOPPED
