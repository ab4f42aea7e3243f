# SPDX-License-Identifier: LGPL-2.1-or-later
"""NSS databases: each in a worker of its own, which has softokn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from vccid.errors import CertificateNotFound
from vccid.keys.nss_checks import check_folder, database_folder
from vccid.keys.registry import TOKENS, Lease
from vccid.keys.token_nouns import CertificateObject
from vccid.keys.worker.remote import WorkerToken
from vccid.keys.worker.workers import WORKERS

#: What begins the registry's keys of NSS databases.
_KEY: Final = "nss"
#: How many of the nicknames there a message lists.
_LISTED: Final = 10


def lease_database(database: str, environment: tuple[str, ...] = ()) -> Lease:
    """The token of an NSS database, opened anew where its files were changed since.

    Args:
        database: "sql:FOLDER" or "FOLDER".
        environment: of the process that reads it, NAME=VALUE each.

    Raises:
        SourceUnusable: missing, unreadable, damaged, or of another kind.
        TokenGone: the process that reads it ended.
    """
    folder = database_folder(database)
    stamp = check_folder(folder)

    def make() -> WorkerToken:
        return WorkerToken(
            str(folder),
            folder.name,
            f"it is opened read-only: certutil -W -d sql:{folder}, then insert again",
        )

    def begin(token: WorkerToken) -> None:
        token.open(WORKERS.load("", environment), os.fsencode(folder))

    return TOKENS.lease((_KEY, folder.resolve(), stamp, environment), make, begin)


def by_nickname(
    certificates: Sequence[CertificateObject], nickname: str, database: str
) -> list[CertificateObject]:
    """Every certificate with this nickname: after a renewal there are several.

    Raises:
        CertificateNotFound: there is none; the hint has those there are, near ones first.
    """
    found = [certificate for certificate in certificates if certificate.label == nickname]
    if not found:  # A blank at an end is seldom meant, and sometimes lost on the way.
        found = [item for item in certificates if item.label.strip() == nickname.strip()]
    if not found:
        raise CertificateNotFound(
            f"{database} has no certificate with nickname {nickname}",
            _known([certificate.label for certificate in certificates], nickname),
        )
    return found


def _known(labels: Sequence[str], wanted: str) -> str:
    """The names there are, the nearest to `wanted` first."""
    names = sorted({label for label in labels if label})
    if not names:
        return "it holds no certificates"
    import difflib

    def distance(name: str) -> float:
        return -difflib.SequenceMatcher(None, wanted.casefold(), name.casefold()).ratio()

    names.sort(key=distance)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "it has " + ", ".join(names[:_LISTED]) + more
