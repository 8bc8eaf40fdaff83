"""--resume: a run that was stopped goes on where it was (test process)."""
from __future__ import annotations

import contextlib
import io
import os
import signal
import unittest
from unittest import mock

from microscoop.errors import UsageError
from microscoop.leaves import journal, versions
from tests import harness

PROGRAM = """
import os, sys, time
from microscoop import futures

RAN = os.path.join(os.path.dirname(__file__), "ran")

def note(text):
    with open(RAN, "a") as file:
        file.write(text + "\\n")

def square(x):
    time.sleep(0.01)
    note("square %s" % (x,))
    return x * x if isinstance(x, int) else [x, 2]

def power(x, e=2):
    note("power %s" % x)
    return {x: x ** e}

def failing(x):
    note("failing %s" % x)
    return 1 // x

def large(x):
    note("large %s" % x)
    return bytes(range(256)) * x

if __name__ == "__main__":
    count = int(sys.argv[1])
    print(list(futures.map(square, range(count))))
    print([future.result() for future in [futures.submit(power, x, e=3) for x in range(5)]])
    print(list(futures.map(square, iter([(1, 2), -1, "a"]))), sorted(futures.map_as_completed(square, [7, 7, 7])))
    for x in 0, 1:
        try:
            print(futures.submit(failing, x).result())
        except ZeroDivisionError:
            print("failed")
    print([len(result) for result in futures.map(large, [1, 10000, 2])])
    print(futures.map_reduce(power, max, range(1)))
"""


BY_VALUE = """
import os
from microscoop import futures

def note(text):
    with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as file:
        file.write(text + "\\n")

if __name__ == "__main__":
    def factor(k):
        return lambda x: (note("factor %d" % k), x * k)[1]
    def known(x):
        note("known")
        return x in {"a", "b", "c", "d"}
    print(list(futures.map(factor(2), range(3))), list(futures.map(factor(3), range(3))))
    print(list(futures.map(known, "az")), futures.submit(known, "a").result())
    print(list(futures.map(lambda f: (note("called"), f("a"))[1], [known])))
"""


class Resume(harness.AtOnce):
    def setUp(self):
        super().setUp()
        self.path = self.script(PROGRAM)
        self.journal = self.path.parent / "journal"

    def words(self, *words):
        return ["-q", "-n", "3", "--resume", self.journal, *words, self.path]

    def go(self, *words, count="12", status=0):
        result = harness.run(*self.words(*words), count)
        self.assertEqual(result.status, status, result.err)
        return result

    def ran(self):
        """What was run since the last look."""
        file = self.path.parent / "ran"
        lines = sorted(file.read_text().splitlines()) if file.exists() else []
        file.write_text("")
        return lines

    def test_what_is_there_is_not_run_again_and_what_failed_is(self):
        out = self.go().out
        self.assertEqual(len(self.ran()), 12 + 5 + 3 + 3 + 2 + 3 + 1)
        again = ["failing 0", "power 0"]           # map_reduce is not kept
        self.assertEqual((self.go().out, self.ran()), (out, again))
        self.assertEqual((self.go("--serial").out, self.ran()), (out, again))
        changed = self.go(count="14").out          # a changed input
        self.assertTrue(changed.startswith(str([x * x for x in range(14)])))
        self.assertEqual(self.ran(), sorted([*again, "square 12", "square 13"]))

    def test_functions_by_value_are_known_again_wherever_they_stand(self):
        self.path.write_text(BY_VALUE)
        out = self.go().out
        self.assertEqual(len(self.ran()), 6 + 3 + 2)
        for number in range(2):                    # texts have another hash in each run
            result = self.go(count=str(number))
            self.assertEqual((result.out, result.err, self.ran()), (out, "", []))
        self.path.write_text(BY_VALUE.replace("    def", "    # a comment\n\n    def"))
        self.assertEqual((self.go().out, self.ran()), (out, []))
        self.path.write_text(BY_VALUE.replace("factor(3)", "factor(4)"))
        result = self.go()
        self.assertEqual(self.ran(), ["factor 4"] * 3)
        self.assertIn("of another function that is called so, or another version of this one, and not", result.err)

    def test_a_run_that_is_killed_goes_on(self):
        for stop, count in ((signal.SIGKILL, 60), (signal.SIGTERM, 120)):
            run = harness.start(*self.words(), str(count))
            ran = self.path.parent / "ran"
            begun = harness.until(lambda: ran.exists() and len(ran.read_text().splitlines()) > 20, 20)  # noqa: B023
            self.assertTrue(begun, run.err.text())
            run.process.send_signal(stop)
            run.finish()                           # the next begins at once, while remains of it may live
            result = self.go(count=str(count))
            self.assertTrue(result.out.startswith(str([x * x for x in range(count)])))
            squares = [line for line in self.ran() if line.startswith("square")]
            on_their_way = 3 * 8                   # three workers, and what they do before they send a block of 64 ms
            self.assertLess(len(squares), 60 + 6 + on_their_way)

    def test_a_killed_origin(self):
        self.path.write_text(PROGRAM.replace('    print([future', '    os.kill(os.getpid(), 9)\n    print([future'))
        self.go(status=137)
        self.assertEqual(len(self.ran()), 12)
        self.path.write_text(PROGRAM)
        self.go()
        self.assertEqual(sum(line.startswith("square") for line in self.ran()), 6)

    def test_a_torn_record_is_cut_off(self):
        out = self.go().out
        self.ran()
        size = self.journal.stat().st_size
        os.truncate(self.journal, size - 3)
        result = self.go()
        self.assertEqual(result.out, out)
        self.assertRegex(result.err, r"\Amicroscoop: --resume: the last \d+ bytes of '.*' are no whole record: "
                                     r"cut off\n\Z")
        self.assertEqual(len(self.ran()), 3)
        self.assertEqual((self.go().err, self.journal.stat().st_size), ("", size))

    def test_another_version_of_a_function(self):
        self.go()
        self.ran()
        self.path.write_text("# moved down\n\n" + PROGRAM.replace("x ** e", "-x ** e"))
        result = self.go()
        self.assertIn("[{0: 0}, {1: -1}, {2: -8}", result.out)
        self.assertEqual(result.err, "microscoop: --resume: 5 result(s) of __main__.power are of another version of "
                                     "it, and not used\n")
        self.assertEqual(len(self.ran()), 5 + 2)

    def test_with_a_seed_the_position_counts(self):
        self.path.write_text("""
import random, sys
from microscoop import futures

def draw(x):
    print("drawn", file=sys.stderr)
    return random.random()

if __name__ == "__main__":
    print(list(futures.map(draw, [int(sys.argv[1])] * 6)))
""")
        out = harness.run("-q", "-n", "3", "--seed", "7", self.path, "1").out
        self.assertEqual(self.go("--seed", "7", count="1").out, out)
        result = self.go("--seed", "7", count="1")
        self.assertEqual((result.out, result.err), (out, ""))
        result = self.go("--seed", "8", count="1")
        self.assertEqual(result.err.count("drawn"), 6)
        self.assertNotEqual(result.out, out)
        result = self.go(count="1")
        numbers = result.out
        self.assertEqual(result.err.count("drawn"), 6)
        result = self.go(count="1")                # of equal items each entry is used once
        self.assertEqual(result.err, "")
        self.assertEqual(sorted(result.out.strip("[]\n").split(", ")), sorted(numbers.strip("[]\n").split(", ")))

    def test_files_that_cannot_be_used(self):
        self.journal.write_text("something else\n")
        result = self.go(status=2)
        self.assertEqual(result.err, f"microscoop: --resume: {str(self.journal)!r} is no journal; name a new file, or "
                                     "one that --resume has made\n")
        self.assertEqual(self.journal.read_text(), "something else\n")
        result = self.go("--resume", self.path.parent, status=2)
        self.assertRegex(result.err, r"\Amicroscoop: --resume: cannot use '.*': Is a directory\n\Z")
        self.assertEqual(self.ran(), [])

    @harness.slow
    def test_two_runs_at_once(self):
        runs = [harness.start(*self.words(), "2700") for _ in range(2)]
        results = [run.finish() for run in runs]
        self.assertEqual(sorted(result.status for result in results), [0, 2])
        self.assertIn(f"microscoop: --resume: another run is using {str(self.journal)!r}; give each run a journal of "
                      "its own\n", [result.err for result in results])

    def test_a_disk_that_is_full(self):
        limited = ["-c", "import os, resource, sys\n"
                         "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
                         "os.execv(sys.executable, sys.argv[1:])",
                   *harness.microscoop(*self.words(), "12")]
        # Python itself would leave a torn .pyc of what it imports then, for every later run to trip over
        result = harness.plain(*limited, env={"PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.err.count("cannot write to"), 1, result.err)
        self.assertEqual(self.go().status, 0)


class Files(unittest.TestCase):
    """The journal itself, without a run."""

    def test_whatever_a_file_ends_with(self):
        with harness.script("", "journal") as path, contextlib.redirect_stderr(io.StringIO()):
            book = journal.Journal(str(path))
            record = book.record(len)
            record.keep(0, [["a", "b"]], [1, 2])
            book.close()
            whole = path.read_bytes()
            for size in range(len(whole)):
                path.write_bytes(whole[:size])
                book = journal.Journal(str(path))
                found = [list(kept) for _, kept in book.record(len).known(0, [["a", "b"]])]
                self.assertIn(found, ([], [[1]]))
                book.record(len).keep(0, [["c"]], [3])
                book = following(path, book)
                self.assertEqual([list(kept) for _, kept in book.record(len).known(0, [["x", "c"]])], [[3]])
                book.close()

    def test_one_run_at_a_time(self):
        with harness.script("", "journal") as path, mock.patch.object(journal, "PATIENCE", 0.1):
            book = journal.Journal(str(path))
            with self.assertRaisesRegex(UsageError, "another run is using"):
                journal.opened(str(path))
            book.close()
            os.close(journal.opened(str(path)))

    def test_items_are_found_however_they_travel(self):
        with harness.script("", "journal") as path:
            book = journal.Journal(str(path))
            book.record(max).keep(0, [range(3), ["a", "b", "c"]], [1, ([],), (None, "E", "", "")])
            book = following(path, book)
            self.addCleanup(book.close)
            values = journal.tasks.column([1, []], 0)
            self.assertEqual([(first, list(kept)) for first, kept in book.record(max).known(5, [values, ["b", "b"]])],
                             [(5, [([],)])])
            self.assertEqual(book.record(max).known(0, [[1, 2], ["b", "c"]]), [], "used, and failed")
            self.assertEqual(book.record(min).known(0, [[0], ["a"]]), [])


def following(path, book):
    """The journal of the next run."""
    book.close()
    return journal.Journal(str(path))


HELPED = """
import functools
SCALE = 2
FLAGS = {"a", "b", "c"}

def helper(x):
    return x * SCALE

class Tool:
    def use(self, x):
        return x in {"p", "q", "r"}

def func(x, *, y=3):
    if Tool().use(x):
        return [helper(i) for i in range(x)]
    return {str(z) for z in "abc"} | FLAGS, y

@functools.lru_cache(None)
def cached(x):
    return func(x)

def outer(n):
    def inner(x):
        return helper(x) + n
    return inner
"""


class Versions(unittest.TestCase):
    def versions(self, text):
        space = {"__name__": "space"}
        exec(compile(text, "space.py", "exec"), space)
        known = versions.Versions()
        functions = dict(space, inner=space["outer"](3), other=space["outer"](4))
        return {name: known.of(functions[name])[1] for name in ("func", "cached", "helper", "inner", "other")}

    def test_what_makes_another_version_and_what_does_not(self):
        before = self.versions(HELPED)
        self.assertEqual(self.versions("# a comment\n\n" + HELPED + "\nunrelated = 1\n"), before)
        self.assertNotEqual(before["inner"], before["other"])
        everything = {"func", "cached", "helper", "inner", "other"}
        for old, new, other in (("x * SCALE", "x + SCALE", everything), ("SCALE = 2", "SCALE = 3", everything),
                                ("y=3", "y=4", {"func", "cached"}), ('"r"}', '"s"}', {"func", "cached"}),
                                ("+ n", "- n", {"inner", "other"})):
            after = self.versions(HELPED.replace(old, new))
            self.assertEqual({name for name in before if after[name] != before[name]}, other, new)

    def test_whatever_can_be_called(self):
        known = versions.Versions()
        self.assertEqual(known.of(len)[0], "builtins.len")
        self.assertEqual(known.of(dict)[0], "builtins.dict")
        self.assertEqual(known.of(self.test_whatever_can_be_called)[0],
                         "tests.test_resume.Versions.test_whatever_can_be_called")



if __name__ == "__main__":
    unittest.main()
