"""shared.setConst and getConst: every task gets the value, wherever and whenever its worker began."""
from __future__ import annotations

import os
import unittest

from microscoop import hooks
from microscoop.broker import Heard, ProcessDied, ProcessUp
from microscoop.leaves import constants
from microscoop.leaves.board import Board
from microscoop.leaves.constants import Const, Named, decode, encode
from microscoop.protocol import Remark
from tests import harness
from tests.test_broker import Office, sent
from tests.test_large import LIMITED

SCRIPT = """
import os, signal, sys, threading, time
from concurrent.futures import TimeoutError
from microscoop import futures, shared

def length(number):
    return len(shared.getConst("table")) + number

def sets(text):
    shared.setConst(late=text)
    return shared.getConst("late")

def waits(seconds):
    return shared.getConst("late", timeout=seconds)

def dies_once(flag):
    shared.setConst(mortal=[1, 2])
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return shared.getConst("mortal")

def said(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)

if __name__ == "__main__":
    shared.setConst(table=list(range(300000)), other="a")
    print(list(futures.map(length, range(6))), shared.getConst("other"))
    waiting = [futures.submit(waits, 20) for _ in range(2)] if len(sys.argv) > 1 else []
    print(futures.submit(sets, "text").result(), [future.result() for future in waiting], shared.getConst("late", 5))
    print(said(shared.setConst, table=1))
    print(said(futures.submit(sets, "text").result))
    print(said(shared.getConst, "nothing", timeout=0.01))
    print(said(shared.getConst, 5))
    print(said(shared.setConst, bad=threading.Lock()))
    if len(sys.argv) > 1:
        print(futures.submit(dies_once, sys.argv[1]).result(), shared.getConst("mortal", 5))
        print(list(futures.map(length, range(6))))
"""
MANY = """
import os
from microscoop import futures, shared

def memories():
    places = map("/proc/self/fd/%s".__mod__, os.listdir("/proc/self/fd"))
    return sum("memfd:microscoop" in os.readlink(place) for place in places if os.path.islink(place))

def gets(_):
    return [shared.getConst("c%d" % number, 5)[0] for number in range(30)], memories()

if __name__ == "__main__":
    for number in range(30):
        shared.setConst(**{"c%d" % number: bytes([number]) * 300000})
    got, in_worker = futures.submit(gets, 0).result()
    print(got == list(range(30)), in_worker, memories())
"""
SAME = [
    "[300000, 300001, 300002, 300003, 300004, 300005] a",
    "text {} text",
    "TypeError: the constant table is set already: a name gets its value once in a run",
    "TypeError: the constant late is set already: a name gets its value once in a run",
    "TimeoutError: nobody has set the constant nothing within 0.01 s",
    "TypeError: getConst takes the name of a constant, a str, not 5"]
LATER = ["[1, 2] [1, 2]", "[300000, 300001, 300002, 300003, 300004, 300005]"]


class Constants(harness.AtOnce):
    def lines(self, result):
        lines = result.out.splitlines()
        self.assertIn("the constant bad cannot be pickled", lines.pop(6))
        return lines

    def test_every_worker_here_and_elsewhere_has_them_also_one_that_comes_later(self):
        places = (("-n", "3"), ("-n", "4", "--ssh-executable", "env WHERE={host}", "--host", "a", "b", "--"))
        script = self.script(SCRIPT)
        results = harness.at_once(lambda options: harness.run(
            "-q", *options, script, script.parent / ("flag%d" % len(options))), places)
        for options, result in zip(places, results):
            with self.subTest(options=options):
                waited = ["text", "text"]
                self.assertEqual(self.lines(result), [line.format(waited) for line in SAME] + LATER, result.err)

    @unittest.skipUnless(hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"), "bodies lie nowhere here")
    def test_large_ones_leave_most_descriptors_to_the_user(self):
        result = harness.plain("-c", LIMITED, "-q", "-n", "1", self.script(MANY))
        arrived, in_worker, kept = result.out.split()
        self.assertEqual((arrived, result.err), ("True", ""))
        self.assertTrue(int(in_worker) <= 16 and int(kept) <= 16, result.out)

    def test_without_the_launcher_they_are_here(self):
        result = harness.plain("-W", "ignore", self.script(SCRIPT))
        self.assertEqual(self.lines(result), [line.format([]) for line in SAME], result.err)

    def test_asking_while_a_script_is_loaded_gets_the_advice(self):
        result = harness.run("-n", "1", self.script("""
            from microscoop import futures, shared
            if __name__ == "__main__":
                futures.submit(abs, 1).result()
            else:
                shared.getConst("a")
            """))
        self.assertIn('if __name__ == "__main__":', result.err)


class Names(unittest.TestCase):
    def setUp(self):
        self.office = Office(2)
        self.first, self.second = self.office.workers
        self.board = Board(self.office.broker.processes)

    def set(self, process, digest=5, copy=0):
        """Whether the name is granted (None: no answer), and to whom what is announced as (owner, size)."""
        return self.tell(Heard(process, encode(Const(process, 1, 10, digest, copy, b"", b"name"))))

    def tell(self, event):
        """The same after any event."""
        actions = self.office.tell(event)
        self.board.see(event, actions)
        self.said = [(to, decode(message.body)) for to, message in sent(actions, Remark)]
        answers = [bool(message.ours) for _, message in self.said if isinstance(message, Named)]
        return answers[0] if answers else None, {
            to: (message.owner, message.size) for to, message in self.said if isinstance(message, Const)}

    def test_a_name_is_granted_once_and_all_are_told_who_has_it_also_those_that_come_later(self):
        everybody = (self.office.origin, self.first, self.second)
        self.assertEqual(self.set(self.first), (None, dict.fromkeys(everybody, (self.first, 10))))
        self.assertEqual([self.set(self.first), self.set(self.second, 6)], [(False, {})] * 2)
        self.assertEqual(self.set(self.office.origin, copy=1)[0], True)
        self.assertEqual([to for to, message in self.said if isinstance(message, Named)], [self.first])
        self.assertEqual(self.set(self.office.origin, copy=1)[0], None)
        late, = self.office.host("far", 1)
        self.assertEqual(self.tell(ProcessUp(late)), (None, {late: (self.office.origin, 10)}))
        self.assertEqual(self.said[0][1].name, b"name")

    def test_a_copy_that_comes_after_its_setter_s_death_leaves_the_name_to_another_attempt_of_that_task(self):
        self.set(self.first)
        self.tell(ProcessDied(self.first, "h\nended", ()))
        self.set(self.office.origin, copy=1)
        self.assertEqual([self.set(self.second, 6)[0], self.set(self.second)[0]], [False, True])

    def test_the_origin_copies_and_then_the_value_outlives_its_setter_who_may_try_again(self):
        self.set(self.first)
        origin = self.office.origin
        everybody = (origin, self.first, self.second)
        self.assertEqual(self.set(origin, copy=1), (True, dict.fromkeys(everybody, (origin, 10))))
        self.assertEqual(self.tell(ProcessDied(self.first, "h\nended", ()))[1], {})
        self.assertEqual([self.set(self.second, 6)[0], self.set(self.second)[0], self.set(origin)[0]],
                         [False, True, False])

    def test_a_name_whose_owner_dies_before_that_is_free_again(self):
        self.set(self.first)
        self.assertEqual(self.tell(ProcessDied(self.first, "h\nended", ()))[1],
                         dict.fromkeys((self.office.origin, self.second), (self.first, 0)))
        self.assertEqual(self.set(self.second, 6)[1],
                         dict.fromkeys((self.office.origin, self.second), (self.second, 10)))

    def test_remarks_that_are_not_of_their_making_are_nothing_to_them(self):
        whole = encode(Const(1, 2, 3, 4, 0, b"", b"name")).body
        self.assertEqual(decode(whole), Const(1, 2, 3, 4, 0, bytes(16), b"name"))
        self.assertEqual([decode(body) for body in (b"", b"record ...", whole[:20], whole[:10])], [None] * 4)
        self.assertEqual(hooks.speaker(whole), constants)
        for body in (b"", b"record ", b"nobody\0", bytes(9), b"\xff\0"):
            self.assertIsNone(hooks.speaker(body))


if __name__ == "__main__":
    unittest.main()
