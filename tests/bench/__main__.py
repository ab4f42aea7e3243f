# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./dev bench [NAME...]`: run all measurements, or those named, and write docs/benchmarks.md.

Each other module of this folder is one, run as `python -m tests.bench.NAME`; it prints a JSON
list of figures, each with the keys of `Figure`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vccid import __version__

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"

#: The page between a measurement's two markers is written anew; what people wrote around stays.
BEGIN, END = "<!-- figures of {} -->", "<!-- end of figures of {} -->"
#: Before this goes the table of a measurement the page has not yet.
LAST = "<!-- end of figures -->"

#: Seconds one module may take.
PATIENCE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: in `unit`; a median where it says so in the name.
        floor: the same by what it is compared with in the same run, or None.
        ratio: value to floor, or None.
        target: what `ratio`, or `value` where there is none, should keep to; or None.
        better: whether a lower or a higher figure is better.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def met(self) -> bool | None:
        """Whether it keeps to its target; None where it has none."""
        if self.target is None:
            return None
        figure = self.value if self.ratio is None else self.ratio
        return figure <= self.target if self.better == "lower" else figure >= self.target

    def row(self) -> str:
        """A row of the page's table."""
        sign = "≤" if self.better == "lower" else "≥"
        unit = "" if self.ratio is not None or self.target is None else f" {self.unit}"
        target = "" if self.target is None else f"{sign} {_number(self.target)}{unit}"
        cells = (
            self.name,
            f"{_number(self.value)} {self.unit}",
            "" if self.floor is None else f"{_number(self.floor)} {self.unit}",
            "" if self.ratio is None else _number(self.ratio),
            target,
            {None: "", True: "yes", False: "**no**"}[self.met],
        )
        return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{round(value):,}" if abs(value) >= 100 else f"{value:.3g}"


def modules(names: Sequence[str]) -> list[str]:
    """The measurements there are, or those named."""
    there = sorted(path.stem for path in HERE.glob("[a-z]*.py"))
    if unknown := set(names) - set(there):
        raise SystemExit(f"no such measurement: {', '.join(sorted(unknown))}; {', '.join(there)}")
    return list(names) or there


def measure(name: str) -> list[Figure]:
    """Run one measurement; what it says on standard error is for the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
    )
    return [Figure(**figure) for figure in json.loads(done.stdout)]


def machine() -> str:
    """What the figures depend on, and nothing that names a host."""
    versions = ("pcscd", "opensc", "libssl3", "libnss3", "libcacard0")
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *versions]
    packages = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    facts = [
        f"{os.cpu_count()} cores{f' ({cpu[1]})' if cpu else ''}",
        f"Linux {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        *packages.splitlines(),
    ]
    return ", ".join(facts)


def write_page(name: str, figures: Sequence[Figure]) -> None:
    """Put a measurement's table where its last one stood, or behind all others."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    begin, end = BEGIN.format(name), END.format(name)
    table = "\n".join(
        [
            begin,
            f"### {name}",
            "",
            f"vccid {__version__}, {day}, by `./dev bench {name}`: {machine()}.",
            "",
            "| what | vccid | beside | ratio | target | met |",
            "| --- | --- | --- | --- | --- | --- |",
            *(figure.row() for figure in figures),
            "",
            end,
        ]
    )
    page = PAGE.read_text()
    if begin in page:
        page = page[: page.index(begin)] + table + page[page.index(end) + len(end) :]
    else:
        page = page.replace(LAST, f"{table}\n\n{LAST}")
    PAGE.write_text(page)


def main(names: Sequence[str]) -> None:
    for name in modules(names):
        print(f"measuring {name}", file=sys.stderr)
        figures = measure(name)
        for figure in figures:
            print(figure.row())
        write_page(name, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
