"""Many tasks while workers are killed at random: python3 -m tests.soak [--minutes M] [--workers 8] [--kills 10]

A script runs rounds of maps and of tasks that submit tasks, up to a million in all, and compares their results with
those that it computes itself. Meanwhile its workers are killed with SIGKILL, some ten times a second. Afterwards
nothing may run on, and the memory of launcher and origin must not have grown. One line tells how it went; the exit
status is 1 if anything went wrong, a hang included (then the stacks of all processes are shown). Needs /proc.
"""
from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
from typing import List, NamedTuple, Optional, Sequence, Tuple

from tests import harness

TASKS = 1_000_000
PATIENCE = 30.0  # seconds for two rounds that nobody disturbs; beyond that a run is taken for hanging
BURST = 30  # kills until it is left alone for so long: a kill may well free what got stuck
GROWTH = 1.10, 4.0  # what the memory may be multiplied with, and MB that it may grow by beyond that
PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6

SCRIPT = """
import os, random, sys, time
from microscoop import futures

def work(k):
    "A few microseconds, now and then some milliseconds."
    number = k % 1000003
    if number % 701 == 0:
        time.sleep(number % 7 / 1000)
    for _ in range(number % 397):
        number = (number * 31 + k) % 1000003
    return number

def pair(k, text):
    return work(k), text.upper()

def large(k):
    return bytes([k % 256]) * (300000 + k % 1000)

def tree(k, width, depth):
    "The sum over the tasks beneath, and of work; some wait in order, some as they come."
    if not depth:
        return work(k)
    children = [futures.submit(tree, k * width + i, width, depth - 1) for i in range(width)]
    if k % 3:
        return work(k) + sum(child.result() for child in children)
    return work(k) + sum(child.result() for child in futures.as_completed(children))

def row(k, width):
    return sum(futures.map(work, range(k, k + width)))

def serial_tree(k, width, depth):
    return work(k) + sum(serial_tree(k * width + i, width, depth - 1) for i in range(width if depth else 0))

def maps(start):
    found = list(futures.map(work, range(start, start + 5000)))
    return 5000, found == [work(k) for k in range(start, start + 5000)]

def unordered(start):
    found = set(futures.map_as_completed(pair, range(start, start + 2000), map(str, range(2000)), buffersize=300))
    return 2000, found == {(work(k), str(k - start)) for k in range(start, start + 2000)}

def trees(start):
    found = list(futures.map(tree, range(start, start + 30), [4] * 30, [2] * 30))
    return 30 * 21, found == [serial_tree(k, 4, 2) for k in range(start, start + 30)]

def rows(start):
    waiting = [futures.submit(row, k, 50) for k in range(start, start + 40)]
    return 40 * 51, all(f.result() == sum(map(work, range(k, k + 50))) for k, f in enumerate(waiting, start))

def larges(start):
    found = futures.map(large, range(start, start + 10))
    return 10, all(data == large(k) for k, data in enumerate(found, start))

def dropped(start):
    results = futures.map(work, range(start, start + 3000))
    return 1, next(results) == work(start)

if __name__ == "__main__":
    seed, seconds, most = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    chance, limit, tasks = random.Random(seed), time.monotonic() + seconds, 0
    kinds = (maps, maps, unordered, trees, rows, larges, dropped)
    print("origin", os.getpid(), flush=True)
    while tasks < most and time.monotonic() < limit:
        kind, start = chance.choice(kinds), chance.randrange(1000000)
        count, good = kind(start)
        tasks += count
        if not good:
            sys.exit("the results of %s(%d) are wrong" % (kind.__name__, start))
        print(end=".", flush=True)
    print("..\\ntasks", tasks, flush=True)
"""


class Sample(NamedTuple):
    """MB of resident memory."""
    launcher: float
    origin: float


class Outcome(NamedTuple):
    tasks: int
    kills: int
    seconds: float
    warm: Sample
    end: Sample
    faults: List[str]

    def __str__(self) -> str:
        memory = ", ".join(f"{name} {getattr(self.warm, name):.1f} -> {getattr(self.end, name):.1f} MB"
                           for name in Sample._fields)
        return (f"{self.tasks} tasks, {self.kills} kills, {self.seconds:.1f} s, "
                f"{self.tasks / self.seconds:.0f} tasks/s, memory of {memory}")


class Killer:
    """Ends workers of a run at random times, and samples the memory of those who must not grow."""

    def __init__(self, run: harness.Run, origin: int, kills: float, seed: int) -> None:
        self._run, self._origin, self._rate, self._chance = run, origin, kills, random.Random(seed)
        self._agent = _parent(origin)
        self.kills = 0
        self.samples: List[Sample] = []

    def go_on(self, limit: float) -> None:
        """Until time.monotonic() is at the limit, or the run has ended."""
        due = began = time.monotonic()
        while due < limit:
            behind = self.kills < (due - began) * self._rate
            due += self._chance.expovariate(self._rate * (1.5 if behind else 1.0))
            if harness.until(self._ended, due - time.monotonic()):
                return
            self._kill()
            self._look()
            if self.kills % BURST == 0:
                self._leave_alone()
            due = max(due, time.monotonic())  # those that it missed are not made up for all at once

    def _ended(self) -> bool:
        return self._run.process.poll() is not None

    def _leave_alone(self) -> None:
        """For a whole round."""
        rounds = self._run.out.text().count(".")
        self._run.await_out("." * (rounds + 2), PATIENCE)

    def _kill(self) -> None:
        workers = [pid for pid in _children(self._agent) if pid != self._origin]
        if workers:
            victim = self._chance.choice(sorted(workers))
            if _parent(victim) == self._agent and _has_begun(victim):  # still that process
                os.kill(victim, signal.SIGKILL)
                self.kills += 1

    def _look(self) -> None:
        launcher, origin = _resident(self._run.process.pid), _resident(self._origin)
        if launcher and origin:
            self.samples.append(Sample(launcher, origin))

    def memory(self) -> Tuple[Sample, Sample]:
        """After the warm-up, and at the end: medians over a part of the run."""
        count = len(self.samples)
        if not count:
            return Sample(0, 0), Sample(0, 0)
        parts = self.samples[count // 4:count // 4 + count // 8 + 1], self.samples[-(count // 8) - 1:]
        warm, end = (Sample(*map(statistics.median, zip(*part))) for part in parts)
        return warm, end


def _children(pid: int) -> List[int]:
    return [process.pid for process in harness.processes() if process.parent == pid]


def _parent(pid: int) -> int:
    try:
        return int((harness.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _has_begun(pid: int) -> bool:
    """Whether a worker has got so far as to have two threads: where too many die before that no task is ever done."""
    try:
        return len(list((harness.PROC / str(pid) / "task").iterdir())) > 1
    except OSError:
        return False


def _resident(pid: int) -> float:
    """MB; 0 if it has ended."""
    try:
        return int((harness.PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0.0


def soak(seconds: float, workers: int = 8, kills: float = 10, seed: Optional[int] = None) -> Outcome:
    """Run it. Raises harness.TooSlow, with the stacks, if it hangs."""
    seed = random.randrange(1 << 32) if seed is None else seed
    with harness.script(SCRIPT) as path:
        began = time.monotonic()
        run = harness.start("-q", "-n", str(workers), "--retries", "50", path, str(seed), str(seconds), str(TASKS))
        run.await_out("\n")
        killer = Killer(run, int(run.out.text().split()[1]), kills, seed)
        killer.go_on(began + seconds)
        result = run.finish(PATIENCE)
        spent = time.monotonic() - began
    words = result.out.split()
    count = int(words[-1]) if words[-2:-1] == ["tasks"] else 0
    warm, end = killer.memory()
    faults = [f"seed {seed}: {fault}" for fault in _faults(result, warm, end)]
    return Outcome(count, killer.kills, spent, warm, end, faults)


def _faults(result: harness.Result, warm: Sample, end: Sample) -> List[str]:
    faults = []
    if result.status or result.err or not result.out.endswith("\n"):
        faults.append(f"status {result.status}, stderr: {result.err[-2000:]}")
    if not harness.until(lambda: not harness.processes(), harness.GRACE):
        faults += [f"left behind: {process}" for process in harness.end_all()]
    faults += [f"left behind: {path}" for path in harness.left_files()]
    factor, more = GROWTH
    for name, before, after in zip(Sample._fields, warm, end):
        if after > before * factor + more:
            faults.append(f"the memory of the {name} has grown from {before:.1f} to {after:.1f} MB")
    return faults


def main(words: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kills", type=float, default=10.0, help="a second")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args(words)
    try:
        outcome = soak(arguments.minutes * 60, arguments.workers, arguments.kills, arguments.seed)
    except harness.TooSlow as error:
        print(error)
        return 1
    print("soak:", outcome, *outcome.faults, sep="\n" if outcome.faults else " ")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
