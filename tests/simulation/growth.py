"""How the cost of the broker grows with the workers: messages and CPU time for each task."""
from __future__ import annotations

import time
from collections import Counter
from typing import Callable, Dict, NamedTuple

from microscoop.broker import Event, Open

from .course import Simulation
from .hosts import HEAD, Host
from .tasks import Plan, Step

ON_A_HOST = 64             # workers


class Cost(NamedTuple):
    """Of one run."""
    tasks: int
    messages: int          # to and from the broker
    seconds: float         # of CPU time in the broker
    span: float            # simulated seconds


class Growth(Simulation):
    """A run without mishaps and without checks, that counts and measures."""

    def __init__(self, workers: int, script: Plan) -> None:
        super().__init__(workers, Counter())
        self.script = script
        self.messages, self.seconds = 0, 0.0
        self.known_workers = workers
        self.tell_hosts(workers)

    def tell_hosts(self, workers: int) -> None:
        """Enough hosts for so many workers, and none on the head."""
        self.expect(0.0, Host(self, HEAD, 0.0001, 0, 8))
        for number, at in enumerate(range(0, workers, ON_A_HOST)):
            self.expect(0.0, Host(self, "h%d" % number, 0.0005, min(ON_A_HOST, workers - at), 8))
        self.after(0.1, self.tell, Open(HEAD))

    def tell(self, event: Event) -> None:
        begin = time.process_time()
        actions = self.broker.handle(event)
        self.seconds += time.process_time() - begin
        self.messages += 1 + len(actions)
        for action in actions:
            self._actions[type(action)](action)

    def finished(self, origin: object) -> None:
        self.over = "done"


def _many(count: int, seconds: float) -> Plan:
    return Plan("script", (Step(plans=tuple(Plan("t", (Step(seconds),)) for _ in range(count))),))


def _nested(parents: int) -> Plan:
    children = Step(plans=tuple(Plan("c", (Step(0.005),)) for _ in range(10)))
    return Plan("script", (Step(plans=tuple(Plan("p", (Step(0.001), children)) for _ in range(parents))),))


KINDS: Dict[str, Callable[[int], Plan]] = {
    "long (50 ms)": lambda workers: _many(workers * 5, 0.05),
    "short (20 us)": lambda workers: _many(workers * 300, 0.00002),
    "nested (1 + 10 x 5 ms)": lambda workers: _nested(workers),
}


def measure(kind: str, workers: int) -> Cost:
    """Run tasks of this kind on so many workers."""
    script = KINDS[kind](workers)
    simulation = Growth(workers, script)
    while not simulation.over:
        simulation.turn()
    plans = script.steps[0].plans
    tasks = sum(1 + len(plan.steps[-1].plans) for plan in plans)
    return Cost(tasks, simulation.messages, simulation.seconds, simulation.now)
