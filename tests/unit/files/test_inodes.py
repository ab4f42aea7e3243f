# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inodes while the tree changes under them."""

from __future__ import annotations

import pytest

from vccid.files.inodes import ROOT, Inode, Inodes
from vccid.files.tree import Directory, File, Link, Stream

CARD = Directory(1, 5, {"serial": File(b"01\n", 5), "certs": Directory(1, 5, {"a": Link("b", 5)})})


@pytest.fixture
def inodes() -> Inodes:
    """One reader with a card."""
    inodes = Inodes(5)
    inodes.fill(inodes.root, {"vccid0": Directory("vccid0", 5)})
    inodes.fill(reader(inodes), {"state": File(b"inserted\n", 5), "card": CARD})
    return inodes


def reader(inodes: Inodes) -> Inode:
    return inodes.root.children["vccid0"]


def test_modes_sizes_and_links(inodes: Inodes) -> None:
    card = reader(inodes).children["card"]
    serial, certs = card.children["serial"], card.children["certs"]
    assert inodes.root.number == ROOT
    assert (inodes.root.mode, inodes.root.links) == (0o40555, 3)
    assert (card.mode, card.links, card.size) == (0o40555, 3, 0)
    assert (certs.mode, certs.links) == (0o40555, 2)
    assert (serial.mode, serial.links, serial.size, serial.blocks) == (0o100444, 1, 3, 1)
    link = certs.children["a"]
    assert (link.mode, link.links, link.size) == (0o120777, 1, 1)


def test_links_of_a_reader_nobody_has_looked_into() -> None:
    inodes = Inodes(5)
    inodes.fill(inodes.root, {"a": Directory("a", 5, directories=1), "b": Directory("b", 5)})
    assert not inodes.root.children["a"].known
    assert [inode.links for inode in inodes.root.children.values()] == [3, 2]


def test_what_stays_the_same_keeps_its_inode(inodes: Inodes) -> None:
    before = dict(reader(inodes).children)
    assert not inodes.fill(reader(inodes), {"state": File(b"inserted\n", 5), "card": CARD})
    assert reader(inodes).children == before


def test_another_content_is_another_inode(inodes: Inodes) -> None:
    card, old = reader(inodes).children["card"], reader(inodes).children["state"]
    inodes.looked_up(old)
    assert inodes.fill(reader(inodes), {"state": File(b"empty\n", 6), "card": CARD})
    new = reader(inodes).children["state"]
    assert new.number != old.number
    assert reader(inodes).children["card"] is card
    assert inodes[old.number] is old and old.links == 0
    assert isinstance(old.node, File) and old.node.content == b"inserted\n"


def test_what_is_gone_is_kept_while_the_kernel_knows_it(inodes: Inodes) -> None:
    card = reader(inodes).children["card"]
    serial = card.children["serial"]
    for _ in range(3):
        inodes.looked_up(serial)
    count = len(inodes)
    inodes.fill(reader(inodes), {"state": File(b"empty\n", 6)})
    assert not card.linked and card.children == {} and card.links == 0
    with pytest.raises(KeyError):
        inodes[card.number]
    inodes.forget(serial.number, 2)
    assert inodes[serial.number] is serial
    inodes.forget(serial.number, 1)
    with pytest.raises(KeyError):
        inodes[serial.number]
    # state is another one; card, serial, certs and the link are gone.
    assert len(inodes) == count - 4


def test_the_kernel_forgets_what_is_still_there(inodes: Inodes) -> None:
    state = reader(inodes).children["state"]
    inodes.looked_up(state)
    inodes.forget(state.number, 1)
    inodes.forget(state.number, 7)
    inodes.forget(4711, 1)
    assert inodes[state.number] is state


def test_the_same_card_again_is_another_directory(inodes: Inodes) -> None:
    old = reader(inodes).children["card"]
    again = Directory(3, 5, CARD.entries)
    inodes.fill(reader(inodes), {"state": File(b"inserted\n", 5), "card": again})
    assert reader(inodes).children["card"] is not old
    assert old.children == {}


def test_one_entry_is_replaced(inodes: Inodes) -> None:
    card = reader(inodes).children["card"]
    certs = card.children["certs"]
    inodes.replace(card, "pin-tries", File(b"3\n", 5))
    tries = card.children["pin-tries"]
    inodes.replace(card, "pin-tries", File(b"2\n", 6))
    assert card.children["pin-tries"] is not tries
    assert card.children["certs"] is certs and certs.children
    inodes.replace(card, "pin-tries", None)
    assert set(card.children) == {"serial", "certs"}


def test_a_stream_has_no_size() -> None:
    inodes = Inodes(5)
    inodes.fill(inodes.root, {"events": Stream("vccid0", 5)})
    assert inodes.root.children["events"].mode == 0o100444
    assert inodes.root.children["events"].size == 0
