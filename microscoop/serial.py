"""One process that does everything, task after task, by the same pickling.  Runs in a program outside the launcher."""
from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, Callable, Optional, Sequence, Tuple

from . import tasks, workers
from .calls import Call
from .owner import Owner
from .protocol import Message
from .workers import DEEP, Worker

HERE = "here"              # `where` of a program outside the launcher


class Nobody:
    """The other end of a link that nothing is sent over."""

    def send(self, *messages: Message) -> None:
        """Raises AssertionError: whatever asks for this is a defect of ours."""
        raise AssertionError("there is nobody to send %r to" % (messages,))

    def poke(self) -> None:
        """Nobody needs to be woken."""


class Here(workers.Here):
    """What a thread does, with what Ctrl-C does to it."""

    signalled = False          # it came in the task at work, which may catch it
    interrupted = False        # it has ended a task


class Serial(Worker):
    """A worker that runs what it is given before `push` returns."""

    is_origin = True

    def __init__(self, where: str = HERE) -> None:
        note = memoryview(bytearray(24)).cast("Q")
        super().__init__(Nobody(), 0, 1, 0, None, where, note)  # type: ignore[arg-type]
        self._here: Here = Here()
        self._strangers = 1                        # any thread may run tasks here, and none waits for another's guards

    def start(self) -> None:
        """Nothing comes."""

    def push(self, entry: Any, columns: Sequence[tasks.Column] = ()) -> None:
        with self.lock:
            self.do_later()
        super().push(entry, columns)
        handler = signal.getsignal(signal.SIGINT)

        def note(*noted: Any) -> None:
            self._here.signalled = True
            handler(*noted)  # type: ignore[operator, misc]

        ours = callable(handler) and threading.current_thread() is threading.main_thread()
        if ours:
            signal.signal(signal.SIGINT, note)
        try:
            self._run(entry)
        finally:
            if ours and signal.getsignal(signal.SIGINT) is note:
                signal.signal(signal.SIGINT, handler)

    def end(self) -> None:
        """For atexit: after a normal end what is open is done first, callbacks too, and nobody's errors are shown.

        Of an exception Python leaves a trace; of sys.exit(3) it leaves none, so that counts as a normal end."""
        failed = hasattr(sys, "last_type") and not hasattr(sys, "ps1")     # at a prompt an error is not the end
        if not failed and os.getpid() == self._pid:                        # a fork of the script's runs atexit, too
            self.finish()
            self.report()

    def _run(self, entry: Any) -> None:
        """All of it.  Raises KeyboardInterrupt after a task that Ctrl-C has ended."""
        while entry.left and not self._here.interrupted:
            self._here.signalled = False
            if self._here.depth >= DEEP:
                try:
                    self._run_afresh(lambda: entry)
                except BaseException:              # there may be no more threads; or Ctrl-C: nobody waits for it
                    with self.lock:
                        self._forsake(entry)
                    raise
            else:
                with self.lock:
                    work = self._own(entry)
                self._perform(work)
        if self._here.interrupted:
            self._here.interrupted, self._here.signalled = False, True     # the task that submitted this may catch it
            with self.lock:
                self.unread.pop(getattr(entry, "serial", 0), None)
                self._forsake(entry)
            raise KeyboardInterrupt

    def _forsake(self, entry: Any) -> None:
        """What is left of it shall not run; the lock is held."""
        if isinstance(entry, Call):
            self._drop(entry)
        elif entry.left:
            self.remove(entry)

    def _forget(self, call: Call) -> None:
        self._functions.pop((self.number, call.number), None)      # nobody else has it

    def failure(self, error: BaseException, what: str) -> tasks.Failure:
        if self._here.signalled and isinstance(error, KeyboardInterrupt):
            self._here.interrupted = True
        return super().failure(error, what)

    keep_unread, _tidy = Owner.keep_unread, Owner._tidy    # `report` is called at the end, as in the origin

    def pushed(self) -> None:
        return                                     # the pushing thread runs it itself

    def wait(self, ready: Callable[[], bool], watched: Tuple[Any, ...], timeout: Optional[float] = None) -> bool:
        task = self.task()
        self._forbid_cycle(task, watched)
        if task is None:
            return self.sleep(ready, watched, timeout)
        self._put_down_guards()
        try:
            return self.sleep(ready, watched, timeout)
        finally:
            self._take_up_guards()
