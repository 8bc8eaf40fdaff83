"""Bodies too large for one frame: offered here, pulled by whoever needs them.  Runs in owners and workers.

    receiver --Pull(upto)--> broker --> sender             "send on, up to this offset"
    receiver <--Piece------- broker <-- sender             at most WINDOW bytes are on their way

Between processes of one machine nothing but a name travels: the sender puts the body into a memfd (memfd_create(2)),
and the receiver opens it as /proc/PID/fd/N.  It has no name in any file system, so nothing can be left behind.  A
memfd whose body is settled is used again, since fresh pages cost more than the copying.
"""
from __future__ import annotations

import mmap
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .protocol import INLINE, WINDOW, Message, Piece, Pull, Shared

PULLS = 2                  # streams that a process takes in at a time
SPARE = 4                  # memfds kept for use again,
SPARE_SIZE = 32 << 20      # none larger than this

Key = Tuple[int, int, int]         # owner, call, first item


class Outflow:
    """A body that others may pull."""
    __slots__ = ("body", "given", "memory")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.given: Dict[int, int] = {}    # puller -> up to where it was sent
        self.memory = -1           # the memfd that holds it, once somebody near has asked


class Inflow:
    """A body that is being pulled, and the message that it belongs to."""
    __slots__ = ("message", "sender", "data", "got", "asked", "near")

    def __init__(self, message: Any, sender: int) -> None:
        self.message, self.sender = message, sender
        self.data = bytearray()
        self.got = self.asked = 0
        self.near = hasattr(os, "memfd_create")


class Streams:
    """Both directions of one process; its owner's lock is held but where it says so."""

    def __init__(self, send: Callable[[Message], None], number: int) -> None:
        self._send, self._number = send, number
        self._out: Dict[Key, Outflow] = {}
        self._in: Dict[Key, Inflow] = {}
        self._spare: List[int] = []

    def fit(self, message: Any) -> Any:
        """This block or result as it is sent: a body too large for a frame stays here until it is withdrawn."""
        if len(message.body) <= INLINE:
            return message
        self.offer((message.owner, message.call, message.first), message.body)
        return message._replace(size=len(message.body), body=b"")

    def offer(self, key: Key, body: bytes) -> None:
        """Let others pull this body until it is withdrawn or dropped."""
        self._out[key] = Outflow(body)

    def withdraw(self, owner: int, call: int, first: int) -> None:
        """A body has arrived, or its item is settled otherwise."""
        flow = self._out.pop((owner, call, first), None)
        if flow is not None and flow.memory >= 0:
            if len(self._spare) < SPARE and os.fstat(flow.memory).st_size <= SPARE_SIZE:
                self._spare.append(flow.memory)
            else:
                os.close(flow.memory)

    def drop(self, owner: int, call: int) -> None:
        """Nobody wants this call (0: any of that owner) any more."""
        for key in [key for key in self._out if key[0] == owner and call in (0, key[1])]:
            memory = self._out.pop(key).memory
            if memory >= 0:                        # somebody may be reading it still: not to be used again
                os.close(memory)
        for key in [key for key in self._in if key[0] == owner and call in (0, key[1])]:
            del self._in[key]
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
        for memory in (*self._spare, *(flow.memory for flow in self._out.values() if flow.memory >= 0)):
            os.close(memory)
        self._spare, self._out, self._in = [], {}, {}

    # Taking in

    def expect(self, message: Any, sender: int) -> None:
        """Pull the body of a block or result."""
        self._in[(message.owner, message.call, message.first)] = Inflow(message, sender)
        self._ask()

    def _ask(self) -> None:
        for key, flow in list(self._in.items())[:PULLS]:
            size = flow.message.size
            if flow.asked < size and flow.asked - flow.got <= WINDOW // 2:
                flow.asked = min(flow.got + WINDOW, size)
                self._send(Pull(flow.sender, self._number, *key, flow.asked, flow.near))

    def piece(self, message: Piece) -> Optional[Tuple[Any, Any]]:
        """Take in a piece; the message and its body, if that was the last one."""
        key = (message.owner, message.call, message.first)
        flow = self._in.get(key)
        if flow is None or flow.sender != message.to:
            return None                            # dropped meanwhile, or of one that died, and overtaken by that
        flow.data += message.body
        flow.got += len(message.body)
        if flow.got == flow.message.size:
            del self._in[key]
        self._ask()
        return (flow.message, flow.data) if flow.got == flow.message.size else None

    def shared(self, message: Shared) -> Optional[Tuple[Any, Any]]:
        """Open the memory that a process of this machine shares; if that is forbidden, ask for pieces."""
        key = (message.owner, message.call, message.first)
        flow = self._in.get(key)
        if flow is None or flow.sender != message.to:
            return None
        try:
            descriptor = os.open("/proc/%d/fd/%d" % (message.pid, message.descriptor), os.O_RDONLY)
            try:
                data = mmap.mmap(descriptor, flow.message.size, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
        except (OSError, ValueError):
            flow.near, flow.asked = False, 0
            self._ask()
            return None
        del self._in[key]
        self._ask()
        return flow.message, data

    # Giving out

    def due(self, message: Pull) -> Iterator[Message]:
        """What to send in answer; to be gone through without the lock."""
        key = (message.owner, message.call, message.first)
        flow = self._out.get(key)
        if flow is None:
            return iter(())                        # settled or dropped meanwhile
        if message.near and self._share(flow):
            return iter([Shared(message.by, *key, os.getpid(), flow.memory)])
        start = flow.given.get(message.by, 0)
        flow.given[message.by] = message.upto
        view = memoryview(flow.body)
        return (Piece(message.by, *key, bytes(view[at:min(at + INLINE, message.upto)]))
                for at in range(start, message.upto, INLINE))

    def _share(self, flow: Outflow) -> bool:
        """Put the body where a process of this machine can read it."""
        if flow.memory >= 0:
            return True
        memory = -1
        try:
            memory = self._spare.pop() if self._spare else os.memfd_create("microscoop")
            view = memoryview(flow.body)
            while view:
                view = view[os.pwrite(memory, view, len(flow.body) - len(view)):]
        except OSError:                            # no memory left for it: pieces need less
            if memory >= 0:
                os.close(memory)
            return False
        flow.memory = memory
        return True
