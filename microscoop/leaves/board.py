"""Which names have a value, and who has it: the other end of constants.py.  Runs in the launcher; no I/O."""
from __future__ import annotations

from typing import Dict, List, Tuple

from ..broker import Action, Event, Heard, Process, ProcessUp, Send
from ..hooks import Watcher
from ..protocol import ORIGIN, Remark
from .constants import Const, Named, decode, encode


class Board(Watcher):
    """Who has the value of which name."""

    def __init__(self, processes: Dict[int, Process]) -> None:
        self._processes = processes                # that are up
        self._constants: Dict[bytes, Tuple[Const, int]] = {}   # by name; with who has set it

    def see(self, event: Event, actions: List[Action]) -> None:
        """Adds what is to be sent."""
        if isinstance(event, Heard):
            said = decode(event.message.body) if isinstance(event.message, Remark) else None
            process = self._processes.get(event.process)
            if isinstance(said, Const) and process is not None:
                react = self._copied if said.copy else self._set
                react(process, said._replace(owner=event.process), actions)
        elif isinstance(event, ProcessUp):
            for const, _ in self._constants.values() if event.process in self._processes else ():
                self._tell(event.process, const, actions)
        else:
            self._forget_the_dead(actions)

    def _forget_the_dead(self, actions: List[Action]) -> None:
        for const in [const for const, _ in self._constants.values() if const.owner not in self._processes]:
            del self._constants[const.name]
            self._tell_all(const._replace(size=0), actions)

    def _set(self, process: Process, const: Const, actions: List[Action]) -> None:
        """A name is given once; whoever comes second is told of the first.  But a task whose worker died after it had
        set the name sets it again."""
        if const.name not in self._constants:
            self._constants[const.name] = const, process.number
            self._tell_all(const, actions)
            if process.kind != ORIGIN:
                return             # it gets its answer when the origin has a copy: its own may not live long
            ours = True
        else:
            known, setter = self._constants[const.name]
            ours = _same(known, const) and setter not in self._processes
            if ours:
                self._constants[const.name] = known, process.number
        actions.append(Send(process.number, encode(Named(const.call, int(ours)))))

    def _copied(self, process: Process, const: Const, actions: List[Action]) -> None:
        """The origin has what a worker has set, who may know that now."""
        known, setter = self._constants.get(const.name, (const, 0))     # 0: the worker has died meanwhile
        if known is const or process.kind == ORIGIN and _same(known, const):
            self._constants[const.name] = const, setter
            self._tell_all(const, actions)
            if known.owner == setter:
                actions.append(Send(setter, encode(Named(known.call, 1))))

    def _tell_all(self, const: Const, actions: List[Action]) -> None:
        for process in self._processes:
            self._tell(process, const, actions)

    def _tell(self, process: int, const: Const, actions: List[Action]) -> None:
        """The place of a body is known only on the host where it lies."""
        owner = self._processes.get(const.owner)
        if owner is not None and owner.host is not self._processes[process].host:
            const = const._replace(place=bytes(16))
        actions.append(Send(process, encode(const)))


def _same(one: Const, other: Const) -> bool:
    return (one.size, one.digest) == (other.size, other.digest)
