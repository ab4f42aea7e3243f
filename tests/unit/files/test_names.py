# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates' names as file names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.files.names import LONGEST_NAME, roles, stems


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("cert1", "cert1"),
        ("Doe, Jane (ID)", "Doe, Jane (ID)"),
        ("a/b", "a_b"),
        ("/srv/cards/id.p12", "id"),
        ("/srv/cards/sign.PEM", "sign"),
        ("/srv/cards/v1.2", "v1.2"),
        ("pkcs11:token=mine;object=my%20id", "my id"),
        ("pkcs11:token=mine;id=%01%02?pin-source=file:/x", "__"),
        ("pkcs11:token=mine", "certificate"),
        (".", "_"),
        ("..", "_."),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("", "certificate"),
        ("tab\tand\nline", "tab_and_line"),
        ("Jürgen", "Jürgen"),
    ],
)
def test_one_name(name: str, stem: str) -> None:
    assert stems([name]) == [stem]


def test_equal_names_are_numbered_in_order() -> None:
    assert stems(["a", "a", "a/b", "a_b", "a"]) == ["a", "a~2", "a_b", "a_b~2", "a~3"]
    assert stems(["a~2", "a", "a"]) == ["a~2", "a", "a~3"]


def test_a_long_name_is_cut_between_characters() -> None:
    (stem,) = stems(["ü" * 300])
    assert stem == "ü" * 120
    first, second = stems(["x" * 300, "x" * 299])
    assert first != second
    assert len(f"{second}.pem".encode()) <= LONGEST_NAME


@given(
    st.lists(st.text() | st.sampled_from(["a", "a~2", "/a.pem", "pkcs11:object=a"]), max_size=10)
)
def test_any_names_become_different_names_of_files(names: list[str]) -> None:
    chosen = stems(names)
    assert len(set(chosen)) == len(names)
    assert stems(names) == chosen
    for stem in chosen:
        assert stem and "/" not in stem and "\0" not in stem and stem[0] not in ".-"
        assert len(f"{stem}.pem".encode()) <= LONGEST_NAME


def test_roles_of_the_first_three() -> None:
    assert roles(["a", "b", "c", "d"]) == {"id": "a", "signature": "b", "encryption": "c"}
    assert roles(["a"]) == {"id": "a"}
    assert roles([]) == {}


def test_a_certificate_s_own_name_goes_before_a_role() -> None:
    assert roles(["signature", "id"]) == {}
    assert roles(["a", "id"]) == {"signature": "id"}
