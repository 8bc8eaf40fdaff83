"""What microscoop says, and what tasks print.  Runs in the launcher."""
from __future__ import annotations

import errno
import os
import select
import sys
import time
from collections import deque
from typing import Callable, Deque, List, Tuple

from .loop import Loop

FULL = 1 << 20             # bytes that may wait for a slow reader before the processes that print are held up
NOBODY_READS = (errno.EPIPE, errno.ECONNRESET, errno.EIO)   # EIO: a terminal that was closed
AT_ONCE = select.PIPE_BUF  # what a writable pipe takes without blocking


class Reporter:
    """The launcher's own lines, on stderr, in SCOOP's form."""

    def __init__(self, verbose: int) -> None:
        self.verbose = verbose
        self.heralds: List[Callable[[bytes], None]] = []   # of leaves: told what is about to be written
        self._stream = sys.stderr or open(os.devnull, "w")     # None: it was closed before we began

    def info(self, text: str, verbose: int = 0) -> None:
        """Say it unless the user wants less than that."""
        if self.verbose >= verbose:
            self._say("INFO", text)

    def warning(self, text: str) -> None:
        """Say it always: something is not as the user asked."""
        self._say("WARNING", text)

    def error(self, text: str) -> None:
        """Say it always: why the run ends."""
        self._say("ERROR", text)

    def _say(self, level: str, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + ",%03d" % (now * 1000 % 1000)
        line = "[%s] launcher  %-7s %s\n" % (stamp, level, text)
        for tell in self.heralds:
            tell(line.encode("utf-8", "backslashreplace"))
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError:                            # nobody reads it; the run goes on
            self._stream = open(os.devnull, "w")


class Outlet:
    """The launcher's stdout or stderr, for what tasks print.  Never blocks, though the descriptor may: it is shared
    with the origin, so it must not be made non-blocking."""

    def __init__(self, loop: Loop, descriptor: int) -> None:
        self._loop, self._descriptor = loop, descriptor
        self._queue: Deque[memoryview] = deque()
        self.heralds: List[Callable[[bytes], None]] = []   # of leaves: told what is about to be written
        self.queued = self._out = 0                # bytes that ever were queued, and that are written or lost
        self.failure = ""                          # why something is lost, unless nobody reads
        self._awaited: List[Tuple[int, Callable[[], None]]] = []

    @property
    def waiting(self) -> int:
        """Bytes that wait for a slow reader."""
        return self.queued - self._out

    def write(self, text: bytes) -> None:
        """Queue it, and write what can be written at once."""
        self._queue.append(memoryview(text))
        self.queued += len(text)
        self.flush()

    def when_out(self, mark: int, callback: Callable[[], None]) -> None:
        """Call back once what was `queued` up to there is written, or lost since nobody reads: now, or later."""
        if mark <= self._out:
            callback()
        else:
            self._awaited.append((mark, callback))

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Call back once all that is queued now is out, but for FULL bytes: whoever prints may go on then."""
        self.when_out(self.queued - FULL, callback)

    def flush(self, seconds: float = 0) -> None:
        """Write while the reader takes it, waiting up to so many seconds for that."""
        while self._queue and select.select([], [self._descriptor], [], seconds)[1]:
            part = _lines(self._queue[0])
            for tell in self.heralds:
                tell(bytes(part))
            try:
                count = os.write(self._descriptor, part)
            except OSError as error:               # what tasks print is lost, the run is not
                if error.errno not in NOBODY_READS:
                    self.failure = str(error.strerror)
                self._queue.clear()
                self._out = self.queued
                break
            self._out += count
            self._queue[0] = self._queue[0][count:]
            if not self._queue[0]:
                self._queue.popleft()
        self._loop.write(self._descriptor, self.flush if self._queue else None)
        awaited, self._awaited = self._awaited, []
        for mark, callback in awaited:
            self.when_out(mark, callback)


def _lines(text: memoryview) -> memoryview:
    """What may be written at once: whole lines, since the origin writes to the same pipe."""
    part = text[:AT_ONCE]
    end = bytes(part).rfind(b"\n") + 1
    return part[:end] if end else part
