"""Waiting for what should be here in a moment: at first awake.  Runs in the launcher and in the origin.

A call that is waited for makes three processes wait for each other in turn, each for less time than it takes the
system to let a processor sleep and to wake it: 170 us for `submit(inc, 1).result()` when nobody falls asleep, 350 when
all do.  Hence *adaptive spinning*, as in many a lock (B.-H. Lim and A. Agarwal, Waiting algorithms for synchronization
in large-scale multiprocessors, 1993): who waits looks again and again for a while, but only if the waits before it were
short, and it offers the processor to everybody else between two looks.  Workers do not: there may be many of them.
"""
from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Callable, List, TypeVar

T = TypeVar("T")
SHORT = 0.001              # seconds
OFTEN = 8                  # so many short waits in a row, and the next one is expected to be short


class Spin:
    """One thread's, for what it waits for most."""

    def __init__(self) -> None:
        self._short = 0                            # waits, in a row

    def wait(self, poll: Callable[[Any], List[T]], limit: Any, may_spin: bool) -> List[T]:
        """What `poll(limit)` finds; up to SHORT later than that where it finds nothing."""
        start = time.monotonic()
        ready: List[T] = []
        if may_spin and self._short >= OFTEN:
            with suppress(OSError, AttributeError):        # no sched_yield here, or it is forbidden; or as `poll` says
                while not ready and time.monotonic() - start < SHORT:
                    os.sched_yield()
                    ready = poll(0)
        ready = ready or poll(limit)
        self._short = self._short + 1 if ready and time.monotonic() - start < SHORT else 0
        return ready
