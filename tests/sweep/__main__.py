# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./dev sweep [--kind=EIO|ENOSPC|KILL] [WORD...]`: sweep all commands, or those with a word."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.key_material import certificate, key_pem, pem
from tests.peers.piv import new_key
from tests.sweep import strace
from tests.sweep.cases import Case, card_commands, desk_commands
from tests.sweep.sweep import KINDS, Sweep


def certificates_in(directory: Path) -> list[str]:
    """Two, with their keys, as --certs takes them."""
    files = []
    for number in (1, 2):
        key = new_key("P-256")
        file = directory / f"{number}.pem"
        file.write_bytes(pem(certificate(f"cert{number}", key.public_key())) + key_pem(key))
        files.append(str(file))
    return files


def chosen(directory: Path, words: list[str]) -> Iterator[Case]:
    """The cases with one of the words in their names; all where there are none."""
    for case in [*card_commands(), *desk_commands(certificates_in(directory))]:
        if not words or any(word in case.name for word in words):
            yield case


def main(arguments: list[str]) -> int:
    """Sweep; 1 where something came of it that must not."""
    words = [word for word in arguments if not word.startswith("--kind=")]
    kinds = [word.removeprefix("--kind=") for word in arguments if word not in words] or KINDS
    if lacking := strace.missing():
        print(lacking, file=sys.stderr)
        return 2
    wrong = faults = 0
    # In memory where that can be: what is asked of the disk is the same.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        for number, case in enumerate(chosen(Path(name), words)):
            directory = Path(name) / str(number)
            directory.mkdir()
            tally = Sweep(case, directory).run(kinds)
            print(tally, *tally.wrong, sep="\n  ", flush=True)
            wrong += len(tally.wrong)
            faults += tally.faults.total()
    print(f"{faults} faults, {wrong} of them with what must not be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
