# SPDX-License-Identifier: LGPL-2.1-or-later
"""The login to one PKCS#11 token, and what the token says of its PIN."""

from __future__ import annotations

from contextlib import suppress

from vccid.errors import KeyOperationError, TokenGone, TokenLocked, VccidError, WrongPassword
from vccid.keys.ckr import Consequence
from vccid.keys.pkcs11_module import (
    CKF_LOGIN_REQUIRED,
    CKF_USER_PIN_COUNT_LOW,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKR_PIN_INCORRECT,
    CKR_USER_ALREADY_LOGGED_IN,
    CKS_USER_FUNCTIONS,
    Module,
    Pkcs11Error,
)
from vccid.keys.token_states import LOGIN, Login, LoginEvent


class Pkcs11Login:
    """A process's login to a token; whoever calls has the token to itself."""

    def __init__(self, module: Module, name: str) -> None:
        """`name` is what to call the token in a message."""
        self._module = module
        self._name = name
        self._flags = 0
        self._state = LOGIN.initial

    @property
    def required(self) -> bool:
        """As `Token.login_required`."""
        return bool(self._flags & CKF_LOGIN_REQUIRED)

    @property
    def there(self) -> bool:
        """Whether this process is logged in."""
        return self._state is Login.USER_FUNCTIONS

    @property
    def tries_left(self) -> int | None:
        """As `Token.tries_left`."""
        if self._flags & CKF_USER_PIN_LOCKED:
            return 0
        return 1 if self._flags & CKF_USER_PIN_FINAL_TRY else None

    def fewest_tries(self, slot: int) -> int | None:
        """As `Token.fewest_tries`: it tells only that it has one left, none, or not all (3.2)."""
        with suppress(Pkcs11Error):
            self.look_at(slot)
        low = self.tries_left is None and self._flags & CKF_USER_PIN_COUNT_LOW
        return 2 if low else self.tries_left

    def look_at(self, slot: int) -> None:
        """See what the token says of itself now.

        Raises:
            Pkcs11Error: it says nothing.
        """
        self._flags = self._module.token_info(slot).flags

    def lose(self) -> None:
        """The login is over."""
        self._move(LoginEvent.LOGGED_OUT)

    def regain(self) -> None:
        """The token never went, and has the login still."""
        self._move(LoginEvent.LOGGED_IN)

    def holds(self, anchor: int) -> bool:
        """Whether the module says so too, of a session that stays open."""
        try:
            return self._module.session_state(anchor) in CKS_USER_FUNCTIONS
        except Pkcs11Error:
            return False

    def log_in(self, slot: int, anchor: int, pin: bytes) -> None:
        """Try a PIN on the token.

        Raises:
            WrongPassword, TokenLocked, TokenGone, KeyOperationError: as `Token.login`.
        """
        try:
            try:
                self._module.login(anchor, pin)
            except Pkcs11Error as error:
                if error.rv != CKR_USER_ALREADY_LOGGED_IN:
                    raise
                # Somebody's login, which proves nothing about this PIN.
                self._module.logout(anchor)
                self._module.login(anchor, pin)
        except Pkcs11Error as error:
            raise self._failure(slot, error) from None
        # A right PIN gives the token all its tries back.
        self._flags &= ~(CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW)
        self._move(LoginEvent.LOGGED_IN)

    def _failure(self, slot: int, error: Pkcs11Error) -> VccidError:
        """What a failed C_Login says, and what it does not."""
        with suppress(Pkcs11Error):
            self.look_at(slot)
        match error.consequence:
            case Consequence.LOCKED:
                self._flags |= CKF_USER_PIN_LOCKED
                return self._blocked()
            case Consequence.WRONG_PIN:
                return self._wrong_pin()
            case Consequence.GONE:
                return TokenGone(f"{self._name} could not log in: {error.message}")
        return KeyOperationError(
            f"{self._name} could not log in: {error.message}",
            "that says nothing about the PIN: see what the token's own tools say",
        )

    def change_failure(self, error: Pkcs11Error) -> VccidError:
        """What a failed C_SetPIN says."""
        # Of the new one, PIN_INVALID and PIN_LEN_RANGE would speak as well.
        if error.rv == CKR_PIN_INCORRECT:
            return self._wrong_pin()
        if error.consequence is Consequence.LOCKED:
            return self._blocked()
        return KeyOperationError(
            f"{self._name} takes no new password here: {error.message}",
            "change it with the tool that made it",
        )

    def _blocked(self) -> TokenLocked:
        return TokenLocked(
            f"{self._name} is locked: too many wrong PINs", "unlock it with its own tools"
        )

    def _wrong_pin(self) -> WrongPassword:
        return WrongPassword(
            f"wrong password for {self._name}", "it was tried once", self.tries_left
        )

    def _move(self, event: LoginEvent) -> None:
        self._state = LOGIN.after(self._state, event)
