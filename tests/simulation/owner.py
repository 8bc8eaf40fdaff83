"""Owners of the simulation: what owner.py does, on a world that is passed in."""
from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Tuple, Union

from microscoop.protocol import (
    ALONE,
    CHARGED,
    FREE,
    KEPT,
    UNMATCHED,
    Block,
    Credit,
    Drop,
    Lost,
    Message,
    Piece,
    Pull,
    Quiet,
    Result,
    Surplus,
    Taken,
)

from .streams import Streams, View
from .tasks import MOST_TIME, Call, Entry, Future, Gone, Plan, Script, Step, Thread, Unmatched, ring

MORE = 8                   # as in owner.py
PATIENCE = 0.010           # seconds, as in workers.py
SHARES = {"close": 1, "drop": 0}    # halves of a map's results that are looked at before it is closed


class Owner:
    """A process that gives out tasks: the origin as it is, and the larger half of each worker."""

    window = 2

    def __init__(self, world: Any, host: Any, number: int) -> None:
        self.world, self.host, self.number = world, host, number
        self.alive = True
        self.workers, self.retries = world.known_workers, world.retries
        self.calls: Dict[int, Call] = {}
        self.queue: Deque[Entry] = deque()
        self.items = 0
        self.sent: Dict[int, Future] = {}
        self.credit = self.said = self.flying = 0
        self.told = False
        self.streams = Streams(self)
        self._serial = 0
        self._pace = 0.0                           # of futures

    def describe(self) -> str:
        """The state, for a run that failed."""
        return "items %d, credit %d, told %s, said %d, flying %d, queue %s, streams %s, inflows %s" % (
            self.items, self.credit, self.told, self.said, self.flying,
            [(e.number, e.left) if isinstance(e, Call) else e.serial for e in self.queue],
            {key: (flow.pieces, flow.given) for key, flow in self.streams.out.items()},
            {key: (flow.sender, flow.got, flow.asked) for key, flow in self.streams.inward.items()})

    def say(self, message: Message) -> None:
        """Tell the broker, unless we are dead."""
        if self.alive:
            self.host.say(self, message)

    def hear(self, message: Message) -> None:
        """What the reader thread does."""
        self.HANDLERS[type(message)](self, message)

    # Tasks

    def perform(self, thread: Thread, plan: Plan) -> Script:
        """Run one task; gives its outcome."""
        for step in plan.steps:
            if step.plans:
                yield from self._give_out(thread, step)
            else:
                yield step.seconds
        if plan.deadly:
            plan.deadly -= 1
            self.host.kill(self, "of its task")
            yield None
        return plan.name

    def _give_out(self, thread: Thread, step: Step) -> Script:
        if step.calls:
            yield from self._map(thread, step)
            return
        futures = []
        for plan in step.plans:
            self._serial += 1
            futures.append(Future(self._serial, plan, thread.task))
            self.push(futures[-1])
            yield self.world.moment()
        for future in futures if step.how != "leave" else ():
            yield from self._await(thread, future, lambda: future.state == "FINISHED", step.how)  # noqa: B023
            self.world.check_outcome(future.plan, future.outcome)

    def _map(self, thread: Thread, step: Step) -> Script:
        self._serial += 1
        call = Call(self._serial, step.plans, thread.task, step.function)
        self.push(call)
        yield self.world.moment()
        if step.how == "leave":
            return
        for item, plan in enumerate(step.plans[:len(step.plans) * SHARES.get(step.how, 2) // 2]):
            yield from self._await(thread, call, lambda: item in call.outcomes, step.how)  # noqa: B023
            self.world.check_outcome(plan, call.outcomes[item])
        self.drop(call)

    def _await(self, thread: Thread, entry: Entry, ready: Callable[[], bool], how: str) -> Script:
        if how == "poll":
            while not (yield from self.wait(thread, entry, ready, 0.005)):
                yield self.world.moment()
        else:
            yield from self.wait(thread, entry, ready)

    def push(self, entry: Entry) -> None:
        """New items."""
        if isinstance(entry, Call):
            self.calls[entry.number] = entry
        self.queue.append(entry)
        self.items += entry.left if isinstance(entry, Call) else 1
        self.pushed()

    def pushed(self) -> None:
        """What to do about them at once."""
        self.feed()

    def wait(self, thread: Thread, entry: Entry, ready: Callable[[], bool], timeout: Optional[float] = None) -> Script:
        """Sleep until ready; False when time is over."""
        limit = None if timeout is None else self.world.now + timeout
        if timeout is not None:
            self.world.after(timeout, thread.wake)
        entry.waiters.append(thread)
        while not ready() and (limit is None or self.world.now < limit):
            yield None
        entry.waiters.remove(thread)
        return ready()

    def drop(self, call: Call) -> None:
        """Nobody wants this call any more; the reader thread sees to it."""
        self.world.after(self.world.moment(), self._drop, call)

    def _drop(self, call: Call) -> None:
        del self.calls[call.number]
        self.items -= call.left
        self.flying -= call.open - call.left
        if call.left:
            self.queue.remove(call)
        if call.open > call.left:
            self.world.saw("call dropped while items are out")
        if call.open > call.left or call.spread and not self.world.fault("keeps functions"):
            self.streams.drop(self.number, call.number)
            self.say(Drop(self.number, call.number))
        call.open = call.left = 0
        ring(call.waiters)
        self.pushed()
        self._retract()

    def _retract(self) -> None:
        if not self.items and self.said:
            self.said = 0
            self.told = self.told and self.world.fault("stays told")
            self.say(Surplus(0))

    def finish(self, thread: Thread) -> Script:
        """Wait until everything given out is done."""
        for future in [*self.sent.values(), *(e for e in self.queue if isinstance(e, Future))]:
            yield from self.wait(thread, future, lambda: future.state == "FINISHED")  # noqa: B023
        for call in list(self.calls.values()):
            yield from self.wait(thread, call, lambda: not call.open)  # noqa: B023

    # Blocks out

    def feed(self, keep: int = 0) -> None:
        """Send blocks while there is credit, all but the last few items."""
        while self.alive and self.items > keep and self._may_send():
            block = self._next_block()
            self.credit = max(self.credit - 1, 0)
            self.flying += block.items
            self.told = (bool(self.items) or self.world.fault("stays told")) and (self.told or not self.credit)
            self.said = self.items
            if block.function:
                block = block._replace(function_place=self._offer(self.calls[block.call], block.function))
            pieces = sum(plan.pieces_in for plan in block.body)  # type: ignore[attr-defined]
            if any(plan.by_value for plan in block.body):  # type: ignore[attr-defined]
                block = block._replace(minor=self.host.minor)
            if pieces:
                place = self.streams.offer((self.number, block.call, block.first), block.body, pieces)
                block = block._replace(size=pieces, place=place, body=b"")
            self.say(block._replace(surplus=self.surplus()))
        if self.items > keep and (not self.told or self.items >= MORE * self.said):
            self.told, self.said = True, self.items
            self.say(Surplus(self.surplus()))

    def surplus(self) -> int:
        """How many items the broker may count on."""
        return self.items

    def _offer(self, call: Call, pieces: int) -> Any:
        if not call.spread:
            call.spread = True
            call.place = self.streams.offer((self.number, call.number, KEPT), "function", pieces)
        return call.place

    def _may_send(self) -> bool:
        return bool(self.credit or self.flying < self.window) and not self._in_the_dark()

    def _in_the_dark(self) -> bool:
        """One item for each worker is out, and none is back: wait for that, but not for long."""
        entry = self.queue[0]
        if not isinstance(entry, Call) or not entry.awaits_word(self.workers):
            return False
        if entry.dark is None:
            entry.dark = self.world.now + PATIENCE
            if not self.world.fault("waits in the dark"):
                self.world.after(PATIENCE, self._look_again)
        return self.world.now < entry.dark or self.world.fault("waits in the dark")

    def _look_again(self) -> None:
        if self.alive:
            self.pushed()

    def _next_block(self) -> Block:
        entry = self.queue[0]
        if isinstance(entry, Call):
            block = entry.cut(self.number, self.workers)
            if not entry.left:
                self.queue.popleft()
        else:
            block = self._cut_futures()
        self.items -= block.items
        return block

    def _cut_futures(self) -> Block:
        first = self.queue.popleft()
        assert isinstance(first, Future)
        most = 1
        if self._pace and not first.attempts and not first.plan.pieces_in:
            most = min(int(MOST_TIME / self._pace), len(self.queue) // (2 * self.workers))
        batch = [first]
        while len(batch) < most and self._follows(batch[-1]):
            batch.append(self.queue.popleft())  # type: ignore[arg-type]
        for future in batch:
            future.state = "RUNNING"
            self.sent[future.serial] = future
        return Block(self.number, 0, first.serial, len(batch), int(self._pace * len(batch) * 1e6), 0, 0, 0, 0,
                     body=tuple(future.plan for future in batch))

    def _follows(self, last: Future) -> bool:
        after = self.queue[0] if self.queue else None
        return isinstance(after, Future) and after.serial == last.serial + 1 and not after.attempts \
            and not after.plan.pieces_in

    # The reader thread

    def _granted(self, message: Credit) -> None:
        self.credit += message.blocks
        self.workers = message.workers
        self.told = False
        self.pushed()
        self._retract()

    def _result(self, message: Result) -> None:
        if not message.size:
            self._settle(message)
        elif not message.call or message.call in self.calls or self.world.fault("pulls what was dropped"):
            self.pull(message, message.worker)

    def _settle(self, message: Result) -> None:
        outcomes: Tuple[Any, ...] = opened(message.body)
        self.streams.withdraw((self.number, message.call, message.first))
        call = self.calls.get(message.call)
        if call is not None:
            self.flying -= message.items
            call.arrive(message.first, outcomes, message.spent)
        elif message.call:
            return
        else:
            self.flying -= message.items
            pace = message.spent / 1e9 / message.items
            self._pace = (self._pace + pace) / 2 if self._pace else pace
            for serial, outcome in enumerate(outcomes, message.first):
                self.sent.pop(serial).finish(outcome)
        if self.items:
            self.pushed()

    def _lost(self, message: Lost) -> None:
        call = self.calls.get(message.call)
        if message.call and call is None or self._was_settled(message, call):
            return
        self.flying -= message.items
        if message.verdict == UNMATCHED:
            self._leave_unmatched(message, call)
            return
        self.streams.withdraw((self.number, message.call, message.first))
        self.streams.forget([(self.number, message.call, message.first)])
        if message.verdict == CHARGED and self._give_up(message, call):
            if not self.world.fault("waits in the dark"):
                self.pushed()
            return
        if call is not None:
            if call.left:
                self.queue.remove(call)
            call.back(message.first, message.items, message.verdict != FREE)
            self.queue.appendleft(call)
            self.items += message.items
        else:
            self._futures_back(message)
        self.pushed()

    def _leave_unmatched(self, message: Lost, call: Optional[Call]) -> None:
        self.streams.withdraw((self.number, message.call, message.first))
        for item in range(message.first, message.first + message.items):
            if call is not None:
                call.arrive(item, (Unmatched(call.plans[item].name),), 0)
            else:
                future = self.sent.pop(item)
                future.finish(Unmatched(future.plan.name))
        self.pushed()

    def _was_settled(self, message: Lost, call: Optional[Call]) -> bool:
        """Its result was pulled whole, and then its sender died before the broker had our Taken."""
        if call is None:
            settled = message.first not in self.sent
        else:
            settled = message.first in call.pulled and not self.world.fault("believes a late Lost")
        if settled:
            self.world.saw("sender died after its stream was whole")
        return settled

    def _futures_back(self, message: Lost) -> None:
        for serial in range(message.first + message.items - 1, message.first - 1, -1):
            future = self.sent.pop(serial)
            future.state = "PENDING"
            future.attempts += message.verdict == ALONE
            self.queue.appendleft(future)
            self.items += 1

    def _give_up(self, message: Lost, call: Optional[Call]) -> bool:
        """Count an attempt at one item; if it was the last, that is its outcome."""
        if call is not None:
            attempts = call.attempts[message.first] = call.attempts.get(message.first, 0) + 1
            plan = call.plans[message.first]
        else:
            future = self.sent[message.first]
            attempts = future.attempts = future.attempts + 1
            plan = future.plan
        if attempts <= self.retries:
            return False
        self.world.check_attempts((self.number, message.call, message.first), attempts)
        if call is not None:
            call.arrive(message.first, (Gone(plan.name),), 0)
        else:
            self.sent.pop(message.first).finish(Gone(plan.name))
        return True

    # Streams

    def pull(self, message: Union[Block, Result], sender: int) -> None:
        """Take in the body of a message."""
        view = self.streams.open(message.place)
        if view is not None:
            self.pulled(message._replace(body=view))
        else:
            self.streams.expect(message, sender)

    def _piece(self, message: Piece) -> None:
        whole = self.streams.piece(message)
        if whole is not None:
            self.pulled(whole)

    def pulled(self, message: Any) -> None:
        """A body is here whole."""
        if message.call in self.calls:
            self.calls[message.call].pulled.add(message.first)
        self._settle(message)
        self.say(Taken(message.worker, self.number, message.call, message.first, message.items))

    def _pull(self, message: Pull) -> None:
        self.streams.answer(message)

    HANDLERS: Dict[type, Callable[[Any, Any], None]] = {
        Result: _result, Lost: _lost, Credit: _granted, Pull: _pull, Piece: _piece}


def opened(body: Any) -> Any:
    """A body, wherever it lies."""
    return body.open() if isinstance(body, View) else body


class Origin(Owner):
    """The process that runs the script."""

    def __init__(self, world: Any, host: Any, number: int) -> None:
        super().__init__(world, host, number)
        self._thread = Thread(self, self._script)
        self._quiet = False

    def _script(self, thread: Thread) -> Script:
        yield from self.perform(thread, self.world.script)
        yield from self.finish(thread)
        self.say(Quiet())
        while not self._quiet:
            yield None
        self.world.finished(self)

    def _silence(self, message: Quiet) -> None:
        self._quiet = True
        self._thread.wake()

    HANDLERS = {**Owner.HANDLERS, Quiet: _silence}
