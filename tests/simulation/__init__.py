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
