"""--progress: one line on the terminal about maps that last.  Runs in the launcher, which draws it, and in the origin.

Both write to the same terminal, so they share a few bytes of memory.  Whoever writes something else erases the line
first, and it is drawn only where the cursor is at the start of a line that nobody is writing:

    launcher draws      DRAWING = 1; nobody is at OUT, ERR or ASKING, and not PARTIAL: line, SHOWN = 1; DRAWING = 0
    origin writes       OUT = 1; wait until not DRAWING; SHOWN: erase; text, PARTIAL = how it ends; OUT = 0

What else writes there (a program that the script starts) is not known; it stands behind the line, and the next one is
drawn below.  Times are in seconds.
"""
from __future__ import annotations

import builtins
import io
import mmap
import os
import select
import sys
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from .. import broker
from ..hooks import Stage, Watcher
from ..owner import Owner
from ..protocol import ORIGIN, RUNNING, WORKER, Block, Drop, Idle, Lost, Result, Surplus
from .retries import Retries

SHOWN, DRAWING, OUT, ERR, ASKING, PARTIAL, ENDLESS = range(7)      # bytes of the shared memory
ERASE = b"\r\033[K"
WAIT = 1.0                 # what ends sooner is not worth a line
PERIOD = 0.25
RECENT = 30.0              # over which the rate is taken
PATIENCE = 0.05            # for one who is drawing


def watch(value: object, stage: Stage) -> Watcher:
    """Watch over the line; the option was given or is the default, and stderr is a terminal."""
    return Progress(stage)


def enter_origin(value: object, owner: Owner, settings: Any) -> None:
    """Have what the script writes to the terminal make room for itself."""
    for watcher in settings.watchers:
        if isinstance(watcher, Progress):
            _make_way(watcher.screen, owner)


# In both processes ---------------------------------------------------------------------------------------------------

class Screen:
    """The terminal, and who is at it."""

    def __init__(self) -> None:
        self.state = mmap.mmap(-1, mmap.PAGESIZE)

    def draw(self, line: bytes) -> None:
        """Show the line if nobody is in the way."""
        state = self.state
        state[DRAWING] = 1
        try:
            if not any(state[OUT:PARTIAL + 1]) and select.select([], [2], [], 0)[1]:
                os.write(2, ERASE + line)
                state[SHOWN] = 1
        finally:
            state[DRAWING] = 0

    def make_room(self, text: bytes) -> None:
        """The launcher is about to write this text."""
        if self.state[SHOWN]:
            self.clear()
        if text:
            self.state[PARTIAL] = text[-1:] != b"\n"

    def clear(self) -> None:
        """Erase the line, unless the origin is doing so."""
        state = self.state
        state[DRAWING] = 1
        try:
            if state[SHOWN] and not state[OUT] and not state[ERR]:
                os.write(2, ERASE)
                state[SHOWN] = 0
        except OSError:                            # the terminal is gone
            state[SHOWN] = 0
        finally:
            state[DRAWING] = 0

    def enter(self, flag: int) -> None:
        """The origin is about to write."""
        state = self.state
        state[flag] = 1
        limit = time.monotonic() + PATIENCE
        while state[DRAWING] and time.monotonic() < limit:
            time.sleep(0.001)
        if state[SHOWN]:
            state[SHOWN] = 0
            os.write(2, ERASE)

    def leave(self, flag: int, partial: bool) -> None:
        """It has written; partial: a line that does not end yet."""
        self.state[PARTIAL] = partial
        self.state[flag] = 0


def same_terminal(descriptor: int) -> bool:
    """Whether it leads to the terminal of stderr."""
    try:
        return os.isatty(descriptor) and os.fstat(descriptor).st_rdev == os.fstat(2).st_rdev
    except OSError:                                # closed
        return False


# In the origin -------------------------------------------------------------------------------------------------------

class Stream(io.FileIO):
    """The terminal as the script's stdout or stderr."""

    def __init__(self, descriptor: int, name: str, screen: Screen) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self._screen, self._flag = screen, OUT if descriptor == 1 else ERR

    def write(self, data: Any) -> int:
        self._screen.enter(self._flag)
        end = b"\n"
        try:
            count = super().write(data)
            end = bytes(memoryview(data)[-1:])
            return count
        finally:
            self._screen.leave(self._flag, end != b"\n")


def _make_way(screen: Screen, owner: Owner) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not None and same_terminal(descriptor):
            stream.flush()
            raw = Stream(descriptor, stream.name, screen)
            buffer: Any = raw if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(raw)
            again = io.TextIOWrapper(buffer, stream.encoding, stream.errors, "\n", stream.line_buffering,
                                     stream.write_through)
            again.mode = "w"       # type: ignore[misc]
            setattr(sys, name, again)
            setattr(sys, "__%s__" % name, again)
    builtins.input = _asking(screen, builtins.input)       # its prompt and its echo go past our streams

    def look() -> None:
        screen.state[ENDLESS] = not all(call.whole for call in owner.calls.values())
    owner.pushes.append(look)


def _asking(screen: Screen, ask: Callable[..., str]) -> Callable[..., str]:
    def input(prompt: object = "", /) -> str:
        screen.enter(ASKING)
        partial = True
        try:
            answer = ask(prompt)
            partial = False
            return answer
        finally:
            screen.leave(ASKING, partial)
    input.__doc__ = ask.__doc__
    return input


# In the launcher -----------------------------------------------------------------------------------------------------

class Progress(Watcher):
    """Counts what the origin has submitted, from the first item until all are done: then the next count begins."""

    def __init__(self, stage: Stage) -> None:
        self.screen = Screen()
        self._loop = stage.loop
        stage.report.heralds.append(self.screen.make_room)
        for descriptor, outlet in stage.outlets.items():
            if same_terminal(descriptor):
                outlet.heralds.append(self.screen.make_room)
        self._origin = 0
        self._workers: Set[int] = set()
        self._busy: Set[int] = set()
        self._lost = self._again = 0
        self._retries = Retries()
        self._out: Dict[int, int] = {}             # call -> items of the origin that are on their way
        self._surplus = self._done = 0
        self._since: Optional[float] = None        # when the count began
        self._samples: Deque[Tuple[float, int]] = deque()
        self._armed = False

    def see(self, event: broker.Event, actions: List[broker.Action]) -> None:
        if isinstance(event, broker.Heard):
            self._hear(event.process, event.message)
        elif isinstance(event, broker.ProcessDied):
            self._lost += event.process in self._workers
            self._gone(event.process)
        for action in actions:
            if isinstance(action, broker.Send):
                self._sent(action.process, action.message)
            elif isinstance(action, broker.Start):
                self._start(action)
        self._count()

    def close(self, status: int) -> None:
        self._since = None
        self.screen.make_room(b"")

    def _start(self, action: broker.Start) -> None:
        if action.kind == WORKER:
            self._workers.add(action.process)
        elif action.kind == ORIGIN:
            self._origin = action.process

    def _gone(self, process: int) -> None:
        self._workers.discard(process)
        self._busy.discard(process)

    def _hear(self, process: int, message: Any) -> None:
        if isinstance(message, Idle):
            (self._busy.add if message.idle == RUNNING else self._busy.discard)(process)
        elif process != self._origin:
            return
        elif isinstance(message, Block):
            self._out[message.call] = self._out.get(message.call, 0) + message.items
            self._surplus = message.surplus
        elif isinstance(message, Surplus):
            self._surplus = message.items
        elif isinstance(message, Drop):
            self._out.pop(message.call, None)

    def _sent(self, process: int, message: Any) -> None:
        if isinstance(message, Block):
            self._busy.add(process)
            self._again += self._retries.is_again(message)
        elif isinstance(message, Lost):
            self._take_off(process, message)
            self._retries.lost(process, message)
        elif isinstance(message, Result) and self._take_off(process, message):
            self._done += message.items

    def _take_off(self, process: int, message: Any) -> bool:
        """These items of the origin are no longer on their way; False if they were not, or are not its own."""
        if process != self._origin or message.call not in self._out:
            return False
        self._out[message.call] -= message.items
        if self._out[message.call] <= 0:
            del self._out[message.call]
        return True

    def _count(self) -> None:
        open_ = bool(self._out or self._surplus)
        if open_ and self._since is None:
            self._since, self._done = time.monotonic(), 0
            self._samples.clear()
            if not self._armed:
                self._armed = True
                self._loop.after(WAIT, self._tick)
        elif not open_ and self._since is not None:
            self._since = None
            self.screen.make_room(b"")

    def _tick(self) -> None:
        self._armed = self._since is not None
        if self._since is None:
            return
        now = time.monotonic()
        left = self._since + WAIT - now
        if left > 0.001:
            self._loop.after(left, self._tick)
            return
        self._loop.after(PERIOD, self._tick)
        try:
            if os.tcgetpgrp(2) == os.getpgrp():    # else we run in the background
                width = os.get_terminal_size(2).columns or 80  # it may change; 0: it does not say
                self.screen.draw(self._line(now)[:width - 1].encode())
        except OSError:                            # not our terminal, or it is gone
            return

    def _line(self, now: float) -> str:
        self._samples.append((now, self._done))
        while now - self._samples[0][0] > RECENT:
            self._samples.popleft()
        since, before = self._samples[0]
        if self._done == before:
            since, before = self._since or now, 0
        rate = (self._done - before) / (now - since)
        # Looked at once: the origin may change it meanwhile.
        left = None if self.screen.state[ENDLESS] else sum(self._out.values()) + self._surplus
        parts = [f"{self._done:,} done" if left is None else f"{self._done:,} of {self._done + left:,} done"]
        if rate:
            parts.append(_pace(rate))
            if left is not None:
                parts.append(_span(left / rate) + " left")
        parts.append("%d of %d workers busy" % (len(self._busy & self._workers), len(self._workers)))
        if self._lost:
            parts.append("%d lost" % self._lost)
        if self._again:
            parts.append("%d run again" % self._again)
        return ", ".join(parts)


def _pace(rate: float) -> str:
    for unit, size in (("s", 1), ("min", 60)):
        if rate * size >= 1:
            return ("{:,.0f}/" if rate * size >= 10 else "{:.1f}/").format(rate * size) + unit
    return "%.1f/h" % (rate * 3600)


def _span(seconds: float) -> str:
    whole = int(seconds + 0.99)
    if whole < 100:
        return "%d s" % whole
    if whole < 6000:
        return "%d min" % round(whole / 60)
    return "%d h %d min" % divmod(round(whole / 60), 60)
