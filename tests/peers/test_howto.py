# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands in README and docs/howto do what they say, for an ordinary user, with real programs.

A page's `console` blocks are one session. A line that begins with "$ " is run, and must succeed
unless "# fails" stands behind it; one that begins with "# " is root's and is left out. The lines
below a command are looked for in what it printed, in that order: each is a part of a line, blanks
aside. A block that has a file's name behind its language is that file, there from the beginning.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.peers.user import NOBODY, ended, temporary_user

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
PAGES = [ROOT / "README.md", *sorted(page for page in HOWTO.iterdir() if page.name != "README.md")]
MARK = "@@@"
FAILS = " # fails"

#: Pages that are root's, for nobody else may lock enough memory.
ROOTS = {"luks"}

#: A network of its own, for the servers of the pages.
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@dataclass
class Command:
    """A command of a page, and what it shall print."""

    text: str
    said: list[str] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        return self.text.endswith(FAILS)


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif line.startswith("# "):
                found.append(Command(""))
            else:
                found[-1].said.append(line)
    return [command for command in found if command.text]


def files(page: Path) -> dict[str, str]:
    """The contents of a page's files by their names."""
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def script(session: list[Command]) -> str:
    lines = [f'{command.text}\nstatus=$?; echo; echo "{MARK} $status"' for command in session]
    return "\n".join(["exec 2>&1", *lines, "exit 0", ""])


def missing(wanted: list[str], printed: str) -> list[str]:
    """What was not printed, or not in order."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    return [want for want in wanted if not any(" ".join(want.split()) in line for line in lines)]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user in a network of its own")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page(page: Path) -> None:
    session = commands(page)
    with temporary_user(0 if page.stem in ROOTS else NOBODY) as user:
        for name, text in {**files(page), "session": script(session)}.items():
            (user.home / name).write_text(text)
        process = user.start("run", "--", "bash", "session", wrapper=ALONE)
        with ended(process):
            output, errors = process.communicate(timeout=100)
        assert user.left_over() == []
    assert (process.returncode, errors) == (0, ""), output
    parts = re.split(rf"^{MARK} (\d+)\n", output, flags=re.MULTILINE)
    results = list(zip(parts[::2], parts[1::2], strict=False))
    assert len(results) == len(session), output
    for command, (printed, status) in zip(session, results, strict=True):
        assert (status != "0") == command.fails, f"{command.text} -> {status}\n{printed}"
        assert missing(command.said, printed) == [], f"{command.text}\n{printed}"
