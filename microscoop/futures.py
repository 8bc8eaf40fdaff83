"""The API that scripts use: map, submit, Future, wait, as_completed.  Runs in the origin and in tasks.

    from microscoop import futures
    results = list(futures.map(func, range(12)))

The path of one item, from the call to its result (drawn with file and name of each hop):

    futures.map -> Owner.push -> Owner.feed -> Call.cut                         here, the thread that calls
      -> Processes.hear -> Broker._block -> Broker._hand_over                   launcher
        -> Worker._block                                                        a worker, its thread that waits for work
        -> Worker._loop -> the function -> Worker._flush                        and runs it
      -> Processes.hear -> Broker._result                                       launcher
    -> Owner.settle -> futures.ordered -> Results -> the caller                 here, the thread that waits

Outside the launcher the same functions work one item after the other, with a warning.
"""
from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from itertools import chain, islice
from operator import index, length_hint
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from . import tasks
from .calls import Call, ring
from .owner import Owner
from .record import Record

if TYPE_CHECKING:
    from concurrent.futures import CancelledError, InvalidStateError, TimeoutError

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"
WINDOW_ITEMS = 10_000
WINDOW_BYTES = 64 << 20
PULL_TIME = 0.002          # seconds that inputs may be read on before we look for results
FIRST_PULL = 0.01          # the same at the call, where nobody waits for a result yet
BATCH = 2048               # items of an input that go out together, at most
BATCH_TIME = 0.0005        # seconds after which those that were read so far go out

__all__ = ["ALL_COMPLETED", "CancelledError", "FIRST_COMPLETED", "FIRST_EXCEPTION", "Future", "InvalidStateError",
           "TimeoutError", "as_completed", "map", "map_as_completed", "shutdown", "submit", "wait"]

NOTHING: Dict[str, Any] = {}   # the keyword arguments of many a task

Runs = Generator[Sequence[Any], None, None]        # a map's outcomes, as many together as have come

_current: List[Owner] = []     # this process's owner, once it has one; set by `enter`


def __getattr__(name: str) -> Any:
    """What is imported only when it is asked for: the PEP's exceptions, the standard library's own, and a leaf."""
    if name in ("CancelledError", "TimeoutError", "InvalidStateError", "BrokenExecutor"):
        import concurrent.futures
        return getattr(concurrent.futures, name)
    if name in ("map_reduce", "mapReduce", "map_scan", "mapScan"):
        from .leaves import reduce
        return getattr(reduce, name)
    raise AttributeError("module %r has no attribute %r" % (__name__, name))


def enter(owner: Owner) -> None:
    """Make this process's calls go through `owner`."""
    _current[:] = [owner]


def leave() -> None:
    """A fork of the user's: its calls are not this process's owner's affair."""
    _current.clear()


def current() -> Optional[Owner]:
    """This process's owner, if it has one."""
    return _current[0] if _current else None


def _owner() -> Owner:
    if not _current:
        import warnings

        from .serial import Serial
        frame, level = sys._getframe(1), 2         # of the script's line, whichever of our functions it called
        while frame is not None and str(frame.f_globals.get("__name__")).startswith(__package__ + "."):
            frame, level = frame.f_back, level + 1  # type: ignore[assignment]
        warnings.warn("started without `python -m microscoop`: tasks run here, one after the other", RuntimeWarning,
                      stacklevel=level)
        serial = Serial()
        enter(serial)
        atexit.register(serial.end)
        os.register_at_fork(after_in_child=leave)
    return _current[0]


def _error(name: str, text: str = "") -> BaseException:
    return __getattr__(name)(*([text] if text else []))  # type: ignore[no-any-return]


class Future:
    """What `submit` gives: the result of one task, once it is there.  Methods as in PEP 3148."""

    __slots__ = ("_owner", "serial", "name", "task", "state", "attempts", "parent", "record", "beneath", "waiters",
                 "watches", "entry", "_value", "_callbacks", "__weakref__")

    def __init__(self, owner: Optional[Owner] = None, name: str = "?", task: tasks.Task = b"",
                 parent: object = None) -> None:
        self._owner, self.name, self.task, self.parent = owner or _owner(), name, task, parent
        self.serial = self._owner.serial()
        self.state = "PENDING"
        self.attempts = 0
        self.record: Any = None        # as of a Call
        self.beneath: object = None    # the task on top of which it runs, in a worker
        self.waiters: List[Any] = []
        self.watches: List[_Watch] = []
        self.entry: Any = None         # the outcome as it came, as long as nobody has looked at it
        self._value: Any = None
        self._callbacks: Optional[List[Callable[[Future], Any]]] = None

    def cancel(self) -> bool:
        """Cancel the task if it has not left this process; True if it is cancelled."""
        with self._owner.lock:
            if self.state == "PENDING":
                if self.left:
                    self._owner.remove(self)
                self._end("CANCELLED")
            return self.state == "CANCELLED"

    @property
    def left(self) -> int:
        """1 while it is in its owner's queue: one that was made by hand never is."""
        return 1 if self.state == "PENDING" and self.task else 0

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.state == "CANCELLED"

    def running(self) -> bool:
        """Whether it has left for a worker (or runs here) and is not done."""
        return self.state == "RUNNING"

    def done(self) -> bool:
        """Whether it was cancelled or has ended."""
        return self.state in ("FINISHED", "CANCELLED")

    def result(self, timeout: Optional[float] = None) -> Any:
        """The result; waits up to `timeout` seconds.  Raises the task's error, TimeoutError, CancelledError."""
        if self.state != "FINISHED":
            self._wait(timeout)
        if self._value is not None:
            value, error = self._value
        else:
            value, error = self._open()
        if error is not None:
            try:
                raise error
            finally:
                del self, error                    # no cycle through the traceback
        return value

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """The task's error, or None; waits up to `timeout` seconds.  Raises TimeoutError, CancelledError."""
        if self.state != "FINISHED":
            self._wait(timeout)
        error: Optional[BaseException] = (self._value or self._open())[1]
        return error

    def add_done_callback(self, function: Callable[[Future], Any]) -> None:
        """Call `function(self)` when it is done, in this process's callback thread."""
        with self._owner.lock:
            if self.done():
                self._owner.call_back(function, self)
            else:
                self._callbacks = (self._callbacks or []) + [function]

    def set_running_or_notify_cancel(self) -> bool:
        """For futures made by hand: whether what they stand for is to be run."""
        with self._owner.lock:
            if self.state == "PENDING":
                self.state = "RUNNING"
            return self.state == "RUNNING"

    def set_result(self, result: Any) -> None:
        """For futures made by hand.  Raises InvalidStateError."""
        self._set(result, None)

    def set_exception(self, exception: Optional[BaseException]) -> None:
        """For futures made by hand.  Raises InvalidStateError."""
        self._set(None, exception)

    def _set(self, result: Any, error: Optional[BaseException]) -> None:
        with self._owner.lock:
            if self.done():
                raise _error("InvalidStateError", "%r is done already" % self)
            self._value = result, error
            self._end("FINISHED")

    def __reduce__(self) -> Any:
        raise TypeError("a Future cannot be pickled: pass its result, or submit from here")

    def __repr__(self) -> str:
        return "<Future of %s: %s>" % (self.name, self.state.lower())

    def _wait(self, timeout: Optional[float]) -> None:
        if not self._owner.wait(self.done, (self,), timeout):
            raise _error("TimeoutError", "no result within %s seconds" % timeout)
        if self.state == "CANCELLED":
            raise _error("CancelledError")

    def _open(self) -> Tuple[Any, Optional[BaseException]]:
        """Rebuild what the task returned or raised; once, in the thread that asks."""
        entry, known = self.entry, self._value     # in this order: another thread may be doing the same
        if known is not None:
            return known  # type: ignore[no-any-return]
        try:
            self._value = tasks.value(entry), None
        except BaseException as error:             # an error of the task, or of rebuilding its result: the caller's
            self._value = None, error.with_traceback(None)
        self.entry = None
        self._owner.unread.pop(self.serial, None)
        return self._value  # type: ignore[no-any-return]

    def failed(self) -> bool:
        """Whether it is done with an error."""
        entry, known = self.entry, self._value     # as in _open
        return self.state == "FINISHED" and (known[1] is not None if known else tasks.failed(entry))

    def finish(self, entry: Any) -> None:
        """The outcome is in; called by the owner, under its lock."""
        if self.record is not None:
            self.record.keep(0, [(self.task,)], (entry,))
        self.entry = entry
        if tasks.failed(entry):
            self._owner.keep_unread(self)
        self._end("FINISHED")

    def _end(self, state: str) -> None:
        self.state, self.task, self.parent = state, b"", None
        if self.waiters:
            ring(self.waiters)
        for watch in self.watches:
            watch.ended.append(self)
            ring(watch.waiters)
        self.watches = []
        for function in self._callbacks or ():
            self._owner.call_back(function, self)
        self._callbacks = None


# Submitting ----------------------------------------------------------------------------------------------------------

def submit(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
    """Run func(*args, **kwargs) somewhere.  Raises what pickling raises, naming the culprit, and TypeError."""
    owner = _owner()
    if not callable(func):
        raise TypeError("submit takes a function first, not %r" % (func,))
    return submitted(owner, dressed(owner, func), args, kwargs, owner.recorder)


def submitted(owner: Owner, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any],
              recorder: Optional[Callable[[Any], Any]] = None) -> Future:
    """A task of this owner's, on its way."""
    has_name = type(func) is FunctionType and recorder is None
    known = owner.by_name.get(func.__qualname__) if has_name else None
    known = known if known is not None and known.stands_for(func) else None
    if known is not None and tasks.are_atoms(args, kwargs):
        future = Future(owner, func.__qualname__, (func, args, kwargs or NOTHING, known.data), owner.task())
    else:
        name, data = task(func, args, kwargs)
        future = Future(owner, name, data, owner.task())
        if has_name and known is None and not tasks.minor((data,)):    # else the function may have gone by value
            owner.by_name[name] = tasks.Named(func)
    if recorder is not None:
        future.record = recorder(func)
    owner.push(future)
    return future


def task(func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Tuple[str, bytes]:
    """The name and the bytes of a task.  Raises as `submit`."""
    try:
        return tasks.named(func), tasks.pickled((func, args, kwargs), func)
    except Exception as error:
        raise tasks.explained(error, (func, args, kwargs), "the task") from None


def map(func: Callable[..., Any], *iterables: Iterable[Any], timeout: Optional[float] = None,
        chunksize: Optional[int] = None, buffersize: Optional[int] = None) -> Iterator[Any]:
    """func of each item, in order, as builtins.map; computed by all workers, begun at once.  Each argument is a copy of
    its own: what two of an item's arguments share they share there only if they come in one, say as a tuple.

    `timeout` in seconds from this call; `chunksize` forces that many items a block (none is needed); `buffersize` is
    how many items of an input without a length may be on their way.  Raises what pickling raises, naming the culprit.
    """
    owner = _owner()
    return mapped(owner, ordered, dressed(owner, func), iterables, timeout, chunksize, buffersize, owner.recorder)


def map_as_completed(func: Callable[..., Any], *iterables: Iterable[Any], timeout: Optional[float] = None,
                     chunksize: Optional[int] = None, buffersize: Optional[int] = None) -> Iterator[Any]:
    """As `map`, but each result as soon as it is there."""
    owner = _owner()
    return mapped(owner, _unordered, dressed(owner, func), iterables, timeout, chunksize, buffersize, owner.recorder)


def dressed(owner: Owner, func: Any) -> Any:
    """What is submitted instead of this function."""
    for dress in owner.dressers if callable(func) else ():
        func = dress(func)
    return func


class _Source:
    """A map, and what it still reads from."""

    def __init__(self, owner: Owner, call: Call, inputs: Sequence[Iterable[Any]], window: int,
                 limit: Optional[float]) -> None:
        self.owner, self.call, self.limit = owner, call, limit
        self._single = len(inputs) == 1
        self.rows: Optional[Iterator[Any]] = iter(inputs[0]) if self._single else zip(*inputs) if inputs else None
        self._window = window
        self._width = 1            # bytes of an item, as last seen

    def room(self) -> int:
        """How many more items may be on their way or waiting to be consumed."""
        return max(min(self._window, WINDOW_BYTES // self._width), 1) - self.call.held()

    def read_on(self, seconds: float = PULL_TIME) -> None:
        """Take more of inputs without a length: what can be had in this time, at least one item; not past the window
        nor on when the consumer can go on.  What a batch has goes out as soon as it took long: an input that turns
        slow delays no more than the item it is at."""
        clock = time.monotonic         # looked at after each item: it must cost little
        began = clock()
        while self.rows is not None and self.room() > 0:
            rows: List[Any] = []
            count, enough = min(self.call.count + 1, BATCH, self.room()), clock() + BATCH_TIME
            try:
                for row in islice(self.rows, count):
                    rows.append(row)
                    if clock() > enough:
                        break
                else:
                    self.rows = self.rows if len(rows) == count else None
            except Exception as error:             # of the input: raised where it is reached
                self.call.error, self.rows = error, None
            now = clock()
            self._add(rows)
            late = now - began > seconds
            if (late or self.call.ready()) if self.call.begun else (late and now > enough):
                return

    def _add(self, rows: Sequence[Any]) -> None:
        """Queue these items; at one that cannot be pickled the input ends, and the error is raised there."""
        self.call.whole = self.rows is None
        inputs = [rows] if self._single else zip(*rows)
        try:
            columns = [tasks.column(values, i, self.call.count) for i, values in enumerate(inputs)]
        except Exception as error:
            if len(rows) == 1:
                self.call.error, self.rows = error, None
                return
            for row in rows:                       # one by one: those before the bad one count
                if self.call.error is None:
                    self._add([row])
            return
        if rows:
            self._width = max(tasks.width(columns, 0, len(rows)) // len(rows), 1)
            self.owner.push(self.call, columns)


def mapped(owner: Owner, take: Callable[[_Source], Runs], func: Callable[..., Any],
           iterables: Sequence[Iterable[Any]], timeout: Optional[float] = None, chunksize: Optional[int] = None,
           buffersize: Optional[int] = None, recorder: Optional[Callable[[Any], Any]] = None) -> Iterator[Any]:
    """A map of this owner's, begun; `take` gives its outcomes, run by run."""
    chunksize, buffersize = _whole("chunksize", chunksize), _whole("buffersize", buffersize)
    if not callable(func) or not iterables:
        raise TypeError("map takes a function and at least one iterable, not %r" % ((func, *iterables),))
    limit = None if timeout is None else time.monotonic() + timeout
    call = Call(owner.serial(), tasks.pack(func, "the function", func), chunksize, owner.task(),
                recorder(func) if recorder is not None else None)
    try:
        source = _begun(owner, call, iterables, buffersize or WINDOW_ITEMS, limit)
        runs = take(source)
        taking = _Taking(runs)
        results: Any = Results.from_iterable(_Values(taking))
        results.close = taking.close
        call.consumer = weakref.ref(runs, lambda _: owner.abandon(call, source.rows is not None))
    except BaseException:                          # Ctrl-C, as a rule: nobody has been given this map
        owner.drop(call)
        raise
    return results  # type: ignore[no-any-return]


def _begun(owner: Owner, call: Call, iterables: Sequence[Iterable[Any]], window: int,
           limit: Optional[float]) -> _Source:
    """A call whose first items are queued; all of them, where the inputs have a length."""
    count = _length(iterables)
    if count is None:
        source = _Source(owner, call, iterables, window, limit)
        source.read_on(FIRST_PULL)
        return source
    columns = [tasks.column(_head(it, count), i) for i, it in enumerate(iterables)]
    count = min(len(column) for column in columns)     # an input may give less than it says
    if count:
        owner.push(call, [column if len(column) == count else column[:count] for column in columns])
    return _Source(owner, call, (), WINDOW_ITEMS, limit)


def _whole(name: str, number: Any) -> Optional[int]:
    """This number, if there is one, as a plain int: numpy has its own."""
    if number is None:
        return None
    wrong: Any = ValueError
    try:
        whole = 0 if isinstance(number, bool) else int(index(number))  # of a subclass index gives it back as it is
    except TypeError:
        whole, wrong = 0, TypeError
    if whole < 1:
        raise wrong("%s must be a whole number of at least 1, not %r" % (name, number))
    return whole


def _length(iterables: Sequence[Iterable[Any]]) -> Optional[int]:
    """Of the shortest; None if one has no length."""
    try:
        return min(len(it) for it in iterables)  # type: ignore[arg-type]
    except (TypeError, OverflowError):             # an iterator, or a range beyond what len() can say
        return None


def _head(items: Iterable[Any], count: int) -> Sequence[Any]:
    """The first items of an input with a length."""
    if isinstance(items, (list, tuple, range)):
        return items if len(items) == count else items[:count]
    return list(islice(items, count))


# Results -------------------------------------------------------------------------------------------------------------

class Results(chain):  # type: ignore[type-arg]  # Python 3.8 knows no chain[Any]
    """What `map` gives: goes through runs of values, so that atoms cost no step of Python each."""

    close: Callable[[], None]      # give nothing more; if anything was taken already, drop what is not begun

    def __reduce__(self) -> Any:
        raise TypeError("what a map gives can be neither copied nor pickled: make a list of it")


class _Taking:
    """How far a map's outcomes were taken, and the end of that."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.atoms: List[Any] = []                 # of the last run, if that is a list of them
        self.rebuilding = False                    # the last run is none, and has not come to its end
        self.closed = False

    def close(self) -> None:
        """As `Results.close`."""
        self.closed = True
        self.atoms.clear()
        with suppress(ValueError):                 # a thread waits in there, and closes it after that
            self.runs.close()

    def values(self, outcomes: Sequence[Any]) -> Iterator[Any]:
        """Of the next run."""
        if type(outcomes) is not list:
            self.rebuilding = True
            return self._rebuilt(outcomes)
        self.atoms = outcomes[:]                   # for `close` to empty
        return iter(self.atoms)

    def _rebuilt(self, outcomes: Iterable[Any]) -> Iterator[Any]:
        try:
            for outcome in outcomes:               # a generator: StopIteration of a task must not end it in silence
                if self.closed:
                    return
                yield tasks.value(outcome)         # under no name: who takes it may be the only one to have it
            self.rebuilding = False
        except BaseException:                      # of a task, or this is dropped
            self.close()
            raise


class _Values:
    """The values of each run of outcomes.

    Threads may take from one map in turn, but for the next run only one at a time waits.  `chain` forgets what it was
    going through where another thread is given something meanwhile, so a run is given again while it has values."""

    def __init__(self, taking: _Taking) -> None:   # which does not know of this: a cycle would outlive the map
        self._taking, self._lock = taking, threading.Lock()
        self._run: Iterator[Any] = iter(())        # that was given last

    def __iter__(self) -> _Values:
        return self

    def __next__(self) -> Iterator[Any]:
        if not self._lock.acquire(False):
            return _refused()                      # not raised here: `chain` would forget this, for all threads
        taking = self._taking
        try:
            if length_hint(self._run) or getattr(self._run, "gi_frame", None):
                return self._run
            if not taking.rebuilding:              # else a signal's handler has ended that before its first step
                self._run = taking.values(next(taking.runs))
                if not taking.closed:
                    return self._run
            raise StopIteration
        except BaseException:                      # the end, or an error of the input or of waiting: nothing follows
            taking.close()
            raise
        finally:
            self._lock.release()


def _refused() -> Iterator[Any]:
    raise ValueError("somebody waits already for the next result of this map")
    yield


def ordered(source: _Source) -> Runs:
    """Outcomes in order; what is not begun when this is closed is dropped."""
    call, position = source.call, 0
    call.begun = True
    try:
        call.wanted = position
        while _ready(source):
            entries = call.take(position)
            call.wanted = position = position + len(entries)
            yield entries
    finally:
        source.owner.drop(call)


def _unordered(source: _Source) -> Runs:
    """Outcomes as they come."""
    call = source.call
    call.begun = True
    try:
        while _ready(source):
            with source.owner.lock:                # the reader thread adds to them
                first = next(iter(call.outcomes))
            yield call.take(first)
    finally:
        source.owner.drop(call)


def _ready(source: _Source) -> bool:
    """Wait until a result can be taken, reading the inputs on meanwhile; False when there will be none."""
    owner, call = source.owner, source.call
    while not call.ready():
        if source.rows is not None and source.room() > 0:
            source.read_on()
        elif call.held():
            timeout = None if source.limit is None else max(source.limit - time.monotonic(), 0)
            if not owner.wait(call.ready, (call,), timeout):
                raise _error("TimeoutError", "no result within the time given to map")
        elif call.error is not None:
            raise call.error
        else:
            return False
    return True


# Waiting -------------------------------------------------------------------------------------------------------------

class DoneAndNotDone(Record):
    """What `wait` gives."""
    done: Set[Future]
    not_done: Set[Future]


class _Watch:
    """Collects futures as they end; something that `Owner.wait` can watch."""

    left = 0                   # nothing of it could be run here instead of waiting

    def __init__(self, owner: Owner, futures: Iterable[Future], timeout: Optional[float]) -> None:
        self._owner, self.futures = owner, list(dict.fromkeys(futures))
        for future in self.futures:
            if not isinstance(future, Future):
                raise TypeError("expected futures that `submit` of microscoop has given, not %r" % (future,))
        self._limit = None if timeout is None else time.monotonic() + timeout
        self.waiters: List[Any] = []
        self.ended: Deque[Future] = deque()
        self.open = len(self.futures)
        with owner.lock:
            for future in self.futures:
                if future.done():
                    self.ended.append(future)
                else:
                    future.watches.append(self)

    def next(self) -> List[Future]:
        """Those that have ended since the last call, at least one; none if time is up."""
        left = None if self._limit is None else max(self._limit - time.monotonic(), 0)
        if not self._owner.wait(lambda: bool(self.ended), (self,), left):
            return []
        ended = [self.ended.popleft() for _ in range(len(self.ended))]
        self.open -= len(ended)
        return ended

    def close(self) -> None:
        """Collect no more."""
        if self.open:
            self._owner.later(self._close)

    def _close(self) -> None:
        for future in self.futures:
            if self in future.watches:
                future.watches.remove(self)


def wait(fs: Iterable[Future], timeout: Optional[float] = None, return_when: str = ALL_COMPLETED) -> DoneAndNotDone:
    """Wait for futures, up to `timeout` seconds.  Raises ValueError for an unknown `return_when`."""
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError("return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not %r" % return_when)
    futures = set(fs)
    watch = _Watch(_owner(), futures, timeout)
    try:
        while watch.open:
            ended = watch.next()
            if not ended or return_when == FIRST_COMPLETED or (
                    return_when == FIRST_EXCEPTION and any(future.failed() for future in ended)):
                break
    finally:
        watch.close()
    done = {future for future in futures if future.done()}
    return DoneAndNotDone(done, futures - done)


def as_completed(fs: Iterable[Future], timeout: Optional[float] = None) -> Iterator[Future]:
    """The futures in the order in which they end.  Raises TimeoutError `timeout` seconds from this call."""
    return _as_completed(_Watch(_owner(), fs, timeout), timeout)


def _as_completed(watch: _Watch, timeout: Optional[float]) -> Iterator[Future]:
    total = watch.open
    try:
        while watch.open:
            ended = watch.next()
            if not ended:
                raise _error("TimeoutError", "%d of %d futures not done after %s s" % (watch.open, total, timeout))
            yield from ended
    finally:
        watch.close()


def shutdown(wait: bool = True) -> None:
    """Wait until all that was submitted is done (`wait`); the workers end with the script."""
    if _current and wait:
        _current[0].finish()
