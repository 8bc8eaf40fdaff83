"""The near end of a process: its socket to the broker, and the pipes of its stdout and stderr.  Runs in the launcher
for processes of its own machine, in the agent elsewhere.

What a process printed is read before what it says next on its socket, so output comes out before results do.
"""
from __future__ import annotations

import os
from typing import Dict, Iterable, Iterator, List, Tuple

from .channel import Channel
from .loop import Loop
from .protocol import BLOCK, LATER, SAID_LIMIT, ProtocolError, idles

PRINT_LIMIT = 1 << 16
LINE_LIMIT = 1 << 18        # bytes of a line without an end that are kept back; with what is read on it fits a frame


class Port:
    """One process, seen from whoever reads it."""

    def __init__(self, process: int, sock: int, out: int, err: int) -> None:
        self.process = process
        self.channel = Channel(sock, sock, SAID_LIMIT, "process %d" % process)
        self.pipes: Dict[int, int] = {out: 1, err: 2} if out >= 0 else {}
        self._tails: Dict[int, bytes] = {1: b"", 2: b""}
        self._blocks = 0           # that it was sent
        for pipe in self.pipes:
            os.set_blocking(pipe, False)

    def printed(self, whole: bool) -> Iterator[Tuple[int, bytes]]:
        """What it has written so far, as (stream, text): `whole` lines only, or the unfinished last one too.

        A line longer than LINE_LIMIT comes in parts."""
        for pipe, stream in list(self.pipes.items()):
            try:
                data = os.read(pipe, PRINT_LIMIT)
            except BlockingIOError:
                data = b""
            else:
                if not data:
                    self._close(pipe)
            text = self._tails[stream] + data
            cut = text.rfind(b"\n") + 1 if whole else len(text)
            if not cut and len(text) > LINE_LIMIT:
                cut = len(text)
            self._tails[stream] = text[cut:]
            if cut:
                yield stream, text[:cut]

    def send(self, loop: Loop, frame: bytes) -> None:
        """Tell it something; pieces of streams wait for all else."""
        self._blocks += frame[0] == BLOCK
        loop.send(self.channel, frame, frame[0] == LATER)

    def rests(self, frames: Iterable[bytes]) -> bool:
        """Whether it says here that it has nothing to run, and nothing is on its way."""
        return any(idles(frame, self._blocks) for frame in frames)

    def frames(self) -> List[bytes]:
        """What it says.  Raises EOFError or OSError when it has gone, ProtocolError."""
        return self.channel.receive()

    def last(self) -> Iterator[bytes]:
        """All that is left to read from a process that has ended, as far as it makes sense."""
        while True:
            try:
                frames = self.frames()
            except ProtocolError as error:
                yield from error.before
                return
            except (EOFError, OSError):
                return
            if not frames:
                return
            yield from frames

    def _close(self, pipe: int) -> None:
        os.close(pipe)
        del self.pipes[pipe]

    def close(self) -> None:
        """Close all three."""
        for pipe in list(self.pipes):
            self._close(pipe)
        os.close(self.channel.reader)
