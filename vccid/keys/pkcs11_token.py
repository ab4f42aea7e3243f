# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token of any PKCS#11 module: its sessions, its login, its certificates and keys."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from vccid.errors import (
    KeyOperationError,
    LoginLost,
    TokenGone,
    TokenLocked,
    VccidError,
    WrongPassword,
)
from vccid.keys.base import Token
from vccid.keys.ckr import Consequence
from vccid.keys.pkcs11_module import (
    CKA_CLASS,
    CKA_ID,
    CKA_LABEL,
    CKA_TOKEN,
    CKA_VALUE,
    CKF_LOGIN_REQUIRED,
    CKF_USER_PIN_COUNT_LOW,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKM_RSA_X_509,
    CKO_CERTIFICATE,
    CKR_PIN_INCORRECT,
    CKR_USER_ALREADY_LOGGED_IN,
    CKS_USER_FUNCTIONS,
    Module,
    Pkcs11Error,
    ulong,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CertificateObject:
    """A certificate as the token holds it: CKA_LABEL, CKA_ID and CKA_VALUE (DER)."""

    label: str
    id: bytes
    der: bytes


class Pkcs11Token(Token):
    """One token, shared by every card that has a key in it.

    A pool hands each operation a session of its own, for a session used by two threads
    crashes some modules. One more session, the anchor, stays open: it keeps the login
    (PKCS #11 base 2.40, 5.6) and owns the key copies.

    Attributes:
        module: the module it is reached through.
        short_name: what a systemd credential for its password is named after.
        generation: grows each time the token was looked up; older handles are void.
        raw_rsa: whether it offers CKM_RSA_X_509.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        short_name: str,
        locate: Callable[[], int],
        *,
        copy_keys: bool = False,
        leave: Callable[[int], None] = lambda slot: None,
        pin_refusal: str = "",
    ) -> None:
        """Describe a token; `open` opens it.

        Args:
            name: what to call it in a message.
            short_name: a database folder's last part, or a token's label.
            locate: finds its slot, also again after it was gone.
            copy_keys: whether to work with session copies of its keys.
            leave: called with the slot after the last session on it was closed.
            pin_refusal: why its PIN cannot be changed here, or "".
        """
        self.module = module
        self.short_name = short_name
        self.generation = 0
        self.raw_rsa = False
        self._name = name
        self._locate = locate
        self._copy_keys = copy_keys
        self._leave = leave
        self._pin_refusal = pin_refusal
        # Guards the anchor, the login and everything found with them.
        self._lock = threading.RLock()
        # Guards `_running` and `_closed`; told when an operation ends.
        self._ended = threading.Condition()
        self._running = 0
        self._closed = True
        self._idle: deque[int] = deque()
        self._logged_in = False
        self._flags = 0

    def open(self) -> None:
        """Open the token, or open it again after `close`.

        Raises:
            TokenGone, SourceUnusable, Pkcs11Error: it cannot be opened.
        """
        with self._lock:
            slot = self._locate()
            try:
                self._look_at(slot)
            except Pkcs11Error:
                self._leave(slot)
                raise
            self._closed = False

    def _look_at(self, slot: int) -> None:
        """Take a slot as the token's, with what it says of itself."""
        anchor = self.module.open_session(slot)
        try:
            self._flags = self.module.token_info(slot).flags
            self.raw_rsa = CKM_RSA_X_509 in self.module.mechanisms(slot)
        except Pkcs11Error:
            self._close_session(anchor)
            raise
        self._slot, self._anchor = slot, anchor
        self.generation += 1

    def close(self) -> None:
        """Close every session, which also logs out (5.6); waits for operations under way."""
        with self._ended:
            self._closed = True
            self._ended.wait_for(lambda: self._running == 0)
        with self._lock:
            self._logged_in = False
            self._drop_sessions()
            self._close_session(self._anchor)
            self._leave(self._slot)

    @property
    def name(self) -> str:
        return self._name

    @property
    def login_required(self) -> bool:
        return bool(self._flags & CKF_LOGIN_REQUIRED)

    @property
    def logged_in(self) -> bool:
        return self._logged_in

    @property
    def usable(self) -> bool:
        """Whether private keys can be seen now."""
        return self._logged_in or not self.login_required

    @property
    def tries_left(self) -> int | None:
        if self._flags & CKF_USER_PIN_LOCKED:
            return 0
        return 1 if self._flags & CKF_USER_PIN_FINAL_TRY else None

    def fewest_tries(self) -> int | None:
        """As `Token`; a token tells only that it has one left, none, or not all (3.2)."""
        with self._lock:
            self._ensure_anchor()
            with suppress(Pkcs11Error):
                self._flags = self.module.token_info(self._slot).flags
            return (
                2
                if self.tries_left is None and self._flags & CKF_USER_PIN_COUNT_LOW
                else self.tries_left
            )

    def still_logged_in(self) -> bool:
        with self._lock:
            if self._logged_in:
                with suppress(TokenGone, LoginLost):
                    self._ensure_anchor()
                    self._logged_in = self._has_login()
            return self.usable

    def _has_login(self) -> bool:
        try:
            return self.module.session_state(self._anchor) in CKS_USER_FUNCTIONS
        except Pkcs11Error:
            return False

    @property
    def pin_refusal(self) -> str:
        return self._pin_refusal

    def login(self, pin: bytes) -> None:
        with self._lock:
            if self._logged_in or not self.login_required:
                return
            self._ensure_anchor()
            self._ask_token(pin)
            self._logged_in = True

    def _ask_token(self, pin: bytes) -> None:
        try:
            try:
                self.module.login(self._anchor, pin)
            except Pkcs11Error as error:
                if error.rv != CKR_USER_ALREADY_LOGGED_IN:
                    raise
                # Somebody's login, which proves nothing about this PIN.
                self.module.logout(self._anchor)
                self.module.login(self._anchor, pin)
        except Pkcs11Error as error:
            raise self._login_failure(error) from None
        # A right PIN gives the token all its tries back.
        self._flags &= ~(CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW)

    def _login_failure(self, error: Pkcs11Error) -> VccidError:
        """What a failed C_Login says, and what it does not."""
        with suppress(Pkcs11Error):
            self._flags = self.module.token_info(self._slot).flags
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

    def _blocked(self) -> TokenLocked:
        return TokenLocked(
            f"{self._name} is locked: too many wrong PINs", "unlock it with its own tools"
        )

    def _wrong_pin(self) -> WrongPassword:
        return WrongPassword(
            f"wrong password for {self._name}", "it was tried once", self.tries_left
        )

    def change_pin(self, old: bytes, new: bytes) -> None:
        if self._pin_refusal:
            raise KeyOperationError(f"{self._name} takes no new password here", self._pin_refusal)
        with self._lock:
            try:
                session = self.module.open_session(self._slot, writable=True)
                try:
                    self.module.set_pin(session, old, new)
                finally:
                    self.module.close_session(session)
            except Pkcs11Error as error:
                # Of the new one, PIN_INVALID and PIN_LEN_RANGE would speak as well.
                if error.rv == CKR_PIN_INCORRECT:
                    raise self._wrong_pin() from None
                if error.consequence is Consequence.LOCKED:
                    raise self._blocked() from None
                raise KeyOperationError(
                    f"{self._name} takes no new password here: {error.message}",
                    "change it with the tool that made it",
                ) from None

    def certificates(self) -> list[CertificateObject]:
        """Every X.509 certificate on the token that has a value.

        Raises:
            TokenGone, Pkcs11Error: they cannot be had.
        """

        def read(session: int) -> list[CertificateObject]:
            found = []
            for handle in self.module.find(session, {CKA_CLASS: ulong(CKO_CERTIFICATE)}):
                values = self.module.attributes(session, handle, (CKA_LABEL, CKA_ID, CKA_VALUE))
                if der := values.get(CKA_VALUE):
                    label = values.get(CKA_LABEL, b"").rstrip(b"\0").decode("utf-8", "replace")
                    found.append(CertificateObject(label, values.get(CKA_ID, b""), der))
            return found

        return self.run(read)

    def copy_key(self, handle: int) -> tuple[int, int]:
        """A faster stand-in for a private key where there is one, and its generation."""
        with self._lock:
            if self._copy_keys:
                handle = self.module.copy_object(self._anchor, handle, {CKA_TOKEN: b"\0"})
            return handle, self.generation

    def run(self, operation: Callable[[int], T]) -> T:
        """`operation(session)`, once more where the token had gone and is back.

        Raises:
            TokenGone: it is not back.
            LoginLost: it is back and locked.
            Pkcs11Error: anything else the module answered.
        """
        generation = self.generation
        try:
            with self._session() as session:
                return operation(session)
        except Pkcs11Error as error:
            if error.consequence is Consequence.NO_LOGIN and not self.still_logged_in():
                raise LoginLost(f"{self._name} is locked", "verify the PIN again") from None
            if error.consequence is not Consequence.GONE:
                raise
        self._find_again(generation)
        try:
            with self._session() as session:
                return operation(session)
        except Pkcs11Error as error:
            if error.consequence is not Consequence.GONE:
                raise
            raise TokenGone(f"{self._name} is gone: {error.message}") from None

    @contextmanager
    def _session(self) -> Iterator[int]:
        """A session of the pool for one operation; a failed one is not used again."""
        with self._ended:
            if self._closed:
                raise TokenGone(f"{self._name} was closed, for its card was removed")
            self._running += 1
        try:
            generation = self.generation
            session = self._take_session()
            try:
                yield session
            except BaseException:
                self._close_session(session)
                raise
            if generation == self.generation:
                self._idle.append(session)
            else:
                self._close_session(session)
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def _take_session(self) -> int:
        try:
            return self._idle.pop()
        except IndexError:
            return self.module.open_session(self._slot)

    def _find_again(self, generation: int) -> None:
        """Drop what belonged to the lost token and look it up, unless another thread did."""
        with self._lock:
            if self.generation != generation:
                return
            was_logged_in, old_anchor = self._logged_in, self._anchor
            self._logged_in = False
            self._drop_sessions()
            try:
                # The new anchor comes first: where the token never went, it keeps the login.
                self._look_at(self._locate())
                state = self.module.session_state(self._anchor)
            except Pkcs11Error as error:
                raise TokenGone(f"{self._name} is gone: {error.message}") from None
            finally:
                self._close_session(old_anchor)
            self._logged_in = was_logged_in and state in CKS_USER_FUNCTIONS
            if was_logged_in and not self._logged_in:
                raise LoginLost(f"{self._name} was gone, and is locked now", "verify the PIN again")

    def _ensure_anchor(self) -> None:
        try:
            self.module.session_state(self._anchor)
        except Pkcs11Error:
            self._find_again(self.generation)

    def _drop_sessions(self) -> None:
        while self._idle:
            self._close_session(self._idle.pop())

    def _close_session(self, session: int) -> None:
        with suppress(Pkcs11Error):
            self.module.close_session(session)
