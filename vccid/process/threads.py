# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for what blocks, where the system may have none left."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """A pool whose work is done or refused, and never done after it was refused.

    The library's own keeps what it has no thread for, and does it when one comes free, though it
    raised RuntimeError; a file so may be written long after a newer one.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `ThreadPoolExecutor.submit`.

        Raises:
            OSError: no thread can be started (EAGAIN).
            RuntimeError: the pool was shut down.
        """
        refused = False

        def work() -> Any:
            return None if refused else fn(*args, **kwargs)

        try:
            return super().submit(work)
        except RuntimeError as error:
            refused = True
            if self._is_shut_down():
                raise
            raise OSError(errno.EAGAIN, "no thread can be started for it") from error

    def _is_shut_down(self) -> bool:
        return bool(self._shutdown)
