"""One argument and one result of 3 GiB: they go through, and nobody but their two ends holds them."""
from __future__ import annotations

import os
import unittest

from tests import harness

NEEDED = 16 << 30          # bytes of memory: each end holds a value and its pickle
SCRIPT = """
import os
from microscoop import futures

SIZE = 3 << 30

def take(data):
    return len(data), data[0], data[SIZE // 2], data[-1]

def give(letter):
    return letter * SIZE

def peak(pid):                  # MiB that it ever used
    with open("/proc/%d/status" % pid) as file:
        return int(file.read().partition("VmHWM:")[2].split()[0]) // 1024

def parent(pid):
    with open("/proc/%d/stat" % pid) as file:
        return int(file.read().rpartition(")")[2].split()[1])

if __name__ == "__main__":
    print(futures.submit(take, b"a" * SIZE).result() == (SIZE, 97, 97, 97))
    print(take(futures.submit(give, b"b").result()) == (SIZE, 98, 98, 98))
    agent = futures.submit(os.getppid).result()
    print(peak(agent), peak(parent(os.getppid())))
"""


def memory() -> int:
    """Bytes that this machine has to give now."""
    try:
        with open("/proc/meminfo") as file:
            return int(file.read().partition("MemAvailable:")[2].split()[0]) << 10
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Large(harness.TestCase):
    @harness.slow
    @unittest.skipIf(memory() < NEEDED, "needs 16 GiB of free memory")
    def test_three_gibibytes_go_through_and_launcher_and_agent_stay_small(self):
        words = ("-n", "1", "--ssh-executable", "env WHERE={host}", "--host", "a")
        result = harness.run("-q", *words, "--", self.script(SCRIPT), timeout=400)
        took, gave, peaks = result.out.splitlines()
        self.assertEqual((took, gave, result.err), ("True", "True", ""))
        self.assertLess(max(map(int, peaks.split())), 64)


if __name__ == "__main__":
    unittest.main()
