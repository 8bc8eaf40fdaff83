"""Bodies too large for one frame: offered here, pulled by whoever needs them.  Runs in owners and workers.

    receiver --Pull(upto)--> broker --> sender             "send on, up to this offset"
    receiver <--Piece------- broker <-- sender             at most WINDOW bytes are on their way

Between processes of one machine nothing of that is needed: a large body is pickled into a memfd (memfd_create(2)), and
its message says where that is, so that the receiver opens /proc/PID/fd/N.  It has no name in any file system, so
nothing can be left behind; a random number in its own name tells it from any other, on this machine or elsewhere.  A
memfd whose body is settled is used again, since fresh pages cost more than the copying.
"""
from __future__ import annotations

import mmap
import os
import pickle
import resource
from struct import Struct
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from .protocol import INLINE, WINDOW, Drop, Message, Piece, Pull, Result
from .tasks import PROTOCOL

PULLS = 2                  # streams that a process takes in at a time
SPARE = 32 << 20           # bytes of memfds kept for use again
OPEN = 200                 # memfds that a process has at a time: a descriptor each, and at most
SHARE = 4                  # a quarter of those that it may have: the others are the user's
PLACE = Struct("!IIQ")     # where one is: pid, descriptor, the number in its name
NAME = "microscoop-%016x"

Key = Tuple[int, int, int]         # owner, call, first item


class Memory:
    """A memfd, and the body in it."""
    __slots__ = ("descriptor", "number", "size", "pages")

    def __init__(self) -> None:
        self.number = int.from_bytes(os.urandom(8), "big")
        self.descriptor = os.memfd_create(NAME % self.number)
        self.size = 0
        self.pages = 0             # bytes that it takes, of this body or a former one

    def __len__(self) -> int:
        return self.size

    def write(self, data: bytes) -> None:
        """Add to the body.  Raises OSError when there is no memory left."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self.descriptor, view, self.size)
            self.size, view = self.size + count, view[count:]
            self.pages = max(self.pages, self.size)

    def place(self) -> bytes:
        """What others need to open it."""
        return PLACE.pack(os.getpid(), self.descriptor, self.number)


Body = Union[bytes, Memory]


class _File:
    """What a pickle is written to."""

    def __init__(self, allot: Callable[[], Optional[Memory]]) -> None:
        self._allot = allot
        self._size = 0
        self.parts: List[bytes] = []               # those that are not in the memory
        self.memory: Optional[Memory] = None

    def write(self, data: bytes) -> None:
        """Called by the pickler: with a frame, or with the whole of something large."""
        self._size += len(data)
        self.parts.append(data)
        if self._size > INLINE:
            self.memory = self.memory or self._allot()
            if self.memory is not None:
                for part in self.parts:
                    self.memory.write(part)
                self.parts.clear()


def opened(place: bytes, size: int) -> Optional[mmap.mmap]:
    """The body that lies there, if that is on this machine and can be read."""
    pid, descriptor, number = PLACE.unpack(place)
    path, name = "/proc/%d/fd/%d" % (pid, descriptor), "/memfd:" + NAME % number
    try:
        if not pid or not os.readlink(path).startswith(name):
            return None
        found = os.open(path, os.O_RDONLY)
        try:                                       # another may lie there since that look
            right = os.readlink("/proc/self/fd/%d" % found).startswith(name)
            return mmap.mmap(found, size, prot=mmap.PROT_READ) if right else None
        finally:
            os.close(found)
    except (OSError, ValueError):                  # elsewhere, forbidden or gone: it can be pulled
        return None


class Outflow:
    """A body that others may pull."""
    __slots__ = ("body", "given")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.given: Dict[int, int] = {}    # puller -> up to where it was sent

    def part(self, start: int, stop: int) -> bytes:
        """Some of its bytes."""
        if isinstance(self.body, Memory):
            return os.pread(self.body.descriptor, stop - start, start)
        return self.body[start:stop]


class Inflow:
    """A body that is being pulled, and the message that it belongs to."""
    __slots__ = ("message", "sender", "data", "asked")

    def __init__(self, message: Any, sender: int) -> None:
        self.message, self.sender = message, sender
        self.data = bytearray()
        self.asked = 0             # up to where


class Streams:
    """Both directions of one process; its owner's lock is held."""

    def __init__(self, send: Callable[[Message], None], number: int) -> None:
        self._send, self.number = send, number
        self._out: Dict[Key, Outflow] = {}
        self._in: Dict[Key, Inflow] = {}
        self._spare: List[Memory] = []
        self._memories = 0                         # in use

    def pickled(self, value: Any) -> Body:
        """A pickle: in memory that others can open, if it is too large for a frame."""
        file = _File(self._memory)
        try:
            pickle.dump(value, file, PROTOCOL)
        except OSError:                            # no memory left for it; what follows needs less
            self._let_go(file.memory, False)
            return pickle.dumps(value, PROTOCOL)
        return file.memory or b"".join(file.parts)

    def fit(self, message: Any) -> Any:
        """This block or result as it is sent: a body too large for a frame stays here until it is withdrawn."""
        if len(message.body) <= INLINE and type(message.body) is bytes:
            return message
        place = self.offer((message.owner, message.call, message.first), message.body)
        return message._replace(size=len(message.body), place=place, body=b"")

    def offer(self, key: Key, body: Body) -> bytes:
        """Let others pull this body until it is withdrawn or dropped; its place, if they can open it there."""
        memory = body if isinstance(body, Memory) else self._memory()
        if isinstance(body, bytes) and memory is not None:
            try:
                memory.write(body)
            except OSError:                        # as above
                self._let_go(memory, False)
                memory = None
        self.withdraw(*key)                        # a block that came back to its owner to be run: done with
        self._out[key] = Outflow(memory or body)
        return memory.place() if memory else b""

    def _memory(self) -> Optional[Memory]:
        """A memfd, if there can be one more."""
        if self._spare:
            memory = self._spare.pop()
            memory.size = 0
            return memory
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = OPEN if limit == resource.RLIM_INFINITY else min(OPEN, limit // SHARE)
        if self._memories >= most or not hasattr(os, "memfd_create"):
            return None
        try:
            memory = Memory()
        except OSError:                            # no descriptor left, or forbidden
            return None
        self._memories += 1
        return memory

    def _let_go(self, body: Optional[Body], again: bool = True) -> None:
        """A body is not needed any more; again: its memory may be used for another."""
        if isinstance(body, Memory):
            if again and sum(spare.pages for spare in self._spare) + body.pages <= SPARE:
                self._spare.append(body)
            else:
                self._memories -= 1
                os.close(body.descriptor)

    def withdraw(self, owner: int, call: int, first: int) -> None:
        """A body has arrived, or its item is settled otherwise."""
        flow = self._out.pop((owner, call, first), None)
        if flow is not None:
            self._let_go(flow.body)

    def drop(self, message: Drop) -> None:
        """Nobody wants these calls any more."""
        for flow in message.purge(self._out):
            self._let_go(flow.body, False)         # somebody may be reading it still
        message.purge(self._in)
        self._ask()

    def expects(self, kind: type) -> bool:
        """Whether a body of such a message is being pulled."""
        return any(type(flow.message) is kind for flow in self._in.values())

    def forget(self, key: Key) -> None:
        """What was pulled under this key will not come."""
        if self._in.pop(key, None) is not None:
            self._ask()

    def close(self) -> None:
        """Forget everything."""
        for body in (*self._spare, *(flow.body for flow in self._out.values())):
            self._let_go(body, False)
        self._spare, self._out, self._in = [], {}, {}

    # Taking in

    def expect(self, message: Any, sender: int) -> None:
        """Pull the body of a block or result."""
        self._in[(message.owner, message.call, message.first)] = Inflow(message, sender)
        self._ask()

    def _ask(self) -> None:
        for key, flow in list(self._in.items())[:PULLS]:
            size, got = flow.message.size, len(flow.data)
            if flow.asked < size and flow.asked - got <= WINDOW // 2:
                flow.asked = min(got + WINDOW, size)
                self._send(Pull(flow.sender, self.number, *key, flow.asked))

    def piece(self, message: Piece) -> Optional[Tuple[Any, Any]]:
        """Take in a piece; the message and its body, if that was the last one.  For a result there may be no memory:
        then None is its body at once."""
        key = (message.owner, message.call, message.first)
        flow = self._in.get(key)
        if flow is None or flow.sender != message.to:
            return None                            # dropped meanwhile, or of one that died, and overtaken by that
        try:
            flow.data += message.body
        except MemoryError:
            if not isinstance(flow.message, Result):
                raise
            self.forget(key)
            return flow.message, None
        whole = len(flow.data) == flow.message.size
        if whole:
            del self._in[key]
        self._ask()
        return (flow.message, flow.data) if whole else None

    # Giving out

    def due(self, message: Pull) -> Iterator[Message]:
        """What to send in answer."""
        key = (message.owner, message.call, message.first)
        flow = self._out.get(key)
        if flow is None:
            return iter(())                        # settled or dropped meanwhile
        start = flow.given.get(message.by, 0)
        flow.given[message.by] = message.upto
        return (Piece(message.by, *key, flow.part(at, min(at + INLINE, message.upto)))
                for at in range(start, message.upto, INLINE))
