# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over a blank PIV card: conversations of any kind, held against the second reading of it.

python -m tests.fuzz.fuzz_piv -runs=10000000 -max_len=4000

What the bytes choose are a host's moves, most of them apt (`tests/unit/card/piv/moves.py`); each
answer is judged by `tests/unit/card/piv/model.py`. An input is a whole conversation; how many
commands there were so far is said after each hundred thousand.
"""

import sys

import atheris

with atheris.instrument_imports(include=["vccid.card", "vccid.iso7816"]):
    from tests.unit.card.piv.host import NOW, Host, piv_card
    from vccid.card import pin as card_pin
    from vccid.card.piv.slots import guid_of, new_contents

from tests.unit.card.piv.moves import model_of, next_move
from vccid.trace.lines import exchange_text

#: After how many commands their number is said.
SAID_AFTER = 100_000


class Bytes:
    """Chance from the fuzzer's bytes; what is left of them says how long it goes on."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def below(self, count: int) -> int:
        size = 1 if count <= 256 else 2
        taken, self.left = self.left[:size], self.left[size:]
        return int.from_bytes(taken, "big") % count

    def some(self, most: int) -> bytes:
        size = self.below(most + 1)
        taken, self.left = self.left[:size], self.left[size:]
        return taken


class Target:
    """A card whose signatures are made once.

    Attributes:
        commands: how many were answered and judged.
    """

    def __init__(self) -> None:
        self.commands = 0
        card_pin.SCRYPT_COST = 16  # a PIN's hash costs what a run can spare
        self.contents = new_contents(guid_of([]), [], NOW)

    def one_input(self, data: bytes) -> None:
        """A new card for each input; nothing of it is left to the next."""
        host = Host(piv_card(contents=self.contents))
        model, dice = model_of(host), Bytes(data)
        said: list[tuple[bytes, bytes]] = []
        try:
            while dice.left:
                if dice.below(40) == 1:
                    host.reset()
                    model.reset()
                for raw in next_move(model, dice):
                    said.append((raw, host.raw(raw)))
                    model.judge(*said[-1])
                    self.commands += 1
                    if self.commands % SAID_AFTER == 0:
                        print(f"{self.commands} commands", file=sys.stderr, flush=True)
        except BaseException:
            for exchange in said:
                print(exchange_text(*exchange), file=sys.stderr)
            raise
        finally:
            host.close()


if __name__ == "__main__":
    atheris.Setup(sys.argv, Target().one_input)
    atheris.Fuzz()
