# SPDX-License-Identifier: LGPL-2.1-or-later
"""From what a user wrote to certificates with their keys.

In steps, for tokens are unlocked between them by whoever knows which PINs were wrong:
`Loading.open`, then a login to each of `tokens`, then `Loading.read`. `Loading.close` at
the end of the card. All of them may block; call them in a thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from vccid.errors import KeySourceError, PasswordNeeded, PrivateKeyMissing, TokenGone
from vccid.keys.base import Credential, PrivateKey
from vccid.keys.files import KeyFile
from vccid.keys.holder import Holder, cac_applet
from vccid.keys.items import CertificateFile, Nickname, parse_item
from vccid.keys.nss import by_nickname, lease_database
from vccid.keys.passwords import Passwords, password_needed
from vccid.keys.pkcs11 import by_uri, lease_token
from vccid.keys.registry import Lease
from vccid.keys.token_nouns import CertificateObject
from vccid.keys.uri import Pkcs11Uri
from vccid.keys.worker.remote import WorkerToken, worker_key
from vccid.keys.x509 import Certificate, parse_certificate

#: Lists a token's certificates.
_Listing = Callable[[WorkerToken], Sequence[CertificateObject]]

#: Where the certificate at a position of the request goes.
Holders = Callable[[int], Holder]


@dataclass(frozen=True, slots=True)
class LockedToken:
    """A token whose keys need a password.

    Attributes:
        token: the token.
        password: the one found for it, or None.
    """

    token: WorkerToken
    password: bytes | None = field(repr=False)

    def needs_password(self) -> PasswordNeeded:
        """The error where it has none and needs it now."""
        return password_needed(self.token.name, self.token.short_name)


class Loading:
    """One request's certificates on their way.

    Attributes:
        tokens: those that need a login, each once; known after `open`.
        warnings: what the user should hear; known after `read`.
    """

    def __init__(
        self,
        items: Sequence[str],
        database: str,
        passwords: Passwords,
        holders: Holders = cac_applet,
        environment: tuple[str, ...] = (),
    ) -> None:
        """Read the items.

        Args:
            items: what the user wrote.
            database: where nicknames are looked up.
            passwords: those there are.
            holders: where each goes.
            environment: of the processes that have PKCS#11 modules, NAME=VALUE each.

        Raises:
            SourceUnusable: one of them cannot be read.
        """
        self._items = [(text, parse_item(text, database)) for text in items]
        self._passwords = passwords
        self._holders = holders
        self._environment = environment
        # A request given up in the middle is closed while `open` may still run.
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._places: dict[object, Lease] = {}
        self._files: dict[Path, KeyFile] = {}
        self._turns: Counter[Path] = Counter()
        self._told: Callable[[TokenGone], None] | None = None
        self.tokens: list[LockedToken] = []
        self.warnings: list[str] = []

    def open(self) -> None:
        """Open every database and token, and find the passwords for them.

        Raises:
            KeySourceError: one of them cannot be had.
        """
        with self._lock:
            for position, (_, item) in enumerate(self._items):
                if isinstance(item, CertificateFile):
                    continue
                lease = self._leases[position] = self._lease(item)
                known = any(locked.token is lease.token for locked in self.tokens)
                if lease.token.login_required and not known:
                    self._add_locked(lease.token, item)

    def _lease(self, item: Nickname | Pkcs11Uri) -> Lease:
        """An item's token; each is looked at once, which is most of an insert's time."""
        if isinstance(item, Nickname):
            place: object = item.database
            find = partial(lease_database, item.database, self._environment)
        else:
            place = replace(item, path="", object=None, id=None, pin_source=None)
            find = partial(lease_token, item, self._environment)
        if place not in self._places:
            self._places[place] = find()
        return self._places[place]

    def _add_locked(self, token: WorkerToken, item: Nickname | Pkcs11Uri) -> None:
        pin_source = item.pin_source if isinstance(item, Pkcs11Uri) else None
        password = self._passwords.find(token.short_name, pin_source)
        self.tokens.append(LockedToken(token, password))

    def read(self) -> list[Credential]:
        """The certificates and keys, in the order they were asked for.

        A key in a token that is still locked is looked for at its first use.

        Raises:
            KeySourceError: one of them is not there, or none a card can hold.
        """
        now = datetime.now(UTC)
        listed = cache(WorkerToken.certificates)
        try:
            found = [self._read_item(n, listed, now) for n in range(len(self._items))]
            left = (file.left_over() for file in self._files.values())
            self.warnings += [warning for warning in left if warning is not None]
            return found
        finally:
            self._files.clear()

    def watch(self, told: Callable[[TokenGone], None]) -> None:
        """Have `told` called, in some thread, when one of the tokens is lost; until `close`."""
        with self._lock:
            self._told = told
            for lease in self._places.values():
                lease.token.watch(told)

    def close(self) -> None:
        """Let go of the databases and tokens. May be repeated."""
        with self._lock:
            if self._told is not None:
                for lease in self._places.values():
                    lease.token.unwatch(self._told)
            for lease in self._places.values():
                lease.release()

    def _read_item(self, position: int, listed: _Listing, now: datetime) -> Credential:
        text, item = self._items[position]
        holder = self._holders(position)
        if isinstance(item, CertificateFile):
            certificate, key = self._from_file(item, text, holder)
            credential = Credential(text, certificate.der, key, None)
        else:
            token = self._leases[position].token
            certificate, credential = _from_token(token, item, holder, listed, now)
        warning = certificate.validity_warning(credential.name, now)
        if warning is not None:
            self.warnings.append(warning)
        return credential

    def _from_file(
        self, item: CertificateFile, name: str, holder: Holder
    ) -> tuple[Certificate, PrivateKey]:
        """From a file of several, the next at each mention; a file is read once."""
        file = self._files.get(item.path)
        if file is None:
            file = self._files[item.path] = KeyFile(item.path, self._passwords)
        turn = self._turns[item.path]
        if not item.choice:
            self._turns[item.path] += 1
        return file.take(name, holder, item.choice, turn)


def _from_token(
    token: WorkerToken,
    item: Nickname | Pkcs11Uri,
    holder: Holder,
    listed: _Listing,
    now: datetime,
) -> tuple[Certificate, Credential]:
    objects = listed(token)
    if isinstance(item, Nickname):
        name, found = item.nickname, by_nickname(objects, item.nickname, token.name)
    else:
        name, found = item.path, by_uri(objects, item)
    return _best(token, name, found, holder, now)


def _best(
    token: WorkerToken, name: str, found: Sequence[CertificateObject], holder: Holder, now: datetime
) -> tuple[Certificate, Credential]:
    """Of the certificates with one name, the newest valid one that has a key."""
    parsed: list[tuple[Certificate, CertificateObject]] = []
    refusals: list[KeySourceError] = []
    for candidate in found:
        try:
            parsed.append((parse_certificate(candidate.der, name, holder), candidate))
        except KeySourceError as error:
            refusals.append(error)
    parsed.sort(key=lambda pair: (pair[0].valid(now), pair[0].began), reverse=True)
    for certificate, candidate in parsed:
        key = worker_key(token, name, candidate.id, certificate.public)
        try:
            if token.usable:
                key.require()
        except PrivateKeyMissing as error:
            refusals.append(error)
            continue
        return certificate, Credential(name, certificate.der, key, token)
    raise refusals[0]
