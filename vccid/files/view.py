# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree, kept as the daemon's readers are."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from vccid.files import tree
from vccid.files.inodes import Inode, Inodes
from vccid.files.link import Events, Link, Refused
from vccid.wire.varlink import Parameters


class View:
    """What there is to see now.

    Whoever looks is shown what the daemon has when it is asked, not what it had: each look
    asks for the daemon's generation, and looks that come together ask once.
    """

    def __init__(self, link: Link, control: Path) -> None:
        self.inodes = Inodes(time.time_ns())
        self._link = link
        self._control = control
        self._generation = -1
        self._readers: dict[str, Parameters] = {}
        self._filled: dict[str, object] = {}
        self._asking = asyncio.Lock()
        self._asked = 0

    async def directory(self, number: int) -> Inode:
        """A directory, with all that is in it now.

        Raises:
            KeyError: there is no such inode.
            NotADirectoryError: it is none.
            DaemonGone, TimeoutError: the daemon cannot be asked.
        """
        await self.refresh()
        inode = self.inodes[number]
        if not isinstance(inode.node, tree.Directory):
            raise NotADirectoryError
        if inode.linked and not inode.known:
            await self._fill(inode)
        return inode

    async def child(self, parent: Inode, name: str) -> Inode:
        """An entry of a directory that was just looked at.

        Raises:
            KeyError: there is none of that name.
        """
        if name == tree.PIN_TRIES and name in parent.children:
            await self.count_tries(parent)
        return parent.children[name]

    async def refresh(self) -> None:
        """Let the tree be as the readers are at this moment, or later.

        Raises:
            DaemonGone, TimeoutError: the daemon cannot be asked.
        """
        asked = self._asked
        async with self._asking:
            if self._asked > asked:
                return  # somebody began to ask after we came
            self._asked += 1
            await self._ask()

    async def count_tries(self, card: Inode) -> None:
        """Let a card's directory tell how many PIN tries are left; no event tells of them."""
        reader = card.parent
        if reader is None or not isinstance(reader.node, tree.Directory) or not card.linked:
            return
        info = await self._card_info(str(reader.node.key))
        if info is None or not card.linked:
            return
        new, old = tree.pin_tries(info, time.time_ns()), card.children.get(tree.PIN_TRIES)
        if new is None or old is None or _content(old) != new.content:
            self.inodes.replace(card, tree.PIN_TRIES, new)

    async def events(self, reader: str) -> Events:
        """A new stream of a reader's events; raises as Events.open."""
        return await Events.open(self._control, reader)

    async def _ask(self) -> None:
        generation = (await self._link.call("Generation"))["generation"]
        if generation == self._generation:
            return
        readers = {r["name"]: r for r in (await self._link.call("ListReaders"))["readers"]}
        self._readers = readers
        root = self.inodes.root
        if self.inodes.fill(root, {name: tree.reader_of(r) for name, r in readers.items()}):
            root.node = tree.Directory("", time.time_ns())
        for name, inode in root.children.items():
            if inode.known and self._filled.get(name) != _version(readers[name]):
                await self._fill(inode)
        # Only now: had an answer failed to come, all would be asked again.
        self._generation = generation

    async def _fill(self, inode: Inode) -> None:
        assert isinstance(inode.node, tree.Directory)
        name = str(inode.node.key)
        has_card = name in self._readers and self._readers[name]["card"] is not None
        info = await self._card_info(name) if has_card else None
        reader = self._readers.get(name)
        if reader is not None and inode.linked:
            self.inodes.fill(inode, tree.content_of(reader, info))
            self._filled[name] = _version(reader)

    async def _card_info(self, reader: str) -> Parameters | None:
        try:
            return await self._link.call("CardInfo", {"reader": reader})
        except Refused:
            return None  # it is empty, or gone


def _version(reader: Parameters) -> object:
    """Changes with each card; a reader removed and added again begins its generations anew."""
    return reader["generation"], reader["changed"]


def _content(inode: Inode) -> bytes | None:
    return inode.node.content if isinstance(inode.node, tree.File) else None
