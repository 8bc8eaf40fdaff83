"""The broker among simulated hosts, owners and workers, on a network that delays, in runs that seeds repeat.

    python3 -m tests.simulation --seeds 2000          many runs; prints how often each kind of event happened
    python3 -m tests.simulation --seed 17 --trace     one run, every message on a line
    python3 -m tests.simulation --mutate              breaks broker, owners, workers; how soon is each found?
    python3 -m tests.simulation --grow                messages and CPU time of the broker for each task, by workers

    world.py    network, clock and dice: one object, handed to whoever needs one of them
    hosts.py    channels, agents, deaths
    owner.py, worker.py, streams.py, tasks.py     those of microscoop, without threads and bytes
    scenes.py   draws what a run is about
    ledger.py   who must hold each item
    course.py   one run, and what is checked after each event
    mutants.py  what is broken on purpose

The broker is the real one; all else is a model, and speaks the real protocol.  Nothing reads a clock (but --grow, for
the CPU time), waits or forks.  Where owners and workers must do something particular lest a run hangs or loses an item,
`world.fault(name)` lets them do without, so that --mutate can show what would happen.
"""
from __future__ import annotations

from collections import Counter
from typing import Optional, Tuple, Type

from microscoop.broker import Broker

from .course import Simulation
from .scenes import Scene

_SAID = ("Back", "Block", "Idle", "Piece", "Pull", "Result", "Surplus", "Taken")
_HEARD = ("Block", "Credit", "Drop", "Lost", "Piece", "Pull", "Result", "Taken")
EVENTS = (                 # what must happen somewhere in many runs, or they show little
    *("died before it says " + name for name in _SAID), *("died after it says " + name for name in _SAID),
    *("died before it hears " + name for name in _HEARD),
    "died computing", "died importing", "died exporting a block", "died exporting a result", "died during a result",
    "died with nested children out", "died with blocks given ahead", "died idle", "died of its task",
    "died of a bad start", "agent died", "host healed in time", "host healed too late", "host lost and expected again",
    "host joined late", "host left out", "frame from a host that was given up", "late result or Back",
    "sender died after its stream was whole", "piece of a stream that nobody wants", "piece from a sender that is dead",
    "body in shared memory", "result in parts", "block given ahead", "child run inline", "item failed by name",
    "call dropped while items are out", "items at work dropped", "function that came apart",
    "block for one Python alone", "item failed for want of its Python",
    "run: done", "run: no worker is left", "run: the origin died")


class Failure(Exception):
    """What was violated, by which seed, and the state then."""


def run(seed: int, counts: Counter[str], faults: Tuple[str, ...] = (), broker: Type[Broker] = Broker,
        tracing: bool = False) -> None:
    """One run; adds to `counts` what happened in it.  Raises Failure."""
    simulation = Simulation(seed, counts, faults, broker, tracing)
    try:
        Scene(simulation).set_up()
        simulation.run()
    except Exception as error:                     # a KeyError of the broker's is a finding, too
        raise Failure("seed %d: %s: %s\n%s" % (seed, type(error).__name__, error, simulation.describe())) from error


def seeds_until_found(limit: int, faults: Tuple[str, ...] = (), broker: Type[Broker] = Broker) -> Optional[int]:
    """How many seeds it takes until something is found to be wrong; None if so many are not enough."""
    for seed in range(limit):
        try:
            run(seed, Counter(), faults, broker)
        except Failure:
            return seed + 1
    return None
