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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from vccid.errors import KeySourceError, PasswordNeeded, PrivateKeyMissing
from vccid.keys.base import Credential, PrivateKey
from vccid.keys.files import KeyFile
from vccid.keys.holder import Holder, cac_applet
from vccid.keys.items import CertificateFile, Nickname, parse_item
from vccid.keys.nss import by_nickname, lease_database
from vccid.keys.passwords import Passwords, password_needed
from vccid.keys.pkcs11 import by_uri, lease_token
from vccid.keys.pkcs11_key import pkcs11_key
from vccid.keys.pkcs11_module import Pkcs11Error
from vccid.keys.pkcs11_token import CertificateObject, Pkcs11Token
from vccid.keys.registry import Lease
from vccid.keys.uri import Pkcs11Uri
from vccid.keys.x509 import Certificate, parse_certificate

#: Lists a token's certificates.
_Listing = Callable[[Pkcs11Token], Sequence[CertificateObject]]

#: Where the certificate at a position of the request goes.
Holders = Callable[[int], Holder]


@dataclass(frozen=True, slots=True)
class LockedToken:
    """A token whose keys need a password.

    Attributes:
        token: the token.
        password: the one found for it, or None.
    """

    token: Pkcs11Token
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
    ) -> None:
        """Read the items.

        Args:
            items: what the user wrote.
            database: where nicknames are looked up.
            passwords: those there are.
            holders: where each goes.

        Raises:
            SourceUnusable: one of them cannot be read.
        """
        self._items = [(text, parse_item(text, database)) for text in items]
        self._passwords = passwords
        self._holders = holders
        # A request given up in the middle is closed while `open` may still run.
        self._lock = threading.Lock()
        self._leases: dict[int, Lease] = {}
        self._databases: dict[str, Lease] = {}
        self._files: dict[Path, KeyFile] = {}
        self._turns: Counter[Path] = Counter()
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
        """An item's token; a database is looked at once, which is most of an insert's time."""
        if not isinstance(item, Nickname):
            return lease_token(item)
        if item.database not in self._databases:
            self._databases[item.database] = lease_database(item.database)
        return self._databases[item.database]

    def _add_locked(self, token: Pkcs11Token, item: Nickname | Pkcs11Uri) -> None:
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
        listed = cache(Pkcs11Token.certificates)
        try:
            found = [self._read_item(n, listed, now) for n in range(len(self._items))]
            left = (file.left_over() for file in self._files.values())
            self.warnings += [warning for warning in left if warning is not None]
            return found
        finally:
            self._files.clear()

    def close(self) -> None:
        """Let go of the databases and tokens. May be repeated."""
        with self._lock:
            for lease in self._leases.values():
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
    token: Pkcs11Token,
    item: Nickname | Pkcs11Uri,
    holder: Holder,
    listed: _Listing,
    now: datetime,
) -> tuple[Certificate, Credential]:
    try:
        objects = listed(token)
        if isinstance(item, Nickname):
            name, found = item.nickname, by_nickname(objects, item.nickname, token.name)
        else:
            name, found = item.path, by_uri(objects, item)
        return _best(token, name, found, holder, now)
    except Pkcs11Error as error:
        raise KeySourceError(f"{token.name} cannot be read: {error.message}") from None


def _best(
    token: Pkcs11Token, name: str, found: Sequence[CertificateObject], holder: Holder, now: datetime
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
        key = pkcs11_key(token, name, candidate.id, certificate.public)
        try:
            if token.usable:
                key.require()
        except PrivateKeyMissing as error:
            refusals.append(error)
            continue
        return certificate, Credential(name, certificate.der, key, token)
    raise refusals[0]
