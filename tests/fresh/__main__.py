# SPDX-License-Identifier: LGPL-2.1-or-later
"""`./dev fresh SUITE [VERB [ARGUMENT...]]`."""

from __future__ import annotations

import sys

from .root import PYTHON, RootError, run

#: What of `./dev test` needs no network.
TESTS = ("test", "tests/unit", "tests/peers")


def main() -> int:
    """Run a verb of `./dev` on a fresh machine; without one, unit and peers' tests."""
    suite, *command = sys.argv[1:] or [""]
    try:
        return run(suite, command or TESTS)
    except RootError as error:
        print(
            f"usage: ./dev fresh {'|'.join(PYTHON)} [VERB [ARGUMENT...]]\n{error}", file=sys.stderr
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
