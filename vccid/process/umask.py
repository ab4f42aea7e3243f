# SPDX-License-Identifier: LGPL-2.1-or-later
"""The mask of the modes of new files (umask(2)), as what is ours needs it."""

from __future__ import annotations

import os
from typing import Final

#: Nothing that we make may be written to by others,
_OTHERS_WRITE: Final = 0o022
#: and all of it is used by ourselves.
_OWNER: Final = 0o700


def make_fit() -> int:
    """Keep what was inherited, but for what no file of ours can be with; returns that."""
    inherited = os.umask(0o077)
    os.umask(inherited & ~_OWNER | _OTHERS_WRITE)
    return inherited
