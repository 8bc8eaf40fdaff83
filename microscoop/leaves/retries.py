"""Which blocks are second attempts.  Runs in the launcher, for those who tell of them: progress.py and timeline.py."""
from __future__ import annotations

from typing import Set, Tuple

from ..protocol import CHARGED, Block, Lost


class Retries:
    """The items that a worker's death interrupted, until they are run again."""

    def __init__(self) -> None:
        self._doubted: Set[Tuple[int, int, int]] = set()   # owner, call, item

    def lost(self, owner: int, message: Lost) -> None:
        """The owner is told of these."""
        if message.verdict == CHARGED:
            self._doubted.add((owner, message.call, message.first))

    def is_again(self, block: Block) -> bool:
        """Whether this block, which is given to a worker now, is one of them; they come one a block."""
        item = (block.owner, block.call, block.first)
        again = item in self._doubted
        self._doubted.discard(item)
        return again
