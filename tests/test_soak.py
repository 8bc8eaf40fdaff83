"""A few seconds of tests/soak.py; a minute of it is a step of its own in .ci/run."""
from __future__ import annotations

import os
import unittest

from tests import harness, soak


@unittest.skipUnless(os.path.exists("/proc/self/statm"), "needs /proc")
class Soak(harness.TestCase):
    def test_some_seconds_of_killed_workers_change_no_result_and_leave_nothing(self) -> None:
        outcome = soak.soak(2, workers=4)
        self.assertEqual(outcome.faults, [], str(outcome))
        self.assertGreater(outcome.tasks, 300, str(outcome))
        self.assertGreater(outcome.kills, 5, str(outcome))


if __name__ == "__main__":
    unittest.main()
