"""The launcher's loop: hosts, channels, signals and the clock around the broker.  Runs in the launcher; one thread.

    head machine                                                each remote host
    +-------------------------------------------+               +---------------------------+
    | launcher = broker loop -- one ssh --------+-------------->| agent - forks - workers   |
    |   +- local agent - forks - origin, workers|  one channel  |   relays their frames     |
    +-------------------------------------------+               +---------------------------+

Events go to `Broker.handle`, its actions are carried out here.  Nothing here waits but the loop.
"""
from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
from collections import deque
from socket import socket
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from . import __version__, agent, broker, hooks
from .balance import Balance
from .broker import Broker
from .channel import Channel
from .child import Settings, core_share
from .errors import HostError, Status, UsageError
from .hosts import Share, distribution_lines, usable_cores
from .job import Job
from .loop import Loop
from .ports import Port
from .protocol import (
    BEGUN,
    CHARGED,
    LATER,
    ORIGIN,
    OVERDUE,
    Died,
    End,
    Garbled,
    Guard,
    Kill,
    Message,
    Note,
    Ping,
    Print,
    Printed,
    ProtocolError,
    Relay,
    Result,
    Spawn,
    Unguard,
    Up,
    decode,
    encode,
    idles,
)
from .report import FULL, Outlet, Reporter

GONE = "its ssh or its agent has ended"
SPOILED = "written to the descriptor that leads to its launcher"
LOCAL_TRIP = 0.0002        # seconds that a message and its answer take on one machine
EARLY = 8                  # workers that are forked before the script begins; each fork takes about 2 ms
BEAT = 2                   # seconds between pings
SILENCE = 12               # seconds without a word from a host; ssh itself gives up after 10 to 15
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)   # goes on while the machine is asleep
AGAIN = (10, 30, 90)       # seconds after which a lost host is tried again
TOO_MANY = ("%d worker(s) here need more open files than this process may have (%d): raise that limit (ulimit -Hn), "
            "or start fewer with -n")
GRACE = 4.0                # seconds in which everything must end
DOUBT = 0.5                # seconds in which the origin may fail for the same reason as its workers
TWICE = 2.0                # seconds within which a second Ctrl-C ends all


class Machine:
    """A host of this run, from its start to its end."""

    def __init__(self, share: Share) -> None:
        self.share, self.name = share, share.host.name
        self.feed: Any = None                      # a Feed, while it is on its way and as long as its ssh lives
        self.channel: Optional[Channel] = None     # to the agent, while it is up
        self.heard = 0.0
        self.losses = 0
        self.complaints = 0                        # lines of ssh's stderr before it was up
        self.ports: Dict[int, Port] = {}           # of its processes, if they are on this machine


class Trail:
    """What a process printed that still waits for a slow reader, and what it has said since: that waits, too."""

    def __init__(self) -> None:
        self.marks: Dict[Outlet, int] = {}         # up to where what it printed is queued
        self.frames: Deque[Tuple[Dict[Outlet, int], bytes]] = deque()   # each with the marks that must be out before


class Server:
    """One run."""

    def __init__(self, job: Job, origin: Optional[socket] = None) -> None:
        self._job, self._given = job, origin
        self._open_files = agent.raise_limit()
        self._report = Reporter(job.verbose)
        self._loop = Loop()
        self._broker = Broker()
        self._balance = Balance()
        self._outlets = {1: Outlet(self._loop, 1), 2: Outlet(self._loop, 2)}
        self._watchers = hooks.watchers(hooks.Stage(job, self._loop, self._report, self._outlets))
        self._machines = {share.host.name: Machine(share) for share in job.shares}
        self._head = next(m for m in self._machines.values() if m.share.host.local)
        self._where: Dict[int, Machine] = {}       # process -> its host
        self._trails: Dict[int, Trail] = {}        # of the processes whose output waits
        self._origin = 0                           # the origin's process number, once it is started
        self._origin_pid = 0
        self._agent_pid = 0
        self._opened = self._waiting = False
        self._status: Optional[int] = None
        self._interrupted = -TWICE
        self._finished = False                     # the origin has ended by itself: all output is to come out
        self._hurried = 0                          # the signal that came while the run was ending
        self._parcel: Any = None
        self._said_once: Set[str] = set()
        self._expelled: Set[int] = set()           # processes that did not keep to the protocol
        self._doubtful = 0                         # hosts that are left out, not said yet
        self._beaten = time.clock_gettime(CLOCK)   # when the hosts were last sent a ping
        self._actions: Dict[type, Callable[[Any], None]] = {
            broker.Send: self._deliver, broker.Start: self._start_process, broker.LeaveOut: self._leave_out,
            broker.Over: self._over}
        self._words: Dict[type, Callable[[Machine, Any], None]] = {
            Relay: self._relayed, Up: self._up, Died: self._died, Print: self._printed, Ping: self._pong,
            Note: lambda machine, note: self._report.warning(bytes(note.body).decode("utf-8", "replace")),
            Garbled: lambda machine, m: self._expel(machine, m.process, bytes(m.body).decode("utf-8", "replace"))}

    def run(self) -> int:
        """Until the script has ended; its exit status."""
        self._announce()
        self._catch_signals()
        self._begin_head()
        try:
            for machine in self._remote():
                self._begin(machine)
            if self._broker.workers():
                self._open_soon()
            self._open_if_settled()
            self._beat()
            while self._status is None:
                self._loop.turn()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise UsageError(TOO_MANY % (self._head_workers(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])) from None
        finally:
            self._end()
        return self._status

    def _remote(self) -> List[Machine]:
        return [machine for machine in self._machines.values() if machine is not self._head]

    def _announce(self) -> None:
        version = ".".join(map(str, sys.version_info[:3]))
        self._report.info("microscoop %s on %s using Python %s" % (__version__, sys.platform, version))
        lines = distribution_lines(self._job.shares)
        counts = [share.workers for share in self._job.shares]
        total = "?" if None in counts else str(sum(count or 0 for count in counts))
        hosts = sum(count != 0 for count in counts)
        self._report.info("Deploying %s worker(s) over %d host(s)." % (total, hosts))
        self._report.info("Worker distribution: ")
        for line in lines:
            self._report.info(line)

    # This machine

    def _begin_head(self) -> None:
        """Fork the local agent, before there is anything that it should not have."""
        foreground = _in_foreground()
        self._own_group = not foreground
        ours = [self._wake, self._signals, *self._loop.descriptors()]
        pid, sock, arrivals = agent.fork_local(self._settings(), foreground,
                                               [*ours, self._given.fileno()] if self._given else ours)
        self._agent_pid = pid
        self._arrivals = arrivals
        self._loop.read(arrivals.fileno(), self._arrived)
        self._agent_socket = sock                      # it would close when nobody refers to it
        self._talk_to(self._head, sock)
        self._opened = not self._remote()              # nothing to wait for: the script begins at once
        self._say_threads(self._head, usable_cores(), self._head_workers())
        early = max(usable_cores(), EARLY) if self._opened else None
        self._handle(broker.HostUp(self._head.name, self._head_workers(), LOCAL_TRIP, 0 if self._given else early,
                                   sys.version_info[1]))

    def _head_workers(self) -> int:
        workers = self._head.share.workers
        return usable_cores() if workers is None else workers

    def _settings(self) -> Settings:
        job, script = self._job, self._job.script and os.path.join(os.getcwd(), self._job.script)
        path0 = sys.path[0] if self._given else job.folder or os.path.dirname(os.path.realpath(script))
        known = [share.workers for share in job.shares]
        return Settings(self._head.name, script, (job.script, *job.args), path0, job.path,
                        tuple(filter(None, (job.pythonpath or "").split(os.pathsep))), job.env, job.nice, job.retries,
                        job.task_timeout,
                        max(sum(count or 1 for count in known), 1), open_files=self._open_files,
                        leaves=job.leaves, here=self._head_workers(), watchers=self._watchers)

    def _arrived(self) -> None:
        """The near end of a process that the local agent has forked."""
        process, pid, ends = agent.receive_ends(self._arrivals)
        self._take_in(Port(process, *ends) if len(ends) == 3 else Port(process, ends[0], -1, -1), pid)

    def _take_in(self, port: Port, pid: int) -> None:
        self._head.ports[port.process] = port
        self._read_words(port)
        self._read_pipes(port)
        self._up(self._head, Up(port.process, pid))

    def _read_words(self, port: Port) -> None:
        self._loop.read(port.channel.reader, lambda: self._said(port))

    def _read_pipes(self, port: Port) -> None:
        for pipe in port.pipes:
            self._loop.read(pipe, lambda: self._print(port, True))

    def _said(self, port: Port) -> None:
        """A process of this machine has something to say."""
        try:
            frames = port.frames()
        except (EOFError, OSError):
            self._loop.forget(port.channel.reader)     # the agent tells its end
            self._given_ended(port.process, Status.OK)
            return
        except ProtocolError as error:
            self._expel(self._head, port.process, error)
            return
        self._print(port, not any(map(idles, frames)))
        for frame in frames:
            self._hear(self._head, port.process, frame)

    def _print(self, port: Port, whole: bool) -> None:
        before = list(port.pipes)
        for stream, text in port.printed(whole):
            self._put_out(port.process, self._outlets[stream], text)
            if self._outlets[stream].waiting > FULL:   # read on when its reader has caught up
                self._outlets[stream].when_relieved(lambda: self._read_pipes(port))
                for pipe in port.pipes:
                    self._loop.forget(pipe)
        for pipe in before:
            if pipe not in port.pipes:
                self._loop.forget(pipe)

    # Other machines

    def _begin(self, machine: Machine) -> None:
        """Start ssh; the loop feeds what comes to the Start until the agent answers."""
        if self._status is not None or machine.feed is not None:
            return
        from . import files, launch
        from .feed import Feed
        self._parcel = self._parcel or files.Parcel(self._job.script, self._job.send, None, self._job.folder)
        start = launch.Start(machine.share, self._job, self._parcel, time.monotonic())
        machine.feed = Feed(self._loop, start, lambda: self._settled(machine), lambda: self._lost(machine, GONE))
        self._handle(broker.Awaited(machine.name))
        head = self._head.channel
        if start.process is not None and head is not None:
            self._loop.send(head, encode(Guard(start.process.pid, os.fsencode(start.directory))))
            self._loop.flush(head)                     # at once: we may be killed before the next turn

    def _settled(self, machine: Machine) -> None:
        start = machine.feed.start
        if start.error is not None:
            self._failed(machine, start.error)
        else:
            self._ready(machine)

    def _ready(self, machine: Machine) -> None:
        ready = machine.feed.start.ready
        self._talk_to(machine, ready.channel)
        machine.complaints = len(machine.feed.start.complaints())
        facts = ready.facts
        workers = facts["cores"] if machine.share.workers is None else machine.share.workers
        self._report.info("%s is ready: Python %s, %s, login %.0f ms" % (
            machine.name, ".".join(map(str, facts["version"])), "in place" if facts["in_place"] else "sent",
            facts.get("login", 0) * 1000), 1)
        self._say_threads(machine, facts["cores"], workers)
        self._handle(broker.HostUp(machine.name, workers, max(facts.get("round_trip", 0), LOCAL_TRIP),
                                   None, facts["version"][1]))
        if ready.rest:
            self._from_agent(machine, ready.rest)
        self._tell(machine, Ping(int(time.monotonic() * 1e6)))
        self._open_soon()
        self._open_if_settled()

    def _failed(self, machine: Machine, error: HostError) -> None:
        self._close_start(machine)
        self._handle(broker.Awaited(machine.name, False))
        if self._job.strict and not self._opened:
            raise error
        self._report.warning(str(error) + (self._try_again(machine) if machine.losses else ""))    # it was up before
        self._open_if_settled()
        self._check_workers()

    def _close_start(self, machine: Machine) -> None:
        feed, machine.feed = machine.feed, None
        if feed is not None:
            if feed.start.process is not None:
                self._tell(self._head, Unguard(feed.start.process.pid))
            feed.close()

    def _say_threads(self, machine: Machine, cores: int, workers: int) -> None:
        if workers:
            self._report.info("%s: libraries with threads of their own (OMP_NUM_THREADS and its kin) get %d a worker"
                              % (machine.name, core_share(cores, workers)), 1)

    # Agents

    def _talk_to(self, machine: Machine, sock: socket) -> None:
        machine.channel = Channel(sock.fileno(), sock.fileno(), peer="agent of " + machine.name)
        machine.heard = time.monotonic()
        self._loop.read(sock.fileno(), lambda: self._from_agent(machine))

    def _from_agent(self, machine: Machine, data: bytes = b"") -> None:
        channel = machine.channel
        assert channel is not None
        try:
            messages = [decode(frame, self._words) for frame in channel.receive(data)]
        except (EOFError, OSError, ProtocolError) as error:
            self._lost(machine, str(error) if isinstance(error, ProtocolError) else GONE)
            return
        machine.heard = time.monotonic()
        for message in messages:
            if machine.channel is channel:
                self._words[type(message)](machine, message)

    def _tell(self, machine: Machine, message: Message) -> None:
        if machine.channel is not None:
            self._loop.send(machine.channel, encode(message))

    def _beat(self) -> None:
        """Every few seconds: are you there?  The answer also measures the round trip."""
        self._notice_absence()
        for machine in self._remote():
            if machine.channel is not None and time.monotonic() - machine.heard > SILENCE:
                self._lost(machine, "no answer for %d s" % SILENCE)
            self._tell(machine, Ping(int(time.monotonic() * 1e6)))
        self._beaten = time.clock_gettime(CLOCK)
        self._loop.after(BEAT, self._beat)

    def _notice_absence(self) -> None:
        """If we, or this machine, did nothing for long, no host is to blame.  Their agents may have given us up."""
        away = time.clock_gettime(CLOCK) - self._beaten
        if away < 3 * BEAT:
            return
        self._beaten += away
        given_up = [machine for machine in self._remote() if machine.feed is not None and away > agent.SILENCE]
        for machine in self._remote():
            machine.heard = time.monotonic()
        if given_up and self._status is None:
            names = ", ".join(machine.name for machine in given_up)
            self._report.warning("this run was suspended for %d s; started again: %s" % (away, names))
            for machine in given_up:
                self._hang_up(machine, "while the launcher was suspended")
                self._begin(machine)

    def _pong(self, machine: Machine, message: Ping) -> None:
        host = self._broker.hosts.get(machine.name)
        if host is not None:
            host.round_trip = max(int(time.monotonic() * 1e6) - message.sent, 1)

    def _lost(self, machine: Machine, why: str) -> None:
        """An agent is gone, and all its processes with it."""
        channel = machine.channel
        self._notice_absence()
        if machine.channel is not channel or channel is None:      # it is being started again
            return
        if machine is self._head or self._status is not None:
            self._loop.drop(channel)
            machine.channel = None
            if self._status is None:
                self._report.error("the agent of this machine has ended: the run cannot go on")
                self._status = Status.FAILED
            return
        machine.feed.hear_complaints()                 # ssh's last words
        words = machine.feed.start.complaints()[machine.complaints:][-1:] or [why]
        self._hang_up(machine, "with its host")
        self._report.warning("%s is lost: %s%s" % (machine.name, words[0], self._try_again(machine)))
        self._check_workers()

    def _try_again(self, machine: Machine) -> str:
        """Start a lost host again in a while; words that say so."""
        if machine.losses == len(AGAIN):
            return ""
        seconds = AGAIN[machine.losses]
        machine.losses += 1
        self._loop.after(seconds, lambda: self._begin(machine))
        return "; it is tried again in %d s" % seconds

    def _hang_up(self, machine: Machine, how: str) -> None:
        """Forget a host's agent and its processes."""
        if machine.channel is not None:
            self._loop.drop(machine.channel)
            machine.channel = None
            for process in [process for process in self._trails if self._where.get(process) is machine]:
                self._hear_out(machine, process)
            self._where = {process: m for process, m in self._where.items() if m is not machine}
            self._handle(broker.HostDown(machine.name, "%s\nwas lost %s" % (machine.name, how)))
        self._close_start(machine)

    def _relayed(self, machine: Machine, message: Relay) -> None:
        self._hear(machine, message.process, message.body)

    def _printed(self, machine: Machine, message: Print) -> None:
        outlet = self._outlets.get(message.stream)
        if outlet is not None:
            self._put_out(message.process, outlet, message.body)
            answer = Printed(len(message.body))
            if outlet.waiting > FULL:
                outlet.when_relieved(lambda: self._tell(machine, answer))
            else:
                self._tell(machine, answer)

    # Processes

    def _put_out(self, process: int, outlet: Outlet, text: bytes) -> None:
        outlet.write(text)
        if outlet.waiting:
            self._trails.setdefault(process, Trail()).marks[outlet] = outlet.queued

    def _hear(self, machine: Machine, process: int, frame: bytes) -> None:
        """A frame of a process; if what it printed before is not out yet, it waits for that."""
        trail = self._trails.get(process)
        if trail is None:
            self._heard(machine, process, frame)
            return
        trail.frames.append((dict(trail.marks), frame))
        if len(trail.frames) == 1:
            self._catch_up(machine, process)

    def _catch_up(self, machine: Machine, process: int) -> None:
        """Hear what needs to wait no more; a process of this machine is not read meanwhile."""
        trail, port = self._trails.get(process), machine.ports.get(process)
        while trail is not None and trail.frames:
            for outlet, mark in trail.frames[0][0].items():
                if not outlet.is_out(mark):
                    outlet.when_out(mark, lambda: self._catch_up(machine, process))
                    if port is not None:
                        self._loop.forget(port.channel.reader)
                        self._loop.flush(port.channel)  # it is written all the same
                    return
            self._heard(machine, process, trail.frames.popleft()[1])
        if trail is not None and all(outlet.is_out(mark) for outlet, mark in trail.marks.items()):
            self._trails.pop(process, None)
        if port is not None and self._where.get(process) is machine:
            self._read_words(port)

    def _hear_out(self, machine: Machine, process: int) -> None:
        """It is gone: hear what it said, whether its output is out or not."""
        trail = self._trails.pop(process, None)
        for _, frame in trail.frames if trail is not None else ():
            self._heard(machine, process, frame)

    def _heard(self, machine: Machine, process: int, frame: bytes) -> None:
        """A frame of a process, which must be one of that machine."""
        if self._where.get(process) is not machine:
            return
        try:
            message = decode(frame, broker.SAID)
        except ProtocolError as error:
            self._expel(machine, process, error)
        else:
            self._handle(broker.Heard(process, message))

    def _expel(self, machine: Machine, process: int, why: object) -> None:
        """What it says is not our protocol, say since a task wrote to the wrong descriptor: hear it no more, end it."""
        if self._where.get(process) is not machine:
            return
        del self._where[process]
        self._expelled.add(process)
        if process in machine.ports:
            self._loop.forget(machine.ports[process].channel.reader)
        name = "the origin" if process == self._origin else "worker %s/%d" % (machine.name, process)
        self._report.warning("%s is ended: it has %s: %s" % (name, SPOILED, why))
        self._tell(machine, Kill(process))
        self._given_ended(process, Status.FAILED)

    def _given_ended(self, process: int, status: int) -> None:
        """No agent tells the end of an origin that was there before."""
        if self._given and process == self._origin and self._status is None:
            self._status = status

    def _up(self, machine: Machine, message: Up) -> None:
        self._where[message.process] = machine
        if message.process == self._origin:
            self._origin_pid = message.pid
        self._handle(broker.ProcessUp(message.process))

    def _died(self, machine: Machine, message: Died) -> None:
        port = machine.ports.get(message.process)
        if port is not None:
            for frame in port.last():
                self._hear(machine, message.process, frame)
            self._print(port, False)
        self._hear_out(machine, message.process)
        if port is not None:
            del machine.ports[message.process]
            for pipe in list(port.pipes):
                self._loop.forget(pipe)
            self._loop.drop(port.channel)
            port.close()
        self._where.pop(message.process, None)
        noted = message.body[:len(message.body) // BEGUN.size * BEGUN.size]
        begun: Any = tuple(BEGUN.iter_unpack(noted))
        how = _how(message.status)
        verdict = OVERDUE if message.overdue else CHARGED
        if message.overdue:                            # the others that it was on are not charged
            begun, how = begun[:message.overdue], "ran longer than --task-timeout"
        if message.process in self._expelled:
            self._expelled.discard(message.process)
            begun = begun or None                      # it may be further on by now than what had spoiled its words
            how = "was ended, as it had " + SPOILED
        if message.process == self._origin:
            self._origin_ended(message.status, how)
        why = "%s\n%s" % (machine.name, how)
        self._handle(broker.ProcessDied(message.process, why, begun, verdict))
        self._check_workers()

    def _origin_ended(self, status: int, how: str) -> None:
        self._origin_pid = 0
        if self._status is not None:
            return
        interrupted = self._interrupted > 0 and status == Status.INTERRUPTED << 8
        self._finished = not interrupted
        if os.WIFSIGNALED(status):
            self._report.error("the origin %s" % how)
            self._status = 128 + os.WTERMSIG(status)
        else:
            self._status = os.WEXITSTATUS(status)

    # What the broker wants done

    def _handle(self, event: broker.Event) -> None:
        actions = self._broker.handle(event)
        if type(event) is broker.Heard and type(event.message) is Result:
            self._balance.result(event.message.spent / 1e9)
        self._balance.see(self._broker.is_busy(), self._broker.workers())
        for watcher in self._watchers:
            watcher.see(event, actions)
        for action in actions:
            self._actions[type(action)](action)

    def _deliver(self, action: broker.Send) -> None:
        machine = self._where.get(action.process)
        if machine is None or machine.channel is None:
            return
        frame = encode(action.message)
        later = frame[0] == LATER
        if machine is self._head:
            self._loop.send(machine.ports[action.process].channel, frame, later)
        else:
            self._loop.send(machine.channel, encode(Relay(action.process, frame)), later)

    def _start_process(self, action: broker.Start) -> None:
        if action.kind == ORIGIN:
            self._origin = action.process
        if action.kind == ORIGIN and self._given:
            self._take_in(Port(action.process, self._given.detach(), -1, -1), 0)
            return
        self._tell(self._machines[action.host], Spawn(action.process, action.kind))

    def _leave_out(self, action: broker.LeaveOut) -> None:
        """Wait a moment before saying so: a script that does not load fails in the origin too, which says it best."""
        self._doubtful += 1
        self._loop.after(DOUBT, lambda: self._left_out(action))

    def _left_out(self, action: broker.LeaveOut) -> None:
        self._doubtful -= 1
        if self._status is not None:
            return
        first, _, rest = action.why.partition("\n")
        self._report.warning("%s is left out: %s" % (action.host, first))
        if rest and rest not in self._said_once:       # a script that does not load does so nowhere
            self._said_once.add(rest)
            self._report.warning(rest.rstrip())
        self._check_workers()

    def _over(self, action: broker.Over) -> None:
        if self._status is None:
            self._status = Status.FAILED

    # The course of the run

    def _open_if_settled(self) -> None:
        """Begin the script as soon as no host is on its way any more."""
        if all(machine.feed is None or machine.channel is not None for machine in self._remote()):
            self._open()

    def _open_soon(self) -> None:
        """There are workers: begin the script without the other hosts if they take too long."""
        if not self._waiting and not self._job.strict:
            self._waiting = True
            self._loop.after(self._job.wait, self._open)

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        if not self._broker.workers() and not any(machine.feed for machine in self._remote()):
            raise UsageError("no worker could be started on any host")
        if not self._given:
            self._handle(broker.Open(self._head.name))

    def _check_workers(self) -> None:
        """When the last worker is gone the run ends with an error, not with silence."""
        starting = any(machine.feed is not None and machine.channel is None for machine in self._remote())
        if self._opened and not self._doubtful and self._status is None and not self._broker.workers() and not starting:
            self._report.error("no worker is left on any host: the run cannot go on")
            self._status = Status.FAILED

    # Signals

    def _catch_signals(self) -> None:
        self._wake, self._signals = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._signals, False)
        signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:     # nohup
                signal.signal(number, lambda *_: None)
        self._loop.read(self._wake, self._signalled)

    def _signalled(self) -> None:
        for number in os.read(self._wake, 64):
            if self._status is not None and number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._hurried = number
            if number == signal.SIGINT:
                self._interrupt()
            elif number in (signal.SIGTERM, signal.SIGHUP) and self._status is None:
                self._report.warning("%s: everything is ended" % signal.Signals(number).name)
                self._status = 128 + number

    def _interrupt(self) -> None:
        """Ctrl-C is the origin's affair; a second one soon after is ours."""
        now = time.monotonic()
        again, self._interrupted = now - self._interrupted < TWICE, now
        if again or not self._origin_pid:
            self._status = Status.INTERRUPTED if self._status is None else self._status
        elif self._own_group:                          # else the terminal has sent it one already
            try:
                os.kill(self._origin_pid, signal.SIGINT)
            except ProcessLookupError:                 # it has just ended; its agent says so next
                return

    # The end

    def _end(self) -> None:
        """End every process of ours; nothing may outlive this by more than GRACE."""
        if self._status is None:                       # an exception ends the run
            self._status = Status.USAGE
        elif self._opened:
            self._report.info("Root process is done.")
            verdict = self._balance.verdict()
            if verdict:
                self._report.info(verdict)
        limit = time.monotonic() + GRACE
        self._loop.forget(self._arrivals.fileno())
        for machine in self._machines.values():
            self._tell(machine, End())
            if machine.channel is None:
                self._close_start(machine)
        while any(machine.channel for machine in self._machines.values()) and time.monotonic() < limit:
            self._loop.turn(0.5)
        for machine in self._remote():
            if machine.feed is not None and machine.channel is None:
                machine.feed.start.leave(max(limit - time.monotonic(), 0))
            self._close_start(machine)
        _end_child(self._agent_pid, limit)
        self._bring_out()
        for watcher in self._watchers:
            watcher.close(self._status)
        self._report.info("Finished cleaning spawned subprocesses.")

    def _bring_out(self) -> None:
        """Write what waits for a slow reader: all of it if the script has ended by itself and no signal comes."""
        if not self._finished:
            for outlet in self._outlets.values():
                outlet.flush(1.0)
        while self._finished and not self._hurried and any(outlet.waiting for outlet in self._outlets.values()):
            self._loop.turn()
        if self._hurried and self._status == Status.OK and any(outlet.waiting for outlet in self._outlets.values()):
            self._status = 128 + self._hurried         # output is lost
        for outlet in self._outlets.values():
            if outlet.failure:
                self._report.error("what tasks printed could not be written: %s" % outlet.failure)
                self._status = self._status or Status.FAILED


def run(job: Job, origin: Optional[socket] = None) -> int:
    """Run the job; the script's exit status.  Raises UsageError or HostError if it cannot be started.

    origin: leads to an owner that is there already and runs no script; it is process 1, and its end is that of the run.
    """
    return Server(job, origin).run()


def _in_foreground() -> bool:
    """Whether Ctrl-C at our terminal reaches every process of our group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _how(status: int) -> str:
    """How a process ended, from its waitpid status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        return "was killed by %s%s" % (_signal_name(number), hint)
    return "exited with status %d" % os.WEXITSTATUS(status)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:                                 # one of the real-time signals
        return "signal %d" % number


def _end_child(pid: int, limit: float) -> None:
    """Wait for the local agent; it ends by itself when its channel closes, and at the limit by force."""
    while True:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)
