# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token of any PKCS#11 module: its sessions, its login, its certificates and keys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from vccid.errors import LoginLost, TokenGone
from vccid.keys.ckr import Consequence
from vccid.keys.pkcs11_login import Pkcs11Login
from vccid.keys.pkcs11_module import (
    CKA_CLASS,
    CKA_ID,
    CKA_LABEL,
    CKA_TOKEN,
    CKA_VALUE,
    CKM_RSA_X_509,
    CKO_CERTIFICATE,
    CKS_USER_FUNCTIONS,
    Module,
    Pkcs11Error,
    ulong,
)
from vccid.keys.session_pool import SessionPool
from vccid.keys.token_nouns import CertificateObject

T = TypeVar("T")


class Pkcs11Token:
    """One token, shared by every card that has a key in it; what it offers is `Token`'s.

    Each operation has a session of a pool to itself. One more session, the anchor, stays open: it
    keeps the login (PKCS #11 base 2.40, 5.6) and owns the key copies.

    Attributes:
        module: the module it is reached through.
        raw_rsa: whether it offers CKM_RSA_X_509.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        locate: Callable[[], int],
        *,
        copy_keys: bool = False,
        leave: Callable[[int], None] = lambda slot: None,
    ) -> None:
        """Describe a token; `open` opens it.

        Args:
            name: what to call it in a message.
            locate: finds its slot, also again after it was gone.
            copy_keys: whether to work with session copies of its keys.
            leave: called with the slot after the last session on it was closed.
        """
        self.module = module
        self.raw_rsa = False
        self._name = name
        self._locate = locate
        self._copy_keys = copy_keys
        self._leave = leave
        # Guards the anchor, the login and everything found with them.
        self._lock = threading.RLock()
        self._pool = SessionPool(module, name)
        self._login = Pkcs11Login(module, name)

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
            self._pool.open()

    def _look_at(self, slot: int) -> None:
        """Take a slot as the token's, with what it says of itself."""
        anchor = self.module.open_session(slot)
        try:
            self._login.look_at(slot)
            self.raw_rsa = CKM_RSA_X_509 in self.module.mechanisms(slot)
        except Pkcs11Error:
            self._pool.discard(anchor)
            raise
        self._anchor = anchor
        self._pool.found(slot)

    def close(self) -> None:
        """Close every session, which also logs out (5.6); waits for operations under way."""
        self._pool.close()
        with self._lock:
            self._login.lose()
            self._pool.drop()
            self._pool.discard(self._anchor)
            self._leave(self._pool.slot)

    @property
    def generation(self) -> int:
        """Grows each time the token was looked up; older handles are void."""
        return self._pool.generation

    @property
    def name(self) -> str:
        return self._name

    @property
    def login_required(self) -> bool:
        return self._login.required

    @property
    def logged_in(self) -> bool:
        return self._login.there

    @property
    def usable(self) -> bool:
        """Whether private keys can be seen now."""
        return self._login.there or not self._login.required

    @property
    def tries_left(self) -> int | None:
        return self._login.tries_left

    def fewest_tries(self) -> int | None:
        with self._lock:
            self._ensure_anchor()
            return self._login.fewest_tries(self._pool.slot)

    def still_logged_in(self) -> bool:
        with self._lock:
            if self._login.there:
                with suppress(TokenGone, LoginLost):
                    self._ensure_anchor()
                    if not self._login.holds(self._anchor):
                        self._login.lose()
            return self.usable

    def login(self, pin: bytes) -> None:
        with self._lock:
            if self.usable:
                return
            self._ensure_anchor()
            self._login.log_in(self._pool.slot, self._anchor, pin)

    def change_pin(self, old: bytes, new: bytes) -> None:
        with self._lock:
            try:
                session = self.module.open_session(self._pool.slot, writable=True)
                try:
                    self.module.set_pin(session, old, new)
                finally:
                    self.module.close_session(session)
            except Pkcs11Error as error:
                raise self._login.change_failure(error) from None

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
            with self._pool.session() as session:
                return operation(session)
        except Pkcs11Error as error:
            if error.consequence is Consequence.NO_LOGIN and not self.still_logged_in():
                raise LoginLost(f"{self._name} is locked", "verify the PIN again") from None
            if error.consequence is not Consequence.GONE:
                raise
        self._find_again(generation)
        try:
            with self._pool.session() as session:
                return operation(session)
        except Pkcs11Error as error:
            if error.consequence is not Consequence.GONE:
                raise
            raise TokenGone(f"{self._name} is gone: {error.message}") from None

    def _find_again(self, generation: int) -> None:
        """Drop what belonged to the lost token and look it up, unless another thread did."""
        with self._lock:
            if self.generation != generation:
                return
            was_logged_in, old_anchor = self._login.there, self._anchor
            self._login.lose()
            self._pool.drop()
            try:
                # The new anchor comes first: where the token never went, it keeps the login.
                self._look_at(self._locate())
                state = self.module.session_state(self._anchor)
            except Pkcs11Error as error:
                raise TokenGone(f"{self._name} is gone: {error.message}") from None
            finally:
                self._pool.discard(old_anchor)
            if not was_logged_in:
                return
            if state not in CKS_USER_FUNCTIONS:
                raise LoginLost(f"{self._name} was gone, and is locked now", "verify the PIN again")
            self._login.regain()

    def _ensure_anchor(self) -> None:
        try:
            self.module.session_state(self._anchor)
        except Pkcs11Error:
            self._find_again(self.generation)
