"""A block at work.  Runs in workers."""
from __future__ import annotations

import time
from typing import Any, List, Optional, Sequence, Tuple

from .calls import MOST_TIME
from .protocol import Block

PATIENCE = 10_000_000      # nanoseconds that a block may last longer than it should before what is done is sent


class Run:
    """A block at work; its thread appends to `done` and other threads may cut `places` short."""
    __slots__ = ("block", "places", "done", "packed", "sent", "since", "began", "ended", "due", "beneath", "note",
                 "slot", "home")

    def __init__(self, block: Block, home: bool = False) -> None:
        self.block = block
        self.home = home                           # our own items, run here: their outcomes go straight to the call
        self.beneath: object = None                # the task on top of which it runs
        self.places: List[int] = []                # of the items, from 0; none before the function is there
        self.done: List[Any] = []
        self.packed = False                        # not all of that are atoms
        self.sent = 0                              # of done
        self.since = self.began = time.perf_counter_ns()
        self.ended = 0                             # when the last item did: what follows is no part of its time
        self.due = self.began + patience(block)   # when the reader thread looks at it
        self.slot, self.note = 0, memoryview(b"")  # where the item at work is noted

    def rest(self) -> Optional[Tuple[int, int]]:
        """Cut off what was not begun: (first, count), or None.

        The thread at work goes through `places` by index, so shortening it is enough; what it has begun by then is at
        most the item after those in `done`.
        """
        del self.places[len(self.done) + 1:]
        first = self.block.first + max(len(self.places), len(self.done) + 1)
        count = self.block.first + self.block.items - first
        if count <= 0:
            return None
        self.block = self.block._replace(items=self.block.items - count)
        return first, count

    def item(self) -> int:
        """The one at work, as it is noted."""
        return int(self.note[self.slot + 2] + self.note[self.slot + 3])

    def outcomes(self, count: int) -> Sequence[Any]:
        """The next ones to be sent, so many, as they are pickled: a list only if those are atoms."""
        part = self.done[self.sent:self.sent + count]
        return tuple(part) if self.packed else part

    def add(self, outcome: Any) -> None:
        """Another one, of any kind."""
        self.packed = True
        self.done.append(outcome)


def patience(block: Block) -> int:
    """Nanoseconds for which nobody need look at it: as long as it should last, but a block of a chunk size given by the
    user may be long, and what is done is wanted."""
    return min(block.planned * 1000, MOST_TIME) + PATIENCE
