"""The hosts of a run and their agents: start, heartbeat, loss, another start.  Runs in the launcher.

The head's agent is there before all else; each other one is reached by an ssh of its own.
"""
from __future__ import annotations

import os
import sys
import time
from socket import socket
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from . import agent, broker
from .bootstrap import usable_cores
from .channel import Channel
from .child import core_share
from .errors import HostError, Status
from .hosts import Share
from .job import Job
from .loop import Loop
from .processes import Processes
from .protocol import End, Guard, Message, Ping, ProtocolError, decode, encode
from .report import Reporter

if TYPE_CHECKING:
    from .files import Parcel
    from .launch import Start
    from .server import Server

GONE = "its ssh or its agent has ended"
NOISE = "what came is no message of its agent (%s): does a program that its start-up files start print there?"
LOCAL_TRIP = 0.0002        # seconds that a message and its answer take on one machine; elsewhere, until it is known
BEAT = 2                   # seconds between pings
SILENCE = 12               # seconds without a word from a host; ssh itself gives up after 10 to 15
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)   # goes on while the machine is asleep
AGAIN = (10, 30, 90)       # seconds after which a lost host is tried again; up for the last of these, it begins anew


class Machine:
    """A host of this run, from its start to its end."""

    def __init__(self, share: Share) -> None:
        self.share, self.name = share, share.host.name
        self.start: Optional[Start] = None         # as long as its ssh lives
        self.channel: Optional[Channel] = None     # to the agent, while it is up
        self.since = 0.0                           # when it came up last; 0: never
        self.heard = 0.0
        self.round_trip = 0                        # microseconds; 0: not known
        self.losses = 0

    def is_starting(self) -> bool:
        """Whether its ssh runs and its agent has not answered yet."""
        return self.start is not None and self.channel is None


class Machines:
    """All of them."""

    def __init__(self, job: Job, loop: Loop, report: Reporter, processes: Processes,
                 words: Dict[type, Callable[[Machine, Any], None]], run: Server) -> None:
        self._job, self._loop, self._report, self._processes = job, loop, report, processes
        self._words = words                        # what agents say, and what is done about it
        self._run = run
        self.all = {share.host.name: Machine(share) for share in job.shares}
        self.head = next(machine for machine in self.all.values() if machine.share.host.local)
        self.remote = [machine for machine in self.all.values() if machine is not self.head]
        self._parcel: Optional[Parcel] = None      # what hosts must be sent, looked for when the first one is started
        self._beaten = time.clock_gettime(CLOCK)   # when the hosts were last sent a ping

    def are_starting(self) -> bool:
        """Whether any of them is."""
        return any(machine.is_starting() for machine in self.remote)

    def begin_head(self, sock: socket, origin: bool) -> None:
        """The local agent was forked, and this leads to it; origin: it is to fork that at once."""
        self._talk_to(self.head, sock.detach())        # open as long as we live
        self._up(self.head, usable_cores(), sys.version_info[1], origin)

    def begin(self, machine: Machine) -> None:
        """Start ssh; the loop has what comes of it."""
        if self._run.is_over() or machine.start is not None:
            return
        from . import files, launch
        self._parcel = self._parcel or files.Parcel(self._job.script, self._job.send, self._job.folder)
        machine.start = launch.Start(self._loop, machine.share, self._job, self._parcel, lambda: self._settled(machine),
                                     lambda: self.lose(machine, GONE), self._guard)
        self._run.handle(broker.Awaited(machine.name))

    def _guard(self, number: int, pid: int, directory: str) -> None:
        """Have the local agent end it, should we be killed."""
        head = self.head.channel
        if head is not None:
            self._loop.send(head, encode(Guard(number, pid, os.fsencode(directory))))
            self._loop.flush(head)                     # at once: we may be killed before the next turn

    def _settled(self, machine: Machine) -> None:
        start = machine.start
        assert start is not None
        if start.error is not None:
            self._failed(machine, start.error)
        elif start.channel is not None:
            self._ready(machine, start.channel, start.facts)
        self._run.hosts_changed()

    def _ready(self, machine: Machine, channel: socket, facts: Dict[str, Any]) -> None:
        self._talk_to(machine, channel.fileno())
        machine.round_trip = 0
        self._report.info("%s is ready: Python %s, %s, login %.0f ms" % (
            machine.name, ".".join(map(str, facts["version"])), "in place" if facts["in_place"] else "sent",
            facts["login"] * 1000), 1)
        self._up(machine, facts["cores"], facts["version"][1])
        self.ping(machine)

    def _up(self, machine: Machine, cores: int, minor: int, origin: bool = False) -> None:
        workers = cores if machine.share.workers is None else machine.share.workers
        if workers:
            self._report.info("%s: libraries with threads of their own (OMP_NUM_THREADS and its kin) get %d a worker"
                              % (machine.name, core_share(cores, workers)), 1)
        self._run.handle(broker.HostUp(machine.name, workers, LOCAL_TRIP, minor, origin))

    def _failed(self, machine: Machine, error: HostError) -> None:
        self.close_start(machine)
        self._run.handle(broker.Awaited(machine.name, False))
        if self._job.strict and not self._run.opened:
            raise error
        self._report.warning(str(error) + (self._try_again(machine) if machine.since else ""))     # it was up before

    def close_start(self, machine: Machine, seconds: float = 0) -> None:
        """End its ssh, if there is one; seconds: as of launch.Start.close."""
        start, machine.start = machine.start, None
        if start is not None:
            self.tell(self.head, Guard(start.number, 0))       # nothing any more
            start.close(seconds)

    # Agents

    def _talk_to(self, machine: Machine, descriptor: int) -> None:
        machine.channel = Channel(descriptor, descriptor, peer="agent of " + machine.name)
        machine.since = machine.heard = time.monotonic()
        self._loop.read(descriptor, lambda: self._from_agent(machine))

    def _from_agent(self, machine: Machine) -> None:
        channel = machine.channel
        assert channel is not None
        try:
            messages = [decode(frame, self._words) for frame in channel.receive()]
        except (EOFError, OSError, ProtocolError) as error:
            self.lose(machine, NOISE % error if isinstance(error, ProtocolError) else GONE)
            return
        machine.heard = time.monotonic()
        for message in messages:
            if machine.channel is channel:
                self._words[type(message)](machine, message)

    def tell(self, machine: Machine, message: Message) -> None:
        """Tell an agent something, if it is there."""
        if machine.channel is not None:
            self._loop.send(machine.channel, encode(message))

    def ping(self, machine: Machine) -> None:
        """Ask its agent for an answer, if it is there: how long that takes is the round trip."""
        self.tell(machine, Ping(int(time.monotonic() * 1e6)))

    def _drop(self, machine: Machine) -> None:
        """Hear its agent no more."""
        if machine.channel is not None:
            self._loop.drop(machine.channel)
            machine.channel = None

    def end(self, seconds: float) -> None:
        """The run is over: tell every agent, and give all of them together so many seconds to end."""
        limit = time.monotonic() + seconds
        for machine in self.all.values():
            self.tell(machine, End())
            if machine.channel is None:
                self.close_start(machine)
        while any(machine.channel for machine in self.all.values()) and time.monotonic() < limit:
            self._loop.turn(0.5)
        for machine in self.remote:
            self.close_start(machine, max(limit - time.monotonic(), 0))

    # Heartbeat and loss

    def beat(self) -> None:
        """Every few seconds: are you there?  The answer also measures the round trip."""
        self._notice_absence()
        for machine in self.remote:
            if machine.channel is not None and time.monotonic() - machine.heard > SILENCE:
                self.lose(machine, "no answer for %d s" % SILENCE)
            self.ping(machine)
        self._beaten = time.clock_gettime(CLOCK)
        self._loop.after(BEAT, self.beat)

    def _notice_absence(self) -> None:
        """If we, or this machine, did nothing for long, no host is to blame.  Their agents may have given us up."""
        away = time.clock_gettime(CLOCK) - self._beaten
        if away < 3 * BEAT:
            return
        self._beaten += away
        given_up = [machine for machine in self.remote if machine.start is not None and away > agent.SILENCE]
        for machine in self.remote:
            machine.heard = time.monotonic()
        if given_up and not self._run.is_over():
            names = ", ".join(machine.name for machine in given_up)
            self._report.warning("this run was suspended for %d s; started again: %s" % (away, names))
            for machine in given_up:
                self._hang_up(machine, "while the launcher was suspended")
                self.begin(machine)

    def lose(self, machine: Machine, why: str) -> None:
        """An agent is gone, and all its processes with it."""
        channel = machine.channel
        self._notice_absence()
        if machine.channel is not channel or channel is None:      # it is being started again
            return
        if machine is self.head or self._run.is_over():
            self._drop(machine)
            if machine is self.head:
                self._run.conclude(Status.FAILED, "the agent of this machine has ended: the run cannot go on")
            return
        assert machine.start is not None
        machine.start.hear_complaints()                 # ssh's last words
        words = machine.start.complaints()[-1:] or [why]
        if time.monotonic() - machine.since > AGAIN[-1]:
            machine.losses = 0
        self._hang_up(machine, "with its host")
        self._report.warning("%s is lost: %s%s" % (machine.name, words[0], self._try_again(machine)))
        self._run.hosts_changed()

    def _try_again(self, machine: Machine) -> str:
        """Start a lost host again in a while, but not for ever; words that say so."""
        if self._run.is_stuck():                        # the run ends before that
            return ""
        if machine.losses == len(AGAIN):
            return "; it was tried again %d times, and is left out now" % machine.losses
        seconds = AGAIN[machine.losses]
        machine.losses += 1
        self._loop.after(seconds, lambda: self.begin(machine))
        return "; it is tried again in %d s" % seconds

    def _hang_up(self, machine: Machine, how: str) -> None:
        """Forget a host's agent and its processes."""
        if machine.channel is not None:
            self._drop(machine)
            self._processes.bury_all(machine)
            self._run.handle(broker.HostDown(machine.name, "%s\nwas lost %s" % (machine.name, how)))
        self.close_start(machine)
