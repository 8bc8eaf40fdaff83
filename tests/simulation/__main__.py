"""python3 -m tests.simulation: see __init__.py."""
from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Tuple

from . import EVENTS, Failure, __doc__, growth, run, seeds_until_found
from .mutants import FAULTS, MUTANTS


def many(first: int, count: int, faults: Tuple[str, ...]) -> int:
    """Run many seeds; the exit status."""
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(first, first + count):
        try:
            run(seed, counts, faults)
        except Failure as failure:
            failed.append(seed)
            print(failure, end="\n\n")
    for event in sorted({*EVENTS, *counts}):
        print("%9d  %s" % (counts[event], event))
    print("%d of %d seeds failed%s" % (len(failed), count, "".join(" %d" % seed for seed in failed[:20])))
    return 1 if failed else 0


def one(seed: int, faults: Tuple[str, ...], tracing: bool) -> int:
    """Run one seed; the exit status."""
    counts: Counter[str] = Counter()
    try:
        run(seed, counts, faults, tracing=tracing)
    except Failure as failure:
        print(failure)
        return 1
    print("seed %d: %s" % (seed, ", ".join("%s %d" % pair for pair in sorted(counts.items()))))
    return 0


def mutate(limit: int) -> int:
    """Break one thing after the other; the exit status."""
    missed = 0
    cases = [("broker " + name, (), mutant) for name, mutant in MUTANTS.items()]
    for name, seeds in [(name, seeds_until_found(limit, faults, mutant)) for name, faults, mutant in cases] + [
            ("owner or worker " + fault, seeds_until_found(limit, (fault,))) for fault in FAULTS]:
        missed += seeds is None
        print("%-48s %s" % (name, "not found in %d seeds" % limit if seeds is None else "found after %d seeds" % seeds))
    return 1 if missed else 0


def grow() -> int:
    """Print what the broker costs."""
    print("%-24s %8s %9s %9s %14s %12s %11s" % (
        "tasks", "workers", "number", "messages", "messages/task", "us CPU/task", "us/message"))
    for kind in growth.KINDS:
        for workers in (100, 1_000, 10_000):
            cost = growth.measure(kind, workers)
            print("%-24s %8d %9d %9d %14.2f %12.1f %11.1f" % (
                kind, workers, cost.tasks, cost.messages, cost.messages / cost.tasks, cost.seconds / cost.tasks * 1e6,
                cost.seconds / cost.messages * 1e6), flush=True)
    return 0


def main() -> int:
    """Do what the arguments say; the exit status."""
    parser = argparse.ArgumentParser("python3 -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=500, help="so many runs")
    parser.add_argument("--first", type=int, default=0, help="the first of their seeds")
    parser.add_argument("--seed", type=int, help="just this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: print each message")
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="let owners and workers have it")
    parser.add_argument("--mutate", action="store_true", help="how many seeds it takes to find each defect")
    parser.add_argument("--grow", action="store_true", help="the broker's cost for each task, by workers")
    options = parser.parse_args()
    if options.mutate:
        return mutate(max(options.seeds, 2000))
    if options.grow:
        return grow()
    if options.seed is not None:
        return one(options.seed, tuple(options.fault), options.trace)
    return many(options.first, options.seeds, tuple(options.fault))


if __name__ == "__main__":
    sys.exit(main())
