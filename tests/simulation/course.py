"""One run of the simulation: the broker, the hosts around it, and what is checked after each event."""
from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, Tuple, Type

from microscoop.broker import (
    Awaited,
    Broker,
    Event,
    Heard,
    HostDown,
    HostUp,
    LeaveOut,
    Over,
    ProcessDied,
    Send,
    Start,
)
from microscoop.protocol import Back, Credit, Drop, Lost, Message, Result, Surplus, Taken

from .hosts import HEAD, Host
from .ledger import Ledger, check_counters, idle
from .owner import Owner
from .streams import Key
from .tasks import Gone, Plan, Unmatched
from .world import Violation, World

MOST_STEPS = 200_000       # no run needs more: to look every 5 ms takes four a time
DAY = 600.0                # simulated seconds; no run needs more
RARE = {Back: 8, Credit: 8, Drop: 8, Lost: 8, Surplus: 8, Taken: 50}     # so much rather one dies then


class Simulation(World):
    """One run."""

    def __init__(self, seed: int, counts: Counter[str], faults: Tuple[str, ...] = (), broker: Type[Broker] = Broker,
                 tracing: bool = False) -> None:
        super().__init__(seed)
        self.seed, self.counts, self._faults, self._tracing = seed, counts, faults, tracing
        self.broker = broker()
        self.ledger = Ledger(self.broker)
        self.hosts: Dict[str, Host] = {}
        self.where: Dict[int, Host] = {}
        self.over = ""
        self.steps = 0
        self.known_workers = 1
        self.retries = self.pulls = 2
        self.script = Plan("script", ())
        self.perils, self.risk = 0, 0.0            # so many deaths while something is said or heard, so often
        self._coming = 0                           # hosts that will be up
        self._left_out: List[Host] = []
        self._actions: Dict[type, Callable[[Any], None]] = {
            Send: self._send, Start: self._start, LeaveOut: self._leave_out, Over: self._end}

    # What the model needs

    def saw(self, event: str) -> None:
        """Count a kind of event."""
        self.counts[event] += 1

    def fault(self, name: str) -> bool:
        """Whether owners and workers shall have this fault."""
        return name in self._faults

    def trace(self, arrow: str, number: int, what: object) -> None:
        """Print what happens, if asked to."""
        if self._tracing:
            print("%9.3f ms %s%d %s" % (self.now * 1000, arrow, number, what))

    def peril(self, process: Owner, message: Message) -> bool:
        """Whether a worker dies at this moment; rather so when the message is a rare one."""
        if self.perils and process.window == 0 and self.chance(self.risk * RARE.get(type(message), 1)):
            self.perils -= 1
            return True
        return False

    def check_outcome(self, plan: Plan, outcome: object) -> None:
        """Raise Violation unless this may be what its owner sees."""
        if isinstance(outcome, (Gone, Unmatched)):
            self.saw("item failed by name" if isinstance(outcome, Gone) else "item failed for want of its Python")
            outcome = outcome.name
        if outcome != plan.name:
            raise Violation("%s gave %s" % (plan, outcome))

    def check_attempts(self, key: Key, attempts: int) -> None:
        """Raise Violation unless so many holders of the item died."""
        if attempts > self.ledger.deaths[key]:
            raise Violation("%s is given up after %d attempts; its holders died %d times" % (
                key, attempts, self.ledger.deaths[key]))

    def finished(self, origin: Owner) -> None:
        """The script is done, and so should be everything."""
        for number in self.broker.processes:
            process = self.where[number].processes[number]
            runs = getattr(process, "runs", [])
            dropped = any(not run.home and not self.ledger.holds(number, run.block) for run in runs)
            if process.alive and not dropped and (process.queue or process.flying or runs):
                raise Violation("the script may end, but %d has work: %s" % (number, process.describe()))
        if any(p.held or p.stock for p in self.broker.processes.values()):
            raise Violation("the script may end, but the broker has work")
        self.hosts[HEAD].kill(origin, "when its script was done")
        self.over = "done"

    # Between model and broker

    def tell(self, event: Event) -> None:
        """Let the broker handle an event, check it, and carry out its actions."""
        self.steps += 1
        if self._tracing:
            self.trace("   ", 0, event)
        late, held = self.broker.late, self.ledger.heard_from_holder(event)
        self.ledger.before(event)
        actions = self.broker.handle(event)
        self.ledger.after(event, actions)
        check_counters(self.broker)
        if bool(self._coming) != bool(self.broker._awaited):
            raise Violation("%d hosts will come, but %s are awaited" % (self._coming, self.broker._awaited))
        if held and not any(type(a) is Send and type(a.message) is Result for a in actions):
            raise Violation("%s was not passed on" % (event,))
        if self.broker.late > late:
            self.saw("late result or Back")
        for action in actions:
            self._actions[type(action)](action)
        if self.flying == 0:
            self._check_starving()
        if type(event) in (ProcessDied, HostDown):
            self._check_workers()

    def hear(self, host: Host, number: int, message: Message) -> None:
        """A process of a host has said something."""
        self.trace(" ->", number, message)
        if host.given_up:
            self.saw("frame from a host that was given up")
        self.tell(Heard(number, message))

    def _send(self, action: Send) -> None:
        if action.process not in self.broker.processes:
            raise Violation("%s goes to a process that is dead" % (action,))
        self.where[action.process].deliver(action.process, action.message)

    def _start(self, action: Start) -> None:
        self.where[action.process] = self.hosts[action.host]
        self.hosts[action.host].start(action.process, action.kind)

    def _leave_out(self, action: LeaveOut) -> None:
        self.saw("host left out")
        if self.hosts[action.host] in self._left_out:
            raise Violation("%s is left out again" % action.host)
        self._left_out.append(self.hosts[action.host])

    def _end(self, action: Over) -> None:
        self.over = self.over or "the origin died"

    def _check_workers(self) -> None:
        if not self.broker.workers() and not self._coming and not self.over:
            self.saw("no worker left")
            self.over = "no worker is left"

    def _check_starving(self) -> None:
        """With nothing on its way, whoever is idle is known to be, and whoever needs credit is known to."""
        for number in self.broker.processes:
            model = self.where[number].processes[number]
            if not model.alive:
                continue
            if getattr(model, "idle", False) and number not in idle(self.broker):
                raise Violation("%d is idle, but the broker does not know" % number)
            for owner, call in getattr(model, "present", ()):
                if owner not in self.broker.processes or call not in self.where[owner].processes[owner].calls:
                    raise Violation("%d keeps a function of %d that nobody wants" % (number, owner))
            if model.flying < 0:
                raise Violation("%d counts its items wrong: %s" % (number, model.describe()))
            stocked = self.broker.processes[number].stock
            if idle(self.broker) and model.items and not model.credit and model.told and not stocked:
                raise Violation("%d starves: %s" % (number, model.describe()))

    # Hosts come and go

    def join(self, host: Host) -> None:
        """A host is ready."""
        self._coming -= 1
        self.hosts[host.name] = host
        self.tell(HostUp(host.name, host.workers, host.trip, host.minor))

    def expect(self, seconds: float, host: Host) -> None:
        """A host will be ready then."""
        self._coming += 1
        self.tell(Awaited(host.name))
        self.after(seconds, self.join, host)

    def lost(self, host: Host) -> None:
        """A host is given up; it may come again."""
        if self.chance(0.7):
            self.expect(0.02 + 0.1 * self.dice.random(), Host(self, host.name, host.trip, host.workers, host.minor))
            self.saw("host lost and expected again")
        self.tell(HostDown(host.name, "lost"))

    # The whole

    def run(self) -> None:
        """Until it is over.  Raises Violation."""
        while not self.over:
            if not self.turn():
                raise Violation("stuck: nothing will ever happen")
            if self.steps > MOST_STEPS or self.now > DAY:
                raise Violation("it does not end")
        self.saw("run: " + self.over)

    def describe(self) -> str:
        """The whole state."""
        lines = ["seed %d, %.3f ms, %d steps, %d messages on their way, retries %d" % (
            self.seed, self.now * 1000, self.steps, self.flying, self.retries)]
        broker = self.broker
        lines.append("broker: stock %d, granted %d, hungry %s, idle %s, ahead %s" % (
            broker._stocked, broker._granted, list(broker._hungry), idle(broker),
            [list(crew.ahead) for crew in broker._crews.values()]))
        for number, process in broker.processes.items():
            host = self.where[number]
            lines.append("%d on %s: credit %d, surplus %d, load %d, stock %s, held %s" % (
                number, host.name, process.credit, process.surplus, process.load(),
                [(minor, block[:5]) for minor, blocks in process.stock.items() for block in blocks],
                [(held.owner, held.call, held.first, held.end, held.finished) for held in process.held]))
            lines.append("    %s: %s" % (
                "alive" if host.processes[number].alive else "dead", host.processes[number].describe()))
        return "\n".join(lines)
