"""Tasks, maps and futures of the simulation, and the threads that run them."""
from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, Generator, List, NamedTuple, Optional, Set, Tuple, Union

from microscoop.protocol import Block

from .world import Violation

LEAST_TIME, MOST_TIME, QUICK, AT_FIRST = 0.001, 0.064, 0.0001, 2       # seconds, and blocks, as in calls.py
HEAVY = 4                  # pieces that a block of several items may have

Script = Generator[Optional[float], None, Any]


class Step(NamedTuple):
    """A part of a task: compute for some seconds, or give out tasks and do with them what `how` says."""
    seconds: float = 0.0
    plans: Tuple[Plan, ...] = ()
    how: str = "wait"      # wait; poll: with timeouts; close: after half of them; drop: at once; leave: never look
    calls: bool = True     # by map; else by submit
    function: int = 0      # pieces of the map's function, if that travels apart


class Plan:
    """One task, drawn before the run begins; the same wherever and how often it runs."""
    __slots__ = ("name", "steps", "deadly", "pieces_in", "pieces_out", "by_value")

    def __init__(self, name: str, steps: Tuple[Step, ...], deadly: int = 0, pieces_in: int = 0,
                 pieces_out: int = 0) -> None:
        self.name, self.steps = name, steps
        self.deadly = deadly                       # so many more times it kills its process at its end
        self.by_value = False                      # only workers of its owner's Python can run it
        self.pieces_in, self.pieces_out = pieces_in, pieces_out     # of its arguments and its result; 0: small

    def __repr__(self) -> str:
        return self.name


class Unmatched(NamedTuple):
    """The outcome of an item for which there is no worker of its owner's Python."""
    name: str


class Gone(NamedTuple):
    """The outcome of an item that failed as WorkerLost."""
    name: str


class Call:
    """A map."""

    def __init__(self, number: int, plans: Tuple[Plan, ...], parent: object, function: int = 0) -> None:
        self.number, self.plans, self.parent, self.function = number, plans, parent, function
        self.spread = False                        # its function was offered to others
        self.place: Any = None                     # where that lies
        self.left = self.open = len(plans)
        self.outcomes: Dict[int, Any] = {}
        self.attempts: Dict[int, int] = {}
        self.waiters: List[Thread] = []
        self.pulled: Set[int] = set()              # first items of results that came as a stream, and whole
        self._next = 0
        self._again: Deque[Tuple[int, int, bool]] = deque()
        self._spent = self._done = 0.0
        self.dark: Optional[float] = None          # until then it waits to learn how long its items take

    def awaits_word(self, workers: int) -> bool:
        """Whether enough is out to learn how long an item takes."""
        pace, out = self.pace(), self.open - self.left
        if not pace:
            return out >= workers
        return pace < QUICK and self._done < 2 and out >= AT_FIRST * workers * self._size(self.left, workers)

    def pace(self) -> float:
        """Seconds that an item takes; 0: not known yet."""
        return self._spent / self._done if self._done else 0.0

    def cut(self, owner: int, workers: int) -> Block:
        """The next block."""
        first, stop, alone = self._again.popleft() if self._again else (self._next, len(self.plans), False)
        count = 1 if alone else self._size(stop - first, workers)
        while count > 1 and sum(plan.pieces_in for plan in self.plans[first:first + count]) > HEAVY:
            count //= 2
        if first == self._next:
            self._next += count
        elif first + count < stop:
            self._again.appendleft((first + count, stop, alone))
        self.left -= count
        return Block(owner, self.number, first, count, int(self.pace() * count * 1e6), 0, 0, self.function, 0,
                     body=self.plans[first:first + count])

    def _size(self, left: int, workers: int) -> int:
        pace = self.pace()
        if not pace:
            return 1
        lasts = min(max(self.left * pace / (4 * workers), LEAST_TIME), MOST_TIME)
        return max(1, min(left, int(lasts / pace)))

    def arrive(self, first: int, outcomes: Tuple[Any, ...], spent: int) -> None:
        """Outcomes of items that were cut."""
        self.open -= len(outcomes)
        if spent:
            self._spent, self._done = self._spent / 2 + spent / 1e9, self._done / 2 + len(outcomes)
            self.dark = None
        for item, outcome in enumerate(outcomes, first):
            if item in self.outcomes:
                raise Violation("item %d of call %d was delivered twice" % (item, self.number))
            self.outcomes[item] = outcome
        ring(self.waiters)

    def back(self, first: int, count: int, alone: bool) -> None:
        """Items that were cut are in the queue again."""
        self._again.append((first, first + count, alone))
        self.left += count


class Future:
    """What a submit gives."""

    def __init__(self, serial: int, plan: Plan, parent: object) -> None:
        self.serial, self.plan, self.parent = serial, plan, parent
        self.state = "PENDING"
        self.outcome: Any = None
        self.attempts = 0
        self.waiters: List[Thread] = []

    def finish(self, outcome: Any) -> None:
        """Its outcome is in."""
        if self.state == "FINISHED":
            raise Violation("future %d was delivered twice" % self.serial)
        self.state, self.outcome = "FINISHED", outcome
        ring(self.waiters)


Entry = Union[Call, Future]


class Thread:
    """A thread of a process."""

    def __init__(self, process: Any, body: Callable[[Thread], Script]) -> None:
        self.process = process
        self.task: object = None                   # what it runs: the parent of what that gives out
        self._asleep = True
        self._body = body(self)
        self.wake()

    def wake(self) -> None:
        """Let it go on soon, if it sleeps."""
        if self._asleep:
            self._asleep = False
            self.process.world.after(self.process.world.moment(), self._run)

    def _run(self) -> None:
        if self.process.alive:
            pause = next(self._body, None)
            if pause is not None and self.process.alive:
                self.process.world.after(pause, self._run)
            else:
                self._asleep = True


def ring(waiters: List[Thread]) -> None:
    """Wake those who wait."""
    for thread in waiters:
        thread.wake()
