"""What microscoop.futures promises, one case for each sentence of it: a script, run by the launcher or by plain Python.

    python3 -m microscoop -n 3 tests/semantics.py [WORKERS] [CASE...]    all cases, on microscoop.futures
    python3 tests/semantics.py [WORKERS] [CASE...]                       those of PEP 3148, on a ThreadPoolExecutor

WORKERS (3 if left out) is what -n says; CASE is a part of a case's name. `pool` is what the cases are about. Cases
never wait without a limit; a case that lasts over LIMIT seconds fails with the stacks of every process of the run.
"""
from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import copy
import enum
import faulthandler
import functools
import gc
import inspect
import io
import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest
import weakref

LIMIT = 20  # seconds for one case
LAUNCHED = __name__ in ("__main__", "__mp_main__") and "microscoop" in sys.modules
WORKERS = int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else 3


def once(test):
    """Marks a case that does not depend on the number of workers: it runs with three only."""
    test.once = True
    return test


class Threads:
    """A ThreadPoolExecutor that looks like the module microscoop.futures."""

    def __init__(self):
        executor = concurrent.futures.ThreadPoolExecutor(WORKERS)
        self.map, self.submit = executor.map, executor.submit
        for name in ("wait", "as_completed", "Future", "TimeoutError", "CancelledError", "FIRST_COMPLETED",
                     "FIRST_EXCEPTION", "ALL_COMPLETED"):
            setattr(self, name, getattr(concurrent.futures, name))


if LAUNCHED:
    from microscoop import futures as pool
    from microscoop.errors import RemoteError
else:
    pool = Threads()


# Tasks


def identity(value):
    return value


def square(number):
    return number ** 2


def pair_of(number):
    return [number, number]


def add(*numbers):
    return sum(numbers)


def keywords(*args, **kwargs):
    return args, kwargs


def nap(seconds, *_):
    time.sleep(seconds)
    return seconds


def compute(seconds):
    """Holds the interpreter lock."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        sum(range(100))


def moment(*_):
    return time.monotonic()


def note(path, *values):
    """A side effect that the submitter can see at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, values)) + "\n").encode())
    os.close(descriptor)


def note_and_nap(path, seconds, value):
    note(path, value)
    time.sleep(seconds)
    return value


def hold(gate, value=None):
    """Lasts until the gate is open, that is, the file exists; or until its folder is gone."""
    folder = os.path.dirname(gate)
    if os.path.exists(folder):
        note(gate + ".held", os.getpid())
    limit = time.monotonic() + 2 * LIMIT  # so that the stacks of a case that lasts too long show it
    while not os.path.exists(gate) and os.path.exists(folder) and time.monotonic() < limit:
        time.sleep(0.002)
    return value


def fail(error):
    raise error


def fail_at(bad, number):
    if number == bad:
        raise ValueError(f"number {number}")
    return number


def raise_from_an_inner_error():
    try:
        {}["the inner key"]
    except KeyError as error:
        raise ValueError("the outer error") from error


def stop(_=None):
    raise StopIteration("from a task")


def append(values, value):
    values.append(value)
    return values


def nested_append(holder, index):
    holder["list"].append(index)
    return holder


THE_SAME = ["one list of the worker's"]


def the_same(_):
    return THE_SAME


def kinds(value):
    return type(value).__name__, value


class Color(enum.IntEnum):
    RED = 1


class Text(str):
    pass


Pair = collections.namedtuple("Pair", "left right")


class Holder:
    def __init__(self, secret):
        self.secret = secret

    def get(self, _=None):
        return self.secret


class Mine:
    def __init__(self, value):
        self.value = value


def grow(mine):
    """Takes an object of a class of the script and makes another."""
    assert type(mine) is Mine, type(mine)
    return Mine(mine.value + 1)


class TwoArguments(Exception):
    """Pickles, and cannot be rebuilt from what was pickled."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class Formats(Exception):
    def __init__(self, code):
        super().__init__("code %s" % code)
        self.code = code


class Shy:
    def __repr__(self):
        raise RuntimeError("no text")

    def __reduce__(self):
        raise TypeError("not to be pickled")


class Careful(Exception):
    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code
        self.extra = {"notes": [1, 2]}


class Locked(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class NotAnErrorWhenRebuilt(Exception):
    def __reduce__(self):
        return int, ()


class StopsWhenPickled:
    def __reduce__(self):
        raise StopIteration


class ExitsWhenPickled(Exception):
    def __reduce__(self):
        raise SystemExit("from __reduce__")


class ExitsWhenRebuilt(Exception):
    def __reduce__(self):
        return sys.exit, ("from rebuilding",)


class WithoutText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def fail_with(kind, *args):
    raise kind(*args)


def fail_with_a_local_class():
    class Local(Exception):
        pass
    raise Local("a local class")


def give_lock(_=None):
    return Holder({"deep": [threading.Lock()]})


def rebuild(pid):
    """Only the process that pickled it can rebuild it."""
    if pid != os.getpid():
        raise ValueError("cannot be rebuilt elsewhere")
    return BadTraveller()


class BadTraveller:
    def __reduce__(self):
        return rebuild, (os.getpid(),)


def give_bad_traveller(_=None):
    return BadTraveller()


TRAVELS = []


class Traveller:
    """Says in which threads it is pickled and rebuilt."""

    def __reduce__(self):
        TRAVELS.append(threading.current_thread().name)
        return rebuild_traveller, ()


def rebuild_traveller():
    TRAVELS.append(threading.current_thread().name)
    return Traveller()


class TravellingError(Exception):
    def __reduce__(self):
        return rebuild_travelling_error, ()


def rebuild_travelling_error():
    TRAVELS.append(threading.current_thread().name)
    return TravellingError()


def recurse():
    return recurse() + 1


def nap_and_where(seconds):
    time.sleep(seconds)
    return os.getpid()


def where(_=None):
    time.sleep(0.02)
    return os.getpid()


def first_random(_):
    time.sleep(0.1)
    return os.getpid(), random.random()


# Tasks that submit tasks


def total_of_squares(n):
    return sum(pool.map(square, range(n)))


def total_of_submits(n):
    return sum(future.result() for future in [pool.submit(square, number) for number in range(n)])


def renamed_on_the_way():
    """Submits a function before and while its name stands for another, and waits in reverse, so that some tasks run
    here and some elsewhere."""
    function = square
    futures = [pool.submit(function, 3) for _ in range(10)]
    globals()["square"] = add
    try:
        futures += [pool.submit(function, 3) for _ in range(10)]
        return [future.result() for future in futures[::-1]]
    finally:
        globals()["square"] = function


def total_of_waits(n):
    done, not_done = pool.wait([pool.submit(square, number) for number in range(n)])
    assert not not_done
    return sum(future.result() for future in done)


def total_of_completed(n):
    return sum(future.result() for future in pool.as_completed([pool.submit(square, number) for number in range(n)]))


def total_of_unordered(n):
    return sum(pool.map_as_completed(square, range(n)))


def total_of_lazy(n):
    return sum(itertools.islice(pool.map(square, itertools.count()), n))


def chain(depth):
    return 0 if depth == 0 else 1 + pool.submit(chain, depth - 1).result()


def chain_without_threads(depth):
    """No more threads can be started here meanwhile, as when a limit is reached."""
    threading.stack_size(1 << 45)
    try:
        return chain(depth)
    finally:
        threading.stack_size(0)


def chain_of_maps(depth):
    return 0 if depth == 0 else 1 + next(pool.map(chain_of_maps, [depth - 1]))


def chain_of_waits(depth):
    if depth == 0:
        return 0
    future = pool.submit(chain_of_waits, depth - 1)
    pool.wait([future])
    return 1 + future.result()


def chain_with_timeouts(depth):
    return 0 if depth == 0 else 1 + pool.submit(chain_with_timeouts, depth - 1).result(timeout=15)


def tree(depth):
    if depth == 0:
        return 1
    children = [pool.submit(tree, depth - 1) for _ in range(2)]
    return 1 + sum(child.result() for child in children)


def restless_tree(seed, depth):
    dice = random.Random(seed)
    time.sleep(dice.random() * 0.003)
    children = [pool.submit(restless_tree, seed * 2 + side, depth - 1) for side in range(2)] if depth else []
    dice.shuffle(children)
    time.sleep(dice.random() * 0.003)
    return 1 + sum(child.result() for child in children)


def crossed(gate, other, depth):
    """Says that it runs, then waits for a child that waits until the other one runs."""
    note(gate, "runs")
    return pool.submit(hold_below, other, depth).result()


def hold_if_any(gate):
    return hold(gate, "held") if gate else None


def hold_below(gate, depth):
    return pool.submit(hold_below, gate, depth - 1).result() if depth else hold(gate, "both ran")


def child_starts_first(seconds):
    """Whether a child starts while its parent computes, which takes so long if nobody else wants the processor."""
    child = pool.submit(moment)
    limit = time.thread_time() + seconds
    while time.thread_time() < limit:
        sum(range(100))
    ended = time.monotonic()
    return child.result() < ended


def children_in_parallel(count, seconds):
    begin = time.monotonic()
    list(pool.map(nap, [seconds] * count))
    return time.monotonic() - begin


KEPT = {}


def keep_and_wait():
    """Waits for a child that waits for a grandchild that waits for the child, all on one stack."""
    KEPT["child"] = pool.submit(wait_for_grandchild)
    return KEPT["child"].result()


def wait_for_grandchild():
    return pool.submit(wait_for_the_kept_one).result()


def wait_for_the_kept_one():
    try:
        return "waited", KEPT["child"].result()
    except Exception as error:
        return "raised", str(error)


def give_future():
    return pool.submit(square, 2)


def children_of_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(total_of_submits(4)), daemon=True)
    thread.start()
    thread.join(LIMIT / 2)
    return found


def child_of_a_patient_thread(number):
    """The thread does not wait before some of its children have gone to the broker, if it takes them."""
    found = []

    def work():
        children = [pool.submit(square, number) for _ in range(40)]
        with contextlib.suppress(AssertionError):  # it has enough of other tasks' children
            wait_until(lambda: any(child.running() or child.done() for child in children), 1)
        found.extend(child.result() for child in children)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LIMIT)
    return found


def unread_child_fails():
    pool.submit(fail, ValueError("nobody reads this"))
    return pool.submit(square, 3).result()


def child_fails():
    return pool.submit(fail_at, 3, 3).result()


def callback_in_a_task():
    called = []
    child = pool.submit(square, 2)
    child.add_done_callback(lambda future: called.append((os.getpid(), future.result())))
    child.result()
    wait_until(lambda: called)
    return called == [(os.getpid(), 4)]


def call(function, *args):
    return list(function(*args))


# Tasks that look around


def surroundings():
    main = sys.modules["__main__"]
    return {"one module": main is sys.modules["__mp_main__"], "has the script": main.surroundings is surroundings,
            "file": main.__file__, "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd()}


def spawn_a_process():
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=put_square, args=(queue, Mine(5)))
    process.start()
    process.join(LIMIT / 2)
    return process.exitcode, None if queue.empty() else queue.get().value


def fork_a_process():
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as processes:
        return processes.map_async(square, [1, 2, 3]).get(LIMIT / 2)


def put_square(queue, mine):
    queue.put(Mine(mine.value ** 2))


def handed_down():
    """What a program started here finds: whether Ctrl-C is not ignored, and the descriptors beyond the usual three."""
    program = "import os, signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, [os.readlink(" \
              "'/proc/self/fd/%d' % n) for n in range(3, 500) if os.path.exists('/proc/self/fd/%d' % n)])"
    child = subprocess.run([sys.executable, "-S", "-c", program], close_fds=False, stdout=subprocess.PIPE, check=True)
    return child.stdout.decode()


def place_in_the_system():
    return {"leads its group": os.getpgid(0) == os.getpid(), "stdin": sys.stdin.read(), "descriptor 0": os.read(0, 1)}


def signal_handlers():
    return {name: signal.getsignal(getattr(signal, name)) in (signal.SIG_DFL, signal.SIG_IGN) for name in
            ("SIGTERM", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGQUIT", "SIGWINCH", "SIGUSR2")}


def resident(pid):
    """Bytes of memory that a process has now."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


# The cases


def wait_until(condition, seconds=5):
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {seconds} s: {inspect.getsource(condition).strip()}")
        time.sleep(0.002)


class Source:
    """An input without a length that counts how far it was advanced, and in which threads."""

    def __init__(self, items=None):
        self.items, self.taken, self.threads = iter(itertools.count() if items is None else items), 0, set()

    def __iter__(self):
        return self

    def __next__(self):
        self.threads.add(threading.get_ident())
        item = next(self.items)
        self.taken += 1
        return item


class Case(unittest.TestCase):
    maxDiff = 2000
    gates = 0

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(self.end_tasks)

    def end_tasks(self):
        """Tasks may write into the folder while it is being removed."""
        while os.path.exists(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name="notes"):
        return os.path.join(self.folder, name)

    def notes(self, path):
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return file.read().split()

    def gate(self):
        self.gates += 1
        return self.path(f"gate{self.gates}")

    def open_gate(self, gate):
        with contextlib.suppress(FileNotFoundError):
            open(gate, "w").close()

    def submit_hold(self):
        return pool.submit(hold, self.gate())

    def held(self, value=None, count=1):
        """Futures of tasks that have begun, and the gate that ends them."""
        gate = self.gate()
        futures = [pool.submit(hold, gate, value) for _ in range(count)]
        wait_until(lambda: len(self.notes(gate + ".held")) == count)
        return gate, futures

    def error_of(self, call, *args, **kwargs):
        try:
            result = call(*args, **kwargs)
        except Exception as error:
            return error
        return self.fail(f"nothing was raised; the result is {result!r}")

    def base_error_of(self, call, *args, **kwargs):
        try:
            result = call(*args, **kwargs)
        except TooSlow:
            raise
        except BaseException as error:
            return error
        return self.fail(f"nothing was raised; the result is {result!r}")


class Pep3148(Case):
    """What holds for a ThreadPoolExecutor too."""

    def test_submit_gives_the_result(self):
        self.assertEqual(pool.submit(square, 3).result(), 9)

    def test_submit_passes_positional_and_keyword_arguments_of_any_name(self):
        names = dict.fromkeys(("func", "timeout", "chunksize", "args", "kwargs", "callback"), 1)
        for _ in range(2):
            self.assertEqual(pool.submit(keywords, 1, 2, **names).result(), ((1, 2), names))
            self.assertEqual(pool.submit(keywords, 1, func=[2]).result(), ((1,), {"func": [2]}))

    def test_submit_takes_partials_builtins_and_methods(self):
        self.assertEqual(pool.submit(functools.partial(add, 1), 2).result(), 3)
        self.assertEqual(pool.submit(divmod, 7, 2).result(), (3, 1))
        self.assertEqual(pool.submit("a,b".split, ",").result(), ["a", "b"])
        self.assertEqual(pool.submit(Holder(5).get).result(), 5)

    def test_map_keeps_the_order_of_its_input(self):
        naps = [0.02, 0, 0.01, 0, 0.015, 0.005] * 2
        self.assertEqual(list(pool.map(nap, naps)), naps)

    def test_map_takes_many_iterables_and_ends_with_the_shortest(self):
        self.assertEqual(list(pool.map(add, [1, 2, 3], (10, 20), range(100, 200))), [111, 123])

    def test_map_of_nothing_is_empty(self):
        for nothing in ([], (), range(0), iter([]), ""):
            self.assertEqual(list(pool.map(square, nothing)), [])
        self.assertEqual(list(pool.map(add, [1, 2], [])), [])

    def test_map_begins_before_it_is_iterated(self):
        path = self.path()
        results = pool.map(note_and_nap, [path] * 4, [0] * 4, range(4))
        wait_until(lambda: sorted(self.notes(path)) == list("0123"))
        self.assertEqual(list(results), [0, 1, 2, 3])

    def test_map_takes_a_chunksize(self):
        for size in (1, 3, 1000):
            self.assertEqual(list(pool.map(square, range(10), chunksize=size)), [n ** 2 for n in range(10)])

    def test_map_raises_an_error_at_its_position(self):
        results = pool.map(functools.partial(fail_at, 3), range(6))
        self.assertEqual([next(results) for _ in range(3)], [0, 1, 2])
        self.assertEqual(str(self.error_of(next, results)), "number 3")

    def test_map_raises_StopIteration_of_a_task_and_does_not_end_silently(self):
        results = pool.map(stop, [1, 2, 3])
        self.assertIsInstance(self.error_of(list, results), RuntimeError)

    def test_map_with_a_timeout_raises_when_a_result_is_not_there_that_long_after_the_call(self):
        gate, shut = self.gate(), self.gate()
        self.open_gate(gate)
        results = pool.map(hold, [gate, shut], [1, 2], timeout=0.3)
        begin = time.monotonic()
        self.assertEqual(next(results), 1)
        with self.assertRaises(pool.TimeoutError):
            next(results)
        self.assertTrue(0.2 < time.monotonic() - begin < 2, time.monotonic() - begin)

    @once
    def test_map_with_a_timeout_still_gives_what_is_ready_afterwards(self):
        results = pool.map(square, [2, 3], timeout=0.2)
        time.sleep(0.3)
        self.assertEqual(list(results), [4, 9])

    @once
    def test_closing_a_map_cancels_what_has_not_started(self):
        self.check_that_the_rest_is_cancelled(lambda results: results.close())

    def test_dropping_a_map_cancels_what_has_not_started(self):
        self.check_that_the_rest_is_cancelled(lambda results: None)

    @once
    def test_a_map_is_at_its_end_once_it_was_closed_or_has_raised(self):
        for results in (pool.map(square, range(500)), pool.map(append, [[]] * 500, range(500))):
            next(results)
            results.close()
            self.assertEqual(list(results), [])
        results = pool.map(fail_at, [1] * 500, range(500))
        next(results)
        self.error_of(lambda: next(results))
        self.assertEqual(list(results), [])

    @once
    def test_a_map_keeps_no_result_that_it_has_given(self):
        for result in pool.map(Mine, range(5)):
            there = weakref.ref(result)
            del result
            gc.collect()
            self.assertIsNone(there())

    @once
    def test_threads_that_take_from_one_map_at_once_miss_nothing(self):
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        for function in (square, pair_of) * 4:
            results, found = pool.map(function, range(1000), chunksize=3), []

            def take(results=results, found=found):
                ended = False
                while not ended:
                    with contextlib.suppress(ValueError):  # another thread is about to take one
                        for result in results:
                            found.append(result)
                        ended = True

            threads = [threading.Thread(target=take) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            self.assertEqual(sorted(found), list(map(function, range(1000))))

    @once
    def test_the_results_of_a_map_can_be_neither_copied_nor_pickled(self):
        for spoil in (copy.copy, pickle.dumps):
            results = pool.map(square, range(3))
            self.assertIsInstance(self.error_of(spoil, results), TypeError)
            self.assertEqual(list(results), [0, 1, 4])

    @once
    def test_a_thread_that_takes_from_a_map_for_which_another_waits_is_refused_and_takes_nothing(self):
        gate, got = self.gate(), []
        results = pool.map(hold, [gate] * 20, range(20))

        def take():
            got.extend(results)

        def takes():
            frames = traceback.walk_stack(sys._current_frames().get(thread.ident))
            return take.__code__ in [frame.f_code for frame, _ in frames][1:]

        thread = threading.Thread(target=take)
        thread.start()
        limit = time.monotonic() + 10
        while not takes() and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)  # now it waits
        self.assertIsInstance(self.error_of(lambda: next(results)), ValueError)
        self.open_gate(gate)
        thread.join()
        self.assertEqual(got, list(range(20)))

    def test_dropping_a_map_needs_no_garbage_collection(self):
        gc.disable()
        self.addCleanup(gc.enable)
        self.check_that_the_rest_is_cancelled(lambda results: None, [(number,) for number in range(200)])

    def check_that_the_rest_is_cancelled(self, end, items=range(200)):
        path, gate = self.path(), self.gate()
        self.open_gate(gate)
        results = pool.map(note_and_nap, [path] * 200, [0.01] * 200, items)
        self.assertEqual(next(results), items[0])
        end(results)
        del results
        pool.submit(square, 1).result()
        time.sleep(0.3)
        ran = len(self.notes(path))
        time.sleep(0.1)
        self.assertLess(ran, 190)
        self.assertEqual(len(self.notes(path)), ran, "more of it ran afterwards")

    def test_an_exception_is_raised_by_result_and_given_by_exception(self):
        future = pool.submit(fail, KeyError("k"))
        error = self.error_of(future.result)
        self.assertEqual((type(error), error.args), (KeyError, ("k",)))
        self.assertEqual(future.exception().args, ("k",))
        self.assertTrue(future.done())

    def test_a_result_that_is_asked_for_twice_is_one_object(self):
        future = pool.submit(append, [], 1)
        self.assertIs(future.result(), future.result())
        failed = pool.submit(fail, ValueError())
        self.assertIs(failed.exception(), failed.exception())

    def test_the_exception_of_a_success_is_None(self):
        self.assertIsNone(pool.submit(square, 1).exception())

    def test_StopIteration_of_a_submitted_task_is_its_error(self):
        self.assertIsInstance(pool.submit(stop).exception(), StopIteration)

    def test_result_and_exception_keep_to_their_timeouts(self):
        gate, (future,) = self.held("value")
        for method in (future.result, future.exception):
            for timeout in (-1, 0, 0.05):
                begin = time.monotonic()
                with self.assertRaises(pool.TimeoutError):
                    method(timeout=timeout)
                self.assertLess(time.monotonic() - begin, max(timeout, 0) + 1)
        self.open_gate(gate)
        self.assertEqual(future.result(timeout=5), "value")
        self.assertEqual(future.result(timeout=0), "value")

    def test_a_future_is_first_pending_or_running_then_done(self):
        gate, (future,) = self.held()
        wait_until(future.running)
        self.assertEqual((future.done(), future.cancelled()), (False, False))
        self.open_gate(gate)
        future.result()
        self.assertEqual((future.running(), future.done(), future.cancelled()), (False, True, False))

    def test_what_runs_or_is_done_cannot_be_cancelled(self):
        gate, (future,) = self.held("value")
        wait_until(future.running)
        self.assertFalse(future.cancel())
        self.open_gate(gate)
        self.assertEqual(future.result(), "value")
        self.assertFalse(future.cancel())

    def test_what_has_not_started_can_be_cancelled_and_never_runs(self):
        path = self.path()
        gate, futures = self.held(count=WORKERS)
        queued = [pool.submit(note, path, number) for number in range(200)]
        last = queued[-1]
        self.assertTrue(last.cancel())
        self.assertTrue(last.cancel(), "cancelling once more is no error")
        self.assertEqual((last.cancelled(), last.done(), last.running()), (True, True, False))
        for method in (last.result, last.exception):
            with self.assertRaises(pool.CancelledError):
                method()
        self.open_gate(gate)
        pool.wait(queued + futures)
        self.assertEqual(sorted(self.notes(path), key=int), [str(number) for number in range(199)])

    def test_wait_returns_all_when_all_are_done(self):
        futures = [pool.submit(square, 2), pool.submit(fail, ValueError())]
        result = pool.wait(futures)
        self.assertEqual((result.done, result.not_done), (set(futures), set()))
        self.assertEqual(result, pool.wait(futures, return_when=pool.ALL_COMPLETED))

    def test_wait_of_nothing_returns_at_once(self):
        done, not_done = pool.wait([])
        self.assertEqual((set(done), set(not_done)), (set(), set()))

    def test_wait_returns_when_the_first_is_done(self):
        first = pool.submit(square, 2)
        held = self.submit_hold()
        done, not_done = pool.wait([held, first], return_when=pool.FIRST_COMPLETED, timeout=10)
        self.assertEqual((done, not_done), ({first}, {held}))

    def test_wait_returns_when_the_first_fails(self):
        fine, bad = pool.submit(square, 2), pool.submit(fail, ValueError())
        held = self.submit_hold()
        done, not_done = pool.wait([held, bad, fine], return_when=pool.FIRST_EXCEPTION, timeout=10)
        self.assertIn(bad, done)
        self.assertEqual(not_done - {fine}, {held})

    def test_wait_for_a_first_failure_waits_for_all_when_none_fails(self):
        futures = [pool.submit(nap, 0.05), pool.submit(square, 1)]
        self.assertEqual(pool.wait(futures, return_when=pool.FIRST_EXCEPTION).done, set(futures))

    def test_wait_for_a_first_failure_sees_that_of_before(self):
        bad = pool.submit(fail, ValueError())
        bad.exception()
        held = self.submit_hold()
        begin = time.monotonic()
        self.assertEqual(pool.wait([bad, held], return_when=pool.FIRST_EXCEPTION, timeout=10), ({bad}, {held}))
        self.assertLess(time.monotonic() - begin, 5)

    def test_wait_keeps_to_its_timeout(self):
        first = pool.submit(square, 2)
        held = self.submit_hold()
        begin = time.monotonic()
        done, not_done = pool.wait([first, held], timeout=0.2)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual((done, not_done), ({first}, {held}))

    def test_as_completed_gives_each_future_once_as_it_gets_ready(self):
        gate = self.gate()
        first, second = pool.submit(square, 2), pool.submit(hold, gate)
        found = pool.as_completed([second, first, first], timeout=10)
        self.assertIs(next(found), first)
        self.open_gate(gate)
        self.assertEqual(list(found), [second])
        self.assertEqual(list(pool.as_completed([])), [])

    def test_as_completed_gives_what_is_ready_then_keeps_to_its_timeout(self):
        first = pool.submit(square, 2)
        first.result()
        held = self.submit_hold()
        found = pool.as_completed([held, first], timeout=0.2)
        self.assertIs(next(found), first)
        begin = time.monotonic()
        with self.assertRaises(pool.TimeoutError):
            next(found)
        self.assertLess(time.monotonic() - begin, 2)

    def test_as_completed_and_wait_count_a_cancelled_future_as_done(self):
        gate, futures = self.held(count=WORKERS)
        queued = [pool.submit(square, 1) for _ in range(200)]
        self.assertTrue(queued[-1].cancel())
        self.open_gate(gate)
        self.assertEqual(pool.wait(queued[-1:], timeout=5).done, {queued[-1]})
        self.assertEqual(list(pool.as_completed(queued[-1:], timeout=5)), queued[-1:])
        pool.wait(queued + futures)

    def test_callbacks_get_the_future_once_in_the_order_of_their_adding(self):
        called = []
        gate, (future,) = self.held()
        for name in "abc":
            future.add_done_callback(lambda found, name=name: called.append((name, found)))
        time.sleep(0.05)
        self.assertEqual(called, [])
        self.open_gate(gate)
        wait_until(lambda: len(called) >= 3)
        time.sleep(0.05)
        self.assertEqual(called, [("a", future), ("b", future), ("c", future)])

    def test_a_callback_of_a_finished_future_is_called(self):
        called = []
        future = pool.submit(square, 1)
        future.result()
        future.add_done_callback(called.append)
        wait_until(lambda: called == [future])

    def test_a_callback_of_a_failed_and_of_a_cancelled_future_is_called(self):
        called = []
        pool.submit(fail, ValueError()).add_done_callback(lambda future: called.append(type(future.exception())))
        wait_until(lambda: called == [ValueError])
        gate, futures = self.held(count=WORKERS)
        queued = [pool.submit(square, 1) for _ in range(200)]
        queued[-1].add_done_callback(lambda future: called.append(future.cancelled()))
        queued[-1].cancel()
        wait_until(lambda: called == [ValueError, True])
        self.open_gate(gate)
        pool.wait(queued + futures)

    def test_an_error_in_a_callback_hurts_no_other_callback_and_no_result(self):
        called = []
        gate, (future,) = self.held("value")
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(called.append)
        self.open_gate(gate)
        self.assertEqual(future.result(timeout=5), "value")
        wait_until(lambda: called == [future])

    def test_a_future_made_by_hand_can_be_given_a_result_or_an_error(self):
        future = pool.Future()
        self.assertEqual((future.running(), future.done()), (False, False))
        self.assertTrue(future.set_running_or_notify_cancel())
        self.assertTrue(future.running())
        future.set_result(5)
        self.assertEqual((future.result(), future.exception(), future.done()), (5, None, True))
        future = pool.Future()
        future.set_exception(ValueError("by hand"))
        self.assertEqual(str(self.error_of(future.result)), "by hand")

    def test_a_future_made_by_hand_that_was_cancelled_is_not_to_be_run(self):
        future = pool.Future()
        self.assertTrue(future.cancel())
        self.assertFalse(future.set_running_or_notify_cancel())
        with self.assertRaises(pool.CancelledError):
            future.result()

    def test_many_threads_may_submit_and_wait_at_once(self):
        found = {}

        def work(number):
            found[number] = (sum(pool.map(square, range(number))), pool.submit(square, number).result())

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(40, 48)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(found, {n: (sum(k ** 2 for k in range(n)), n ** 2) for n in range(40, 48)})


class Copies(Case):
    """A task has its own copy of its arguments, and results are copies. No two items share an object."""

    def test_a_task_changes_its_own_copy_of_an_argument(self):
        values = [1]
        self.assertEqual(pool.submit(append, values, 2).result(), [1, 2])
        self.assertEqual(list(pool.map(append, [values, values], [3, 4])), [[1, 3], [1, 4]])
        self.assertEqual(values, [1])

    def test_a_result_is_a_copy(self):
        values, mine = [1], Mine([2])
        results = [pool.submit(identity, values).result(), *pool.map(identity, [values, mine, mine])]
        self.assertTrue(all(result is not values and result is not mine for result in results))
        self.assertIsNot(results[2].value, results[3].value)

    def test_a_task_sees_its_arguments_as_they_were_at_the_call(self):
        values = [[1], [2], [3]]
        gate, futures = self.held(count=WORKERS)
        later, results = pool.submit(identity, values), pool.map(identity, values)
        for value in values:
            value.append("changed after the call")
        self.open_gate(gate)
        self.assertEqual((later.result(), list(results)), ([[1], [2], [3]],) * 2)

    def test_the_same_object_twice_in_the_input_is_two_objects(self):
        for count in (2, 7, 500):
            same = []
            found = list(pool.map(append, [same] * count, range(count)))
            self.assertEqual(found, [[number] for number in range(count)])
            self.assertEqual(len({id(value) for value in found}), count)

    def test_an_object_shared_inside_two_items_is_two_objects(self):
        shared = []
        items = [{"list": shared, "again": shared} for _ in range(50)]
        found = list(pool.map(nested_append, items, range(50)))
        self.assertEqual([item["list"] for item in found], [[number] for number in range(50)])
        self.assertTrue(all(item["again"] is item["list"] for item in found), "within one item it is one object")

    def test_the_same_object_in_a_lazy_input_is_many_objects(self):
        same = []
        found = list(pool.map(append, (same for _ in range(100)), iter(range(100))))
        self.assertEqual(found, [[number] for number in range(100)])

    def test_the_same_object_in_two_submits_is_two_objects(self):
        same = []
        found = [future.result() for future in [pool.submit(append, same, number) for number in range(20)]]
        self.assertEqual(found, [[number] for number in range(20)])

    def test_results_of_two_items_share_no_object(self):
        for lazy in (False, True):
            found = list(pool.map(the_same, iter(range(200)) if lazy else range(200)))
            self.assertEqual(len({id(value) for value in found}), 200)
        found = list(pool.map_as_completed(the_same, range(200)))
        self.assertEqual(len({id(value) for value in found}), 200)

    @once
    def test_values_keep_their_types(self):
        values = [1, True, 1.0, None, "a", b"a", 1j, Color.RED, Text("t"), 10 ** 40, -0.0, float("inf"), "\udc80", "",
                  (1, [2]), {3: {4}}, frozenset([5]), bytearray(b"6"), Ellipsis, NotImplemented, int, Mine, square]
        for count in range(1, len(values) + 1):
            part = values[:count]
            self.assertEqual(list(pool.map(kinds, part)), [(type(value).__name__, value) for value in part])
        for value in values:
            self.assertEqual(pool.submit(kinds, value).result(), (type(value).__name__, value))
            self.assertEqual(list(pool.map(identity, [value] * 3)), [value] * 3)

    @once
    def test_large_values_travel_whole(self):
        for size in (255 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024 + 7, 20 * 1024 * 1024):
            data = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
            self.assertTrue(pool.submit(identity, data).result() == data, size)
        blocks = [bytes([number]) * 700_000 for number in range(20)]
        self.assertTrue(list(pool.map(identity, blocks)) == blocks)


    def test_objects_are_pickled_and_rebuilt_in_the_users_own_threads(self):
        TRAVELS.clear()
        pool.submit(identity, Traveller()).result()
        list(pool.map(identity, [Traveller(), Traveller()]))
        list(pool.map(identity, iter([Traveller(), Traveller()])))
        list(pool.map_as_completed(identity, [Traveller()]))
        self.assertIsInstance(pool.submit(fail_with, TravellingError).exception(), TravellingError)
        self.assertIn("MainThread", TRAVELS)
        self.assertEqual(set(TRAVELS), {"MainThread"})

    @unittest.skipUnless(os.path.exists("/proc/self/statm"), "needs /proc")
    @once
    def test_what_has_been_delivered_takes_no_memory(self):
        processes = [os.getpid(), os.getppid(), parent_of(os.getppid()), *set(pool.map(where, range(10 * WORKERS)))]
        before = []
        for _ in range(2):
            for _ in range(60):
                pool.submit(identity, bytes(1 << 20)).result()
            list(pool.map(len, [bytes(1 << 20)] * 40))
            if not before:
                before = [resident(pid) for pid in processes]
        for pid, size in zip(processes, before):
            self.assertLess(resident(pid) - size, 24 << 20)


class Eager(Case):
    """What is submitted starts at once, and goes on while nobody waits."""

    def test_a_task_starts_on_an_idle_worker_while_the_submitter_computes(self):
        delays = []
        for _ in range(7):
            pool.submit(square, 1).result()
            begin = time.monotonic()
            future = pool.submit(moment)
            compute(0.08)
            delays.append(future.result() - begin)
        self.assertLess(statistics.median(delays), 0.06, delays)

    def test_futures_advance_while_nobody_waits(self):
        futures = [pool.submit(nap, 0.01) for _ in range(5 * WORKERS)]
        wait_until(lambda: compute(0.05) or all(future.done() for future in futures), LIMIT / 2)

    def test_results_as_they_come_may_come_while_one_is_taken(self):
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-7)
        try:
            found = sorted(pool.map_as_completed(identity, range(5000), chunksize=1))
        finally:
            sys.setswitchinterval(before)
        self.assertEqual(found, list(range(5000)))

    def test_a_map_advances_while_nobody_iterates_it(self):
        taken = []
        counted = (taken.append(item) or item for item in range(60))
        for items, read in ((range(60), range(60)), (list(range(60)), range(60)), (counted, taken)):
            path = self.path(type(items).__name__)
            results = pool.map(functools.partial(note_and_nap, path, 0), items)
            self.assertGreater(len(read), 0)       # of an input without a length what could be had in a moment
            wait_until(lambda path=path, read=read: compute(0.05) or len(self.notes(path)) == len(read), LIMIT / 4)
            self.assertEqual(len(list(results)), 60)

    @unittest.skipIf(WORKERS < 2, "needs a second worker")
    def test_the_child_of_a_task_starts_on_an_idle_worker_while_the_task_computes(self):
        starts = [pool.submit(child_starts_first, 0.15).result() for _ in range(5)]
        self.assertGreaterEqual(sum(starts), 3, starts)

    @unittest.skipIf(WORKERS < 2, "needs a second worker")
    def test_the_children_of_one_task_are_spread_over_the_workers(self):
        count = 4 * WORKERS
        self.assertLess(pool.submit(children_in_parallel, count, 0.1).result(), 0.6 * count * 0.1)

    def test_every_worker_takes_part_and_the_origin_runs_nothing(self):
        found = set(pool.map(where, range(10 * WORKERS)))
        self.assertEqual(len(found), WORKERS)
        self.assertNotIn(os.getpid(), found)

    def test_a_chunksize_takes_no_worker_out_of_work(self):
        self.assertEqual(len(set(pool.map(nap_and_where, [0.3] * WORKERS, chunksize=1))), WORKERS)


class Inputs(Case):
    """What has a length is pickled at the call; what has none goes through a window."""

    LOCK = threading.Lock()

    def check_message(self, error, *words):
        for word in words:
            self.assertIn(word, str(error))

    def test_a_StopIteration_while_an_item_is_pickled_is_an_error_as_any_other(self):
        for items in ([[1], StopsWhenPickled(), [3]], iter([[1], StopsWhenPickled(), [3]])):
            self.assertIsInstance(self.error_of(lambda items=items: list(pool.map(identity, items))), RuntimeError)

    def test_an_item_that_cannot_be_pickled_raises_at_the_call_and_names_the_path_to_the_culprit(self):
        error = self.error_of(pool.map, identity, [1, {"key": [2, Holder(self.LOCK)]}, 3])
        self.check_message(error, "lock", "key", "secret", "1")

    def test_an_argument_that_cannot_be_pickled_raises_at_the_call_and_names_the_path_to_the_culprit(self):
        self.check_message(self.error_of(pool.submit, identity, Holder((1, self.LOCK))), "lock", "secret")
        self.check_message(self.error_of(pool.submit, keywords, 1, word=[self.LOCK]), "lock", "word")
        self.check_message(self.error_of(pool.submit, identity, [1, Shy()]), "Shy", "[1]", "not to be pickled")

    def test_a_function_that_cannot_be_pickled_raises_at_the_call_and_is_named(self):
        def local():
            return lock

        lock = self.LOCK
        for function, name in ((lambda *_: lock, "lambda"), (local, "local"), (Holder(self.LOCK).get, "secret"),
                               (functools.partial(add, Holder(self.LOCK)), "secret")):
            self.check_message(self.error_of(pool.submit, function), name)
            self.check_message(self.error_of(pool.map, function, [1, 2]), name)
            self.check_message(self.error_of(pool.map, function, range(2)), name)

    def test_after_an_error_at_the_call_all_goes_on(self):
        for _ in range(5):
            self.error_of(pool.map, identity, [1, self.LOCK])
            self.error_of(pool.submit, identity, self.LOCK)
        self.assertEqual(list(pool.map(square, [1, 2])), [1, 4])

    def test_what_lies_beyond_the_shortest_input_is_not_pickled(self):
        self.assertEqual(list(pool.map(add, [1, 2, self.LOCK], [10, 20])), [11, 22])

    def test_a_range_is_neither_pickled_nor_walked(self):
        begin = time.monotonic()
        for stop_at in (10 ** 12, 10 ** 30):
            self.assertEqual(list(itertools.islice(pool.map(square, range(stop_at)), 5)), [0, 1, 4, 9, 16])
        self.assertLess(time.monotonic() - begin, 3)

    def test_ranges_of_any_step_are_right(self):
        for numbers in (range(5, 50, 7), range(50, 5, -7), range(-3, 3), range(0), range(1), range(5000)):
            self.assertEqual(list(pool.map(identity, numbers)), list(numbers))
            self.assertEqual(list(pool.map(add, numbers, numbers)), [2 * number for number in numbers])

    def test_inputs_of_any_kind_are_right(self):
        class Old:
            def __len__(self):
                return 3

            def __getitem__(self, index):
                return range(3)[index]

        for items in ("abc", b"abc", {"a": 1, "b": 2}, {1, 2, 3}, {"a": 1}.items(), collections.deque([1, 2]), Old(),
                      map(abs, [-1, 2]), iter([]), (number for number in range(3)), io.StringIO("a\nb\n")):
            keep = list(items) if hasattr(items, "__len__") else None
            found = list(pool.map(identity, items))
            expected = keep if keep is not None else found
            self.assertEqual(found, expected)
        self.assertEqual(list(pool.map(identity, io.StringIO("a\nb\n"))), ["a\n", "b\n"])

    def test_inputs_with_and_without_length_may_be_mixed(self):
        self.assertEqual(list(pool.map(add, [1, 2, 3], itertools.count(10))), [11, 13, 15])
        self.assertEqual(list(pool.map(add, itertools.count(10), range(3))), [10, 12, 14])
        self.assertEqual(list(pool.map(add, iter("ab") and iter([1, 2]), (10, 20, 30), range(10 ** 9))), [11, 23])

    def test_an_input_without_length_is_read_at_most_10000_items_ahead(self):
        source = Source()
        results = pool.map(identity, source)
        self.assertLessEqual(source.taken, 10_000)
        for count in range(200):
            self.assertEqual(next(results), count)
            self.assertLessEqual(source.taken, 10_000 + count + 1)
        time.sleep(0.1)
        self.assertLessEqual(source.taken, 10_000 + 201)

    def test_an_input_without_length_goes_on_beyond_its_window(self):
        self.assertEqual(list(pool.map(identity, iter(range(25_000)))), list(range(25_000)))

    @once
    def test_an_input_without_length_is_read_at_most_64_MiB_ahead(self):
        source = Source(bytes(4 << 20) for _ in range(40))
        results = pool.map(len, source)
        for count in range(24):
            self.assertLessEqual(source.taken, 16 + 2 + count)
            self.assertEqual(next(results), 4 << 20)

    def test_buffersize_is_the_window(self):
        source = Source()
        results = pool.map(identity, source, buffersize=5)
        self.assertLessEqual(source.taken, 5)
        for count in range(100):
            self.assertEqual(next(results), count)
            self.assertLessEqual(source.taken, 5 + count + 1)
        for size in (1, 2, 7, 20_000):
            self.assertEqual(list(pool.map(square, iter(range(50)), buffersize=size)), [n ** 2 for n in range(50)])
            self.assertEqual(list(pool.map(square, range(50), buffersize=size)), [n ** 2 for n in range(50)])
            self.assertEqual(list(pool.map(square, list(range(50)), buffersize=size)), [n ** 2 for n in range(50)])

    @unittest.skipUnless(os.path.exists("/proc/self/statm"), "needs /proc")
    @once
    def test_an_endless_input_takes_flat_memory(self):
        processes = [os.getpid(), os.getppid(), parent_of(os.getppid())]  # the origin, its agent, the launcher
        results = pool.map(square, itertools.count())
        self.assertEqual(sum(1 for _ in itertools.islice(results, 30_000)), 30_000)
        before = [resident(pid) for pid in processes]
        self.assertEqual(sum(1 for _ in itertools.islice(results, 70_000)), 70_000)
        for pid, size in zip(processes, before):
            self.assertLess(resident(pid) - size, 16 << 20)

    @unittest.skipUnless(os.path.exists("/proc/self/statm"), "needs /proc")
    @once
    def test_the_results_of_a_long_range_take_flat_memory(self):
        processes = [os.getpid(), os.getppid(), parent_of(os.getppid())]
        results = pool.map(square, range(10 ** 9))
        for _ in itertools.islice(results, 50_000):
            pass
        before = [resident(pid) for pid in processes]
        time.sleep(0.05)  # the workers go on; nobody reads
        for _ in itertools.islice(results, 50_000):
            pass
        for pid, size in zip(processes, before):
            self.assertLess(resident(pid) - size, 256 << 20)  # 200 MB come in a second; all are 40 GB

    def test_an_input_is_advanced_only_in_the_consumers_thread(self):
        source = Source(range(12_000))
        self.assertEqual(sum(1 for _ in pool.map(identity, source)), 12_000)
        self.assertEqual(source.threads, {threading.get_ident()})
        source = Source(range(300))
        self.assertEqual(sum(1 for _ in pool.map_as_completed(identity, source, buffersize=3)), 300)
        self.assertEqual(source.threads, {threading.get_ident()})

    @once
    def test_a_slow_input_does_not_delay_ready_results(self):
        for step, count in ((0.02, 30), (0.5, 3)):
            made = []

            def slow(step=step, count=count, made=made):
                for number in range(count):
                    time.sleep(step)
                    made.append(time.monotonic())
                    yield number

            lags = [time.monotonic() - made[number] for number in pool.map(identity, slow())]
            self.assertEqual(len(lags), count)
            self.assertLess(max(lags), step + 0.4, "one step of the input may lie between a result and its delivery")

    @once
    def test_an_input_that_is_quick_first_and_slow_later_does_not_hold_back_what_it_gave_before(self):
        def tiring():
            yield from range(3000)
            for number in range(3000, 3050):
                time.sleep(0.05)
                yield number

        began = time.monotonic()
        results = pool.map(identity, tiring())
        self.assertEqual(next(results), 0)
        self.assertLess(time.monotonic() - began, 1.5, "the slow part alone takes 2.5 s")
        results.close()

    def test_a_bad_item_of_an_input_without_length_raises_where_it_is_reached(self):
        results = pool.map(identity, iter([1, 2, Holder(self.LOCK), 4]))
        self.assertEqual([next(results), next(results)], [1, 2])
        self.check_message(self.error_of(next, results), "lock", "secret")

    def test_an_input_that_raises_raises_where_it_is_reached(self):
        def broken():
            yield from range(3)
            raise ValueError("the input broke")

        results = pool.map(identity, broken())
        self.assertEqual([next(results) for _ in range(3)], [0, 1, 2])
        error = self.error_of(next, results)
        self.assertEqual((type(error), str(error)), (ValueError, "the input broke"))

    def test_wrong_keywords_and_arguments_are_refused_at_the_call(self):
        for kind, arguments in (
            (TypeError, {"chunk": 1}), (TypeError, {"timeuot": 1}), (ValueError, {"chunksize": 0}),
            (ValueError, {"chunksize": -1}), ((TypeError, ValueError), {"chunksize": "2"}),
            (ValueError, {"buffersize": 0}), (ValueError, {"buffersize": -3}), (TypeError, {"buffersize": 2.5}),
            (TypeError, {"timeout": "1"}),
        ):
            for function in (pool.map, pool.map_as_completed):
                with self.assertRaises(kind, msg=f"{function.__name__} {arguments}"):
                    function(square, [1], **arguments)
        for bad in (lambda: pool.map(square, 5), lambda: pool.map(5, [1]), lambda: pool.submit(), pool.map):
            self.assertIsInstance(self.error_of(bad), TypeError)
        with self.assertRaises(ValueError):
            pool.wait([pool.submit(square, 1)], return_when="SOMETIMES")


class Maps(Case):
    """The first result as soon as it is there; what an iterated and a never iterated map do."""

    def test_the_first_result_comes_while_later_items_run(self):
        for kind in (list, iter):
            for function in (pool.map, pool.map_as_completed):
                gate, shut = self.gate(), self.gate()
                self.open_gate(gate)
                results = function(hold, kind([gate, shut]), [1, 2])
                self.assertEqual(next(results), 1)
                self.open_gate(shut)
                self.assertEqual(list(results), [2])

    @unittest.skipIf(WORKERS < 2, "on a loaded machine a worker may have given items back that nobody else can run")
    def test_quick_results_are_not_held_back_by_a_slow_item_behind_them(self):
        gate = self.gate()
        results = pool.map(hold_if_any, [""] * 3000 + [gate])
        self.assertEqual(list(itertools.islice(results, 3000)), [None] * 3000)
        self.open_gate(gate)
        self.assertEqual(next(results), "held")

    @unittest.skipIf(WORKERS < 2, "needs a second worker")
    def test_items_that_become_slow_are_shared_out_again(self):
        list(pool.map(nap_and_where, [0] * 3000))
        slow = list(pool.map(nap_and_where, [0] * 3000 + [0.02] * 60))[3000:]
        self.assertLess(max(map(slow.count, slow)), 0.75 * 60)

    def test_a_map_that_nobody_iterates_runs_to_its_end(self):
        self.addCleanup(setattr, pool, "FIRST_PULL", pool.FIRST_PULL)
        pool.FIRST_PULL = LIMIT  # seconds, so that the call reads the iterator to its end on a busy machine too
        for kind in (range, list, iter):
            path = self.path(kind.__name__)
            numbers = kind(range(30)) if kind is not range else range(30)
            pool.map(functools.partial(note_and_nap, path, 0.001), numbers)
            gc.collect()
            wait_until(lambda path=path: sorted(map(int, self.notes(path))) == list(range(30)))

    def test_closing_a_map_before_its_iteration_cancels_nothing(self):
        path = self.path()
        results = pool.map(functools.partial(note_and_nap, path, 0.001), range(30))
        results.close()
        wait_until(lambda: sorted(map(int, self.notes(path))) == list(range(30)))

    @once
    def test_leaving_a_loop_cancels_the_rest(self):
        path = self.path()
        for _ in pool.map(functools.partial(note_and_nap, path, 0.005), itertools.count()):
            break
        gc.collect()

        def is_still():
            count = len(self.notes(path))
            time.sleep(0.2)
            return len(self.notes(path)) == count
        wait_until(is_still)

    def test_a_map_can_be_read_in_another_thread_than_it_was_made_in(self):
        found = []
        results = pool.map(square, iter(range(15_000)))
        thread = threading.Thread(target=lambda: found.extend(results), daemon=True)
        thread.start()
        thread.join(10)
        self.assertEqual(found, [number ** 2 for number in range(15_000)])

    def test_two_maps_can_be_read_by_turns(self):
        pairs = zip(pool.map(square, itertools.count()), pool.map(identity, range(10 ** 6)))
        self.assertEqual(list(itertools.islice(pairs, 3000)), [(n ** 2, n) for n in range(3000)])

    def test_map_as_completed_gives_every_result_once(self):
        for items in (range(500), list(range(500)), iter(range(500))):
            self.assertEqual(sorted(pool.map_as_completed(square, items)), [number ** 2 for number in range(500)])
        self.assertEqual(list(pool.map_as_completed(square, [])), [])

    @unittest.skipIf(WORKERS < 2, "needs a second worker")
    def test_map_as_completed_gives_what_is_ready_first(self):
        self.assertEqual(list(pool.map_as_completed(nap, [0.3, 0])), [0, 0.3])

    def test_map_as_completed_raises_an_error_and_keeps_to_its_timeout(self):
        results = pool.map_as_completed(functools.partial(fail_at, 1), [1])
        self.assertEqual(str(self.error_of(next, results)), "number 1")
        with self.assertRaises(pool.TimeoutError):
            list(pool.map_as_completed(hold, [self.gate()], timeout=0.1))

    def test_map_and_submit_pickle_by_name(self):
        for name in ("map", "map_as_completed", "submit", "wait", "as_completed", "shutdown"):
            function = getattr(pool, name)
            self.assertIs(pickle.loads(pickle.dumps(function)), function)
        self.assertEqual(pool.submit(call, pool.map, square, [1, 2, 3]).result(), [1, 4, 9])
        self.assertEqual(pool.submit(call, functools.partial(pool.map, square), [1, 2]).result(), [1, 4])
        self.assertEqual(pool.submit(call, Holder(pool.map).get(), square, [4]).result(), [16])


class Errors(Case):
    """An exception comes back as itself, with its remote traceback, and only through its own future."""

    def text(self, error):
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))

    def test_an_exception_comes_back_as_itself(self):
        error = pool.submit(fail_with, Careful, "message", 7).exception()
        self.assertIs(type(error), Careful)
        self.assertEqual((error.args, error.code, error.extra), (("message", 7), 7, {"notes": [1, 2]}))

    def test_the_remote_traceback_is_its_cause(self):
        for error in (pool.submit(fail_at, 3, 3).exception(),
                      self.error_of(list, pool.map(functools.partial(fail_at, 3), range(5)))):
            self.assertIsInstance(error.__cause__, BaseException)
            cause = str(error.__cause__)
            self.assertIn("in fail_at", cause)
            self.assertIn('raise ValueError(f"number {number}")', cause)
            self.assertIn(os.path.basename(__file__), cause)
            self.assertIn("ValueError: number 3", self.text(error))

    def test_the_remote_traceback_has_the_inner_errors_too(self):
        error = pool.submit(raise_from_an_inner_error).exception()
        self.assertIn("the inner key", self.text(error))
        self.assertIn("direct cause", self.text(error))

    def test_host_worker_and_item_are_named(self):
        error = self.error_of(list, pool.map(functools.partial(fail_at, 37), range(40)))
        text = self.text(error)
        self.assertRegex(text, r"127\.0\.0\.1\D{1,12}\d+\b", "host and worker")
        self.assertRegex(text, r"item\W*37\b")
        text = self.text(pool.submit(fail_at, 3, 3).exception())
        self.assertRegex(text, r"127\.0\.0\.1\D{1,12}\d+, fail_at\]")

    def test_an_error_does_not_show_microscoops_own_lines_before_the_tasks(self):
        cause = str(pool.submit(fail_at, 3, 3).exception().__cause__)
        self.assertLess(cause.count("\n  File "), 4, cause)

    def test_an_exception_surfaces_only_through_its_own_future(self):
        bad, good = pool.submit(fail, ValueError("bad")), pool.submit(square, 4)
        self.assertEqual(good.result(), 16)
        self.assertEqual(list(pool.map(square, range(10))), [n ** 2 for n in range(10)])
        self.assertEqual(pool.submit(unread_child_fails).result(), 9)
        self.assertEqual(str(bad.exception()), "bad")

    def test_the_error_of_a_child_passes_through_its_parent(self):
        error = pool.submit(child_fails).exception()
        self.assertEqual((type(error), str(error)), (ValueError, "number 3"))
        self.assertIn("in fail_at", self.text(error))

    def test_what_cannot_be_rebuilt_arrives_as_RemoteError_with_name_text_and_traceback(self):
        for call, words in (
            ((fail_with, TwoArguments, "left", "right"), ("TwoArguments", "left and right", "in fail_with")),
            ((fail_with, Locked, "locked text"), ("Locked", "locked text", "in fail_with")),
            ((fail_with_a_local_class,), ("Local", "a local class", "in fail_with_a_local_class")),
            ((fail_with, NotAnErrorWhenRebuilt, "not one"), ("NotAnErrorWhenRebuilt", "not one", "in fail_with")),
            ((fail_with, ExitsWhenPickled, "exits"), ("ExitsWhenPickled", "exits", "in fail_with")),
            ((fail_with, ExitsWhenRebuilt, "exits"), ("ExitsWhenRebuilt", "exits", "in fail_with")),
        ):
            error = pool.submit(*call).exception()
            self.assertIs(type(error), RemoteError, call)
            for word in words[:2]:
                self.assertIn(word, str(error))
            self.assertIn(words[2], self.text(error))

    def test_an_exception_whose_class_makes_its_text_arrives_as_it_was(self):
        for error in (pool.submit(fail_with, Formats, 5).exception(),
                      self.error_of(list, pool.map(functools.partial(fail_with, Formats), [5]))):
            self.assertEqual((type(error), str(error), error.args, error.code), (Formats, "code 5", ("code 5",), 5))
            self.assertIn("Formats: code 5", self.text(error))

    def test_an_exception_without_a_text_still_arrives(self):
        self.assertIn("WithoutText", type(pool.submit(fail_with, WithoutText).exception()).__name__)

    @once
    def test_an_exception_with_any_characters_arrives(self):
        for message in ("é日本\U0001f600", "\udcff lone surrogate", "\0", "x" * 2_000_000):
            error = pool.submit(fail_with, ValueError, message).exception()
            self.assertEqual((type(error), str(error)), (ValueError, message))

    def test_a_result_that_cannot_be_pickled_is_the_error_of_its_task_alone(self):
        good, bad = pool.submit(square, 2), pool.submit(give_lock)
        error = bad.exception()
        self.assertIn("lock", str(error))
        self.assertIn("secret", str(error), "the path to the culprit")
        self.assertEqual(good.result(), 4)
        results = pool.map(give_lock, range(3))
        self.assertIn("lock", str(self.error_of(next, results)))

    def test_a_result_that_cannot_be_rebuilt_here_is_the_error_of_its_task_alone(self):
        bad, good = pool.submit(give_bad_traveller), pool.submit(square, 2)
        self.assertIn("cannot be rebuilt elsewhere", self.text(bad.exception()))
        self.assertEqual(good.result(), 4)

    def test_an_argument_that_cannot_be_rebuilt_there_is_the_error_of_its_item_alone(self):
        bad, good = pool.submit(identity, BadTraveller()), pool.submit(square, 2)
        self.assertIn("cannot be rebuilt elsewhere", self.text(bad.exception()))
        self.assertEqual(good.result(), 4)
        results = pool.map(kinds, [[1], [2], BadTraveller(), [4]])
        self.assertEqual([next(results), next(results)], [("list", [1]), ("list", [2])])
        self.assertIn("cannot be rebuilt elsewhere", self.text(self.error_of(next, results)))

    def test_a_function_that_workers_do_not_have_is_the_error_of_its_task_alone(self):
        late = type("late", (), {"__call__": square})
        late.__module__ = "__main__"
        setattr(sys.modules["__main__"], "late", late)  # noqa: B010 (only this process has it)
        self.addCleanup(delattr, sys.modules["__main__"], "late")
        self.assertIn("late", str(pool.submit(late()).exception()))
        self.assertIn("late", str(self.error_of(list, pool.map(late(), range(3)))))
        self.assertEqual(pool.submit(square, 2).result(), 4)

    def test_SystemExit_KeyboardInterrupt_and_GeneratorExit_are_the_error_of_their_task(self):
        before = set(pool.map(where, range(10 * WORKERS)))
        for raised in (SystemExit(3), KeyboardInterrupt("k"), GeneratorExit("g")):
            error = pool.submit(fail, raised).exception()
            self.assertEqual((type(error), error.args), (type(raised), raised.args))
            results = pool.map(fail, [raised])
            self.assertIs(type(self.base_error_of(next, results)), type(raised))
        self.assertEqual(pool.submit(sys.exit, "text").exception().code, "text")
        self.assertEqual(set(pool.map(where, range(10 * WORKERS))), before, "the workers live on")

    def test_errors_of_the_interpreter_come_back_too(self):
        self.assertIsInstance(pool.submit(recurse).exception(), RecursionError)
        self.assertIsInstance(pool.submit(fail, MemoryError()).exception(), MemoryError)
        self.assertIsInstance(pool.submit(open, "/no/such/file").exception(), FileNotFoundError)
        self.assertIsInstance(pool.submit(5 .__add__).exception(), TypeError)

    @unittest.skipIf(sys.version_info < (3, 11), "needs Python 3.11")
    def test_an_exception_group_and_notes_come_back(self):
        group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])  # noqa: F821 (3.11 has it)
        error = pool.submit(fail, group).exception()
        self.assertEqual([type(inner) for inner in error.exceptions], [ValueError, KeyError])


class Nesting(Case):
    """Any task may call map or submit and wait, on any number of workers."""

    def test_a_task_may_map_submit_and_wait_in_every_way(self):
        for function in (total_of_squares, total_of_submits, total_of_waits, total_of_completed, total_of_unordered,
                         total_of_lazy):
            self.assertEqual(pool.submit(function, 20).result(), 2470, function.__name__)
            self.assertEqual(list(pool.map(function, range(12))), [sum(k * k for k in range(n)) for n in range(12)])

    def test_a_chain_of_1000_nested_waits(self):
        self.assertEqual(pool.submit(chain, 1000).result(), 1000)

    @unittest.skipUnless(sys.platform == "linux", "elsewhere a stack may be as large")
    def test_a_chain_that_needs_a_thread_that_it_cannot_have_fails_by_name_and_the_rest_goes_on(self):
        self.assertEqual(pool.submit(chain, 1).result(), 1)
        future = pool.submit(chain_without_threads, 60)
        error = future.exception()                 # other workers may have the thread
        self.assertTrue(error is None or isinstance(error, RuntimeError), error)
        self.assertEqual(pool.submit(chain, 60).result(), 60)

    def test_a_chain_of_1000_nested_maps_and_of_1000_wait_calls(self):
        self.assertEqual(pool.submit(chain_of_maps, 1000).result(), 1000)
        self.assertEqual(pool.submit(chain_of_waits, 1000).result(), 1000)

    def test_many_chains_at_once(self):
        self.assertEqual(list(pool.map(chain, [100] * 8)), [100] * 8)

    def test_waits_with_a_timeout_nest(self):
        self.assertEqual(pool.submit(chain_with_timeouts, 12).result(), 12)

    def test_a_tree_of_2047_tasks(self):
        self.assertEqual(pool.submit(tree, 10).result(), 2047)

    def test_restless_trees_beneath_each_other(self):
        futures = [pool.submit(restless_tree, seed, 4) for seed in range(12)]
        self.assertEqual([future.result() for future in futures], [31] * 12)

    @unittest.skipIf(WORKERS < 2, "the children wait for each other's parents without microscoop's knowledge")
    def test_two_tasks_whose_children_run_beneath_each_others(self):
        for depth in (0, 1, 3):
            left, right = self.path(f"left{depth}"), self.path(f"right{depth}")
            futures = [pool.submit(crossed, left, right, depth), pool.submit(crossed, right, left, depth)]
            self.assertEqual([future.result(timeout=15) for future in futures], ["both ran"] * 2)

    def test_waiting_for_a_task_that_is_suspended_beneath_on_the_same_stack_raises(self):
        if WORKERS > 1:
            self.skipTest("only with one worker is it sure to be on the same stack")
        outcome, message = pool.submit(keep_and_wait).result(timeout=15)
        self.assertEqual(outcome, "raised", message)
        self.assertTrue(message)
        self.assertEqual(pool.submit(square, 2).result(), 4)

    def test_a_users_own_thread_inside_a_task_may_wait(self):
        self.assertEqual(pool.submit(children_of_a_thread).result(), [14])

    def test_users_own_threads_may_wait_in_as_many_tasks_as_there_are_workers(self):
        self.assertEqual(list(pool.map(child_of_a_patient_thread, range(2 * WORKERS))),
                         [[number ** 2] * 40 for number in range(2 * WORKERS)])

    def test_a_future_does_not_pickle_and_says_what_to_do(self):
        future = pool.submit(square, 2)
        for error in (self.error_of(pickle.dumps, future), self.error_of(pool.submit, identity, future),
                      self.error_of(pool.map, identity, [[future]]), pool.submit(give_future).exception()):
            self.assertIn("pass its result, or submit from here", str(error))

    def test_an_abandoned_child_does_not_hurt_its_parent(self):
        path = self.path()
        self.assertIsNone(pool.submit(abandon_children, path, 5).result())
        wait_until(lambda: len(self.notes(path)) == 5)


def abandon_children(path, count):
    for number in range(count):
        pool.submit(note, path, number)


class Callbacks(Case):
    """Callbacks run in one callback thread of the process that added them."""

    def test_callbacks_run_in_one_thread_of_the_process_that_added_them(self):
        called = []
        for number in range(20):
            pool.submit(square, number).add_done_callback(
                lambda _: called.append((os.getpid(), threading.get_ident())))
        done = pool.submit(square, 1)
        done.result()
        done.add_done_callback(lambda _: called.append((os.getpid(), threading.get_ident())))
        wait_until(lambda: len(called) == 21)
        self.assertEqual(len(set(called)), 1, set(called))
        self.assertEqual(called[0][0], os.getpid())
        self.assertNotEqual(called[0][1], threading.get_ident())

    def test_callbacks_of_a_task_run_in_its_own_process(self):
        self.assertTrue(pool.submit(callback_in_a_task).result())

    def test_a_callback_may_submit_and_wait(self):
        found = []
        future = pool.submit(square, 3)
        future.add_done_callback(lambda future: found.append(pool.submit(add, future.result()).result()))
        wait_until(lambda: found == [9])

    @once
    def test_a_slow_callback_delays_no_result(self):
        first = pool.submit(square, 3)
        go_on = threading.Event()
        first.add_done_callback(lambda _: go_on.wait(LIMIT))
        first.result()
        self.assertEqual(list(pool.map(square, range(5))), [0, 1, 4, 9, 16])
        go_on.set()


class Names(Case):
    """The script in its workers: names, arguments, folders, random numbers."""

    def test_classes_of_the_script_travel_both_ways(self):
        for made in (pool.submit(grow, Mine(1)).result(), *pool.map(grow, [Mine(1)])):
            self.assertIs(type(made), Mine)
            self.assertEqual(made.value, 2)
        self.assertEqual(pool.submit(identity, Pair(1, Color.RED)).result(), Pair(1, Color.RED))
        self.assertIs(pool.submit(identity, Mine).result(), Mine)

    def test_the_script_is_one_module_under_both_names_everywhere(self):
        here, there = surroundings(), pool.submit(surroundings).result()
        self.assertEqual(here, there)
        self.assertTrue(here["one module"] and here["has the script"])
        self.assertEqual(os.path.abspath(here["file"]), os.path.abspath(__file__))
        self.assertEqual(os.path.realpath(here["path"]), os.path.dirname(os.path.realpath(__file__)))
        self.assertEqual(os.path.abspath(here["argv"][0]), os.path.abspath(here["file"]))

    @once
    def test_a_function_whose_name_stands_for_another_by_now_is_still_that_function(self):
        self.assertEqual(pool.submit(renamed_on_the_way).result()[:10], [9] * 10)
        self.assertEqual(renamed_on_the_way(), [9] * 20)

    @once
    def test_multiprocessing_works_inside_a_task(self):
        self.assertEqual(pool.submit(spawn_a_process).result(), (0, 25))
        self.assertEqual(pool.submit(fork_a_process).result(), [1, 4, 9])

    @once
    def test_multiprocessing_works_in_the_origin(self):
        self.assertEqual(spawn_a_process(), (0, 25))
        self.assertEqual(fork_a_process(), [1, 4, 9])

    @once
    def test_neither_script_nor_tasks_have_microscoops_signal_handlers(self):
        usual = dict.fromkeys(signal_handlers(), True)
        self.assertEqual(pool.submit(signal_handlers).result(), usual)
        self.assertEqual(signal_handlers(), usual)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    @once
    def test_a_worker_leads_its_group_reads_nothing_and_hands_nothing_down(self):
        found = pool.submit(place_in_the_system).result()
        self.assertEqual(found, {"leads its group": True, "stdin": "", "descriptor 0": b""})
        self.assertEqual(pool.submit(handed_down).result(), handed_down())
        self.assertIn("True", handed_down())

    def test_unseeded_random_numbers_differ_between_workers(self):
        found = list(pool.map(first_random, range(3 * WORKERS)))
        self.assertEqual(len({number for _, number in found}), 3 * WORKERS, found)
        self.assertEqual(len({pid for pid, _ in found}), WORKERS)


# Running them


class TooSlow(AssertionError):
    pass


def _stop_case(*_):
    import harness  # only in the origin of a run under test, and only when it is needed
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        mine = file.read()
    raise TooSlow(f"lasted over {LIMIT} s; the stacks of this process:\n{mine}\nof the others:\n{harness.stacks()}")


class Report(unittest.TestResult):
    """Prints one line for each case, and below it what went wrong, indented."""

    def startTest(self, test):
        super().startTest(test)
        self.begin, self.said = time.monotonic(), False
        signal.setitimer(signal.ITIMER_REAL, LIMIT)

    def stopTest(self, test):
        signal.setitimer(signal.ITIMER_REAL, 0)
        super().stopTest(test)

    def _say(self, word, test, text=""):
        name = ".".join(test.id().split(".")[-2:])
        lines = [f"{word} {name} {time.monotonic() - self.begin:.2f}", *text.rstrip().splitlines()]
        print("\n    ".join(lines), flush=True)

    def addSuccess(self, test):
        self._say("ok", test)

    def addSkip(self, test, reason):
        self._say("skip", test, reason)

    def _bad(self, test, error):
        self._say("FAIL", test, self._exc_info_to_string(error, test))
        self.failures.append((test, ""))
        if isinstance(error[1], TooSlow):
            self.shouldStop = True  # the rest would wait for the same thing

    addFailure = addError = _bad


def names(kind, workers):
    """The cases of a class that are to be run with so many workers."""
    found = unittest.TestLoader().getTestCaseNames(kind)
    return [name for name in found if workers == 3 or not hasattr(getattr(kind, name), "once")]


def cases(pattern=""):
    """All cases whose name holds the pattern; without microscoop those of PEP 3148."""
    kinds = [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Case)]
    suite = [kind(name) for kind in kinds if LAUNCHED or kind is Pep3148 for name in names(kind, WORKERS)]
    return [case for case in suite if pattern in case.id()]


def main(patterns):
    print(f"pool {'microscoop.futures' if LAUNCHED else 'ThreadPoolExecutor'}, {WORKERS} workers", flush=True)
    signal.signal(signal.SIGALRM, _stop_case)
    report = Report()
    unittest.TestSuite(case for pattern in patterns for case in cases(pattern)).run(report)
    print("done", flush=True)
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if not word.isdigit()] or [""])
