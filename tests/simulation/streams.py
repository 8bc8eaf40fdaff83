"""Bodies too large for one frame, in the simulation: streams.py of microscoop, with names of bodies for bytes."""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

from microscoop.protocol import Block, Message, Piece, Pull, Result

from .world import Violation

WINDOW = 4                 # pieces of a stream that are on their way

Key = Tuple[int, int, int]         # owner, call, item
Place = Optional[Tuple[int, int, Any]]     # process, descriptor, what should be there


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
    """A body that others may pull, or open where it lies."""
    __slots__ = ("content", "pieces", "given", "place")

    def __init__(self, content: Any, pieces: int, place: Place) -> None:
        self.content, self.pieces, self.place = content, pieces, place
        self.given: Dict[int, int] = {}            # puller -> pieces that it was sent


class Inflow:
    """A body that is being pulled."""
    __slots__ = ("message", "sender", "got", "asked")

    def __init__(self, message: Union[Block, Result], sender: int) -> None:
        self.message, self.sender = message, sender
        self.got = self.asked = 0


class Streams:
    """Bodies too large for one frame, both directions of a process."""

    def __init__(self, process: Any) -> None:
        self._process, self._world = process, process.world
        self.out: Dict[Key, Outflow] = {}
        self.inward: Dict[Key, Inflow] = {}
        self._pulls: int = process.world.pulls     # streams that it takes in at a time
        self.memories: Dict[int, Memory] = {}      # by descriptor
        self._spare: List[int] = []
        self._next = 0

    def offer(self, key: Key, content: Any, pieces: int) -> Place:
        """Keep a body until it is withdrawn; where it lies."""
        place = None
        if self._world.chance(0.4):                # else there is no memfd
            self._next += not self._spare
            descriptor = self._spare.pop() if self._spare else self._next
            self.memories.setdefault(descriptor, Memory()).content = content
            place = self._process.number, descriptor, content
        self.out[key] = Outflow(content, pieces, place)
        return place

    def withdraw(self, key: Key, again: bool = True) -> None:
        """A body is needed no more; its memory is used again if nobody can be reading it."""
        flow = self.out.pop(key, None)
        if flow is not None and flow.place is not None:
            if again:
                self._spare.append(flow.place[1])
            else:
                del self.memories[flow.place[1]]

    def open(self, place: Any) -> Optional[View]:
        """The body that lies there, if a process of this host has it and it can be read."""
        sender = self._process.host.processes.get(place[0]) if place else None
        if sender is None or not sender.alive or self._world.chance(0.3):      # or /proc is hidden
            return None
        memory = sender.streams.memories.get(place[1])
        if memory is None:
            return None
        if memory.content is not place[2]:
            raise Violation("a body was written over before its message came")
        self._world.saw("body in shared memory")
        return View(memory)

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
        self.inward[message.owner, message.call, message.first] = Inflow(message, sender)
        self._ask()

    def expects(self, kind: type) -> bool:
        """Whether a body of such a message is being pulled."""
        return any(type(flow.message) is kind for flow in self.inward.values())

    def _ask(self) -> None:
        for key, flow in list(self.inward.items())[:self._pulls]:
            if flow.asked < flow.message.size and flow.asked - flow.got <= WINDOW // 2:
                flow.asked = min(flow.got + WINDOW, flow.message.size)
                self._process.say(Pull(flow.sender, self._process.number, *key, flow.asked))

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
        start = flow.given.get(message.by, 0)
        flow.given[message.by] = message.upto
        for number in range(start, message.upto):
            content = (self._process.number, number, flow.content)
            self._process.say(Piece(message.by, *key, content))  # type: ignore[arg-type]
