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
    __slots__ = ("machine", "port", "expelled", "backlog")

    def __init__(self, machine: Machine, port: Optional[Port]) -> None:
        self.machine, self.port = machine, port    # a port on this machine only
        self.expelled = False
        self.backlog: Deque[Union[Mark, bytes]] = deque()      # what it said, behind what must be out before


class Processes:
    """All of them, by their numbers."""

    def __init__(self, loop: Loop, outlets: Dict[int, Outlet], heard: Callable[[int, Message], None],
                 silent: Callable[[Machine, int, str], None]) -> None:
        self._loop, self._outlets = loop, outlets
        self._heard = heard                        # (process, message)
        self._silent = silent                      # (its machine, process, why): as of a Port
        self._all: Dict[int, Process] = {}

    def enter(self, machine: Machine, process: int, ends: Sequence[int] = ()) -> None:
        """It runs there; ends: its near ends, if that is this machine."""
        port = Port(self._loop, process, ends, self._said, self._printed, self._fell_silent) if ends else None
        self._all[process] = Process(machine, port)

    def send(self, process: int, message: Message) -> None:
        """Tell a process something, unless it is gone."""
        one, frame = self._all.get(process), encode(message)
        if one is None or one.expelled:
            return
        if one.port is not None:
            one.port.send(frame)
        elif one.machine.channel is not None:
            self._loop.send(one.machine.channel, encode(Relay(process, frame)), frame[0] == LATER)

    def expel(self, machine: Machine, process: int) -> bool:
        """Hear it no more; False if it is gone already."""
        one = self._all.get(process)
        if one is None or one.machine is not machine or one.expelled:
            return False
        one.expelled = True
        if one.port is not None:
            one.port.hear(False)
        return True

    def bury(self, machine: Machine, process: int) -> bool:
        """It has ended: take in what it still had to print and to say.  Whether it was expelled."""
        one = self._all.get(process)
        if one is None:
            return False
        if one.port is not None:
            for frame in one.port.last():
                self.hear(machine, process, frame)
            one.port.close()
        self._hear_out(process, one)
        del self._all[process]
        return one.expelled

    def bury_all(self, machine: Machine) -> None:
        """Its host is lost."""
        for process in [process for process, one in self._all.items() if one.machine is machine]:
            self.bury(machine, process)

    # On this machine

    def _said(self, port: Port, frame: bytes) -> None:
        one = self._all[port.process]
        self.hear(one.machine, port.process, frame)

    def _printed(self, port: Port, stream: int, text: bytes) -> None:
        outlet = self.put_out(port.process, stream, text)
        if outlet.waiting > FULL:
            port.watch(False)
            outlet.when_relieved(lambda: port.watch(True))

    def _fell_silent(self, port: Port, why: str) -> None:
        self._silent(self._all[port.process].machine, port.process, why)

    # On any

    def put_out(self, process: int, stream: int, text: bytes) -> Outlet:
        """Write what it printed; where to."""
        outlet, one = self._outlets[stream], self._all.get(process)
        outlet.write(text)
        if outlet.waiting and one is not None:
            one.backlog.append((outlet, outlet.queued))
            if len(one.backlog) == 1:
                self._catch_up(process, one)
        return outlet

    def hear(self, machine: Machine, process: int, frame: bytes) -> None:
        """A frame of a process of that machine; if what it printed before is not out yet, it waits for that."""
        one = self._all.get(process)
        if one is None or one.machine is not machine:
            return
        if not one.backlog:
            self._decode(process, one, frame)
            return
        one.backlog.append(frame)
        if one.port is not None:
            one.port.hear(False)

    def _catch_up(self, process: int, one: Process) -> None:
        """Hear what needs to wait no more, and then what it says from now on."""
        while one.backlog:
            first = one.backlog[0]
            if isinstance(first, bytes):
                one.backlog.popleft()
                self._decode(process, one, first)
            elif first[0].is_out(first[1]):
                one.backlog.popleft()
            else:
                first[0].when_out(first[1], lambda: self._catch_up(process, one))
                return
        if one.port is not None and not one.expelled and self._all.get(process) is one:
            one.port.hear(True)

    def _hear_out(self, process: int, one: Process) -> None:
        """It is gone: hear what it said, whether its output is out or not."""
        backlog, one.backlog = one.backlog, deque()
        for frame in backlog:
            if isinstance(frame, bytes):
                self._decode(process, one, frame)

    def _decode(self, process: int, one: Process, frame: bytes) -> None:
        if one.expelled:
            return
        try:
            message = decode(frame, broker.SAID)
        except ProtocolError as error:
            self._silent(one.machine, process, str(error))
        else:
            self._heard(process, message)
