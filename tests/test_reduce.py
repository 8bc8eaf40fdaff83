"""futures.map_reduce and map_scan under the launcher, against functools.reduce and itertools.accumulate."""
from __future__ import annotations

import unittest

from tests import harness

HEAD = """
import copy, functools, itertools, operator, os, sys, time
from microscoop import futures

def product(a, b):
    return (a[0] * b[0] + a[1] * b[2]) % 9973, (a[0] * b[1] + a[1] * b[3]) % 9973, \\
           (a[2] * b[0] + a[3] * b[2]) % 9973, (a[2] * b[1] + a[3] * b[3]) % 9973

def matrix(n):
    return n % 7, n % 11, 1, n % 13

def one(x):
    return [x]

def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
"""


class Scripts(harness.AtOnce):
    def go(self, text, *args, n=3, options=("-q",), **more):
        return harness.run(*options, "-n", str(n), str(self.script(HEAD + text)), *args, **{"timeout": 40, **more})

    def check(self, text, out, *args, **more):
        numbers = (1, 3)
        for n, result in zip(numbers, harness.at_once(lambda n: self.go(text, *args, n=n, **more), numbers)):
            self.assertEqual((result.status, result.out), (0, out), f"-n {n}: {result.err}")


class Values(Scripts):
    def test_any_number_of_items_of_any_inputs_with_operators_that_do_not_commute(self):
        self.check("""
def check(func, op, make):
    values, plain = list(map(func, *make())), operator.add if op is operator.iadd else op
    if values:
        assert futures.map_reduce(func, op, *make()) == functools.reduce(plain, values), (func, values)
    assert futures.map_scan(func, op, *make()) == list(itertools.accumulate(values, plain)), (func, values)

if __name__ == "__main__":
    for n in (*range(18), 31, 32, 33, 50):
        check(str, operator.add, lambda: (range(n),))
        check(matrix, product, lambda: (list(range(n)),))
        check(*(
            (one, operator.iadd, lambda: (iter(range(n)),)),
            (pow, operator.add, lambda: (range(n), [3] * (n // 2 + 20))),
            (max, product, lambda: (map(matrix, range(n)), itertools.repeat((0, 0, 0, 0)))),
            (operator.itemgetter(0), operator.add, lambda: ({str(i): i for i in range(n)},)),
        )[n % 4])
    print("ok")
""", "ok\n")

    def test_many_items(self):
        self.check("""
def letter(n):
    return chr(97 + n % 26)

if __name__ == "__main__":
    numbers = range(10_000)
    products = list(itertools.accumulate(map(matrix, numbers), product))
    for make in (copy.copy, list, iter):
        assert futures.map_reduce(letter, operator.add, make(numbers)) == "".join(map(letter, numbers))
        assert futures.map_reduce(matrix, product, make(numbers)) == products[-1]
        assert futures.map_scan(matrix, product, make(numbers)) == products
    print(sum(map(len, futures.map_scan(letter, operator.add, range(2000)))))
""", "2001000\n")

    def test_no_items_are_an_error_of_reduce_and_an_empty_scan(self):
        self.check("""
if __name__ == "__main__":
    for empty in ([], iter([]), range(0)):
        print(outcome(futures.map_reduce, abs, operator.add, empty), futures.map_scan(abs, operator.add, empty))
""", "TypeError: map_reduce of no items has no result []\n" * 3)

    def test_large_values_and_values_that_are_no_atoms(self):
        self.check("""
def large(n):
    return {"n": [n], "text": bytes(300_000)}

def merged(a, b):
    return {"n": a["n"] + b["n"], "text": a["text"]}

if __name__ == "__main__":
    print(futures.map_reduce(large, merged, range(30))["n"] == list(range(30)))
    print([value["n"][-1] for value in futures.map_scan(large, merged, range(12))])
""", "True\n[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]\n")

    def test_outside_the_launcher_they_work_serially_with_one_warning(self):
        path = self.script(HEAD + """
if __name__ == "__main__":
    print(futures.map_reduce(str, operator.add, range(30)), futures.map_scan(abs, operator.add, iter(range(9))))
""")
        result = harness.plain(path)
        self.assertEqual(result.out, "".join(map(str, range(30))) + " [0, 1, 3, 6, 10, 15, 21, 28, 36]\n")
        self.assertEqual(result.err.count("RuntimeWarning"), 1, result.err)
        line = path.read_text().splitlines().index('if __name__ == "__main__":') + 2
        self.assertTrue(result.err.startswith("%s:%d: RuntimeWarning" % (path, line)), result.err)


class Names(Scripts):
    def test_they_are_plain_functions_that_pickle_by_name_and_have_scoops_names_too(self):
        self.check("""
import pickle
from microscoop.futures import map_scan

if __name__ == "__main__":
    for name in ("map_reduce", "mapReduce", "map_scan", "mapScan"):
        function = getattr(futures, name)
        assert pickle.loads(pickle.dumps(function)) is function
        print(function.__module__, function.__qualname__)
    print(futures.mapScan is map_scan, list(futures.map(futures.mapReduce, [abs], [operator.add], [[-1, 2]])))
""", "microscoop.leaves.reduce map_reduce\n" * 2 + "microscoop.leaves.reduce map_scan\n" * 2 + "True [3]\n")

    def test_nothing_imports_them_unasked(self):
        result = self.go("""
def leaves(_=None):
    return [name for name in sys.modules if name.startswith("microscoop.leaves")]

if __name__ == "__main__":
    print(leaves(), next(futures.map(leaves, range(1))))
""")
        self.assertEqual(result.out, "[] []\n", result.err)


class Work(Scripts):
    def test_the_operator_runs_on_the_workers_but_for_the_last_few_totals(self):
        result = self.go("""
def start(n):
    time.sleep(0.002)
    return {}

def count(a, b):
    for pid, ops in b.items():
        a[pid] = a.get(pid, 0) + ops
    a[os.getpid()] = a.get(os.getpid(), 0) + 1
    return a

if __name__ == "__main__":
    for make in (range, lambda n: iter(range(n))):
        counts = futures.map_reduce(start, count, make(300))
        print(sum(counts.values()), counts.pop(os.getpid(), 0) <= 2, len(counts))
""")
        self.assertEqual(result.out, "299 True 3\n" * 2, result.err)

    def test_slow_items_are_spread_over_the_workers_wherever_they_are(self):
        result = self.go("""
def slow(seconds):
    time.sleep(seconds)
    return 1

def timed(items):
    begun = time.monotonic()
    futures.map_reduce(slow, operator.add, items)
    return time.monotonic() - begun

if __name__ == "__main__":
    slow_ones, quick = [0.1] * 12, [0] * 3000           # 1.2 seconds in all, 0.4 on three workers
    for items in (slow_ones, slow_ones + quick, quick + slow_ones, iter(quick + slow_ones)):
        spent = timed(items)
        print("ok" if spent < 1.0 else spent)
""")
        self.assertEqual(result.out, "ok\n" * 4, result.err)

    def test_a_slow_operator_is_applied_in_parallel(self):
        result = self.go("""
def slow(a, b):
    time.sleep(0.1)
    return a + b

if __name__ == "__main__":
    begun = time.monotonic()
    print(futures.map_reduce(str, slow, range(16)), time.monotonic() - begun < 1.4)     # 1.5 seconds by one
    print(futures.map_scan(str, slow, range(3))[-1])
""")
        self.assertEqual(result.out, "0123456789101112131415 True\n012\n", result.err)

    def test_they_work_inside_tasks_and_inside_themselves(self):
        self.check("""
def row(n):
    return futures.map_reduce(str, operator.add, range(n)) if n else ""

def deep(n):
    return n + futures.map_reduce(deep, max, [n - 1, 0, 0]) if n > 0 else 0

if __name__ == "__main__":
    print(futures.map_scan(row, operator.add, range(5)))
    print(futures.map_reduce(row, operator.add, range(30)) == "".join(map(row, range(30))))
    print(futures.submit(futures.map_scan, abs, operator.add, range(-50, 0)).result()[-1], deep(100))
""", "['', '0', '001', '001012', '0010120123']\nTrue\n1275 5050\n")


ERRORS = """\
RuntimeError: no further
OSError: broken
TypeError: argument 1 of item 2 cannot be pi
TypeError: the function cannot be pickled
TypeError: expected a function,
TypeError: expected a function,
"""


class Errors(Scripts):
    def test_the_first_failing_items_error_comes_as_itself_with_its_number(self):
        self.check("""
def fail(n):
    if n >= 40:
        raise KeyError(n)
    return n

if __name__ == "__main__":
    for function in (futures.map_reduce, futures.map_scan):
        for items in (range(50), range(40_000), itertools.count()):
            try:
                function(fail, operator.add, items)
            except KeyError as error:
                print(error, "item 40 of fail]" in str(error.__cause__), "in fail" in str(error.__cause__))
""", "40 True True\n" * 6)

    def test_errors_of_the_operator_of_the_input_and_of_pickling(self):
        self.check("""
def stop(a, b):
    if b == 30:
        raise RuntimeError("no further")
    return b

def broken():
    yield from range(20)
    raise OSError("broken")

if __name__ == "__main__":
    for function in (futures.map_reduce, futures.map_scan):
        print(outcome(function, abs, stop, range(300)))
        print(outcome(function, abs, operator.add, broken()))
        print(outcome(function, abs, operator.add, [1, 2, open(os.devnull)])[:44])
        print(outcome(function, open(os.devnull).write, operator.add, range(3))[:41])
        print(outcome(function, abs, operator.add)[:31])
        print(outcome(function, abs, 3, [1])[:31])
""", ERRORS * 2)

    def test_a_timeout(self):
        result = self.go("""
if __name__ == "__main__":
    for function in (futures.map_reduce, futures.map_scan):
        begun = time.monotonic()
        try:
            function(time.sleep, operator.add, [0.3] * 12, timeout=0.2)     # 1.2 seconds on three workers
        except futures.TimeoutError:
            print(time.monotonic() - begun < 1.1)
    print(futures.map_reduce(abs, operator.add, range(9), timeout=20))
""")
        self.assertEqual(result.out, "True\nTrue\n36\n", result.err)

    def test_a_lost_worker_costs_nothing_but_time_and_a_deadly_item_is_named(self):
        result = self.go("""
def once(n):
    if n == 700 and not os.path.exists(sys.argv[1]):
        open(sys.argv[1], "w").close()
        os.kill(os.getpid(), 9)
    return n

def deadly(n):
    time.sleep(0.03)
    if n == 7:
        os._exit(3)
    return n

if __name__ == "__main__":
    print(futures.map_reduce(once, operator.add, range(1000)))
    print(outcome(futures.map_reduce, deadly, operator.add, range(12)))
""", str(self.script("").with_name("once")), options=("-q", "--retries", "1"))
        self.assertEqual(result.out, "499500\nWorkerLost: the worker on 127.0.0.1 exited with status 3 "
                                     "while it ran item 7, which was begun 2 times\n", result.err)


if __name__ == "__main__":
    unittest.main()
