"""Workers of the simulation: what workers.py does, on a world that is passed in."""
from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple, Union

from microscoop.protocol import DONE, FREED, KEPT, RUNNING, WAITING, Back, Block, Drop, Idle, Message, Result, Taken

from .owner import PATIENCE, Owner, opened
from .tasks import Call, Entry, Future, Plan, Script, Thread
from .world import Violation

TICK = 0.004               # seconds; both as in workers.py
OVERLONG = 3


class Run:
    """A block at work."""
    __slots__ = ("block", "plans", "done", "sent", "since", "began", "home", "stop", "item")

    def __init__(self, block: Block, home: bool, now: float) -> None:
        self.block, self.home = block, home
        self.plans: Tuple[Plan, ...] = opened(block.body)
        self.done: List[Any] = []
        self.sent = 0
        self.since = self.began = now
        self.stop = block.items                    # items that are ours to run
        self.item: Optional[int] = None            # at work

    def rest(self) -> Optional[Tuple[int, int]]:
        """Cut off what was not begun."""
        before, self.stop = self.stop, min(self.stop, len(self.done) + 1)
        return (self.block.first + self.stop, before - self.stop) if before > self.stop else None


class Worker(Owner):
    """An owner that runs tasks."""

    window = 0

    def __init__(self, world: Any, host: Any, number: int) -> None:
        super().__init__(world, host, number)
        self.inbox: Deque[Block] = deque()
        self.received = 0                          # blocks
        self.runs: List[Run] = []
        self.functions: Dict[Tuple[int, int], List[Block]] = {}    # (owner, call) -> the blocks that wait for it
        self.present: Set[Tuple[int, int]] = set()                 # those that are here
        self.idle = False                          # the broker thinks that we have nothing to do
        self.done = False                          # and that nothing of ours sleeps or is out
        self.futures = 0                           # of our own, at work or asleep here
        self.ticking = False
        self._holder: Optional[Thread] = None      # has the turn
        self._waiter: Optional[Thread] = None      # has it, and waits for work
        self._parked: List[Thread] = []
        self._until: Optional[float] = None        # so long the inbox waits for the one that has the turn, if it works
        self._since = 0.0                          # when the queue was filled, or sent on by a tick

    def serve(self) -> None:
        """Begin to work."""
        Thread(self, self._serve)

    def describe(self) -> str:
        return "idle %s, ticking %s, inbox %s, runs %s; %s" % (
            self.idle, self.ticking, [block[:4] for block in self.inbox],
            [(run.block[:4], run.home, len(run.done), run.sent, run.stop) for run in self.runs], super().describe())

    def hear(self, message: Message) -> None:
        super().hear(message)
        self._tick()

    # The turn

    def _serve(self, thread: Thread) -> Script:
        while True:
            work = yield from self._next(thread)
            self._begin(work.block.planned if isinstance(work, Run) else 0)
            if isinstance(work, Run):
                yield from self._work_on(thread, work)
            else:
                yield from self._run(thread, work)

    def _begin(self, planned: int) -> None:
        self._until = self.world.now + max(OVERLONG * planned / 1e6, PATIENCE)

    def _next(self, thread: Thread) -> Script:
        """The next thing for this thread, once it has the turn."""
        while True:
            if self._holder is not thread:
                if self._holder is not None:
                    self._parked.append(thread)
                    yield None
                    self._parked.remove(thread)
                self._holder = self._holder or thread
            elif self.inbox:
                return Run(self.inbox.popleft(), False, self.world.now)
            elif self.queue:
                self._no_longer_idle()
                return self._own(self.queue[-1])
            else:
                if not self.idle:
                    self.idle, self.done = True, self._is_done()
                    self.say(self._at_rest(FREED if self.done else WAITING))
                self._waiter, self._until = thread, None
                yield None

    def _own(self, entry: Entry) -> Union[Run, Future]:
        """Take something of our own out of the queue to run it here."""
        self.world.saw("child run inline")
        if isinstance(entry, Future):
            self.queue.remove(entry)
            self.items -= 1
            self.futures += 1
            entry.state = "RUNNING"
            return entry
        block = entry.cut(self.number, self.workers)
        if not entry.left:
            self.queue.remove(entry)
        self.items -= block.items
        self._count_home(block.items)
        return Run(block, True, self.world.now)

    def _count_home(self, count: int) -> None:
        """What runs at home is out, too, until its outcome is in: a drop will count it."""
        if not self.world.fault("forgets what runs at home"):
            self.flying += count

    def _no_longer_idle(self) -> None:
        if self.idle:
            self.idle = False
            self.say(Idle(RUNNING))

    def _is_done(self) -> bool:
        return not (self.runs or self.futures or self.flying or self.items)

    def _tell_done(self) -> None:
        """The last that slept or was out has ended."""
        if self.idle and not self.done and self._is_done():
            self.done = True
            self.say(self._at_rest(DONE))

    def _at_rest(self, idle: int) -> Idle:
        return Idle(idle, 0 if self.streams.expects(Block) else self.received)

    def _give_turn(self, thread: Thread) -> bool:
        if self._holder is not thread:
            return False
        self._holder = self._until = None
        if self._parked:
            self._parked[0].wake()
        else:
            Thread(self, self._serve)
        return True

    def _take_turn(self, thread: Thread) -> None:
        self._holder = thread
        self._begin(0)
        self._no_longer_idle()
        self._notify()

    def _notify(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    # Waiting

    def wait(self, thread: Thread, entry: Entry, ready: Callable[[], bool], timeout: Optional[float] = None) -> Script:
        """By the rule of waiting."""
        while timeout is None and not ready():
            mine = self._choose(thread.task, entry)
            if mine is None:
                break
            if isinstance(mine, Run):
                yield from self._work_on(thread, mine)
            else:
                yield from self._run(thread, mine)
        if ready():
            return True
        return (yield from self._sleep(thread, entry, ready, timeout))

    def _choose(self, task: object, entry: Entry) -> Union[Run, Future, None]:
        if entry.left if isinstance(entry, Call) else entry.state == "PENDING":
            return self._own(entry)
        child = next((other for other in reversed(self.queue) if other.parent is task), None)
        return None if child is None else self._own(child)

    def _sleep(self, thread: Thread, entry: Entry, ready: Callable[[], bool], timeout: Optional[float]) -> Script:
        mine = self._give_turn(thread)
        for run in self.runs if mine else ():
            self._flush(run)
            self._shrink(run)
        found = yield from super().wait(thread, entry, ready, timeout)
        if mine:
            self._take_turn(thread)
        return found

    # Running

    def _run(self, thread: Thread, future: Future) -> Script:
        before, thread.task = thread.task, future
        outcome = yield from self.perform(thread, future.plan)
        thread.task = before
        future.finish(outcome)
        self.futures -= 1
        self._tell_done()

    def _work_on(self, thread: Thread, run: Run) -> Script:
        before, thread.task = thread.task, run
        if any(plan.by_value for plan in run.plans):
            self.world.saw("block for one Python alone")
            if self.world.where[run.block.owner].minor != self.host.minor:
                raise Violation("%d has another Python than the owner of %s" % (self.number, run.block[:4]))
        self.runs.append(run)
        self._tick()
        yield self.world.moment()
        while len(run.done) < run.stop:
            run.item = run.block.first + len(run.done)
            outcome = yield from self.perform(thread, run.plans[len(run.done)])
            run.done.append(outcome)
        thread.task, run.item = before, None
        self.runs.remove(run)
        self._flush(run)
        self._tell_done()

    def _flush(self, run: Run) -> None:
        """Send what is done."""
        count = len(run.done) - run.sent
        if not count:
            return
        now, first, part = self.world.now, run.block.first + run.sent, tuple(run.done[run.sent:])
        pieces = sum(plan.pieces_out for plan in run.plans[run.sent:len(run.done)])
        run.sent += count
        spent = max(int((now - run.since) * 1e9), 1)
        result = Result(owner=run.block.owner, call=run.block.call, first=first, items=count, spent=spent,
                        worker=self.number, size=0, body=part)  # type: ignore[arg-type]
        run.since = now
        if run.home:
            if run.block.call in self.calls:
                self._count_home(-count)
                self.calls[run.block.call].arrive(first, part, result.spent)
            return
        if run.sent < run.block.items:
            self.world.saw("result in parts")
        if pieces:
            place = self.streams.offer((run.block.owner, run.block.call, first), part, pieces)
            result = result._replace(size=pieces, place=place, body=b"")
        self.say(result)

    # The reader thread

    def _block(self, block: Block) -> None:
        self.received += 1
        self._take_in(block)

    def _take_in(self, block: Block) -> None:
        if not self.idle:
            self.world.saw("block given ahead")
        self.idle = False
        if block.size:
            self.pull(block, block.owner)
        elif block.function and (block.owner, block.call) not in self.present:
            self._wait_for_function(block)
        else:
            self.inbox.append(block)
            self._notify()

    def _wait_for_function(self, block: Block) -> None:
        waiting = self.functions.setdefault((block.owner, block.call), [])
        waiting.append(block)
        if len(waiting) == 1:
            self.pull(block._replace(first=KEPT, size=block.function, place=block.function_place), block.owner)

    def pulled(self, message: Any) -> None:
        if message.first == KEPT:
            self.world.saw("function that came apart")
            self.present.add((message.owner, message.call))
            for block in self.functions.pop((message.owner, message.call)):
                self._take_in(block)
        elif isinstance(message, Block):
            self._take_in(message._replace(size=0))
        else:
            super().pulled(message)

    def _dropped(self, message: Drop) -> None:
        for block in [b for b in self.inbox if b.owner == message.owner and message.call in (0, b.call)]:
            self.inbox.remove(block)
        for run in self.runs:
            if not run.home and run.block.owner == message.owner and message.call in (0, run.block.call):
                self.world.saw("items at work dropped")
                run.rest()
        self.streams.drop(message.owner, message.call)
        for key in [key for key in {*self.functions, *self.present}
                    if key[0] == message.owner and message.call in (0, key[1])]:
            self.functions.pop(key, None)
            self.present.discard(key)
        self.idle = False
        self._notify()

    def _taken(self, message: Taken) -> None:
        self.streams.withdraw((message.owner, message.call, message.first))

    def surplus(self) -> int:
        """Those that have one parent with the oldest."""
        def are_brothers(entry: Entry) -> bool:
            return entry.parent is self.queue[0].parent
        return sum(entry.left if isinstance(entry, Call) else 1 for entry in takewhile(are_brothers, self.queue))

    def pushed(self) -> None:
        """Children are given away against credit, all but one, and what lies here for a tick."""
        self.feed(1)
        if len(self.queue) == 1:
            self._since = self.world.now
        self._begin_ticks()
        if self.idle:
            self._notify()

    def _begin_ticks(self) -> None:
        if not self.ticking:
            self.ticking = True
            self.world.after(self.world.moment(), self._timed_tick)

    def _timed_tick(self) -> None:
        self.ticking = False
        if self.alive:
            self._tick()

    def _tick(self) -> None:
        """Send on what should not wait for the task at work."""
        now = self.world.now
        for run in self.runs:
            if len(run.done) > run.sent and now - run.since > PATIENCE:
                self._flush(run)
            if now - run.began > max(OVERLONG * run.block.planned / 1e6, PATIENCE):
                self._shrink(run)
                if self.world.fault("returns blocks over a sleeper"):
                    self._return_inbox()
        if self._until is not None and now > self._until:
            self._return_inbox()
        self._tell_done()
        if self.queue and now - self._since >= TICK:
            self._since = now
            self.feed()
        if not self.ticking and (self.queue or self.inbox or any(run.stop > 1 for run in self.runs)):
            self.ticking = True
            self.world.after(TICK, self._timed_tick)

    def _shrink(self, run: Run) -> None:
        """Give back the items of a block that were not begun."""
        rest = run.rest()
        if rest is None:
            return
        if not run.home:
            self.say(Back(run.block.owner, run.block.call, *rest))
        elif run.block.call in self.calls:
            call = self.calls[run.block.call]
            if call.left:
                self.queue.remove(call)
            call.back(*rest, True)
            self.queue.appendleft(call)
            self._count_home(-rest[1])
            self.items += rest[1]

    def _return_inbox(self) -> None:
        while self.inbox and not self.idle:
            block = self.inbox.pop()
            self.say(Back(block.owner, block.call, block.first, block.items))

    HANDLERS = {**Owner.HANDLERS, Block: _block, Drop: _dropped, Taken: _taken}
