"""Hosts of the simulation: channels that delay, agents that fork and tell, and what befalls them."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from microscoop.broker import ProcessDied, ProcessUp
from microscoop.protocol import ORIGIN, Block, Message, Piece, Unfit

from .owner import Origin, Owner
from .worker import Worker
from .world import World

SILENCE = 0.05             # seconds after which a host that is cut off is given up
HEAD = "head"


class Lane:
    """One direction of a channel: first in, first out; if it is not `strict`, pieces of streams let all else pass."""

    def __init__(self, world: World, host: Host, strict: bool) -> None:
        self._world, self._host, self._strict = world, host, strict
        self._slow = world.dice.choice((0.0, 0.02, 0.3))     # how often the other end is busy, or a packet is lost
        self._last = self._late = 0.0

    def send(self, piece: bool, deliver: Callable[..., None], *args: Any) -> None:
        """Deliver it after a while."""
        world = self._world
        pause = self._host.trip * (0.2 + 0.6 * world.dice.random())
        at = max(world.now + (pause * 20 if world.chance(self._slow) else pause), self._last)
        if piece and not self._strict:
            at = self._late = max(at + (pause * 20 if world.chance(0.1) else 0), self._late)
        else:
            self._last = at
        world.flying += 1
        world.at(at, self._arrive, deliver, args)

    def _arrive(self, deliver: Callable[..., None], args: Tuple[Any, ...]) -> None:
        if self._host.cut:
            self._host.stuck.append((self._arrive, (deliver, args)))
        else:
            self._world.flying -= 1
            deliver(*args)


class Host:
    """A machine, its agent and its processes, from HostUp until it is gone; then another may come by the same name."""

    def __init__(self, world: Any, name: str, trip: float, workers: int, minor: int) -> None:
        self.world, self.name, self.trip, self.workers, self.minor = world, name, trip, workers, minor
        self.alive = True
        self.cut = False
        self.given_up = False
        self.bad_starts = 0                        # so many workers more will die while they load the script
        self.unfit = False
        self.processes: Dict[int, Owner] = {}
        self.stuck: List[Tuple[Callable[..., None], Tuple[Any, ...]]] = []
        self._lanes: Dict[Tuple[int, bool], Lane] = {}

    def _lane(self, number: int, up: bool) -> Lane:
        """Each process of the head has a channel of its own; those of another host share the agent's."""
        key = (number if self.name == HEAD else 0, up)
        if key not in self._lanes:
            self._lanes[key] = Lane(self.world, self, up and self.name == HEAD)
        return self._lanes[key]

    # What the broker wants

    def start(self, number: int, kind: int) -> None:
        """Fork a process."""
        self._lane(number, False).send(False, self._fork, number, kind)

    def _fork(self, number: int, kind: int) -> None:
        if not self.alive:
            return
        process = (Origin if kind == ORIGIN else Worker)(self.world, self, number)
        self.processes[number] = process
        self._lane(number, True).send(False, self.world.tell, ProcessUp(number))
        if isinstance(process, Worker):
            self.world.after(0.001 + self.world.dice.random() * 0.01, self._loaded, process)

    def _loaded(self, worker: Worker) -> None:
        if not worker.alive:
            return
        if self.unfit:
            worker.say(Unfit(b"no module"))
        if self.unfit or self.bad_starts > 0:
            self.bad_starts -= 1
            self.kill(worker, "of a bad start")
        else:
            worker.serve()

    def deliver(self, number: int, message: Message) -> None:
        """Bring a message to a process."""
        self._lane(number, False).send(type(message) is Piece, self._hand_over, number, message)

    def _hand_over(self, number: int, message: Message) -> None:
        process = self.processes[number]
        if process.alive:
            self.world.trace("-> ", number, message)
            if self.world.peril(process, message):
                self.kill(process, "before it hears %s" % type(message).__name__)
            else:
                process.hear(message)

    # What its processes say

    def say(self, process: Owner, message: Message) -> None:
        """Bring a message to the broker."""
        if self.world.peril(process, message):
            self.kill(process, "before it says %s" % type(message).__name__)
            return
        self._lane(process.number, True).send(type(message) is Piece, self.world.hear, self, process.number, message)
        if self.world.peril(process, message):
            self.kill(process, "after it says %s" % type(message).__name__)

    # Mishaps

    def kill(self, process: Owner, why: str) -> None:
        """End one process; the agent tells.  `why` completes "died ..."."""
        if process.alive:
            self._end(process, why)
            self.world.saw("died " + why)
            begun = tuple((run.block.owner, run.block.call, run.item) for run in getattr(process, "runs", ())
                          if run.item is not None and not run.home)
            self._lane(process.number, True).send(
                False, self.world.tell, ProcessDied(process.number, self.name, begun))  # type: ignore[arg-type]

    def _end(self, process: Owner, why: str) -> None:
        self.world.trace("-- ", process.number, "died " + why)
        for moment in _moments(process):
            self.world.saw("died " + moment)
        process.alive = False

    def crash(self) -> None:
        """The agent ends, and everything of this host with it."""
        self.world.saw("agent died")
        self._end_all("with its agent")
        self.world.after(self.world.dice.random() * 3 * self.trip, self._give_up)

    def _end_all(self, why: str) -> None:
        self.alive = False
        for process in self.processes.values():
            if process.alive:
                self._end(process, why)

    def cut_off(self, seconds: float) -> None:
        """Nothing goes to or from here for a while, but nothing of it is lost."""
        self.cut = True
        self.world.trace("-- ", 0, "%s is cut off for %.3f s" % (self.name, seconds))
        self.world.after(seconds, self._heal)
        self.world.after(SILENCE, self._give_up_if_cut)

    def _give_up_if_cut(self) -> None:
        if self.cut:
            self._give_up()

    def _heal(self) -> None:
        self.cut = False
        self.world.trace("-- ", 0, "%s is healed" % self.name)
        self.world.saw("host healed too late" if self.given_up else "host healed in time")
        stuck, self.stuck = self.stuck, []
        for deliver, args in stuck:
            deliver(*args)
        if self.given_up:
            self._end_all("given up by its head")

    def _give_up(self) -> None:
        if not self.given_up:
            self.given_up = True
            self.world.lost(self)


def _moments(process: Owner) -> List[str]:
    """At which moments of its life a process is."""
    found = []
    if isinstance(process, Worker):
        if any(run.item is not None for run in process.runs):
            found.append("computing")
        if any(0 < run.sent < run.block.items for run in process.runs):
            found.append("during a result")
        if process.inbox:
            found.append("with blocks given ahead")
    if any(isinstance(flow.message, Block) for flow in process.streams.inward.values()):
        found.append("importing")
    halfway = [key for key, flow in process.streams.out.items()
               if any(0 < given < flow.pieces for given in flow.given.values())]
    if any(key[0] != process.number for key in halfway):
        found.append("exporting a result")
    if any(key[0] == process.number for key in halfway):
        found.append("exporting a block")
    if process.flying and process.window == 0:
        found.append("with nested children out")
    return found or ["idle"]
