"""The launcher's run: signals, the course from start to end, and all that the pure broker does not know: clock,
descriptors, machines.  Runs in the launcher; one thread.

    fork the local agent;  start ssh to each host                                  _begin_head, Machines.begin
    a host is ready: its workers are forked                                        Machines._ready
    no host is on its way any more, or waiting was long enough: the script begins  hosts_changed, _open
    what processes and agents say becomes an event; `Broker.handle` answers with
    actions: to hosts by machines.py, to processes by processes.py                 handle
    the origin has ended, a signal has come, or there is no worker: a status       conclude
    everything is ended, what was printed is written                               _end

Nothing here waits but the loop.  TOUR.md has a drawing of the processes.
"""
from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import time
from socket import socket
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from . import __version__, agent, broker, hooks, protocol
from .balance import Balance
from .broker import Broker
from .child import Settings
from .errors import Status, UsageError
from .hosts import distribution_lines
from .job import Job
from .loop import Loop
from .machines import Machine, Machines
from .processes import Processes
from .report import Outlet, Reporter

SPOILED = "written to the descriptor that leads to its launcher"
TOO_MANY = ("%d worker(s) here and %d other host(s) need more open files than this process may have (%d): raise that "
            "limit (ulimit -Hn), or have fewer")
FULL = errno.EMFILE, errno.ENFILE
NO_PROCESS = "no process can be started here: %s; end others of yours, or raise their limit (ulimit -u)"
NO_WORKER = "no worker could be started on any host"
GRACE = 4.0                # seconds in which everything must end
DOUBT = 0.5                # seconds in which the origin may fail for the same reason as its workers
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
TWICE = 2.0                # seconds within which a second Ctrl-C ends all


class Server:
    """One run."""

    def __init__(self, job: Job, origin: Optional[socket] = None) -> None:
        """origin: leads to an owner that is there already and runs no script; it is process 1, and its end is that of
        the run."""
        self._job, self._given = job, origin
        self._limits = agent.raise_limit()
        self._report = Reporter(job.verbose)
        self._loop = Loop()
        self._broker = Broker()
        self._balance = Balance()
        self._outlets = {1: Outlet(self._loop, 1), 2: Outlet(self._loop, 2)}
        self._stage = hooks.Stage(job, self._loop, self._report, self._outlets, self._broker.processes)
        self._watchers: List[hooks.Watcher] = hooks.call("watch", job.leaves, self._stage)
        self._attending: Set[Any] = set()          # leaves that were not asked for, but have something to say
        self._actions: Dict[type, Callable[[Any], None]] = {
            broker.Send: lambda action: self._processes.send(action.process, action.message),
            broker.Start: self._start_process, broker.LeaveOut: self._leave_out,
            broker.Over: lambda action: self.conclude(Status.FAILED)}
        self._words: Dict[type, Callable[[Machine, Any], None]] = {
            protocol.Relay: lambda machine, relay: self._processes.hear(relay.process, relay.body),
            protocol.Up: lambda machine, up: self._enter(machine, up.process, up.pid),
            protocol.Died: self._died, protocol.Print: self._printed, protocol.Ping: self._pong,
            protocol.Note: lambda machine, note: self._report.warning(note.body.decode("utf-8", "replace"))}
        self._processes = Processes(self._loop, self._outlets, self.handle, self._closed, self._spoiled)
        self._machines = Machines(job, self._loop, self._report, self._processes, self._words, self)
        self._origin = 0                           # the origin's process number, once it is started
        self._origin_pid = 0
        self._agent_pid = 0
        self.opened = False                        # the script has been let begin
        self._staffed = False                      # there was a worker
        self._status: Optional[int] = None
        self._interrupted = -TWICE
        self._finished = False                     # the origin has ended by itself: all output is to come out
        self._hurried = 0                          # the signal that came while the run was ending
        self._said_once: Set[str] = set()
        self._doubtful = 0                         # hosts that are left out, not said yet

    def run(self) -> int:
        """Until the script has ended; its exit status.  Raises UsageError or HostError if it cannot be started."""
        self._announce()
        self._catch_signals()
        self._begin_head()
        try:
            for machine in self._machines.remote:
                self._machines.begin(machine)
            self.hosts_changed()
            self._machines.beat()
            while self._status is None:
                self._loop.turn(may_spin=self._broker.is_calm())
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise UsageError(self._too_many()) from None
        finally:
            self._end()
        return self._status

    def _too_many(self) -> str:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return TOO_MANY % (self._machines.head.share.workers, len(self._machines.remote), limit)

    def _announce(self) -> None:
        version = ".".join(map(str, sys.version_info[:3]))
        self._report.info("microscoop %s on %s using Python %s" % (__version__, sys.platform, version))
        counts = [share.workers for share in self._job.shares]
        total = "?" if None in counts else str(sum(count or 0 for count in counts))
        hosts = sum(count != 0 for count in counts)
        self._report.info("Deploying %s worker(s) over %d host(s)." % (total, hosts))
        self._report.info("Worker distribution: ")
        for line in distribution_lines(self._job.shares):
            self._report.info(line)

    # This machine

    def _begin_head(self) -> None:
        """Fork the local agent, before there is anything that it should not have."""
        ours = [*self._loop.descriptors, *([self._given.fileno()] if self._given else [])]
        try:
            self._agent_pid, sock, self._arrivals = agent.fork_local(
                self._settings(), self._limits, ours, _in_foreground())
        except OSError as error:                       # EAGAIN, ENOMEM; EMFILE
            raise UsageError(self._too_many() if error.errno in FULL else NO_PROCESS % error.strerror) from None
        self._loop.read(self._arrivals.fileno(), self._arrived)
        self.opened = not self._machines.remote        # nothing to wait for: the script begins at once
        self._machines.begin_head(sock, self.opened or self._given is not None)

    def _settings(self) -> Settings:
        job, script = self._job, self._job.script and os.path.join(os.getcwd(), self._job.script)
        path0 = sys.path[0] if self._given else job.folder or os.path.dirname(os.path.realpath(script))
        return Settings(script=script, path0=path0, directory=job.path, watchers=self._watchers,
                        **job.settings(self._machines.head.share))

    def _arrived(self) -> None:
        """The near ends of processes that the local agent has forked."""
        with contextlib.suppress(BlockingIOError, ConnectionError):    # that was all
            while True:
                self._enter(self._machines.head, *agent.receive_ends(self._arrivals))

    # What agents say

    def _pong(self, machine: Machine, message: protocol.Ping) -> None:
        """The way is as long as the quickest answer took: others, the first above all, found the agent or us at work.
        So ask again as long as it gets shorter."""
        trip = max(int(time.monotonic() * 1e6) - message.sent, 1)
        if not 0 < machine.round_trip <= trip:
            machine.round_trip = trip
            self.handle(broker.Measured(machine.name, trip / 1e6))
            self._machines.ping(machine)

    def _printed(self, machine: Machine, message: protocol.Print) -> None:
        outlet = self._processes.put_out(message.process, message.stream, message.body)
        outlet.when_relieved(lambda: self._machines.tell(machine, protocol.Printed(len(message.body))))

    def _spoiled(self, machine: Machine, process: int, why: str) -> None:
        """What it says is not our protocol, say since a task wrote to the wrong descriptor: end it."""
        name = "the origin" if process == self._origin else "worker %s/%d" % (machine.name, process)
        self._report.warning("%s is ended: it has %s: %s" % (name, SPOILED, why))
        self._machines.tell(machine, protocol.Kill(process))
        self._closed(process, Status.FAILED)

    def _closed(self, process: int, status: int = Status.OK) -> None:
        """An owner that was given to us has gone, or is to go; of all others their agent tells the end."""
        if self._given and process == self._origin:
            self.conclude(status)

    def _enter(self, machine: Machine, process: int, pid: int, ends: Sequence[int] = ()) -> None:
        """It runs there; ends: as of a Port, where that is this machine."""
        self._processes.enter(machine, process, ends)
        if process == self._origin:
            self._origin_pid = pid
        else:
            self._staffed = True
        self.handle(broker.ProcessUp(process))

    def _died(self, machine: Machine, message: protocol.Died) -> None:
        if machine is self._machines.head and not self.is_over():
            self._arrived()                            # its near end has come before, another way
        self._processes.bury(message.process, lambda expelled: self._buried(machine, message, expelled))

    def _buried(self, machine: Machine, message: protocol.Died, expelled: bool) -> None:
        begun: Any = tuple(protocol.BEGUN.iter_unpack(message.body))
        how, verdict = _how(message.status), protocol.CHARGED
        if message.overdue:
            how, verdict = "ran longer than --task-timeout", protocol.OVERDUE
        if expelled:
            begun = None                               # it may be further on by now than what had spoiled its words
            how = "was ended, as it had " + SPOILED
        if message.process == self._origin:
            self._origin_ended(message.status, how)
        why = "%s\n%s" % (machine.name, how)
        self.handle(broker.ProcessDied(message.process, why, begun, verdict))
        self._check_workers()

    def _origin_ended(self, status: int, how: str) -> None:
        if not self._origin_pid:
            self.conclude(Status.USAGE, "the process that runs the script could not be started")
        self._origin_pid = 0
        if self.is_over():
            return
        interrupted = self._interrupted > 0 and status == Status.INTERRUPTED << 8
        self._finished = not interrupted
        if os.WIFSIGNALED(status):
            self.conclude(128 + os.WTERMSIG(status), "the origin %s" % how)
        else:
            self.conclude(os.WEXITSTATUS(status))

    # The broker

    def handle(self, event: broker.Event) -> None:
        """Let the broker handle an event, and do what it wants done."""
        actions = self._broker.handle(event)
        if type(event) is broker.Heard:
            if type(event.message) is protocol.Result:
                self._balance.result(event.message.spent / 1e9)
            elif type(event.message) is protocol.Remark:
                self._attend(hooks.speaker(event.message.body))
        self._balance.see(self._broker.is_busy(), self._broker.workers())
        for watcher in self._watchers:
            watcher.see(event, actions)
        for action in actions:
            self._actions[type(action)](action)

    def _attend(self, leaf: Any) -> None:
        if hasattr(leaf, "attend") and leaf not in self._attending:
            self._attending.add(leaf)
            self._watchers.append(leaf.attend(self._stage))

    def _start_process(self, action: broker.Start) -> None:
        if action.kind == protocol.ORIGIN:
            self._origin = action.process
        if action.kind == protocol.ORIGIN and self._given:
            self._enter(self._machines.head, action.process, 0, [self._given.detach()])
        else:
            self._machines.tell(self._machines.all[action.host], protocol.Spawn(action.process, action.kind))

    def _leave_out(self, action: broker.LeaveOut) -> None:
        """Wait a moment before saying so: a script that does not load fails in the origin too, which says it best."""
        self._doubtful += 1
        self._loop.after(DOUBT, lambda: self._left_out(action))

    def _left_out(self, action: broker.LeaveOut) -> None:
        self._doubtful -= 1
        if self.is_over():
            return
        first, _, rest = action.why.partition("\n")
        self._report.warning("%s is left out: %s" % (action.host, first))
        if rest and rest not in self._said_once:       # a script that does not load does so nowhere
            self._said_once.add(rest)
            self._report.warning(rest.rstrip())
        self._check_workers()

    # The course of the run

    def conclude(self, status: int, why: str = "") -> None:
        """The run ends with this status, and is told why; unless it is ending already."""
        if self._status is None:
            self._status = status
            if why:
                self._report.error(why)

    def is_over(self) -> bool:
        """Whether it is known how the run ends."""
        return self._status is not None

    def hosts_changed(self) -> None:
        """A host is ready, failed or lost: perhaps the script can begin, or cannot go on.

        It begins as soon as no host is on its way any more; once there are workers, without the others if they take
        too long."""
        if self._broker.workers() and not self.opened and not self._job.strict:
            self._loop.after(self._job.wait, self._open)
        if not self._machines.are_starting():
            self._open()
        self._check_workers()

    def _open(self) -> None:
        if self.opened:
            return
        self.opened = True
        if not self._broker.workers() and not any(machine.start for machine in self._machines.remote):
            raise UsageError(NO_WORKER)
        late = [machine.name for machine in self._machines.remote if machine.is_starting()]
        if late:
            self._report.info("The script begins; to join in when they are ready: %s" % ", ".join(late))
        if not self._given:
            self.handle(broker.Open(self._machines.head.name))

    def is_stuck(self) -> bool:
        """Whether the script has begun, and no worker is left or on its way."""
        return self.opened and not (self._broker.workers() or self._doubtful or self._machines.are_starting())

    def _check_workers(self) -> None:
        """When the last worker is gone the run ends with an error, not with silence."""
        if self.is_stuck():
            if self._staffed:
                self.conclude(Status.FAILED, "no worker is left on any host: the run cannot go on")
            else:
                self.conclude(Status.USAGE, NO_WORKER)

    # Signals

    def _catch_signals(self) -> None:
        self._loop.hear_signals(self._signalled)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:     # nohup
                signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no child could be waited for
        signal.pthread_sigmask(signal.SIG_SETMASK, ())     # whoever started us may have had them blocked

    def _signalled(self, numbers: bytes) -> None:
        for number in filter(ENDING.__contains__, numbers):    # others have handlers that were there before us
            if self.is_over():
                self._hurried = number
            if number == signal.SIGINT:
                self._interrupt()
            elif not self.is_over():
                self._report.warning("%s: everything is ended" % signal.Signals(number).name)
                self.conclude(128 + number)

    def _interrupt(self) -> None:
        """Ctrl-C is the origin's affair; a second one soon after is ours."""
        now = time.monotonic()
        again, self._interrupted = now - self._interrupted < TWICE, now
        if again or not self._origin_pid:
            self.conclude(Status.INTERRUPTED)
        else:
            try:
                if os.getpgid(self._origin_pid) != os.getpgrp():   # else the terminal has sent it one already
                    os.kill(self._origin_pid, signal.SIGINT)
            except ProcessLookupError:                 # it has just ended; its agent says so next
                return

    # The end

    def _end(self) -> None:
        """End every process of ours; nothing may outlive this by more than GRACE."""
        if self._status is None:                       # an exception ends the run
            self._status = Status.USAGE
        elif self.opened:
            self._report.info("Root process is done.")
            verdict = self._balance.verdict()
            if verdict:
                self._report.info(verdict)
        self._loop.forget(self._arrivals.fileno())
        self._machines.end(GRACE)
        os.kill(self._agent_pid, signal.SIGKILL)       # as a rule it has just ended by itself
        os.waitpid(self._agent_pid, 0)
        self._bring_out()
        self._tell_of_lost_output()
        for watcher in self._watchers:
            watcher.close(self._status)
        self._report.info("Finished cleaning spawned subprocesses.")

    def _bring_out(self) -> None:
        """Write what waits for a slow reader: all of it if the script has ended by itself and no signal comes."""
        if self._finished:
            while self._unwritten() and not self._hurried:
                self._loop.turn()
        else:
            for outlet in self._outlets.values():
                outlet.flush(1.0)

    def _unwritten(self) -> bool:
        return any(outlet.waiting for outlet in self._outlets.values())

    def _tell_of_lost_output(self) -> None:
        if self._hurried and self._status == Status.OK and self._unwritten():
            self._status = 128 + self._hurried
        for outlet in self._outlets.values():
            if outlet.failure:
                self._report.error("what tasks printed could not be written: %s" % outlet.failure)
                self._status = self._status or Status.FAILED


def _in_foreground() -> bool:
    """Whether Ctrl-C at our terminal reaches every process of our group."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:                                    # there is none
        return False


def _how(status: int) -> str:
    """How a process ended, from its waitpid status."""
    if not os.WIFSIGNALED(status):
        return "exited with status %d" % os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    names = {one.value: one.name for one in signal.Signals}    # but not of most real-time signals
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return "was killed by %s%s" % (names.get(number, "signal %d" % number), hint)
