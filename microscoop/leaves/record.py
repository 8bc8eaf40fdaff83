"""--report, --trace: what each worker did, and when.  Runs in workers, which time their tasks; `watch` in the launcher.

A task that lasts longer than `_short` is a span of its own; neighbours that are shorter become one span of so many
items, so that tasks of a microsecond cost two looks at the clock and no record.  Spans go to the launcher in Remarks
with the results of their block; timeline.py brings the clocks of all hosts together.
"""
from __future__ import annotations

import heapq
import json
import os
import threading
from functools import partial
from struct import Struct
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

from .. import tasks
from ..errors import UsageError
from ..hooks import Stage, Watcher
from ..protocol import Remark
from ..runs import Run

if TYPE_CHECKING:
    from ..child import Settings
    from ..workers import Worker

Task = Tuple[Any, Any, Any]        # function, args, kwargs

TAG = b"record\0"
HEAD = Struct("!QI")       # the sender's clock when it was sent, spans that follow
SPAN = Struct("!QQQIHB")   # began, ended (nanoseconds of that clock), first item, items, name, flags
FAILED, HOME = 1, 2        # flags: it raised; it was submitted on the same worker, so no Result of it is seen
SHORT = 20_000             # nanoseconds
MANY = 20_000              # spans, after which this worker takes twice as long tasks for short
OFTEN = 5_000_000          # nanoseconds between Remarks inside a block
SLOWEST = 20               # tasks whose arguments are shown
SHARE = 100                # arguments are written out for at most 1/SHARE of the time
ROOM = 8000                # spans in one Remark


def watch(value: Dict[str, str], stage: Stage) -> Watcher:
    """value: report and trace, each with the path of the file to write.  Raises UsageError if one cannot be."""
    from .timeline import Recorder
    for option, path in value.items():
        try:
            open(path, "ab").close()
        except OSError as error:
            raise UsageError("--%s: cannot write %r: %s" % (option, path, error.strerror)) from None
    return Recorder(value, stage.job, stage.report)


def enter_worker(value: object, worker: Worker, settings: Settings) -> None:
    """Time what this worker runs."""
    clerk = Clerk(worker)
    worker.wrappers.append(clerk.wrap)
    worker.before_results.append(clerk.end_of_block)


def unpacked(body: bytes) -> Tuple[int, List[Tuple[int, ...]], Dict[str, Any]]:
    """The sender's clock, spans and news (names, slow tasks) of a Remark.  Raises ValueError or struct.error."""
    sent, count = HEAD.unpack_from(body, len(TAG))
    at = len(TAG) + HEAD.size
    end = at + count * SPAN.size
    return sent, list(SPAN.iter_unpack(body[at:end])), json.loads(body[end:]) if len(body) > end else {}


class Span:
    """A task, or several short ones in a row."""
    __slots__ = ("began", "ended", "item", "items", "name", "flags", "last")

    def __init__(self, began: int, ended: int, item: int, items: int, name: int, flags: int, last: int = 0) -> None:
        self.began, self.ended, self.item, self.items = began, ended, item, items
        self.name, self.flags = name, flags
        self.last = last           # of short futures: the number of the one that was begun last; 0: it stays alone


class Page:
    """A block at work, as far as it is noted."""
    __slots__ = ("run", "function", "arguments", "since", "told")

    def __init__(self, run: Run, function: Any) -> None:
        self.run, self.function = run, function
        self.arguments: Tuple[Any, ...] = ()       # of the item at work
        self.since = clock()
        self.told = 0                              # items


class Clerk:
    """Notes what the tasks of this worker took."""

    def __init__(self, worker: Worker) -> None:
        self._remarks = worker.remarks
        self._pid = os.getpid()
        self._lock = threading.Lock()              # two tasks may be at work while one wakes and one ends
        self._here = threading.local()             # .pages: blocks at work in this thread, the innermost last
        self._spans: List[Span] = []
        self._names: Dict[str, int] = {}
        self._news: Dict[str, List[Any]] = {}
        self._slowest: List[int] = []              # heap of what they took
        self._began = self._sent = clock()
        self._writing = 0                          # nanoseconds for arguments
        self._short, self._many = SHORT, MANY
        self._count = 0                            # futures begun

    def wrap(self, function: Callable[..., Any], work: Any) -> Callable[..., Any]:
        """The same function, timed."""
        timed = self._in_block(function, work) if isinstance(work, Run) else self._future(function, work)
        timed.__qualname__ = _name(function)
        return timed

    def _in_block(self, function: Callable[..., Any], run: Run) -> Callable[..., Any]:
        page = Page(run, function)
        self._pages().append(page)

        def timed(*arguments: Any) -> Any:
            page.arguments = arguments
            began, flags = clock(), FAILED
            try:
                value = function(*arguments)
                flags = 0
                return value
            finally:
                if flags or clock() - began > self._short:
                    self._item(page, began, flags)
        return timed

    def _future(self, function: Callable[..., Any], future: Any) -> Callable[..., Any]:
        self._count = number = self._count + 1

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, flags = clock(), HOME | FAILED
            try:
                value = function(*args, **kwargs)
                flags = HOME
                return value
            finally:
                self._note(began, clock(), future.serial, (function, args, kwargs), flags, number)
        return timed

    def _pages(self) -> List[Page]:
        pages: List[Page] = self._here.__dict__.setdefault("pages", [])
        return pages

    def _item(self, page: Page, began: int, flags: int) -> None:
        """An item of a block that is a span of its own; those before it may be in none yet."""
        if os.getpid() != self._pid:               # in a child that the task has forked, perhaps with the lock taken
            return
        ended = clock()
        index = len(page.run.done)
        self._rest(page, index, began)
        page.since, page.told = ended, index + 1
        flags |= HOME if page.run.home else 0
        self._note(began, ended, page.run.block.first + index, _sent(page.function, page.arguments), flags)

    def _rest(self, page: Page, upto: int, ended: int) -> None:
        """Items of a block that were too short for spans of their own."""
        if upto <= page.told:
            return
        flags = HOME if page.run.home else 0
        outcomes = page.run.done[page.told:upto]
        if not tasks.ATOMS.issuperset(map(type, outcomes)) and any(map(tasks.failed, outcomes)):
            flags |= FAILED
        name = _name(_sent(page.function, page.arguments)[0])
        with self._lock:
            self._spans.append(Span(page.since, ended, page.run.block.first + page.told, upto - page.told,
                                    self._number(name), flags))
        page.told = upto

    def _note(self, began: int, ended: int, item: int, task: Task, flags: int, number: int = 0) -> None:
        """A task has ended; number: that of a future, as it was begun."""
        if os.getpid() != self._pid:
            return
        name = _name(task[0])
        with self._lock:
            span = Span(began, ended, item, 1, self._number(name), flags, number)
            if number and ended - began <= self._short and not flags & FAILED:
                self._join(span)
            else:
                span.last = 0
                self._spans.append(span)
            slow = self._is_slow(ended - began)
        if slow:
            self._write_out(ended - began, began, item, name, task)
        if ended - self._sent > OFTEN:
            self._tell()

    def _join(self, span: Span) -> None:
        """A short future: one span with the short ones inside it, and with those just before it."""
        spans, number = self._spans, span.last
        while spans and spans[-1].last and spans[-1].began >= span.began:
            inner = spans.pop()
            span.items += inner.items
            span.last = max(span.last, inner.last)
        before = spans[-1] if spans else span
        if before.last == number - 1 and before.name == span.name and span.began - before.ended < self._short:
            before.ended, before.last = span.ended, span.last
            before.items += span.items
        else:
            spans.append(span)

    def _number(self, name: str) -> int:
        """What stands for it in spans; the lock is held."""
        if len(self._names) == 1000 and name not in self._names:   # they are made up as the run goes on
            return 999
        if name not in self._names:
            self._names[name] = len(self._names)
            self._news.setdefault("names", []).append(name)
        return self._names[name]

    # The slowest

    def _is_slow(self, took: int) -> bool:
        """Whether it is one of the slowest so far; the lock is held."""
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, took)
            return True
        return heapq.heappushpop(self._slowest, took) < took

    def _write_out(self, took: int, began: int, item: int, name: str, task: Task) -> None:
        now, text = clock(), "(not written out: that took too long)"
        if self._writing * SHARE <= now - self._began:
            text = _text(*task[1:])
            self._writing += clock() - now
        with self._lock:
            self._news.setdefault("slow", []).append([took, began, item, name, text])

    # With the next outcomes to the launcher

    def end_of_block(self) -> None:
        """Note the last items of the block that this thread is through with; say what is noted."""
        pages = self._pages()
        while pages and len(pages[-1].run.done) >= len(pages[-1].run.places):
            page = pages.pop()
            self._rest(page, len(page.run.done), clock())
        if not pages or clock() - self._sent > OFTEN:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            spans, news = self._spans, self._news
            self._spans, self._news, self._sent = [], {}, clock()
            self._many -= len(spans)
            if self._many < 0:
                self._short, self._many = 2 * self._short, MANY
        for at in range(0, len(spans) or len(news), ROOM):
            part = spans[at:at + ROOM]
            packed = b"".join([SPAN.pack(s.began, s.ended, s.item, s.items, s.name, s.flags) for s in part])
            extra = json.dumps(news).encode() if news else b""
            news = {}
            self._remarks.append(Remark(b"".join((TAG, HEAD.pack(clock(), len(part)), packed, extra))))


def _name(function: Any) -> str:
    """What to call it: a partial has the name of its function."""
    return tasks.named(function.func if isinstance(function, partial) else function)[:100]


def _sent(function: Any, arguments: Any) -> Task:
    """What a block runs: `submit` sends function and arguments as one argument."""
    return arguments[0] if function is tasks.apply and arguments else (function, arguments, {})


def _text(args: Any, kwargs: Any) -> str:
    """Arguments as one would type them, shortened; whatever their __repr__ does."""
    import reprlib
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = 60
    try:
        parts = [writer.repr(value) for value in args]
        parts += ["%s=%s" % (key, writer.repr(value)) for key, value in kwargs.items()]
    except BaseException as error:                 # of the user's __repr__: the task itself has done well
        return "(no repr: %s)" % type(error).__name__
    return ", ".join(parts)[:300]
