"""What a process that submits tasks keeps.  Runs in the origin, and in workers whose tasks submit.

    futures.map/submit -> push -> [queue] -> feed -> Block ->  broker -> a worker runs it
    consumer <- bell <- arrive <- reader thread <- Result <-  broker <-

Who submits owns: the bytes of an item stay here until its outcome is in, so a dead worker loses nothing.  Threads:
whoever submits or waits pickles; the reader thread sends what is pickled, takes in what comes, and never runs code of
the user.  `lock` guards everything here and is never held while user code runs.
"""
from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from select import POLLIN, poll
from socket import socket
from typing import Any, Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import tasks
from .errors import WorkerLost
from .protocol import (
    ALONE,
    CHARGED,
    FREE,
    INLINE,
    WINDOW,
    Block,
    Credit,
    Drop,
    Frames,
    Lost,
    Message,
    Piece,
    Pull,
    Quiet,
    Result,
    Surplus,
    Taken,
    decode,
    encode,
    framed,
)

BLOCK_TIME = 2_000_000     # nanoseconds that a block should last
BLOCK_SIZE = 1 << 20       # bytes that a block of several items may have
PULLS = 2                  # streams that a process takes in at a time


class Link:
    """A process's socket to the broker (or to the agent that passes it on).  Any thread may send, one receives."""

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._frames = Frames()
        self._wake, self._poke = os.pipe()
        os.set_blocking(self._poke, False)
        self._poll = poll()
        self._poll.register(sock.fileno(), POLLIN)
        self._poll.register(self._wake, POLLIN)

    def send(self, *messages: Message) -> None:
        """Send whole messages; blocks while the other side is slow, which never stops reading."""
        data = b"".join([framed(encode(message)) for message in messages])
        with self._sending:
            self._socket.sendall(data)

    def poke(self) -> None:
        """Wake the thread that receives."""
        try:
            os.write(self._poke, b".")
        except BlockingIOError:                    # it has not even read the last ones: it will wake
            return

    def receive(self, seconds: Optional[float]) -> List[Message]:
        """What has come; nothing if time is up or somebody poked.  Raises EOFError when the broker is gone."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        messages: List[Message] = []
        for descriptor, _ in ready:
            if descriptor == self._wake:
                os.read(self._wake, 4096)
            else:
                messages = [decode(frame) for frame in self._frames.read(descriptor)]
        return messages


class Chunk(NamedTuple):
    """Items of a call that were taken from its inputs at one time."""
    first: int
    stop: int
    columns: Sequence[tasks.Column]


class Call:
    """One `map`: its items until their outcomes are in, and the outcomes until somebody takes them."""

    def __init__(self, number: int, function: bytes, chunksize: Optional[int] = None, parent: object = None) -> None:
        self.number, self.function, self.chunksize, self.parent = number, function, chunksize, parent
        self.count = 0                             # items known so far
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
        self._next = 0                             # first item that was never cut
        self._again: Deque[Tuple[int, int, bool]] = deque()     # handed back: first, stop, one by one
        self._spent = self._done = 0.0             # nanoseconds and items, the more recent the weightier
        self._taken = 0
        self._abandoned = False
        self.unread = ""                           # what to tell the user at the end
        self.attempts: Dict[int, int] = {}

    def held(self) -> int:
        """Items whose outcomes nobody has taken yet."""
        return self.count - self._taken

    def ready(self) -> bool:
        """Whether the consumer can take something."""
        return bool(self.outcomes) and (self.wanted is None or self.wanted in self.outcomes)

    def take(self, position: int) -> Sequence[Any]:
        """The outcomes that begin at this item."""
        entries = tasks.outcomes(self.outcomes.pop(position))
        self._taken += len(entries)
        return entries

    def abandon(self, unfinished: bool) -> None:
        """Nobody can consume it: keep no results, but for errors."""
        self._abandoned = True
        if unfinished and not self.begun:
            self.unread = "a map over an input without a length was never read: it ran for %d items" % self.count

    def extend(self, columns: Sequence[tasks.Column]) -> None:
        """More items, which follow those known."""
        count = len(columns[0])
        self._chunks.append(Chunk(self.count, self.count + count, columns))
        self._firsts.append(self.count)
        self._missing[self.count] = count
        self.count += count
        self.open += count
        self.left += count

    def cut(self, number: int, workers: int) -> Optional[Block]:
        """The next block of what is left, about BLOCK_TIME long; no bytes yet if they would be too many at once."""
        if not self.left:
            return None
        if self._again:
            first, stop, alone = self._again.popleft()
        else:
            first, stop, alone = self._next, self.count, False
        chunk = self._chunks[bisect_right(self._firsts, first) - 1]
        count = 1 if alone else self._size(min(stop, chunk.stop) - first, workers)
        columns, count = self._slice(chunk, first - chunk.first, count)
        if first == self._next:
            self._next += count
        elif first + count < stop:
            self._again.appendleft((first + count, stop, alone))
        self.left -= count
        return Block(number, self.number, first, count, int(self.pace() * count / 1000), 0, 0,
                     tasks.body(self.function, columns))

    def pace(self) -> float:
        """Nanoseconds that an item takes; 0: not known yet."""
        return self._spent / self._done if self._done else 0.0

    def _size(self, left: int, workers: int) -> int:
        if self.chunksize:
            return min(left, self.chunksize)
        pace = self.pace()
        return max(1, min(left, int(BLOCK_TIME / pace), self.left // (2 * workers))) if pace else 1

    def _slice(self, chunk: Chunk, start: int, count: int) -> Tuple[List[tasks.Column], int]:
        """So many items of a chunk, or fewer if they are large."""
        while count > 1 and tasks.width(chunk.columns, start, start + count) > BLOCK_SIZE:
            count //= 2
        return [column[start:start + count] for column in chunk.columns], count

    def arrive(self, first: int, outcomes: Any, count: int, spent: int) -> None:
        """Outcomes of items that were cut; bytes or already a sequence."""
        self.open -= count
        if spent:
            self._spent, self._done = self._spent / 2 + spent, self._done / 2 + count
        at = bisect_right(self._firsts, first) - 1
        chunk = self._firsts[at]
        self._missing[chunk] -= count
        if not self._missing[chunk]:
            del self._missing[chunk], self._chunks[at], self._firsts[at]
        if not self._abandoned or any(map(tasks.failed, tasks.outcomes(outcomes))):
            self.outcomes[first] = outcomes
        if not self.open or self.wanted is None or self.wanted in self.outcomes:
            ring(self.waiters)

    def back(self, first: int, count: int, alone: bool) -> None:
        """Items that were cut are in the queue again, before all others."""
        self._again.append((first, first + count, alone))
        self.left += count


def ring(waiters: Iterable[Any]) -> None:
    """Wake those who sleep in `Owner.wait`; under the owner's lock."""
    for bell in waiters:
        if bell.locked():
            bell.release()


class Inflow:
    """A body that is being pulled."""
    __slots__ = ("message", "sender", "data", "got", "asked")

    def __init__(self, message: Union[Block, Result], sender: int) -> None:
        self.message, self.sender = message, sender
        self.data = bytearray(message.size)
        self.got = self.asked = 0


Key = Tuple[int, int, int]                         # owner, call, first item: which stream


class Owner:
    """The state of an owner.  `futures` calls push, wait, drop; the reader thread does the rest."""

    window = 2                                     # items that may be on their way without any credit

    def __init__(self, link: Link, number: int, workers: int, retries: int) -> None:
        self.link, self.number, self.workers, self.retries = link, number, workers, retries
        self.lock = threading.Lock()
        self.calls: Dict[int, Call] = {}
        self.queue: Deque[Any] = deque()           # Futures and Calls with items that were not sent, in order
        self.items = 0                             # how many items those are
        self.sent: Dict[int, Any] = {}             # serial -> Future
        self.unread: Dict[int, Any] = {}           # Futures whose error nobody has looked at yet
        self._callbacks: Optional[Callbacks] = None
        self._credit = 0
        self._told = False                         # the broker knows that we need credit
        self._said = 0                             # the surplus that it knows of
        self._flying = 0                           # items sent, outcomes not in
        self._serial = 0                           # of calls and of futures
        self._paces: Dict[str, float] = {}         # nanoseconds that submitted functions take
        self._silence = threading.Event()
        self._streams: Dict[Key, List[Any]] = {}   # what others may pull: [bytes, offset, puller]
        self._inflows: Dict[Key, Inflow] = {}
        self._handlers: Dict[type, Callable[[Any], None]] = {
            Result: self._result, Lost: self._lost, Credit: self._granted, Pull: self._pull, Piece: self._piece,
            Quiet: lambda message: self._silence.set()}
        self._reader = threading.Thread(target=self._read, name="microscoop-reader", daemon=True)

    def start(self) -> None:
        """Begin to take in what comes."""
        self._reader.start()

    # Called by the user's threads

    def serial(self) -> int:
        """A number for a new Future or Call; never 0."""
        with self.lock:
            self._serial += 1
            return self._serial

    def task(self) -> object:
        """The task that the calling thread runs: the parent of what it submits; None outside of tasks."""
        return None

    def push(self, entry: Any, columns: Sequence[tasks.Column] = ()) -> None:
        """A new future, or a call with these new items."""
        with self.lock:
            if columns:
                self.calls[entry.number] = entry
                if not entry.left:
                    self.queue.append(entry)
                entry.extend(columns)
            else:
                self.queue.append(entry)
            self.items += len(columns[0]) if columns else 1
            self.pushed()

    def pushed(self) -> None:
        """What to do about new items at once; the lock is held."""
        self.feed()

    def wait(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        """Sleep until `ready()`, which only what is watched can make true; False when `timeout` seconds are over."""
        limit = None if timeout is None else time.monotonic() + timeout
        bell = threading.Lock()
        bell.acquire()
        with self.lock:
            if ready():
                return True
            for thing in watched:
                thing.waiters.append(bell)
        try:
            while True:
                left = -1 if limit is None else min(max(limit - time.monotonic(), 0), threading.TIMEOUT_MAX)
                bell.acquire(timeout=left)
                with self.lock:
                    if ready():
                        return True
                if limit is not None and time.monotonic() >= limit:
                    return False
        finally:
            with self.lock:
                for thing in watched:
                    thing.waiters.remove(bell)

    def drop(self, call: Call) -> None:
        """Nobody wants this call any more: what was not begun shall not be."""
        with self.lock:
            if self.calls.pop(call.number, None) is None:
                return
            self.items -= call.left
            self._flying -= call.open - call.left
            if call.left:
                self.queue.remove(call)
            if call.open > call.left:
                self._forget_streams(call.number)
                self.link.send(Drop(self.number, call.number))
            self._retract()

    def _retract(self) -> None:
        """Say so if we have nothing to give away any more, lest credit lies idle here; the lock is held."""
        if not self.items and self._said:
            self._told, self._said = False, 0
            self.link.send(Surplus(0))

    def remove(self, future: Any) -> bool:
        """Take a future out of the queue; False if it has left already.  The lock is held."""
        if future.serial in self.sent or future not in self.queue:
            return False
        self.queue.remove(future)
        self.items -= 1
        return True

    def call_back(self, function: Callable[[Any], Any], future: Any) -> None:
        """Run a callback, in the one thread for them."""
        if self._callbacks is None:
            self._callbacks = Callbacks()
        self._callbacks.add(function, future)

    def finish(self) -> None:
        """Wait until everything submitted is done and every callback has run."""
        while True:
            begun = self._serial
            for future in list(self.sent.values()) + [e for e in self.queue if not isinstance(e, Call)]:
                self.wait(future.done, (future,))
            for call in list(self.calls.values()):
                self.wait(lambda call=call: not call.open, (call,))  # type: ignore[misc]
            self.hear_quiet()
            if self._callbacks is not None:
                self._callbacks.finish()
            if begun == self._serial:              # no callback has submitted more meanwhile
                return

    def hear_quiet(self) -> None:
        """Wait until no task is left anywhere, those that tasks submitted and nobody waits for included."""
        if self._serial:
            self._silence = threading.Event()
            self.link.send(Quiet())
            self._silence.wait()

    def report(self) -> None:
        """Tell stderr what nobody has looked at: errors, and inputs that were not read to their end."""
        entries = [future.entry() for future in self.unread.values()]
        for call in self.calls.values():
            if call.unread:
                print("microscoop: " + call.unread, file=sys.stderr)
            for data in call.outcomes.values():
                entries += filter(tasks.failed, tasks.outcomes(data))
        for _, kind, said, text in entries:
            print("microscoop: nobody looked at this error of a task:\n%s" % (text or kind + ": " + said), file=sys.stderr)

    # Blocks out

    def feed(self, keep: int = 0) -> None:
        """Send blocks while there is credit, all but the last few items; the lock is held."""
        while self.items > keep and (self._credit or self._flying < self.window) and not self._in_the_dark():
            block = self.next_block()
            self._credit = max(self._credit - 1, 0)
            self._flying += block.count
            self._told = bool(self.items) and (self._told or not self._credit)
            if len(block.body) > INLINE:
                self._streams[(self.number, block.call, block.first)] = [block.body, 0, 0]
                block = block._replace(size=len(block.body), body=b"")
            self._said = self.items
            self.link.send(block._replace(surplus=self.items))
        if self.items > keep and not self._told:
            self._told, self._said = True, self.items
            self.link.send(Surplus(self.items))

    def _in_the_dark(self) -> bool:
        """One item for each worker is out, and none is back to tell how long they take: wait for that, lest a quick
        function travels one item a message."""
        entry = self.queue[0]
        return isinstance(entry, Call) and not entry.pace() and entry.open - entry.left >= self.workers

    def next_block(self) -> Block:
        """The oldest items, as a block; the lock is held and there are some."""
        while True:
            entry = self.queue[0]
            block = entry.cut(self.number, self.workers) if isinstance(entry, Call) else self._cut_futures()
            if isinstance(entry, Call) and not entry.left:
                self.queue.popleft()
            if block is not None:
                self.items -= block.count
                return block

    def _cut_futures(self) -> Block:
        """The oldest futures: those of one function that follow each other, about BLOCK_TIME long."""
        first = self.queue.popleft()
        pace = self._paces.get(first.name, 0)
        most = min(int(BLOCK_TIME / pace), len(self.queue) // (2 * self.workers)) if pace and not first.attempts else 1
        batch, size = [first], len(first.task)
        while len(batch) < most and self.queue:
            after = self.queue[0]
            if isinstance(after, Call) or after.serial != batch[-1].serial + 1 or after.name != first.name \
                    or after.attempts or size + len(after.task) > BLOCK_SIZE:
                break
            batch.append(self.queue.popleft())
            size += len(after.task)
        for future in batch:
            future.state = "RUNNING"
            self.sent[future.serial] = future
        return Block(self.number, 0, first.serial, len(batch), int(pace * len(batch) / 1000), 0, 0,
                     tasks.body(tasks.APPLY, [tuple([future.task for future in batch])]))

    # The reader thread

    def _read(self) -> None:
        try:
            while True:
                for message in self.link.receive(self.tick()):
                    self._handlers[type(message)](message)
        except (EOFError, ConnectionError):
            os._exit(1)                            # the head is gone, and with it the sense of this process
        except BaseException:
            sys.excepthook(*sys.exc_info())        # a defect of ours; without this thread nothing would ever end
            os._exit(70)

    def tick(self) -> Optional[float]:
        """What is due now; seconds until it should be looked at again, None: not before something comes."""
        return None

    def _granted(self, message: Credit) -> None:
        with self.lock:
            self._credit += message.blocks
            self.workers = message.workers
            self._told = False
            self.pushed()
            self._retract()

    def _result(self, message: Result) -> None:
        if message.size:
            self.pull(message, message.worker)
            return
        self.settle(message, message.body)

    def settle(self, message: Result, body: Any) -> None:
        """Outcomes are in: hand them to their call, or to the futures whose they are."""
        with self.lock:
            if message.call:
                call = self.calls.get(message.call)
                if call is not None:
                    self._flying -= message.count
                    self._streams.pop((self.number, message.call, message.first), None)
                    call.arrive(message.first, body, message.count, message.spent)
                    if self.items and self._credit:
                        self.pushed()
                return
            self._flying -= message.count
            self._streams.pop((self.number, 0, message.first), None)
            for serial, entry in enumerate(tasks.outcomes(body), message.first):
                future = self.sent.pop(serial, None)
                if future is not None:
                    pace, known = message.spent / message.count, self._paces.get(future.name)
                    self._paces[future.name] = (pace + known) / 2 if known else pace
                    self.conclude(future, entry)

    def conclude(self, future: Any, entry: Any) -> None:
        """A future has its outcome; the lock is held."""
        if tasks.failed(entry):
            self.unread[future.serial] = future
        future.finish(entry)

    def _lost(self, message: Lost) -> None:
        """Items are ours again: queue them in front, or give one up that was tried too often."""
        with self.lock:
            if message.call and message.call not in self.calls:
                return                             # dropped; nobody wants it
            self._flying -= message.count
            self._streams.pop((self.number, message.call, message.first), None)
            self._inflows.pop((self.number, message.call, message.first), None)
            if message.verdict == CHARGED and self._give_up(message):
                return
            if message.call:
                call = self.calls[message.call]
                if call.left:
                    self.queue.remove(call)
                call.back(message.first, message.count, message.verdict != FREE)
                self.queue.appendleft(call)
                self.items += message.count
            else:
                self._futures_back(message)
            self.pushed()

    def _futures_back(self, message: Lost) -> None:
        for serial in range(message.first + message.count - 1, message.first - 1, -1):
            future = self.sent.pop(serial, None)
            if future is not None:
                future.state = "PENDING"
                future.attempts += message.verdict == ALONE
                self.queue.appendleft(future)
                self.items += 1

    def _give_up(self, message: Lost) -> bool:
        """Count an attempt at one item; if it was the last, that is its outcome."""
        call = self.calls.get(message.call)
        future = self.sent.get(message.first)
        if message.call and call is not None:
            attempts = call.attempts[message.first] = call.attempts.get(message.first, 0) + 1
        elif future is not None and not message.call:
            attempts = future.attempts = future.attempts + 1
        else:
            return True                            # nobody wants it
        if attempts <= self.retries:
            return False
        host, _, cause = bytes(message.body).decode().partition("\n")
        error = WorkerLost(host, cause, message.first if message.call else future.name, attempts)
        entry = (pickle.dumps(error, tasks.PROTOCOL), "WorkerLost", str(error), "WorkerLost: %s" % error)
        if message.call and call is not None:
            call.arrive(message.first, (entry,), 1, 0)
        else:
            self.conclude(self.sent.pop(message.first), entry)
        return True

    # Streams: bodies too large for one frame

    def pull(self, message: Union[Block, Result], sender: int) -> None:
        """Take in the body of a message; a few at a time, so that memory is bounded by what was asked for."""
        with self.lock:
            self._inflows[(message.owner, message.call, message.first)] = Inflow(message, sender)
            self._ask()

    def _ask(self) -> None:
        for key, flow in list(self._inflows.items())[:PULLS]:
            if flow.asked < len(flow.data) and flow.asked - flow.got <= WINDOW // 2:
                flow.asked = min(flow.got + WINDOW, len(flow.data))
                self.link.send(Pull(flow.sender, self.number, *key, flow.asked))

    def _piece(self, message: Piece) -> None:
        key = (message.owner, message.call, message.first)
        with self.lock:
            flow = self._inflows.get(key)
            if flow is None:
                return                             # dropped meanwhile
            flow.data[flow.got:flow.got + len(message.body)] = message.body
            flow.got += len(message.body)
            done = flow.got == len(flow.data)
            if done:
                del self._inflows[key]
            self._ask()
        if done:
            self.pulled(flow.message, flow.data)

    def pulled(self, message: Any, data: bytearray) -> None:
        """A body is here whole."""
        self.link.send(Taken(message.worker, self.number, message.call, message.first, message.count))
        self.settle(message, data)

    def _pull(self, message: Pull) -> None:
        key = (message.owner, message.call, message.first)
        with self.lock:
            stream = self._streams.get(key)
            if stream is None:
                return                             # its item is settled or dropped
            data, offset, puller = stream
            if puller != message.by:
                offset = 0
            stream[1:] = message.upto, message.by
        view = memoryview(data)
        while offset < message.upto:
            stop = min(offset + INLINE, message.upto)
            self.link.send(Piece(message.by, *key, bytes(view[offset:stop])))
            offset = stop

    def _forget_streams(self, call: int) -> None:
        for table in (self._streams, self._inflows):
            for key in [key for key in table if key[:2] == (self.number, call)]:
                del table[key]  # type: ignore[attr-defined]


class Callbacks:
    """The one thread that runs callbacks, in the order in which their futures ended."""

    def __init__(self) -> None:
        from queue import SimpleQueue
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="microscoop-callbacks", daemon=True)
        self._thread.start()

    def add(self, function: Callable[[Any], Any], future: Any) -> None:
        self._queue.put((function, future))

    def finish(self) -> None:
        """Wait until it has run what it has."""
        done = threading.Event()
        self._queue.put((lambda _: done.set(), None))
        if threading.current_thread() is not self._thread:
            done.wait()

    def _run(self) -> None:
        while True:
            function, future = self._queue.get()
            try:
                function(future)
            except BaseException:                  # its own business, as in concurrent.futures: said, not raised
                sys.excepthook(*sys.exc_info())
