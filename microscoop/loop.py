"""One thread's wait for many descriptors.  Runs in the launcher and in agents, which never have a second thread."""
from __future__ import annotations

import heapq
import os
import selectors
import signal
import time
from typing import Callable, Dict, List, Optional, Set, Tuple

from .channel import Channel
from .spin import Spin

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Loop:
    """Descriptors to read, channels to write, and what is due at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._callbacks: Dict[int, Dict[int, Callable[[], None]]] = {}     # by descriptor, then READ or WRITE
        self._spin = Spin()
        self._dirty: Set[Channel] = set()
        self._timers: List[Tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        fileno = getattr(self._selector, "fileno", None)   # kqueue and epoll have one, poll and select none
        self.descriptors: List[int] = [fileno()] if fileno else []     # its own, which a forked child must close

    def hear_signals(self, callback: Callable[[bytes], None]) -> None:
        """Call back with the numbers of the signals that come and have a handler, each a byte."""
        wake, signals = ends = os.pipe()
        for end in ends:
            os.set_blocking(end, False)
        self.descriptors += ends
        signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
        self.read(wake, lambda: callback(os.read(wake, 4096)))

    def read(self, descriptor: int, callback: Optional[Callable[[], None]]) -> None:
        """Call back whenever it can be read; None: no more."""
        self._set(READ, descriptor, callback)

    def write(self, descriptor: int, callback: Optional[Callable[[], None]]) -> None:
        """Call back whenever it can be written; None: no more."""
        self._set(WRITE, descriptor, callback)

    def forget(self, descriptor: int) -> None:
        """Before it is closed."""
        self.read(descriptor, None)
        self.write(descriptor, None)

    def _set(self, kind: int, descriptor: int, callback: Optional[Callable[[], None]]) -> None:
        callbacks = self._callbacks.setdefault(descriptor, {})
        known = sum(callbacks)                     # READ and WRITE are bits
        if callback is not None:
            callbacks[kind] = callback
        else:
            callbacks.pop(kind, None)
        events = sum(callbacks)
        if not known and events:
            self._selector.register(descriptor, events, callbacks)
        elif known and not events:
            self._selector.unregister(descriptor)
        elif known != events:
            self._selector.modify(descriptor, events, callbacks)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, so many seconds from now."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, callback))

    def send(self, channel: Channel, payload: bytes, later: bool = False) -> None:
        """Queue a frame; it is written at the end of this turn, with whatever else goes that way."""
        channel.send(payload, later)
        self._dirty.add(channel)

    def flush(self, channel: Channel) -> None:
        """Write what is queued at once, or as soon as it can be written."""
        try:
            done = channel.flush()
        except OSError:                            # the reading side sees the end, and says so
            channel.discard()
            done = True
        self.write(channel.writer, None if done else lambda: self.flush(channel))

    def drop(self, channel: Channel) -> None:
        """Forget a channel's descriptors and what it still had to write."""
        self._dirty.discard(channel)
        self.forget(channel.reader)
        self.forget(channel.writer)

    def turn(self, seconds: Optional[float] = None, may_spin: bool = False) -> None:
        """Write what is queued, wait (so many seconds at most), and call back for what has happened.

        may_spin: who is written to will answer at once, if at all; and nobody else will do much meanwhile."""
        asks = may_spin and bool(self._dirty)
        while self._dirty:
            self.flush(self._dirty.pop())
        if self._timers:
            left = max(self._timers[0][0] - time.monotonic(), 0)
            seconds = left if seconds is None else min(left, seconds)
        wait = self._selector.select
        for key, events in self._spin.wait(wait, seconds) if asks else wait(seconds):
            for kind in (READ, WRITE):
                if events & kind and kind in key.data:     # else an earlier one of this turn has taken it back
                    key.data[kind]()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
