# SPDX-License-Identifier: LGPL-2.1-or-later
"""A token's login, which belongs to the whole process, and what is known of its PIN.

Once a token is logged in, a PIN is compared with a keyed digest, in memory, of the one that
worked; a wrong one never reaches the token, whose own tries are not ours to spend.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from weakref import WeakKeyDictionary

from vccid.errors import KeyOperationError, TokenLocked, WrongPassword
from vccid.keys.base import Token


class _Known:
    """What this process knows of a token's PIN.

    Attributes:
        lock: held while a PIN is checked.
        key: a digest's key, of this process's own: a digest says nothing under any other.
        right: the digest of the PIN that worked, or None.
        wrong: those of PINs the token refused.
        tries_kept: no PIN reaches the token while it may have fewer tries left than this.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.key = os.urandom(32)
        self.right: bytes | None = None
        self.wrong: set[bytes] = set()
        self.tries_kept = 0


class TokenLogin:
    """A token's login. Whoever logs the token in does so here, or no later PIN could be told.

    Attributes:
        token: the token.
        lock: to be held while one of the methods runs; they block.
    """

    def __init__(self, token: Token, known: _Known | None = None) -> None:
        """Of a token nobody else uses; where others may, take it from `TokenLogins`."""
        self.token = token
        self._known = _Known() if known is None else known
        self.lock = self._known.lock

    def unlock(self, password: bytes) -> None:
        """Log in with a password from the user's file or prompt, no try counted on the card.

        Raises:
            WrongPassword: refused, now or before; it is not tried on the token twice.
            TokenLocked, TokenGone, KeyOperationError: as `matches`.
        """
        if not self.matches(password):
            raise WrongPassword(
                f"wrong password for {self.token.name}",
                "give the right one; this one is not tried again",
                self.token.tries_left,
            )

    def matches(self, pin: bytes) -> bool:
        """Whether a PIN is the token's; logs in if that is the way to find out.

        Raises:
            TokenLocked: the token looks at no PIN, or its last tries are kept.
            TokenGone: the token is no longer there.
            KeyOperationError: it could not tell, or was unlocked by a PIN unknown here.
        """
        known, digest = self._known, self._digest(pin)
        if self.token.logged_in:
            if known.right is None:
                raise KeyOperationError(
                    f"{self.token.name} was unlocked by a PIN the card does not know",
                    "restart vccid, then insert the card again",
                )
            return hmac.compare_digest(digest, known.right)
        if not pin or digest in known.wrong:
            return False
        self._keep_tries()
        try:
            self.token.login(pin)
        except WrongPassword:
            known.wrong.add(digest)
            return False
        except TokenLocked:
            known.wrong.clear()  # Who unblocks it may choose any of them.
            raise
        known.right = digest
        known.wrong.clear()
        return True

    def _keep_tries(self) -> None:
        """Let no guest spend the last tries of a token that counts them.

        Raises:
            TokenLocked: so few may be left.
        """
        kept = self._known.tries_kept
        left = self.token.fewest_tries() if kept else None
        if left is not None and 0 < left < kept:
            raise TokenLocked(
                f"a PIN for {self.token.name} was held back: it has few tries left",
                "give it the right PIN with its own tools, or lower real_cards.tries_kept",
            )

    def change(self, old: bytes, new: bytes) -> None:
        """Set the token's PIN.

        Raises:
            WrongPassword, KeyOperationError: as `Token.change_pin`.
        """
        self.token.change_pin(old, new)
        self._known.right = self._digest(new)
        self._known.wrong.clear()

    def forget_wrong(self) -> None:
        """Let PINs that were wrong reach the token again."""
        self._known.wrong.clear()

    def _digest(self, pin: bytes) -> bytes:
        return hmac.digest(self._known.key, pin, "sha256")


class TokenLogins:
    """Logins of tokens that more than one card may use; what is known lives as long as a token."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Token, _Known] = WeakKeyDictionary()

    def of(self, token: Token, tries_kept: int | None = None) -> TokenLogin:
        """A login of this token that knows what every other one of it knows.

        Args:
            tries_kept: from now on, PIN tries of the token that no guest can use up.
        """
        known = self._known.get(token)
        if known is None:
            self._known[token] = known = _Known()
        if tries_kept is not None:
            known.tries_kept = tries_kept
        return TokenLogin(token, known)
