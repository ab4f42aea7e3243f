# SPDX-License-Identifier: LGPL-2.1-or-later
"""One command, with every call of it going wrong in turn; and what may have come of that."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.sweep import strace
from tests.sweep.cases import Case
from tests.sweep.facts import Facts, proved, told
from tests.sweep.house import Child, House, do
from tests.sweep.strace import Call

#: What goes wrong with a call: an error, or the end of the process before it.
KINDS: Final = ("EIO", "ENOSPC", "KILL")

#: Facts that come out differently each time: only whether they are the same as before counts.
_FRESH: Final = ("key 9", "key 8", "CHUID")

#: What an insert warns of where a PIN's file, of which nothing is known, cannot be read.
_NO_PIN: Final = "no PIN is accepted"


@dataclass
class Tally:
    """What came of a case's faults.

    Attributes:
        name: the case's.
        faults: how many there were, by kind.
        undone: after how many nothing had changed, by kind.
        between: after how many a part had.
        done: after how many all had.
        wrong: what should not have come of one.
    """

    name: str
    faults: Counter[str] = field(default_factory=Counter)
    undone: Counter[str] = field(default_factory=Counter)
    between: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [
            f"{kind} {self.faults[kind]} ({self.undone[kind]} undone, "
            f"{self.between[kind]} between, {self.done[kind]} done)"
            for kind in KINDS
            if self.faults[kind]
        ]
        return f"{self.name}: {', '.join(parts)}"


class Sweep:
    """A case, ready to be swept."""

    def __init__(self, case: Case, directory: Path) -> None:
        """Find out what it does when nothing goes wrong.

        Args:
            case: the command.
            directory: empty, for everything.
        """
        self._case = case
        self._from = directory / "from"
        self._root = directory / "root"
        self._log = directory / "strace"
        for name in ("state", "run", "conf"):
            (self._from / name).mkdir(parents=True)
        do(self._from, case.setup)
        self.before = self._found(self._copy())
        root = self._copy()
        with self._traced(root, strace.looking(())) as child:
            said = json.loads(child.finish() or "")
        self.answer = said["answer"]
        self.calls, self._files = strace.seen(self._log, root / "state")
        self.after = self._found(root)
        self._tally = Tally(case.name)

    def run(self, kinds: Sequence[str] = KINDS) -> Tally:
        """Every call, in every way."""
        for kind in kinds:
            for call in self.calls:
                self._one(call, kind)
        for kind in kinds:
            if not self._tally.undone[kind] + self._tally.between[kind]:
                self._tally.wrong.append(f"no {kind} kept it from being done")
            if kind == "KILL" and not self._tally.done[kind]:
                self._tally.wrong.append("it was done after no KILL")
        return self._tally

    def _one(self, call: Call, kind: str) -> None:
        root = self._copy()
        options = [*strace.looking(self._files), *strace.fault(call, kind)]
        with self._traced(root, options) as child:
            said = child.finish()
        if said is not None and "(INJECTED" not in self._log.read_text():
            self._wrong(call, kind, "it did not happen")
            return
        self._tally.faults[kind] += 1
        try:
            told_before = None if said is None else json.loads(said)
            found = self._found(root, told_before)
            self._judge(found, told_before and told_before["answer"], kind)
        except AssertionError as error:
            self._wrong(call, kind, str(error))

    def _judge(self, found: Facts, answer: str | None, kind: str) -> None:
        """What may have come of it.

        Raises:
            AssertionError: something else did.
        """
        case, tally = self._case, self._tally
        if found == self.after:
            tally.done[kind] += 1
        elif found == self.before:
            tally.undone[kind] += 1
        elif answer is None or _NO_PIN not in answer:
            assert found in list(self._partly()), f"said {answer}, and then {self._odd(found)}"
            tally.between[kind] += 1
        if answer is None:
            return
        if answer == self.answer:
            assert found == self.after, f"said {answer}, and then {self._odd(found)}"
        elif not (case.unkept and answer.startswith("warned")):
            assert answer.startswith(case.words), f"said {answer}"

    def _partly(self) -> Iterator[Facts]:
        """The first steps done, the next perhaps counted, the rest not."""
        now = dict(self.before)
        for step in ((), *self._case.steps):
            for name in {*self.before, *self.after}:
                if step and name.startswith(step):
                    _take(now, self.after, name)
            yield dict(now)
            if counts := self._case.counts:
                tries = f"{counts} tries"
                yield {**now, tries: str(int(self.before[tries]) - 1)}

    def _odd(self, found: Facts) -> str:
        names = sorted({*self.before, *self.after, *found})
        return "; ".join(
            f"{name} is {found.get(name)}, was {self.before.get(name)}, not {self.after.get(name)}"
            for name in names
            if found.get(name) not in (self.before.get(name), self.after.get(name))
        ) or "; ".join(
            f"{name} is {found.get(name)}"
            for name in names
            if self.before.get(name) != self.after.get(name)
        )

    def _wrong(self, call: Call, kind: str, what: str) -> None:
        self._tally.wrong.append(f"{kind} at {call}: {what}")

    # -- houses ----------------------------------------------------------------------------------

    def _copy(self) -> Path:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._from / "state", self._root / "state")
        for name in ("run", "conf"):
            (self._root / name).mkdir()
        return self._root

    def _traced(self, root: Path, options: Sequence[str]) -> _Traced:
        return _Traced(self._case, root, self._log, options)

    def _found(self, root: Path, live: dict[str, object] | None = None) -> Facts:
        """What a daemon that starts again finds, and the next commands.

        Raises:
            AssertionError: it is not what the one before had told, or they fail.
        """

        async def look(house: House) -> str:
            first = await told(house)
            second: Facts = {}
            problem = ""
            try:
                if not house.has_card and self._case.name == "insert":
                    again = await self._case.act(house)
                    assert again.startswith(("done", "warned")), f"again: {again}"
                second = await proved(house)
            except AssertionError as error:
                problem = str(error) or "the next command failed"
            return json.dumps([first, second, problem])

        first, second, problem = json.loads(do(root, look))
        assert not problem, problem
        if live is not None:
            _check_told(str(live["answer"]), live["told"], first)
        return self._named({**first, **second})

    def _named(self, found: Facts) -> Facts:
        """Facts that are fresh each time, as the same as before, none, or another."""
        before = getattr(self, "before_raw", None)
        if before is None:
            self.before_raw = before = dict(found)
        named = {}
        for name, value in found.items():
            if name.startswith(_FRESH) and len(value) > 5:
                value = "as before" if value == before.get(name) else "another"
            named[name] = value
        return named


class _Traced:
    """A child at the threshold of a case's command, traced."""

    def __init__(self, case: Case, root: Path, log: Path, options: Sequence[str]) -> None:
        async def work(house: House) -> str:
            answer = await case.act(house)
            return json.dumps({"answer": answer, "told": await told(house)})

        self._child = Child(root, case.before, work)
        self._strace = strace.Strace(self._child.pid, log, options)

    def __enter__(self) -> Child:
        self._strace.__enter__()
        return self._child

    def __exit__(self, *failed: object) -> None:
        self._strace.__exit__(None, None, None)


def _take(into: Facts, source: Facts, name: str) -> None:
    if name in source:
        into[name] = source[name]
    else:
        into.pop(name, None)


def _check_told(answer: str, before: object, after: Facts) -> None:
    """What was told before a restart is what is found after it, unless the answer warned of it.

    Raises:
        AssertionError: it is not.
    """
    assert isinstance(before, dict)
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    for held in ("PIN", "PUK"):  # none is left for as long as the file cannot be read
        if before.get(f"{held} tries") == "0":
            names = {name for name in names if not name.startswith(held)}
    if not answer.startswith("warned"):
        other = [f"{name} {before.get(name)}, after it {after.get(name)}" for name in names]
        assert not other, f"before the restart: {'; '.join(sorted(other))}"
