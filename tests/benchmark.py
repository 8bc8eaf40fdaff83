"""microscoop beside multiprocessing.Pool and concurrent.futures.ProcessPoolExecutor: `python3 -m tests.benchmark`.

Each measurement is a program of its own (benchmark_program.py); the ways to call take turns, so that whatever else the
machine does hits them alike. Of five repeats it prints the median, the lowest and the highest, and how microscoop's
median stands to each of the others. A row counts if, in a second pass whose tasks return their process ids, no worker
ran more than 2/n of all. No figure is asserted anywhere.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterator, List, NamedTuple, Tuple

from tests.benchmark_program import CORES

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "tests", "benchmark_program.py")
MORE_IS_BETTER = ("tasks/s", "efficiency", "MiB/s")
NAMES = {"PPE": "ProcessPoolExecutor", "forks": "idle forks", "empty": "an empty script"}
LIMIT = 300  # seconds for one program
FAILURES = (RuntimeError, ValueError, LookupError, subprocess.TimeoutExpired)

INC = "\ndef inc(number):\n    return number + 1\n\nif __name__ == '__main__':\n"
WHOLE = {  # as a user writes them; measured from start to end
    "microscoop": "from microscoop import futures" + INC + "    print(list(futures.map(inc, range(4))))\n",
    "Pool": "from multiprocessing import Pool" + INC + "    with Pool(4) as p: print(list(p.map(inc, range(4))))\n",
    "PPE": "from concurrent.futures import ProcessPoolExecutor as PPE" + INC
    + "    with PPE(4) as p: print(list(p.map(inc, range(4))))\n",
    "empty": "",
}


class Row(NamedTuple):
    name: str
    title: str
    n: int
    size: int
    quick: int  # the size with --quick; 0: not then
    ways: Tuple[str, ...] = ("microscoop", "Pool", "PPE")
    share: bool = True  # whether the second pass makes sense
    scenario: str = ""  # where it is not the name


US, TUNED, SINGLY = ("microscoop",), ("microscoop", "Pool", "PPE:1000"), ("microscoop", "Pool:1", "PPE")
ALL = "every worker has answered, seconds from the start of the program"
ROWS = [
    Row("ints", "no-op map of {} ints", 4, 100_000, 100_000, TUNED),
    Row("lists", "no-op map of {} lists", 4, 100_000, 50_000, TUNED),
    Row("dicts", "no-op map of {} dicts", 4, 100_000, 0, TUNED),
    Row("two", "map of a function of two arguments over {} pairs", 4, 100_000, 0, TUNED),
    Row("partial", "map of a partial over {} ints", 4, 100_000, 0, TUNED),
    Row("compute", "{} tasks that compute for 1 ms", 4, 10_000, 1_000, ("microscoop", "Pool", "Pool:10")),
    Row("sequence", "submit(...).result() from the script, {} times in sequence", 2, 5_000, 1_000, share=False),
    Row("inside", "the same inside a task (the standard library's pools hang)", 2, 5_000, 1_000, US, share=False),
    Row("whole", "whole process, print(list(map(inc, range({}))))", 4, 4, 4, tuple(WHOLE), share=False),
    Row("echo1", "echo of {} x 1 MiB", 4, 64, 64, SINGLY),
    Row("echo32", "echo of {} x 32 MiB", 4, 8, 0, SINGLY),
    Row("tree", "fork-join tree of submits, depth {} (the standard library's pools hang)", 4, 10, 10, US),
    Row("leaves", "the same with leaves that compute for 2 ms", 4, 10, 8, US),
    Row("pareto", "{} Pareto sleeps, mean 10 ms, cap 300 ms, three seeds", 8, 400, 100, SINGLY),
    Row("64", ALL, 64, 0, 0, (*SINGLY, "forks"), False, "workers"),
    Row("128", ALL, 128, 0, 0, (*SINGLY, "forks"), False, "workers"),
    Row("generator", "map over a generator of {} ints, consumed one by one", 4, 1_000_000, 200_000,
        ("microscoop", "Pool:1000", "PPE:1000")),
]
ROWS += [Row(f"squares{n}", "{} timed squares, sleeping", n, 12, 12, ("microscoop", "Pool"), False, "squares")
         for n in (1, 3, 6)]
ROWS += [Row(f"loops{n}", "{} timed squares, looping", n, 12, 0, ("microscoop", "Pool"), False, "loops")
         for n in (1, 3, 6) if n <= CORES]


def run(way: str, n: int, words: List[str]) -> Tuple[str, float]:
    """The output of a program and its seconds from start to end."""
    launcher = ["-m", "microscoop", "-q", "-n", str(n)] if way == "microscoop" else []
    start = time.monotonic()
    environment = dict(os.environ, BENCHMARK_PID=str(os.getpid()), BENCHMARK_START=repr(start))
    done = subprocess.run([sys.executable, *launcher, *words], cwd=ROOT, env=environment, timeout=LIMIT,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return done.stdout, seconds


def measure(row: Row, way: str, size: int, which: str) -> Dict[str, float]:
    """The figures of one program."""
    if row.name != "whole":
        out, _ = run(way, row.n, [PROGRAM, row.scenario or row.name, way, str(row.n), str(size), which])
        figures: Dict[str, float] = json.loads(out.splitlines()[-1])
        return figures
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script.py")
        with open(script, "w") as file:
            file.write(WHOLE[way])
        out, seconds = run(way, row.n, [script])
    if out != ("[1, 2, 3, 4]\n" if WHOLE[way] else ""):
        raise RuntimeError(f"wrong answer: {out!r}")
    return {"ms": seconds * 1000}


def row_lines(row: Row, size: int, repeats: int, second_pass: bool) -> Iterator[str]:
    """Measure a row; the lines to print below its heading."""
    measured: Dict[str, Dict[str, List[float]]] = {}  # figure -> way -> values
    failed: Dict[str, str] = {}
    for _ in range(repeats):
        for way in row.ways:
            try:
                for name, value in (measure(row, way, size, "time") if way not in failed else {}).items():
                    measured.setdefault(name, {}).setdefault(way, []).append(value)
            except FAILURES as error:
                failed[way] = str(error)
    for name, values in measured.items():
        yield f"    {name}, {'more' if name in MORE_IS_BETTER else 'less'} is better"
        yield from figure_lines(values)
    for way, words in failed.items():
        yield f"        {full_name(way):36} failed: {words}"
    if second_pass and "microscoop" not in failed:
        yield share_line(row, size)


def figure_lines(values: Dict[str, List[float]]) -> Iterator[str]:
    median = {way: statistics.median(found) for way, found in values.items()}
    for way, found in values.items():
        line = f"        {full_name(way):36} {show(median[way]):>10}"
        if len(found) > 1:
            line += f"  ({show(min(found))} to {show(max(found))})"
        if "forks" in median:
            line += f"; above an idle fork {show(median[way] - median['forks'])}"
        elif way != "microscoop" and "microscoop" in median:
            line += f"; microscoop's is {median['microscoop'] / median[way]:.2f} of it"
        yield line


def share_line(row: Row, size: int) -> str:
    try:
        share = measure(row, "microscoop", size, "share")["share"]
    except FAILURES as error:
        return f"    the second pass failed: {error}"
    verdict = "it counts" if share <= 2 / row.n else "IT DOES NOT COUNT"
    return f"    at most {share:.0%} of the tasks ran on one worker (limit {2 / row.n:.0%}): {verdict}"


def show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def full_name(way: str) -> str:
    kind, _, chunk = way.partition(":")
    return NAMES.get(kind, kind) + (f", chunksize={chunk}" if chunk else "")


def load() -> str:
    return "load " + " ".join(f"{value:.2f}" for value in os.getloadavg())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute: small sizes, one repeat, no second pass")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], help="this row; may be repeated")
    parser.add_argument("--repeats", type=int, help="instead of 5 (or 1)")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 5)
    print(f"Python {sys.version.split()[0]}, {CORES} cores, {load()}; median (lowest to highest) of {repeats}")
    for row in ROWS:
        size = row.quick if options.quick and row.quick else row.size
        if row.name in options.only if options.only else row.quick or not options.quick:
            print(f"\n{row.title.format(f'{size:,}')}, n = {row.n}  [{row.name}; {load()}]", flush=True)
            for line in row_lines(row, size, repeats, row.share and not options.quick):
                print(line, flush=True)


if __name__ == "__main__":
    main()
