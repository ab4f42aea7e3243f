# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the program `vccid` begins."""

from __future__ import annotations

import gc


def main() -> None:
    """Run `vccid`."""
    # What is loaded stays: to look through it for garbage takes an eighth of the start, for none.
    gc.disable()
    from vccid.run import verbs

    verbs.main()
