"""The processes of a run: what they print goes out, what they say goes on, what they are told goes to them.  Runs in
the launcher.

On this machine each has a Port; elsewhere its agent relays.  What a process says is heard once all that it printed
before is out, however slow the reader: output comes out before results do.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, Optional, Sequence

from . import broker
from .loop import Loop
from .ports import Port
from .protocol import LATER, Message, ProtocolError, Relay, decode, encode
from .report import FULL, Outlet

if TYPE_CHECKING:
    from .machines import Machine


class Process:
    """One process, from its start until it is buried."""
    __slots__ = ("number", "machine", "port", "expelled", "marks", "backlog")

    def __init__(self, number: int, machine: Machine, port: Optional[Port]) -> None:
        self.number, self.machine, self.port = number, machine, port       # a port on this machine only
        self.expelled = False                      # what it said was not our protocol: it is heard no more
        self.marks = {1: 0, 2: 0}                  # up to where what it printed is queued in the outlets
        self.backlog: Deque[bytes] = deque()       # what it said, and what is not out yet stands before


class Processes:
    """All of them, by their numbers."""

    def __init__(self, loop: Loop, outlets: Dict[int, Outlet], heard: Callable[[broker.Heard], None],
                 closed: Callable[[int], None], spoiled: Callable[[Machine, int, str], None]) -> None:
        """closed: (process), as of a Port; spoiled: (its machine, process, why), it has been expelled."""
        self._loop, self._outlets = loop, outlets
        self._heard, self._closed, self._spoiled = heard, closed, spoiled
        self._all: Dict[int, Process] = {}

    def enter(self, machine: Machine, process: int, ends: Sequence[int] = ()) -> None:
        """It runs there; ends: its near ends, if that is this machine."""
        port = Port(self._loop, process, ends, self.hear, self._printed, self._closed) if ends else None
        self._all[process] = Process(process, machine, port)

    def send(self, process: int, message: Message) -> None:
        """Tell a process something, unless it is gone."""
        one, frame = self._all.get(process), encode(message)
        if one is None or one.expelled:
            return
        if one.port is not None:
            one.port.send(frame)
        elif one.machine.channel is not None:
            self._loop.send(one.machine.channel, encode(Relay(process, frame)), frame[0] == LATER)

    def bury(self, process: int, buried: Callable[[bool], None]) -> None:
        """It has ended: take in what it still had to print and to say, then call buried(whether it was expelled)."""
        one = self._all.get(process)
        if one is None:
            buried(False)
            return
        if one.port is not None:
            for frame in one.port.last():
                self.hear(process, frame)
            one.port.close()
        del self._all[process]
        self._when_out(one, lambda: buried(one.expelled))

    def bury_all(self, machine: Machine) -> None:
        """Its host is lost: take in what its processes had said, whether their output is out or not."""
        for one in [one for one in self._all.values() if one.machine is machine]:
            while one.backlog:
                self._take_in(one)
            del self._all[one.number]

    def _printed(self, port: Port, stream: int, text: bytes) -> None:
        outlet = self.put_out(port.process, stream, text)
        if outlet.waiting > FULL:
            port.listen(False)
            outlet.when_relieved(lambda: self._listen(port))

    def _listen(self, port: Port) -> None:
        if port.process in self._all:              # else its descriptors may be somebody else's by now
            port.listen(True)

    def put_out(self, process: int, stream: int, text: bytes) -> Outlet:
        """Write what it printed; where to."""
        outlet, one = self._outlets[stream], self._all.get(process)
        outlet.write(text)
        if one is not None:
            one.marks[stream] = outlet.queued
        return outlet

    def hear(self, process: int, frame: bytes) -> None:
        """A frame of a process: it is taken in, after those before, as soon as what was printed before is out."""
        one = self._all.get(process)
        if one is not None:
            one.backlog.append(frame)
            self._when_out(one, lambda: self._take_in(one))

    def _when_out(self, one: Process, callback: Callable[[], None]) -> None:
        """Call back once all is out that it has printed so far; the callbacks of one process come in their order."""
        out, err = one.marks[1], one.marks[2]
        self._outlets[1].when_out(out, lambda: self._outlets[2].when_out(err, callback))

    def _take_in(self, one: Process) -> None:
        if not one.backlog:                        # its host was lost meanwhile
            return
        frame = one.backlog.popleft()
        if one.expelled:
            return
        try:
            message = decode(frame, broker.SAID)
        except ProtocolError as error:
            one.expelled = True
            self._spoiled(one.machine, one.number, str(error))
        else:
            self._heard(broker.Heard(one.number, message))
