"""Functions that travel by value: which do, what comes with them, what is refused, and several Pythons in one run."""
from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path
from typing import Any

from microscoop.leaves import byvalue
from microscoop.tasks import minor, pickled
from tests import harness

TOP = """
import functools, operator, sys, threading
from microscoop import futures

SCALE, TABLE = 10, [1, 2, 3]

def top(x):
    return x + SCALE

def doubled(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)
    return wrapper

@doubled
def twice(x):
    return x + 1

def once(x):
    return x

class Point:
    def __init__(self, x):
        self.x = x
    def shifted(self, by=1):
        return self.x + by

def leaf(_=None):
    return "microscoop.leaves.byvalue" in sys.modules

def multiplier(k):
    def multiply(x):
        return x * k
    return multiply

def show(*values):
    print(*values)

def m(function, *inputs):
    return list(futures.map(function, *inputs))
"""

PLAIN = TOP + """
if __name__ == "__main__":
    show(m(top, [1, 2]), m(Point.shifted, [Point(1)]), futures.submit(Point(2).shifted, by=2).result())
    show(m(functools.partial(operator.add, 1), [1]), m(leaf, range(9)) == [False] * 9, leaf())
"""

FORMS = TOP + """
def nested():
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)
    global above
    def above(x):
        return x > SCALE
    calls = 0
    def count(by):
        nonlocal calls
        calls += by
        return calls
    def counted(x):
        count(x)
        return count(0)
    show("nested", m(factorial, range(6)), m(above, [5, 15]), m(counted, [3]), calls)

if __name__ == "__main__":
    import math
    FACTOR, SCALE = 5, 20
    def guarded(x, y=3, *, z: Point = 4) -> int:
        "What it says."
        return x * FACTOR + SCALE + y + z + len(TABLE) + math.floor(0.5)
    guarded.note = "attribute"
    def even(n):
        return n == 0 or odd(n - 1)
    def odd(n):
        return n != 0 and even(n - 1)
    def twice(x):
        return -x
    @functools.lru_cache(maxsize=None)
    def cached(x):
        return x * FACTOR
    once = doubled(once)
    def told(function):
        return (function(1), function.__name__, function.__doc__, function.note, function.__defaults__,
                function.__kwdefaults__, function.__annotations__, function.__module__)
    exec("def executed(x): return x - 1")

    show("lambda", m(lambda x: x + 1, [1, 2]), futures.submit(lambda a, *, b: a + b, 1, b=2).result())
    show("closure", m(multiplier(3), [1, 2]))
    nested()
    show("guard", m(guarded, [1]), m(even, range(3)), m(twice, [1]), m(cached, [1]), m(executed, [1]), m(once, [1]))
    show("told", futures.submit(told, guarded).result())
    show("within", m(lambda f: f(2), [multiplier(4), abs, twice, top, once]), m(functools.partial(guarded, z=0), [1]))
    show("modules", m(lambda module: module.__name__, [math, sys]))
    show("result", futures.submit(multiplier, 3).result()(5), futures.submit(lambda: guarded).result()(1))
    show("reduce", futures.map_reduce(lambda x: x * x, lambda a, b: a + b, range(50)),
         futures.map_scan(lambda x: x, lambda a, b: a + b, range(30))[-1])
    show("any input", m(lambda a, b: a * b, iter([1, 2]), (x for x in [3, 4])))
    show("tree", futures.submit(lambda: sum(futures.map(lambda x: x * FACTOR, range(4)))).result())
    alike = [0]
    def add():
        alike.append(1)
        return len(alike)
    show("own copy", {future.result() for future in [futures.submit(add) for _ in range(8)]}, alike)
"""

SHOWN = """\
lambda [2, 3] 3
closure [3, 6]
nested [1, 1, 2, 6, 24, 120] [False, False] [3] 0
guard [35] [True, False, True] [-1] [5] [0] [2]
told (35, 'guarded', 'What it says.', 'attribute', (3,), {'z': 4}, {'z': <class '__main__.Point'>, 'return': <class \
'int'>}, '__main__')
within [8, 2, -2, 12, 4] [31]
modules ['math', 'sys']
result 15 35
reduce 40425 435
any input [3, 8]
tree 30
own copy {2} [0]
"""

METHODS = TOP + """
import types

def undressed(function):
    def wrapper(self, x):
        return function(self, x) + 100
    return wrapper

class Made:
    def __init__(self, function):
        self.function = function
    def __get__(self, value, kind):
        return self if value is None else types.MethodType(self.function, value)

class Base:
    def __init__(self, k):
        self.k = k
    def __work(self, x):
        return x + self.k
    def based(self):
        return m(self.__work, [1])
    def over(self, x):
        return -x

class Derived(Base):
    def __work(self, x):
        return super().over(x)
    @classmethod
    def __made(cls, x):
        return cls.__name__ * x
    @undressed
    def dressed(self, x):
        return super().over(x)
    @Made
    def made(self, x):
        return super().over(x)
    function = lambda self, x: x * self.k
    def private(self):
        work = self.__work
        return (m(work, [1]), m(functools.partial(work), [2]), futures.submit(work, 3).result(), m(self.__made, [2]),
                futures.map_reduce(work, max, [1, 2]))

class Odd(Base):
    function = lambda self, x: x
    def __getattr__(self, name):
        raise (AttributeError if name.endswith("state__") else KeyError)(name)

def run(self, x):
    return x - self.k

if __name__ == "__main__":
    value = Derived(5)
    show(value.private(), value.based(), m(value.dressed, [1]), m(value.function, [2]), m(value.made, [3]))
    show(m(types.MethodType(lambda self, x: self.k - x, value), [1]), m(Odd(1).function, [6]))
    value.run = types.MethodType(run, value)
    Derived.late = lambda self, x: (x, self.k)
    show(m(value.run, [7]), m(value.late, [8]), futures.submit(types.MethodType(len, [1, 2])).result())
    lock = threading.Lock()
    for bad in (Derived(lock).function, types.MethodType(lambda self, x: lock, value)):
        try:
            m(bad, [1])
        except Exception as error:
            show(error)
"""

REFUSED = TOP + """
from unittest import mock

class Base:
    pass

def local():
    class Inner(Base):
        def method(self):
            return super().__init__()
    return Inner

class Odd:
    def __init__(self, *held):
        self.held = held
    def __getattr__(self, name):
        raise KeyError(name) if name in ("__self__", "__qualname__", "__code__") else AttributeError(name)
    def __call__(self, x):
        return x

if __name__ == "__main__":
    class Guarded:
        pass
    def makes():
        return Guarded()
    lock, file, generator = threading.Lock(), open(__file__), (x for x in "ab")
    future = futures.submit(top, 1)
    def outer():
        return lambda: inner
    def inner():
        return file
    for bad in (Guarded, makes, local(), local()().method, local().method, lambda: lock, outer(), lambda: generator,
                lambda x=future: x, [lambda: [lock]], Odd(lock), mock.Mock()):
        for call in (lambda: futures.submit(print, bad), lambda: futures.map(print, [[1], bad])):
            try:
                call()
                show("not refused", bad)
            except Exception as error:
                show(error)
    show(futures.submit(lambda: threading.Lock()).exception())
    show(futures.submit(Odd(), 5).result(), *futures.map(Odd(), [6]))
"""


class Runs(harness.AtOnce):
    def check(self, text: str, shown: str) -> None:
        self.assertEqual(harness.run("-q", "-n", "2", self.script(text)), (0, shown, ""))

    def test_what_has_a_name_travels_by_name_and_never_imports_the_leaf(self) -> None:
        self.check(PLAIN, "[11, 12] [2] 4\n[2] True False\n")

    def test_all_else_travels_by_value_with_what_it_needs(self) -> None:
        self.check(FORMS, SHOWN)

    def test_a_method_goes_by_the_name_that_its_class_has_it_under_or_by_value(self) -> None:
        script = self.script(METHODS)
        for words in (), ("--seed", "1"), ("--serial",):
            with self.subTest(words):
                result = harness.run("-q", "-n", "2", *words, script)
                lines = result.out.splitlines()
                self.assertEqual((result.status, lines[:3]), (0, [
                    "([-1], [-2], -3, ['DerivedDerived'], -1) [6] [99] [10] [-3]", "[4] [6]", "[2] [(8, 5)] 2"]),
                    result)
                if not words:
                    self.assertRegex(lines[3], "^the function cannot be pickled: the function.__self__.k is lock ")
                    self.assertRegex(lines[4], "^the .*: the function.__func__ .*, its variable lock is lock ")

    def test_a_program_outside_the_launcher_can_do_the_same_and_has_one_copy_of_its_globals(self) -> None:
        result = harness.plain(self.script(FORMS))
        alone = ("within", "own copy")
        self.assertEqual([line for line in result.out.splitlines() if not line.startswith(alone)],
                         [line for line in SHOWN.splitlines() if not line.startswith(alone)], result.err)

    def test_what_cannot_is_refused_at_the_call_by_name_with_the_way_out(self) -> None:
        result = harness.run("-q", "-n", "2", self.script(REFUSED))
        lines = result.out.splitlines()
        self.assertEqual((result.status, len(lines)), (0, 26), result)
        culprits = ("__main__.Guarded", r"\(makes\), its variable Guarded is type", "local.<locals>.Inner", "Inner",
                    r"\(local.<locals>.Inner.method\)", r"\(<lambda>\), its variable lock is lock",
                    r"\(inner\), its variable file is TextIOWrapper", "its variable generator is generator",
                    "__defaults__.0. is Future", r"\[0\] \(<lambda>\), its variable lock is lock",
                    r"held\[0\] is lock", " is Mock")
        for at, culprit in enumerate(culprits):
            for line, what in zip(lines[2 * at:], ("the task", "argument 1 of item 1")):
                self.assertRegex(line, f"^{what} cannot be pickled: {what}.*{culprit}.*; ")
        for line in lines[:10]:
            self.assertRegex(line, "; (put it|define that class, or the function,) at the top of the script")
        self.assertIn("super()", lines[8])
        self.assertIn("pass its result", lines[16])
        self.assertNotIn(".func", result.out)      # which a Mock has, without end
        self.assertEqual(lines[25], "5 6")
        self.assertRegex(lines[24], "^the result cannot be pickled: the result is lock")


class Hosts(harness.AtOnce):
    """Hosts that are this machine, some of them with what calls itself another Python."""

    SCRIPT = """
        import sys, time
        from microscoop import futures
        def minor(seconds):
            time.sleep(seconds)         # or one worker might be quick enough for all of them
            return sys.version_info[1]
        if __name__ == "__main__":
            try:
                print(set(futures.map(lambda x: minor(0), range(20))))
            except Exception as error:
                print(type(error).__name__, error)
            print(99 in set(futures.map(minor, [0.05] * 9)))
            """

    def hosts(self, *others: str, slow: float = 0) -> Any:
        """The options for hosts with other Pythons, and some like ours."""
        path = self.script("", "python").parent
        text = '#!/bin/sh\nloader=$3\nshift 3\nexec %s -u -c "import sys; sys.version_info = 3, 99, 0\n$loader" "$@"\n'
        (path / "python").write_text(text % sys.executable)
        (path / "python").chmod(0o755)
        hosts = path / "hosts"
        hosts.write_text("".join("%s 1%s\n" % (name, " python=%s" % (path / "python") if name.startswith("o") else "")
                                 for name in others))
        command = "sh -c 'case {host} in late*) sleep %s;; bad*) exit 3;; esac; exec sh'" % slow
        return "--hostfile", hosts, "--ssh-executable", command

    def run_it(self, *words: Any, script: str = SCRIPT) -> harness.Result:
        result = harness.run(*words, self.script(script), timeout=30)
        self.assertEqual(result.status, 0, result.err)
        return result

    def test_only_workers_of_the_same_python_get_them(self) -> None:
        ours = sys.version_info[1]
        result = self.run_it("-q", *self.hosts("other", "same", "o2"))
        self.assertEqual(result.out, f"{{{ours}}}\nTrue\n")

    def test_without_such_a_worker_the_items_fail_by_name(self) -> None:
        result = self.run_it("-q", *self.hosts("other"))
        self.assertRegex(result.out, r"^NoMatchingWorker .* no worker runs Python 3\.%d: put it at the top .*\nTrue\n$"
                         % sys.version_info[1])

    def test_they_wait_for_a_host_that_may_have_it_and_no_longer(self) -> None:
        ours = sys.version_info[1]
        waited, result = harness.at_once(lambda words: self.run_it("--wait", "0", *words), (
            self.hosts("other", "late", slow=1), self.hosts("other", "bad")))
        self.assertEqual(waited.out.splitlines()[0], f"{{{ours}}}")
        self.assertRegex(result.out, "^NoMatchingWorker ")
        self.assertIn("bad could not be started", result.err)

    def test_a_function_by_value_that_comes_from_another_python_says_so(self) -> None:
        result = self.run_it("-q", *self.hosts("other"), script="""
            from microscoop import futures
            def gives():
                return lambda: 1
            if __name__ == "__main__":
                print(futures.submit(gives).exception())
            """)
        self.assertRegex(result.out, r"a function by value comes from Python 3\.99 and cannot run on 3\.")


class Pickles(unittest.TestCase):
    def test_those_with_something_by_value_are_known_also_within_others(self) -> None:
        self.assertEqual(minor([pickled(len), pickled(Path)]), 0)
        by_value = pickled(lambda: 1)
        self.assertEqual(minor([pickled(len), by_value]), sys.version_info[1])
        self.assertEqual(minor([pickled([by_value])]), sys.version_info[1])

    def test_what_travels_together_stays_together(self) -> None:
        total = 0

        def add(number: int) -> None:
            nonlocal total
            total += number

        import pickle
        more, read = pickle.loads(pickled((add, lambda: total)))
        more(5)
        self.assertEqual((read(), total), (5, 0))

    def test_only_globals_that_the_code_names_go_along(self) -> None:
        names: Any = {"used": 1, "attribute": harness, "__name__": "elsewhere"}
        exec("def function(value): return [value.attribute for used in [used]]", names)
        self.assertEqual(set(byvalue.brings(names["function"])), {"used", "__defaults__", "__kwdefaults__"})
        self.assertTrue(re.search(b"used", pickled(names["function"])))
