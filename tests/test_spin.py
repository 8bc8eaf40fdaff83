"""Who waits for what should be here in a moment does so awake, but not for long, nor often in vain."""
from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any, List
from unittest import mock

from microscoop.spin import LOOKS, OFTEN, RARELY, SHORT, Spin
from tests import harness

CHAT = """
import os, time
from microscoop import futures

def chat(lines):
    for _ in range(lines):
        print("a line", flush=True)
        time.sleep(0.0005)

def used(process):
    with open("/proc/%d/schedstat" % process) as file:
        return int(file.read().split()[0]) / 1e9

if __name__ == "__main__":
    with open("/proc/%d/stat" % os.getppid()) as file:
        launcher = int(file.read().rpartition(")")[2].split()[1])       # its child is the agent, our parent
    for _ in range(30):
        futures.submit(abs, 1).result()
    before, began = used(launcher), time.monotonic()
    futures.submit(chat, 800).result()
    print((used(launcher) - before) / (time.monotonic() - began))
"""


class Waiting(unittest.TestCase):
    def setUp(self) -> None:
        self.now, self.spin, self.yields = 0.0, Spin(), 0
        for name, fake in (("time.monotonic", lambda: self.now), ("microscoop.spin.YIELD", self.sched_yield)):
            patch = mock.patch(name, fake)
            patch.start()
            self.addCleanup(patch.stop)

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += SHORT / 10

    def wait(self, seconds: float, limit: Any = None) -> List[Any]:
        """Wait for what comes after so many seconds; what `poll` was asked to wait each time."""
        asked, comes = [], self.now + seconds

        def poll(limit: Any) -> List[str]:
            asked.append(limit)
            if limit != 0:
                self.now = comes if limit is None else min(comes, self.now + limit)
            return ["it"] if self.now >= comes else []

        self.assertEqual(self.spin.wait(poll, limit), ["it"] if limit is None else [])
        return asked

    def asleep(self) -> int:
        """So many short waits are asleep before the first that is awake."""
        count = 0
        while self.wait(SHORT / 2) == [None]:
            count += 1
        return count

    def test_after_short_waits_one_is_awake_and_lets_others_run(self) -> None:
        self.assertEqual(self.asleep(), OFTEN)
        self.yields = 0
        for _ in range(3):
            self.assertEqual(set(self.wait(SHORT / 2)), {0})
        self.assertEqual(self.yields, 15)

    def test_what_takes_longer_is_waited_for_asleep_and_so_is_what_follows(self) -> None:
        self.asleep()
        self.yields = 0
        asked = self.wait(5)
        self.assertEqual((set(asked[:-1]), asked[-1]), ({0}, None))
        self.assertLessEqual(self.yields, 11)
        self.assertEqual(self.asleep(), 2 * OFTEN)

    def test_where_it_is_in_vain_again_and_again_it_becomes_rare_until_it_is_not(self) -> None:
        for _ in range(10):
            enough = self.asleep()
            self.wait(5)
        self.assertEqual(enough, RARELY)
        self.asleep()
        for _ in range(RARELY):
            self.assertEqual(set(self.wait(SHORT / 2)), {0})
        self.wait(5)
        self.assertEqual(self.asleep(), 2 * OFTEN)

    def test_what_does_not_come_at_all_is_no_reason_to_stay_awake(self) -> None:
        for _ in range(2 * OFTEN):
            self.assertEqual(self.wait(5, limit=SHORT / 2), [SHORT / 2])

    def test_where_the_system_forbids_it_or_does_not_have_it_one_sleeps(self) -> None:
        self.asleep()
        for nothing in (mock.Mock(side_effect=PermissionError), None):
            with mock.patch("microscoop.spin.YIELD", nothing):
                self.assertEqual(self.wait(SHORT / 2), [None])

    def test_a_clock_that_stands_still_does_not_keep_one_awake(self) -> None:
        self.asleep()
        with mock.patch("microscoop.spin.YIELD"):
            self.assertEqual(self.wait(5), [0] * LOOKS + [None])


class Run(harness.TestCase):
    @unittest.skipUnless(Path("/proc/self/schedstat").exists(), "who used what is read in /proc")
    def test_a_task_that_prints_often_does_not_keep_the_launcher_awake(self) -> None:
        result = harness.run("-q", "-n", "2", self.script(CHAT))
        *lines, share = result.out.splitlines()
        self.assertEqual(lines, ["a line"] * 800)
        self.assertLess(float(share), 0.5, result.out[-50:])


if __name__ == "__main__":
    unittest.main()
