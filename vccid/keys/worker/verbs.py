# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a module does for each verb, in its own process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from vccid.errors import KeyOperationError, KeySourceError, SourceUnusable, TokenGone, VccidError
from vccid.keys.pkcs11_key import Pkcs11EcKey, Pkcs11RsaKey
from vccid.keys.pkcs11_module import CKF_TOKEN_INITIALIZED, Module, Pkcs11Error
from vccid.keys.pkcs11_token import Pkcs11Token
from vccid.keys.softoken import Database, load_softoken
from vccid.keys.token_nouns import TokenPlace
from vccid.keys.worker.messages import (
    State,
    Verb,
    error_reply,
    number,
    read_clue,
    read_request,
    reply,
)

#: p11-kit's own module, which joins all that are configured.
P11_KIT: Final = "libp11-kit.so.0"

_Fields = Sequence[bytes]


class Served:
    """A module, and the one token of it that is in use."""

    def __init__(self, module: Module | None = None) -> None:
        """`module`: one that is loaded already."""
        self._module = module
        self._library = ""
        self._token: Pkcs11Token | None = None
        self._keys: dict[bytes, Pkcs11RsaKey | Pkcs11EcKey] = {}
        self._verbs: Final[dict[Verb, Callable[..., _Fields]]] = {
            Verb.LOAD: self._load,
            Verb.LIST: self._list,
            Verb.OPEN: self._open,
            Verb.CERTIFICATES: self._certificates,
            Verb.LOGIN: self._login,
            Verb.STATE: self._ask_state,
            Verb.CHANGE_PIN: self._change_pin,
            Verb.FIND: self._find,
            Verb.RAW: self._raw,
            Verb.SIGN: self._sign,
            Verb.DERIVE: self._derive,
            Verb.CLOSE: self._close,
        }

    def answer(self, message: bytes) -> bytes:
        """The reply to a request; blocks for as long as the module does.

        Raises:
            RemoteProtocolError: it is no request.
        """
        verb, fields = read_request(message)
        try:
            answered = self._verbs[verb](*fields)
            return reply(self._state(), *answered)
        except VccidError as error:
            return error_reply(self._state(), error)
        except Exception as error:
            # Its text may have a PIN in it.
            fault = KeyOperationError(f"a fault of vccid's in {verb.name}: {type(error).__name__}")
            return error_reply(self._state(), fault)

    def _state(self) -> State:
        token = self._token
        if token is None:
            return State()
        return State(token.login_required, token.logged_in, token.raw_rsa, token.tries_left)

    def _load(self, library: bytes, *environment: bytes) -> _Fields:
        os.environb.clear()
        for variable in environment:
            name, _, value = variable.partition(b"=")
            os.environb[name] = value
        self._library = os.fsdecode(library)
        if library:
            self._module = _load_library(self._library)
        elif self._module is None:  # what waits for an NSS database has it already
            self._module = load_softoken()
        return ()

    def _list(self) -> _Fields:
        module = self._loaded()
        try:
            fields: list[bytes] = [text.encode() for text in _library_texts(module)]
            for place in _places(module):
                texts = (place.description, place.slot_manufacturer, *place.identity)
                fields += (str(place.slot).encode(), *(text.encode() for text in texts))
        except Pkcs11Error as error:
            raise TokenGone(f"PKCS#11 module {self._library} failed: {error.message}") from None
        return fields

    def _open(self, name: bytes, *identity: bytes) -> _Fields:
        module, known = self._loaded(), name.decode("utf-8", "surrogateescape")
        if identity:
            wanted = tuple(text.decode() for text in identity)
            token = Pkcs11Token(module, known, lambda: _locate(module, known, wanted))
        else:
            database = Database(module, Path(os.fsdecode(name)))
            # A password's KDF runs at each use of a stored key, and once for a copy.
            token = Pkcs11Token(module, known, database.find, copy_keys=True, leave=database.leave)
        try:
            token.open()
        except Pkcs11Error as error:
            raise KeySourceError(f"{known} cannot be opened: {error.message}") from None
        self._token = token
        self._keys.clear()
        return ()

    def _certificates(self) -> _Fields:
        token = self._opened()
        try:
            found = token.certificates()
        except Pkcs11Error as error:
            raise KeySourceError(f"{token.name} cannot be read: {error.message}") from None
        return [part for one in found for part in (one.label.encode(), one.id, one.der)]

    def _login(self, pin: bytes) -> _Fields:
        self._opened().login(pin)
        return ()

    def _ask_state(self) -> _Fields:
        token = self._opened()
        return number(token.fewest_tries()), number(token.still_logged_in())

    def _change_pin(self, old: bytes, new: bytes) -> _Fields:
        self._opened().change_pin(old, new)
        return ()

    def _find(self, clue: bytes) -> _Fields:
        try:
            self._key(clue).require()
        except Pkcs11Error as error:
            name = self._opened().name
            raise KeySourceError(f"{name} cannot be read: {error.message}") from None
        return ()

    def _raw(self, clue: bytes, block: bytes) -> _Fields:
        key = self._key(clue)
        assert isinstance(key, Pkcs11RsaKey)
        return (key.raw(block),)

    def _sign(self, clue: bytes, digest: bytes) -> _Fields:
        key = self._key(clue)
        assert isinstance(key, Pkcs11EcKey)
        return (key.sign(digest),)

    def _derive(self, clue: bytes, peer: bytes) -> _Fields:
        key = self._key(clue)
        assert isinstance(key, Pkcs11EcKey)
        return (key.derive(peer),)

    def _close(self) -> _Fields:
        token, self._token = self._token, None
        if token is not None:
            token.close()
        module, self._module = self._module, None
        if module is not None:
            with suppress(Pkcs11Error):
                module.finalize()
        return ()

    def _key(self, packed: bytes) -> Pkcs11RsaKey | Pkcs11EcKey:
        key = self._keys.get(packed)
        if key is None:
            clue = read_clue(packed)
            kind = Pkcs11EcKey if clue.oid else Pkcs11RsaKey
            key = self._keys[packed] = kind(self._opened(), clue)
        return key

    def _loaded(self) -> Module:
        if self._module is None:
            raise TokenGone("no PKCS#11 module is loaded")
        return self._module

    def _opened(self) -> Pkcs11Token:
        if self._token is None:
            raise TokenGone("no token is open")
        return self._token


def _load_library(library: str) -> Module:
    try:
        if library == P11_KIT:
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


def _library_texts(module: Module) -> tuple[str, ...]:
    try:
        return module.library_texts()
    except Pkcs11Error:
        return "", "", ""


def _places(module: Module) -> list[TokenPlace]:
    """Every initialised token; one that vanishes meanwhile is passed over."""
    found = []
    for slot in module.slots():
        try:
            info = module.token_info(slot)
            if info.flags & CKF_TOKEN_INITIALIZED:
                identity = info.label, info.manufacturer, info.serial, info.model
                found.append(TokenPlace(slot, *module.slot_texts(slot), *identity))
        except Pkcs11Error:
            continue
    return found


def _locate(module: Module, name: str, identity: tuple[str, ...]) -> int:
    for place in _places(module):
        if place.identity == identity:
            return place.slot
    raise TokenGone(f"{name} is gone", "connect it again")
