"""What a process that submits tasks keeps.  Runs in the origin, and in workers whose tasks submit.

    futures.map/submit -> push -> [queue] -> feed -> Block ->  broker -> a worker runs it
    consumer <- settle <- a thread that waits, or the reader thread <- Result <-  broker <-

Who submits owns: the bytes of an item stay here until its outcome is in, so a dead worker loses nothing.  Threads:
whoever submits or waits pickles, but for atoms; the reader thread sends, looks at what is due, and takes in what comes
while no thread waits (link.py); it never runs code of the user.  `lock` guards everything here and is never held while
user code runs.
"""
from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from _signal import NSIG, default_int_handler, getsignal, pthread_sigmask  # type: ignore[import-not-found]
from _signal import signal as set_handler  # those of `signal` make an enum of what they give, which takes 2 us
from _thread import start_new_thread
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from . import hooks, tasks
from .calls import Call, ring
from .errors import NoMatchingWorker, Status, TaskTimeout, WorkerLost, say, show
from .link import Bell, Link
from .protocol import (
    CHARGED,
    KEPT,
    OVERDUE,
    UNMATCHED,
    Block,
    Credit,
    Drop,
    Lost,
    Piece,
    Pull,
    Quiet,
    Remark,
    Result,
    Surplus,
    Taken,
)
from .streams import Streams, opened
from .submits import Submits

SIGNALS = range(1, 32)     # all but the real-time ones
ROOM = 50                  # frames that anything of ours takes at most, but for the user's code
MORE = 8                   # times as many items to give away as the broker knows of are worth another word
PATIENCE = 0.01            # seconds that the first items of a call may take to tell how long they last


def is_deep() -> bool:
    """Whether a third of the stack is in use.  Raises RecursionError if it is nearly full: here that does no harm, but
    between two of our steps it would."""
    try:
        sys._getframe(sys.getrecursionlimit() // 3)
    except ValueError:                             # fewer frames than that, as a rule
        return False
    _go_down(ROOM)
    return True


def _go_down(frames: int) -> None:
    if frames:
        _go_down(frames - 1)


def complaint(entry: tasks.Failure) -> str:
    """What stderr is told of an error that nobody has looked at."""
    _, kind, said, text = entry
    return "microscoop: nobody looked at this error of a task:\n" + (text or kind + ": " + said)


def complaints(call: Call) -> List[str]:
    """The same of a call: of its errors, and of an input that was not read to its end."""
    never = "microscoop: a map over an input without a length was never read: it ran for %d items" % call.count
    errors = [entry for data in list(call.outcomes.values()) for entry in tasks.outcomes(data) if tasks.failed(entry)]
    unread = call.unread or not (call.whole or call.begun)
    return ([never] if unread else []) + [complaint(entry) for entry in errors]


def signal_handlers() -> List[Any]:
    """Those of signals, which are called in the main thread."""
    return [*filter(callable, map(getsignal, range(1, NSIG)))]


def is_main() -> bool:
    """Whether the calling thread is the one in which signals' handlers are called."""
    return threading.get_ident() == threading.main_thread().ident


class Section:
    """A lock into which no signal breaks, but real-time ones.

    What a handler raises between two of our steps would leave counts wrong, or half a frame on its way; what it calls
    of ours would find them so.  So while the main thread has the lock, signals are only noted, and their handlers
    called when it is free.  To block them would not do: then a thread of the script's takes them, and Python calls the
    handler in the main thread all the same.  What C code has put over a handler of Python's is lost by this.
    """

    def __init__(self) -> None:
        self._lock, self._main = threading.RLock(), threading.main_thread().ident
        self._handlers: Dict[int, Any] = {}        # by signal: those that are put off, or were
        self._noted: Dict[int, Any] = {}           # signal -> the frame in which it came
        self._note = self._noted.__setitem__
        self._rounds = 0                           # how often they were handed back

    def __enter__(self) -> None:
        if threading.get_ident() == self._main and not self._is_owned():
            try:
                self._put_off()
            except BaseException:                  # of a handler that was not put off yet
                self._hand_back()
                raise
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.get_ident() == self._main and not self._is_owned():
            self._hand_back()

    def let_go(self) -> None:
        """In a child that a thread of the script's has forked: its signals are its own, and no other thread is there
        that could release the lock."""
        if not self._is_owned():
            self._lock = threading.RLock()
        self._noted.clear()
        self._hand_back()

    def _is_owned(self) -> bool:
        """As an RLock's: by the calling thread."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def _put_off(self) -> None:
        rounds = -1
        while rounds != self._rounds:              # else a handler came here meanwhile
            rounds = self._rounds
            for number in SIGNALS:
                handler = getsignal(number)
                if callable(handler) and handler is not self._note:
                    self._handlers[number] = handler
                    set_handler(number, self._note)

    def _hand_back(self) -> None:
        """From the first step on handlers are called again, which may come here, or raise."""
        try:
            self._rounds += 1
            for number, handler in list(self._handlers.items()):
                if getsignal(number) is self._note:
                    set_handler(number, handler)
            while self._noted:
                number, frame = self._noted.popitem()
                handler = getsignal(number)
                if callable(handler):              # not by a second signal: a wakeup descriptor has heard of this one
                    handler(number, frame)
        except BaseException:                      # of a handler: the others are handed back all the same
            self._hand_back()
            raise


class Word:
    """Something that may be said, for `wait` and `sleep` to watch."""

    left = 0                                       # it is nothing that could be run meanwhile

    def __init__(self) -> None:
        self.waiters: List[Bell] = []
        self.has_come = False

    def come(self) -> None:
        """It was said; the owner's lock is held."""
        self.has_come = True
        ring(self.waiters)


class Owner:
    """The state of an owner.  `futures` calls push, wait, drop; who waits and the reader thread do the rest."""

    is_origin = True
    may_listen = True                              # threads that wait, instead of the reader thread
    harmless: Sequence[Any] = (default_int_handler,)   # signals' handlers that never wait: this one just raises
    window = 2                                     # items that may be on their way without any credit
    recorder: Any = None                           # of a leaf: function -> `record` of its calls and futures
    where = "origin"                               # who this is, to the user; a worker: h2/3

    def __init__(self, link: Link, number: int, workers: int, retries: int, task_timeout: Optional[float]) -> None:
        self.link, self.number, self.workers = link, number, workers
        self._retries, self._task_timeout = retries, task_timeout
        self.lock: Any = Section()
        self.calls: Dict[int, Call] = {}
        self.queue: Deque[Any] = deque()           # Futures that were not sent, and Calls with such items; in order
        self.items = 0                             # how many items those are
        self.submits = Submits()
        self.by_name: Dict[str, tasks.Named] = {}  # functions that were submitted, the last of each name
        self.unread: Dict[int, Any] = {}           # Futures whose error nobody has looked at yet
        self.dressers: List[Callable[[Any], Any]] = []     # of leaves: what is submitted instead of a function
        self.pushes: List[Callable[[], None]] = []         # of leaves: called, under the lock, for new items of a call
        self._callbacks: Optional[Callbacks] = None
        self._owed, self._paid = 0, Word()         # callbacks that have not run yet; there is one less
        self._credit = 0
        self._told = False                         # the broker knows that we need credit, and about how much
        self._said = 0                             # items when it was told of a surplus
        self._flying = 0                           # items sent, outcomes not in
        self._serials = itertools.count(1)         # of calls and of futures
        self._push_count = self._quiet = 0         # how often there was something new; up to which of them all is done
        self._silence, self._hearing = Word(), threading.Lock()     # that no task is left anywhere
        self._later: Deque[Callable[[], None]] = deque()
        self.streams = Streams(link.send, number)
        self.leaves: Dict[str, Any] = {}           # what they keep here, by their names
        self._handlers: Dict[type, Callable[[Any], None]] = {
            Result: self._result, Lost: self._lost, Credit: self._granted, Pull: self._pull, Piece: self._piece,
            Remark: self._tell_leaf, Quiet: lambda message: self._silence.come()}
        self._reader: Any = None                   # the reader thread, once it runs

    def start(self) -> None:
        """Begin to take in what comes, if that has not begun yet.  Not in a Thread of `threading`: that takes some 30
        pages more in each worker, and the caller's time until it runs."""
        if self._reader is None:
            self._reader = 0                       # first: a garbage collection meanwhile may lead here again
            try:
                self._reader = start_new_thread(self._read, ())
            except RuntimeError:                   # there may be no more threads
                self._reader = None
                raise

    # Called by the user's threads

    def serial(self) -> int:
        """A number for a new Future or Call; never 0.  With the first begins the reader thread: a script that makes
        none has no thread of ours, and may fork as it likes."""
        if self._reader is None:
            with self.lock:
                self.start()
        return next(self._serials)

    def task(self) -> object:
        """The task that the calling thread runs: the parent of what it submits; None outside of tasks."""
        return None

    def push(self, entry: Any, columns: Sequence[tasks.Column] = ()) -> None:
        """A new future, or a call with these new items."""
        is_deep()                                  # raises where the stack is nearly full
        self._refuse_in_between()
        outcomes = () if entry.record is None else self._recorded(entry, columns)
        with self.lock:
            self._push_count += 1
            if columns:
                self.calls[entry.number] = entry
                left = entry.left
                entry.extend(columns, outcomes)
                self.items += entry.left - left
                if entry.left and not left:
                    self.queue.append(entry)
                for tell in self.pushes:
                    tell()
            elif outcomes:
                entry.record = None
                entry.finish(next(iter(outcomes[0][1])))
            else:
                self.queue.append(entry)
                self.items += 1
            self.pushed()

    def _refuse_in_between(self) -> None:
        """A garbage collection may call a `__del__` between two of our steps, where all is half done; and in a worker a
        signal's handler may come there."""
        if self.lock._is_owned():
            raise RuntimeError("a garbage collection or a signal called this in the midst of our own work: a `__del__` "
                               "or a task's handler must neither submit nor wait")

    def _recorded(self, entry: Any, columns: Sequence[tasks.Column]) -> Any:
        """The outcomes that are known already: first item, outcomes."""
        return entry.record.known(entry.count, columns) if columns else entry.record.known(0, [(entry.task,)])

    def pushed(self) -> None:
        """What to do about new items at once; the lock is held."""
        self.feed()

    def wait(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        """Until `ready()`, which only what is watched can make true; False when `timeout` seconds are over."""
        return self.sleep(ready, watched, timeout)

    def sleep(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        """The same, and nothing else meanwhile, in a worker neither: for what does not take long."""
        self._refuse_in_between()
        limit = None if timeout is None else time.monotonic() + timeout
        bell, come, left = Bell(self.link, self.may_listen and self.is_undisturbed(), is_main()), False, timeout
        for thing in watched:
            thing.waiters.append(bell)             # lists change in one step: no lock for that
        try:
            try:
                while not self._may_wake(ready, bell, come):
                    if limit is not None:
                        left = min(limit - time.monotonic(), threading.TIMEOUT_MAX)
                        if left <= 0:
                            return False
                    come = bell.sleep(left, self._flying <= 1)
                return True
            finally:
                self._take_back(bell, watched)
        finally:
            if bell.is_out:                        # Ctrl-C came before the first step of `_take_back`
                self._take_back(bell, watched)

    def _take_back(self, bell: Bell, watched: Tuple[Any, ...]) -> None:
        """Nobody sleeps by it any more; whatever a handler raises meanwhile: else nobody might listen again."""
        try:
            if bell.is_out:                        # an exception, or time is up
                with self.lock:
                    bell.put_away()
            for thing in watched:
                if bell in thing.waiters:
                    thing.waiters.remove(bell)
        except BaseException:                      # KeyboardInterrupt, as a rule: first to the end with this
            self._take_back(bell, watched)
            raise

    def _may_wake(self, ready: Callable[[], bool], bell: Bell, come: bool) -> bool:
        """Take in what has come; whether that was what it slept for; else its bell is out."""
        with self.lock:                            # one section for all of it
            if come:
                self.surely(self._handle)
            if ready():
                bell.put_away()
                return True
            if bell.may_listen and not bell.is_out:
                is_deep()                          # raises where there is no room for what taking in messages needs
                bell.take_out()
            return False

    def is_undisturbed(self) -> bool:
        """Whether no signal's handler can keep this thread while it sleeps.  Not to be asked in a Section, where they
        are put off."""
        return not is_main() or all(handler in self.harmless for handler in signal_handlers())

    def later(self, function: Callable[[], None]) -> None:
        """Have the reader thread do this, under the lock.  For what a garbage collection may call at any moment, also
        in a thread that has the lock: generators that are closed, weak references that die."""
        self._later.append(function)
        self.link.poke()

    def drop(self, call: Call) -> None:
        """Nobody wants this call any more: what was not begun shall not be."""
        if call.open or call.outcomes or call.spread is not None:
            self.later(lambda: self._drop(call))
        else:
            self._later.append(lambda: self._drop(call))        # not worth waking the reader thread
        call.consumer = None                       # there is no need to tell that it goes

    def abandon(self, call: Call, unfinished: bool) -> None:
        """Nobody can consume this call any more: keep no results, but for errors."""
        self.later(lambda: self._abandon(call, unfinished))

    def _abandon(self, call: Call, unfinished: bool) -> None:
        call.abandon(unfinished)
        self._tidy(call)

    def _drop(self, call: Call) -> None:
        if self.calls.pop(call.number, None) is None:
            return
        self._flying -= call.open - call.left
        if call.left:
            self.remove(call, call.left)
        self._forget(call)
        call.open = call.left = 0
        ring(call.waiters)
        self.pushed()                              # what waited behind it
        self._retract()

    def _tidy(self, call: Union[Call, Submits]) -> None:
        if isinstance(call, Call) and call.is_spent() and self.calls.pop(call.number, None) is not None:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        """Nobody wants this call any more, nor its function; the lock is held."""
        if call.spread is not None or call.open > call.left:
            drop = Drop(self.number, call.number)
            self.streams.drop(drop)
            self.link.send(drop)

    def _retract(self) -> None:
        """Say so if we have nothing to give away any more, lest credit lies idle here; the lock is held."""
        if not self.items and self._said:
            self._told, self._said = False, 0
            self.link.send(Surplus(0))

    def remove(self, entry: Any, items: int = 1) -> None:
        """Take an entry out of the queue, with its last items; the lock is held."""
        self.items -= items
        if self.queue[-1] is entry:                # as a rule, in a worker
            self.queue.pop()
        else:
            self.queue.remove(entry)

    def call_back(self, function: Callable[[Any], Any], future: Any) -> None:
        """Run a callback, in the one thread for them; the lock is held."""
        if self._callbacks is None:
            self._callbacks = Callbacks()
        self._owed += 1
        self._callbacks.add(function, future)
        self._callbacks.add(self.called_back, None)

    def called_back(self, _: object) -> None:
        """A callback has run; in their thread."""
        with self.lock:
            self._pay()

    def _pay(self) -> None:
        """One callback less is owed; the lock is held."""
        self._owed -= 1
        self._paid.come()

    def finish(self) -> None:
        """Wait until everything submitted is done and every callback has run."""
        while True:
            pushes = self._push_count
            for entry in self.unfinished():
                self.wait(partial(self.is_over, entry), (entry,))
            self.hear_quiet()
            if self._callbacks is not None and not self._callbacks.is_here():
                self.wait(lambda: not self._owed, (self._paid,))
            if self._push_count == pushes:         # no callback has submitted more meanwhile
                return

    def unfinished(self) -> List[Any]:
        """The futures and calls that `finish` waits for."""
        with self.lock:
            return [*self.submits.sent.values(), *self.queue, *self.calls.values()]

    def is_over(self, entry: Any) -> bool:
        """Whether a future or call of ours has all its outcomes."""
        return bool(entry.done())

    def hear_quiet(self) -> None:
        """Wait until no task is left anywhere, those that tasks submitted and nobody waits for included."""
        with self._hearing:
            pushes = self._push_count
            if pushes > self._quiet:               # else nothing was submitted since it was quiet
                with self.lock:
                    self._silence.has_come = False
                    self.link.send(Quiet())
                self.sleep(lambda: self._silence.has_come, (self._silence,))
                self._quiet = pushes

    def keep_unread(self, future: Any) -> None:
        """It has ended with an error, which somebody may look at; the lock is held."""
        self.unread[future.serial] = future

    def report(self) -> None:
        """Tell stderr what nobody has looked at: errors, and inputs that were not read to their end."""
        with self.lock:
            self.do_later()
            entries, calls = [future.entry for future in list(self.unread.values())], list(self.calls.values())
        unread = [complaint(entry) for entry in entries if entry is not None]  # daemon threads still look at some
        for text in unread + [text for call in calls for text in complaints(call)]:
            say(text)

    # Blocks out

    def feed(self, keep: int = 0) -> None:
        """Send blocks while there is credit, all but the last few items; the lock is held."""
        while self.items > keep and (self._credit or self._flying < self.window) and not self._in_the_dark():
            block = self.next_block()
            self._credit = max(self._credit - 1, 0)
            self._flying += block.items
            if block.function:
                block = block._replace(function_place=self._offer(self.calls[block.call]))
            self._told = bool(self.items) and (self._told or not self._credit)
            self._said = self.items
            self.link.send(self.streams.fit(block._replace(surplus=self.surplus())))
        if self.items > keep and (not self._told or self.items >= MORE * self._said):
            self._told, self._said = True, self.items
            self.link.send(Surplus(self.surplus()))

    def surplus(self) -> int:
        """How many items the broker may count on; the lock is held."""
        return self.items

    def _offer(self, call: Call) -> bytes:
        """Let whoever runs its items pull its function; its place."""
        if call.spread is None:
            call.spread = self.streams.offer((self.number, call.number, KEPT), call.function)
        return call.spread

    def _in_the_dark(self) -> bool:
        """Some items are out, and none is back to tell how long they take: wait for that, lest a quick function travels
        one item a message; but not for long, lest a slow one waits for its messages."""
        entry = self.queue[0]
        if not isinstance(entry, Call) or not entry.awaits_word(self.workers):
            return False
        if entry.dark is None:
            entry.dark = time.monotonic() + PATIENCE
            self.link.poke()                       # so that the reader thread looks again then
        return time.monotonic() < entry.dark

    def next_block(self) -> Block:
        """The oldest items, as a block; the lock is held and there are some."""
        entry = self.queue[0]
        if isinstance(entry, Call):
            block = entry.cut(self.number, self.workers, self.streams.pickled)
            if not entry.left:
                self.queue.popleft()
        else:
            block = self.submits.cut(self.queue, self.number, self.workers, self.streams.pickled)
        self.items -= block.items
        return block

    # What comes

    def _read(self) -> None:
        """The reader thread."""
        pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        self.surely(self._attend)

    def _attend(self) -> None:
        while True:
            if self.link.attend(self.tick()):
                with self.lock:
                    self._handle()

    def _handle(self) -> None:
        """What has come; the lock is held, so one thread at a time does so, and no signal comes between."""
        for message in self.link.receive():
            self._handlers[type(message)](message)
        self.do_later()

    def surely(self, function: Callable[[], None]) -> None:
        """Do this; at the end of the link, or if it fails, we are cut off: better a dead process than a stuck one."""
        try:
            function()
        except (EOFError, ConnectionError):
            self.cut_off(1)                        # the head is gone, and with it the sense of this process
        except OSError as error:                   # EBADF
            self.cut_off(Status.DEFECT, "microscoop: the way to the launcher is lost (%s): a program must not close "
                                        "what it has not opened, as os.closerange does" % error.strerror)
        except BaseException as error:             # a defect of ours; without this thread nothing would ever end
            show(error, error.__traceback__)
            self.cut_off(Status.DEFECT)

    def cut_off(self, status: int, why: str = "") -> None:
        """Nothing will come any more; in the reader thread, at its end, or in one that listens."""
        if why:
            with self.lock:                        # both may come to this: one of them says it
                say(why)
                os._exit(status)
        os._exit(status)

    def tick(self) -> Optional[float]:
        """What is due now; seconds until it should be looked at again, None: not before something comes."""
        with self.lock:
            self.do_later()
            entry = self.queue[0] if self.queue else None
            if not isinstance(entry, Call) or entry.dark is None:
                return None
            self.feed()
            left = entry.dark - time.monotonic()
            return left if left > 0 else None

    def do_later(self) -> None:
        """What was put off; the lock is held."""
        while self._later:
            self._later.popleft()()

    def _granted(self, message: Credit) -> None:
        self._credit += message.blocks
        self.workers = message.workers
        self._told = False
        self.pushed()
        self._retract()

    def _result(self, message: Result) -> None:
        if not message.size:
            self.settle(message, message.body)
        elif self._call(message.call) is not None:             # else it crossed our Drop, and nothing more will come
            self.pull(message, message.worker)

    def settle(self, message: Result, body: Any, pulled: bool = False) -> None:
        """Outcomes are in: hand them to their call."""
        call = self._call(message.call)
        if call is None:                           # dropped meanwhile
            return
        self._flying -= message.items
        self.streams.withdraw(self.number, message.call, message.first)
        call.arrive(message.first, body, message.items, message.spent, pulled)
        self._tidy(call)
        if self.items:
            self.pushed()

    def _call(self, number: int) -> Union[Call, Submits, None]:
        """That of this number, unless it was dropped."""
        return self.calls.get(number) if number else self.submits

    def _lost(self, message: Lost) -> None:
        """Items are ours again: queue them in front, or give one up that was tried too often."""
        call = self._call(message.call)
        if call is None or not call.wants(message.first):
            return
        self._flying -= message.items
        self.streams.withdraw(self.number, message.call, message.first)
        self.streams.forget((self.number, message.call, message.first))
        error = self._final(message, call)
        if error is None:
            call.back(self.queue, message.first, message.items, message.verdict)
            self.items += message.items
        else:
            for item in range(message.first, message.first + message.items):
                call.arrive(item, (tasks.never_ran(error),), 1, 0)
        self.pushed()

    def _final(self, message: Lost, call: Union[Call, Submits]) -> Optional[Exception]:
        """What items that were lost fail with; None if they are to run again."""
        host, _, cause = bytes(message.body).decode().partition("\n")
        if message.verdict == OVERDUE:
            return TaskTimeout(host, call.label(message.first), self._task_timeout or 0)
        if message.verdict == UNMATCHED:
            return NoMatchingWorker("%d.%d" % sys.version_info[:2])
        if message.verdict == CHARGED:
            attempts = call.charge(message.first)
            if attempts > self._retries:
                return WorkerLost(host, cause, call.label(message.first), attempts)
        return None

    def _tell_leaf(self, message: Remark) -> None:
        leaf = hooks.speaker(message.body)
        if leaf is not None:
            leaf.told(message.body, self)

    # Bodies that are too large for a frame

    def pull(self, message: Any, sender: int) -> None:
        """The body of this message is with its sender: open it, if it lies on this machine, or have it sent."""
        data = opened(message.place, message.size)
        if data is not None:
            self.pulled(message, data)
            return
        with self.lock:
            self.streams.expect(message, sender)

    def _pull(self, message: Pull) -> None:
        for piece in self.streams.due(message):
            self.link.send(piece)

    def _piece(self, message: Piece) -> None:
        whole = self.streams.piece(message)
        if whole is not None:
            self.pulled(*whole)

    def pulled(self, message: Any, data: Any) -> None:
        """A body is here whole; or None, as of `Streams.piece`.  It is opened before its sender may use the memory
        again."""
        if not isinstance(message, Result):        # a leaf's
            message.arrived(self, data)
            return
        try:
            outcomes = None if data is None else tasks.outcomes(data)
        except MemoryError:
            outcomes = None
        if outcomes is None:
            why = MemoryError("there is no memory here for a result of %d bytes" % message.size)
            outcomes = (tasks.never_ran(why),) * message.items
        self.settle(message, outcomes, True)
        self.link.send(Taken(message.worker, self.number, message.call, message.first, message.items))


class Callbacks:
    """The one thread that runs callbacks, in the order in which their futures ended."""

    def __init__(self) -> None:
        from _queue import SimpleQueue  # that of `queue`, which may be a file of the script's
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="microscoop-callbacks", daemon=True)
        self._thread.start()

    def add(self, function: Callable[[Any], Any], future: Any) -> None:
        """Have it run function(future), after what was added before."""
        self._queue.put((function, future))

    def is_here(self) -> bool:
        """Whether the calling thread is that one."""
        return threading.current_thread() is self._thread

    def end(self) -> None:
        """Run what it has, and then no more."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        for function, future in iter(self._queue.get, None):
            try:
                function(future)
            except BaseException as error:         # its own business, as in concurrent.futures: said, not raised
                with suppress(BaseException):      # of the script's excepthook and stderr: the others shall still run
                    say("microscoop: exception calling callback for %r" % (future,))
                    show(error, error.__traceback__)
