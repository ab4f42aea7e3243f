# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole token or card by its certificates: a URI for each, as `vccidctl insert` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from vccid.errors import CertificateNotFound, KeySourceError, TokenGone
from vccid.keys.holder import pki_applet
from vccid.keys.pkcs11 import TokenPlace, lease_token, list_tokens
from vccid.keys.pkcs11_module import Pkcs11Error
from vccid.keys.pkcs11_token import CertificateObject
from vccid.keys.uri import SCHEME, Pkcs11Uri
from vccid.keys.x509 import parse_certificate
from vccid.keys.x509_reading import read_certificate

#: CK_SLOT_INFO has room for so many characters of a reader's name (PKCS #11 base 2.40, 3.2).
_DESCRIPTION_LENGTH: Final = 64

#: Any place of the card that is made of them.
_HOLDER: Final = pki_applet("CAC PKI applet")


def module_query(module: str) -> str:
    """The URI query (RFC 7512, 2.4) of a module named as file or as `opensc-pkcs11`."""
    attribute = "module-path" if "/" in module else "module-name"
    return f"?{attribute}={quote(module, safe='/')}"


def tokens_in_readers(module: str) -> list[TokenPlace]:
    """Every token of a module; blocks.

    Raises:
        KeySourceError: the module cannot be used.
    """
    return list_tokens(Pkcs11Uri.parse(SCHEME + module_query(module)))


def in_reader(places: Iterable[TokenPlace], reader: str) -> list[TokenPlace]:
    """Those in the PC/SC reader of this name: a card with several PINs is several tokens."""
    description = reader[:_DESCRIPTION_LENGTH].strip()
    return [place for place in places if place.description == description]


def certificates_in_reader(module: str, reader: str, most: int) -> tuple[str, ...]:
    """URIs of at most `most` certificates of the card in a PC/SC reader; blocks.

    Raises:
        KeySourceError: the module knows no card there, or none of its certificates fits ours.
    """
    places = in_reader(tokens_in_readers(module), reader)
    if not places:
        raise TokenGone(
            f"PKCS#11 module {module} knows no card in {reader}",
            "pkcs11-tool -L shows what OpenSC knows; set real_cards.module for another module",
        )
    return _uris(places, module_query(module), most)


def certificates_on_token(uri: str, most: int) -> tuple[str, ...]:
    """URIs of at most `most` certificates of the tokens a URI fits; blocks.

    Raises:
        KeySourceError: no token fits, or none of its certificates fits ours.
    """
    places = list_tokens(Pkcs11Uri.parse(uri))
    if not places:
        raise TokenGone(f"no token fits {uri.partition('?')[0]}", "p11tool --list-token-urls")
    return _uris(places, "".join(uri.partition("?")[1:]), most)


def _uris(places: Iterable[TokenPlace], query: str, most: int) -> tuple[str, ...]:
    found: dict[bytes, str] = {}
    refusals: list[KeySourceError] = []
    for place in places:
        for certificate in _certificates(place, query):
            try:
                parse_certificate(certificate.der, certificate.label, _HOLDER)
            except KeySourceError as error:
                refusals.append(error)
            else:
                found.setdefault(certificate.der, _path(place, certificate) + query)
    if not found:
        raise (
            refusals[0]
            if refusals
            else CertificateNotFound(
                "the real card shows no certificate", "pkcs11-tool -O shows what it shows"
            )
        )
    # An issuer's certificate has no key here; it is kept only where it is all there is.
    own = [uri for der, uri in found.items() if not _is_authority(der)]
    return tuple(own or found.values())[:most]


def _certificates(place: TokenPlace, query: str) -> Iterator[CertificateObject]:
    """In the order of their CKA_ID, which is that of the card's key references."""
    lease = lease_token(Pkcs11Uri.parse(f"{SCHEME}slot-id={place.slot}{query}"))
    try:
        yield from sorted(lease.token.certificates(), key=lambda certificate: certificate.id)
    except Pkcs11Error as error:
        raise TokenGone(f"token {place.info.label} cannot be read: {error.message}") from None
    finally:
        lease.release()


def _path(place: TokenPlace, certificate: CertificateObject) -> str:
    info = place.info
    identity = {
        "token": info.label,
        "manufacturer": info.manufacturer,
        "model": info.model,
        "serial": info.serial,
    }
    parts = [f"{name}={quote(value, safe='')}" for name, value in identity.items() if value]
    if certificate.id:
        parts.append("id=" + "".join(f"%{byte:02X}" for byte in certificate.id))
    else:
        parts.append(f"object={quote(certificate.label, safe='')}")
    return SCHEME + ";".join([*parts, "type=cert"])


def _is_authority(der: bytes) -> bool:
    reading = read_certificate(der)
    return reading is not None and reading.authority
