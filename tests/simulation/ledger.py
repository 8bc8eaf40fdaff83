"""Who must hold each item, by the broker's events and actions; compared with what the broker has, after each event."""
from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, Optional, Tuple

from microscoop.broker import Broker, Event, Heard, HostDown, Process, ProcessDied, Send
from microscoop.protocol import CHARGED, FREE, UNMATCHED, WORKER, Block, Drop, Lost, Result, Taken

from .streams import Key
from .world import Violation

MOST_BACKS = 10            # no process needs to give an item back more often


class Ledger:
    """Who holds each item: 0 for the stock, n for a process, -n once process n has its result as a stream."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._holders: Dict[Key, int] = {}
        self.deaths: Counter[Key] = Counter()      # of processes that held the item
        self.backs: Counter[Tuple[Key, int]] = Counter()       # how often a living one gave it back
        self._handlers: Dict[type, Callable[[int, Any], None]] = {
            Block: self._given, Result: self._answered, Lost: self._lost, Taken: self._taken}

    def before(self, event: Event) -> None:
        """Note what the broker is about to hear."""
        if not isinstance(event, Heard) or event.process not in self._broker.processes:
            return
        message = event.message
        if isinstance(message, Block):
            for key in _keys(event.process, message):
                self._move(key, None, 0, "sent by its owner")
        elif isinstance(message, Drop):
            self._forget(lambda key: key[0] == event.process and message.call in (0, key[1]))  # type: ignore[union-attr]

    def after(self, event: Event, actions: List[Any]) -> None:
        """Note what the broker has decided, and compare."""
        refused = isinstance(event, Heard) and type(event.message) is Result     # with a Taken, if it was a stream
        for action in actions:
            if type(action) is Send and not (refused and type(action.message) is Taken):
                handler = self._handlers.get(type(action.message))
                if handler is not None:
                    handler(action.process, action.message)
        if isinstance(event, (HostDown, ProcessDied)):
            self._forget(lambda key: key[0] not in self._broker.processes)
        self._compare()

    def heard_from_holder(self, event: Event) -> bool:
        """Whether it is a result of one who holds the items."""
        if not isinstance(event, Heard) or type(event.message) is not Result:
            return False
        return all(self._holders.get(key) == event.process for key in _keys(event.message.owner, event.message))

    def holds(self, worker: int, block: Block) -> bool:
        """Whether a worker holds something of a block."""
        return any(self._holders.get(key) == worker for key in _keys(block.owner, block))

    def _forget(self, which: Callable[[Key], bool]) -> None:
        for key in [key for key in self._holders if which(key)]:
            del self._holders[key]

    def _move(self, key: Key, before: Optional[int], after: Optional[int], how: str) -> None:
        if self._holders.get(key) != before:
            raise Violation("item %s is %s, but its holder was %s" % (key, how, self._holders.get(key)))
        if after is None:
            del self._holders[key]
        else:
            self._holders[key] = after

    def _given(self, worker: int, block: Block) -> None:
        for key in _keys(block.owner, block):
            self._move(key, 0, worker, "given to %d" % worker)

    def _answered(self, owner: int, result: Result) -> None:
        for key in _keys(owner, result):
            self._move(key, result.worker, -result.worker if result.size else None, "answered by %d" % result.worker)

    def _taken(self, worker: int, message: Taken) -> None:
        for key in _keys(message.owner, message):
            if self._holders.get(key) == -worker:  # else its result came late, and it may only forget the body
                self._move(key, -worker, None, "taken from %d" % worker)

    def _lost(self, owner: int, message: Lost) -> None:
        for key in _keys(owner, message):
            holder = self._holders.get(key, 0)
            dead = abs(holder) not in self._broker.processes
            if message.verdict == UNMATCHED:
                self._move(key, 0, None, "said to be for no worker")
                crew = self._broker.processes[owner].host.crew
                if crew.workers or self._broker._awaited:
                    raise Violation("there are workers of 3.%d, or may be, but %s" % (crew.minor, message))
                continue
            if not holder or not dead and message.verdict != FREE or message.verdict == CHARGED and message.items > 1:
                raise Violation("%s is told for item %s, which %d holds" % (message, key, holder))
            self.deaths[key] += dead
            self.backs[key, holder] += not dead
            if self.backs[key, holder] > MOST_BACKS:
                raise Violation("item %s is given back again and again" % (key,))
            del self._holders[key]

    def _compare(self) -> None:
        found: Dict[Key, int] = {}
        count = 0
        for process in self._broker.processes.values():
            for block in (block for blocks in process.stock.values() for block in blocks):
                count += block.items
                for item in range(block.first, block.first + block.items):
                    found[block.owner, block.call, item] = 0
            for held in process.held:
                holder = -process.number if held.finished else process.number
                count += held.end - held.first
                for item in range(held.first, held.end):
                    found[held.owner, held.call, item] = holder
        if found != self._holders or count != len(found):
            raise Violation("the broker has %s, it should have %s" % (
                sorted(set(found.items()) - set(self._holders.items())),
                sorted(set(self._holders.items()) - set(found.items()))))


def idle(broker: Broker) -> List[int]:
    """The processes that the broker knows to be idle."""
    return [one.number for crew in broker._crews.values() for _, _, one in crew.idle]


def _keys(owner: int, message: Any) -> List[Key]:
    return [(owner, message.call, item) for item in range(message.first, message.first + message.items)]


def check_counters(broker: Broker) -> None:
    """Raise Violation unless each of the broker's counts and tables agrees with a recount."""
    stocked = granted = spare = 0
    workers = sum(one.kind == WORKER for host in broker.hosts.values() for one in host.processes.values())
    hungry, turns = set(), set()
    for number, process in broker.processes.items():
        spare += process.surplus - bool(process.surplus and process.kind == WORKER)
        if process.surplus:
            granted += process.credit
            if not process.credit:
                hungry.add(number)
        for minor, blocks in process.stock.items():
            stocked += len(blocks)
            turns.add((minor, number))
            if not blocks or {block.minor for block in blocks} != {minor}:
                raise Violation("%d has for minor %d %s" % (number, minor, blocks))
        _check(process)
    sparing = {number for number in hungry
               if broker.processes[number].surplus > (broker.processes[number].kind == WORKER)}
    if broker._sparing.keys() != sparing:
        raise Violation("sparing: kept %s, counted %s" % (list(broker._sparing), sparing))
    kept = (broker._stocked, broker._granted, broker._spare, broker._workers, broker._hungry.keys(),
            {(minor, turn.owner.number) for minor, line in broker._turns.items() for turn in line},
            sum(map(len, broker._turns.values())))
    counted = (stocked, granted, spare, workers, hungry, turns, len(turns))
    if kept != counted:
        raise Violation("stock, granted, spare, workers, hungry, turns: kept %s, counted %s" % (kept, counted))
    starving = {number for number in hungry if not broker.processes[number].stock}
    for crew in broker._crews.values():
        can = {minor for minor, _ in turns} & {0, crew.minor}
        count = sum(one.kind == WORKER for host in broker.hosts.values() if host.crew is crew
                    for one in host.processes.values())
        idle = [one.number for one in broker.processes.values() if one.rest in crew.idle]
        if idle and (can or starving) or not crew.ahead.keys() <= broker.processes.keys() \
                or count != crew.workers or sorted(crew.idle) != crew.idle or len(idle) != len(crew.idle):
            raise Violation("3.%d: idle %s, in stock of %s, hungry %s, ahead %s, workers %d, counted %d" % (
                crew.minor, idle, turns, hungry, list(crew.ahead), crew.workers, count))
    for host in broker.hosts.values():
        if host.missing and not host.deaths and not host.left_out:
            raise Violation("%s lacks %d workers, but thrives" % (host.name, host.missing))
        burden = sum(held.size for process in host.processes.values() for held in process.held)
        if host.burden != burden:
            raise Violation("%s: burden %d, counted %d" % (host.name, host.burden, burden))


def _check(process: Process) -> None:
    if process.credit < 0 or process.surplus < 0:
        raise Violation("%d has credit %d, surplus %d" % (process.number, process.credit, process.surplus))
