"""What carries messages: a byte stream cut into frames.  Runs everywhere.

A frame is what `multiprocessing.connection` sends: four bytes of length (big-endian, signed), then that many bytes.
Its own Connection has no call that does not block and one descriptor where ssh has two, and it allocates anew for
every read; hence the classes here.  A Channel never blocks and belongs to one thread with a Loop; a Link (link.py) is
the other end, in processes with threads.
"""
from __future__ import annotations

import os
from collections import deque
from struct import Struct
from typing import Callable, Deque, List, Sequence

from .protocol import FRAME_LIMIT, INLINE, NONSENSE, TABLE

HEADER = Struct("!i")


def framed(payload: bytes) -> bytes:
    """The payload as one frame."""
    return HEADER.pack(len(payload)) + payload


class Frames:
    """Cuts what is read from a descriptor into frames; one buffer, filled in place."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._buffer = bytearray(1 << 14)
        self._start = self._end = 0
        self._limit = limit

    def read(self, descriptor: int, readv: Callable[[int, Sequence[memoryview]], int] = os.readv) -> List[bytes]:
        """Frames from one `readv`.  Raises EOFError at the end, BlockingIOError if there is nothing.

        What is no frame gives one that is no message, so that `decode` refuses it, and says what it was."""
        self._reserve()
        with memoryview(self._buffer) as view, view[self._end:] as free:
            count = readv(descriptor, [free])
        if not count:
            raise EOFError("end of the channel")
        self._end += count
        return self._cut()

    def _reserve(self) -> None:
        """Room for the whole of a frame whose length is known, else for a byte at least."""
        count = 1
        if self._end - self._start >= 4:
            (length,) = HEADER.unpack_from(self._buffer, self._start)
            if length <= self._limit:              # else nobody should read on, and there is no room for it
                count = max(count, self._start + 4 + length - self._end)
        if self._end + count > len(self._buffer):
            kept = self._buffer[self._start:self._end]
            if len(kept) + count > len(self._buffer):
                self._buffer = bytearray(len(kept) + max(count, len(self._buffer)))
            self._buffer[:len(kept)] = kept
            self._start, self._end = 0, len(kept)

    def _cut(self) -> List[bytes]:
        found: List[bytes] = []
        while self._end - self._start >= 4:
            (length,) = HEADER.unpack_from(self._buffer, self._start)
            if not 0 < length <= self._limit:
                return [*found, self._nonsense()]
            stop = self._start + 4 + length
            if stop > self._end:
                if self._end > self._start + 4 and self._buffer[self._start + 4] not in TABLE:
                    found.append(self._nonsense())     # whose end might never come
                return found
            found.append(bytes(memoryview(self._buffer)[self._start + 4:stop]))
            self._start = stop
        if self._start == self._end:
            self._start = self._end = 0
        return found

    def _nonsense(self) -> bytes:
        data = bytes(self._buffer[self._start:self._end][:32])
        self._start = self._end = 0
        return NONSENSE + data


class Channel:
    """Frames over a pair of descriptors that never block; for the loops of the launcher and the agents.

    What cannot be written at once waits: pieces of streams behind everything else, so that a gigabyte on its way does
    not hold up a heartbeat.
    """

    def __init__(self, reader: int, writer: int, limit: int = FRAME_LIMIT, peer: str = "") -> None:
        self.reader, self.writer, self.peer = reader, writer, peer
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._frames = Frames(limit)
        self._first: Deque[bytes] = deque()
        self._later: Deque[bytes] = deque()
        self._current: memoryview = memoryview(b"")
        self.waiting = 0              # bytes that are queued

    def send(self, payload: bytes, later: bool = False) -> None:
        """Queue one frame, behind the others if it can come `later`; `flush` writes it."""
        self.write(framed(payload), later)

    def write(self, data: bytes, later: bool = False) -> None:
        """Queue these bytes as they are."""
        self.waiting += len(data)
        (self._later if later else self._first).append(data)

    def flush(self) -> bool:
        """Write what can be written; True if nothing is left.  Raises OSError when the other end is gone."""
        while self.waiting:
            if not self._current:
                self._current = memoryview(self._next())
            try:
                count = os.write(self.writer, self._current)
            except BlockingIOError:
                return False
            self._current = self._current[count:]
            self.waiting -= count
        return True

    def discard(self) -> None:
        """Nobody reads the other end any more."""
        self._first.clear()
        self._later.clear()
        self._current, self.waiting = memoryview(b""), 0

    def _next(self) -> bytes:
        """The next thing to write: many small frames together, or one piece of a stream."""
        if not self._first:
            return self._later.popleft()
        if len(self._first) == 1:
            return self._first.popleft()
        batch, size = [], 0
        while self._first and size < INLINE:
            batch.append(self._first.popleft())
            size += len(batch[-1])
        return b"".join(batch)

    def receive(self) -> List[bytes]:
        """The frames of one read.  Raises EOFError or OSError at the end."""
        try:
            return self.read()
        except BlockingIOError:
            return []

    def read(self) -> List[bytes]:
        """As `receive`, but BlockingIOError where nothing is there."""
        return self._frames.read(self.reader)
