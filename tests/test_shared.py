"""shared.setConst and getConst: every task gets the value, wherever and whenever its worker began."""
from __future__ import annotations

import unittest

from tests import harness

SCRIPT = """
import os, signal, sys, threading, time
from concurrent.futures import TimeoutError
from microscoop import futures, shared

def length(number):
    return len(shared.getConst("table")) + number

def sets(text):
    shared.setConst(late=text)
    return shared.getConst("late")

def waits(seconds):
    return shared.getConst("late", timeout=seconds)

def dies_once(flag):
    shared.setConst(mortal=[1, 2])
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return shared.getConst("mortal")

def said(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)

if __name__ == "__main__":
    shared.setConst(table=list(range(300000)), other="a")
    print(list(futures.map(length, range(6))), shared.getConst("other"))
    waiting = [futures.submit(waits, 20) for _ in range(2)] if len(sys.argv) > 1 else []
    print(futures.submit(sets, "text").result(), [future.result() for future in waiting], shared.getConst("late", 5))
    print(said(shared.setConst, table=1))
    print(said(futures.submit(sets, "text").result))
    print(said(shared.getConst, "nothing", timeout=0.01))
    print(said(shared.setConst, bad=threading.Lock()))
    if len(sys.argv) > 1:
        print(futures.submit(dies_once, sys.argv[1]).result(), shared.getConst("mortal", 5))
        print(list(futures.map(length, range(6))))
"""
SAME = [
    "[300000, 300001, 300002, 300003, 300004, 300005] a",
    "text {} text",
    "TypeError: the constant table is set already: a name gets its value once in a run",
    "TypeError: the constant late is set already: a name gets its value once in a run",
    "TimeoutError: nobody has set the constant nothing within 0.01 s"]
LATER = ["[1, 2] [1, 2]", "[300000, 300001, 300002, 300003, 300004, 300005]"]


class Constants(harness.TestCase):
    def lines(self, result):
        lines = result.out.splitlines()
        self.assertIn("the constant bad cannot be pickled", lines.pop(5))
        return lines

    def test_every_worker_here_and_elsewhere_has_them_also_one_that_comes_later(self):
        places = (("-n", "3"), ("-n", "4", "--ssh-executable", "env WHERE={host}", "--host", "a", "b", "--"))
        script = self.script(SCRIPT)
        results = harness.at_once(lambda options: harness.run(
            "-q", *options, script, script.parent / ("flag%d" % len(options))), places)
        for options, result in zip(places, results):
            with self.subTest(options=options):
                waited = ["text", "text"]
                self.assertEqual(self.lines(result), [line.format(waited) for line in SAME] + LATER, result.err)

    def test_without_the_launcher_they_are_here(self):
        result = harness.plain("-W", "ignore", self.script(SCRIPT))
        self.assertEqual(self.lines(result), [line.format([]) for line in SAME], result.err)

    def test_asking_while_a_script_is_loaded_gets_the_advice(self):
        result = harness.run("-n", "1", self.script("""
            from microscoop import futures, shared
            if __name__ == "__main__":
                futures.submit(abs, 1).result()
            else:
                shared.getConst("a")
            """))
        self.assertIn('if __name__ == "__main__":', result.err)


if __name__ == "__main__":
    unittest.main()
