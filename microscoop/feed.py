"""A launch.Start in a Loop: what ssh says goes in, what it is to be told goes out.  Runs in the launcher.

For runs and for --check.
"""
from __future__ import annotations

import os
import time
from typing import Callable, Optional

from . import launch
from .loop import Loop


class Feed:
    """One launch.Start in a Loop, from its beginning until close().

    settled() is called once, by the loop, when it is ready or has failed. After that it still listens to ssh's stderr
    and, where the channel is the tunnel's, to ssh's stdout: ended() is called when that closes.
    """

    def __init__(self, loop: Loop, start: launch.Start, settled: Callable[[], None],
                 ended: Callable[[], None] = lambda: None) -> None:
        self.start, self._ended = start, ended
        self._loop, self._sock = loop, start.sock.fileno()
        self._settled: Optional[Callable[[], None]] = settled
        self._due = 0.0
        loop.read(self._sock, lambda: self._read(self._sock, start.received))
        loop.read(start.stderr, self.hear_complaints)
        loop.after(0, self._step)

    def close(self) -> None:
        """End ssh, if it still runs, and let go of everything."""
        self._settled = None
        for descriptor in (self._sock, self.start.stderr):
            self._loop.forget(descriptor)
        self.start.close()

    def hear_complaints(self) -> None:
        """Take in what ssh has said on its stderr."""
        self._read(self.start.stderr, self.start.complained)

    def _read(self, descriptor: int, pass_on: Callable[[bytes], None]) -> None:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # ssh ended with something unread
        if not data:
            self._loop.forget(descriptor)
        pass_on(data)
        if not data and descriptor == self._sock and self.start.ready:
            self._ended()
        self._step()

    def _step(self) -> None:
        """After whatever has happened: it is settled, or there is more to write, or another deadline."""
        start, settled = self.start, self._settled
        if not settled:
            return
        if start.ready or start.error:
            self._settled = None
            if start.ready and start.ready.channel is start.sock:
                self._loop.forget(self._sock)  # whoever wants the channel reads it now
            settled()
            return
        self._write()
        if start.deadline != self._due:
            self._due = start.deadline
            self._loop.after(max(self._due - time.monotonic(), 0), self._expire)

    def _write(self) -> None:
        start = self.start
        try:
            count = start.sock.send(start.outgoing)
        except BlockingIOError:
            count = 0
        except OSError:
            count = len(start.outgoing)  # nobody will read it; the end is seen by whoever reads here
        del start.outgoing[:count]
        self._loop.write(self._sock, self._write if start.outgoing else None)

    def _expire(self) -> None:
        if self._settled and time.monotonic() >= self.start.deadline:
            self.start.expire()
            self._step()
