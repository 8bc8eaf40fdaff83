"""Network, clock and dice of the simulation."""
from __future__ import annotations

import heapq
import random
from typing import Any, Callable, List, Tuple


class Violation(Exception):
    """Something that must never happen has happened."""


class World:
    """Network, clock and dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.flying = 0                            # messages on their way
        self._due: List[Tuple[float, int, Callable[..., None], Tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, function: Callable[..., None], *args: Any) -> None:
        """Call it then; in the order in which they were asked for, if it is the same time."""
        self._count += 1
        heapq.heappush(self._due, (when, self._count, function, args))

    def after(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        """Call it when some time has passed."""
        self.at(self.now + seconds, function, *args)

    def turn(self) -> bool:
        """Let the next thing happen; False if there is none."""
        if not self._due:
            return False
        self.now, _, function, args = heapq.heappop(self._due)
        function(*args)
        return True

    def moment(self) -> float:
        """The time that a few lines of code take."""
        return self.dice.random() * 0.0001

    def chance(self, probability: float) -> bool:
        """Whether something happens."""
        return self.dice.random() < probability
