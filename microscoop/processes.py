"""The processes of a run: what they print goes out, what they say goes on, what they are told goes to them.  Runs in
the launcher.

On this machine each has a Port; elsewhere its agent relays.  What a process says is heard once all that it printed
before is out, however slow the reader: output comes out before results do.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, Dict, Optional, Sequence, Tuple, Union

from . import broker
from .loop import Loop
from .ports import Port
from .protocol import LATER, Message, ProtocolError, Relay, decode, encode
from .report import FULL, Outlet

if TYPE_CHECKING:
    from .machines import Machine

Mark = Tuple[Outlet, int]  # up to where what a process printed is queued there


class Process:
    """One process, from its start until it is buried."""
    __slots__ = ("number", "machine", "port", "expelled", "backlog")

    def __init__(self, number: int, machine: Machine, port: Optional[Port]) -> None:
        self.number, self.machine, self.port = number, machine, port       # a port on this machine only
        self.expelled = False                      # what it said was not our protocol: it is heard no more
        self.backlog: Deque[Union[Mark, bytes]] = deque()      # what it said, behind what must be out before


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

    def bury(self, process: int) -> bool:
        """It has ended: take in what it still had to print and to say.  Whether it was expelled."""
        one = self._all.get(process)
        if one is None:
            return False
        if one.port is not None:
            for frame in one.port.last():
                self.hear(process, frame)
            one.port.close()
        self._hear_out(one)
        del self._all[process]
        return one.expelled

    def bury_all(self, machine: Machine) -> None:
        """Its host is lost."""
        for process in [process for process, one in self._all.items() if one.machine is machine]:
            self.bury(process)

    def _printed(self, port: Port, stream: int, text: bytes) -> None:
        outlet = self.put_out(port.process, stream, text)
        if outlet.waiting > FULL:
            port.listen(False)
            outlet.when_relieved(lambda: port.listen(True))

    def put_out(self, process: int, stream: int, text: bytes) -> Outlet:
        """Write what it printed; where to."""
        outlet, one = self._outlets[stream], self._all.get(process)
        outlet.write(text)
        if outlet.waiting and one is not None:
            one.backlog.append((outlet, outlet.queued))
            if len(one.backlog) == 1:
                self._catch_up(one)
        return outlet

    def hear(self, process: int, frame: bytes) -> None:
        """A frame of a process; if what it printed before is not out yet, it waits for that."""
        one = self._all.get(process)
        if one is None:
            return
        if one.backlog:
            one.backlog.append(frame)
        else:
            self._decode(one, frame)

    def _catch_up(self, one: Process) -> None:
        """Hear what needs to wait no more, and then what it says from now on."""
        while one.backlog:
            first = one.backlog[0]
            if isinstance(first, bytes):
                one.backlog.popleft()
                self._decode(one, first)
            elif first[0].is_out(first[1]):
                one.backlog.popleft()
            else:
                first[0].when_out(first[1], lambda: self._catch_up(one))
                return

    def _hear_out(self, one: Process) -> None:
        """It is gone: hear what it said, whether its output is out or not."""
        backlog, one.backlog = one.backlog, deque()
        for frame in backlog:
            if isinstance(frame, bytes):
                self._decode(one, frame)

    def _decode(self, one: Process, frame: bytes) -> None:
        if one.expelled:
            return
        try:
            message = decode(frame, broker.SAID)
        except ProtocolError as error:
            one.expelled = True
            self._spoiled(one.machine, one.number, str(error))
        else:
            self._heard(broker.Heard(one.number, message))
