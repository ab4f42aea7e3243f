# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKCS#11 URIs: the RFC's examples, what is refused, and anything else anybody types."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import SourceUnusable
from vccid.keys.nss import by_nickname
from vccid.keys.pkcs11 import by_uri
from vccid.keys.pkcs11_token import CertificateObject
from vccid.keys.uri import Pkcs11Uri

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))


def test_every_attribute() -> None:
    uri = Pkcs11Uri.parse(
        "pkcs11:token=My%20token"
        ";manufacturer=Snake%20Oil,%20Inc."
        ";serial=0001;model=1.0"
        ";object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91"
        ";slot-id=327"
        "?pin-source=file:/etc/token%5Fpin&module-name=mypkcs11"
    )
    assert uri.token == "My token"
    assert uri.manufacturer == "Snake Oil, Inc."
    assert (uri.serial, uri.model, uri.slot_id) == ("0001", "1.0", 327)
    assert uri.object == "my-certificate"
    assert uri.id == bytes.fromhex("69953E5CF4BDEC91")
    assert uri.pin_source == Path("/etc/token_pin")
    assert uri.module_name == "mypkcs11"
    assert uri.path.endswith("slot-id=327")


def test_the_empty_uri_fits_everything() -> None:
    assert Pkcs11Uri.parse("pkcs11:") == Pkcs11Uri(path="pkcs11:")


@pytest.mark.parametrize("source", ["file:/a/pin", "file:///a/pin", "/a/pin"])
def test_pin_source_forms(source: str) -> None:
    assert Pkcs11Uri.parse(f"pkcs11:?pin-source={source}").pin_source == Path("/a/pin")


@pytest.mark.parametrize("where", ["pkcs11:object=a?pin-value={}", "pkcs11:object=a;pin-value={}"])
def test_a_pin_in_a_uri_is_refused_and_not_repeated(where: str) -> None:
    with pytest.raises(SourceUnusable, match="may not stand on a command line") as caught:
        Pkcs11Uri.parse(where.format("98765"))
    assert "98765" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pkcs11:object=a;object=b", "object twice"),
        ("pkcs11:object=%4", "broken percent-escape in object"),
        ("pkcs11:object=%zz", "broken percent-escape in object"),
        ("pkcs11:object=%FF", "object is not UTF-8"),
        ("pkcs11:object=a%00b", "holds a NUL"),
        ("pkcs11:objct=a", "not known: 'objct'"),
        ("pkcs11:object", "not known: 'object'"),
        ("pkcs11:object=a;", "not known: ''"),
        ("pkcs11:module-path=/x.so", "not known: 'module-path'"),
        ("pkcs11:?object=a", "not known: 'object'"),
        ("pkcs11:type=secret-key", "type secret-key"),
        ("pkcs11:slot-id=one", "no decimal number"),
        ("pkcs11:slot-id=٣", "no decimal number"),
        ("pkcs11:?pin-source=|cat%20/a", "names no file"),
        ("pkcs11:?pin-source=https://a/b", "names no file"),
        ("pkcs11:?module-name=../evil", "no bare name"),
        ("pkcs11:?module-path=evil.so", "no absolute path"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(SourceUnusable) as caught:
        Pkcs11Uri.parse(text)
    assert says in caught.value.message


@given(TEXT, TEXT, st.binary(max_size=40), st.integers(0, 2**64 - 1))
def test_what_is_quoted_comes_back(token: str, label: str, id_: bytes, slot: int) -> None:
    uri = Pkcs11Uri.parse(
        f"pkcs11:token={quote(token, safe='')};object={quote(label, safe='')}"
        f";id={''.join(f'%{byte:02x}' for byte in id_)};slot-id={slot}"
    )
    assert (uri.token, uri.object, uri.id, uri.slot_id) == (token, label, id_, slot)


@given(st.text() | st.text("pin-valueobjctoken=;&?%0aF:/", max_size=60))
def test_anything_parses_or_is_refused(text: str) -> None:
    try:
        Pkcs11Uri.parse("pkcs11:" + text)
    except SourceUnusable as error:
        assert error.message


def test_as_p11tool_prints_them() -> None:
    """With everything, and with the NULs of a token that pads with them."""
    uri = Pkcs11Uri.parse(
        "PKCS11:library-description=Implementation%20of%20PKCS11;library-manufacturer=SoftHSM"
        ";library-version=2.6;slot-description=SoftHSM%20slot;slot-manufacturer=SoftHSM"
        ";token=main%00%00;object=key%20label;id=%01;type=private"
    )
    assert uri.path.startswith("pkcs11:library")
    assert uri.library == ("Implementation of PKCS11", "SoftHSM", "2.6")
    assert (uri.slot_description, uri.slot_manufacturer) == ("SoftHSM slot", "SoftHSM")
    assert (uri.token, uri.id) == ("main", b"\1")
    assert uri.object is None, "a key's label is not its certificate's"


@pytest.mark.parametrize("kind", ["private", "public"])
def test_a_key_without_an_id_has_its_certificates_label(kind: str) -> None:
    assert Pkcs11Uri.parse(f"pkcs11:object=a;type={kind}").object == "a"


def _named(*names: tuple[str, bytes]) -> list[CertificateObject]:
    return [CertificateObject(label, id_, b"") for label, id_ in names]


def test_an_id_in_plain_hexadecimal() -> None:
    """As pkcs11-tool prints it; what is written exactly so comes first."""
    both = _named(("byte", b"\x01"), ("text", b"01"))
    assert by_uri(both[:1], Pkcs11Uri.parse("pkcs11:id=01")) == both[:1]
    assert by_uri(both, Pkcs11Uri.parse("pkcs11:id=01")) == both[1:]
    assert by_uri(both, Pkcs11Uri.parse("pkcs11:id=%01")) == both[:1]


def test_a_nickname_whose_blank_was_lost() -> None:
    blank = _named(("mine ", b"1"), ("other", b"2"))
    assert by_nickname(blank, "mine", "db") == blank[:1]
    both = _named(("mine ", b"1"), ("mine", b"2"))
    assert by_nickname(both, "mine", "db") == both[1:]
    assert by_nickname(both, "mine ", "db") == both[:1]
