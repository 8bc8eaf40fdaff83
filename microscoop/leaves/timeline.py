"""One run as it went: what the broker's events and the workers' Remarks tell.  Runs in the launcher, for record.py.

Everything is put on the head's clock.  Another machine's clock runs beside it by a constant; each Remark names the
sender's time, and the smallest of (arrival here - that time) is this constant plus the shortest way.  The way is taken
for half of the shortest round trip that was measured, so it is off by less than that half.
"""
from __future__ import annotations

import gc
import time
from struct import error as StructError
from time import perf_counter_ns as clock
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .. import broker
from ..hooks import Watcher
from ..job import Job
from ..protocol import CHARGED, DONE, KEPT, WAITING, WORKER, Block, Idle, Lost, Piece, Remark, Result, Taken
from ..report import Reporter
from .record import FAILED, HOME, SLOWEST, TAG, unpacked
from .retries import Retries

LONG = 100_000             # nanoseconds that a wait must last to be worth a mark
Stream = Tuple[int, int, int, int, bool]       # worker, owner, call, first item, out


class Task(NamedTuple):
    """A task, or several short ones in a row."""
    start: int                     # microseconds from the start of the run
    took: int                      # microseconds
    item: int                      # the first
    items: int
    name: int                      # place in Run.names
    failed: bool
    track: int                     # of its lane: tasks of one track lie beneath each other or apart
    depth: int                     # tasks of its track beneath it


class Slow(NamedTuple):
    """One of the slowest tasks."""
    took: int                      # microseconds
    start: int
    item: int
    name: str
    arguments: str
    host: str
    worker: int


class Transfer(NamedTuple):
    """A body too large for one message."""
    start: int                     # microseconds
    end: int
    size: int                      # bytes
    out: bool                      # from the worker: a result


class Mark(NamedTuple):
    """Something that happened."""
    at: int                        # microseconds
    host: str
    worker: int                    # 0: the whole host
    kind: str                      # death, timeout, host lost, retry
    text: str


class Lane:
    """A worker."""

    def __init__(self, host: str, number: int, now: int, agent: int = 0) -> None:
        self.host, self.number, self.agent = host, number, agent
        self.up, self.down = now, 0                # microseconds from the start of the run, once it is over
        self.tasks: List[Task] = []
        self.lost: List[Tuple[int, int, str]] = []     # start, end, what it was on when it died
        self.waits: List[Tuple[int, int]] = []     # its tasks sleep, and it has nothing else to do
        self.transfers: List[Transfer] = []
        self.remarks: List[Tuple[int, bytes]] = []     # arrived, body
        self.seen = self.seen_last = 0             # items in Results, and when the last one came
        self.given = now                           # its last block
        self.waiting: Optional[int] = None         # since


class Run(NamedTuple):
    """A whole run; times in microseconds from its start."""
    command: str
    began: float                   # seconds since 1970
    duration: int
    status: int
    hosts: List[str]               # with workers
    lanes: List[Lane]
    names: List[str]
    slowest: List[Slow]
    marks: List[Mark]


class Recorder(Watcher):
    """Takes note of what happens, as cheaply as it can; the rest is done at the end."""

    def __init__(self, paths: Dict[str, str], job: Job, report: Reporter) -> None:
        self._paths, self._job, self._report = paths, job, report
        self._zero, self._began = clock(), time.time()
        self._lanes: Dict[int, Lane] = {}
        self._agents: List[float] = []             # the way there in nanoseconds, the head's first
        self._agent: Dict[str, int] = {}           # host -> place of its last agent; a host may come back
        self._marks: List[Mark] = []
        self._retries = Retries()
        self._streams: Dict[Stream, List[int]] = {}        # start, end, bytes
        self._over = False
        self._handlers: Dict[type, Callable[[Any, int], None]] = {
            broker.HostUp: self._host_up, broker.Measured: self._measured, broker.HostDown: self._host_down,
            broker.ProcessUp: self._process_up, broker.ProcessDied: self._died, broker.Heard: self._heard,
            broker.Send: self._sent, broker.Start: self._start, broker.Over: self._end}
        self._messages: Dict[type, Callable[[int, Any, int], None]] = {
            Remark: self._remark, Idle: self._idle, Result: self._result, Piece: self._piece, Taken: self._taken}

    def see(self, event: broker.Event, actions: List[broker.Action]) -> None:
        now = clock()
        for thing in (event, *actions):
            handle = self._handlers.get(type(thing))
            if handle is not None:
                handle(thing, now)

    def _heard(self, event: broker.Heard, now: int) -> None:
        hear = self._messages.get(type(event.message))
        if hear is not None:
            hear(event.process, event.message, now)

    def _sent(self, action: broker.Send, now: int) -> None:
        if type(action.message) is Block:
            self._given(action.process, action.message, now)
        elif type(action.message) is Lost:
            self._retries.lost(action.process, action.message)

    def _start(self, action: broker.Start, now: int) -> None:
        if action.kind == WORKER:
            self._lanes[action.process] = Lane(action.host, action.process, now, self._agent.get(action.host, 0))

    def _end(self, action: broker.Over, now: int) -> None:
        self._over = True

    def close(self, status: int) -> None:
        """Write the files."""
        gc.disable()                               # much is made here, nothing is thrown away, and this process ends
        run = self._run(status)
        for option, path in self._paths.items():
            if option == "report":
                from .report_page import page as render
            else:
                from .trace_events import events as render
            try:
                with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.writelines(render(run))
            except OSError as error:               # it could be written at the start; the run itself is what it was
                self._report.error("--%s: cannot write %r: %s" % (option, path, error.strerror))

    # What happens to hosts and workers

    def _host_up(self, event: broker.HostUp, now: int) -> None:
        self._agent[event.host] = len(self._agents)
        self._agents.append(event.round_trip * 1e9 / 2)

    def _measured(self, event: broker.Measured, now: int) -> None:
        self._agents[self._agent[event.host]] = event.round_trip * 1e9 / 2

    def _process_up(self, event: broker.ProcessUp, now: int) -> None:
        if event.process in self._lanes:
            self._lanes[event.process].up = now

    def _host_down(self, event: broker.HostDown, now: int) -> None:
        for lane in self._lanes.values():
            if lane.host == event.host and not lane.down:
                lane.down = now
        self._mark(now, event.host, 0, "host lost", event.why.replace("\nwas lost ", "\n"))

    def _died(self, event: broker.ProcessDied, now: int) -> None:
        lane = self._lanes.get(event.process)
        if lane is None or self._over:
            return
        lane.down = now
        what = ", ".join("item %d" % item for _, _, item in event.begun or ())
        kind = "death" if event.verdict == CHARGED else "timeout"
        self._mark(now, lane.host, lane.number, kind, event.why + (", on " + what if what else ""))
        if what:
            lane.lost.append((lane.given, now, what))

    def _mark(self, now: int, host: str, worker: int, kind: str, text: str) -> None:
        self._marks.append(Mark((now - self._zero) // 1000, host, worker, kind, text.partition("\n")[2] or text))

    def _given(self, process: int, block: Block, now: int) -> None:
        lane = self._lanes.get(process)
        if lane is None:
            return
        self._awake(lane, now)
        lane.given = now
        if block.size:
            self._moves(process, block, block.size, now, False)
        if block.function:
            self._moves(process, block._replace(first=KEPT), block.function, now, False)
        if self._retries.is_again(block):
            self._mark(now, lane.host, process, "retry", "item %d is run again" % block.first)

    # What workers say

    def _remark(self, process: int, message: Remark, now: int) -> None:
        if process in self._lanes and message.body[:len(TAG)] == TAG:
            self._lanes[process].remarks.append((now, message.body))

    def _idle(self, process: int, message: Idle, now: int) -> None:
        lane = self._lanes.get(process)
        if lane is not None and message.idle == WAITING:
            lane.waiting = now
        elif lane is not None and message.idle == DONE:
            lane.waiting = None                    # no task slept: one went on in another thread
        elif lane is not None:
            self._awake(lane, now)

    def _awake(self, lane: Lane, now: int) -> None:
        if lane.waiting is not None and now - lane.waiting > LONG:
            lane.waits.append((lane.waiting, now))
        lane.waiting = None

    def _result(self, process: int, message: Result, now: int) -> None:
        lane = self._lanes.get(process)
        if lane is not None:
            lane.seen += message.items
            lane.seen_last = now
        if message.size:
            self._moves(process, message, message.size, now, True)

    # Transfers

    def _moves(self, worker: int, message: Any, size: int, now: int, out: bool) -> None:
        """A body is on its way, to this worker or `out` of it; with a place it needs only to be opened."""
        self._streams.setdefault((worker, message.owner, message.call, message.first, out), [now, now, size])

    def _piece(self, process: int, message: Piece, now: int) -> None:
        self._moved((process, message.owner, message.call, message.first, True) if message.to == message.owner else
                    (message.to, message.owner, message.call, message.first, False), now)

    def _moved(self, stream: Stream, now: int) -> None:
        if stream in self._streams:
            self._streams[stream][1] = now

    def _taken(self, process: int, message: Taken, now: int) -> None:
        self._moved((message.worker, process, message.call, message.first, True), now)

    # At the end

    def _run(self, status: int) -> Run:
        end = clock()
        lanes, names, slowest = list(self._lanes.values()), _Names(), []
        opened = {lane.number: list(_opened(lane.remarks)) for lane in lanes}
        ahead = [self._ahead(agent, opened) for agent in range(len(self._agents))] or [0]
        self._share_out_transfers()
        for lane in lanes:
            self._awake(lane, lane.down or end)
            shift = self._zero - ahead[lane.agent]
            spans, slow = _unfolded(opened[lane.number], names)
            slowest += [Slow(took // 1000, (began - shift) // 1000, item, name, text, lane.host, lane.number)
                        for took, began, item, name, text in slow]
            self._settle(lane, spans, shift, names, end)
        slowest.sort(reverse=True)
        command = " ".join(filter(None, (self._job.script, *self._job.args)))
        seen = {lane.host for lane in lanes} | {mark.host for mark in self._marks}
        hosts = [share.host.name for share in self._job.shares if share.host.name in seen]
        return Run(command, self._began, self._us(end), status, hosts, lanes, names.known,
                   slowest[:SLOWEST], self._marks)

    def _share_out_transfers(self) -> None:
        for (worker, *_, out), (start, stop, size) in self._streams.items():
            if worker in self._lanes:
                self._lanes[worker].transfers.append(Transfer(self._us(start), self._us(stop), size, out))

    def _us(self, moment: int) -> int:
        return (moment - self._zero) // 1000

    def _ahead(self, agent: int, opened: Dict[int, List[Any]]) -> int:
        """How much has to be added to the clock of its host for ours; this machine's processes share one."""
        if agent == 0:
            return 0
        least = [at - sent for lane in self._lanes.values() if lane.agent == agent
                 for at, sent, _, _ in opened[lane.number]]
        return int(min(least, default=0) - self._agents[agent])

    def _settle(self, lane: Lane, spans: List[Tuple[int, ...]], shift: int, names: _Names, end: int) -> None:
        """Everything of a lane in microseconds of the run."""
        last = max((ended for _, ended, *_ in spans), default=0)
        last = max(last - shift + self._zero, lane.up)
        missing = lane.seen - sum(span[3] for span in spans if not span[5] & HOME)
        if missing > 0:                            # it died before it could say more of these than that they are done
            began, ended = (moment - self._zero + shift for moment in (last, max(lane.seen_last, last)))
            spans.append((began, ended, 0, missing, names.number("(not timed)"), 0))
        spans.sort(key=lambda span: (span[0], -span[1]))
        lane.tasks = [Task((began - shift) // 1000, (ended - began) // 1000 or 1, item, items, name,
                           flags & FAILED != 0, track, depth)
                      for (began, ended, item, items, name, flags), (track, depth) in zip(spans, placed(spans))]
        lane.lost = [(self._us(max(start, last)), self._us(stop), what) for start, stop, what in lane.lost]
        lane.waits = [(self._us(start), self._us(stop)) for start, stop in lane.waits]
        lane.up, lane.down = self._us(lane.up), self._us(lane.down or end)


class _Names:
    """The functions of the whole run; each worker has numbers of its own."""

    def __init__(self) -> None:
        self.known: List[str] = []
        self._numbers: Dict[str, int] = {}

    def number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.known)
            self.known.append(name)
        return self._numbers[name]


def _opened(remarks: List[Tuple[int, bytes]]) -> Iterator[Tuple[int, int, List[Tuple[int, ...]], Dict[str, Any]]]:
    """Arrival, departure, spans and news of those that can be read: a task may have written to the descriptor that
    leads here."""
    for at, body in remarks:
        try:
            yield (at, *unpacked(body))
        except (ValueError, StructError):
            continue


def _unfolded(opened: List[Any], names: _Names) -> Tuple[List[Tuple[int, ...]], List[List[Any]]]:
    """The spans of one worker, by the names of the run, and its slow tasks."""
    spans: List[Tuple[int, ...]] = []
    slow: List[List[Any]] = []
    numbers: List[int] = []
    for _, _, _, news in opened:
        numbers += [names.number(name) for name in news.get("names", ())]
        slow += news.get("slow", ())
    for _, _, part, _ in opened:
        spans += [(began, ended, item, items, numbers[name], flags) for began, ended, item, items, name, flags in part]
    return spans, slow


def placed(spans: List[Tuple[int, ...]]) -> Iterator[Tuple[int, int]]:
    """(track, depth) of each span: in a track, a span lies inside another or apart from it.  A task that waited may go
    on while what ran meanwhile is not done: these two overlap, and need two tracks."""
    tracks: List[List[int]] = []
    for span in spans:
        began, ended, track = span[0], span[1], 0
        for ends in tracks:
            while ends and ends[-1] <= began:
                ends.pop()
            if not ends or ends[-1] >= ended:
                break
            track += 1
        else:
            tracks.append([])
        yield track, len(tracks[track])
        tracks[track].append(ended)
