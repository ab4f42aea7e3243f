# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clean-ups of several steps: each is taken, whatever the one before it came to."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def take_all(*steps: Callable[[], object]) -> None:
    """Take every step; one that fails is logged, and the next is taken."""
    for step in steps:
        try:
            step()
        except Exception:
            _tell(step)


async def take_all_async(*steps: Callable[[], object]) -> None:
    """The same with steps that may have to be awaited.

    Raises:
        asyncio.CancelledError: once all are taken, where one was cancelled.
    """
    cancelled: asyncio.CancelledError | None = None
    for step in steps:
        try:
            result = step()
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            _tell(step)
    if cancelled is not None:
        raise cancelled


def _tell(step: Callable[[], object]) -> None:
    name = getattr(step, "__qualname__", repr(step))
    log.exception("%s failed; what is left to clean up goes on", name)
