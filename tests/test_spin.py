"""Who waits for what should be here in a moment does so awake, but not for long, nor after a wait that was long."""
from __future__ import annotations

import os
import unittest
from typing import Any, List
from unittest import mock

from microscoop.spin import OFTEN, SHORT, Spin


class Waiting(unittest.TestCase):
    def setUp(self) -> None:
        self.now, self.spin, self.yields = 0.0, Spin(), 0
        for name, fake in (("time.monotonic", lambda: self.now), ("os.sched_yield", self.sched_yield)):
            patch = mock.patch(name, fake)
            patch.start()
            self.addCleanup(patch.stop)

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += SHORT / 10

    def wait(self, seconds: float, limit: Any = None, may_spin: bool = True) -> List[Any]:
        """Wait for what comes after so many seconds; what `poll` was asked to wait each time."""
        asked, comes = [], self.now + seconds

        def poll(limit: Any) -> List[str]:
            asked.append(limit)
            if limit != 0:
                self.now = max(comes, self.now) if limit is None else min(comes, self.now + limit)
            return ["it"] if self.now >= comes else []

        self.assertEqual(self.spin.wait(poll, limit, may_spin), ["it"] if limit is None else [])
        return asked

    def warm_up(self) -> None:
        for _ in range(OFTEN):
            self.assertEqual(self.wait(SHORT / 2), [None])

    def test_after_short_waits_one_is_awake_and_lets_others_run(self) -> None:
        self.warm_up()
        for _ in range(3):
            self.assertEqual(set(self.wait(SHORT / 2)), {0})
        self.assertEqual(self.yields, 15)

    def test_what_takes_longer_is_waited_for_asleep_and_so_is_what_follows(self) -> None:
        self.warm_up()
        asked = self.wait(5)
        self.assertEqual((set(asked[:-1]), asked[-1]), ({0}, None))
        self.assertLessEqual(self.yields, 11)
        self.warm_up()
        self.assertEqual(set(self.wait(SHORT / 2)), {0})

    def test_what_does_not_come_at_all_is_no_reason_to_stay_awake(self) -> None:
        for _ in range(2 * OFTEN):
            self.assertEqual(self.wait(5, limit=SHORT / 2), [SHORT / 2])

    def test_where_nobody_may_spin_or_the_system_forbids_it_one_sleeps(self) -> None:
        self.warm_up()
        self.assertEqual(self.wait(SHORT / 2, may_spin=False), [None])
        with mock.patch("os.sched_yield", side_effect=PermissionError):
            self.assertEqual(self.wait(SHORT / 2), [None])
        with mock.patch.object(os, "sched_yield"):
            del os.sched_yield
            self.assertEqual(self.wait(SHORT / 2), [None])


if __name__ == "__main__":
    unittest.main()
