# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tokens known to this process: each is opened once for all the cards with a key in it.

A token that nobody uses is closed, which logs it out, but stays the same object: whoever
remembers which PINs were wrong for it must still know it when its card comes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Final

from vccid.keys.worker.remote import WorkerToken


class _Entry:
    """A token, how many leases it has, and the lock held while that opens or closes it."""

    def __init__(self, token: WorkerToken) -> None:
        self.token = token
        self.lock = threading.Lock()
        self.leases = 0


class Registry:
    """Tokens by what they are; a slow one makes only those wait who want it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry] = {}

    def lease(
        self, key: Hashable, make: Callable[[], WorkerToken], begin: Callable[[WorkerToken], None]
    ) -> Lease:
        """Hold the token known by `key`.

        Args:
            make: makes it, where it was never known.
            begin: opens it, where nobody holds it or its worker ended.

        Raises:
            KeySourceError: it cannot be opened.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = entry = _Entry(make())
        with entry.lock:
            if not entry.leases or not entry.token.there:
                begin(entry.token)
            entry.leases += 1
        return Lease(entry)

    def in_use(self, known: Callable[[Hashable], bool]) -> bool:
        """Whether anybody holds a token whose key is `known`."""
        with self._lock:
            return any(entry.leases and known(key) for key, entry in self._entries.items())


class Lease:
    """One card's hold on a token."""

    def __init__(self, entry: _Entry) -> None:
        self.token = entry.token
        self._entry: _Entry | None = entry

    def release(self) -> None:
        """Let go; the last to do so closes the token. May be repeated. May block."""
        entry, self._entry = self._entry, None
        if entry is None:
            return
        with entry.lock:
            entry.leases -= 1
            if not entry.leases:
                entry.token.close()


#: The process's own: two cards with keys on one token share its login, and its PIN's tries.
TOKENS: Final = Registry()
