"""Functions that carry data: each travels to a host once for a map, whatever happens on the way."""
from __future__ import annotations

import os
import random
import unittest
from typing import Any, Dict, List, Tuple

from microscoop.cache import Cache
from microscoop.protocol import INLINE, KEPT, WINDOW, Drop, Piece, Pull
from tests import harness

SIZE = 3 * WINDOW + 12345

SCRIPT = """
import os, sys, time
from functools import partial
from microscoop import futures

def size(data, number):
    time.sleep(0.002)
    return len(data) + number, os.getpid()

class Adder:
    def __init__(self, text):
        self.text = text
    def add(self, number):
        return self.text[:3] + str(number)

def nested(number):
    big = partial(size, bytes(100000 + number))
    return [value for value, _ in futures.map(big, range(20))]

def parent(pid):
    with open("/proc/%d/stat" % pid) as file:
        return int(file.read().rpartition(")")[2].split()[1])

def written():  # by the launcher
    with open("/proc/%d/io" % parent(os.getppid())) as file:
        return int(file.read().partition("wchar: ")[2].split()[0])

if __name__ == "__main__":
    data = os.urandom(5000000)
    before = written()
    found = list(futures.map(partial(size, data), range(300)))
    print([value for value, _ in found] == [5000000 + number for number in range(300)], len({pid for _, pid in found}))
    print(round((written() - before) / len(data), 1))
    adder = Adder("abc" * 50000)
    print(list(futures.map(adder.add, range(3))))
    adder.text = "xyz" * 50000
    print(list(futures.map(adder.add, range(3))))
    print(list(futures.map(nested, range(4))) == [[100000 + n + i for i in range(20)] for n in range(4)])
    print(futures.submit(adder.add, 7).result(), next(futures.map(partial(size, data), iter([1, 2])))[0])
"""


class Run(harness.TestCase):
    @unittest.skipUnless(os.path.isdir("/proc/self"), "counts the launcher's bytes in /proc")
    def test_a_function_with_data_goes_to_each_host_once_and_anew_when_it_has_changed(self):
        words = [("-n", "3"), ("-n", "4", "--ssh-executable", "env WHERE={host}", "--host", "a", "b", "--")]
        results = harness.at_once(lambda options: harness.run("-q", *options, self.script(SCRIPT)), words)
        for result, workers, times in zip(results, (3, 4), (0.0, 2.0)):
            with self.subTest(workers=workers):
                self.assertEqual((result.out.splitlines(), result.err), ([
                    "True %d" % workers, str(times), "['abc0', 'abc1', 'abc2']", "['xyz0', 'xyz1', 'xyz2']", "True",
                    "xyz7 5000001"], ""))


class Host:
    """Workers that pull one stream through a cache from an owner that has it, message by message, in random order."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.content = self.dice.getrandbits(8 * SIZE).to_bytes(SIZE, "big")
        self.cache = Cache(lambda process, message: self.way.append((process, message)),
                           lambda process, message: self.got[process].append(message))
        self.way: List[Tuple[int, Any]] = []       # to the owner
        self.back: List[Tuple[int, Any]] = []      # from there
        self.got: Dict[int, List[Any]] = {}
        self.data: Dict[int, bytearray] = {}
        self.given: Dict[int, int] = {}
        self.sent = 0

    def ask(self, process: int) -> None:
        upto = min(len(self.data[process]) + WINDOW, SIZE)
        self.cache.pull(process, Pull(7, process, 7, 1, KEPT, upto))

    def begin(self, process: int) -> None:
        self.got[process], self.data[process] = [], bytearray()
        self.ask(process)

    def step(self) -> None:
        """One message goes on."""
        kinds = [kind for kind in (self.way, self.back, *self.got.values()) if kind]
        kind = self.dice.choice(kinds)
        if kind is self.way:
            process, pull = self.way.pop(0)
            if process in self.got:                # the broker passes on what a living process asks
                for at in range(self.given.get(process, 0), pull.upto, INLINE):
                    piece = self.content[at:min(at + INLINE, pull.upto)]
                    self.back.append((process, Piece(7, 7, 1, KEPT, piece)))
                    self.sent += len(piece)
                self.given[process] = pull.upto
        elif kind is self.back:
            process, message = self.back.pop(0)
            if process in self.got and self.cache.hear(process, message):
                self.got[process].append(message)
        else:
            process = next(p for p, messages in self.got.items() if messages is kind)
            self.data[process] += kind.pop(0).body
            if len(self.data[process]) < SIZE and len(self.data[process]) % WINDOW == 0:
                self.ask(process)

    def kill(self, process: int) -> None:
        del self.got[process]
        self.cache.gone(process)

    def finish(self) -> None:
        while self.way or self.back or any(self.got.values()):
            self.step()


class Fetching(unittest.TestCase):
    def test_all_who_ask_get_it_whole_and_it_comes_once(self):
        host = Host(1)
        for process in (1, 2, 3):
            host.begin(process)
        host.finish()
        host.begin(4)
        host.finish()
        self.assertEqual([data == host.content for data in host.data.values()], [True] * 4)
        self.assertEqual(host.sent, SIZE)

    def test_when_the_one_in_whose_name_it_is_asked_dies_another_takes_its_place(self):
        for seed in range(5):
            host = Host(seed)
            for process in (1, 2, 3):
                host.begin(process)
            for _ in range(host.dice.randrange(150)):
                host.step()
            host.kill(1)
            host.finish()
            self.assertEqual([host.data[process] == host.content for process in (2, 3)], [True] * 2)
            self.assertLessEqual(host.sent, 2 * SIZE)

    def test_nothing_is_kept_when_nobody_wants_it_or_all_who_asked_are_dead(self):
        for end in (lambda host: host.cache.hear(1, Drop(7, 1)), lambda host: host.cache.hear(1, Drop(7, 0)),
                    lambda host: host.kill(1)):
            host = Host(1)
            host.begin(1)
            host.finish()
            end(host)
            host.given.clear()
            host.begin(1)
            host.finish()
            self.assertEqual(host.sent, 2 * SIZE)


if __name__ == "__main__":
    unittest.main()
