"""What the runs of the simulation are about: hosts, tasks and mishaps, drawn by the run's own dice."""
from __future__ import annotations

from random import Random
from typing import List, Optional

from microscoop.broker import Open

from .course import Simulation
from .hosts import HEAD, SILENCE, Host
from .owner import Origin
from .tasks import Plan, Step


class Scene:
    """Draws what a run is about: hosts, tasks, mishaps."""

    def __init__(self, world: Simulation) -> None:
        self._world, self._dice = world, world.dice
        self._other = Random(world.seed)                                   # came later: old seeds keep their runs
        self._minors = Random("minors %d" % world.seed)
        self._by_value = self._minors.choice((0, 0, 0.1, 1))               # how often functions travel by value
        self._mixed = self._by_value and self._minors.random() < 0.7       # whether hosts have several Pythons
        self._large = self._other.choice((0, 0, 0.3, 1))                   # how often functions travel apart
        self._scale = self._dice.choice((0.00002, 0.0005, 0.003, 0.02))    # seconds that a task computes
        self._weights = self._dice.choice((                                # how often bodies are streams, in and out
            (0, 0), (0, 0), (0, 0), (0.1, 0.1), (0.5, 0.5), (1, 1), (0, 1), (0, 1)))
        self._rare = self._dice.choice((0.01, 0.2))                        # how often tasks last much longer
        self._haste = self._dice.choice((1, 1, 50))                        # how often maps are closed early
        self._malice = self._dice.choice((0, 0, 0.02, 0.1))                # how often tasks kill
        self._left = self._dice.choice((12, 40, 120))                      # tasks in all

    def set_up(self) -> None:
        """Fill in the world."""
        world, dice = self._world, self._dice
        world.retries = dice.choice((0, 1, 2, 3, 12))
        world.pulls = dice.choice((1, 2))
        world.perils = dice.choice((0, 0, 1, 3, 8))
        world.risk = dice.choice((0.002, 0.02, 0.1))
        steps = [step for _ in range(dice.choice((1, 2, 3, 4, 15))) for step in self._steps(dice.randrange(4))]
        world.script = Plan("script", tuple(steps))
        self._hosts()
        for _ in range(dice.choice((0, 0, 1, 3))):
            world.after(dice.expovariate(20), self._mishap)
        world.after(dice.random() * 0.02, world.tell, Open(HEAD))

    def _hosts(self) -> None:
        world, dice = self._world, self._dice
        head = Host(world, HEAD, 0.0001, dice.randrange(4), self._minor())
        count = dice.randrange(3) if head.workers else dice.randint(1, 3)
        others = [Host(world, "h%d" % number, dice.choice((0.0005, 0.005, 0.03)), dice.randint(1, 3), self._minor())
                  for number in range(1, count + 1)]
        world.known_workers = head.workers + sum(host.workers for host in others)
        for host in others:
            host.bad_starts = dice.choice((0, 0, 0, 0, 3, 12))
            host.unfit = len(others) > 1 and world.chance(0.04)
            world.expect(dice.choice((0, 0, 0.001, 0.05)), host)
        world.expect(-1.0, head)
        while not world.hosts:
            world.turn()
        world.now = 0.0

    def _minor(self) -> int:
        return self._minors.choice((8, 11, 13)) if self._mixed else 11

    # Tasks

    def _steps(self, depth: int) -> List[Step]:
        dice = self._dice
        plans = tuple(self._plan(depth) for _ in range(min(dice.choice((1, 1, 2, 5, 20, 60)), self._left)))
        how = dice.choices(("wait", "poll", "close", "drop", "leave"), (8, 2, self._haste, self._haste, 1))[0]
        found = [Step(self._span())] if dice.random() < 0.3 else []
        for plan in plans if self._minors.random() < self._by_value else ():
            plan.by_value = True
        function = self._other.randint(1, 9) if self._other.random() < self._large else 0
        return [*found, Step(plans=plans, how=how, calls=dice.random() < 0.6, function=function)] if plans else found

    def _span(self) -> float:
        return self._dice.expovariate(1 / self._scale) * (50 if self._dice.random() < self._rare else 1)

    def _plan(self, depth: int) -> Plan:
        dice = self._dice
        self._left -= 1
        name = "t%d" % self._left
        steps = [Step(self._span())]
        if depth and dice.random() < 0.4:
            steps += self._steps(depth - 1)
        deadly = dice.choice((1, 2, 99)) if dice.random() < self._malice else 0
        heavy = [dice.randint(1, 9) if dice.random() < weight else 0 for weight in self._weights]
        return Plan(name, tuple(steps), deadly, *heavy)

    # Mishaps

    def _mishap(self) -> None:
        dice = self._dice
        kind = dice.choices((self._kill, self._crash, self._cut, self._newcomer, self._end), (8, 2, 3, 2, 0.3))[0]
        kind()

    def _kill(self) -> None:
        alive = [p for host in self._world.hosts.values() for p in host.processes.values() if p.alive and p.window == 0]
        if alive:
            victim = self._dice.choice(alive)
            victim.host.kill(victim, "of a mishap")

    def _remote(self) -> Optional[Host]:
        remote = [host for host in self._world.hosts.values() if host.name != HEAD and host.alive and not host.cut]
        return self._dice.choice(remote) if remote else None

    def _crash(self) -> None:
        host = self._remote()
        if host is not None:
            host.crash()

    def _cut(self) -> None:
        host = self._remote()
        if host is not None:
            host.cut_off(self._dice.random() * 3 * SILENCE)

    def _newcomer(self) -> None:
        self._world.saw("host joined late")
        world = self._world
        world.expect(0.0, Host(world, "n%d" % world.steps, 0.001, self._dice.randint(1, 3), self._minor()))

    def _end(self) -> None:
        for process in self._world.hosts[HEAD].processes.values():
            if isinstance(process, Origin):
                self._world.hosts[HEAD].kill(process, "of a mishap")
