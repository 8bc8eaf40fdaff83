"""The near end of a process: its socket to the broker, and the pipes of its stdout and stderr.  Runs in the launcher
for processes of its own machine, in the agent elsewhere.

What a process printed is read before what it says next on its socket, so output comes out before results do.
"""
from __future__ import annotations

import os
from typing import Callable, Dict, Iterator, Sequence

from .channel import Channel
from .loop import Loop
from .protocol import BLOCK, LATER, SAID_LIMIT, idles

PRINT_LIMIT = 1 << 16
LINE_LIMIT = 1 << 18        # bytes of a line without an end that are kept back; with what is read on it fits a frame


class Port:
    """One process, seen from whoever reads it."""

    def __init__(self, loop: Loop, process: int, ends: Sequence[int], said: Callable[[int, bytes], None],
                 printed: Callable[[Port, int, bytes], None], closed: Callable[[int], None]) -> None:
        """ends: of its socket, and of the pipes of its stdout and stderr, if it has any.

        said: (process, a frame); printed: (this, 1 or 2 for stdout or stderr, text); closed: (process), its socket."""
        sock, *pipes = ends
        self.process = process
        self._loop, self._said, self._printed, self._closed = loop, said, printed, closed
        self._channel = Channel(sock, sock, SAID_LIMIT, "process %d" % process)
        self._pipes: Dict[int, int] = dict(zip(pipes, (1, 2)))
        self._tails: Dict[int, bytes] = {1: b"", 2: b""}
        self._blocks = 0           # that it was sent
        for pipe in pipes:
            os.set_blocking(pipe, False)
        self.listen(True)

    def descriptors(self) -> Sequence[int]:
        """What a forked child must close."""
        return [self._channel.reader, *self._pipes]

    def send(self, frame: bytes) -> None:
        """Tell it something; pieces of streams wait for all else."""
        self._blocks += frame[0] == BLOCK
        self._loop.send(self._channel, frame, frame[0] == LATER)

    def listen(self, whether: bool) -> None:
        """Take in what it says and prints, from now on; or let it wait."""
        self._loop.read(self._channel.reader, self._take_in if whether else None)
        for pipe in self._pipes:
            self._loop.read(pipe, self._take_in_lines if whether else None)

    def _take_in(self) -> None:
        try:
            frames = self._channel.receive()
        except (EOFError, OSError):
            self._loop.read(self._channel.reader, None)
            self._closed(self.process)
            return
        rests = any(idles(frame, self._blocks) for frame in frames)    # then nothing ends its last line for now
        self._take_in_lines(not rests)
        for frame in frames:
            self._said(self.process, frame)

    def _take_in_lines(self, whole: bool = True) -> None:
        """What it has written so far: `whole` lines only, or the unfinished last one too, as it is where a pipe ends.

        A line longer than LINE_LIMIT comes in parts."""
        for pipe, stream in list(self._pipes.items()):
            try:
                data = os.read(pipe, PRINT_LIMIT)
            except BlockingIOError:
                data = b""
            else:
                if not data:
                    self._close(pipe)
            text = self._tails[stream] + data
            cut = text.rfind(b"\n") + 1 if whole and pipe in self._pipes else len(text)
            if not cut and len(text) > LINE_LIMIT:
                cut = len(text)
            self._tails[stream] = text[cut:]
            if cut:
                self._printed(self, stream, text[:cut])

    def last(self) -> Iterator[bytes]:
        """All that is left to read from a process that has ended: its output first, then the frames."""
        self._take_in_lines(False)
        try:
            while True:                                # until nothing is there: one read may give a part of a frame
                yield from self._channel.read()
        except (EOFError, OSError):
            return

    def _close(self, pipe: int) -> None:
        self._loop.forget(pipe)
        os.close(pipe)
        del self._pipes[pipe]

    def close(self) -> None:
        """Close all three."""
        for pipe in list(self._pipes):
            self._close(pipe)
        self._loop.drop(self._channel)
        os.close(self._channel.reader)
