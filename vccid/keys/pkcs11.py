# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tokens and certificates named by a PKCS#11 URI (RFC 7512)."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vccid.errors import CertificateNotFound, SourceUnusable, TokenGone
from vccid.keys.registry import TOKENS, Lease
from vccid.keys.token_nouns import CertificateObject, TokenPlace
from vccid.keys.uri import Pkcs11Uri
from vccid.keys.worker.remote import WorkerToken
from vccid.keys.worker.workers import WORKERS, Worker

#: What begins the registry's keys of tokens found by URI.
_KEY: Final = "uri"
#: Where a URI names no module: p11-kit's own, which joins all that are configured.
_P11_KIT: Final = "libp11-kit.so.0"
#: As sysconfig has it, which would load a megabyte for this word.
_MULTIARCH: Final[str] = getattr(sys.implementation, "_multiarch", "")
_MODULE_FOLDERS: Final = tuple(
    Path(root, library, folder)
    # Debian's places, and Fedora's and openSUSE's.
    for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
    for library in (_MULTIARCH, "")
    for folder in ("pkcs11", "", "softhsm")
)

#: NAME=VALUE each, of the process that has the module.
Environment = tuple[str, ...]


@contextmanager
def listed(
    uri: Pkcs11Uri, environment: Environment = ()
) -> Iterator[tuple[Worker, list[TokenPlace]]]:
    """A worker that has just loaded a URI's module, and so sees every token; and those that fit.

    Raises:
        SourceUnusable: no such module.
        TokenGone: the module failed.
    """
    worker = WORKERS.load(_library(uri), environment)
    try:
        yield worker, _matching(worker, uri)
    finally:
        worker.end()


def lease_token(uri: Pkcs11Uri, environment: Environment = ()) -> Lease:
    """The one token a URI fits.

    Raises:
        SourceUnusable: no such module, or several tokens fit.
        TokenGone: no token fits.
    """
    library = _library(uri)
    worker: Worker | None = WORKERS.load(library, environment)
    assert worker is not None
    try:
        place = _only(uri, _matching(worker, uri))

        def begin(token: WorkerToken) -> None:
            nonlocal worker
            assert worker is not None
            mine, worker = worker, None
            open_token(token, mine, place)

        key = (_KEY, library, environment, *place.identity)
        return TOKENS.lease(key, lambda: token_at(place), begin)
    finally:
        if worker is not None:
            worker.end()


def token_at(place: TokenPlace) -> WorkerToken:
    """The token at a place, not open."""
    return WorkerToken(f"token {place.label or place.serial}", place.label)


def open_token(token: WorkerToken, worker: Worker, place: TokenPlace) -> None:
    """Open it in a worker that has its module."""
    token.open(worker, token.name.encode(), *(text.encode() for text in place.identity))


def _matching(worker: Worker, uri: Pkcs11Uri) -> list[TokenPlace]:
    library, places = worker.places()
    if uri.names_module and any(uri.library) and not _same(uri.library, library):
        return []  # of p11-kit, its own texts would stand for those of the modules it joins
    wanted = (uri.token, uri.manufacturer, uri.serial, uri.model)
    slot = (uri.slot_description, uri.slot_manufacturer)
    return [
        place
        for place in places
        if _same(wanted, place.identity)
        and uri.slot_id in (None, place.slot)
        and _same(slot, (place.description, place.slot_manufacturer))
    ]


def _same(wanted: Sequence[str | None], have: Sequence[str]) -> bool:
    return all(want is None or want == text for want, text in zip(wanted, have, strict=True))


def _only(uri: Pkcs11Uri, found: list[TokenPlace]) -> TokenPlace:
    if not found:
        raise TokenGone(
            f"no token fits {uri.path}", "p11tool --list-token-urls shows those there are"
        )
    if len(found) > 1:
        serials = ", ".join(place.serial for place in found)
        raise SourceUnusable(
            f"{len(found)} tokens fit {uri.path}", f"add serial=: one of {serials}"
        )
    return found[0]


def _library(uri: Pkcs11Uri) -> str:
    """What to load for a URI."""
    if uri.module_path is not None:
        return str(_trusted(uri.module_path))
    if uri.module_name is None:
        return _P11_KIT
    for folder in _MODULE_FOLDERS:
        for name in (f"{uri.module_name}.so", f"lib{uri.module_name}.so"):
            if os.path.isfile(folder / name):
                return str(_trusted(folder / name))
    raise SourceUnusable(
        f"there is no PKCS#11 module {uri.module_name}", "name its file with module-path="
    )


def _trusted(path: Path) -> Path:
    """A module's real path, once nobody but root and this process's user can change it.

    A module runs as the daemon's user, so who may only insert cards must not choose its code.

    Raises:
        SourceUnusable: missing, or others can write it or a folder above it.
    """
    try:
        real = path.resolve(strict=True)
        chain = [(place, place.stat()) for place in (real, *real.parents)]
    except OSError as error:
        raise SourceUnusable(f"PKCS#11 module {path}: {error.strerror}") from None
    for place, status in chain:
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not sticky):
            raise SourceUnusable(
                f"PKCS#11 module {path} is not loaded: other users can change {place}",
                "only root and the daemon's own user may be able to write a module",
            )
    return real


def by_uri(certificates: Sequence[CertificateObject], uri: Pkcs11Uri) -> list[CertificateObject]:
    """The certificates a URI fits, all of one label or id.

    Raises:
        CertificateNotFound: none fits, or it takes a closer look to tell which.
    """
    found = _with_id(certificates, uri, uri.id)
    if not found and (digits := _hexadecimal(uri.id)) is not None:
        found = _with_id(certificates, uri, digits)
    labels = ", ".join(sorted({certificate.label for certificate in certificates}))
    if not found:
        raise CertificateNotFound(
            f"no certificate fits {uri.path}", f"the token has {labels or 'none'}"
        )
    if uri.object is None and uri.id is None and len(found) > 1:
        raise CertificateNotFound(
            f"{len(found)} certificates fit {uri.path}", f"add object=: one of {labels}"
        )
    return found


def _with_id(
    certificates: Sequence[CertificateObject], uri: Pkcs11Uri, id_: bytes | None
) -> list[CertificateObject]:
    return [
        certificate
        for certificate in certificates
        if uri.object in (None, certificate.label) and id_ in (None, certificate.id)
    ]


def _hexadecimal(id_: bytes | None) -> bytes | None:
    """What is meant by `id=01`, as pkcs11-tool prints an id, where `id=%01` is what fits."""
    try:
        return None if id_ is None else bytes.fromhex(id_.decode("ascii"))
    except ValueError:
        return None
