"""One process that does everything, task after task, by the same pickling.  Runs in a program outside the launcher."""
from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

from . import tasks
from .protocol import Message
from .registry import Constants
from .workers import DEEP, Worker

HERE = "here"              # `where` of a program outside the launcher


class Nobody:
    """The other end of a link that nothing is sent over."""

    def send(self, *messages: Message) -> None:
        """Raises AssertionError: whatever asks for this is a defect of ours."""
        raise AssertionError("there is nobody to send %r to" % (messages,))

    def poke(self) -> None:
        """Nobody needs to be woken."""


class Alone(Constants):
    """The constants of a process that is all there is."""

    def set(self, name: bytes, data: bytes) -> bool:
        if name in self.data:
            return False
        self.data[name] = data
        return True


class Serial(Worker):
    """A worker that runs what it is given before `push` returns."""

    is_origin = True

    def __init__(self, where: str = HERE) -> None:
        note = memoryview(bytearray(24)).cast("Q")
        super().__init__(Nobody(), 0, 1, 0, None, where, note)  # type: ignore[arg-type]
        self.constants = Alone(self, False)
        self._strangers = 1                        # any thread may run tasks here, and none waits for another's guards

    def start(self) -> None:
        """Nothing comes."""

    def push(self, entry: Any, columns: Sequence[tasks.Column] = ()) -> None:
        with self.lock:
            self.do_later()
        super().push(entry, columns)
        while True:
            with self.lock:
                if not entry.left:
                    return
                work = self._own(entry)
            if self._here.depth >= DEEP:
                self._run_afresh(work)
            else:
                self._perform(work)

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
