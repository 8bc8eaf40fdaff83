"""A worker: runs blocks, and is an owner itself when its tasks submit.  Runs in workers.

The rule of waiting, inside a task that waits for a future or for the next result of a map:

  1. Take what is ready.
  2. Else, if it is still in my queue, run exactly that, here, on top of the waiting task.
  3. Else run the newest of my own children that is still in the queue.
  4. Else give the turn away and sleep; another thread of this process takes in other work and runs it.

One thread has the turn: only it asks for work.  A sleeper whose future is ready goes on at once and has the turn again;
the thread that had it meanwhile parks when its task is done.  Whatever waits under a timeout, in a thread of the user's
or in a callback only sleeps; if its time is up before another thread has begun, the turn is that other's.  So a
waiting task never lies beneath a foreign one, and a chain of waits is as deep as memory allows: after DEEP nested tasks
the next one gets a fresh thread, with a stack of its own.
"""
from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from array import array
from collections import deque
from contextlib import suppress
from itertools import islice, takewhile
from typing import Any, Callable, ContextManager, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from . import tasks
from .calls import Call, ring
from .errors import Status, exit_status, say, show
from .link import Bell, Link
from .owner import Owner, complaint, complaints, is_deep, signal_handlers
from .protocol import ALONE, DONE, FREED, KEPT, RUNNING, WAITING, Back, Block, Drop, Idle, Remark, Result, Taken
from .runs import PATIENCE, Run, patience
from .streams import opened
from .submits import Submits

DEEP = 40                  # tasks that run on top of each other in one thread
TICK = 4_000_000           # nanoseconds between looks at what a busy process could send on
WORTH = 20                 # so much work is worth the messages of giving it away: log2 of nanoseconds, 1 ms
FAMILY = 100               # children of one task that are counted at most when the broker is told of them
MANY = 10_000              # items: blocks of more are rare
NEVER = 1 << 62            # nanoseconds: later than any look
OVERLONG = 3               # a block that lasts so many times longer than planned gives its rest back
BROKEN_INTO = "microscoop: the handler of a signal has raised that in the midst of our own work, so this worker ends"
LIBC_STDOUT = "__stdoutp" if sys.platform == "darwin" else "stdout"


def flush_output() -> None:
    """What tasks print comes out before their results do."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:                      # replaced or closed by the task, with whatever manners
            continue
    ctypes: Any = sys.modules.get("ctypes")        # where nobody imported it there is hardly C code that prints
    if ctypes is not None:
        with suppress(Exception):                  # another module of that name, another libc
            stdout = ctypes.c_void_p.in_dll(ctypes.pythonapi, LIBC_STDOUT)
            fflush = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(("fflush", ctypes.pythonapi))
            fflush(stdout)                         # which os._exit would not do; other threads go on meanwhile


class Here(threading.local):
    """What a thread does for us."""

    task: Any = None           # the Run or Future that it runs: the topmost on its stack
    depth = 0                  # how many those are
    guarded = False            # it holds the guards


class Worker(Owner):
    """An owner that runs tasks."""

    is_origin = False
    may_listen = False                             # but for the thread that has the turn and nothing to do
    window = 0

    def __init__(self, link: Link, number: int, workers: int, retries: int, task_timeout: Optional[float], where: str,
                 note: memoryview, sent: bool = False) -> None:
        super().__init__(link, number, workers, retries, task_timeout)
        self.lock = threading.RLock()              # Ctrl-C does not reach workers
        self._sent = sent                          # this host has only the files that were sent to it
        self.wrappers: List[Callable[[Any, Any], Any]] = []     # of leaves: (function, Run or Future) -> what is run
        self.guards: List[ContextManager[object]] = []     # of leaves: held while code of tasks runs, by one thread
        self._guarded = False                      # a thread has them
        self._strangers = 0                        # threads of the user's that wait: nobody must wait for a guard then
        self._unguarded = threading.Condition(self.lock)
        self.before_results: List[Callable[[], None]] = [flush_output]
        self.remarks: Deque[Remark] = deque()      # of leaves: they go with the next outcomes
        self._counted: List[int] = []              # 0, 1, 2 ... as far as a block has needed
        self._inbox: Deque[Block] = deque()
        self._received = 0                         # blocks
        self._runs: List[Run] = []
        self._functions: Dict[Tuple[int, int], tasks.Apart] = {}   # (owner, call); of those that travel apart
        self._waiting: Dict[Tuple[int, int], List[Block]] = {}     # the blocks that wait for such a function
        self._here = Here()
        self._holder = 0                           # the thread that has the turn; 0: nobody
        self._waiters: List[Bell] = []             # of the holder, or who was it: there is work, or the turn is gone
        self._turn = threading.Condition(self.lock)     # for parked threads: nobody has the turn
        self._parked = 0
        self._main_parked = False
        self._idle = False                         # the broker thinks that we have nothing to do
        self._done = False                         # and that nothing of ours sleeps or is out
        self._futures = 0                          # of our own, at work or asleep here
        self._until = 0                            # when what the holder runs has lasted too long; 0: it runs nothing
        self._busy = 0                             # threads with a task that is not asleep
        self._gap: float = WORTH                   # between the ends of our own tasks here, lately: log2 of nanoseconds
        self._ended = 0                            # when the last one ended
        self._looks = 0                            # when the reader thread looks again at what is due
        self._since = 0                            # when the queue was filled, or sent on by a tick
        self._handlers.update({Block: self._block, Drop: self._dropped, Taken: self._taken})
        self.settle_in(number, where, note)

    def settle_in(self, number: int, where: str, note: memoryview) -> None:
        """In a process that was forked with this in it: be its worker from now on."""
        self.number = self.streams.number = number
        self.where, self._pid, self._main = where, os.getpid(), threading.get_ident()
        self._note = note                          # shared with the agent: owner, call, first item, place for each slot
        self._slots = [*range(0, len(note) - 3, 4)]
        self.harmless = signal_handlers()          # the agent's

    def let_go(self) -> None:
        """In a child that a task has forked: no other thread is there that could release the lock."""
        if not self.lock._is_owned():
            self.lock = threading.RLock()

    # The turn

    def serve(self) -> None:
        """Run what there is to run, in this thread, while it has the turn."""
        me = threading.get_ident()
        with self.lock:
            self._busy += 1
        while True:
            with self.lock:
                self._busy -= 1
                work = self._next(me)
                self._busy += 1
            self._perform(work)
            work = None                            # nobody else may hold this future any more

    def _next(self, me: int) -> Any:
        """The next Run or Future for this thread, once it has the turn; the lock is held."""
        while True:
            if self._holder != me:
                if self._holder:
                    self._park(me)
                self._holder = self._holder or me
            elif self._main_parked and me != self._main:   # there alone tasks can set handlers of signals
                self._holder = self._main
                self._turn.notify_all()
            elif self._inbox or self.queue:
                return self._take_work()
            elif self._later:
                self.do_later()
            else:
                if not self._idle:
                    self.link.send(*self._news(), self._now_idle())
                self._wait_for_work()

    def _wait_for_work(self) -> None:
        """Until there may be some, or the turn is gone; the lock is held."""
        bell, come = Bell(self.link), False
        self._waiters.append(bell)
        if self.is_undisturbed() and not self.guards:      # a profiler of Python 3.12 or newer counts what this thread
            bell.take_out()                                # does for the task beside it
        self.lock.release()
        try:
            come = bell.sleep(None)
        finally:
            self.lock.acquire()
            if come:
                self.surely(self._handle)
            bell.put_away()                        # now: else what has come would wake the reader thread
            self._waiters.remove(bell)
        self._tell_done()

    def _take_work(self) -> Any:
        """The next Run or Future, as there is one; the lock is held."""
        self._no_longer_idle()
        work = self._enlisted(Run(self._inbox.popleft())) if self._inbox else self._own(self.queue[-1])
        planned = work.block.planned * 1000 if isinstance(work, Run) else 0
        self._until = time.perf_counter_ns() + max(OVERLONG * planned, PATIENCE)
        if self._inbox:
            self._look_by(self._until)
        return work

    def _park(self, me: int) -> None:
        """Until somebody hands the turn on; the lock is held."""
        self._parked += 1
        if me == self._main:
            self._main_parked = True
        self._turn.wait()
        if me == self._main:
            self._main_parked = False
        self._parked -= 1

    def _news(self) -> List[Remark]:
        """What leaves have to say since this was last asked; the lock is held."""
        return [self.remarks.popleft() for _ in range(len(self.remarks))]

    def _now_idle(self) -> Idle:
        """What to say when there is nothing to run; the lock is held."""
        self._idle, self._done, self._until = True, self._is_done_with_all(), 0
        return self._idle_message(FREED if self._done else WAITING)

    def _idle_message(self, idle: int) -> Idle:
        return Idle(idle, 0 if self.streams.expects(Block) else self._received)

    def _is_done_with_all(self) -> bool:
        return not (self._runs or self._futures or self._flying or self.items or self._owed)

    def _tell_done(self) -> None:
        """The last that slept or was out has ended; the lock is held."""
        if self._idle and not self._done and self._is_done_with_all():
            self._done = True
            self.link.send(self._idle_message(DONE))

    def _own(self, entry: Any) -> Any:
        """Take something of our own out of the queue to run it here: a future, or a Run of some items of a call."""
        if not isinstance(entry, Call):
            self.remove(entry)
            self._futures += 1
            entry.state = "RUNNING"
            return entry
        block = entry.cut(self.number, self.workers)
        if entry.left:
            self.items -= block.items
        else:
            self.remove(entry, block.items)
        self._flying += block.items                # out, too, until its outcomes are in
        if block.function:
            self._functions.setdefault((self.number, entry.number), tasks.Apart(entry.function))
        return self._enlisted(Run(block, True))

    def _no_longer_idle(self) -> None:
        if self._idle:
            self._idle = False
            self.link.send(Idle(RUNNING))
        if self._strangers:                        # which may wait for this work's end, or it for theirs
            self._look_by(time.perf_counter_ns() + PATIENCE)

    def _hand_turn_on(self) -> None:
        """Let another thread take in work; the lock is held.  Raises RuntimeError, and nothing has changed, if there
        may be no more threads."""
        if self._parked:
            self._turn.notify()
        else:
            self._begin(self.serve)
        self._holder = self._until = 0

    def _lend_turn(self) -> None:
        """Threads of the user's wait, and perhaps each task at work for one of them: let another thread take in work,
        unless the one that has the turn is free to.  The lock is held."""
        if self._busy <= self._strangers and (self.items or self._flying) and self._holder and not self._idle:
            self._hand_turn_on()

    def _begin(self, function: Callable[[], None]) -> threading.Thread:
        """Another thread for tasks."""
        thread = threading.Thread(target=self.surely, args=(function,), name="microscoop-tasks", daemon=True)
        thread.start()
        return thread

    def _take_turn(self) -> None:
        """This thread goes on; whoever had the turn parks after what it runs.  The lock is held."""
        self._holder = threading.get_ident()
        self._until = time.perf_counter_ns() + PATIENCE
        self._no_longer_idle()
        ring(self._waiters)

    def unfinished(self) -> List[Any]:
        """A task that calls `shutdown` waits for what it has submitted itself; others may wait for it."""
        task = self.task()
        return [entry for entry in super().unfinished() if task is None or entry.parent is task]

    # What nobody looks at

    def called_back(self, _: object) -> None:
        self._leave_if_forked()
        with self.lock:
            self.do_later()                        # what it has left behind, before we say that all is done
            self._pay()
            self._tell_done()

    def keep_unread(self, future: Any) -> None:
        """When its last holder has let go of it, nobody can look at its error any more; but for a `__del__` that the
        same garbage collection calls, so the reader thread is not sent to see at once."""
        serial, entry = future.serial, future.entry

        def complain() -> None:
            if self.unread.pop(serial, None) is not None:  # else a `__del__` has looked at it, in the same collection
                self._say(complaint(entry))
        self.unread[serial] = weakref.ref(future, lambda _: self._later.append(complain))

    def _tidy(self, call: Union[Call, Submits]) -> None:
        if isinstance(call, Call) and call.has_ended() and not call.begun and call.number in self.calls:
            for text in complaints(call):
                self._say(text)
            call.outcomes, call.unread = {}, False
        super()._tidy(call)

    def _say(self, text: str) -> None:
        """Tell stderr, in the thread for callbacks: it may be an object of the user's.  The lock is held."""
        self.call_back(say, text)

    def hear_quiet(self) -> None:
        """A task that calls `shutdown` waits for what this process submitted; others are not its affair."""

    # Waiting

    def task(self) -> object:
        return self._here.task

    def wait(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        """As Owner.wait, by the rule of waiting."""
        task = self._here.task
        if task is None:
            with self.lock:
                if ready():
                    return True
                self._strangers += 1
            try:
                with self.lock:
                    self._lend_turn()              # raises where there may be no more threads
                    self._look_by(time.perf_counter_ns() + PATIENCE)
                    self._unguarded.notify_all()
                return self.sleep(ready, watched, timeout)
            finally:
                with self.lock:
                    self._strangers -= 1
        self._forbid_cycle(task, watched)
        deep = is_deep() or self._here.depth >= DEEP
        while timeout is None:
            try:
                with self.lock:
                    if ready():
                        return True
                    entry = self._choose(task, watched)
                    mine = None if entry is None or deep else self._own(entry)
                if mine is not None:
                    self._perform(mine)
            except BaseException as error:         # of a signal's handler: what the tasks raise are their outcomes
                show(error, error.__traceback__)
                self.cut_off(Status.DEFECT, BROKEN_INTO)
            if entry is None:
                break
            if deep:
                self._run_afresh(lambda: self._choose(task, watched))
        return self._sleep(ready, watched, timeout)

    def _choose(self, task: Any, watched: Tuple[Any, ...]) -> Any:
        """What to run meanwhile: what is waited for, else the newest child; the lock is held."""
        for thing in watched:
            if thing.left:
                return thing
        for entry in reversed(self.queue):
            if entry.parent is task:
                return entry
        return None

    def _sleep(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float]) -> bool:
        with self.lock:
            if ready():
                return True
            mine = self._holder == threading.get_ident()
            if mine:
                self._hand_turn_on()
                for run in self._runs:
                    self._flush(run)
                    self._shrink(run)
            self._busy -= 1
        self._put_down_guards()
        in_time = False
        try:
            in_time = self.sleep(ready, watched, timeout)
            return in_time
        finally:
            with self.lock:
                self._busy += 1
                self._ended = time.perf_counter_ns()
                unbegun = not (in_time or self._until)     # by the thread that was given the turn
                if mine and not (unbegun and (self.queue or self._inbox)):
                    self._take_turn()
            self._take_up_guards()                 # the turn first: so whoever holds them parks soon

    def _take_up_guards(self) -> None:
        """This thread begins to run code of tasks, or goes on after it slept."""
        if not self.guards:
            return
        with self.lock:
            while self._guarded and not self._strangers:
                self._unguarded.wait()
            self._here.guarded, self._guarded = not self._guarded, True
        for guard in self.guards if self._here.guarded else ():
            guard.__enter__()

    def _put_down_guards(self) -> None:
        if not self._here.guarded:
            return
        self._here.guarded = False
        for guard in reversed(self.guards):
            guard.__exit__(None, None, None)
        with self.lock:
            self._guarded = False
            self._unguarded.notify()

    def _forbid_cycle(self, task: Any, watched: Tuple[Any, ...]) -> None:
        for thing in watched:
            for future in getattr(thing, "futures", (thing,)) if not thing.left else ():   # else it lies in our queue
                beneath = task if getattr(future, "state", "") == "RUNNING" else None
                while beneath is not None:
                    if beneath is future:
                        raise RuntimeError("%r is suspended beneath this task, which waits for it: neither could end"
                                           % future)
                    beneath = beneath.beneath

    def _run_afresh(self, choose: Callable[[], Any]) -> None:
        """Run what this chooses, if anything, in a thread with an empty stack, and wait for that.  Raises RuntimeError,
        and nothing was taken, if there may be no more threads."""
        def run() -> None:
            with self.lock:
                if mine:
                    self._take_turn()
                entry = choose()
                work = None if entry is None else self._own(entry)
            if work is not None:
                self._perform(work, task)

        task = self._here.task
        mine = self._holder == threading.get_ident()
        self._put_down_guards()
        try:
            self._begin(run).join()
        finally:
            with self.lock:
                if mine:
                    self._take_turn()
            self._take_up_guards()

    # Running

    def _perform(self, work: Any, beneath: object = None) -> None:
        """Run a Run or a Future in this thread, on top of the task that waits there; or, in a fresh thread, on top of
        one that waits in another."""
        here, is_run = self._here, isinstance(work, Run)
        before, here.task = here.task, work
        work.beneath = beneath or before
        here.depth += 1
        if before is None:
            self._take_up_guards()
        if is_run:
            self._work_on(work)
        else:
            entry = self._outcome(work)
        here.task = before
        here.depth -= 1
        self._leave_if_forked()
        if before is None:
            self._put_down_guards()
        for prepare in self.before_results if is_run or before is None else ():
            prepare()
        with self.lock:
            if is_run:
                self._strike_off(work, before is None)
            else:
                self._futures -= 1
                work.finish(entry)
                since, self._ended = self._ended, time.perf_counter_ns()
                step = (self._ended - since).bit_length() - self._gap
                self._gap += step / (4 if step > 0 else 16)     # in a tree every other ends right after its child
            self._tell_done()

    def _outcome(self, future: Any) -> Any:
        """Run one of our own futures; its outcome."""
        try:
            function, args, kwargs = tasks.call_of(future.task)
            for wrap in self.wrappers:
                function = wrap(function, future)
            return tasks.outcome(function(*args, **kwargs))
        except BaseException as error:             # whatever a task raises is its outcome
            self._leave_if_forked(error)
            return self.failure(error, future.name)

    def _enlisted(self, run: Run) -> Run:
        """A block that a thread takes: it counts from this moment on, lest we say that there is none; and the reader
        thread can send on or give back what it should not keep.  The lock is held."""
        self._runs.append(run)
        run.note = self._note if self._slots else memoryview(array("Q", [0] * 4))
        run.slot = self._slots.pop() if self._slots else 0
        if run.block.items > 1:
            self._look_by(run.due)
        return run

    def _strike_off(self, run: Run, last: bool) -> None:
        """A block has ended, the last that this thread had to do; the lock is held."""
        self._runs.remove(run)
        self.do_later()                            # what its task has left behind, before we say that all is done
        self._flush(run, last)
        run.note[run.slot] = 0                     # not before: to pack and send outcomes is part of the task
        if run.note is self._note:
            self._slots.append(run.slot)

    def _work_on(self, run: Run) -> None:
        """Run the items of a block, front to back."""
        block, note, at = run.block, run.note, run.slot
        note[at + 1], note[at + 2], note[at + 3], note[at] = block.call, block.first, 0, block.owner
        try:
            apart = self._functions[block.owner, block.call] if block.function else None
            function, columns = tasks.opened(block.body, apart)
            for wrap in self.wrappers:
                function = wrap(function, run)
        except BaseException as error:             # of rebuilding the function: the outcome of every item
            failures = [self.failure(error, "item %d" % i) for i in range(block.first, block.first + block.items)]
            with self.lock:                        # `rest` may have cut it meanwhile
                run.packed = True
                run.done.extend(failures[:run.block.items])
        else:
            while not self._is_done(run):
                self._loop(run, function, columns)
            run.ended = time.perf_counter_ns()

    def _is_done(self, run: Run) -> bool:
        """Whether each item that the block still has is done; `rest` may have cut the places for items that it then
        saw had begun."""
        with self.lock:
            done = len(run.done) >= run.block.items
            run.places = [] if done else self._count(run.block.items)
            return done

    def _count(self, items: int) -> List[int]:
        """The numbers from 0 on; those that a usual block needs are kept."""
        if items > MANY:
            return list(range(items))
        self._counted.extend(range(len(self._counted), items))
        return self._counted[:items]

    def _loop(self, run: Run, function: Callable[..., Any], columns: Sequence[tasks.Column]) -> None:
        places, done, note, at = run.places, run.done, run.note, run.slot + 3
        append, atoms, outcome = done.append, tasks.ATOMS, tasks.outcome
        plain = not any(isinstance(column, tuple) for column in columns)

        def noting(place: int) -> int:
            note[at] = place
            return place

        run.since = time.perf_counter_ns()
        while len(done) < len(places):
            left = islice(places, len(done), None)
            try:
                # Where arguments must be rebuilt the place is noted before that: a death in there is that item's.
                for note[at], arguments in zip(left if plain else map(noting, left),
                                               tasks.arguments(columns, len(done))):
                    value = function(*arguments)
                    if type(value) in atoms:
                        append(value)
                    else:
                        run.add(outcome(value))
                if len(done) < len(places):
                    raise RuntimeError("StopIteration came from rebuilding an argument")
            except BaseException as error:         # whatever a task raises is its outcome
                self._leave_if_forked(error)
                what = tasks.submitted(error) if not run.block.call else "item %d of %s" % (
                    run.block.first + len(done), tasks.named(function))
                run.add(self.failure(error, what))

    def failure(self, error: BaseException, what: str) -> tasks.Failure:
        """An error of a task as it travels; what: the task, or its item."""
        return tasks.failure(error, "%s, %s" % (self.where, what), self._sent)

    def _leave_if_forked(self, error: Optional[BaseException] = None) -> None:
        """A task has forked, and its child has come to the task's end: it must not go on as a second worker."""
        if os.getpid() == self._pid:
            return
        flush_output()
        os._exit(exit_status(error) if isinstance(error, SystemExit) else int(error is not None))

    def _flush(self, run: Run, last: bool = False) -> None:
        """Send what is done; the lock is held, so that parts stay in order.  With the `last` of what this thread had to
        do goes, in one message, that it is idle."""
        count = len(run.done) - run.sent
        remarks = [] if run.home else self._news()
        if not count:
            if remarks:
                self.link.send(*remarks)
            return
        now = run.ended or time.perf_counter_ns()
        part, first = run.outcomes(count), run.block.first + run.sent
        run.sent += count
        spent, run.since = max(now - run.since, 1), now
        if run.home:
            self._bring_home(run.block.call, first, part, spent)
            return
        result = self.streams.fit(Result(run.block.owner, run.block.call, first, count, spent, self.number, 0, b"",
                                         self.streams.pickled(part)))
        is_idle = last and not (self._inbox or self.queue or self._idle) and self._holder == threading.get_ident()
        self.link.send(*remarks, result, *([self._now_idle()] if is_idle else ()))

    def _bring_home(self, number: int, first: int, outcomes: Sequence[Any], spent: int) -> None:
        """Outcomes of our own items are where they belong, unless nobody wants them any more; the lock is held."""
        call = self.calls.get(number)
        if call is not None:
            self._flying -= len(outcomes)
            call.arrive(first, outcomes, len(outcomes), spent)
            self._tidy(call)

    # What comes, and what is due

    def _block(self, block: Block) -> None:
        self._received += 1
        self._take_in(block)

    def _take_in(self, block: Block) -> None:
        """Into the inbox, if the whole of it is here, its function too; else pull what is not.  The lock is held."""
        self._idle = False                         # the broker has taken us at our word
        key = block.owner, block.call
        if block.size:
            data = self._fetch(block)
            if data is None:
                return
            block = block._replace(size=0, body=data)
        if block.function and key not in self._functions:
            function = block._replace(first=KEPT, size=block.function, place=block.function_place)
            data = None if key in self._waiting else self._fetch(function)
            if data is None:
                self._waiting.setdefault(key, []).append(block)
                return
            self._functions[key] = tasks.Apart(data)
        self._inbox.append(block)
        ring(self._waiters)

    def _fetch(self, message: Block) -> Any:
        """The body with its sender, if it lies on this machine; else it is pulled.  The lock is held."""
        data = opened(message.place, message.size)
        if data is None:
            self.streams.expect(message, message.owner)
        return data

    def pulled(self, message: Union[Block, Result], data: Any) -> None:
        if not isinstance(message, Block):
            super().pulled(message, data)
            return
        if message.first == KEPT:
            self._functions[message.owner, message.call] = tasks.Apart(data)
            blocks = self._waiting.pop((message.owner, message.call))
        else:
            blocks = [message._replace(size=0, body=data)]
        for block in blocks:
            self._take_in(block)

    def _dropped(self, message: Drop) -> None:
        """Skip what nobody wants; what has begun runs to its end."""
        self._inbox = deque(block for block in self._inbox if not message.covers(block.owner, block.call))
        for run in self._runs:
            if not run.home and message.covers(run.block.owner, run.block.call):
                run.rest()
        self.streams.drop(message)
        message.purge(self._functions)
        message.purge(self._waiting)
        self._idle = False                         # what was on its way will not come: say Idle again
        ring(self._waiters)

    def _taken(self, message: Taken) -> None:
        self.streams.withdraw(message.owner, message.call, message.first)

    def pushed(self) -> None:
        """Children are given away against credit only, the oldest first, and not if there is just one so far: its
        parent most likely waits for it next.  One that lies here for a tick goes too."""
        now = time.perf_counter_ns()
        self.feed(max(self._kept(), 1))
        if len(self.queue) == 1:
            self._since = now
        self._look_by(now + TICK)
        if self._idle:
            ring(self._waiters)

    def surplus(self) -> int:
        """Those that have one parent with the oldest: if tasks have more than one child each, the others come from one
        of these that was run here, so all of them together are less than one of these."""
        def are_brothers(entry: Any) -> bool:
            return entry.parent is self.queue[0].parent
        return sum(entry.left for entry in takewhile(are_brothers, islice(self.queue, FAMILY)))

    def tick(self) -> Optional[float]:
        """Send on what should not wait for the task at work."""
        with self.lock:
            self.do_later()
            now = time.perf_counter_ns()
            for run in self._runs:
                if now >= run.due:
                    self._look_at(run, now)
            if self._until and now > self._until:
                self._return_inbox()
            self._tell_done()
            if self.queue and now - self._since >= TICK:
                self._since = now
                self.feed()
            if self._strangers:
                self._lend_turn()
            self._looks = min(self._dues(now), default=NEVER)
            return None if self._looks == NEVER else max(self._looks - now, 0) / 1e9

    def _look_at(self, run: Run, now: int) -> None:
        """A block is still at work when it should be over; the lock is held."""
        run.due = now + PATIENCE
        self._flush(run)
        if now - run.began > OVERLONG * run.block.planned * 1000:
            self._shrink(run)

    def _dues(self, now: int) -> Iterator[int]:
        """When the reader thread should look again, and why; the lock is held."""
        for run in self._runs:
            if run.block.items > 1:
                yield run.due
        if self._inbox and self._inbox[0].items > 1:       # so that whoever begins it need not poke us
            yield now + patience(self._inbox[0])
        if self.queue:
            yield self._since + TICK
        elif self._inbox and self._until:
            yield self._until
        if self._strangers and not self._idle:
            yield now + PATIENCE

    def _kept(self) -> int:
        """How many of the newest children are not worth a message, before they lie here for a tick: if each has two of
        its own, each that waits is twice the work of the next."""
        return max(WORTH - int(self._gap), 0)

    def _look_by(self, moment: int) -> None:
        """Have the reader thread look again by then; the lock is held."""
        if moment < self._looks:
            self._looks = moment
            self.link.poke()

    def _shrink(self, run: Run) -> None:
        """Give back the items of a block that were not begun; the lock is held."""
        rest = run.rest()
        if rest is None:
            return
        if run.home:
            call = self.calls.get(run.block.call)
            if call is not None:
                call.back(self.queue, *rest, ALONE)
                self._flying -= rest[1]
                self.items += rest[1]
        else:
            self.link.send(Back(run.block.owner, run.block.call, *rest))

    def _forget(self, call: Call) -> None:
        super()._forget(call)
        self._functions.pop((self.number, call.number), None)

    def _return_inbox(self) -> None:
        while self._inbox and not self._idle:
            block = self._inbox.pop()
            self.link.send(Back(block.owner, block.call, block.first, block.items))
