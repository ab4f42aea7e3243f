# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKCS#11 URIs (RFC 7512): which object, on which token, through which module."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from vccid.errors import SourceUnusable

T = TypeVar("T")

SCHEME: Final = "pkcs11:"

#: Path attributes (2.3) that are understood; the rest of the RFC's would match nothing here.
_PATH_ATTRIBUTES: Final = frozenset(
    (
        *("token", "manufacturer", "serial", "model", "object", "type", "id", "slot-id"),
        *("slot-description", "slot-manufacturer"),
        *("library-description", "library-manufacturer", "library-version"),
    )
)
#: The objects of a certificate and its key, as p11tool(1) prints them. A key has a label of its
#: own, and the certificate's CKA_ID.
_CERTIFICATE: Final = ("cert", None)
_KEYS: Final = ("private", "public")
#: Query attributes, 2.4.
_QUERY_ATTRIBUTES: Final = frozenset({"pin-source", "module-name", "module-path"})
_BROKEN_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A certificate, and the private key with the same CKA_ID, on one token.

    Attributes:
        path: the URI's path as written, scheme first: what to call it in a message.
        token, manufacturer, serial, model: CK_TOKEN_INFO's fields, None where any will do.
        slot_description, slot_manufacturer: CK_SLOT_INFO's fields likewise.
        library: CK_INFO's libraryDescription, manufacturerID and libraryVersion likewise.
        object: the certificate's CKA_LABEL, None where any will do.
        id: CKA_ID, None where any will do.
        slot_id: the slot's number, None where any will do.
        pin_source: file that holds the PIN.
        module_name: the module's file name without folder, "lib" and ".so".
        module_path: the module's file.
    """

    path: str
    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    object: str | None = None
    id: bytes | None = None
    slot_id: int | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    library: tuple[str | None, str | None, str | None] = (None, None, None)
    pin_source: Path | None = None
    module_name: str | None = None
    module_path: Path | None = None

    @property
    def names_module(self) -> bool:
        """Whether the module is named, and is not p11-kit's, which joins all."""
        return (self.module_name, self.module_path) != (None, None)

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Read `pkcs11:` path attributes between ";", "?", query attributes between "&".

        Raises:
            SourceUnusable: it cannot be read as one, or holds a PIN.
        """
        path, _, query = text.partition("?")
        path = SCHEME + path[len(SCHEME) :]  # A scheme's case says nothing (RFC 3986, 3.1).
        fields = _split(path.removeprefix(SCHEME), ";", _PATH_ATTRIBUTES)
        options = _split(query, "&", _QUERY_ATTRIBUTES)
        kind = _text(fields, "type")
        if kind not in (*_CERTIFICATE, *_KEYS):
            raise SourceUnusable(
                f"the PKCS#11 URI names an object of type {kind}", "name a certificate: type=cert"
            )
        if kind in _KEYS and "id" in fields:
            fields.pop("object", None)
        return cls(
            path=path,
            token=_text(fields, "token"),
            manufacturer=_text(fields, "manufacturer"),
            serial=_text(fields, "serial"),
            model=_text(fields, "model"),
            object=_text(fields, "object"),
            id=fields.get("id"),
            slot_id=_optional(_number, _text(fields, "slot-id")),
            slot_description=_text(fields, "slot-description"),
            slot_manufacturer=_text(fields, "slot-manufacturer"),
            library=(
                _text(fields, "library-description"),
                _text(fields, "library-manufacturer"),
                _text(fields, "library-version"),
            ),
            pin_source=_optional(_pin_source, _text(options, "pin-source")),
            module_name=_optional(_module_name, _text(options, "module-name")),
            module_path=_optional(_module_path, _text(options, "module-path")),
        )


def _split(part: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    """The attributes of one part, percent-decoded (2.3, 2.4; RFC 3986, 2.1)."""
    attributes: dict[str, bytes] = {}
    for piece in part.split(separator) if part else ():
        name, equals, value = piece.partition("=")
        if name == "pin-value":
            raise SourceUnusable(
                "the PKCS#11 URI has a pin-value: a PIN may not stand on a command line",
                "use pin-source=file:/PATH or --password-file, and change that PIN",
            )
        if not equals or name not in known:
            raise SourceUnusable(
                f"the PKCS#11 URI has an attribute that is not known: {name!r}",
                f"known here are {', '.join(sorted(known))}",
            )
        if name in attributes:
            raise SourceUnusable(f"the PKCS#11 URI has {name} twice")
        if _BROKEN_ESCAPE.search(value):
            raise SourceUnusable(
                f"the PKCS#11 URI has a broken percent-escape in {name}", "write % itself as %25"
            )
        attributes[name] = unquote_to_bytes(value)
    return attributes


def _text(attributes: dict[str, bytes], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    try:
        # Tokens pad with NUL what the standard pads with blanks, and p11tool prints it so.
        text = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise SourceUnusable(f"the PKCS#11 URI's {name} is not UTF-8") from None
    if "\0" in text:
        raise SourceUnusable(f"the PKCS#11 URI's {name} holds a NUL")
    return text


def _optional(read: Callable[[str], T], value: str | None) -> T | None:
    return None if value is None else read(value)


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise SourceUnusable("the PKCS#11 URI's slot-id is no decimal number")
    return int(value)


def _pin_source(value: str) -> Path:
    """A file URI or an absolute path (2.4); the "|command" form is refused."""
    path = Path(urlsplit(value).path if value.startswith("file:") else value)
    if not path.is_absolute():
        raise SourceUnusable(
            "the PKCS#11 URI's pin-source names no file", "write pin-source=file:/PATH"
        )
    return path


def _module_name(value: str) -> str:
    if not value or "/" in value:
        raise SourceUnusable(
            "the PKCS#11 URI's module-name is no bare name", "use module-path for a path"
        )
    return value


def _module_path(value: str) -> Path:
    if not value.startswith("/"):
        raise SourceUnusable("the PKCS#11 URI's module-path is no absolute path")
    return Path(value)
