# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tokens and certificates named by a PKCS#11 URI (RFC 7512)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.errors import CertificateNotFound, SourceUnusable, TokenGone
from vccid.keys.pkcs11_module import CKF_TOKEN_INITIALIZED, Module, Pkcs11Error, TokenInfo
from vccid.keys.pkcs11_token import CertificateObject, Pkcs11Token
from vccid.keys.registry import TOKENS, Lease
from vccid.keys.uri import Pkcs11Uri

#: What begins the registry's keys of tokens found by URI.
_KEY: Final = "uri"
#: Where a URI names no module: p11-kit's own, which joins all that are configured.
_P11_KIT: Final = "libp11-kit.so.0"
#: As sysconfig has it, which would load a megabyte for this word.
_MULTIARCH: Final[str] = getattr(sys.implementation, "_multiarch", "")
_MODULE_FOLDERS: Final = tuple(
    Path(root, library, folder)
    for root in ("/usr/lib", "/usr/local/lib")
    for library in (_MULTIARCH, "")
    for folder in ("pkcs11", "", "softhsm")
)

_modules: dict[str, Module] = {}
_locks: dict[str, threading.Lock] = {}
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A token and where it is.

    Attributes:
        slot: the slot's number.
        description: the slot's; OpenSC's is the PC/SC reader's name.
        info: the token's.
    """

    slot: int
    description: str
    info: TokenInfo


def list_tokens(uri: Pkcs11Uri) -> list[TokenPlace]:
    """Every token that fits a URI, through the module it names.

    Raises:
        SourceUnusable: no such module.
        TokenGone: the module failed.
    """
    with _module(uri) as (_, module):
        return [
            TokenPlace(slot, module.slot_texts(slot)[0], info)
            for slot, info in _matching(module, uri)
        ]


def lease_token(uri: Pkcs11Uri) -> Lease:
    """The one token a URI fits.

    Raises:
        SourceUnusable: no such module, or several tokens fit.
        TokenGone: no token fits.
    """
    with _module(uri) as (library, module):
        found = [info for _, info in _matching(module, uri) or _matching_anew(module, uri)]
        info = _only(uri, found)
        return TOKENS.lease((_KEY, library, *_identity(info)), lambda: _make(module, info))


@contextlib.contextmanager
def _module(uri: Pkcs11Uri) -> Iterator[tuple[str, Module]]:
    """The module a URI names, with its name; a slow one holds up only those who want it."""
    library = _library(uri)
    with _loading:
        lock = _locks.setdefault(library, threading.Lock())
    with lock:
        if library not in _modules:
            _modules[library] = _load(library)
        try:
            yield library, _modules[library]
        except Pkcs11Error as error:
            raise TokenGone(f"PKCS#11 module {library} failed: {error.message}") from None


def _make(module: Module, info: TokenInfo) -> Pkcs11Token:
    name = f"token {info.label or info.serial}"

    def locate() -> int:
        for candidate, found in _tokens(module):
            if _identity(found) == _identity(info):
                return candidate
        raise TokenGone(f"{name} is gone", "connect it again")

    return Pkcs11Token(module, name, info.label, locate)


def _identity(info: TokenInfo) -> tuple[str, ...]:
    return info.label, info.manufacturer, info.serial, info.model


def _tokens(module: Module) -> list[tuple[int, TokenInfo]]:
    """Every initialised token of a module; one that vanishes meanwhile is passed over."""
    found = []
    for slot in module.slots():
        try:
            info = module.token_info(slot)
        except Pkcs11Error:
            continue
        if info.flags & CKF_TOKEN_INITIALIZED:
            found.append((slot, info))
    return found


def _matching(module: Module, uri: Pkcs11Uri) -> list[tuple[int, TokenInfo]]:
    if uri.names_module and any(uri.library) and not _same(uri.library, module.library_texts()):
        return []  # of p11-kit, its own texts would stand for those of the modules it joins

    def fits(slot: int, info: TokenInfo) -> bool:
        wanted = (uri.token, uri.manufacturer, uri.serial, uri.model)
        if not _same(wanted, _identity(info)) or uri.slot_id not in (None, slot):
            return False
        place = (uri.slot_description, uri.slot_manufacturer)
        return place == (None, None) or _same(place, module.slot_texts(slot))

    return [(slot, info) for slot, info in _tokens(module) if fits(slot, info)]


def _same(wanted: Sequence[str | None], have: Sequence[str]) -> bool:
    return all(want is None or want == text for want, text in zip(wanted, have, strict=True))


def _matching_anew(module: Module, uri: Pkcs11Uri) -> list[tuple[int, TokenInfo]]:
    """The same after a restart of the module: SoftHSM sees new tokens only then.

    Not while any card has a key in such a token. Modules may be each other's: p11-kit's
    may have the same library inside.
    """
    if TOKENS.in_use(lambda key: isinstance(key, tuple) and key[0] == _KEY):
        return []
    module.restart()
    return _matching(module, uri)


def _only(uri: Pkcs11Uri, found: list[TokenInfo]) -> TokenInfo:
    if not found:
        raise TokenGone(
            f"no token fits {uri.path}", "p11tool --list-token-urls shows those there are"
        )
    if len(found) > 1:
        serials = ", ".join(info.serial for info in found)
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

    A module runs inside the daemon, so who may only insert cards must not choose its code.

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


def _load(library: str) -> Module:
    try:
        if library == _P11_KIT:
            # Lets p11-kit's `disable-in: vccid` find us; Python would give its own name.
            ctypes.CDLL(library).p11_kit_set_progname(b"vccid")
        return Module(library)
    except (OSError, AttributeError):
        raise SourceUnusable(
            f"{library} is no PKCS#11 module, or cannot be loaded",
            "name another with module-path=, or install p11-kit-modules",
        ) from None
    except Pkcs11Error as error:
        raise SourceUnusable(f"PKCS#11 module {library} does not start: {error.message}") from None


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
