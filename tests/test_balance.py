"""The line about a run whose tasks were not worth it, and the threads that libraries may use in workers."""
from __future__ import annotations

import unittest
from unittest import mock

from microscoop.balance import Balance
from microscoop.hosts import usable_cores
from tests import harness

SCRIPT = """
import os, time
from microscoop import futures
SEEN = os.environ.get("OMP_NUM_THREADS")        # before anything else could set it

def nap(seconds):
    time.sleep(seconds)

def threads(_):
    return SEEN, os.environ["OPENBLAS_NUM_THREADS"]

if __name__ == "__main__":
    print(SEEN, *set(futures.map(threads, range(9))))
    list(futures.map(nap, [0.1] * 6))
"""


class Verdict(unittest.TestCase):
    def verdict(self, *phases):
        """What is said after phases of (workers, seconds that it took, seconds of each piece of work)."""
        balance, now = Balance(), 100.0
        with mock.patch("time.monotonic", lambda: now):
            for workers, took, pieces in phases:
                balance.see(True, workers)
                now += took
                for seconds in pieces:
                    balance.result(seconds)
                balance.see(False, workers)
                now += 1000                        # nothing is given out meanwhile
        return balance.verdict()

    def test_work_that_takes_longer_than_giving_it_out_is_not_remarked_upon(self):
        self.assertEqual(self.verdict(), "")
        self.assertEqual(self.verdict((4, 1.9, [0.25] * 16)), "")
        self.assertEqual(self.verdict((4, 1.1, [1.0, 0.1])), "")                    # one long piece
        self.assertEqual(self.verdict(*[(4, 1.1, [1.0])] * 9), "")                  # one after the other

    def test_work_that_is_smaller_is(self):
        self.assertEqual(self.verdict((4, 2.5, [0.25] * 16)),
                         "The tasks took 4 s of work, and giving them out 1.5 s: larger tasks would suit better.")
        self.assertIn("0.0003 s of work", self.verdict(*[(4, 0.01, [0.0001])] * 3))

    def test_a_run_that_was_cut_off_is_not_judged_by_what_had_ended_before(self):
        balance, now = Balance(), 100.0
        with mock.patch("time.monotonic", lambda: now):
            balance.see(True, 4)
            balance.result(0.0001)
            now += 0.01
            balance.see(False, 4)
            self.assertIn("larger tasks", balance.verdict())
            balance.see(True, 4)
            self.assertEqual(balance.verdict(), "")


class Run(harness.TestCase):
    def test_libraries_get_a_share_of_the_cores_in_workers_unless_the_user_says_otherwise(self):
        script, share = self.script(SCRIPT), max(usable_cores() // 2, 1)
        unset = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
        result = harness.run("-v", "-n", "2", script, env=unset)
        self.assertEqual(result.out, "None ('%d', '%d')\n" % (share, share))
        self.assertIn("(OMP_NUM_THREADS and its kin) get %d a worker" % share, result.err)
        self.assertNotIn("larger tasks would suit better", result.err)
        result = harness.run("-n", "2", "--env", "OPENBLAS_NUM_THREADS=5", script,
                             env={**unset, "OMP_NUM_THREADS": "7"})
        self.assertEqual(result.out, "7 ('7', '5')\n")

    def test_a_run_of_tiny_tasks_is_told_so_in_one_line(self):
        result = harness.run("-n", "1", self.script("""
            from microscoop import futures
            if __name__ == "__main__":
                print(list(futures.map(abs, range(4))))
            """))
        self.assertEqual(result.err.count("larger tasks would suit better"), 1, result.err)


if __name__ == "__main__":
    unittest.main()
