"""Leaves together in one run: none changes what the others, or the program, give."""
from __future__ import annotations

import json
import unittest

from tests import harness

PROGRAM = """
import os, random, sys, time
import microscoop
from microscoop import futures, shared

FOLDER = os.path.dirname(os.path.abspath(sys.argv[1]))

def once(name):
    try:
        os.close(os.open(os.path.join(FOLDER, name), os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False

def inner(j):
    if j == 2 and once("first"):
        os.kill(os.getpid(), 9)
    return j + shared.getConst("plus", 5)(1)

def work(i):
    if i == 5 and once("second"):
        os._exit(3)
    drawn = round(random.random(), 9)
    return i, drawn, futures.map_reduce(inner, lambda a, b: a + b, range(4)), len(list(futures.map(lambda x: x, "ab")))

if __name__ == "__main__":
    k = 100
    shared.setConst(plus=lambda x: x + k)
    print(list(futures.map(work, range(8))))
    print(list(futures.map(lambda i: (once("ran"), round(random.random() + k, 9))[1], range(3))))
    with microscoop.Executor(1) as pool:
        print(pool.submit(lambda: k).result(), *pool.map(abs, [-1, -2]))
"""


class Together(harness.TestCase):
    def test_all_at_once_as_alone(self):
        script = self.script(PROGRAM)
        folder = script.parent
        alone = harness.run("-q", "-n", "1", "--seed", "9", script, script)
        self.assertEqual((alone.status, alone.err), (0, ""))
        self.forget(folder)
        words = ["-q", "-n", "3", "--seed", "9", "--scoop", "--task-timeout", "30", "--resume", folder / "journal",
                 "--report", folder / "run.html", "--trace", folder / "run.json", f"--profile={folder / 'profile'}",
                 "--ssh-executable", "env WHERE={host}", "--host", "a", "b", "--", script, script]
        for number in range(2):                    # the second time, from the journal
            self.assertEqual(harness.run(*words), alone)
            names = [event["name"] for event in json.loads((folder / "run.json").read_text())["traceEvents"]]
            self.assertEqual(names.count("death") > 0, number == 0)
            self.assertEqual("work" in names, number == 0)
            self.assertIn("</html>", (folder / "run.html").read_text())
            self.forget(folder)
        for name in ("first", "second"):
            (folder / name).touch()                # nobody dies
        self.assertEqual(harness.run("-q", "--serial", "--seed", "9", "-c", PROGRAM, script), alone)

    def forget(self, folder):
        for name in ("first", "second", "ran"):
            if (folder / name).exists():
                (folder / name).unlink()


if __name__ == "__main__":
    unittest.main()
