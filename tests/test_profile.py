"""--profile: a cProfile file for each worker, and nothing of it is lost (test process)."""
from __future__ import annotations

import pstats
import sys
import unittest

from tests import harness

PROGRAM = """
import cProfile, os, pstats, signal, sys, time
from cProfile import Profile
from microscoop import futures

def child(x):
    return x

def parent(x):
    time.sleep(0.002)
    return sum(futures.map(child, range(5))) + futures.submit(child, x).result() + after(x)

def after(x):
    return 0

def profiling(x):
    with (cProfile.Profile if x % 2 else Profile)() as mine:
        hidden(x)
    after(x)
    return any(name == "hidden" for _, _, name in pstats.Stats(mine).stats)

def hidden(x):
    return x

def leaving_on(x):
    cProfile.Profile().enable()

def dying(path):
    if os.path.exists(path):
        return after(path)
    open(path, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    print(sum(futures.map(parent, range(30))))
    print(list(futures.map(profiling, range(6))))
    print(list(futures.map(leaving_on, range(2))), list(futures.map(dying, [__file__ + ".died"])))
    print(sum(futures.map(child, range(700))))
"""


class Profile(harness.TestCase):
    def test_every_call_of_every_worker_is_there(self):
        script = self.script(PROGRAM)
        folder = script.parent / "p" / "q"
        result = harness.run("-q", "-n", "3", f"--profile={folder}", script)
        self.assertEqual((result.status, result.err), (0, ""))
        self.assertEqual(result.out, f"735\n{[True] * 6}\n[None, None] [0]\n{350 * 699}\n")
        files = sorted(path.name for path in folder.iterdir())
        self.assertIn(len(files), (3, 4))          # that of the killed one too, and its successor's if it ran anything
        self.assertRegex(files[0], r"\A[\w.-]+-\d+\.prof\Z")
        stats = pstats.Stats(*map(str, folder.iterdir())).stats
        calls = {name: found[1] for (path, _, name), found in stats.items() if path == str(script)}
        expected = {"parent": 30, "profiling": 6, "dying": 1, "child": 30 * 6 + 700, "after": 30 + 6 + 1}
        inexact = ["parent"] if sys.version_info >= (3, 12) else []    # cProfile counts some of those that wait twice
        for name, count in expected.items():
            self.assertAlmostEqual(calls[name], count, delta=15 if name in inexact else 0, msg=name)
        self.assertNotIn("hidden", calls)
        callers = next(found[4] for (_, _, name), found in stats.items() if name == "after")
        self.assertIn("parent", [name for _, _, name in callers])

    def test_the_files_of_the_run_before_are_replaced_and_others_are_left(self):
        script = self.script("from microscoop import futures\n"
                             "if __name__ == '__main__':\n    list(futures.map(abs, range(3)))\n")
        folder = script.parent / "profile"
        folder.mkdir()
        for name in ("127.0.0.1-99.prof", "notes.txt", "mine.prof"):
            (folder / name).write_text("")
        result = harness.run("-q", "-n", "1", "--profile", script, cwd=script.parent)
        self.assertEqual((result.status, result.err), (0, ""))
        names = sorted(path.name for path in folder.iterdir())
        self.assertEqual(names[1:], ["mine.prof", "notes.txt"])
        self.assertNotEqual(names[0], "127.0.0.1-99.prof")

    def test_a_folder_that_cannot_be_used(self):
        script = self.script("")
        result = harness.run("-q", f"--profile={script}", script)
        self.assertEqual((result.status, result.err),
                         (2, f"microscoop: --profile: cannot use the folder {str(script)!r}: File exists\n"))


if __name__ == "__main__":
    unittest.main()
