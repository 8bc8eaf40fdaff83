"""Bodies too large for one frame, in the simulation: streams.py of microscoop, with names of bodies for bytes."""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

from microscoop.protocol import Block, Message, Piece, Pull, Result, Shared

from .world import Violation

WINDOW = 4                 # pieces of a stream that are on their way

Key = Tuple[int, int, int]         # owner, call, item


class Memory:
    """What a memfd holds, now."""
    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: Any = None


class View:
    """A body that is read where it lies, later; it should be what it was."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._content = memory, memory.content

    def open(self) -> Any:
        """The body."""
        if self._memory.content is not self._content:
            raise Violation("a body was written over before it was opened")
        return self._content


class Outflow:
    """A body that others may pull."""
    __slots__ = ("content", "pieces", "given", "memory")

    def __init__(self, content: Any, pieces: int) -> None:
        self.content, self.pieces = content, pieces
        self.given: Dict[int, int] = {}            # puller -> pieces that it was sent
        self.memory: Optional[Memory] = None


class Inflow:
    """A body that is being pulled."""
    __slots__ = ("message", "sender", "got", "asked", "near")

    def __init__(self, message: Union[Block, Result], sender: int, near: bool) -> None:
        self.message, self.sender, self.near = message, sender, near
        self.got = self.asked = 0


class Streams:
    """Bodies too large for one frame, both directions of a process."""

    def __init__(self, process: Any) -> None:
        self._process, self._world = process, process.world
        self.out: Dict[Key, Outflow] = {}
        self.inward: Dict[Key, Inflow] = {}
        self._pulls: int = process.world.pulls     # streams that it takes in at a time
        self._spare: List[Memory] = []
        self.opened: Dict[int, Memory] = {}        # descriptors
        self._next = 0

    def offer(self, key: Key, content: Any, pieces: int) -> None:
        """Keep a body until it is withdrawn."""
        self.out[key] = Outflow(content, pieces)

    def withdraw(self, key: Key, again: bool = True) -> None:
        """A body is needed no more; its memory is used again if nobody can be reading it."""
        flow = self.out.pop(key, None)
        if flow is not None and flow.memory is not None and again:
            self._spare.append(flow.memory)

    def drop(self, owner: int, call: int) -> None:
        """Nobody wants this call (0: any of that owner) any more."""
        for key in [key for key in self.out if key[0] == owner and call in (0, key[1])]:
            self.withdraw(key, False)
        self.forget([key for key in self.inward if key[0] == owner and call in (0, key[1])])

    def forget(self, keys: List[Key]) -> None:
        """What was pulled under these keys will not come: something else may."""
        if [key for key in keys if self.inward.pop(key, None)] and not self._world.fault("asks for no other stream"):
            self._ask()

    def expect(self, message: Union[Block, Result], sender: int) -> None:
        """Pull the body of a message."""
        near = self._world.chance(0.5)             # else /proc is hidden, or there is no memfd
        self.inward[message.owner, message.call, message.first] = Inflow(message, sender, near)
        self._ask()

    def _ask(self) -> None:
        for key, flow in list(self.inward.items())[:self._pulls]:
            if flow.asked < flow.message.size and flow.asked - flow.got <= WINDOW // 2:
                flow.asked = min(flow.got + WINDOW, flow.message.size)
                self._process.say(Pull(flow.sender, self._process.number, *key, flow.asked, int(flow.near)))

    def piece(self, message: Piece) -> Optional[Message]:
        """Take in a piece; the message with its body, if that was the last one."""
        source, offset, content = message.body
        key = (message.owner, message.call, message.first)
        flow = self.inward.get(key)
        if flow is None:
            self._world.saw("piece of a stream that nobody wants")
            return None
        if message.to != flow.sender and not self._world.fault("takes any piece"):
            self._world.saw("piece from a sender that is dead")
            return None
        if source != flow.sender or offset != flow.got:
            raise Violation("a stream of %d got piece %d of %d's as number %d" % (
                flow.sender, offset, source, flow.got))
        flow.got += 1
        return self._end(key, flow, content) if flow.got == flow.message.size else self._ask()

    def shared(self, message: Shared) -> Optional[Message]:
        """Open what a process of this host shares; if it is closed or gone, ask for pieces."""
        key = (message.owner, message.call, message.first)
        flow = self.inward.get(key)
        if flow is None or message.to != flow.sender:
            return None
        sender = self._process.host.processes[message.pid]
        memory = sender.streams.opened.get(message.descriptor)
        if memory is None or not sender.alive:
            flow.near, flow.asked = False, 0
            return self._ask()
        self._world.saw("body in shared memory")
        return self._end(key, flow, View(memory))

    def _end(self, key: Key, flow: Inflow, content: Any) -> Message:
        del self.inward[key]
        self._ask()
        return flow.message._replace(body=content)

    def answer(self, message: Pull) -> None:
        """Send what was asked for."""
        key = (message.owner, message.call, message.first)
        flow = self.out.get(key)
        if flow is None:
            return
        if message.near:
            self._process.say(Shared(message.by, *key, self._process.number, self._share(flow)))
            return
        start = flow.given.get(message.by, 0)
        flow.given[message.by] = message.upto
        for number in range(start, message.upto):
            content = (self._process.number, number, flow.content)
            self._process.say(Piece(message.by, *key, content))  # type: ignore[arg-type]

    def _share(self, flow: Outflow) -> int:
        if flow.memory is None:
            flow.memory = self._spare.pop() if self._spare else Memory()
            flow.memory.content = flow.content
        self._next += 1
        self.opened[self._next] = flow.memory
        return self._next
