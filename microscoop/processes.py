"""The processes of a run: what they print goes out, what they say goes on, what they are told goes to them.  Runs in
the launcher.

On this machine each has a Port; elsewhere its agent relays.  What a process says is heard once all that it printed
before is out, however slow the reader: output comes out before results do.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, Optional, Sequence, Tuple

from . import broker
from .errors import Status
from .loop import Loop
from .ports import Port
from .protocol import LATER, Message, ProtocolError, Relay, decode, encode
from .report import FULL, Outlet

if TYPE_CHECKING:
    from .machines import Machine


class Trail:
    """What a process printed that still waits for a slow reader, and what it has said since: that waits, too."""

    def __init__(self) -> None:
        self.marks: Dict[Outlet, int] = {}         # up to where what it printed is queued
        self.frames: Deque[Tuple[Dict[Outlet, int], bytes]] = deque()   # each with the marks that must be out before


class Processes:
    """Where each process is, by its number."""

    def __init__(self, loop: Loop, outlets: Dict[int, Outlet], heard: Callable[[int, Message], None],
                 spoiled: Callable[[Machine, int, object], None], ended: Callable[[int, int], None]) -> None:
        self._loop, self._outlets = loop, outlets
        self._heard = heard                        # (process, message)
        self._spoiled = spoiled                    # (its machine, process, why): it does not keep to the protocol
        self._ended = ended                        # (process, status): its socket has closed; most have an agent
        self._where: Dict[int, Machine] = {}
        self._ports: Dict[int, Port] = {}          # of those on this machine
        self._trails: Dict[int, Trail] = {}        # of those whose output waits

    def enter(self, machine: Machine, process: int) -> None:
        """It runs there."""
        self._where[process] = machine

    def enter_here(self, machine: Machine, port: Port) -> None:
        """It runs on this machine, and this is its near end."""
        self._ports[port.process] = port
        self._read_words(port)
        self._read_pipes(port)
        self.enter(machine, port.process)

    def send(self, process: int, message: Message) -> None:
        """Tell a process something, unless it is gone."""
        machine, port = self._where.get(process), self._ports.get(process)
        frame = encode(message)
        if machine is not None and port is not None:
            port.send(self._loop, frame)
        elif machine is not None and machine.channel is not None:
            self._loop.send(machine.channel, encode(Relay(process, frame)), frame[0] == LATER)

    def expel(self, machine: Machine, process: int) -> bool:
        """Hear it no more; False if it is gone already."""
        if self._where.get(process) is not machine:
            return False
        del self._where[process]
        if process in self._ports:
            self._loop.forget(self._ports[process].channel.reader)
        return True

    def bury(self, machine: Machine, process: int) -> None:
        """It has ended: take in what it still had to say and to print."""
        port = self._ports.get(process)
        if port is not None:
            for frame in port.last():
                self.hear(machine, process, frame)
            self._print(port, False)
        self._hear_out(process)
        if port is not None:
            del self._ports[process]
            for pipe in list(port.pipes):
                self._loop.forget(pipe)
            self._loop.drop(port.channel)
            port.close()
        self._where.pop(process, None)

    def bury_all(self, machine: Machine) -> None:
        """Its host is lost."""
        for process in [process for process in self._trails if self._where.get(process) is machine]:
            self._hear_out(process)
        self._where = {process: other for process, other in self._where.items() if other is not machine}

    # On this machine

    def _read_words(self, port: Port) -> None:
        self._loop.read(port.channel.reader, lambda: self._said(port))

    def _read_pipes(self, port: Port) -> None:
        for pipe in port.pipes:
            self._loop.read(pipe, lambda: self._print(port, True))

    def _said(self, port: Port) -> None:
        machine, spoiled = self._where[port.process], None
        try:
            frames: Sequence[bytes] = port.frames()
        except (EOFError, OSError):
            self._loop.forget(port.channel.reader)     # the agent tells its end
            self._ended(port.process, Status.OK)
            return
        except ProtocolError as error:
            frames, spoiled = error.before, error
        self._print(port, not port.rests(frames))
        for frame in frames:
            self.hear(machine, port.process, frame)
        if spoiled is not None:
            self._spoiled(machine, port.process, spoiled)

    def _print(self, port: Port, whole: bool) -> None:
        before = list(port.pipes)
        for stream, text in port.printed(whole):
            outlet = self.put_out(port.process, stream, text)
            if outlet.waiting > FULL:                  # read on when its reader has caught up
                outlet.when_relieved(lambda: self._read_pipes(port))
                for pipe in port.pipes:
                    self._loop.forget(pipe)
        for pipe in before:
            if pipe not in port.pipes:
                self._loop.forget(pipe)

    # On any

    def put_out(self, process: int, stream: int, text: bytes) -> Outlet:
        """Write what it printed; where to."""
        outlet = self._outlets[stream]
        outlet.write(text)
        if outlet.waiting:
            self._trails.setdefault(process, Trail()).marks[outlet] = outlet.queued
        return outlet

    def hear(self, machine: Machine, process: int, frame: bytes) -> None:
        """A frame of a process; if what it printed before is not out yet, it waits for that."""
        trail = self._trails.get(process)
        if trail is None:
            self._decode(machine, process, frame)
            return
        trail.frames.append((dict(trail.marks), frame))
        if len(trail.frames) == 1:
            self._catch_up(machine, process)

    def _catch_up(self, machine: Machine, process: int) -> None:
        """Hear what needs to wait no more; a process of this machine is not read meanwhile."""
        trail, port = self._trails.get(process), self._ports.get(process)
        while trail is not None and trail.frames:
            for outlet, mark in trail.frames[0][0].items():
                if not outlet.is_out(mark):
                    outlet.when_out(mark, lambda: self._catch_up(machine, process))
                    if port is not None:
                        self._loop.forget(port.channel.reader)
                        self._loop.flush(port.channel)  # it is written all the same
                    return
            self._decode(machine, process, trail.frames.popleft()[1])
        if trail is not None and all(outlet.is_out(mark) for outlet, mark in trail.marks.items()):
            self._trails.pop(process, None)
        if port is not None and self._where.get(process) is machine:
            self._read_words(port)

    def _hear_out(self, process: int) -> None:
        """It is gone: hear what it said, whether its output is out or not."""
        trail, machine = self._trails.pop(process, None), self._where.get(process)
        for _, frame in trail.frames if trail is not None else ():
            self._decode(machine, process, frame)

    def _decode(self, machine: Optional[Machine], process: int, frame: bytes) -> None:
        """A frame of a process, which must be one of that machine."""
        if machine is None or self._where.get(process) is not machine:
            return
        try:
            message = decode(frame, broker.SAID)
        except ProtocolError as error:
            self._spoiled(machine, process, error)
        else:
            self._heard(process, message)
