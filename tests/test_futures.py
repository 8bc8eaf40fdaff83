"""microscoop.futures as scripts see it: the cases of semantics.py on 1, 3 and 6 workers, and what needs a whole run."""
from __future__ import annotations

import importlib.util
import os
import pickle
import re
import sys
import threading
import time
import unittest
from pathlib import Path
from types import SimpleNamespace

from microscoop import calls, protocol, workers
from tests import harness, semantics

SCRIPT = harness.ROOT / "tests" / "semantics.py"
CASE = re.compile(r"^(ok|FAIL|skip) (\w+\.\w+) [\d.]+\n((?:    .*\n)*)", re.MULTILINE)


class Shared(harness.TestCase):
    """One run of semantics.py, and a test for each of its cases. The runs of all such classes go on at once."""

    workers = 0  # 0: a ThreadPoolExecutor
    kinds = [kind for kind in vars(semantics).values() if isinstance(kind, type) and issubclass(kind, semantics.Case)]
    out = None

    @classmethod
    def setUpClass(cls):
        if cls.out is None:
            for kind, run in [(kind, kind.start()) for kind in Shared.__subclasses__()]:
                kind.hear(run)

    @classmethod
    def start(cls):
        if not cls.workers:
            return harness.Run([sys.executable, SCRIPT])
        words = [f".{kind.__name__}." for kind in cls.kinds]
        return harness.start("-q", "-n", str(cls.workers), SCRIPT, str(cls.workers), *words)

    @classmethod
    def hear(cls, run):
        try:
            result, cls.trouble = run.finish(100), ""
        except harness.TooSlow as error:
            result, cls.trouble = error, str(error)
        cls.out, cls.err = result.out, result.err
        cls.cases = {name: (word, text) for word, name, text in CASE.findall(cls.out)}

    def setUp(self):
        """The cases only look up what was said; what is left is looked for once."""

    def check(self, name):
        word, text = self.cases.get(name, ("skip", "not run; see test_the_run_itself"))
        if word == "skip":
            self.skipTest(text.strip())
        if word == "FAIL":
            self.fail(f"{name}\n{text}")

    def check_the_run_itself(self):
        super().setUp()
        pool = f"microscoop.futures, {self.workers} workers" if self.workers else "ThreadPoolExecutor, 3 workers"
        self.assertEqual(self.trouble, "")
        self.assertEqual((self.out.splitlines() or [""])[0], f"pool {pool}", self.err[-3000:])
        self.assertEqual(self.out[-6:], "\ndone\n", self.err[-3000:])
        self.assertEqual([name for name in self.names if name not in self.cases], [], "not run")

    def check_that_errors_in_callbacks_are_logged(self):
        for text in ("exception calling callback for <Future", "ZeroDivisionError"):
            self.assertEqual(text in self.err, semantics.Pep3148 in self.kinds, self.err[-3000:])

    def __init_subclass__(cls):
        cls.test_the_run_itself = cls.check_the_run_itself
        cls.test_errors_in_callbacks_are_logged = cls.check_that_errors_in_callbacks_are_logged
        cls.names = []
        for kind in cls.kinds:
            for name in semantics.names(kind, cls.workers or 3):
                cls.names.append(f"{kind.__name__}.{name}")
                words = name.replace("test_", f"test_{kind.__name__}_", 1)
                setattr(cls, words, lambda self, case=cls.names[-1]: self.check(case))


class OnAThreadPool(Shared):
    """The standard library is the oracle for what is PEP 3148's."""
    kinds = [semantics.Pep3148]


class OnOneWorker(Shared):
    workers = 1


class OnThreeWorkers(Shared):
    """These take longest: some cases are run here only."""
    workers = 3
    kinds = [semantics.Inputs, semantics.Maps, semantics.Copies, semantics.Names]


class OnThreeWorkersToo(Shared):
    workers = 3
    kinds = [kind for kind in Shared.kinds if kind not in OnThreeWorkers.kinds]


class OnSixWorkers(Shared):
    workers = 6


HEAD = "import os, sys, time\nfrom microscoop import futures\n"


class Scripts(harness.AtOnce):
    def go(self, text, *args, n=3, options=("-q",), **more):
        path = self.script(HEAD + text)
        return harness.run(*options, "-n", str(n), str(path), *args, **{"timeout": 20, **more})


SLOW_NOTES = """
def slow(n):
    time.sleep(0.1)
    open(sys.argv[1], "a").write("%d\\n" % n)
    return n
"""


class EndOfScript(Scripts):
    """What is open when the script ends."""

    def setUp(self):
        super().setUp()
        self.folder = self.script("").parent

    def notes(self, name="notes"):
        self.path = self.folder / name
        return str(self.path)

    def test_open_tasks_are_finished_and_their_callbacks_run(self):
        result = self.go(SLOW_NOTES + """
if __name__ == "__main__":
    for n in range(7):
        futures.submit(slow, n).add_done_callback(lambda future: print("called", future.result()))
    futures.map(slow, range(7, 9))
    print("the script ends")
""", self.notes())
        self.assertEqual(sorted(self.path.read_text().split()), [str(n) for n in range(9)])
        self.assertEqual(sorted(result.out.splitlines()), [*(f"called {n}" for n in range(7)), "the script ends"])
        self.assertEqual((result.status, result.err), (0, ""))

    def test_a_map_that_was_never_read_is_told_of_also_if_it_is_kept(self):
        result = self.go("""
import itertools
if __name__ == "__main__":
    kept, read = futures.map(abs, itertools.count()), futures.map(abs, itertools.count())
    next(read), futures.map(abs, itertools.count()), futures.map(abs, iter([1, 2]))
""")
        self.assertRegex(result.err, r"\A(microscoop: a map .* was never read: it ran for \d+ items\n){2}\Z")
        self.assertEqual(result.status, 0)

    def test_a_map_that_was_interrupted_before_anybody_had_it_is_dropped(self):
        result = self.go("""
import itertools
def interrupted():
    yield from range(1000)
    raise KeyboardInterrupt
if __name__ == "__main__":
    futures.FIRST_PULL = 60                         # seconds, so that it comes within the call on a busy machine too
    for times in range(3):
        try:
            futures.map(abs, interrupted())
        except KeyboardInterrupt:
            print("interrupted")
""")
        self.assertEqual(result, (0, "interrupted\n" * 3, ""))

    def test_a_script_that_could_have_no_thread_ends_or_asks_again(self):
        text = """
from microscoop import owner
if __name__ == "__main__":
    start = owner.start_new_thread
    def refuse(*_):
        raise RuntimeError("can't start new thread")
    owner.start_new_thread = refuse
    try:
        futures.submit(abs, -1)
    except RuntimeError as error:
        print(error)
    owner.start_new_thread = start
    if sys.argv[1:]:
        print(list(futures.map(abs, range(-2, 0))))
"""
        refused = "can't start new thread\n"
        self.assertEqual(self.go(text), (0, refused, ""))
        self.assertEqual(self.go(text, "again"), (0, refused + "[2, 1]\n", ""))

    def test_children_of_open_tasks_are_finished_too(self):
        self.go(SLOW_NOTES + """
def parent(n):
    futures.submit(slow, n)                       # nobody waits for this one
    return futures.submit(slow, n + 1).result()
if __name__ == "__main__":
    futures.submit(parent, 1)
    futures.submit(parent, 11)
""", self.notes(), n=1)
        self.assertEqual(sorted(self.path.read_text().split()), ["1", "11", "12", "2"])

    def test_what_a_callback_submits_is_finished_too(self):
        self.go(SLOW_NOTES + """
if __name__ == "__main__":
    futures.submit(slow, 1).add_done_callback(lambda future: futures.submit(slow, 2))
""", self.notes())
        self.assertEqual(self.path.read_text().split(), ["1", "2"])

    def test_callbacks_of_what_tasks_have_submitted_are_run_too(self):
        for n in 1, 3:
            result = self.go("""
import time
def nap(seconds):
    time.sleep(seconds)
    return seconds
def tell(future):
    nap(0.1)
    print("called", future.result())
def submit_more(future):
    futures.submit(nap, 0.03).add_done_callback(tell)
def task(function):
    futures.submit(nap, 0.02).add_done_callback(function)
if __name__ == "__main__":
    print(len(list(futures.map(task, [tell, tell, submit_more]))))
""", n=n)
            self.assertEqual(sorted(result.out.splitlines()), ["3", "called 0.02", "called 0.02", "called 0.03"])
            self.assertEqual((result.status, result.err), (0, ""))

    def test_tasks_may_shut_down_while_their_callbacks_wait(self):
        for n in 1, 2:
            result = self.go("""
def wait(future):
    futures.submit(abs, -7).result()
def task(number):
    futures.submit(abs, number).add_done_callback(wait)
    futures.shutdown()
    return number
if __name__ == "__main__":
    print(list(futures.map(task, range(5))))
""", n=n)
            self.assertEqual(result, (0, "[0, 1, 2, 3, 4]\n", ""))

    def test_errors_that_no_task_has_read_go_to_stderr_and_change_no_status(self):
        for n in 1, 3:
            result = self.go("""
def fail(text):
    raise ValueError(text)
def read(text):
    try:
        futures.submit(fail, text).result()
    except ValueError:
        futures.submit(fail, text).exception()
def unread(way):
    if way == "submitted":
        futures.submit(fail, way)
    elif way == "waited for":
        futures.wait([futures.submit(fail, way)])
    elif way == "kept":
        unread.kept = futures.submit(fail, "was read later")
    elif way == "read":
        unread.kept.exception()
    else:
        futures.map(fail, [way] if way == "a list" else iter([way]))
if __name__ == "__main__":
    futures.submit(read, "was read").result()
    for way in "submitted", "waited for", "a list", "an iterator":
        futures.submit(unread, way).result()
    if sys.argv[1] == "1":
        futures.submit(unread, "kept").result(), futures.submit(unread, "read").result()
    print("fine")
""", str(n), n=n)
            self.assert_ended(result, "fine\n")
            for text in ("submitted", "waited for", "a list", "an iterator"):
                self.assertEqual(result.err.count("\nValueError: " + text), 1, result.err)
            self.assertEqual(result.err.count("nobody looked"), 4, result.err)

    def test_errors_that_a_task_has_read_or_dropped_with_a_map_are_not_told(self):
        result = self.go("""
import gc
class Reader:
    def __init__(self, future):
        self.future, self.circle = future, self
    def __del__(self):                            # called after the weak references of the same collection
        self.future.exception()
def fail(number):
    if number != 1:
        raise ValueError(number)
def collect(number):
    unread = [futures.submit(fail, 2) for _ in range(100)]
    futures.wait(unread)
    gc.disable()
    while unread:
        Reader(unread.pop())
    gc.enable()
    gc.collect()
def leave(number):
    results = futures.map(fail, range(1, 10), chunksize=1)
    next(results)
    futures.shutdown()                            # so that the other outcomes are in
if __name__ == "__main__":
    for function in collect, leave:
        print(list(futures.map(function, range(2))))
""")
        self.assertEqual((result.status, result.out, result.err), (0, "[None, None]\n[None, None]\n", ""))

    def test_an_unread_error_ends_no_thread_where_stderr_and_the_excepthook_fail(self):
        result = self.go("""
class Broken:
    def write(self, text):
        raise RuntimeError("no")
    flush = write
def fail():
    raise ValueError("nobody read this")
def task(number):
    sys.stderr, sys.excepthook = Broken(), lambda *_: sys.stderr.write("no")
    futures.submit(fail)
    return futures.submit(abs, number).result()
if __name__ == "__main__":
    print(list(futures.map(task, range(4))))
""", n=1)
        self.assertEqual(result, (0, "[0, 1, 2, 3]\n", ""))

    def test_errors_that_nobody_read_go_to_stderr_and_change_no_status(self):
        result = self.go("""
def fail(text):
    raise ValueError(text)
if __name__ == "__main__":
    unread = futures.submit(fail, "nobody read this")
    futures.map(fail, ["nor this", "or that"])
    read, asked, seen = [futures.submit(fail, "was read by " + how) for how in ("result", "exception", "callback")]
    seen.add_done_callback(lambda future: future.exception())
    asked.exception()
    try:
        read.result()
    except ValueError:
        pass
    print("fine")
""")
        self.assert_ended(result, "fine\n")
        for text in ("nobody read this", "nor this", "or that"):
            self.assertEqual(result.err.count("ValueError: " + text), 1, result.err)
        self.assertIn("in fail", result.err)
        self.assertNotIn("was read by", result.err)

    def test_open_tasks_are_dropped_after_an_exception_a_nonzero_exit_or_an_interrupt(self):
        ends = (("raise ValueError('the end')", 1, "ValueError: the end"), ("sys.exit(3)", 3, ""),
                ("sys.exit('bye')", 1, "bye"), ("os._exit(4)", 4, ""),
                ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"))
        results = harness.at_once(lambda case: self.go(SLOW_NOTES + f"""
if __name__ == "__main__":
    opened = [futures.submit(slow, n) for n in range(80)]
    futures.map(slow, range(80, 100))
    opened[0].result()
    {case[0]}
""", self.notes(case[0]), n=2), ends)
        for (end, status, words), result in zip(ends, results):
            with self.subTest(end):
                self.assertEqual(result.status, status, result.err)
                self.assertIn(words, result.err)
                self.assertLess(len(Path(self.notes(end)).read_text().split()), 40)

    def test_open_tasks_are_finished_after_an_exit_with_status_zero(self):
        ends = ("sys.exit()", "sys.exit(0)", "sys.exit(None)")
        results = harness.at_once(lambda end: self.go(SLOW_NOTES + f"""
if __name__ == "__main__":
    futures.map(slow, range(5))
    {end}
""", self.notes(end)), ends)
        for end, result in zip(ends, results):
            with self.subTest(end):
                self.assert_ended(result, "")
                self.assertEqual(len(Path(self.notes(end)).read_text().split()), 5)

    def test_a_never_iterated_map_over_a_generator_runs_as_far_as_its_window_and_says_so_in_one_line(self):
        result = self.go("""
def note(n):
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\\n" % n)
    os.close(descriptor)
if __name__ == "__main__":
    futures.map(note, (n for n in range(30000)), buffersize=50)
    print("end")
""", self.notes(), options=())
        self.assert_ended(result, "end\n")
        done = sorted(map(int, self.path.read_text().split()))
        self.assertEqual(done, list(range(len(done))))
        self.assertTrue(1 <= len(done) <= 51, len(done))
        self.assertEqual(len([line for line in result.err.splitlines() if "map" in line]), 1, result.err)

    def test_a_never_iterated_map_over_a_range_or_list_says_nothing(self):
        result = self.go(SLOW_NOTES + """
if __name__ == "__main__":
    futures.map(slow, range(6))
    futures.map(slow, [6, 7, 8])
""", self.notes())
        self.assert_ended(result, "")
        self.assertEqual(result.err, "")
        self.assertEqual(len(self.path.read_text().split()), 9)

    def test_shutdown_waits_for_open_tasks(self):
        self.assert_ended(self.go(SLOW_NOTES + """
if __name__ == "__main__":
    opened = [futures.submit(slow, n) for n in range(5)]
    futures.shutdown()
    print([future.done() for future in opened])
""", self.notes()), f"{[True] * 5}\n")

    def test_an_atexit_function_may_still_read_what_is_done(self):
        self.assert_ended(self.go("""
import atexit
if __name__ == "__main__":
    future = futures.submit(abs, -5)
    atexit.register(lambda: print("at exit", future.done()))
    print(future.result())
"""), "5\nat exit True\n")


class SameAnswer(Scripts):
    PROGRAM = """
import functools, itertools, random
class Bag:
    def __init__(self):
        self.things = []
    def put(self, thing):
        self.things.append(thing)
        return self
def put(bag, thing):
    return bag.put(thing).things
def trouble(n):
    if n % 5 == 3:
        raise ValueError("no %d" % n)
    return n
def seeded(seed):
    return random.Random(seed).random()
def fib(n):
    if n < 2:
        return n
    left = futures.submit(fib, n - 1)
    return fib(n - 2) + left.result()
def spread(n):
    return list(futures.map(functools.partial(pow, n), range(4)))
if __name__ == "__main__":
    bag = Bag()
    print(list(futures.map(put, [bag] * 5, range(5))), bag.things)
    print(list(futures.map(put, itertools.repeat(bag), "abc")), bag.things)
    first, second = futures.submit(put, bag, 1), futures.submit(put, bag, 2)
    print(first.result(), second.result(), bag.things)
    results = futures.map(trouble, range(100))
    try:
        for value in results:
            print(value)
    except ValueError as error:
        print(repr(error))
    print([repr(futures.submit(trouble, n).exception()) for n in range(10)])
    print(list(futures.map(seeded, range(5))))
    print(futures.submit(fib, 9).result(), list(futures.map(spread, range(4))))
    print(sorted(futures.map_as_completed(abs, range(-5, 5))))
    futures_ = [futures.submit(abs, n) for n in range(4)]
    print(sorted(f.result() for f in futures.as_completed(futures_)), len(futures.wait(futures_).done))
"""

    def test_the_same_program_gives_the_same_answer_on_any_number_of_workers_and_outside_the_launcher(self):
        results = harness.at_once(lambda n: self.go(self.PROGRAM, n=n) if n else
                                  harness.plain(self.script(HEAD + self.PROGRAM)), (1, 3, 6, 0))
        self.assertEqual(len(results[0].out.splitlines()), 12, results[0])
        for result in results:
            self.assert_ended(result, results[0].out)


class InTurns(Scripts):
    def test_short_maps_and_bursts_of_submits_in_turns_never_wait_for_each_other(self):
        self.assert_ended(self.go("""
if __name__ == "__main__":
    for n in list(range(1, 8)) * 20:
        assert list(futures.map(abs, range(n))) == list(range(n))
        assert [future.result() for future in [futures.submit(abs, i) for i in range(5)]] == list(range(5))
    print("ok")
""", n=2), "ok\n")


    def test_a_task_that_looks_at_its_child_again_and_again_sees_its_end_on_one_worker(self):
        self.assert_ended(self.go("""
def look(future):
    try:
        return future.result(0)
    except futures.TimeoutError:
        return None

def wait(future):
    return futures.wait([future], 0).done and future.result()

def task(look):
    future, limit = futures.submit(abs, -1), time.monotonic() + 5
    while not look(future) and time.monotonic() < limit:
        pass
    return future.done()

if __name__ == "__main__":
    print([futures.submit(task, how).result() for how in (wait, look, wait)])
""", n=1), "[True, True, True]\n")


class Threads(Scripts):
    def test_tasks_run_in_the_main_thread_again_after_one_whose_own_threads_waited(self):
        self.assert_ended(self.go("""
import signal, threading

def patient(n):
    threads = [threading.Thread(target=lambda: futures.submit(abs, n).result()) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def alarmed(_):
    signal.signal(signal.SIGALRM, lambda *_: None)     # raises elsewhere

if __name__ == "__main__":
    for _ in range(5):
        list(futures.map(patient, range(3)))
        assert list(futures.map(alarmed, range(3))) == [None] * 3
    print("ended")
""", n=1), "ended\n")

    def test_first_callbacks_from_many_threads_at_once_run_in_one_thread(self):
        self.assert_ended(self.go("""
import threading

def add(future):
    barrier.wait()
    future.add_done_callback(lambda _: threads.append(threading.current_thread()))

if __name__ == "__main__":
    barrier, threads, done = threading.Barrier(8), [], [futures.submit(abs, i) for i in range(8)]
    futures.wait(done)
    adding = [threading.Thread(target=add, args=(future,)) for future in done]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    futures.shutdown()
    print(len(threads), len(set(threads)))
""", n=1), "8 1\n")

    def test_errors_that_a_daemon_thread_looks_at_while_the_script_ends(self):
        result = self.go("""
import threading

def fail(n):
    raise ValueError(n)

def entry(self, plain=futures.Future.entry):
    looking.set()
    time.sleep(0.002)
    return plain.__get__(self)

def look():
    looking.wait()
    for future in failed:
        future.exception()

if __name__ == "__main__":
    looking, futures.Future.entry = threading.Event(), property(entry, futures.Future.entry.__set__)
    failed = [futures.submit(fail, n) for n in range(50)]
    threading.Thread(target=look, daemon=True).start()
""", n=1)
        self.assertEqual((result.status, result.out), (0, ""), result.err)
        self.assertNotIn("RuntimeError", result.err)

    def test_an_error_that_comes_in_while_its_map_is_let_go_of_is_told(self):
        result = self.go("""
def fail(n):
    time.sleep(0.1)
    raise ValueError("of an item")

class Slow(dict):
    def items(self):
        found, limit = list(super().items()), time.monotonic() + 0.5
        while call.open and time.monotonic() < limit:
            time.sleep(0.01)
        return found

if __name__ == "__main__":
    results = futures.map(fail, [0])
    call, = futures.current().calls.values()
    call.outcomes = Slow()
    del results
""", n=1)
        self.assertEqual((result.status, result.out), (0, ""), result.err)
        self.assertIn("ValueError: of an item", result.err)

    def test_a_callback_that_raises_where_the_excepthook_exits_keeps_no_other_from_running(self):
        self.assert_ended(self.go("""
def fail(_):
    raise ValueError

if __name__ == "__main__":
    sys.excepthook = lambda *_: sys.exit(3)
    for callback in fail, lambda future: print(future.result()):
        futures.submit(abs, -1).add_done_callback(callback)
""", n=1), "1\n")


class Rest(unittest.TestCase):
    def test_a_worker_that_has_taken_a_block_does_not_say_that_it_is_done(self):
        me, said = threading.get_ident(), []
        link = SimpleNamespace(send=lambda *messages: said.extend(messages), poke=lambda: None)
        worker = workers.Worker(link, 1, 2, 0, None, "here/1", memoryview(bytearray(80)).cast("Q"))
        with worker.lock:
            worker._holder = me
            worker._take_in(protocol.Block(2, 1, 0, 1, 0, 0, 0, 0, 0, body=pickle.dumps((pickle.dumps(abs), [[-3]]))))
            taken = worker._next(me)
            # Before this thread begins it, another that slept goes on, has the turn and ends its task.
            self.assertEqual(worker._now_idle().idle, protocol.WAITING)
        worker._perform(taken)
        self.assertEqual([type(one).__name__ for one in said], ["Result", "Idle"])
        self.assertEqual((said[0].items, said[1].idle), (1, protocol.DONE))


    def test_a_block_that_comes_after_idle_was_said_is_not_given_back(self):
        me, said = threading.get_ident(), []
        link = SimpleNamespace(send=lambda *messages: said.extend(messages), poke=lambda: None)
        worker = workers.Worker(link, 1, 2, 0, None, "here/1", memoryview(bytearray(80)).cast("Q"))
        blocks = [protocol.Block(2, 1, item, 1, 0, 0, 0, 0, 0, body=pickle.dumps((pickle.dumps(abs), [[-3]])))
                  for item in range(2)]
        with worker.lock:
            worker._holder = me
            worker._take_in(blocks[0])
            taken = worker._next(me)
        worker._perform(taken)
        time.sleep(2 * workers.PATIENCE / 1e9)     # the system lets this thread wait before it looks for the next one
        with worker.lock:
            worker._take_in(blocks[1])
            worker.tick()
        self.assertEqual([type(one).__name__ for one in said], ["Result", "Idle"])


class Sizes(unittest.TestCase):
    def test_a_worker_tells_of_the_brothers_of_its_oldest_item(self):
        worker = workers.Worker(SimpleNamespace(send=None), 1, 2, 0, None, "", memoryview(bytearray(80)).cast("Q"))
        self.assertEqual(worker.surplus(), 0)
        worker.queue.extend(SimpleNamespace(parent=parent, left=left)
                            for parent, left in (("a", 1), ("a", 3), ("b", 1), ("a", 1)))
        self.assertEqual(worker.surplus(), 4)

    def test_a_block_has_no_more_items_than_may_be_sent_back_at_once(self):
        call = calls.Call(1, b"")
        call.extend([range(10 ** 9)])
        for first in range(2):
            call.cut(1, 3)
            call.arrive(first, bytes(1000), 1, 100)
        self.assertEqual(call.cut(1, 3).items, calls.BLOCK_SIZE // 1000)


class Shares(Scripts):
    def test_long_children_go_to_idle_workers_while_their_parent_runs_many_short_ones(self):
        self.assert_ended(self.go("""
def work(seconds):
    time.sleep(seconds)

def parent(_):
    begun = time.monotonic()
    children = [futures.submit(work, 0.05) for _ in range(4)]
    while not all(child.done() for child in children) and time.monotonic() < begun + 10:
        futures.submit(work, 0).result()
    return time.monotonic() - begun < 5

if __name__ == "__main__":
    print(futures.submit(parent, 0).result(), futures.submit(parent, 0).result())
""", n=4), "True True\n")

    def test_results_of_a_long_chunk_come_one_by_one(self):
        self.assert_ended(self.go("""
def work(seconds):
    time.sleep(seconds)
    return time.time()

if __name__ == "__main__":
    late = [time.time() - done for done in futures.map_as_completed(work, [0.05] * 40, chunksize=20)]
    print(sorted(late)[20] < 0.4)
""", n=2), "True\n")


class FullStacks(Scripts):
    def test_a_call_where_the_stack_is_nearly_full_raises_and_harms_no_other(self):
        result = self.go("""
import sys

def same(x):
    return x

def at(depth, call):
    return at(depth - 1, call) if depth else call()

def outcome(call):
    try:
        return call()
    except RecursionError:
        return "full"

def task(_):
    found = set()
    for depth in range(sys.getrecursionlimit() - 70, sys.getrecursionlimit(), 2):
        for call in (lambda: futures.submit(same, 7), lambda: list(futures.map(same, [7] * 3)) == [7] * 3):
            got = outcome(lambda: at(depth, call))
            found.add(got.result() if isinstance(got, futures.Future) else got)
        assert futures.submit(same, 7).result() == 7
    return found - {"full", 7, True}

if __name__ == "__main__":
    print(task(0), list(futures.map(task, range(3))))
""")
        self.assert_ended(result, "set() [set(), set(), set()]\n")

    def test_what_a_task_deep_in_recursion_waits_for_has_a_stack_of_its_own(self):
        self.assert_ended(self.go("""
def down(frames):
    return frames and down(frames - 1)

def task(frames):
    return task(frames - 1) if frames else futures.submit(down, 300).result()

if __name__ == "__main__":
    print(list(futures.map(task, [800] * 4)))
""", n=2), "[0, 0, 0, 0]\n")


class Outside(Scripts):
    def test_ctrl_c_at_the_bottom_of_a_deep_chain_leaves_nothing_to_wait_for(self):
        result = harness.plain("-W", "ignore", self.script("""
import os, signal, threading, time
from microscoop import futures

def deep(depth):
    if depth == 0:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.5)
    return depth and 1 + sum(futures.map(deep, [depth - 1, -1])) if depth > 0 else 0

if __name__ == "__main__":
    for depth in (20, 60):                         # from 40 on in a thread with a stack of its own
        try:
            futures.submit(deep, depth).result()
        except KeyboardInterrupt:
            print(futures.submit(abs, -depth).result())
"""))
        self.assertEqual((result.status, result.out), (0, "20\n60\n"), result.err)

    def test_a_fork_of_the_script_works_serially_too(self):
        result = harness.plain(self.script("""
            import multiprocessing
            from microscoop import futures
            def squares(n):
                return list(futures.map(pow, range(n), [2] * n))
            if __name__ == "__main__":
                print(squares(3))
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    print(pool.map_async(squares, [2, 4]).get(10))
            """))
        self.assertEqual(result[:2], (0, "[0, 1, 4]\n[[0, 1], [0, 1, 4, 9]]\n"), result.err)

    def test_outside_the_launcher_all_works_serially_with_one_warning(self):
        result = harness.plain(self.script("""
            import os, time
            from microscoop import futures
            def pid(_=None):
                return os.getpid()
            def nested(n):
                return sum(futures.map(abs, range(n))) + futures.submit(abs, -1).result()
            def fail():
                raise KeyError("k")
            if __name__ == "__main__":
                print(set(futures.map(pid, range(3))) == {os.getpid()}, futures.submit(pid).result() == os.getpid())
                print(list(futures.map(nested, [1, 2, 3])), list(futures.map_as_completed(abs, [-1])))
                future = futures.submit(fail)
                called = []
                future.add_done_callback(called.append)
                time.sleep(0.1)
                print(repr(future.exception()), future.done(), future.running(), future.cancel(), called == [future])
                print(len(futures.wait([future])[0]), [f is future for f in futures.as_completed([future], timeout=1)])
                print(list(futures.map(max, [1, 5], [4, 2], timeout=5, chunksize=2, buffersize=3)))
                class Whole:
                    def __init__(self, value):
                        self.value = value
                    def __index__(self):
                        return self.value
                    def __repr__(self):
                        return "Whole"
                print(list(futures.map(abs, [-1, 2], chunksize=Whole(2))),
                      list(futures.map(abs, iter([3]), buffersize=Whole(1))))
                for wrong in (True, Whole(0), 2.0, "2"):
                    try:
                        futures.map(abs, [1], chunksize=wrong)
                    except Exception as error:
                        print(type(error).__name__, error)
                futures.shutdown()
        """))
        self.assertEqual(result.out.splitlines(), [
            "True True", "[1, 2, 4] [1]", "KeyError('k') True False False True", "1 [True]", "[4, 5]", "[1, 2] [3]",
            *("%s chunksize must be a whole number of at least 1, not %s" % wrong for wrong in (
                ("ValueError", "True"), ("ValueError", "Whole"), ("TypeError", "2.0"), ("TypeError", "'2'")))],
            result.err)
        self.assertEqual(result.err.count("RuntimeWarning"), 1, result.err)
        self.assertEqual(result.status, 0)

    def test_at_a_normal_end_callbacks_run_and_errors_are_shown_and_after_an_exception_neither(self):
        path = self.script(HEAD + """
def slow(future):
    time.sleep(9 if sys.argv[1:] else 0.05)
    print("called", future.result(), flush=True)
    if future.result() == 9:
        futures.submit(abs, -10).add_done_callback(slow)

if __name__ == "__main__":
    futures.submit(abs, -9).add_done_callback(slow)
    futures.submit(int, "x")
    if len(sys.argv) > 1:
        raise KeyError("k")
    if os.fork() == 0:
        sys.exit()
    os.wait()
""")
        result = harness.plain("-W", "ignore", path, timeout=20)
        self.assertEqual((result.status, result.out), (0, "called 9\ncalled 10\n"), result.err)
        self.assertEqual(result.err.count("nobody looked"), 1, result.err)
        result = harness.plain("-W", "ignore", path, "fail", timeout=20)
        self.assertEqual((result.status, result.out), (1, ""), result.err)
        self.assertNotIn("nobody looked", result.err)

    def test_a_task_that_catches_the_interrupt_of_its_own_call_goes_on(self):
        path = self.script(HEAD + """
import signal

def hit(n):
    signal.raise_signal(signal.SIGINT)
    time.sleep(9)

def outer(n):
    try:
        list(futures.map(hit, [1]))
    except KeyboardInterrupt:
        return futures.submit(abs, n).result()

if __name__ == "__main__":
    print(list(futures.map(outer, [-1, -2])))
""")
        self.assert_ended(harness.run("-q", "--serial", path), "[1, 2]\n")

    def test_interrupt_ends_the_call_whose_task_it_comes_in_and_not_that_task_alone(self):
        path = self.script(HEAD + """
import signal

def hit(n):
    begun.append(n)
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)

def nest(n):
    return list(futures.map(hit, range(n)))

def catch(n):
    try:
        hit(n)
    except KeyboardInterrupt:
        return n

def interrupt_itself():
    raise KeyboardInterrupt

def outcome(call, *args):
    try:
        return call(*args)
    except KeyboardInterrupt:
        return "interrupted"

if __name__ == "__main__":
    begun = []
    print(outcome(futures.map, hit, range(3)), len(begun))
    print(outcome(futures.map, nest, [2, 2]), len(begun))
    print(outcome(futures.submit, hit, 0), len(begun))
    print(outcome(lambda: list(futures.map(hit, iter(range(3))))), len(begun))
    print(list(futures.map(catch, [1, 2])), outcome(futures.submit(interrupt_itself).result))
    futures.shutdown()
""")
        out = "".join("interrupted %d\n" % n for n in (1, 2, 3, 4)) + "[1, 2] interrupted\n"
        for result in harness.plain("-W", "ignore", path, timeout=20), harness.run("-q", "--serial", path, timeout=20):
            self.assert_ended(result, out)

    def test_importing_futures_outside_the_launcher_warns_of_nothing(self):
        result = harness.plain("-W", "error", "-c", "import microscoop; from microscoop import futures")
        self.assertEqual((result.status, result.err), (0, ""))


class Output(Scripts):
    """What tasks write comes out in whole lines, before the result, on the same stream."""

    def test_lines_stay_whole_however_they_are_written(self):
        results = harness.at_once(lambda env: self.go("""
def shout(n):
    letter = chr(97 + n)
    for size in range(1, 60):
        sys.stdout.write(letter * size)
        sys.stdout.flush()
        sys.stdout.write(letter * 1000 + "\\n")
        os.write(2, letter.encode() * size)
        os.write(2, letter.encode() * 1000 + b"\\n")
if __name__ == "__main__":
    list(futures.map(shout, range(12)))
""", env=env), ({}, {"PYTHONUNBUFFERED": "1"}))
        for result in results:
            self.check_whole_lines(result)

    def check_whole_lines(self, result):
        for text in (result.out, result.err):
            lines = text.splitlines()
            self.assertEqual(len(lines), 12 * 59)
            self.assertEqual([line for line in lines if len(set(line)) != 1][:1], [])
            self.assertEqual(sorted(set(map(len, lines))), list(range(1001, 1060)))

    def test_lines_come_before_the_result_from_print_descriptors_and_programs(self):
        results = harness.at_once(lambda n: self.go("""
import subprocess
def speak(n):
    if n % 4 == 0:
        print("task", n)
    elif n % 4 == 1:
        os.write(1, b"task %d\\n" % n)
    elif n % 4 == 2:
        subprocess.run(["echo", "task", str(n)])
    else:
        os.system("echo task %d" % n)
if __name__ == "__main__":
    results = futures.map(speak, range(24))
    for n, _ in enumerate(results):
        print("result", n, flush=True)
    for n in range(24, 48):
        futures.submit(speak, n).result()
        print("result", n, flush=True)
""", n=n), (1, 3))
        for result in results:
            lines = result.out.splitlines()
            expected = sorted(f"{word} {n}" for word in ("task", "result") for n in range(48))
            self.assertEqual(sorted(lines), expected)
            late = [n for n in range(48) if lines.index(f"task {n}") > lines.index(f"result {n}")]
            self.assertEqual(late, [])

    def test_stderr_of_tasks_comes_out_on_stderr(self):
        result = self.go("""
def speak(n):
    print("out", n)
    print("err", n, file=sys.stderr)
if __name__ == "__main__":
    list(futures.map(speak, range(5)))
""")
        self.assertEqual(sorted(result.out.splitlines()), [f"out {n}" for n in range(5)])
        self.assertEqual(sorted(result.err.splitlines()), [f"err {n}" for n in range(5)])

    def test_a_line_without_an_end_is_not_lost_nor_glued_to_anothers(self):
        result = self.go("""
def speak(n):
    sys.stdout.write("<%d>" % n)
if __name__ == "__main__":
    list(futures.map(speak, range(8)))
    print("after", flush=True)
""")
        self.assertEqual(sorted(re.findall(r"<\d>", result.out)), [f"<{n}>" for n in range(8)])
        self.assertIn("after\n", result.out)

    def test_a_task_may_write_a_lot_and_any_bytes(self):
        result = self.go("""
def speak(n):
    os.write(1, b"\\xff\\xfe\\0 %d\\n" % n)
    for _ in range(40):
        sys.stdout.write(str(n) * 49999 + "\\n")
if __name__ == "__main__":
    list(futures.map(speak, range(3)))
""")
        lines = result.out.encode(errors="surrogateescape").splitlines()
        self.assertEqual(sorted(line for line in lines if len(line) < 100), [b"\xff\xfe\0 %d" % n for n in range(3)])
        self.assertEqual(sorted(line[:1] for line in lines if len(line) == 49999), sorted([b"0", b"1", b"2"] * 40))

    def test_a_program_left_behind_by_a_task_delays_no_result_and_is_ended(self):
        begin = time.monotonic()
        result = self.go("""
import subprocess
def leave(n):
    subprocess.Popen(["sleep", "1000"])
    return n
if __name__ == "__main__":
    print(list(futures.map(leave, range(4))))
""", n=2)
        self.assert_ended(result, "[0, 1, 2, 3]\n")
        self.assertLess(time.monotonic() - begin, 15)


class Loading(Scripts):
    """The script in its workers: what it may not do there, and what is said about it."""

    def test_a_call_while_a_worker_loads_the_script_gives_the_advice_once(self):
        calls = ("list(futures.map(abs, range(4)))", "futures.submit(abs, 1).result()",
                 "list(futures.map_as_completed(abs, [1]))")
        for result in harness.at_once(lambda call: self.go(f"print({call})\n", n=6), calls):
            self.assertIn('if __name__ == "__main__":', result.err)
            self.assertNotEqual(result.status, 0)
            self.assertLessEqual(result.err.count('if __name__ == "__main__":'), 2, result.err)

    def test_a_script_that_cannot_be_loaded_in_workers_ends_the_run_and_shows_the_error_once(self):
        result = self.go("""
if __name__ == "__mp_main__":
    raise RuntimeError("only in workers")
if __name__ == "__main__":
    print(list(futures.map(abs, range(4))))
""", n=6)
        self.assertNotEqual(result.status, 0)
        self.assertIn("RuntimeError: only in workers", result.err)
        self.assertLessEqual(result.err.count("Traceback"), 2, result.err)

    def test_a_script_that_exits_in_workers_ends_the_run(self):
        ends = ("sys.exit(5)", "os._exit(5)", "raise KeyboardInterrupt")
        results = harness.at_once(lambda end: self.go(f"""
if __name__ == "__mp_main__":
    {end}
if __name__ == "__main__":
    print(list(futures.map(abs, range(4))))
"""), ends)
        for end, result in zip(ends, results):
            self.assertNotEqual(result.status, 0, end)
            self.assertTrue(result.err.strip(), end)

    def test_a_name_set_under_the_guard_is_explained(self):
        result = self.go("""
def use(_):
    return CONFIG
def misspell(_):
    return CONFOG
if __name__ == "__main__":
    CONFIG = 5
    for task in (use, misspell):
        error = futures.submit(task, 1).exception()
        try:
            list(futures.map(task, [1]))
        except NameError as again:
            import traceback
            for error in (error, again):
                print(type(error).__name__)
                print("".join(traceback.format_exception(type(error), error, error.__traceback__)))
                print("-----")
""")
        known, known_again, unknown, unknown_again, _ = result.out.split("-----")
        for text in (known, known_again):
            self.assertTrue(text.strip().startswith("NameError"), text)
            self.assertIn("CONFIG is set under the guard; workers do not run that", text)
        for text in (unknown, unknown_again):
            self.assertNotIn("under the guard", text)

    def test_a_task_that_sets_a_handler_in_a_second_thread_is_told_why_it_cannot(self):
        result = self.go("""
import signal
def handle():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
def wait():
    return futures.submit(handle).result(timeout=60)     # under a timeout this thread only sleeps
if __name__ == "__main__":
    print("in a second thread, which cannot set handlers" in str(futures.submit(wait).exception().__cause__))
""", n=1)
        self.assertEqual((result.status, result.out), (0, "True\n"))

    def test_a_handler_that_raises_in_the_midst_of_our_work_costs_its_worker_and_nothing_hangs(self):
        result = self.go("""
import signal
from microscoop import workers
class Late(Exception):
    pass
def late(*_):
    raise Late
def parent(path):
    if not os.path.exists(path):
        open(path, "w").close()
        signal.signal(signal.SIGALRM, late)
        own = workers.Worker._own
        def interrupted(self, entry):
            entry = own(self, entry)
            os.kill(os.getpid(), signal.SIGALRM)
            return entry
        workers.Worker._own = interrupted
    return futures.submit(abs, -2).result()
if __name__ == "__main__":
    print(futures.submit(parent, sys.argv[1]).result())
""", self.script("").parent / "begun")
        self.assertEqual((result.status, result.out), (0, "2\n"))
        self.assertIn("the handler of a signal has raised that in the midst of our own work", result.err)

    def test_what_a_handler_raises_while_something_is_pickled_is_not_taken_for_pickling(self):
        result = self.go("""
class Late(Exception):
    pass
class Interrupted:
    times = 0
    def __reduce__(self):
        Interrupted.times += 1
        if Interrupted.times == 1:
            raise Late                              # as a signal's handler does that comes just here
        return Interrupted, ()
if __name__ == "__main__":
    for give in (lambda it: futures.submit(str, it), lambda it: futures.map(str, [it])):
        Interrupted.times = 0
        try:
            give(Interrupted())
        except Late:
            print("late")
""")
        self.assertEqual((result.status, result.out), (0, "late\nlate\n"))

    def test_a_function_made_under_the_guard_travels_by_value(self):
        result = self.go("""
if __name__ == "__main__":
    def late(n):
        return n
    print(futures.submit(late, 1).result())
    print(futures.submit(abs, -2).result())
""")
        self.assert_ended(result, "1\n2\n")

    def test_calls_before_all_workers_have_loaded_the_script_are_served(self):
        self.assert_ended(self.go("""
if __name__ == "__mp_main__":
    time.sleep(0.3)
if __name__ == "__main__":
    print(list(futures.map(abs, range(-3, 3))))
"""), "[3, 2, 1, 0, 1, 2]\n")

    def test_workers_that_load_slowly_hold_up_neither_the_script_nor_its_end(self):
        begin = time.monotonic()
        self.assert_ended(self.go("""
if __name__ == "__mp_main__":
    time.sleep(30)
print("here")
"""), "here\n")
        self.assertLess(time.monotonic() - begin, 15)

    def test_classes_and_helpers_beside_the_script_are_found_in_workers(self):
        path = self.script("""
            import helper_of_the_test
            from microscoop import futures
            if __name__ == "__main__":
                thing = futures.submit(helper_of_the_test.double, helper_of_the_test.Thing(4)).result()
                print(thing.value, type(thing) is helper_of_the_test.Thing)
        """)
        (path.parent / "helper_of_the_test.py").write_text("""
class Thing:
    def __init__(self, value):
        self.value = value
def double(thing):
    return Thing(2 * thing.value)
""")
        self.assert_ended(harness.run("-q", "-n", "2", path), "8 True\n")

    @unittest.skipUnless(importlib.util.find_spec("numpy"), "numpy is not installed: pip install numpy")
    def test_numpys_unseeded_random_numbers_differ_between_workers(self):
        result = self.go("""
import numpy
def draw(_):
    time.sleep(0.1)
    return os.getpid(), float(numpy.random.random())
if __name__ == "__main__":
    found = list(futures.map(draw, range(9)))
    print(len({pid for pid, _ in found}), len({number for _, number in found}))
""")
        self.assert_ended(result, "3 9\n")

    def test_importing_multiprocessing_first_leaves_mp_main_the_script(self):
        self.assert_ended(self.go("""
import multiprocessing
if __name__ == "__main__":
    main = sys.modules["__main__"]
    print(sys.modules["__mp_main__"] is main, os.path.samefile(main.__file__, sys.argv[0]), main.futures is futures)
"""), "True True True\n")

    def test_tasks_read_nothing_from_the_standard_input_of_the_script(self):
        self.assert_ended(self.go("""
def read(_):
    return sys.stdin.read()
if __name__ == "__main__":
    print(list(futures.map(read, range(3))), sys.stdin.read())
""", stdin="for the script"), "['', '', ''] for the script\n")


class Memory(Scripts):
    @unittest.skipUnless(os.path.exists("/proc/self/status"), "needs /proc")
    def test_a_million_items_take_flat_memory(self):
        begin = time.monotonic()
        result = self.go("""
def same(n):
    return n
def peak(pid):
    return int(open("/proc/%s/status" % pid).read().split("VmHWM:")[1].split()[0])
if __name__ == "__main__":
    family = [os.getpid(), os.getppid(), open("/proc/%d/stat" % os.getppid()).read().rpartition(")")[2].split()[1]]
    sum(futures.map(same, range(10000)))
    before = list(map(peak, family))
    print(sum(futures.map(same, range(1000000))) == 499999500000)
    print([after - early < 30000 for after, early in zip(map(peak, family), before)])
""", n=2, timeout=60)
        self.assert_ended(result, "True\n[True, True, True]\n")
        self.assertLess(time.monotonic() - begin, 30)


if __name__ == "__main__":
    unittest.main()
