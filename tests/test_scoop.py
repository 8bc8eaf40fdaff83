"""--scoop: programs written for SCOOP, with its names and its conventions."""
from __future__ import annotations

import unittest

from tests import harness

SCRIPT = """
from __future__ import print_function
import operator, time
import scoop
import scoop.futures
from scoop import futures, shared
from scoop.futures import map as map_

def square(x):
    return x * x

def slow(x):
    time.sleep(x)
    return x

def tree(depth):
    return 1 if depth == 0 else sum(map_(tree, [depth - 1] * 2))

def constant(name):
    return shared.getConst(name), shared.getConst("nothing", timeout=0.01)

if __name__ == "__main__":
    print(list(futures.map(square, range(5), timeout=-1, callback=print)), list(map_(square, [7], timeout=20)))
    print(sorted(scoop.futures.map_as_completed(square, range(5), priority=3)))
    print(futures.mapReduce(square, operator.add, range(5)), list(futures.mapScan(square, operator.add, range(5))))
    future = futures.submit(slow, 0.3)
    print(len(futures.wait([future], timeout=0)[0]), future.exception(timeout=-1), future.result(timeout=-1))
    print(isinstance(future, futures.Future), len(futures.wait([future])[0]))
    print([one.result() for one in futures.as_completed([future], timeout=-1)], futures.submit(tree, 6).result())
    shared.setConst(table=[1, 2])
    print(futures.submit(constant, "table").result(), scoop.__version__)
    futures.wait([future], timeout=-1, return_when=futures.FIRST_COMPLETED)
"""
EXPECTED = """\
[0, 1, 4, 9, 16] [49]
[0, 1, 4, 9, 16]
30 [0, 1, 5, 14, 30]
0 None 0.3
True 1
[0.3] 64
([1, 2], None) 0.7
"""


class Programs(harness.TestCase):
    def test_a_program_for_scoop_runs_unedited_here_and_on_hosts(self):
        for options in (("-n", "2"), ("-n", "2", "--ssh-executable", "env WHERE={host}", "--host", "a", "b")):
            with self.subTest(options=options):
                result = harness.run(*options, "--scoop", self.script(SCRIPT))
                self.assertEqual((result.status, result.out), (0, EXPECTED), result.err)
                self.assertIn("RuntimeWarning: dropped what map does not know: callback", result.err)

    def test_without_the_option_there_is_no_such_module_of_ours(self):
        script = self.script("""
            import sys
            if __name__ == "__main__":
                print([name for name in sys.modules if name.startswith("scoop")])
            """)
        self.assertEqual(harness.run("-n", "1", script).out, "[]\n")


if __name__ == "__main__":
    unittest.main()
