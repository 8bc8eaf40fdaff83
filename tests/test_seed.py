"""--seed: the same numbers for every -n; --serial: everything in one process (test process)."""
from __future__ import annotations

import unittest
from pathlib import Path

from tests import harness

PROGRAM = """
import os, random, signal, sys, time
from microscoop import futures

def draw(x):
    return random.randrange(10 ** 6)

def slow(x):
    time.sleep(random.random() * 0.004)
    return x, random.randrange(10 ** 6)

def nesting(depth):
    drawn = [random.random()]
    if depth:
        drawn += futures.map(slow, range(5))
        drawn.append(random.random())
        child = futures.submit(nesting, depth - 1)
        drawn += [random.random(), child.result()]
        drawn.append(random.random())
    return drawn

def dying(path):
    drawn = random.random()
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn

if __name__ == "__main__":
    print(random.random())
    print(list(futures.map(nesting, [2, 1, 2, 0, 1, 2])))
    print(futures.map_reduce(draw, max, range(2000)), sum(futures.map_scan(draw, max, iter(range(2000)))))
    print(list(futures.map(draw, range(3000)))[-9:], list(futures.map(draw, iter(range(300))))[-9:])
    print([future.result() for future in [futures.submit(slow, x) for x in range(9)]])
    print(sorted(futures.map_as_completed(slow, range(9))))
    if len(sys.argv) > 1:
        print(list(futures.map(dying, [sys.argv[1]])))
    print(random.random())
"""

NUMPY = """
from random import Random
inner = Random()
random, seed, get_state, set_state = inner.random, lambda key: inner.seed(repr(key)), inner.getstate, inner.setstate
"""

WITH_NUMPY = """
from microscoop import futures

def inner(x):
    import numpy.random
    return numpy.random.random()

def outer(x):
    before = list(futures.map(inner, range(x)))
    import numpy.random
    return numpy.random.random(), before, numpy.random.random()

if __name__ == "__main__":
    print(list(futures.map(outer, [3, 0, 1, 2])))
    import numpy.random
    print(numpy.random.random())
"""

NAMES = """
import threading
from microscoop import futures

class Point:
    def __call__(self, x):
        raise ValueError(x)

def func(x):
    return 1 // x

if __name__ == "__main__":
    print(futures.submit(func, 1))
    for function in (func, Point()):
        try:
            list(futures.map(function, [1, 0]))
        except Exception as error:
            print(str(error.__cause__).split("]")[0].partition(", ")[2])
    point = Point()
    point.lock = threading.Lock()
    try:
        futures.map(point, [1])
    except Exception as error:
        print(error)
"""


class Seed(harness.AtOnce):
    def out(self, script, *words):
        result = harness.run("-q", *words, script)
        self.assertEqual((result.status, result.err), (0, ""))
        return result.out

    def test_the_same_numbers_for_every_n_and_in_one_process(self):
        script = self.script(PROGRAM)
        words = (["7", "-n", "1"], ["7", "-n", "4"], ["7", "--serial"], ["8", "-n", "4"])
        *runs, other = harness.at_once(lambda words: self.out(script, "--seed", *words), words)
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(runs[0], runs[2])
        self.assertNotEqual(runs[0], other)
        numbers = runs[0].split()
        self.assertGreater(len(set(numbers)), len(numbers) / 2)

    def test_the_same_numbers_after_a_retry(self):
        script = self.script(PROGRAM)
        (script.parent / "died0").touch()          # there nobody dies
        runs = harness.at_once(lambda number: harness.run(
            "-q", "-n", number or "2", "--seed", "7", script, script.parent / f"died{number}"), range(3))
        self.assertEqual([run.status for run in runs], [0, 0, 0])
        self.assertTrue(all((script.parent / f"died{number}").exists() for number in (1, 2)))
        self.assertEqual(runs[1].out, runs[0].out)
        self.assertEqual(runs[2].out, runs[0].out)

    def test_numpy_wherever_it_is_imported(self):
        script = self.script(WITH_NUMPY)
        package = Path(script).parent / "numpy"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "random.py").write_text(NUMPY)
        runs = harness.at_once(lambda words: self.out(script, "--seed", "7", *words),
                               (["-n", "1"], ["-n", "3"], ["--serial"]))
        script.write_text("import numpy.random\n" + WITH_NUMPY)
        runs.append(self.out(script, "--seed", "7", "-n", "2"))
        self.assertEqual(runs, runs[:1] * 4)

    def test_tasks_that_wait_in_threads_of_their_own_end(self):
        script = self.script("""
            import threading
            from microscoop import futures

            def add(x):
                return x + 1

            def task(x):
                found = []
                def inside():
                    found.extend(futures.map(add, range(5)))
                    found.append(futures.submit(add, x).result())
                thread = threading.Thread(target=inside)
                thread.start()
                thread.join()
                return sum(found)

            if __name__ == "__main__":
                print(list(futures.map(task, range(6))))
        """)
        ways = (["-n", "1"], ["-n", "1", "--seed", "7"], ["-n", "2", "--seed", "7", f"--profile={script.parent}"],
                ["--serial", "--seed", "7"])
        for words, out in zip(ways, harness.at_once(lambda words: self.out(script, *words), ways)):
            self.assertEqual(out, f"{[16 + x for x in range(6)]}\n", words)

    def test_functions_keep_their_names(self):
        out = self.out(self.script(NAMES), "--seed", "7", "-n", "2").splitlines()
        self.assertEqual(out[:3], ["<Future of func: running>", "item 1 of func", "item 0 of Point"])
        self.assertIn("the function cannot be pickled: the function.func.lock is lock", out[3])

    def test_a_seed_is_a_whole_number(self):
        result = harness.run("--seed", "x", "script.py")
        self.assertEqual((result.status, result.err),
                         (2, "microscoop: --seed: expected a whole number of at least 0, found 'x'\n"))


class Serial(harness.AtOnce):
    def test_a_debugger_sees_a_task(self):
        script = self.script("""
            import os
            from microscoop import futures

            def func(x, home):
                y = x + 1
                breakpoint()
                return y, home == os.getpid()

            if __name__ == "__main__":
                print(list(futures.map(func, [20], [os.getpid()])))
        """)
        result = harness.run("--serial", script, stdin="p y * 2\nc\n")
        self.assertIn("(Pdb) 42\n", result.out)
        self.assertIn("[(21, True)]\n", result.out)
        self.assertEqual((result.status, result.err), (0, ""))

    def test_a_script_runs_as_it_would_elsewhere(self):
        script = self.script("""
            import atexit, os, sys, threading
            from microscoop import futures

            def change(items):
                items.append(os.environ["COLOUR"])
                return items

            if __name__ == "__main__":
                atexit.register(print, "at exit")
                mine = [1]
                print(list(futures.map(change, [mine])), mine, sys.argv[1:], __name__)
                futures.submit(int, "x")
                try:
                    futures.submit(id, threading.Lock())
                except Exception as error:
                    print(type(error).__name__)
                sys.exit(3 if sys.argv[1:] else 0)
        """)
        result = harness.run("--serial", "--env", "COLOUR=red", "-n", "4", "--retries", "1", script, "--", "a")
        self.assertEqual(result.status, 3)
        self.assertRegex(result.out, r"\A\[\[1, 'red'\]\] \[1\] \['--', 'a'\] __main__\n\w+\nat exit\n\Z")
        self.assertEqual(result.err, "microscoop: warning: --serial: everything runs in this process, without -n, "
                                     "--retries\n")
        result = harness.run("--serial", "--env", "COLOUR=red", script)
        self.assertEqual(result.status, 0)
        self.assertIn("nobody looked at this error of a task:", result.err)

    def test_what_needs_a_launcher_is_said_to_be_left_out_and_nothing_else(self):
        text = "from microscoop import futures\nprint(list(futures.map(lambda x: x + 1, [1])))\n"
        script, without = self.script(text), "microscoop: warning: --serial: everything runs in this process, without "
        page = script.parent / "run.html"
        result = harness.run("--serial", "--report", page, "--trace", page, f"--profile={script.parent}/profile",
                             "--progress", "--nice", "3", script)
        self.assertEqual(result, (0, "[2]\n", without + "--nice, --report, --trace, --profile, --progress\n"))
        self.assertEqual([path.name for path in script.parent.iterdir()], ["script.py"])
        for words in (["--no-progress", "-c", text], ["--scoop", "--seed", "1", "-c", text]):
            self.assertEqual(harness.run("--serial", *words), (0, "[2]\n", ""))

    def test_an_error_ends_it_as_python_would(self):
        result = harness.run("--serial", self.script("from microscoop import futures\nlist(futures.map(int, 'a'))\n"))
        self.assertEqual(result.status, 1)
        self.assertIn("item 0 of int", result.err)
        self.assertTrue(result.err.endswith("ValueError: invalid literal for int() with base 10: 'a'\n"), result.err)


if __name__ == "__main__":
    unittest.main()
