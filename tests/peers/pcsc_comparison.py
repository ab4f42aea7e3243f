# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same programs behind pcscd and at the daemon's own door, and what each of them said.

`python -m tests.peers.pcsc_comparison [NAME=PLACE...]` writes the table of docs/pcsc.md. Each PLACE
is optional, and none of what it has is ours:

- pcsc-lite: its unpacked source, whose UnitaryTests are run too;
- pyscard: the same of pyscard, whose suites are run;
- p11test: OpenSC's program of that name, built;
- trixie: a root of Debian 13, whose pcscd is run;
- 2.3.3, 2.5.1, ...: a folder with the libpcsclite.so.1 of that version.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.peers.daemon import Daemon, make_nss_database
from tests.peers.desk import Desk
from tests.peers.pcsc_programs import OPTIONAL, PROGRAMS, REASONS, UNITARY, named
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pcsc.md"
BEGIN, END = "<!-- made by the run -->", "<!-- end of what the run made -->"

CERTS = "cert1,cert2,cert3"
SETTINGS = "[reader.vccid0]\npcsc = true\n"

#: What a program prints of which two runs differ anyway.
_VARIES = (
    (re.compile(r"0x[0-9a-f]{6,}|\bd?[hH]?(?:handle|Context|hcard)\S*\s*[:=]?\s*\d+"), "…"),
    (re.compile(r"(?<=object )\d+"), "…"),
    (re.compile(r"\d+\.\d+(?:e-\d+)?|\d{2}:\d{2}:\d{2}"), "…"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: its exit status.
        said: what it printed, without what differs between any two runs.
    """

    status: int
    said: str


def run(desk: Desk, argv: tuple[str, ...], directory: Path | None = None) -> Outcome:
    """Run a program at a desk."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory or desk.directory,
        env=desk.env,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    for pattern, sign in _VARIES:
        said = pattern.sub(sign, said)
    return Outcome(done.returncode, said)


class Both:
    """A daemon with a card, shown by pcscd and at its own door; a context manager."""

    def __init__(
        self, directory: Path, *, database: str | None = None, other: Path | None = None
    ) -> None:
        """Nothing runs before it is entered.

        Args:
            directory: for all it writes.
            database: of the card's certificates; by default a new one.
            other: a root of Debian 13, whose pcscd stands where this system's does.
        """
        self._directory = directory
        self._database = database
        self._daemon = Daemon(directory / "vccid", settings=SETTINGS)
        entry = ReaderEntry("vccid vccid0", f"vccid:{self._daemon.ifd()}", DRIVER)
        program = None if other is None else _start_script(directory / "its-pcscd", other)
        self._pcscd = PrivatePcscd(directory / "pcscd", [entry], program=program)
        self._desks = 0

    def __enter__(self) -> Both:
        self._daemon.start()
        try:
            self._pcscd.start()
            database = self._database or make_nss_database(self._directory / "nss")
            self._daemon.ctl("insert", "--db", database, "--certs", CERTS, "--wait")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pcscd.stop()
        self._daemon.stop()

    def fresh_card(self) -> None:
        """Pull the card and put it back: nothing of the program before is left."""
        self._daemon.ctl("remove", "--wait")
        self._daemon.ctl("insert", "--wait")

    def behind_pcscd(self, library: Path | None = None) -> Desk:
        """A desk whose programs find pcscd; `library` is another libpcsclite's directory."""
        return self._desk(self._pcscd.env, library)

    def at_the_door(self, library: Path | None = None) -> Desk:
        """A desk whose programs find the daemon; `library` is another libpcsclite's directory."""
        env = {**self._pcscd.env, "PCSCLITE_CSOCK_NAME": str(self._daemon.runtime / "pcscd.comm")}
        return self._desk(env, library)

    def _desk(self, env: dict[str, str], library: Path | None) -> Desk:
        if library is not None:
            env["LD_LIBRARY_PATH"] = str(library)
        self._desks += 1
        return Desk(self._directory / f"desk{self._desks}", env)


def _start_script(path: Path, root: Path) -> str:
    """Another system's pcscd as a program of this one: by its own libraries."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    folders = f"{libraries}:{libraries}/systemd"
    path.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {folders} {root}/usr/sbin/pcscd "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


@dataclass(frozen=True, slots=True)
class Column:
    """One of the table's.

    Attributes:
        title: its head.
        outcomes: by program.
        like: the column it is compared with, or None.
    """

    title: str
    outcomes: Mapping[str, Outcome]
    like: Column | None = None

    def cell(self, program: str) -> str:
        ours = self.outcomes[program]
        if self.like is None:
            return f"status {ours.status}"
        its = self.like.outcomes[program]
        if ours == its:
            return "same"
        if program in REASONS:
            return REASONS[program]
        return f"status {ours.status}" if ours.status != its.status else "says otherwise"


Job = tuple[tuple[str, ...], Path | None]


def _jobs(places: Mapping[str, Path]) -> dict[str, Job]:
    """What to run and where; with a folder, only its status counts."""
    jobs: dict[str, Job] = {name: (argv, None) for name, argv in PROGRAMS.items()}
    if source := places.get("pcsc-lite"):
        for test in UNITARY:
            path = source / "UnitaryTests" / f"{test}.py"
            jobs[f"UnitaryTests/{test}.py"] = (sys.executable, str(path)), path.parent
    jobs |= {name: (argv, None) for name, argv in named(places).items()}
    return jobs | {name: (argv, None) for name, (path, argv) in OPTIONAL.items() if path.exists()}


def _outcomes(both: Both, desk: Desk, jobs: Mapping[str, Job]) -> dict[str, Outcome]:
    """Each with a fresh card."""
    outcomes = {}
    for name, (argv, directory) in jobs.items():
        both.fresh_card()
        outcome = run(desk, argv, directory)
        outcomes[name] = outcome if directory is None else Outcome(outcome.status, "")
    return outcomes


def columns(places: Mapping[str, Path], jobs: Mapping[str, Job]) -> Iterator[Column]:
    """Debian 12's pcscd and our door; where they were named, Debian 13's and other libraries."""
    versions = {name: path for name, path in places.items() if name[0].isdigit()}
    with contextlib.ExitStack() as end:
        folders = (tempfile.TemporaryDirectory(prefix="vccid-") for _ in range(3))
        nss, one, other = (Path(end.enter_context(folder)) for folder in folders)
        database = make_nss_database(nss / "nss")
        with Both(one, database=database) as both:
            first = Column("Debian 12's pcscd", _outcomes(both, both.behind_pcscd(), jobs))
            yield first
            outcomes = _outcomes(both, both.at_the_door(), jobs)
            yield Column("our door, libpcsclite 1.9.9", outcomes, first)
        both = end.enter_context(Both(other, database=database, other=places.get("trixie")))
        like = first
        if "trixie" in places:
            desk = both.behind_pcscd(versions["2.3.3"])
            like = Column("Debian 13's pcscd, 2.3.3", _outcomes(both, desk, jobs), first)
            yield like
        for version, library in versions.items():
            outcomes = _outcomes(both, both.at_the_door(library), jobs)
            yield Column(f"our door, libpcsclite {version}", outcomes, like)


def main(arguments: list[str]) -> None:
    places = {name: Path(place) for name, _, place in (each.partition("=") for each in arguments)}
    jobs = _jobs(places)
    table = list(columns(places, jobs))
    rows = ["| program | " + " | ".join(column.title for column in table) + " |"]
    rows.append("|" + " --- |" * (1 + len(table)))
    for name in jobs:
        rows.append(f"| `{name}` | {' | '.join(column.cell(name) for column in table)} |")
        for column in table:
            if column.cell(name) not in ("same", "status 0"):
                print(f"{name}, {column.title}: {column.outcomes[name]}", file=sys.stderr)
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    made = "\n".join(rows)
    PAGE.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
