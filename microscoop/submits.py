"""What `submit` has made, as its owner keeps it: as if it were one call, number 0.  Runs in owners.

Its items have the numbers of their futures.  Everything here is done under the owner's lock.
"""
from __future__ import annotations

from typing import Any, Callable, Deque, Dict

from . import tasks
from .calls import BLOCK_SIZE, MOST_TIME, Call
from .protocol import ALONE, Block


class Submits:
    """The futures whose tasks have left, and how long such tasks take."""

    def __init__(self) -> None:
        self.sent: Dict[int, Any] = {}             # serial -> Future
        self._paces: Dict[str, float] = {}         # nanoseconds that functions take, by name

    def cut(self, queue: Deque[Any], number: int, workers: int, pickled: Callable[[Any], Any]) -> Block:
        """The oldest futures: those of one function that follow each other, MOST_TIME long at most."""
        size = len(_packed(queue[0]))
        first = queue.popleft()
        pace = self._paces.get(first.name, 0)
        most = min(int(MOST_TIME / pace), len(queue) // (2 * workers)) if pace and not first.attempts else 1
        batch = [first]
        while len(batch) < most and queue and _follows(queue[0], batch[-1]):
            size += len(_packed(queue[0]))
            if size > BLOCK_SIZE:
                break
            batch.append(queue.popleft())
        for future in batch:
            future.state = "RUNNING"
            self.sent[future.serial] = future
        return Block(number, 0, first.serial, len(batch), int(pace * len(batch) / 1000), 0, 0, 0,
                     tasks.minor(future.task for future in batch), b"", b"",
                     pickled((tasks.APPLY, [tuple([future.task for future in batch])])))

    def arrive(self, first: int, outcomes: Any, count: int, spent: int, pulled: bool = False) -> None:
        """As Call.arrive."""
        for serial, entry in enumerate(tasks.outcomes(outcomes), first):
            future = self.sent.pop(serial)
            if spent:
                pace, known = spent / count, self._paces.get(future.name)
                self._paces[future.name] = (pace + known) / 2 if known else pace
            future.finish(entry)

    def wants(self, first: int) -> bool:
        """As Call.wants."""
        return first in self.sent

    def back(self, queue: Deque[Any], first: int, count: int, verdict: int) -> None:
        """As Call.back."""
        for serial in range(first + count - 1, first - 1, -1):
            future = self.sent.pop(serial)
            future.state = "PENDING"
            future.attempts += verdict == ALONE
            queue.appendleft(future)

    def charge(self, item: int) -> int:
        """As Call.charge."""
        self.sent[item].attempts += 1
        return int(self.sent[item].attempts)

    def label(self, item: int) -> str:
        """As Call.label."""
        return str(self.sent[item].name)


def _packed(future: Any) -> bytes:
    """Its task as it travels, and stays from now on."""
    future.task = tasks.bytes_of(future.task)
    return future.task  # type: ignore[no-any-return]


def _follows(entry: Any, future: Any) -> bool:
    """Whether an entry of the queue is the next future after this one, of the same function and never tried."""
    return not isinstance(entry, Call) and entry.serial == future.serial + 1 and entry.name == future.name \
        and not entry.attempts
