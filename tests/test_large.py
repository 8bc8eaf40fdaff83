"""Bodies too large for one frame: what holds them, and for how long; up to 3 GiB."""
from __future__ import annotations

import os
import sys
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

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.executable, [sys.executable, "-m", "microscoop", *sys.argv[1:]])
"""
DESCRIPTORS = """
import os, warnings
from microscoop import futures

warnings.simplefilter("ignore", DeprecationWarning)        # of forks where there are threads
BODY = bytes(300000)

def memories():                 # descriptors of ours that hold a body
    places = map("/proc/self/fd/%s".__mod__, os.listdir("/proc/self/fd"))
    return sum("memfd:microscoop" in os.readlink(place) for place in places if os.path.islink(place))

def echo(body):
    return body

def nest(times):
    for _ in range(times):
        assert list(futures.map(echo, [BODY] * 12)) == [BODY] * 12
    return memories()

def in_child():
    ours, theirs = os.pipe()
    if not os.fork():
        os.write(theirs, b"%d" % memories())
        os._exit(0)
    os.wait()
    return os.read(ours, 9).decode()

if __name__ == "__main__":
    print(nest(3), in_child())
    print(futures.submit(nest, 20).result())
"""


def memory() -> int:
    """Bytes that this machine has to give now."""
    try:
        with open("/proc/meminfo") as file:
            return int(file.read().partition("MemAvailable:")[2].split()[0]) << 10
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Large(harness.TestCase):
    @unittest.skipUnless(hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"), "bodies lie nowhere here")
    def test_bodies_leave_no_descriptors_behind_and_most_of_those_to_the_user(self):
        result = harness.plain("-c", LIMITED, "-q", "-n", "1", self.script(DESCRIPTORS))
        self.assertEqual((result.err, result.status), ("", 0))
        in_script, in_child, nested = result.out.split()
        self.assertLessEqual(int(in_child), 1)             # the one that the reader thread was just looking into
        self.assertTrue(0 < int(in_script) <= 16 and int(nested) <= 16, result.out)

    @unittest.skipUnless(sys.platform == "linux", "the limit is known to be kept on Linux")
    def test_a_result_that_does_not_fit_here_is_that_item_s_error(self):
        script = self.script("""
import resource, sys
from microscoop import futures

def give(size):
    return b"x" * size

if __name__ == "__main__":
    print(futures.submit(give, 3).result())
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20), resource.RLIM_INFINITY))
    try:
        futures.submit(give, 80 << 20).result()
    except MemoryError as error:
        print(error)
    try:
        print(list(futures.map(give, [1, 80 << 20, 2])))
    except MemoryError as error:
        print(error)
    print(futures.submit(give, 2).result())
""")
        words = "there is no memory here for a result of 8"
        for left in ("60", "100"):                         # MiB: it cannot even be opened, or not unpickled
            result = harness.run("-q", "-n", "1", script, left)
            self.assertEqual((result.status, result.out.count(words), result.out[:5], result.out[-6:], result.err),
                             (0, 2, "b'xxx", "b'xx'\n", ""), result.out)

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
