"""What a forked process becomes: the origin, which runs the script, or a worker, which loads it.  Runs in both.

The agent forks; everything here happens in the child, which never returns into the agent's code.
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # those of `signal` make enums: code, and pages, in each child
import atexit
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, Dict, List, NoReturn, Optional, Sequence

from . import futures, hooks
from .bootstrap import usable_cores
from .errors import Status, UsageError, exit_status, say, show
from .link import Link
from .owner import Owner
from .program import attribute, compiled, current, execute, read
from .protocol import INLINE, Unfit
from .record import Record
from .tasks import lacking, of_program
from .workers import Worker, flush_output

GUARD = ("%s was called while a worker was loading the script: put what only the origin shall do under "
         "`if __name__ == \"__main__\":`")

PACKAGE = __name__.partition(".")[0]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
           "NUMEXPR_NUM_THREADS")


class Settings(Record):
    """How the processes of one host are to be."""
    host: str
    script: str                    # where it is on this host; "": workers load none
    argv: Sequence[str]            # the program's sys.argv
    path0: str                     # the program's sys.path[0]
    directory: Optional[str]       # working directory of the workers; None: as it is
    pythonpath: Sequence[str]
    env: Dict[str, str]
    nice: int
    retries: int
    task_timeout: Optional[float]  # seconds
    workers: int                   # in all, as far as known at the start
    sent: bool = False             # the host has only the files that were sent to it
    leaves: Dict[str, Any] = {}        # see hooks.py
    here: Optional[int] = None         # workers of this host; None: one for each core
    watchers: Sequence[hooks.Watcher] = ()     # on the head, the launcher's, as they were when it forked


class Loading(Owner):
    """Stands in for the owner while a worker loads the script."""

    is_origin = False

    def __init__(self, where: str, workers: int) -> None:
        self.where, self.workers = where, workers
        self.dressers = []                         # no call gets further than its first step

    def serial(self) -> int:
        raise RuntimeError(GUARD % "futures.map or submit")

    def finish(self) -> None:
        raise RuntimeError(GUARD % "futures.shutdown")


def origin(settings: Settings, number: int, sock: socket.socket) -> NoReturn:
    """Run the script as `__main__`, and end as Python would."""
    os.register_at_fork(after_in_child=sock.close)
    hooks.call("enter_process", settings.leaves, settings)
    link = Link(sock, "process %d" % number)
    owner = Owner(link, number, settings.workers, settings.retries, settings.task_timeout)
    os.register_at_fork(after_in_child=owner.lock.let_go)
    program(settings, owner)


def program(settings: Settings, owner: Owner) -> NoReturn:
    """Run the script as `__main__` in this process, with this owner, and end as Python would."""
    os.register_at_fork(after_in_child=futures.leave)
    os.register_at_fork(after_in_child=owner.streams.close)
    sys.argv[:], sys.path[:] = settings.argv, _path(settings)
    futures.enter(owner)
    try:
        hooks.call("enter_origin", settings.leaves, owner, settings)
    except UsageError as error:
        say("microscoop: %s" % error)
        os._exit(Status.USAGE)
    here = os.getpid()
    _leave(_run(settings, owner, here), owner, here)


class Prepared:
    """What all workers of a host begin with.  Made in the agent, before the forks: what a child makes, or just touches,
    it has once more for itself."""

    def __init__(self, settings: Settings) -> None:
        self.script = compiled(settings.script) if settings.script else None
        self.worker = Worker(Link(), 0, settings.workers, settings.retries, settings.task_timeout, "",
                             memoryview(b"").cast("Q"), settings.sent)
        self.path = _path(settings)
        names = _environment(settings)
        self._before = {name: os.environ.get(name) for name in names}
        os.environ.update(names)

    def restore_environment(self) -> None:
        """In a process that is no worker."""
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def worker(settings: Settings, prepared: Prepared, number: int, sock: socket.socket, note: memoryview) -> NoReturn:
    """Load the script as `__mp_main__`, and serve."""
    me = prepared.worker
    where = "%s/%d" % (settings.host, number)
    me.link.connect(sock, "process %d" % number)
    me.settle_in(number, where, note)
    os.register_at_fork(after_in_child=sock.close)
    os.register_at_fork(after_in_child=futures.leave)
    if settings.directory is not None:
        os.chdir(settings.directory)
    if settings.nice:
        os.nice(settings.nice)
    sys.argv[:], sys.path[:] = settings.argv, prepared.path
    os.register_at_fork(after_in_child=me.let_go)
    os.register_at_fork(after_in_child=me.streams.close)
    futures.enter(Loading(where, settings.workers))
    hooks.call("enter_process", settings.leaves, settings)
    hooks.when_imported("logging", lambda: _name_in_logs(where))
    try:
        if not hooks.call("load_program", settings.leaves, settings) and settings.script:
            execute("__mp_main__", prepared.script or read(settings.script))
        hooks.call("enter_worker", settings.leaves, me, settings)
    except BaseException as error:                 # whatever the script raises while it is loaded
        me.link.send(Unfit(_report(error, settings.sent).encode("utf-8", "backslashreplace")[:INLINE]))
        flush_output()
        os._exit(Status.UNFIT)
    futures.enter(me)
    try:
        me.start()
    except RuntimeError as error:                  # there may be no more threads
        say("microscoop: %s: %s" % (where, error))
        os._exit(Status.DEFECT)
    me.surely(me.serve)
    os._exit(0)


def core_share(cores: int, workers: int) -> int:
    """How many threads the libraries of one worker should use: those that start one for each core would start far too
    many, with a process for each core already."""
    return max(cores // max(workers, 1), 1)


def _environment(settings: Settings) -> Dict[str, str]:
    """What workers have in theirs, besides what is in ours or in its stead."""
    cores = usable_cores()
    share = str(core_share(cores, settings.here or cores))
    names = {name: share for name in THREADS if name not in os.environ}
    names.update(settings.env)
    if settings.pythonpath:
        names["PYTHONPATH"] = os.pathsep.join(settings.pythonpath)
    return names


def _name_in_logs(where: str) -> None:
    """What `logging` writes to a worker's stderr says whose it is."""
    import logging
    if not hasattr(logging, "StreamHandler"):      # the script's own module of that name
        return
    plain = logging.StreamHandler.format

    def format(self: Any, record: Any) -> str:
        text = plain(self, record)
        return "[%s] %s" % (where, text) if self.stream is sys.stderr else text
    logging.StreamHandler.format = format  # type: ignore[method-assign]


def _path(settings: Settings) -> List[str]:
    """The program's sys.path."""
    path = [settings.path0, *sys.path[1:]]
    path[1:1] = [p for p in settings.pythonpath if p not in path]
    home = os.path.dirname(os.path.dirname(__file__))
    return path if home in path else [*path, home]     # what multiprocessing spawns imports us anew, by this path


def _run(settings: Settings, owner: Owner, here: int) -> int:
    """Run the script in the process `here`; finish what it submitted, unless it failed.  Its exit status."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))   # that of the start comes now
        status: int = Status.OK
        try:
            if not hooks.call("run_program", settings.leaves, settings):
                execute("__main__", read(settings.script))
        except SystemExit as error:
            status = exit_status(error)
        if status == Status.OK:
            _finish(owner, here)
        return status
    except BaseException as error:                 # of the script, or of a signal's handler while it is finished
        return _uncaught(error)


def _finish(owner: Owner, origin: int) -> None:
    """The script has ended well: what it submitted is done first."""
    if os.getpid() != origin:
        return                                     # it forked, and this is its child: nothing of ours is its affair
    owner.finish()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        threading._shutdown()  # type: ignore[attr-defined]
        owner.finish()                             # what those threads have submitted


def _uncaught(error: BaseException) -> int:
    """Say what Python would say, without our own frames; the status to exit with."""
    if isinstance(error, SystemExit):
        return exit_status(error)
    if isinstance(error, BrokenPipeError) and _deaf(sys.stdout):
        return Status.FAILED                       # `| head`: nobody listens any more, and that is no mishap
    return show(error, of_program(error))


def _report(error: BaseException, sent: bool) -> str:
    """The traceback of an error while loading the script, from the script on; the last line first, for one-line use."""
    import traceback
    last = traceback.format_exception_only(type(error), error)[-1].strip()
    lines = traceback.format_exception(type(error), error, of_program(error))
    return last + "\n" + "".join(lines) + (lacking(error) if sent else "")


def _deaf(stream: Any) -> bool:
    """Whether nobody reads this stream; if so, what is still in its buffer goes to /dev/null."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, ValueError, OSError):      # replaced or closed by the script
        return False
    look = select.poll()
    look.register(descriptor, 0)
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in look.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True


def _let_go(names: Dict[str, Any]) -> None:
    """What os._exit leaves out: the script's objects end, so files are closed and `__del__` runs.  Open files of other
    modules are flushed."""
    import gc
    import io
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith(PACKAGE)]
    if len(threads) <= 1:                          # else daemon threads still use these names
        _end_objects(names)
    for one in gc.get_objects():
        if issubclass(type(one), io.IOBase) and not one.closed:
            with suppress(OSError):                # nobody would hear of it in plain Python either
                one.flush()


def _end_objects(names: Dict[str, Any]) -> None:
    """Those that have a `__del__` go first, in their order, as it may need the others; functions, classes and modules
    stay.

    An object is asked for its type, not by isinstance: that may call its `__class__`, which is code of the user's."""
    import gc
    kept = (type, FunctionType, ModuleType)
    others = [name for name in names if not name.startswith("__") and not issubclass(type(names[name]), kept)]
    first = [name for name in others if attribute(type(names[name]), "__del__") is not None]
    for name in first:
        names.pop(name, None)                      # else another's `__del__` has taken it away
    if first:
        gc.collect()                               # those that are parts of a circle
    for name in reversed(others):                  # a container's items may need what came before it
        names.pop(name, None)
    gc.collect()


def _leave(status: int, owner: Owner, origin: int) -> NoReturn:
    """End this process as the interpreter would: join threads, run atexit, let go of objects, flush.  If all went well,
    and in no fork of the script's, what atexit has submitted is done too, and nobody's errors are shown."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        with suppress(BaseException):              # which it has shown, and raises once more before Python 3.10
            atexit._run_exitfuncs()
        if status == Status.OK and os.getpid() == origin:
            owner.finish()
            owner.report()
        ours = current()
        _let_go(ours.names if ours is not None else {})
    except BaseException as error:                 # Ctrl-C meanwhile
        status = _uncaught(error)
    try:
        with suppress(ValueError):                 # closed by the script: not worth a word
            if sys.stdout is not None:
                sys.stdout.flush()
    except Exception as error:                     # of any kind, if the script has put its own stream there
        if _deaf(sys.stdout):                      # nor is it that nobody reads
            status = status or Status.FAILED
        else:
            show(error, of_program(error))
            status = Status.UNWRITTEN
    flush_output()
    os._exit(status)


def reset_signals() -> None:
    """Give a forked child the handling that a program has: the launcher's and the agent's handlers are not for it.

    A signal that was ignored when we were started (nohup) stays so.
    """
    _signal.set_wakeup_fd(-1)
    for number in (_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGHUP):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
