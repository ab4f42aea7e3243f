# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inodes: numbers for what is in the tree, and for what was and is still open.

A file's content never changes: another content is another inode under the same name. So what
is open stays as it was, a size is always right, and the kernel's page cache cannot be stale.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vccid.files.tree import Directory, File, Link, Node

#: FUSE_ROOT_ID
ROOT: Final = 1

_BLOCK: Final = 512  # stat(2), st_blocks


@dataclass(slots=True, eq=False)
class Inode:
    """One inode.

    Attributes:
        number: never used again for another.
        node: what it is.
        parent: the directory it is or was in; itself for the root.
        children: of a directory, by name.
        known: whether `children` is all there is.
        linked: whether a path leads to it.
        lookups: how often the kernel was told of it and has not forgotten it (FUSE_FORGET).
    """

    number: int
    node: Node
    parent: Inode | None
    children: dict[str, Inode] = field(default_factory=dict)
    known: bool = True
    linked: bool = True
    lookups: int = 0

    @property
    def mode(self) -> int:
        """st_mode: everything is read-only."""
        if isinstance(self.node, Directory):
            return stat.S_IFDIR | 0o555
        if isinstance(self.node, Link):
            return stat.S_IFLNK | 0o777
        return stat.S_IFREG | 0o444

    @property
    def size(self) -> int:
        """st_size in bytes; 0 for directories and streams."""
        if isinstance(self.node, File):
            return len(self.node.content)
        return len(self.node.target.encode()) if isinstance(self.node, Link) else 0

    @property
    def blocks(self) -> int:
        """st_blocks."""
        return -(-self.size // _BLOCK)

    @property
    def links(self) -> int:
        """st_nlink: a directory has one in its parent, its own ".", and each child's ".."."""
        if not self.linked:
            return 0
        if not isinstance(self.node, Directory):
            return 1
        if not self.known:
            return 2 + self.node.directories
        return 2 + sum(isinstance(child.node, Directory) for child in self.children.values())


class Inodes:
    """All of them.

    Attributes:
        root: the directory of readers.
    """

    def __init__(self, time: int) -> None:
        self.root = Inode(ROOT, Directory("", time), None)
        self._inodes = {ROOT: self.root}
        self._last = ROOT

    def __len__(self) -> int:
        return len(self._inodes)

    def __getitem__(self, number: int) -> Inode:
        """Raises KeyError for one the kernel cannot know."""
        return self._inodes[number]

    def fill(self, directory: Inode, entries: Mapping[str, Node]) -> bool:
        """Let a directory have these entries; what is the same keeps its inode.

        Returns:
            Whether an entry came, went or became another one.
        """
        before = directory.children
        directory.children = {
            name: self._put(directory, before.get(name), node) for name, node in entries.items()
        }
        directory.known = True
        after = set(directory.children.values())
        for inode in before.values():
            if inode not in after:
                self._unlink(inode)
        return before != directory.children

    def replace(self, directory: Inode, name: str, node: Node | None) -> None:
        """Let one entry be this; None: let it be gone."""
        entries = {name: inode.node for name, inode in directory.children.items()}
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node
        self.fill(directory, entries)

    def looked_up(self, inode: Inode) -> None:
        """The kernel is told of it once more."""
        inode.lookups += 1

    def forget(self, number: int, lookups: int) -> None:
        """The kernel forgets that many of the times it was told."""
        inode = self._inodes.get(number)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - lookups)
            self._drop(inode)

    def _put(self, directory: Inode, old: Inode | None, node: Node) -> Inode:
        if old is not None and _same(old.node, node):
            old.node = node
            if isinstance(node, Directory) and node.entries is not None:
                self.fill(old, node.entries)
            return old
        self._last += 1
        inode = self._inodes[self._last] = Inode(self._last, node, directory)
        if isinstance(node, Directory):
            self.fill(inode, node.entries or {})
            inode.known = node.entries is not None
        return inode

    def _unlink(self, inode: Inode) -> None:
        """It is gone from its directory, with all in it; open, it stays what it was."""
        inode.linked = False
        self.fill(inode, {})
        self._drop(inode)

    def _drop(self, inode: Inode) -> None:
        if not inode.linked and not inode.lookups:
            self._inodes.pop(inode.number, None)


def _same(one: Node, other: Node) -> bool:
    """Whether one inode serves for both; a directory's time may change."""
    if isinstance(one, Directory) and isinstance(other, Directory):
        return one.key == other.key
    return one == other
