"""Waiting for what should be here in a moment: at first awake.  Runs in the launcher and in the origin.

A call that is waited for makes three processes wait for each other in turn, each for less time than it takes the
system to let a processor sleep and to wake it: 170 us for `submit(inc, 1).result()` when nobody falls asleep, 350 when
all do.  Hence *adaptive spinning*, as in many a lock (B.-H. Lim and A. Agarwal, Waiting algorithms for synchronization
in large-scale multiprocessors, 1993): who waits looks again and again for about as long as such a call takes, and
offers the processor to everybody else between two looks.

That is lost time where the answer takes longer, and more of it where others are at work and take the offer.  So one
spins only for a single thing that one has asked for, after waits that were short; and each time that it was in vain,
only after twice as many.
"""
from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Callable, List, TypeVar

T = TypeVar("T")
SHORT = 0.0005             # seconds
LOOKS = 1000               # at most: a script may have stopped the clock
OFTEN, RARELY = 8, 256     # so many short waits in a row before one spins; at most
YIELD = getattr(os, "sched_yield", None)


class Spin:
    """What one thread has learnt about its waits."""

    def __init__(self) -> None:
        self._short = 0                            # in a row
        self._enough = OFTEN                       # such to spin

    def wait(self, poll: Callable[[Any], List[T]], limit: Any) -> List[T]:
        """What `poll(limit)` finds, in whatever unit that is; if it finds nothing, up to SHORT later than that."""
        start = time.monotonic()
        spins = self._short >= self._enough
        ready = (self._look(poll, start) if spins else []) or poll(limit)
        short = bool(ready) and time.monotonic() - start < SHORT
        self._short = self._short + 1 if short else 0
        if spins:
            self._enough = max(self._enough - 1, OFTEN) if short else min(2 * self._enough, RARELY)
        return ready

    def _look(self, poll: Callable[[Any], List[T]], start: float) -> List[T]:
        ready: List[T] = []
        if YIELD is None:
            return ready
        with suppress(OSError):                    # that is forbidden here; or `poll` will say so again
            for _ in range(LOOKS):
                YIELD()
                ready = poll(0)
                if ready or time.monotonic() - start > SHORT:
                    break
        return ready
