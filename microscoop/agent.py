"""The agent: parent of a host's processes.  Runs on each host, the head's own too; one thread, no code of the user.

It forks them, reaps them, says how each ended, passes on what they say and print, replaces nobody by itself, and ends
them all when the head is gone.  On the head it passes each process's near end to the launcher, so nothing is relayed
there; elsewhere it keeps them and wraps their frames in Relay.

What is made before a fork, and which end goes to whom:

    agent, or launcher                          process
    near end  <========= a socket =========>    far end             what it says and hears
    two pipes <-----------------------------    stdout, stderr      of a worker; the origin has the launcher's own
    lifeline  ------------ a pipe ----------    lifeline            nothing; it ends with the agent: see _hang_on
    note      ======= shared memory ========    note                the items that it is on, to be read after its death

The agent keeps the last two, on the head too.  What happens to a signal: the loop hears SIGCHLD; SIGINT is blocked
around a fork, so that one that comes then is the origin's; children begin with the handlers that a program has.
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see child.py
import errno
import fcntl
import gc
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from array import array
from contextlib import suppress
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

from . import child, protocol
from .bootstrap import leftovers
from .cache import Cache
from .channel import Channel
from .child import Settings
from .errors import Status
from .loop import Loop
from .ports import Port
from .protocol import BEGUN, LATER, ORIGIN, WORKER, Begun, ProtocolError, about_kept, decode, encode

STOPPED = 30               # seconds that a worker may be stopped before it is replaced
SILENCE = 30               # seconds without a word from the head
BEAT = 2                   # seconds between looks at these; fewer where tasks have a limit
PAUSE = 1                  # seconds before a process that could not be started is called dead, and may be replaced
CURES = {errno.EMFILE: " (at most {}): raise that limit (ulimit -Hn), or have fewer workers",
         errno.EAGAIN: ": your account may have no more processes (ulimit -u); have fewer workers"}
LAST_WORDS = 2             # seconds that telling the head of leftovers may take
CLEANING = 1               # seconds in which what the launcher had started may end by itself, when that is gone
UNPRINTED = 1 << 20        # bytes that may be on their way to the head's stdout and stderr
NOTE_SIZE = mmap.PAGESIZE
ENDS = struct.Struct("=IQ")       # process, pid: what goes with the descriptors of a near end

Limits = Tuple[int, int]          # soft and hard, as setrlimit has them


class Child:
    """A process that this agent has forked."""

    def __init__(self, process: int, pid: int, kind: int, note: mmap.mmap, lifeline: int, port: Optional[Port]) -> None:
        self.process, self.pid, self.kind, self.port = process, pid, kind, port
        self.note = note                               # the items that it is on
        self.lifeline = lifeline                       # as long as we hold this, it lives
        self.stopped: Optional[float] = None           # since when
        self.since: Dict[Begun, float] = {}            # the items that it is on, and since when
        self.overdue: List[Begun] = []                 # the items for which it is being ended

    def begun(self) -> List[Begun]:
        """The items that it is on, or was when it died."""
        with memoryview(self.note) as raw, raw.cast("Q") as numbers:
            return [(owner, call, first + place)
                    for owner, call, first, place in zip(*[iter(numbers)] * 4) if owner]

    def end(self) -> None:
        """SIGKILL for it, which was not reaped yet, and for its group if it leads one."""
        _kill(os.killpg, self.pid)
        _kill(os.kill, self.pid)


class Agent:
    """One host's processes, and the way to the head, which speaks first: nothing is said before its first word."""

    def __init__(self, channel: Channel, settings: Settings, limits: Limits, held: Sequence[int],
                 passing: Optional[socket.socket] = None, foreground: bool = False) -> None:
        self.loop = Loop()
        self._limits = limits                          # on open files, for the processes
        self._held = held                              # descriptors that only we shall hold open
        self._channel, self._settings, self._passing, self._foreground = channel, settings, passing, foreground
        self._children: Dict[int, Child] = {}          # by process number
        self._guarded: Dict[int, protocol.Guard] = {}      # the launcher's ssh processes, each with its directory
        self._streams = _line_buffered()
        self._prepared = child.Prepared(settings)
        self._cache = Cache(lambda process, message: self._pass_up(process, encode(message)),
                            lambda process, message: self._pass_down(process, encode(message)))
        self._unprinted = 0
        self._refused = False                          # a process could not be started, and the head knows why
        self._over = False
        self._heard = self._looked = time.monotonic()
        self._handlers: Dict[type, Callable[[Any], None]] = {
            protocol.Spawn: self._spawn, protocol.Kill: self._kill, protocol.End: self._end, protocol.Relay: self._down,
            protocol.Ping: self._send, protocol.Printed: self._printed,
            protocol.Guard: lambda guard: self._guarded.update({guard.start: guard})}

    def run(self) -> None:
        """Serve the head until it says End or is gone; then nothing of ours is left here."""
        assert threading.active_count() == 1, "an agent forks: it must not have threads"
        gc.freeze()                                    # so that no collection in a child touches, and copies, our pages
        self.loop.hear_signals(self._reap)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGINT, _nothing)         # Ctrl-C is for the origin
        signal.pthread_sigmask(signal.SIG_SETMASK, ())     # whoever started us may have had them blocked
        self.loop.read(self._channel.reader, self._from_head)
        self._look()
        try:
            while not self._over:
                self.loop.turn()
        finally:
            self._end_all()
            self._end_guarded()

    # The head

    def _from_head(self) -> None:
        try:
            messages = [decode(frame, self._handlers) for frame in self._channel.receive()]
        except (EOFError, OSError, ProtocolError):
            self._over = True
            return
        self._heard = time.monotonic()
        for message in messages:
            if not self._over:
                self._handlers[type(message)](message)

    def _send(self, message: protocol.Message) -> None:
        self.loop.send(self._channel, encode(message))

    def _note(self, text: str) -> None:
        self._send(protocol.Note(text.encode("utf-8", "backslashreplace")))

    def _end(self, message: protocol.End) -> None:
        self._guarded.clear()                          # the launcher lives, and ends them itself
        self._over = True

    def _kill(self, message: protocol.Kill) -> None:
        if message.process in self._children:
            self._children[message.process].end()

    def last_words(self, text: str) -> None:
        """One line for the user, when all else is done; the head waits for our end."""
        self._note(text)
        self.loop.flush(self._channel)
        limit = time.monotonic() + LAST_WORDS
        while self._channel.waiting and time.monotonic() < limit:
            self.loop.turn(0.1)

    # Forking

    def _spawn(self, message: protocol.Spawn) -> None:
        ends: List[int] = []                           # lifeline, and those of stdout and stderr
        pair: Sequence[socket.socket] = ()
        try:
            pair = near, far = socket.socketpair()
            for _ in range(3 if message.kind == WORKER else 1):
                ends += os.pipe()
            note = mmap.mmap(-1, NOTE_SIZE)
            assert threading.active_count() == 1
            _signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))    # lest ours takes what is for the origin
            pid = os.fork()
        except OSError as error:                       # too many open files or processes: there may be room again
            _signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            for descriptor in ends:
                os.close(descriptor)
            for end in pair:
                end.close()
            cure = CURES.get(error.errno or 0, "").format(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            why = "a process cannot be started: %s%s" % (error.strerror, cure)
            self.loop.after(PAUSE, lambda: self._refuse(message.process, why))
            return
        lifeline, pipes = ends[:2], tuple(ends[2:])
        if pid == 0:
            os.close(near.fileno())                    # not near.detach(): that is Python code, and takes more pages
            os.close(lifeline[1])
            self._become(message, far, pipes, lifeline[0], note)
        _signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        far.close()
        for descriptor in (*pipes[1::2], lifeline[0]):
            os.close(descriptor)
        if self._own_group(message.kind):
            _set_group(pid)
        self._children[message.process] = Child(message.process, pid, message.kind, note, lifeline[1],
                                                self._hand_out(message.process, pid, near.detach(), pipes[::2]))

    def _refuse(self, process: int, why: str) -> None:
        """Say that it has ended, and, the first time, why."""
        if not self._refused:
            self._refused = True
            self._note("%s: %s" % (self._settings.host, why))
        self._send(protocol.Died(process, Status.DEFECT << 8))

    def _own_group(self, kind: int) -> bool:
        """All but an origin that may read from the terminal: that needs the launcher's group."""
        return kind == WORKER or not self._foreground

    def _hand_out(self, process: int, pid: int, near: int, pipes: Tuple[int, ...]) -> Optional[Port]:
        """Give the near end to the launcher, or keep it here and say that the process is up."""
        if self._passing is not None:
            ends = array("i", [near, *pipes])
            try:
                self._passing.sendmsg([ENDS.pack(process, pid)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)])
            except ConnectionError:                    # the launcher has been killed
                self._over = True
            for end in ends:
                os.close(end)
            return None
        self._send(protocol.Up(process, pid))
        return Port(self.loop, process, (near, *pipes), self._said, self._print, _nothing)     # waitpid tells its end

    def _become(self, message: protocol.Spawn, far: socket.socket, pipes: Tuple[int, ...], lifeline: int,
                note: mmap.mmap) -> NoReturn:
        """The child: nothing of the agent's stays open here."""
        try:
            own = self._own_group(message.kind)
            if own:
                _set_group(0)
            _hang_on(lifeline, own)
            self._close_ours()
            with suppress(OSError, ValueError):        # forbidden, then it was to us as well
                resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
            child.reset_signals()
            if message.kind == ORIGIN:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self._prepared.restore_environment()
                child.origin(self._settings, message.process, far)
            _signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            _redirect(pipes)
            sys.stdout, sys.stderr = self._streams
            child.worker(self._settings, self._prepared, message.process, far, memoryview(note).cast("Q"))
        except BaseException:                          # a defect of ours must not return into the agent's loop
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(Status.DEFECT)

    def _close_ours(self) -> None:
        """In a child: close what belongs to the agent.  One end left open, and others would not see it end."""
        ours = {self._channel.reader, self._channel.writer, *self._held, *self.loop.descriptors}
        for other in self._children.values():
            ours.add(other.lifeline)
            if other.port is not None:
                ours.update(other.port.descriptors())
        if self._passing is not None:
            ours.add(self._passing.fileno())
        for descriptor in ours:
            os.close(descriptor)

    # What the processes say and print; only where nothing is passed on

    def _said(self, process: int, frame: bytes) -> None:
        asked = about_kept(frame)
        if isinstance(asked, protocol.Pull):
            self._cache.pull(process, asked)
        else:
            self._pass_up(process, frame)

    def _pass_up(self, process: int, frame: bytes) -> None:
        self.loop.send(self._channel, encode(protocol.Relay(process, frame)), frame[0] == LATER)

    def _down(self, message: protocol.Relay) -> None:
        kept = about_kept(message.body)
        if kept is None or self._cache.hear(message.process, kept):
            self._pass_down(message.process, message.body)

    def _pass_down(self, process: int, frame: bytes) -> None:
        target = self._children.get(process)
        if target is not None and target.port is not None:
            target.port.send(frame)

    def _print(self, port: Port, stream: int, text: bytes) -> None:
        self._unprinted += len(text)
        self._send(protocol.Print(port.process, stream, text))
        if self._unprinted > UNPRINTED:                # the head is slow to print: then what it says comes slowly, too
            port.listen(False)

    def _printed(self, message: protocol.Printed) -> None:
        self._unprinted -= message.size
        if self._unprinted <= UNPRINTED:
            for one in self._children.values():
                if one.port is not None:
                    one.port.listen(True)

    # Deaths

    def _reap(self, _: bytes) -> None:
        """Take in every change of a child's state."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if not pid:
                return
            for one in [c for c in self._children.values() if c.pid == pid]:
                self._changed(one, status)

    def _changed(self, one: Child, status: int) -> None:
        if os.WIFSTOPPED(status):
            one.stopped = time.monotonic()
            if one.kind == ORIGIN and not self._foreground and os.WSTOPSIG(status) in (signal.SIGTTIN, signal.SIGTTOU):
                self._stop_together(one, os.WSTOPSIG(status))
        elif os.WIFCONTINUED(status):
            one.stopped = None
        else:
            self._bury(one, status)

    def _stop_together(self, one: Child, number: int) -> None:
        """An origin in the background wants the terminal: it joins the launcher's group and stops with that, as a shell
        expects of a job, which it can then bring to the foreground."""
        self._foreground = True
        os.setpgid(one.pid, os.getpgrp())
        os.killpg(0, number)
        _kill(os.kill, one.pid, signal.SIGCONT)        # no shell may be left to do so; then its read fails

    def _bury(self, one: Child, status: int) -> None:
        del self._children[one.process]
        if self._own_group(one.kind):
            _kill(os.killpg, one.pid)                  # what it forked goes with it
        os.close(one.lifeline)
        self._cache.gone(one.process)
        if one.port is not None:
            for frame in one.port.last():
                self._send(protocol.Relay(one.process, frame))
            one.port.close()
        begun = b"".join(BEGUN.pack(*item) for item in one.overdue or one.begun())      # the overdue ones alone
        one.note.close()
        self._send(protocol.Died(one.process, status, bool(one.overdue), begun))

    # What lasts too long

    def _look(self) -> None:
        """Every so often: is the head there, is a worker stopped for good, does a task run longer than it may?"""
        now, limit = time.monotonic(), self._settings.task_timeout
        if now - self._looked > 2 * BEAT:              # this machine itself was asleep
            self._heard = now
        self._looked = now
        if self._passing is None and now - self._heard > SILENCE:      # on the head we just see the channel's end
            self._over = True
        for one in self._children.values():
            if one.kind == WORKER and one.stopped is not None and now - one.stopped > STOPPED:
                one.end()
            if limit is not None:
                self._time_tasks(one, now, limit)
        self.loop.after(BEAT if limit is None else min(limit / 4, 1.0), self._look)

    def _time_tasks(self, one: Child, now: float, limit: float) -> None:
        one.since = {item: one.since.get(item, now) for item in one.begun()}
        overdue = [item for item, began in one.since.items() if now - began > limit]
        if overdue and not one.overdue:
            one.overdue = overdue
            one.end()

    # The end

    def _end_all(self) -> None:
        """Whatever happens to us, nothing of ours stays behind."""
        for one in self._children.values():
            one.end()
        for one in self._children.values():
            os.waitpid(one.pid, 0)
            os.close(one.lifeline)
        self._children.clear()

    def _end_guarded(self) -> None:
        """The launcher has been killed: what it had started goes with it, also an ssh that waits for a silent host."""
        for guard in self._guarded.values():
            if guard.body:
                import shutil
                shutil.rmtree(guard.body, ignore_errors=True)
        _end_groups([guard.pid for guard in self._guarded.values() if guard.pid])


def _nothing(*_: object) -> None:
    """A handler, since a signal that is ignored would be ignored in programs that tasks start, too."""


def _set_group(pid: int) -> None:
    """Make it the leader of a process group; parent and child both do, whoever comes first."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):      # it has done so and gone on, or has ended already
        return


def _kill(kill: Callable[[int, int], None], pid: int, number: int = signal.SIGKILL) -> bool:
    """Whether there was somebody to be sent the signal."""
    try:
        kill(pid, number)
    except (ProcessLookupError, PermissionError):      # gone, or no such group
        return False
    return True


def _end_groups(pids: Sequence[int]) -> None:
    """End these process groups: those that do not go when they are asked to, stopped ones too, by force."""
    limit = time.monotonic() + CLEANING
    for number in (signal.SIGTERM, signal.SIGCONT):
        pids = [pid for pid in pids if _kill(os.killpg, pid, number)]
    while pids and time.monotonic() < limit:
        time.sleep(0.01)
        pids = [pid for pid in pids if _kill(os.killpg, pid, 0)]
    for pid in pids:
        _kill(os.killpg, pid)


def _hang_on(lifeline: int, group: bool) -> None:
    """Die with the agent, however it dies: its end of the pipe closes, and the kernel sends us (our group) SIGKILL.

    That works while a task holds the interpreter lock too.  Linux; elsewhere the reader thread sees the end of file.
    fcntl(2): F_SETSIG, F_SETOWN with a negative number for a group.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid() if group else os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _redirect(pipes: Tuple[int, ...]) -> None:
    """A worker's stdin, stdout and stderr."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (pipes[1], 1), (pipes[3], 2)):
        os.dup2(descriptor, target)
    for descriptor in (nothing, *pipes):
        os.close(descriptor)


def _line_buffered() -> List[Any]:
    """What is stdout and stderr in workers; made once, before the forks."""
    return [open(number, "w", buffering=1, encoding=getattr(stream, "encoding", "utf-8"),
                 errors=getattr(stream, "errors", "backslashreplace"), closefd=False)
            for number, stream in ((1, sys.stdout), (2, sys.stderr))]


# How an agent begins -------------------------------------------------------------------------------------------------

def raise_limit() -> Limits:
    """Allow this process as many open files as it may have; the limits until now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):                # macOS: no more than OPEN_MAX, whatever the hard limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def fork_local(settings: Settings, limits: Limits, held: Sequence[int],
               foreground: bool) -> Tuple[int, socket.socket, socket.socket]:
    """Fork this machine's agent: its pid, the launcher's end of its channel, and where near ends arrive.

    limits: on open files, for the user's processes; held: descriptors of the launcher that none of those shall have."""
    ours, theirs = socket.socketpair()
    arrivals, passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pid = os.fork()
    if pid:
        theirs.close()
        passing.close()
        arrivals.setblocking(False)
        return pid, ours, arrivals
    status = Status.DEFECT
    try:
        ours.close()
        arrivals.close()
        passing.setblocking(True)                      # whatever socket.setdefaulttimeout was told
        Agent(Channel(theirs.fileno(), theirs.fileno()), settings, limits, held, passing, foreground).run()
        status = Status.OK
    except BaseException:                              # the launcher's code above us must not go on in this process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def serve_remote(reader: int, writer: int, order: Dict[str, Any], held: Sequence[int]) -> None:
    """Be the agent of a remote host; bootstrap.py calls this, with the head's order, in a process of our own.

    held: descriptors that no process of the user's shall have."""
    settings = Settings(**order["settings"])
    one = Agent(Channel(reader, writer), settings, raise_limit(), held)
    one.run()
    left = leftovers(order["sent"], order["files"])
    if left:
        some = left[0] if len(left) == 1 else "%s and %d more" % (left[0], len(left) - 1)
        # Into a new folder: what was sent lies there too, and would replace what the user has changed since.
        one.last_words("%s: tasks left %s in %s; fetch it with: mkdir %s && %s tar -C %s -cf - . | tar -C %s -xf -" % (
            settings.host, some, order["sent"], settings.host, order["reach"], order["sent"], settings.host))


def receive_ends(arrivals: socket.socket) -> Tuple[int, int, List[int]]:
    """The launcher's side: (process, pid, descriptors) of a process that the local agent has forked.

    Raises BlockingIOError if there is none; OSError (EMFILE) if they are too many."""
    ends = array("i")
    data, parts, flags, _ = arrivals.recvmsg(ENDS.size, socket.CMSG_SPACE(3 * ends.itemsize))
    for level, kind, content in parts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            ends.frombytes(content[:len(content) - len(content) % ends.itemsize])
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    process, pid = ENDS.unpack(data)
    return process, pid, list(ends)
