"""`microscoop.Executor`: a concurrent.futures.Executor for any program, test or prompt.  Runs in the user's process.

    user's process:  Executor -> Guest (an Owner) === a socket === launcher (`main`, a fresh interpreter) -> workers

The user's process is the origin of a run whose launcher it has started itself.  Its threads: whoever submits pickles,
the reader thread takes in what comes, the callback thread rebuilds results, completes futures and so runs callbacks.
The run ends with `shutdown`, with the Executor, at the interpreter's exit, and when either side's socket closes.
"""
from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from concurrent import futures as standard
from contextlib import suppress
from operator import index
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Set, Tuple

from .. import child, futures, options, program, tasks
from ..__main__ import occupy_standard_descriptors
from ..calls import Call, ring
from ..errors import HostError, Status, UsageError, say
from ..hosts import total
from ..job import Job, make_job
from ..link import Link
from ..owner import Callbacks, Owner
from ..workers import flush_output

NUMBER = 1                 # an origin that is given to the launcher is its first process
GRACE = 5.0                # seconds in which the launcher ends
OPTIONS = ("tunnel", "ssh_executable", "python_interpreter", "prolog", "path", "send", "pythonpath", "env", "nice",
           "retries", "task_timeout", "wait", "strict", "quiet")
MANY = ("send", "env")     # of those: the ones that take several values
CLOSED = "cannot schedule new futures after shutdown"
EXITING = "cannot schedule new futures after interpreter shutdown"
FORKED = "cannot schedule new futures: this Executor belongs to the process that made it"
START = "import sys; sys.path.insert(0, sys.argv[1]); from microscoop.leaves import executor; executor.main()"

_open: Set[Guest] = set()  # to be closed at exit, and let go of in forked children


class Executor(standard.Executor):
    """Runs functions in processes here and, by ssh, on other machines.  Its futures are the standard library's.

    max_workers, hosts, hostfile: as -n, --host (a list of names) and --hostfile of the command line; the other keywords
    are its long options, `env` a dict, `send` a list; `quiet` is true unless said otherwise, `prolog` is run on remote
    hosts alone.  What tasks print goes to this process's descriptors 1 and 2 (in a notebook, to its server's).
    Raises ValueError for a wrong value, with the command line's sentence, and TypeError.
    """

    def __init__(self, max_workers: Optional[int] = None, hosts: Optional[Sequence[str]] = None,
                 hostfile: Optional[str] = None, **others: Any) -> None:
        if isinstance(futures.current(), child.Loading):
            raise RuntimeError(child.GUARD % "microscoop.Executor")
        if max_workers is not None:
            max_workers = int(index(max_workers))  # a whole number: True is 1
            if max_workers < 1:
                raise ValueError("max_workers must be greater than 0, not %d" % max_workers)
            if max_workers > options.MOST:
                raise ValueError("max_workers must be at most %d, not %d" % (options.MOST, max_workers))
        if isinstance(hosts, str):
            raise TypeError("hosts must be a list of names, not %r" % hosts)
        _know_program()
        words = [*_words(dict({"quiet": True}, n=max_workers, hostfile=hostfile, **others)),
                 *(["--host", *hosts] if hosts else [])]
        occupy_standard_descriptors()
        self._guest = Guest(_job(words))
        self._max_workers = self._guest.workers    # as the standard library's have it; some programs look
        weakref.finalize(self, self._guest.let_go).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> standard.Future[Any]:
        """Run fn(*args, **kwargs) somewhere.  Raises what pickling raises, naming the culprit; RuntimeError after
        `shutdown`; BrokenProcessPool when the launcher has ended."""
        future = Future(self._guest, *futures.task(fn, args, kwargs))
        self._guest.push(future)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: Optional[float] = None,
            chunksize: int = 1) -> Iterator[Any]:
        """fn of each item, in order, begun at once; `timeout` in seconds from this call.

        `iterables` are read to their end here.  No `chunksize` is needed; one above 1 is obeyed.
        """
        if not all(hasattr(iterable, "__len__") for iterable in iterables):
            iterables = tuple(zip(*zip(*iterables))) or ((),)
        return futures.mapped(self._guest, futures.ordered, fn, iterables, timeout,
                              None if chunksize == 1 else chunksize, None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, finish what was submitted (what has not left yet is cancelled if so asked), then end the
        workers; `wait` for that."""
        self._guest.refusal = self._guest.refusal or CLOSED
        if cancel_futures:
            self._guest.cancel_all()
        if wait and not self._guest.is_own_thread():
            self._guest.close()
        else:
            self._guest.let_go()


class Future(standard.Future):  # type: ignore[type-arg]  # 3.8 has no Future[Any]
    """The standard library's, and an entry of its owner's queue until its outcome is in."""

    def __init__(self, owner: Guest, name: str, task: bytes) -> None:
        super().__init__()
        self.name, self.task, self.attempts = name, task, 0
        self.record: Any = None                    # as of a Call
        self.waiters: List[Any] = []               # who waits for the outcome to come in; it is rebuilt after that
        self._owner, self._place = owner, "PENDING"
        self.serial = owner.serial()

    @property
    def state(self) -> str:
        """Where it is for its owner, which can have it back after a worker's death."""
        return self._place

    @state.setter
    def state(self, place: str) -> None:
        self._place = place
        if place == "RUNNING" and not self.running():
            self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Cancel it if it has not left this process; whether it is cancelled."""
        with self._owner.lock:
            mine = self._place == "PENDING" and not self.running()
            if mine:
                self._owner.remove(self)
                self._leave()
        if mine and super().cancel():
            self.set_running_or_notify_cancel()    # so that those who wait for it learn of it now
        return super().cancel()

    def finish(self, entry: Any) -> None:
        """The outcome is in, or why there will be none; the owner's lock is held."""
        self.state = "RUNNING"                     # if it never left: nobody can cancel it any more
        self._leave()
        self._owner.call_back(lambda future: future.complete(entry), self)

    def _leave(self) -> None:
        self._place, self.task = "FINISHED", b""
        ring(self.waiters)

    def complete(self, outcome: Any) -> None:
        """In the callback thread: rebuild what the task returned or raised."""
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            value = tasks.value(outcome)
        except BaseException as error:             # of the task, or of rebuilding its result: the caller's
            self.set_exception(error.with_traceback(None))
        else:
            self.set_result(value)


class Line(Link):
    """A link that ends before its process does."""

    def end(self) -> None:
        """Nobody sends or receives any more: the other side sees the end, and so does who is receiving."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:                            # the other side has gone
            return

    def close(self) -> None:
        """Give the descriptors back; nobody may use it from now on."""
        self._socket.close()
        if self._epoll is not None:
            self._epoll.close()
        for pipe in (self._wake, self._poke, self._stir, self._rouse):
            os.close(pipe)


class Guest(Owner):
    """An owner in a program that is not ours: that its launcher ends must not end the program."""

    may_listen = False                             # the end of the link is the reader thread's to deal with

    def __init__(self, job: Job) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._launcher = _start(job, theirs)
        self._line = link = Line(ours)
        super().__init__(link, NUMBER, total(job.shares), job.retries, job.task_timeout)
        self._release = weakref.finalize(self, link.close)     # not before: somebody might still poke it
        self._release.atexit = False
        self.refusal = ""                          # why nothing more can be submitted
        self._broken = ""                          # how the launcher ended before its time
        self._gate = threading.RLock()             # nobody submits while that becomes impossible
        self._closing, self._closed = threading.Lock(), False
        self._callbacks: Callbacks = Callbacks()   # now: no thread can be started when the interpreter exits
        _open.add(self)
        self.start()

    # Called by the user's threads

    def push(self, entry: Any, columns: Sequence[tasks.Column] = ()) -> None:
        with self._gate:
            if self._broken:
                raise _broken(self._broken)
            if self.refusal:
                raise RuntimeError(self.refusal)
            try:
                super().push(entry, columns)
            except ConnectionError:                # the launcher has just ended: the reader thread tells those who wait
                return

    def sleep(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        """As Owner.sleep; raises the error of a map that was given up."""
        def over() -> bool:
            return ready() or any(isinstance(thing, Call) and thing.error is not None for thing in watched)

        in_time = super().sleep(over, watched, timeout)
        if in_time and not ready():
            raise watched[0].error
        return in_time

    def is_over(self, entry: Any) -> bool:
        if isinstance(entry, Call):
            return not entry.open or entry.error is not None
        return bool(entry.state == "FINISHED")

    def hear_quiet(self) -> None:
        try:
            super().hear_quiet()
        except ConnectionError:                    # no launcher, no tasks
            return

    def cancel_all(self) -> None:
        """Cancel what has not left this process."""
        with self.lock:
            waiting = list(self.queue)
        for entry in waiting:
            if isinstance(entry, Call):
                with self.lock:
                    entry.error = entry.error or standard.CancelledError()
                self.drop(entry)
            else:
                entry.cancel()

    def start(self) -> None:
        self._reader = threading.Thread(target=self._read, name="microscoop-reader", daemon=True)    # `close` joins it
        self._reader.start()

    def is_own_thread(self) -> bool:
        """Whether this thread must go on for anything to end."""
        return self._reader is threading.current_thread() or self._callbacks.is_here()

    def let_go(self) -> None:
        """Close it soon, in a thread of its own.  Takes no lock: a garbage collection calls this, too."""
        self.refusal = self.refusal or CLOSED
        if not self._closed:
            self._callbacks.add(lambda _: self._close_apart(), None)

    def _close_apart(self) -> None:
        try:
            threading.Thread(target=self.close, name="microscoop-end", daemon=True).start()
        except RuntimeError:                       # the interpreter exits, which allows no new thread, and closes it
            return

    def close(self) -> None:
        """Wait until what was submitted is done, and end the launcher."""
        self.refusal = self.refusal or CLOSED
        with self._closing:
            if self._closed:
                return
            with self._gate:                       # whoever was let through before has pushed by now
                pass
            self.finish()
            self._line.end()
            self._reader.join()
            self._callbacks.end()
            self._closed = True
            self.streams.close()
            del self._handlers, self.leaves        # they refer to us
            _open.discard(self)

    # In the reader thread

    def cut_off(self, status: int, why: str = "") -> None:
        """The launcher has gone, or is to go: whatever is not done will not be."""
        if why:
            say(why)
        self._line.end()
        how = _end(self._launcher)
        with self._gate, self.lock:
            self._broken = "" if self.refusal else how
            for entry in [*self.submits.sent.values(), *self.queue, *self.calls.values()]:
                if not self.is_over(entry):
                    self._give_up_on(entry, _broken(how))
            for table in (self.submits.sent, self.calls, self.queue):
                table.clear()
            self.items = 0
            self._silence.come()

    def _give_up_on(self, entry: Any, error: Exception) -> None:
        if isinstance(entry, Call):
            entry.error = error
            ring(entry.waiters)
        else:
            entry.finish(error)

    def forget(self) -> None:
        """In a forked child: this belongs to the parent."""
        self.refusal, self._closed = FORKED, True
        self._gate, self._closing, self.lock = threading.RLock(), threading.Lock(), threading.RLock()
        self.streams.close()
        self._release()


def _broken(how: str) -> Exception:
    try:
        from concurrent.futures.process import BrokenProcessPool as Broken  # it imports much
    except RuntimeError:                           # and cannot be imported while the interpreter exits
        Broken = standard.BrokenExecutor  # type: ignore[assignment,misc]
    return Broken("the workers are gone: their launcher %s; stderr says why" % how)


def _finish_all() -> None:
    """At the interpreter's exit."""
    for guest in list(_open):
        guest.refusal = EXITING
        guest.close()


def _forget_all() -> None:
    for guest in _open:
        guest.forget()
    _open.clear()


atexit.register(_finish_all)
os.register_at_fork(after_in_child=_forget_all)


# What is asked for ---------------------------------------------------------------------------------------------------

def _words(keywords: Mapping[str, Any]) -> Iterator[str]:
    """The keywords as words of the command line."""
    for name, value in keywords.items():
        _check(name, value)
        option = "-n" if name == "n" else "--" + name.replace("_", "-") + "="
        if isinstance(value, Mapping):
            value = ["%s=%s" % item for item in value.items()]
        if name in MANY:
            yield from (option + os.fspath(one) for one in value or ())
        elif value is True:
            yield option.rstrip("=")
        elif value is not None and value is not False:
            yield option + str(value)


def _check(name: str, value: object) -> None:
    """Raises TypeError for a keyword that there is not, or whose value is no list where it must be one."""
    if name not in (*OPTIONS, "n", "hostfile"):
        raise TypeError("Executor has no option %r; it has max_workers, hosts, hostfile, %s" % (
            name, ", ".join(OPTIONS)))
    if value is not None and isinstance(value, (list, tuple, Mapping)) != (name in MANY):
        form = "%s must be a list, not %r" if name in MANY else "%s must not be a list, as %r is"
        raise TypeError(form % (name, value))


def _job(words: Sequence[str]) -> Job:
    """The words of the command line as a Job whose script is this process's."""
    module, script = _main()
    try:
        given, _ = options.parse(words)
        job, warning = make_job(given, [script] if script else [], True)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if warning and job.verbose >= 0:
        warnings.warn(warning, RuntimeWarning, stacklevel=4)
    if not script:
        job = job._replace(leaves=dict(job.leaves, instead={"module": module} if module else {}))
    return job._replace(args=tuple(sys.argv[1:]))


def _main() -> Tuple[str, str]:
    """What workers load as `__mp_main__`: a module's name (python -m), else a script's path; neither at a prompt."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:                           # the __main__ of a folder or a package is not to be run again
        return "" if spec.name.rpartition(".")[2] == "__main__" else spec.name, ""
    path = os.path.abspath(getattr(main, "__file__", None) or "")
    return "", path if os.path.isfile(path) else ""


def _know_program() -> None:
    """Note what this process's program is made from: what workers do not load of it travels by value."""
    if program.current() is not None:
        return
    module, script = _main()
    path = sys.modules["__main__"].__spec__.origin if module else script  # type: ignore[union-attr]
    if path:
        known = program.read(path)
        known.code()                               # looks whether it has functions under the guard
    else:
        known = program.Program("<stdin>", b"", False)
    known.adopt()


# The launcher --------------------------------------------------------------------------------------------------------

def _start(job: Job, sock: socket.socket) -> subprocess.Popen[bytes]:
    """Start a launcher that has this end of the socket; in a session of its own, since Ctrl-C is for the program."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    process = subprocess.Popen([sys.executable, *flags, "-c", START, home, str(sock.fileno())], stdin=subprocess.PIPE,
                               pass_fds=(sock.fileno(),), start_new_session=True)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:        # it has ended already, as its socket says, too
        stdin.write(pickle.dumps((job, sys.path)))
    return process


def main() -> NoReturn:
    """In the launcher, a fresh interpreter."""
    from .. import server
    occupy_standard_descriptors()
    sock = socket.socket(fileno=int(sys.argv[2]))
    job, sys.path[:] = pickle.load(sys.stdin.buffer)
    try:
        status = server.Server(job, sock).run()
    except (UsageError, HostError) as error:
        say(f"microscoop: {error}")
        status = Status.USAGE
    flush_output()
    os._exit(status)                               # not sys.exit: with -X dev that finds fault with open sockets


def _end(process: subprocess.Popen[bytes]) -> str:
    """Wait for its end, which is near; how it ended, in words."""
    try:
        status = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    return "ended with status %d" % status if status >= 0 else "was killed by signal %d" % -status
