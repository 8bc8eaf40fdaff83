"""What benchmark.py measures: one scenario, called one way, as a program of its own (the user's and its workers).

    python benchmark_program.py SCENARIO WAY N SIZE PASS           prints its figures as one JSON line

WAY: microscoop, Pool or PPE (ProcessPoolExecutor), the last two with ":CHUNKSIZE" if one is given. PASS: "time", or
"share": the largest part of all tasks that one worker ran, found by tasks that return their process id.
"""
import os
import sys
import time
from functools import partial

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Way:
    """The three ways to call, behind one face: map, stream (results one by one), submit(...).result()."""

    def __init__(self, way, n):
        kind, _, chunk = way.partition(":")
        size = int(chunk) if chunk else None
        if kind == "microscoop":
            from microscoop import futures

            self.map = self.stream = futures.map
            self.submit, self.close = futures.submit, lambda: None
        elif kind == "Pool":
            import multiprocessing

            pool = multiprocessing.Pool(n)
            self.map = lambda func, *columns: (
                pool.map(func, *columns, size) if len(columns) == 1 else pool.starmap(func, zip(*columns), size)
            )
            self.stream = lambda func, items: pool.imap(func, items, size or 1)
            self.submit = lambda func, *args: Waiting(pool.apply_async(func, args))
            self.close = pool.terminate
        else:
            from concurrent.futures import ProcessPoolExecutor

            executor = ProcessPoolExecutor(n)
            self.map = self.stream = partial(executor.map, chunksize=size or 1)
            self.submit, self.close = executor.submit, executor.shutdown


class Waiting:
    def __init__(self, answer):
        self.result = answer.get


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


# Tasks


def same(value):
    return value


def add(one, other):
    return one + other


def pid(*_):
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def compute(seconds):
    """Use a core for that long, however many others want it."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid()


def sleeping_square(num):
    time.sleep(0.1)
    return num**2


def looping_square(num):
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    return num**2


def branch(depth, seconds):
    """A tree of tasks, each of which waits for its two children; the answer is who ran how many leaves."""
    from microscoop import futures

    if depth == 0:
        return {compute(seconds): 1}
    counts = {}
    for child in [futures.submit(branch, depth - 1, seconds) for _ in range(2)]:
        for worker, count in child.result().items():
            counts[worker] = counts.get(worker, 0) + count
    return counts


def calls(size, submit=None):
    """Seconds of each of `size` calls, one after the other; as a task, from inside it."""
    if submit is None:
        from microscoop.futures import submit
    taken = []
    for number in range(size):
        result, seconds = timed(lambda: submit(add, number, 1).result())  # noqa: B023
        assert result == number + 1
        taken.append(seconds)
    return sorted(taken)


# Scenarios: each takes (way, n, size, share) and returns its figures, or with `share` who ran each task


def mapping(func, columns, figure, check=None):
    """One map over columns(size)."""

    def scenario(way, n, size, share):
        data = columns(size)
        if share:
            return list(way.map(pid, *data))
        expected = list(map(check or func, *data))
        result, seconds = timed(lambda: list(way.map(func, *data)))
        assert result == expected
        return figure(size, seconds)

    return scenario


def numbers(size):
    return [list(range(size))]


def rate(size, seconds):
    return {"tasks/s": size / seconds}


def milliseconds(_, seconds):
    return {"ms": seconds * 1000}


def echo(mebibytes):
    def data(size):
        return [[bytes([number % 256]) * (mebibytes << 20) for number in range(size)]]

    return mapping(same, data, lambda size, seconds: {"MiB/s": size * mebibytes / seconds})


def computing(way, n, size, share):
    workers, seconds = timed(lambda: list(way.map(compute, [0.001] * size)))
    return workers if share else {"efficiency": size * 0.001 / min(n, CORES) / seconds}


def pareto(way, n, size, share):
    """Sleeps of very unequal length, the mean efficiency over three seeds; for 400 on 8 the plain order allows 0.89."""
    import random

    efficiencies, workers = [], []
    for dice in map(random.Random, range(3)):
        naps = [min(0.3, 0.002 * dice.paretovariate(1.1)) for _ in range(size)]
        ran, seconds = timed(lambda: list(way.map(nap, naps)))  # noqa: B023
        workers += ran
        efficiencies.append(sum(naps) / n / seconds)
    return workers if share else {"efficiency": sum(efficiencies) / 3}


def sequence(way, n, size, share):
    return quantiles(calls(size, way.submit))


def sequence_inside(way, n, size, share):
    return quantiles(way.submit(calls, size).result())


def quantiles(taken):
    return {"median us": taken[len(taken) // 2] * 1e6, "p99 us": taken[len(taken) * 99 // 100] * 1e6}


def tree(leaf):
    def scenario(way, n, size, share):
        counts, seconds = timed(way.submit(branch, size, leaf).result)
        assert sum(counts.values()) == 2**size
        if share:
            return [worker for worker, count in counts.items() for _ in range(count)]
        return {"efficiency": 2**size * leaf / min(n, CORES) / seconds} if leaf else rate(2 ** (size + 1) - 1, seconds)

    return scenario


def generator(way, n, size, share):
    if share:
        return list(way.stream(pid, iter(range(size))))
    watched = {os.getpid(), root()}  # root: microscoop's launcher
    for process in watched:
        with open(f"/proc/{process}/clear_refs", "w") as file:
            file.write("5")  # its peak is now what it has
    idle = sum(kibibytes(process, "status", "VmHWM:") for process in watched)
    start = time.perf_counter()
    results = iter(way.stream(same, (number for number in range(size))))
    total = next(results)
    first = time.perf_counter() - start
    for value in results:
        total += value
    figures = rate(size, time.perf_counter() - start)
    assert total == size * (size - 1) // 2
    peak = sum(kibibytes(process, "status", "VmHWM:") for process in watched)
    return {**figures, "first ms": first * 1000, "MiB above idle": (peak - idle) / 1024}


def every_worker(way, n, size, share):
    """Naps of 50 ms, twice as many as workers, until every worker has answered."""
    workers = set()
    while len(workers) < n:
        workers |= set(way.map(nap, [0.05] * (2 * n)))
    return {"s to all": time.monotonic() - float(os.environ["BENCHMARK_START"]), "MiB a worker": memory() / n}


def idle_forks(n):
    """The least that n workers can take."""
    stay, leave = os.pipe()
    for _ in range(n):
        if os.fork() == 0:
            os.close(leave)
            os.read(stay, 1)  # until the parent has ended
            os._exit(0)
    return {"MiB a worker": memory() / n}


# Memory, from /proc: Linux alone


def kibibytes(process, file, name):
    with open(f"/proc/{process}/{file}") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def parents():
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                found[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass  # it has just ended
    return found


def root():
    """The process that benchmark.py started: this one, or microscoop's launcher."""
    table, process = parents(), os.getpid()
    while table[process] != int(os.environ["BENCHMARK_PID"]):
        process = table[process]
    return process


def memory():
    """MiB of all processes of this program, where a page that k processes share counts as 1/k in each (PSS)."""
    table, ours = parents(), [root()]
    for process in ours:
        ours.extend(child for child, parent in table.items() if parent == process)
    return sum(kibibytes(process, "smaps_rollup", "Pss:") for process in ours) / 1024


SCENARIOS = {
    "ints": mapping(same, numbers, rate),
    "lists": mapping(same, lambda size: [[[i, i + 1, "text"] for i in range(size)]], rate),
    "dicts": mapping(same, lambda size: [[{"number": i, "name": "text"} for i in range(size)]], rate),
    "two": mapping(add, lambda size: numbers(size) * 2, rate),
    "partial": mapping(partial(add, 1), numbers, rate),
    "compute": computing,
    "echo1": echo(1),
    "echo32": echo(32),
    "sequence": sequence,
    "inside": sequence_inside,
    "tree": tree(0),
    "leaves": tree(0.002),
    "pareto": pareto,
    "workers": every_worker,
    "generator": generator,
    "squares": mapping(sleeping_square, numbers, milliseconds, lambda num: num**2),
    "loops": mapping(looping_square, numbers, milliseconds, lambda num: num**2),
}


def main(scenario, name, n, size, which):
    n, size = int(n), int(size)
    if name == "forks":
        figures = idle_forks(n)
    else:
        way = Way(name, n)
        if scenario != "workers":
            list(way.map(nap, [0.02] * (2 * n)))  # until the workers are there; not the tasks that are measured
        figures = SCENARIOS[scenario](way, n, size, which == "share")
        way.close()
    if which == "share":
        figures = {"share": max(map(figures.count, set(figures))) / len(figures)}
    import json  # here, lest each worker of microscoop imports what only this line needs

    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
