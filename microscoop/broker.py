"""The broker: which process runs what.  Runs in the launcher; pure: no I/O, no clock, no random number.

    owner   --Surplus-->  broker                  I have items, and no credit; or many more than I said
    owner  <--Credit----  broker                  the stock is low, or somebody idle: send so many blocks
    owner   --Block---->  broker  --Block-->  worker      waits in the stock in between
    owner  <--Result----  broker  <--Result-- worker      in order, front to back, perhaps in several parts
    owner  <--Lost------  broker  <--Back---- worker      not begun, or the worker died: yours again

`handle(event)` takes what has happened and gives the actions to carry out.  For each block the broker knows who
owns it and who holds it; for each item it knows nothing.

An owner cuts its blocks in threads that also compute, so it may be slow to answer; hence the *stock*: a few blocks for
each worker, so that whoever says Idle gets one at once.  It is not larger, because a block that has been cut cannot
adapt any more when items turn out slow or workers join.  What tasks submit is held back still more.  Their own worker
can run it without any message, and gives the oldest away first: of a tree those are halves and quarters, which are
worth a message, but soon they are leaves.  So workers tell only of those that have one parent with the oldest, and the
last of these is asked for when somebody is idle.  Unless a host is far: over a long way that comes too late.

A *credit* is the right to send one block; an owner with items but no credit is *hungry*.  Owners take turns, for credit
and out of the stock, so that a long map does not hold up a short one; for credit those go first that have nothing in
the stock.

To a worker at the end of a long way a block is given *ahead*, while it is busy with the one before: it would have
nothing to do for a round trip otherwise.  Only what nobody else will soon be idle for goes ahead, and nothing that
lasts: that is for whoever is idle first.  A worker whose task waits goes on holding that task's block, but is idle as
any other, since it can run something else meanwhile.

What the broker promises, after every event (the simulation in tests/ checks it):

  * A block that an owner has sent is in the stock, or held by one living process, or has been answered to the owner
    by Results and Losts that cover each of its items once.
  * A result counts only if its sender holds the items.  Nobody holds what a dead process held, and a process number is
    never used again, so a late result finds no holder.
  * Blocks of a dead owner are nowhere.
  * While a process is idle and an owner has items, a block, a credit or a surplus notice is on its way; unless blocks
    of that owner wait in the stock for workers of another Python.
  * A block that needs a certain Python goes only there.  It waits while there may be such a worker some day; else its
    items are answered by a Lost that says so.
"""
from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from typing import Any, Callable, DefaultDict, Deque, Dict, List, Optional, Set, Tuple, Type, Union

from . import protocol
from .protocol import ALONE, CHARGED, DONE, FREE, FREED, ORIGIN, RUNNING, UNMATCHED, WAITING, WORKER, Begun
from .record import Record

STOCK = 4                  # blocks for each worker that the stock holds at most; with 1 or 2 they wait for owners
FAR = 2_000                # microseconds there and back: over such a way what the idle need must be on its way before
BAD_STARTS = 5             # so many deaths in a row without a finished task: the host is left out
AHEAD = 10                 # a block is given ahead only if it lasts less than so many round trips;
LONG = 80_000              # one of several items also if it lasts less than so many microseconds: that is the usual one
PIPE = 4 << 20             # and if fewer bytes are on their way to its host and back: ssh carries 2 MiB at most in one
                           # round trip, and a body that is pulled takes two


# What happens --------------------------------------------------------------------------------------------------------

class HostUp(Record):
    """An agent can fork so many workers, and before them the origin if it is time for that."""
    host: str
    workers: int
    round_trip: float      # seconds, until it is Measured
    minor: int = 0         # of its Python 3
    origin: bool = False


class Measured(Record):
    """The way to a host and back takes so long."""
    host: str
    round_trip: float      # seconds


class Awaited(Record):
    """A host is on its way, and HostUp may follow; or it is so no longer."""
    host: str
    awaited: bool = True


class Open(Record):
    """Enough hosts are up: let the script begin, on this one."""
    host: str


class HostDown(Record):
    """An agent is gone, and with it every process of the host."""
    host: str
    why: str


class ProcessUp(Record):
    """A process can be talked to."""
    process: int


class Heard(Record):
    """A process has said something."""
    process: int
    message: protocol.Message


class ProcessDied(Record):
    """A process has ended; `begun`: what it was on, None if nobody knows."""
    process: int
    why: str
    begun: Optional[Tuple[Begun, ...]]
    verdict: int = CHARGED         # on those


Event = Union[HostUp, Measured, Awaited, Open, HostDown, ProcessUp, Heard, ProcessDied]


# What is to be done --------------------------------------------------------------------------------------------------

class Send(Record):
    """Give a process this message."""
    process: int
    message: protocol.Message


class Start(Record):
    """Have this host fork a process."""
    host: str
    process: int
    kind: int


class LeaveOut(Record):
    """Use this host no more: its workers do not live."""
    host: str
    why: str


class Over(Record):
    """The origin has ended."""
    why: str


Action = Union[Send, Start, LeaveOut, Over]


# What is known -------------------------------------------------------------------------------------------------------

class Held:
    """Items that a process holds: those of one block whose results have not come."""
    __slots__ = ("owner", "call", "first", "end", "planned", "size", "finished")

    def __init__(self, block: protocol.Block) -> None:
        self.owner, self.call, self.first = block.owner, block.call, block.first
        self.end = block.first + block.items
        self.planned = block.planned                # microseconds; 0 once it keeps nobody busy: finished, or suspended
        self.size = 0              # bytes on their way to or from another host for it
        self.finished = False      # its result is a stream that the owner pulls

    def awaits(self, first: int, items: int) -> bool:
        """Whether these are the next items whose outcomes are to come."""
        return not self.finished and self.first == first and 0 < items <= self.end - first


class Process:
    """A worker or the origin, as the broker sees it."""
    __slots__ = ("number", "host", "kind", "held", "given", "credit", "surplus", "stock", "spread", "pace", "rest")

    def __init__(self, number: int, host: Host, kind: int) -> None:
        self.number, self.host, self.kind = number, host, kind
        self.held: List[Held] = []
        self.given = 0             # blocks, so far
        self.credit = 0
        self.surplus = 0
        self.stock: Dict[int, Deque[protocol.Block]] = {}    # by the minor that they need
        self.pace = (0, 0, 0)      # (call, nanoseconds, bytes) of its items, as told by its last result
        self.spread: Dict[int, Set[int]] = {}       # call -> the workers that were given its function
        self.rest: Optional[Rest] = None            # it said Idle, and was given nothing since

    def load(self) -> int:
        """Microseconds that what it holds should take."""
        return sum(held.planned for held in self.held)

    def weigh(self, held: Held, size: int) -> None:
        """So many bytes are on their way for what it holds there."""
        self.host.burden += size - held.size
        held.size = size

    def release(self, held: Held) -> None:
        """It holds these items no longer."""
        self.weigh(held, 0)
        self.held.remove(held)

    def find(self, owner: int, call: int, first: int) -> Optional[Held]:
        """The holding that item belongs to."""
        for held in self.held:
            if held.owner == owner and held.call == call and held.first <= first < held.end:
                return held
        return None


class Rest(Record):
    """Whose turn it is to be given work: the nearest's, since a far one answers later; of those the one's that has been
    idle longest, lest one does all while the next block takes its owner long to make."""
    round_trip: int            # microseconds
    number: int
    process: Process


class Crew:
    """The workers of all hosts that have one minor version of Python."""
    __slots__ = ("minor", "workers", "idle", "ahead")

    def __init__(self, minor: int) -> None:
        self.minor = minor
        self.workers = 0           # that are up or are being started
        self.idle: List[Rest] = []                 # in the order in which they are given work
        self.ahead: Dict[int, Process] = {}        # busy, but could be given the next block already

    def lay(self, process: Process, number: int) -> None:
        """It is idle."""
        if process.rest is None:
            process.rest = Rest(process.host.round_trip, number, process)
            insort(self.idle, process.rest)

    def rouse(self, process: Process) -> None:
        """It is idle no longer, if it was."""
        if process.rest is not None:
            del self.idle[bisect_left(self.idle, process.rest)]
            process.rest = None


class Host:
    """A machine, and how its workers fare."""
    __slots__ = ("name", "crew", "round_trip", "processes", "worked", "deaths", "missing", "left_out", "burden")

    def __init__(self, name: str, round_trip: float, crew: Crew) -> None:
        self.name, self.crew = name, crew
        self.round_trip = int(round_trip * 1e6)     # microseconds
        self.processes: Dict[int, Process] = {}
        self.worked = False        # the last task that ended there was finished
        self.deaths = 0            # in a row, without a finished task
        self.missing = 0           # dead workers that were not replaced because of that
        self.left_out = False
        self.burden = 0            # bytes on their way there or back: the sum over what its workers hold

    def has_workers(self) -> bool:
        """Whether one is up or is being started."""
        return any(process.kind == WORKER for process in self.processes.values())


class Turn(Record):
    """An owner in line; of two lines the one goes first whose foremost has the lower number."""
    number: int
    owner: Process


class Broker:
    """The state and all its transitions."""

    def __init__(self) -> None:
        self.hosts: Dict[str, Host] = {}
        self.processes: Dict[int, Process] = {}     # that are up
        self._starting: Dict[int, Process] = {}
        self.late = 0                               # Results and Backs that nobody waits for; tests look at it
        self._workers = 0                           # that are up or are being started
        self._crews: Dict[int, Crew] = {}           # by minor
        self._awaited: Set[str] = set()             # hosts that may come
        self._next = 1
        self._stocked = 0                           # blocks
        self._granted = 0                           # credits of owners with a surplus
        self._spare = 0                             # blocks that owners can give away while nobody is idle
        self._far = False                           # a host is: they give away what they have
        self._turns: DefaultDict[int, Deque[Turn]] = defaultdict(deque)     # owners in the stock, by what minor
        self._turn = 0                              # the number of the last one
        self._rests = 0                             # how often a worker was idle
        self._hungry: Dict[int, Process] = {}       # owners with a surplus and no credit, in turn
        self._sparing: Dict[int, Process] = {}      # those of them that can spare something
        self._busy: Set[int] = set()                # where tasks may be at work, asleep or given out
        self._listening: Optional[Process] = None   # the origin, once it has said Quiet
        self._actions: List[Action] = []

    def handle(self, event: Event) -> List[Action]:
        """Take in one event, then do what it has made possible: work for the idle, credit for the hungry."""
        _EVENTS[type(event)](self, event)
        self._give()
        if self._stocked and not self._awaited:
            self._give_up()
        self._grant()
        if self._listening is not None:
            self._tell_quiet(self._listening)
        actions, self._actions = self._actions, []
        return actions

    def is_busy(self) -> bool:
        """Whether tasks are in the stock, given out, at work or asleep."""
        return bool(self._stocked or self._busy)

    def is_calm(self) -> bool:
        """Whether at most one process has tasks."""
        return len(self._busy) <= 1

    def workers(self) -> int:
        """Workers that are up or are being started."""
        return self._workers

    # Hosts and processes

    def _host_up(self, event: HostUp) -> None:
        self._host_down(HostDown(event.host, "another agent has come in its place"))
        self._awaited.discard(event.host)
        crew = self._crews.setdefault(event.minor, Crew(event.minor))
        host = self.hosts[event.host] = Host(event.host, event.round_trip, crew)
        self._look_far()
        if event.origin:
            self._start(host, ORIGIN)
        for _ in range(event.workers):
            self._start(host, WORKER)

    def _measured(self, event: Measured) -> None:
        if event.host in self.hosts:
            host = self.hosts[event.host]
            host.round_trip = int(event.round_trip * 1e6)
            self._look_far()
            for rest in [process.rest for process in host.processes.values() if process.rest]:
                host.crew.rouse(rest.process)
                host.crew.lay(rest.process, rest.number)

    def _await(self, event: Awaited) -> None:
        self._awaited.discard(event.host)
        if event.awaited:
            self._awaited.add(event.host)

    def _open(self, event: Open) -> None:
        self._start(self.hosts[event.host], ORIGIN)

    def _start(self, host: Host, kind: int) -> None:
        process = Process(self._next, host, kind)
        self._workers += kind == WORKER
        host.crew.workers += kind == WORKER
        host.processes[self._next] = self._starting[self._next] = process
        self._next += 1
        self._actions.append(Start(host.name, process.number, kind))

    def _process_up(self, event: ProcessUp) -> None:
        process = self._starting.pop(event.process, None)
        if process is not None:
            self.processes[event.process] = process

    def _host_down(self, event: HostDown) -> None:
        host = self.hosts.pop(event.host, None)
        if host is not None:
            self._look_far()
            self._bury(list(host.processes.values()), event.why, None)

    def _look_far(self) -> None:
        self._far = any(host.round_trip >= FAR for host in self.hosts.values())

    def _died(self, event: ProcessDied) -> None:
        process = self.processes.get(event.process) or self._starting.get(event.process)
        if process is None:
            return
        self._bury([process], event.why, event.begun, event.verdict)
        if process.kind == WORKER:
            self._replace(process.host, event)

    def _replace(self, host: Host, event: ProcessDied) -> None:
        """Start a worker in the place of the dead one, unless too many have died there in a row."""
        if event.begun == ():
            host.deaths += 1
        elif event.verdict == CHARGED:
            host.deaths += self._others_work(host)      # a task that kills everywhere says nothing about a host
            host.worked = False
        if host.deaths < BAD_STARTS and not host.left_out:
            self._start(host, WORKER)
            return
        host.missing += 1
        if not host.has_workers():
            self._leave_out(host, "its workers do not live; the last one " + event.why.partition("\n")[2])

    def _others_work(self, host: Host) -> bool:
        return any(other.worked and not other.deaths and other.has_workers()
                   for other in self.hosts.values() if other is not host)

    def _leave_out(self, host: Host, why: str) -> None:
        if not host.left_out:
            host.left_out = True
            self._actions.append(LeaveOut(host.name, why))

    def _thrives(self, host: Host) -> None:
        """A task was finished there: its dead workers can be replaced after all."""
        host.worked, host.deaths = True, 0
        while host.missing and not host.left_out:
            host.missing -= 1
            self._start(host, WORKER)

    def _bury(self, dead: List[Process], why: str, begun: Optional[Tuple[Begun, ...]], verdict: int = CHARGED) -> None:
        """Forget processes; drop what they owned, give back what they held."""
        for process in dead:
            self._forget(process)
        self._tell_holders(dead, 0)
        for process in dead:
            known = begun
            for held in process.held:
                if held.owner in self.processes:
                    self._hand_back(held, why, known, verdict)
                if known is None and held.planned and not held.finished:
                    known = ()                      # that one was at work, and before it what slept; the rest waited
                process.weigh(held, 0)
            process.held = []
            if process.kind == ORIGIN:
                self._actions.append(Over(why))

    def _forget(self, process: Process) -> None:
        del process.host.processes[process.number]
        self._starting.pop(process.number, None)
        self.processes.pop(process.number, None)
        crew = process.host.crew
        self._workers -= process.kind == WORKER
        crew.workers -= process.kind == WORKER
        crew.rouse(process)
        crew.ahead.pop(process.number, None)
        self._busy.discard(process.number)
        self._set_surplus(process, 0, 0)
        self._drop_stock(process, 0)

    def _hand_back(self, held: Held, why: str, begun: Optional[Tuple[Begun, ...]], verdict: int) -> None:
        """Tell the owner of each item that the dead process held: not begun, begun, or nobody knows."""
        body = why.encode("utf-8", "backslashreplace")
        if held.finished:
            self._lost(held, held.first, held.end, FREE, body)
        elif begun is None:        # the host is gone; an item that was alone is taken for begun
            self._lost(held, held.first, held.end, CHARGED if held.end - held.first == 1 else ALONE, body)
        else:
            at = held.first
            for owner, call, item in sorted(begun):
                if (owner, call) == (held.owner, held.call) and at <= item < held.end:
                    self._lost(held, at, item, FREE, body)
                    self._lost(held, item, item + 1, verdict, body)
                    at = item + 1
            self._lost(held, at, held.end, FREE, body)

    def _lost(self, held: Held, first: int, end: int, verdict: int, body: bytes = b"") -> None:
        if first < end:
            self._actions.append(Send(held.owner, protocol.Lost(held.call, first, end - first, verdict, body)))

    # Messages

    def _heard(self, event: Heard) -> None:
        process = self.processes.get(event.process)
        if process is not None:                     # else it is dead, and what it said comes late
            _MESSAGES[type(event.message)](self, process, event.message)

    def _block(self, owner: Process, block: protocol.Block) -> None:
        block = block._replace(owner=owner.number)
        blocks = owner.stock.get(block.minor)
        if blocks is None:
            blocks = owner.stock[block.minor] = deque()
            self._line_up(owner, block.minor)
        blocks.append(block)
        self._stocked += 1
        self._set_surplus(owner, block.surplus, max(owner.credit - 1, 0))

    def _surplus(self, owner: Process, message: protocol.Surplus) -> None:
        self._set_surplus(owner, message.items, owner.credit)

    def _set_surplus(self, owner: Process, surplus: int, credit: int) -> None:
        """Credits count as granted only while their owner has something to spend them on."""
        self._granted += (credit if surplus else 0) - (owner.credit if owner.surplus else 0)
        self._spare += _spare(owner.kind, surplus) - _spare(owner.kind, owner.surplus)
        owner.surplus, owner.credit = surplus, credit
        for line, has in (self._hungry, surplus), (self._sparing, _spare(owner.kind, surplus)):
            if has and not credit:
                line.setdefault(owner.number, owner)
            else:
                line.pop(owner.number, None)

    def _quiet(self, origin: Process, message: protocol.Quiet) -> None:
        self._listening = origin

    def _tell_quiet(self, origin: Process) -> None:
        """The origin asked; whoever was given work has said since that all is done, so no task is left anywhere."""
        if not self._stocked and not self._busy and not any(p.held for p in self.processes.values()):
            self._listening = None
            self._actions.append(Send(origin.number, protocol.Quiet()))

    def _unfit(self, worker: Process, message: protocol.Unfit) -> None:
        """The script does not load there: no other worker of that host will do better."""
        self._leave_out(worker.host, bytes(message.body).decode("utf-8", "replace"))

    def _idle(self, process: Process, message: protocol.Idle) -> None:
        if message.idle in (FREED, DONE) and message.blocks == process.given:
            self._busy.discard(process.number)      # else it said so before it got the last one, dropped or not
        if message.idle == DONE:
            return
        crew = process.host.crew
        crew.ahead.pop(process.number, None)
        if message.idle != RUNNING:
            for held in process.held if message.idle == WAITING else ():      # suspended; else on its way there
                held.planned = 0
            self._rests += 1
            crew.lay(process, self._rests)
        else:
            self._busy.add(process.number)
            crew.rouse(process)

    def _result(self, worker: Process, result: protocol.Result) -> None:
        held = worker.find(result.owner, result.call, result.first)
        if held is None or not held.awaits(result.first, result.items):
            self.late += 1
            if result.size:                         # nobody will pull it
                self._actions.append(Send(worker.number, protocol.Taken(worker.number, *result[:4])))  # owner ... items
            return
        self._thrives(worker.host)
        self._take_off(worker, held, result)
        if result.owner in self.processes:
            owner, size = self.processes[result.owner], result.size or len(result.body)
            owner.pace = result.call, result.spent // result.items, size // result.items
            result = _placed(result, worker, owner)
            self._actions.append(Send(result.owner, result._replace(worker=worker.number)))

    def _take_off(self, worker: Process, held: Held, result: protocol.Result) -> None:
        """These items are held no longer; or, if their owner must pull the body, as finished until it has done so."""
        if result.size:
            self._split(worker, held, result.first + result.items)
            held.finished = True
            if held.size:                           # else its owner is on this very host
                worker.weigh(held, result.size)
        else:
            held.first += result.items
            if held.first < held.end:
                return                              # the others of its block are still to come
            worker.release(held)
        held.planned = 0
        if worker.rest is None:
            worker.host.crew.ahead[worker.number] = worker

    def _split(self, worker: Process, held: Held, at: int) -> None:
        """Let the holding end at this item; the rest becomes one of its own."""
        if at < held.end:
            rest = Held(protocol.Block(held.owner, held.call, at, held.end - at, held.planned, 0, 0, 0, 0))
            worker.weigh(rest, held.size)           # its results are likely to be as large
            worker.held.insert(worker.held.index(held) + 1, rest)
            held.end, held.planned = at, 0

    def _taken(self, owner: Process, message: protocol.Taken) -> None:
        worker = self.processes.get(message.worker)
        held = worker and worker.find(owner.number, message.call, message.first)
        if worker and held and held.finished:
            worker.release(held)
            self._actions.append(Send(worker.number, message._replace(owner=owner.number)))

    def _back(self, worker: Process, message: protocol.Back) -> None:
        held = worker.find(message.owner, message.call, message.first)
        if held is None or held.finished or message.first + message.items != held.end:
            self.late += 1
            return
        worker.host.crew.ahead.pop(worker.number, None)     # slower than planned: nothing ahead until its next result
        held.end = message.first
        if held.first == held.end:
            worker.release(held)
        if message.owner in self.processes:
            self._actions.append(Send(message.owner, protocol.Lost(message.call, message.first, message.items, FREE)))

    def _drop(self, owner: Process, message: protocol.Drop) -> None:
        self._drop_stock(owner, message.call)
        self._tell_holders([owner], message.call)

    def _drop_stock(self, owner: Process, call: int) -> None:
        for minor, blocks in list(owner.stock.items()):
            kept = deque(block for block in blocks if call and block.call != call)
            self._stocked -= len(blocks) - len(kept)
            owner.stock[minor] = kept
            if not kept:
                self._leave_line(owner, minor)

    def _line_up(self, owner: Process, minor: int) -> None:
        self._turn += 1
        self._turns[minor].append(Turn(self._turn, owner))

    def _leave_line(self, owner: Process, minor: int) -> None:
        del owner.stock[minor]
        self._turns[minor] = deque(turn for turn in self._turns[minor] if turn.owner is not owner)

    def _tell_holders(self, owners: List[Process], call: int) -> None:
        """Nobody wants this call (0: any) of these owners: holders may skip what they have not begun, and whoever has
        its function may forget it."""
        for owner in owners:
            drop, spread = protocol.Drop(owner.number, call), _spread(owner, call)
            for process in self.processes.values():
                gone = [held for held in process.held if drop.covers(held.owner, held.call)]
                for held in gone:
                    process.release(held)
                if gone or process.number in spread:
                    self._actions.append(Send(process.number, drop))

    def _pull(self, receiver: Process, message: protocol.Pull) -> None:
        self._pass_on(message.to, message._replace(by=receiver.number))

    def _piece(self, sender: Process, message: protocol.Piece) -> None:
        self._pass_on(message.to, message._replace(to=sender.number))   # else a dead one's pieces would be mixed in

    def _pass_on(self, to: int, message: protocol.Message) -> None:
        if to in self.processes:                    # else its end is known, and told to the other side
            self._actions.append(Send(to, message))

    # Stock and credit

    def _give(self) -> None:
        """A block to each process that is idle; then ahead of time where the way is long."""
        while self._stocked:
            idle = [crew.idle[0] for crew in self._crews.values() if crew.idle and self._has_for(crew)]
            if not idle:
                break
            worker = min(idle).process
            worker.host.crew.rouse(worker)
            self._hand_over(worker)
        for crew in self._crews.values() if self._stocked else ():
            while crew.ahead and self._has_to_spare_for(crew):
                _, worker = crew.ahead.popitem()
                while self._has_to_spare_for(crew) and self._may_go_ahead(worker):
                    self._hand_over(worker)

    def _has_for(self, crew: Crew) -> bool:
        """Whether there is a block that such workers can run."""
        return bool(self._turns.get(0) or self._turns.get(crew.minor))

    def _has_to_spare_for(self, crew: Crew) -> bool:
        """Whether there is one that no other worker will soon be idle for."""
        return self._stocked >= self._workers and self._has_for(crew)

    def _next_for(self, crew: Crew) -> Tuple[Process, int]:
        """Whose turn it is, and the minor that its block needs: of those for any Python and those for this one, the
        owner that has waited longer."""
        plain, own = self._turns.get(0), self._turns.get(crew.minor)
        if plain and (not own or plain[0].number < own[0].number):
            return plain[0].owner, 0
        return own[0].owner, crew.minor  # type: ignore[index]

    def _may_go_ahead(self, worker: Process) -> bool:
        """Blocks on their way and at work should last one round trip, with half of one to spare, and one block more.
        Long ones wait for whoever is idle first, unless there is only one."""
        owner, minor = self._next_for(worker.host.crew)
        block, trip = owner.stock[minor][0], worker.host.round_trip
        planned = _planned(owner, block)
        enough = planned + max(trip, planned) // 2 + trip          # planned times differ: half a block to spare as well
        long = planned >= max(AHEAD * trip, LONG if block.items > 1 else 0) and self._workers > 1
        clear = worker.host is owner.host or worker.host.burden < PIPE
        return planned > 0 and clear and not long and worker.load() < enough

    def _hand_over(self, worker: Process) -> None:
        crew = worker.host.crew
        owner, minor = self._next_for(crew)
        self._turns[minor].popleft()
        block = owner.stock[minor].popleft()
        block = _placed(block, owner, worker)._replace(planned=_planned(owner, block))
        if owner.stock[minor]:
            self._line_up(owner, minor)
        else:
            del owner.stock[minor]
        self._stocked -= 1
        held = Held(block)
        if owner.host is not worker.host:
            worker.weigh(held, _size(owner, block))
        worker.held.append(held)
        worker.given += 1
        if block.function:
            owner.spread.setdefault(block.call, set()).add(worker.number)
        self._busy.add(worker.number)
        if block.planned:
            crew.ahead[worker.number] = worker
        self._actions.append(Send(worker.number, block))

    def _give_up(self) -> None:
        """Give back the blocks for a Python that no worker has, as nobody is awaited who may have it."""
        for minor, turns in self._turns.items():
            if minor and not (minor in self._crews and self._crews[minor].workers):
                for owner in [turn.owner for turn in turns]:
                    self._return_unmatched(owner, minor)

    def _return_unmatched(self, owner: Process, minor: int) -> None:
        """Those of this owner go back to it."""
        blocks = owner.stock[minor]
        self._stocked -= len(blocks)
        self._leave_line(owner, minor)
        for block in blocks:
            self._lost(Held(block), block.first, block.first + block.items, UNMATCHED)

    def _grant(self) -> None:
        """Fill the stock up to what it should hold now, when a quarter of that is missing; never let an idle process
        wait for it: what is there while one is idle needs another Python than it has."""
        if not self._hungry or not self._workers:
            return
        idle = sum(len(crew.idle) for crew in self._crews.values())
        most = STOCK * self._workers
        target = idle + (most if self._far else min(most, self._spare))
        missing = min(target - (0 if idle else self._stocked), most + idle - self._stocked) - self._granted
        asked = sum(not owner.stock for owner in self._hungry.values()) if idle else 0
        if asked or missing >= max(target // 4, 1):
            owners = self._hungry if idle or self._far else self._sparing
            self._share_out(max(asked, missing), sorted(owners.values(), key=lambda owner: bool(owner.stock)))

    def _share_out(self, credits: int, owners: List[Process]) -> None:
        """Grant so many to these owners, at least one to each as far as they go."""
        for owner in owners[:credits]:
            blocks = min(max(credits // len(owners), 1), owner.surplus)
            self._set_surplus(owner, owner.surplus, owner.credit + blocks)
            self._actions.append(Send(owner.number, protocol.Credit(blocks, self._workers)))


def _spare(kind: int, surplus: int) -> int:
    """Blocks that an owner can give away while nobody is idle: a worker runs the last one itself."""
    return surplus if kind == ORIGIN else max(surplus - 1, 0)


def _placed(message: Any, sender: Process, receiver: Process) -> Any:
    """A message as this receiver gets it: the place of a body is known only on the host where it lies."""
    if sender.host is receiver.host or not (message.size or getattr(message, "function", 0)):
        return message
    return message._replace(**dict.fromkeys(_PLACES.intersection(message._fields), b""))


def _planned(owner: Process, block: protocol.Block) -> int:
    """Microseconds that a block should take, if only by what has been heard since it was cut; 0: not known."""
    call, pace, _ = owner.pace
    return block.planned or (pace * block.items // 1000 if call == block.call else 0)


def _size(owner: Process, block: protocol.Block) -> int:
    """Bytes of a block's arguments; or of its results, if those are likely to be more."""
    call, _, size = owner.pace
    return max(block.size or len(block.body), size * block.items if call == block.call else 0)


def _spread(owner: Process, call: int) -> Set[int]:
    """The workers that have a function of this call (0: any); forgets them."""
    calls = [call] if call else list(owner.spread)
    return set().union(*(owner.spread.pop(one, set()) for one in calls))


_EVENTS: Dict[Type[Any], Callable[[Broker, Any], None]] = {
    HostUp: Broker._host_up, Measured: Broker._measured, Awaited: Broker._await, Open: Broker._open,
    HostDown: Broker._host_down, ProcessUp: Broker._process_up, ProcessDied: Broker._died, Heard: Broker._heard,
}
_MESSAGES: Dict[Type[Any], Callable[[Broker, Process, Any], None]] = {
    protocol.Surplus: Broker._surplus, protocol.Block: Broker._block, protocol.Result: Broker._result,
    protocol.Taken: Broker._taken, protocol.Back: Broker._back, protocol.Drop: Broker._drop,
    protocol.Idle: Broker._idle, protocol.Pull: Broker._pull, protocol.Piece: Broker._piece,
    protocol.Unfit: Broker._unfit, protocol.Quiet: Broker._quiet, protocol.Remark: lambda *_: None,
}
_PLACES = {"place", "function_place"}
SAID = _MESSAGES.keys()    # what processes may say
