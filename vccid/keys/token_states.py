# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a token takes operations, and whether this process is logged in to it."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class Pool(Enum):
    """A token's sessions."""

    CLOSED = auto()
    OPEN = auto()
    #: no operation begins, and those under way come to their end
    CLOSING = auto()


class PoolEvent(Enum):
    """What moves them."""

    OPENED = auto()
    CLOSE = auto()
    DRAINED = auto()


POOL: Final = Machine(
    "sessions with a PKCS#11 token",
    "PKCS #11 base 2.40, 5.6",
    Pool.CLOSED,
    {
        Pool.CLOSED: {
            PoolEvent.OPENED: Pool.OPEN,
            PoolEvent.CLOSE: Pool.CLOSING,
            PoolEvent.DRAINED: Pool.CLOSED,
        },
        Pool.OPEN: {PoolEvent.OPENED: Pool.OPEN, PoolEvent.CLOSE: Pool.CLOSING},
        Pool.CLOSING: {PoolEvent.CLOSE: Pool.CLOSING, PoolEvent.DRAINED: Pool.CLOSED},
    },
)


class Login(Enum):
    """The login, which all sessions of a process share: the standard's names."""

    PUBLIC = auto()
    USER_FUNCTIONS = auto()


class LoginEvent(Enum):
    """What moves it."""

    LOGGED_IN = auto()
    #: the last session was closed, the token is gone, or somebody else logged out
    LOGGED_OUT = auto()


#: A token that is found again where it never went has the login still: that is LOGGED_OUT and
#: LOGGED_IN, so that nobody takes it for unlocked meanwhile.
LOGIN: Final = Machine(
    "login to a PKCS#11 token",
    "PKCS #11 base 2.40, 5.6; usage guide 2.40, 2.6",
    Login.PUBLIC,
    {
        Login.PUBLIC: {
            LoginEvent.LOGGED_IN: Login.USER_FUNCTIONS,
            LoginEvent.LOGGED_OUT: Login.PUBLIC,
        },
        Login.USER_FUNCTIONS: {LoginEvent.LOGGED_OUT: Login.PUBLIC},
    },
)
