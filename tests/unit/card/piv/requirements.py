# SPDX-License-Identifier: LGPL-2.1-or-later
"""What SP 800-73-5 demands of a card, by number, and which tests show it.

A test says with `meets` what it shows. docs/piv.md has the table that is made of that; after a
change: .venv/bin/python -m tests.unit.card.piv.requirements
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

F = TypeVar("F", bound=Callable[..., object])

#: Number: part and section, and the demand in short.
REQUIREMENTS: Final = {
    "S1": "2/3.1.1: SELECT by the AID, whole or without its version; 61 with 4F and 79; 6A82",
    "S2": "2/3.1.1: SELECT of PIV while it is current changes no indicator",
    "S3": "2/2.4.2: another application of the card: every indicator of PIV falls",
    "S4": "2/3.1.1: a name the card does not know leaves PIV and its indicators",
    "S5": "2/2.3, 3.1.1: an application is current after reset; AC of the template",
    "G1": "2/3.1.2: GET DATA by tag list; 7E and 7F61 bare, the rest in 53; 61xx",
    "G2": "2/3.1.2: 6982 where the read rule is not met, before 6A82 where nothing is there",
    "V1": "2/3.2.1: VERIFY of a reference that cannot be verified: 6A88",
    "V2": "2/3.2.1: VERIFY without contact or VCI",
    "V3": "2/3.2.1: P1 other than 00 and FF: 6A86",
    "V4": "2/3.2.1: P1 FF without data: not verified, counter kept, 9000",
    "V5": "2/3.2.1: P1 00 without data: 9000, or 63CX",
    "V6": "2/3.2.1: counter 0: 6983, no comparison",
    "V7": "2/3.2.1: contactless, intermediate retry value",
    "V8": "2/3.2.1: a malformed PIN: 6A80 unchanged, or 63CX counted",
    "V9": "2/3.2.1: on-card biometrics of a wrong length",
    "V10": "2/3.2.1: a wrong PIN: 63CX, counted, not verified",
    "V11": "2/3.2.1: a wrong pairing code: 6300",
    "V12": "2/3.2.1: the right PIN: 9000, verified, counter restored",
    "C1": "2/3.2.2: CHANGE REFERENCE DATA of an unknown reference: 6A88",
    "C2": "2/3.2.2: the PUK not on contact",
    "C3": "2/3.2.2: counter 0: 6983",
    "C4": "2/3.2.2: old right, new malformed: 6A80, nothing changes",
    "C5": "2/3.2.2: old wrong: 63CX, counted, not verified",
    "C6": "2/3.2.2: any other mixture: 6A80 or 63CX",
    "C7": "2/3.2.2: right: 9000, verified, counter restored",
    "R1": "2/3.2.3: RESET RETRY COUNTER of another reference: 6A88",
    "R2": "2/3.2.3: PUK counter 0: 6983",
    "R3": "2/3.2.3: the new PIN malformed: 6A80",
    "R4": "2/3.2.3: PUK wrong: 63CX, PUK counted, PIN not verified, its counter kept",
    "R5": "2/3.2.3: right: PIN counter restored, PIN status kept",
    "A1": "2/3.2.4: GENERAL AUTHENTICATE: 9000, 61xx, 6982, 6A80, 6A86",
    "A2": "2/3.2.4: key 04 with its own suite",
    "A3": "2/3.2.4: the key's rule; 9C after VERIFY each time",
    "A4": "2/3.2.4: an empty member is given filled; 82 from 81, 82 from 85",
    "A5": "2/3.2.4: no key agreement with 9A, 9C, 9E",
    "A6": "2/3.2.4: a chain broken off leaves no trace",
    "A7": "2/2.4.2: an authentication that failed or was abandoned falls",
    "U1": "2/3.3.1: PUT DATA: whole content replaced; 6982, 6A84",
    "U2": "2/3.3.2: GENERATE: the old key replaced; 6982, 6A80, 6A86",
    "K": "2/4.1: key establishment with key 04 (K1 to K9)",
    "W": "2/4.2: secure messaging (W1 to W12)",
    "D1": "1/2.2: the AID; one PIV application on a card",
    "D2": "1/3.1: the mandatory objects exist; all follow their encodings",
    "D3": "1/3.1.1: CCC: F5 is 10",
    "D4": "1/3.1.2: CHUID: 30, 34, 35, [36], 3E, FE; no 3D; 35 is YYYYMMDD",
    "D5": "1/3.1.2: FASC-N of 25 bytes, the same everywhere",
    "D6": "1/3.1.2.1: 3E: CMS SignedData v3, detached, one certificate, two attributes",
    "D7": "1/3.1.2.1: its certificate: content signing, and outlives that of 9E",
    "D8": "1/3.1.7: security object: the CHUID's signer, every unsigned object and its hash",
    "D9": "1/3.3.1: printed information is never altered after issuance",
    "D10": "1/3.5: the read rules on both interfaces",
    "D11": "1/5.1: key references, rules and at most ten tries",
    "D12": "1/3.3.2: discovery object and its policy bytes",
    "D13": "1/5.1: the rules name the application PIN",
    "D14": "1/3.3.3: key history: F3 absent where no key is off the card",
    "D15": "1/3.3.3: retired keys on the card from 82 upward",
    "D16": "1/3.3.6: on-card biometrics",
    "D17": "1/3.3.7: the secure messaging certificate signer",
    "D18": "1/3.3.8: the pairing code",
    "D19": "1/3.4.1: the GUID is a UUID of version 1, 4 or 5",
    "D20": "1/3.4.2: the cardholder's UUID",
    "D21": "1/3.5: objects created and unused have no length",
    "D22": "1/5.1.2: key 04 is generated on the card",
    "D23": "1/5.4: secure messaging with key 04 alone",
    "D24": "1/5.5: VCI with pairing code",
    "D25": "1/A: whole objects, elements in the tables' order",
    "D26": "1/A: 71 is 00 or 01",
    "D27": "2/2.4.2: success sets an indicator, failure and another application end it",
    "D28": "2/3: all eight commands exist, with chaining where it is due",
    "D29": "2/3: keys over contactless only with VCI",
}

_NO_OCC: Final = "the card has no on-card biometrics"

#: Why a demand says nothing to this card.
NOT_APPLICABLE: Final = {
    "V9": _NO_OCC,
    "D9": "the card is the issuer's until he is done, and he says when",
    "D16": _NO_OCC,
    "D20": "optional, and not on the card",
}


def meets(*numbers: str) -> Callable[[F], F]:
    """Say what a test shows."""
    unknown = set(numbers) - REQUIREMENTS.keys()
    assert not unknown, unknown

    def mark(test: F) -> F:
        test.meets = numbers  # type: ignore[attr-defined]
        return test

    return mark


HERE: Final = Path(__file__).parent
DOCUMENT: Final = HERE.parents[3] / "docs" / "piv.md"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"


def shown() -> dict[str, list[str]]:
    """The tests that show each demand, by its number."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        # The package's name as pytest imports it, or each test's mark would be on another function.
        module = importlib.import_module(f"{__package__}.{path.stem}")
        for name, test in vars(module).items():
            for number in getattr(test, "meets", ()):
                found.setdefault(number, []).append(f"{path.stem}::{name}")
    return found


def rows() -> Iterator[tuple[str, str, str]]:
    """Number, demand, and what of it."""
    tests = shown()
    for number, demand in REQUIREMENTS.items():
        if number in tests:
            yield number, demand, "met: " + ", ".join(f"`{test}`" for test in tests[number])
        elif number in NOT_APPLICABLE:
            yield number, demand, f"not applicable: {NOT_APPLICABLE[number]}"
        else:
            yield number, demand, "open"


def figure() -> str:
    """How many of the demands are met, in a sentence."""
    states = [state.partition(":")[0] for _, _, state in rows()]
    met, other, left = (states.count(state) for state in ("met", "not applicable", "open"))
    share = 100 * met // (met + left)
    return (
        f"Of {len(states)} demands, {other} say nothing to this card; of the rest {met} are met and"
        f" {left} are open: {share} % are met."
    )


def table() -> str:
    """The table as docs/piv.md has it."""
    lines = [figure(), "", "| | part/section: demand | state |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table into docs/piv.md."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(before + BEGIN + table() + END + after)


if __name__ == "__main__":
    main()
