"""One `map`, as its owner keeps it: items until their outcomes are in, outcomes until they are taken.  Runs in owners.

Everything here is done under the owner's lock, but for what the consumer's thread does with its own results.
"""
from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from . import tasks
from .protocol import FREE, Block
from .record import Record

LEAST_TIME = 1_000_000     # nanoseconds that a block should last, lest it costs more than it does,
MOST_TIME = 64_000_000     # and lest others wait for it
QUICK = 100_000            # nanoseconds: an item's first run in a process takes some 10,000 longer than those after it
AT_FIRST = 2               # blocks for each worker that are cut while only such runs are known of quick items
BLOCK_SIZE = 1 << 20       # bytes that a block of several items may have, and its outcomes
APART = 1 << 14            # bytes from which a function does not travel in each block, but once to each host


class Chunk(Record):
    """Items of a call that were taken from its inputs at one time."""
    first: int
    stop: int
    columns: Sequence[tasks.Column]


class Call:
    """One `map`: its items until their outcomes are in, and the outcomes until somebody takes them."""

    def __init__(self, number: int, function: bytes, chunksize: Optional[int] = None, parent: object = None,
                 record: Any = None) -> None:
        self.number, self.function, self.chunksize, self.parent = number, function, chunksize, parent
        self.record = record                       # of a leaf: may know outcomes already, and is told of the others
        self.minor = tasks.minor((function,))      # of the Python that alone can run it; 0: any
        self.count = 0                             # items known so far
        self.whole = True                          # no more items will come
        self.error: Optional[BaseException] = None  # of the input, after those items
        self.begun = False                         # somebody began to consume
        self.consumer: Any = None                  # weakly, who will
        self.waiters: List[Any] = []
        self.outcomes: Dict[int, Any] = {}         # first item -> outcomes that nobody has taken yet
        self.wanted: Optional[int] = None          # the item that the consumer waits for; None: any
        self.open = 0                              # items whose outcomes are not in
        self.left = 0                              # items in the queue
        self._chunks: List[Chunk] = []
        self._firsts: List[int] = []               # of those chunks
        self._missing: Dict[int, int] = {}         # chunk's first -> items of it whose outcomes are not in
        self._fresh: Deque[Tuple[int, int, bool]] = deque()     # never cut: first, stop, one by one
        self._again: Deque[Tuple[int, int, bool]] = deque()     # handed back: the same
        self._spent = self._done = 0.0             # nanoseconds and items, the more recent the weightier
        self._width = 1.0                          # bytes of an outcome, as last seen
        self.dark: Optional[float] = None          # until then its owner waits to learn how long an item takes
        self._taken = 0
        self._abandoned = False
        self.spread: Optional[bytes] = None        # the place of its function, once that was offered to others
        self.unread = False                        # it will never be, though its input had not come to its end
        self._attempts: Dict[int, int] = {}
        self._pulled: Set[int] = set()             # first items of results that were too large for a frame

    def held(self) -> int:
        """Items whose outcomes nobody has taken yet."""
        return self.count - self._taken

    def done(self) -> bool:
        """Whether all outcomes of the items that are known are in."""
        return not self.open

    def ready(self) -> bool:
        """Whether the consumer can take something."""
        return bool(self.outcomes) and (self.wanted is None or self.wanted in self.outcomes)

    def take(self, position: int) -> Sequence[Any]:
        """The outcomes that begin at this item."""
        entries = tasks.outcomes(self.outcomes.pop(position))
        self._taken += len(entries)
        return entries

    def abandon(self, unfinished: bool) -> None:
        """Keep no results from now on, but for errors."""
        self._abandoned = True
        self.outcomes = {first: data for first, data in list(self.outcomes.items())
                         if any(map(tasks.failed, tasks.outcomes(data)))}
        self.unread = unfinished and not self.begun

    def has_ended(self) -> bool:
        """Whether all its outcomes are in, and nobody can take them."""
        return self._abandoned and not self.open

    def is_spent(self) -> bool:
        """Whether nobody can want anything of it any more, the user included."""
        return self.has_ended() and not (self.outcomes or self.unread)

    def extend(self, columns: Sequence[tasks.Column], outcomes: Sequence[Tuple[int, Any]] = ()) -> None:
        """More items, which follow those known; the outcomes, (first item, outcomes), of those that are not to run."""
        count, first = len(columns[0]), self.count
        for column in columns if not self.minor else ():
            self.minor = self.minor or tasks.minor(column if isinstance(column, tuple) else ())
        self._chunks.append(Chunk(self.count, self.count + count, columns))
        self._firsts.append(self.count)
        self._missing[self.count] = count
        self.count += count
        self.open += count
        for start, given in outcomes:
            self._queue(first, start)
            first = start + len(given)
        self._queue(first, self.count)
        for start, given in outcomes:
            self._take_in(start, given, len(given))

    def _queue(self, first: int, stop: int) -> None:
        if first < stop:
            self._fresh.append((first, stop, False))
            self.left += stop - first

    def cut(self, number: int, workers: int, pickled: Callable[[Any], Any] = tasks.dumps) -> Block:
        """The next block of what is left (there is some): a quarter of a worker's share of that, within limits.

        pickled: makes its body."""
        ranges = self._again or self._fresh
        first, stop, alone = ranges.popleft()
        chunk = self._chunks[bisect_right(self._firsts, first) - 1]
        count = 1 if alone else self._size(min(stop, chunk.stop) - first, workers)
        columns, count = self._slice(chunk, first - chunk.first, count)
        if first + count < stop:
            ranges.appendleft((first + count, stop, alone))
        self.left -= count
        apart = len(self.function) > APART
        return Block(number, self.number, first, count, int(self.pace() * count / 1000), 0, 0,
                     len(self.function) if apart else 0, self.minor, b"", b"",
                     pickled((b"" if apart else self.function, columns)))

    def awaits_word(self, workers: int) -> bool:
        """Whether enough is out to learn how long an item takes, which is not known yet, or by first runs alone."""
        pace, out = self.pace(), self.open - self.left
        if not pace:
            return out >= workers * (self.chunksize or 1)
        unsure = pace < QUICK and self._done < 2 and not self.chunksize
        return unsure and out >= AT_FIRST * workers * self._size(self.left, workers)

    def pace(self) -> float:
        """Nanoseconds that an item takes; 0: not known yet."""
        return self._spent / self._done if self._done else 0.0

    def _size(self, left: int, workers: int) -> int:
        if self.chunksize:
            return min(left, self.chunksize)
        pace = self.pace()
        if not pace:
            return 1
        lasts = min(max(self.left * pace / (4 * workers), LEAST_TIME), MOST_TIME)
        return max(1, min(left, int(lasts / pace), int(BLOCK_SIZE / self._width)))

    def _slice(self, chunk: Chunk, start: int, count: int) -> Tuple[List[tasks.Column], int]:
        """So many items of a chunk, or fewer if they are large."""
        while count > 1 and tasks.width(chunk.columns, start, start + count) > BLOCK_SIZE:
            count //= 2
        return [column[start:start + count] for column in chunk.columns], count

    def arrive(self, first: int, outcomes: Any, count: int, spent: int, pulled: bool = False) -> None:
        """Outcomes of items that were cut; bytes or already a sequence.

        spent: nanoseconds; 0: they did not run.  pulled: they were too large for a frame."""
        if pulled:
            self._pulled.add(first)
        if spent:
            self._spent, self._done = self._spent / 2 + spent, self._done / 2 + count
            self.dark = None
        if isinstance(outcomes, (bytes, memoryview)):
            self._width = max(len(outcomes) / count, 1)
        if self.record is not None:
            chunk = self._chunks[bisect_right(self._firsts, first) - 1]
            start = first - chunk.first
            columns = [column[start:start + count] for column in chunk.columns]
            self.record.keep(first, columns, tasks.outcomes(outcomes))
        self._take_in(first, outcomes, count)

    def _take_in(self, first: int, outcomes: Any, count: int) -> None:
        self.open -= count
        at = bisect_right(self._firsts, first) - 1
        chunk = self._firsts[at]
        self._missing[chunk] -= count
        if not self._missing[chunk]:
            del self._missing[chunk], self._chunks[at], self._firsts[at]
        if not self._abandoned or any(map(tasks.failed, tasks.outcomes(outcomes))):
            self.outcomes[first] = outcomes
        if not self.open or self.wanted is None or self.wanted in self.outcomes:
            ring(self.waiters)

    def wants(self, first: int) -> bool:
        """Whether items that are said to be lost are missed: their result may have been pulled whole before its holder
        died, so that our Taken came too late."""
        return first not in self._pulled

    def back(self, queue: Deque[Any], first: int, count: int, verdict: int) -> None:
        """Items that were cut are in the queue again, before all others."""
        if self.left:
            queue.remove(self)
        queue.appendleft(self)
        self._again.append((first, first + count, verdict != FREE))
        self.left += count

    def charge(self, item: int) -> int:
        """An item was begun in vain; how often that was so by now."""
        self._attempts[item] = self._attempts.get(item, 0) + 1
        return self._attempts[item]

    def label(self, item: int) -> int:
        """What an item is called in errors."""
        return item


def ring(waiters: Iterable[Any]) -> None:
    """Wake those who sleep in `Owner.wait`; under the owner's lock."""
    for bell in tuple(waiters):                    # who is awake takes his out at any moment
        bell.ring()
