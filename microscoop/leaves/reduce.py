"""map_reduce and map_scan: the operator, too, is applied on the workers.  Runs in whoever calls, and in workers.

    items    [run][run ][  run  ][  run  ]...    on workers: mapped and reduced, front to back
    totals     [  run  ]    [  run  ]  ...       on workers: neighbours reduced, as soon as they are there
    ...                 the last FEW             here

Nothing is known of the costs: a level begins with runs of one item (of two totals) and sizes the next ones from the
time that those took.  A run that turns out too long is cut short on the worker and its rest sent anew, so that slow
items do not keep many others waiting.  Operands keep their order, so the operator need not commute.

A scan goes through the same runs, keeping what comes up on the way; then each run but the first still lacks the total
of all before it.  Those totals are a (short) scan of their own, and are put before their runs on the workers again.

Totals stay as they travel, pickled, and are rebuilt anew wherever one is used: so an operator that changes its operands
(`operator.iadd`) does no harm.
"""
from __future__ import annotations

import functools
import pickle
import time
from collections import deque
from itertools import accumulate, chain, islice
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from .. import futures, tasks
from ..errors import WorkerLost
from .dressed import Dressed

RUN_TIME = 0.02            # seconds that a run should last; twice that, and the rest is given back
RUN_BYTES = 1 << 20        # of arguments in a run of several items
AHEAD = 3                  # runs on their way for each worker: what covers the round trip to a distant one
FEW = 3                    # totals that are reduced here

T = TypeVar("T")
Run = Tuple[int, List[tasks.Column]]               # first item, columns


class How(NamedTuple):
    """What is done with each run of a level."""
    function: Optional[bytes]                      # None: they are totals
    operator: bytes
    scan: bool
    least: int                                     # items that a run has, but for the last one
    name: str                                      # of the function


def map_reduce(func: Callable[..., T], op: Callable[[T, T], T], /, *iterables: Iterable[Any],
               timeout: Optional[float] = None) -> T:
    """functools.reduce(op, map(func, *iterables)), computed by all workers.

    `op` is to be associative; it need not commute.  Floats are so but for rounding: their last digits depend on how the
    items were grouped.  `timeout` in seconds.  Raises the first failing item's error, what pickling raises,
    TypeError for no items, TimeoutError.
    """
    level = _first_level(func, op, iterables, False, timeout)
    totals = iter(level)
    while True:
        head = list(islice(totals, FEW + 1))
        if len(head) <= FEW:
            break
        totals = iter(level.above(chain(head, totals)))
    if not head:
        raise TypeError("map_reduce of no items has no result")
    total: T = functools.reduce(op, map(tasks.value, head))
    return total


def map_scan(func: Callable[..., T], op: Callable[[T, T], T], /, *iterables: Iterable[Any],
             timeout: Optional[float] = None) -> List[T]:
    """list(itertools.accumulate(map(func, *iterables), op)), computed by all workers; otherwise as map_reduce."""
    return [tasks.value(outcome) for outcome in _scanned(_first_level(func, op, iterables, True, timeout), op)]


mapReduce = map_reduce     # SCOOP's names
mapScan = map_scan


# What workers run ----------------------------------------------------------------------------------------------------

def fold(how: How, first: int, columns: Sequence[tasks.Column]) -> Tuple[int, float, Any]:
    """Map items and reduce them, or scan them, until they end or time is up: how many, seconds, the outcome(s)."""
    began = now = time.perf_counter()
    outcome, total, kept, done = tasks.outcome, None, [], 0
    try:
        func, op = pickle.loads(how.function) if how.function else None, pickle.loads(how.operator)
        numbered = isinstance(func, Dressed)
        for arguments in tasks.arguments(columns, 0):
            value = (func.at(first + done) if numbered else func)(
                *arguments) if func is not None else arguments[0]
            total = op(total, value) if done else value
            if how.scan:
                kept.append(outcome(total))
            done += 1
            now = time.perf_counter()
            if now - began > 2 * RUN_TIME and done >= how.least:
                break
        result = kept if how.scan else outcome(total)
    except BaseException as error:                 # whatever a task raises is its outcome
        result = _failure(error, how, first + done)
    return done, max(now - began, 1e-9), result


def shift(how: How, first: int, offset: Any, outcomes: Sequence[Any]) -> Any:
    """Put what comes before a run of a scan before each of its outcomes; a list, or a failure."""
    shifted: List[Any] = []
    try:
        op, value = pickle.loads(how.operator), tasks.value
        for outcome in outcomes:
            shifted.append(tasks.outcome(op(value(offset), value(outcome))))
    except BaseException as error:                 # whatever a task raises is its outcome
        return _failure(error, how, first + len(shifted))
    return shifted


def _failure(error: BaseException, how: How, item: int) -> tasks.Failure:
    worker: Any = futures._owner()
    what = "item %d of %s" % (item, how.name) if how.function else "reducing the results of %s" % how.name
    failure: tasks.Failure = worker.failure(error, what)
    return failure


# Where the items of a level come from --------------------------------------------------------------------------------

class _Items:
    """What the caller gave, read from the front."""

    def __init__(self, iterables: Sequence[Iterable[Any]]) -> None:
        self.left = futures._length(iterables)     # None: nobody knows
        self._rows: Iterator[Tuple[Any, ...]] = zip(*iterables)
        self._sliced = self.left is not None and all(isinstance(it, (list, tuple, range)) for it in iterables)
        self._inputs: Sequence[Any] = iterables
        self._at = 0

    def take(self, count: int) -> List[tasks.Column]:
        """The next items, or fewer at the end.  Raises what pickling raises, and an input's error where it is."""
        if self.left is not None:
            count = min(count, self.left)
            self.left -= count
        parts = self._slices(count) if self._sliced else zip(*self._read(count))
        columns = [tasks.column(part, i, self._at) for i, part in enumerate(parts)]
        self._at += count
        return columns

    def _slices(self, count: int) -> Iterator[Sequence[Any]]:
        return (values[self._at:self._at + count] for values in self._inputs)

    def _read(self, count: int) -> List[Tuple[Any, ...]]:
        rows: List[Tuple[Any, ...]] = []
        try:
            rows.extend(islice(self._rows, count))
        except Exception as error:
            if not rows:
                raise
            self._rows = _failing(error)           # those before it come first
        return rows


def _failing(error: Exception) -> Iterator[Tuple[Any, ...]]:
    raise error
    yield ()


class _Totals:
    """The outcomes of the level below, still pickled."""

    def __init__(self, outcomes: Iterable[Any], left: Optional[int] = None) -> None:
        self._outcomes, self.left = iter(outcomes), left

    def take(self, count: int) -> List[tasks.Column]:
        """The next ones, or fewer at the end.  Raises what the level below raises."""
        outcomes = list(islice(self._outcomes, count))
        if self.left is not None:
            self.left -= len(outcomes)
        if any(type(outcome) is tuple for outcome in outcomes):
            return [tuple(o[0] if type(o) is tuple else tasks.pickled(o) for o in outcomes)]
        return [outcomes]


# Levels --------------------------------------------------------------------------------------------------------------

def _first_level(func: Callable[..., Any], op: Callable[..., Any], iterables: Sequence[Iterable[Any]], scan: bool,
                 timeout: Optional[float]) -> _Level:
    if not callable(func) or not callable(op) or not iterables:
        raise TypeError("expected a function, an operator and an iterable or more, not %r" % ((func, op, *iterables),))
    name = tasks.named(func)
    limit = None if timeout is None else time.monotonic() + timeout
    func = futures.dressed(futures._owner(), func)     # what we submit ourselves is not: it is not the user's
    how = How(tasks.pack(func, "the function", func), tasks.pack(op, "the operator", op), scan, 1, name)
    return _Level(_Items(iterables), how, limit)


class _Level:
    """Runs on their way; iterated once, it yields their outcomes in order."""

    def __init__(self, source: Union[_Items, _Totals], how: How, limit: Optional[float]) -> None:
        self._source, self.how, self._limit = source, how, limit
        self._owner = futures._owner()
        self._pending: Dict[futures.Future, Run] = {}
        self._again: Deque[Run] = deque()          # rests that were given back
        self._done: Dict[int, Tuple[int, Any]] = {}     # first item -> how many, outcome(s)
        self._next = 0                             # first item that was not read yet
        self._over = False                         # nothing more is read
        self._error: Optional[BaseException] = None     # the foremost; what comes after it is of no use
        self._pace = 0.0                           # seconds an item takes
        self._width = 1                            # bytes of an item

    def above(self, outcomes: Iterable[Any], count: Optional[int] = None) -> _Level:
        """The level that reduces, or scans, the totals of this one."""
        return _Level(_Totals(outcomes, count), self.how._replace(function=None, least=2), self._limit)

    def __iter__(self) -> Iterator[Any]:
        at = 0
        try:
            while True:
                self._send()
                if at in self._done:
                    count, outcome = self._done.pop(at)
                    at += count
                    yield outcome
                elif self._pending:
                    self._wait()
                elif self._error is not None:
                    raise self._error
                else:
                    return
        finally:
            self._error = None                     # no cycle through its traceback
            for future in self._pending:
                future.cancel()

    def left(self) -> Optional[float]:
        """Seconds until time is up; None: there is no limit."""
        return None if self._limit is None else max(self._limit - time.monotonic(), 0)

    def _send(self) -> None:
        while len(self._pending) < AHEAD * self._owner.workers:
            run = self._again_or_new(self._size())
            if run is None:
                return
            first, columns = run
            if len(columns[0]) < self.how.least:  # a single total: there is nothing to reduce
                total = columns[0][0] if isinstance(columns[0], list) else (columns[0][0],)
                self._done[first] = 1, [total] if self.how.scan else total
                continue
            self._pending[futures.submitted(self._owner, fold, (self.how, first, columns), {})] = run

    def _size(self) -> int:
        """How many items the next run should have."""
        if not self._pace:
            return self.how.least
        most = min(RUN_TIME / self._pace, RUN_BYTES / self._width)
        left = 0 if self._over else self._source.left
        if left is not None:
            left += sum(len(columns[0]) for _, columns in self._again)
            most = min(most, left / (2 * self._owner.workers))
        return max(int(most), self.how.least)

    def _again_or_new(self, size: int) -> Optional[Run]:
        if self._again:
            first, columns = self._again.popleft()
            if len(columns[0]) > size:
                self._again.appendleft((first + size, [column[size:] for column in columns]))
            return first, [column[:size] for column in columns]
        try:
            columns = [] if self._over else self._source.take(size)
        except Exception as error:                 # of the input: raised when all before it is done
            self._fail(self._next, error)
            return None
        count = len(columns[0]) if columns else 0
        self._over = not count
        if self._over:
            return None
        self._width = max(tasks.width(columns, 0, count) // count, 1)
        self._next += count
        return self._next - count, columns

    def _wait(self) -> None:
        """Wait for one run at least, and take in what has come."""
        ended = futures.wait(self._pending, self.left(), futures.FIRST_COMPLETED).done
        if not ended:
            raise futures.TimeoutError("no result within the time given")
        for future in ended:
            if future in self._pending:            # not dropped by a failure just now
                self._arrive(future, *self._pending.pop(future))

    def _arrive(self, future: futures.Future, first: int, columns: List[tasks.Column]) -> None:
        count = len(columns[0])
        try:
            done, seconds, outcome = future.result()
        except WorkerLost as error:
            self._fail(first, _renumbered(error, first, count) if self.how.function else error)
            return
        if tasks.failed(outcome):
            self._fail(first, tasks.rebuilt(outcome))
            return
        pace = seconds / done
        self._pace = (self._pace + pace) / 2 if self._pace else pace
        self._done[first] = done, outcome
        if done < count:
            self._again.append((first + done, [column[done:] for column in columns]))

    def _fail(self, first: int, error: BaseException) -> None:
        """Remember the error, and want nothing that comes after it; failures before it may still come."""
        self._over, self._error = True, error
        for future in [future for future, run in self._pending.items() if run[0] > first]:
            future.cancel()
            del self._pending[future]
        self._again = deque(run for run in self._again if run[0] < first)


def _renumbered(lost: WorkerLost, first: int, count: int) -> WorkerLost:
    """The same loss, in terms of the caller's items."""
    item = first if count == 1 else "%d to %d" % (first, first + count - 1)
    error = WorkerLost(lost.host, lost.cause, item, lost.attempts)
    error.__cause__ = lost.__cause__
    return error


# Scans ---------------------------------------------------------------------------------------------------------------

def _scanned(level: _Level, op: Callable[[Any, Any], Any]) -> List[Any]:
    """The outcomes of a scan."""
    runs = list(level)
    totals = [run[-1] for run in runs[:-1]]
    if len(totals) <= FEW:
        values = accumulate(map(tasks.value, totals), op)
        offsets = [tasks.outcome(value) for value in values]
    else:
        offsets = _scanned(level.above(totals, len(totals)), op)
    return list(chain(*runs[:1], *_shifted(level, offsets, runs)))


def _shifted(level: _Level, offsets: Sequence[Any], runs: Sequence[Any]) -> Iterator[Any]:
    firsts = list(accumulate(map(len, runs)))[:-1]
    function = functools.partial(shift, level.how)
    try:
        for outcomes in futures.mapped(
                futures._owner(), futures.ordered, function, (firsts, offsets, runs[1:]), level.left()):
            if tasks.failed(outcomes):
                raise tasks.rebuilt(outcomes)
            yield outcomes
    except WorkerLost as error:
        item = int(error.item)
        raise _renumbered(error, firsts[item], len(runs[item + 1])) from error.__cause__
