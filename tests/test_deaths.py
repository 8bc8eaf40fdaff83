"""A process that dies loses no task and leaves nothing behind: workers, the origin, the launcher, its agent."""
from __future__ import annotations

import os
import signal
import textwrap
import time
import unittest

from tests import harness

HEAD = """
import ctypes, os, signal, subprocess, sys, threading, time
from microscoop import futures
from microscoop.errors import WorkerLost

def note(*values):
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, values)) + "\\n").encode())
    os.close(descriptor)

def die(how):
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)

def outcome(future):
    error = future.exception()
    return future.result() if error is None else error

"""


class Case(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.path = self.script("").with_name("notes")

    def notes(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def go(self, text, *options, n=3, timeout=30):
        return harness.run("-q", "-n", str(n), *options, self.script(HEAD + text), str(self.path), timeout=timeout)


class Workers(Case, harness.AtOnce):
    def test_the_unfinished_line_that_a_dead_worker_has_printed_comes_out(self):
        result = self.go("""
def task(way):
    print("last words,", flush=True, end="")
    if way == "close":
        os.close(1)
        return way
    die(way)
if __name__ == "__main__":
    for way in "exit", "kill", "close":
        outcome(futures.submit(task, way))
""", "--retries", "0", n=1)
        self.assertEqual((result.status, result.out), (0, 3 * "last words,"), result.err)

    def test_an_item_whose_worker_dies_once_is_run_again_and_nothing_is_lost(self):
        cases = [(how, n) for how in ("exit", "kill") for n in (1, 3)]
        results = harness.at_once(lambda case: self.go("""
def task(k, how, path):
    if k == 37 and not os.path.exists(path):
        note("died")
        open(path, "w").close()
        die(how)
    return k
if __name__ == "__main__":
    path = __file__ + ".died"
    print(list(futures.map(task, range(300), [%r] * 300, [path] * 300)) == list(range(300)))
    print([futures.submit(task, k, "", path).result() for k in (1, 37)])
""" % case[0], n=case[1]), cases)
        for case, result in zip(cases, results):
            with self.subTest(case):
                self.assert_ended(result, "True\n[1, 37]\n")
        self.assertEqual(self.notes(), ["died"] * 4)

    def test_a_culprit_is_tried_again_as_often_as_retries_says_then_fails_as_WorkerLost(self):
        cases = (((), 3), (("--retries", "0"), 1), (("--retries", "1"), 2))
        results = harness.at_once(lambda case: self.go("""
def task(k):
    if k == 5:
        note(%d, os.getpid())
        die("kill")
    return k
if __name__ == "__main__":
    found = [futures.submit(task, k) for k in range(12)]
    print([outcome(future) for k, future in enumerate(found) if k != 5])
    error = found[5].exception()
    print(type(error) is WorkerLost, error.host, error.attempts, "SIGKILL" in str(error) or
          "signal 9" in str(error), error.host in str(error))
""" % case[1], *case[0]), cases)
        for (options, attempts), result in zip(cases, results):
            with self.subTest(options):
                self.assert_ended(result, f"{[k for k in range(12) if k != 5]}\nTrue 127.0.0.1 {attempts} True True\n")
                notes = [note for note in self.notes() if note.startswith(f"{attempts} ")]
                self.assertEqual(len(set(notes)), attempts, "each attempt in a worker of its own")

    def test_WorkerLost_names_how_the_worker_ended_and_the_item(self):
        result = self.go("""
def task(how, k=0):
    if k == 7:
        die(how)
    return k
if __name__ == "__main__":
    for how in ("exit", "kill", "abort"):
        print(outcome(futures.submit(task, how, 7)))
    try:
        list(futures.map(task, ["exit"] * 10, range(10)))
    except WorkerLost as error:
        print(error.item, error)
""", "--retries", "0")
        lines = result.out.splitlines()
        self.assertEqual(len(lines), 4, result)
        self.assertRegex(lines[0], r"status 3\b")
        self.assertRegex(lines[1], r"SIGKILL|signal 9\b")
        self.assertRegex(lines[2], r"SIGABRT|signal 6\b")
        self.assertRegex(lines[3], r"^7 .*\b7\b")

    def test_items_in_the_block_of_a_culprit_are_untouched_even_without_retries(self):
        result = self.go("""
def task(k, seconds):
    if k % 300 == 150:
        die("kill")
    if seconds:
        time.sleep(seconds)
    note(k)
    return k
if __name__ == "__main__":
    futures.map(task, range(300), [0] * 300)       # nobody iterates it: it runs to its end
    futures.map(task, range(300, 600), [0.001] * 300)
""", "--retries", "0", n=2)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(sorted(set(map(int, self.notes()))), [k for k in range(600) if k % 300 != 150])
        self.assertEqual(result.err.count("WorkerLost"), 2, result.err)

    def test_a_death_while_an_argument_is_rebuilt_or_a_result_is_pickled_is_that_items(self):
        moments = ("rebuilt", "pickled")
        results = harness.at_once(lambda moment: self.go(f"""
def rebuild(k, origin):
    if {moment == "rebuilt"} and k == 7 and os.getpid() != origin:
        die("exit")
    return Thing(k, origin)
class Thing:
    def __init__(self, k, origin):
        self.k, self.origin = k, origin
    def __reduce__(self):
        if {moment == "pickled"} and self.k == 7 and os.getpid() != self.origin:
            die("exit")
        return rebuild, (self.k, self.origin)
def task(thing):
    return thing
if __name__ == "__main__":
    found = [futures.submit(task, Thing(k, os.getpid())) for k in range(12)]
    print([k for k, future in enumerate(found) if future.exception() is not None])
    results = futures.map(task, [Thing(k, os.getpid()) for k in range(12)])
    try:
        for k, thing in enumerate(results):
            pass
    except WorkerLost as error:
        print(k, error.item)
""", "--retries", "0"), moments)
        for moment, result in zip(moments, results):
            with self.subTest(moment):
                self.assert_ended(result, "[7]\n6 7\n")

    def test_a_function_that_kills_while_it_is_rebuilt_fails_its_first_item_and_no_host(self):
        result = self.go("""
class Function:
    def __call__(self, k):
        return k
    def __setstate__(self, state):
        die("exit")
if __name__ == "__main__":
    function = Function()
    function.data = 1
    for size in (1, 100000):
        function.data = bytes(size)
        try:
            list(futures.map(function, range(10)))
        except WorkerLost as error:
            print(error.item)
    print(list(futures.map(abs, range(3))))
""", "--ssh-executable", "env WHERE={host}", "--host", "a", "b")
        self.assert_ended(result, "0\n0\n[0, 1, 2]\n")
        self.assertEqual(result.err, "")

    def test_large_arguments_and_results_survive_the_deaths_of_workers(self):
        self.assert_ended(self.go("""
def task(k, data):
    if k % 3 == 0 and not os.path.exists(sys.argv[1] + str(k)):
        open(sys.argv[1] + str(k), "w").close()
        die("kill")
    return data[::-1]
if __name__ == "__main__":
    datas = [bytes([k]) * (1 << 20) + os.urandom(1 << 20) for k in range(10)]
    print(all(result == data[::-1] for result, data in zip(futures.map(task, range(10), datas), datas)))
"""), "True\n")

    def test_a_map_gives_all_results_before_its_culprit(self):
        self.assert_ended(self.go("""
def task(k):
    if k == 150:
        die("exit")
    return k
if __name__ == "__main__":
    results = futures.map(task, range(300))
    found = []
    try:
        for value in results:
            found.append(value)
    except WorkerLost as error:
        print(found == list(range(150)), error.item)
""", "--retries", "0"), "True 150\n")

    def test_a_slow_reader_sees_the_output_of_a_dead_worker_before_the_results(self):
        text = HEAD + """
def task(k):
    print((".\\n" * 100000) + "output %d" % k)
    if k == 0:
        threading.Timer(0.3, die, ("exit",)).start()    # when the result has been sent
    return k
if __name__ == "__main__":
    for k in futures.map(task, range(2)):
        os.write(1, b"result %d\\n" % k)
"""
        for way in ((), ("--ssh-executable", "env WHERE={host}", "--host", "a", "--")):
            words = harness.microscoop("-q", "-n", "1", *way, self.script(text), self.path)
            result = harness.Run(["sh", "-c", '"$@" | { sleep 1; cat; }', "sh", *words]).finish(20)
            lines = [line for line in result.out.splitlines() if line != "."]
            self.assertEqual(lines, ["output 0", "result 0", "output 1", "result 1"], result.err)

    def test_an_idle_worker_that_is_killed_is_replaced(self):
        self.assert_ended(self.go("""
def pid(_=None):
    time.sleep(0.02)
    return os.getpid()
if __name__ == "__main__":
    before = set(futures.map(pid, range(30)))
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    after = set(futures.map(pid, range(60)))
    while len(after - before) < 3:              # until all are replaced
        after = set(futures.map(pid, range(60)))
    print(len(before), len(after), before & after)
"""), "3 3 set()\n")

    def test_a_worker_killed_from_outside_while_it_works_loses_nothing(self):
        self.assert_ended(self.go("""
def task(k):
    time.sleep(0.01)
    return k, os.getpid()
if __name__ == "__main__":
    results, victims = [], set()
    for k, pid in futures.map(task, range(150)):
        results.append(k)
        if k % 40 == 20 and pid not in victims:
            victims.add(pid)
            os.kill(pid, signal.SIGKILL)
    print(results == list(range(150)), len(victims) > 1)
"""), "True True\n")

    def test_a_parent_whose_child_dies_gets_the_childs_result_from_another_attempt(self):
        for result in harness.at_once(lambda n: self.go("""
def child(k):
    if not os.path.exists(__file__ + ".died"):
        open(__file__ + ".died", "w").close()
        die("kill")
    return k
def parent(k):
    return futures.submit(child, k).result() + sum(futures.map(abs, range(k)))
if __name__ == "__main__":
    print(futures.submit(parent, 5).result(), os.path.exists(__file__ + ".died"))
""", n=n), (1, 3)):
            self.assert_ended(result, "15 True\n")

    def test_a_parent_that_dies_after_its_children_began_is_run_again(self):
        for result in harness.at_once(lambda n: self.go("""
def child(k):
    time.sleep(0.02)
    return k
def parent(k):
    children = [futures.submit(child, number) for number in range(k)]
    if not os.path.exists(__file__ + ".died"):
        open(__file__ + ".died", "w").close()
        children[0].result()
        die("exit")
    return sum(child.result() for child in children)
if __name__ == "__main__":
    print(list(futures.map(parent, [4, 5, 6])), os.path.exists(__file__ + ".died"))
""", n=n), (1, 3)):
            self.assert_ended(result, "[6, 10, 15] True\n")

    def test_the_loss_of_a_child_is_an_error_that_its_parent_can_catch(self):
        self.assert_ended(self.go("""
def child():
    die("exit")
def parent():
    future = futures.submit(child)
    time.sleep(0.3)                     # it does not wait: another worker takes the child
    try:
        future.result()
    except WorkerLost as error:
        return "caught"
if __name__ == "__main__":
    print(futures.submit(parent).result())
    print(type(futures.submit(list, [1]).result()))
""", "--retries", "0", n=2), "caught\n<class 'list'>\n")

    def test_an_exit_of_a_task_is_its_error_and_no_death(self):
        self.assert_ended(self.go("""
def leave(how):
    note(os.getpid())
    sys.exit(how)
if __name__ == "__main__":
    print([repr(futures.submit(leave, how).exception()) for how in (3, "text", None)])
""", n=1), "['SystemExit(3)', \"SystemExit('text')\", 'SystemExit()']\n")
        self.assertEqual(len(set(self.notes())), 1)

    def test_when_every_task_kills_its_worker_the_run_ends_and_says_so(self):
        begin = time.monotonic()
        result = self.go("""
if __name__ == "__main__":
    found = [outcome(future) for future in [futures.submit(die, "kill") for _ in range(8)]]
    print({type(error).__name__ for error in found})
""", timeout=25)
        self.assertTrue(result.out == "{'WorkerLost'}\n" or (result.status and result.err.strip()), result)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertLess(result.err.count("Traceback"), 2, result.err)

    def test_output_of_a_worker_that_dies_is_not_lost(self):
        result = self.go("""
def task():
    print("last words", flush=True)
    die("kill")
if __name__ == "__main__":
    print(type(futures.submit(task).exception()).__name__, flush=True)
""", "--retries", "0")
        self.assert_ended(result, "last words\nWorkerLost\n")

    def test_programs_that_a_dead_worker_started_die_with_it(self):
        self.assert_ended(self.go("""
def task():
    child = subprocess.Popen(["sleep", "1000"])
    note(child.pid)
    die("kill")
if __name__ == "__main__":
    print(type(futures.submit(task).exception()).__name__)
    pid = int(open(sys.argv[1]).read())
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            print("gone")
            break
        if open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0] == "Z":
            print("gone")
            break
        time.sleep(0.01)
""", "--retries", "0"), "WorkerLost\ngone\n")

    def test_a_task_that_holds_the_interpreter_lock_is_not_taken_for_dead(self):
        self.assert_ended(self.go("""
def task(seconds):
    note(os.getpid())
    ctypes.PyDLL(None).usleep(int(seconds * 1000000))
    return seconds
if __name__ == "__main__":
    print(futures.submit(task, 0.5).result())
"""), "0.5\n")
        self.assertEqual(len(self.notes()), 1)


@unittest.skipUnless(os.path.exists("/proc/self/environ"), "needs /proc")
class TaskTimeouts(Case):
    """--task-timeout: the task fails by name, once; nobody else does."""

    def test_a_task_that_sleeps_or_holds_the_interpreter_lock_too_long_fails_by_name(self):
        result = self.go("""
import ctypes
from microscoop.errors import TaskTimeout
def task(k):
    note(k)
    if k == 3:
        time.sleep(100)
    if k == 5:
        ctypes.PyDLL(None).sleep(100)
    time.sleep(0.02)
    return k
def outcome(future):
    try:
        return future.result()
    except TaskTimeout as error:
        return error.item, error.seconds
if __name__ == "__main__":
    results, found = futures.map(task, range(5)), [futures.submit(task, k) for k in range(12)]
    print([outcome(future) for future in found])
    try:
        for k in results:
            print(k)
    except TaskTimeout as error:
        print(error)
""", "--task-timeout", "1", "--retries", "0")
        late = ("task", 1.0)
        self.assert_ended(result, "%s\n0\n1\n2\nitem 3 on 127.0.0.1 ran longer than 1 s and was ended\n"
                   % [0, 1, 2, late, 4, late, *range(6, 12)])
        self.assertEqual([self.notes().count(k) for k in ("3", "5")], [2, 1], "none is run again")


class Hosts(Case):
    """Behind a command that runs here what it is given: it becomes the host's janitor, in a group with the agent."""

    STEADY = """
def where(k):
    time.sleep(0.01)
    return os.environ["WHERE"], os.getppid()
if __name__ == "__main__":
    agents = {}
    while len(agents) < 2:
        agents.update(futures.map(where, range(20)))
    print(agents["a"], agents["b"], flush=True)
    while not os.path.exists(sys.argv[1]):
        list(futures.map(where, range(20)))
    print("done")
"""

    def start(self):
        way = ("--ssh-executable", "env WHERE={host}", "--host", "a", "b", "-n", "2")
        run = harness.start("-q", *way, self.script(HEAD + self.STEADY), self.path)
        run.await_out("\n")
        return run, [int(word) for word in run.out.text().split()]

    def test_leave_no_directory_when_an_agent_was_stopped_for_a_moment(self):
        run, agents = self.start()
        before = sorted(harness.left_files())
        self.assertEqual(len(before), 2)
        for agent in agents:
            os.kill(agent, signal.SIGSTOP)
        stopped = harness.until(lambda: [one.state for one in harness.processes() if one.pid in agents] == ["T"] * 2, 5)
        self.assertTrue(stopped, harness.processes())
        removed = harness.until(lambda: sorted(harness.left_files()) != before, 0.3)   # their janitors see it meanwhile
        self.assertFalse(removed, harness.left_files())
        for agent in agents:
            os.kill(agent, signal.SIGCONT)
        self.path.touch()
        result = run.finish(10)
        self.assertEqual((result.status, result.out.splitlines()[1:]), (0, ["done"]), result.err)

    def test_leave_no_directory_when_agent_or_janitor_is_killed(self):
        run, (agent, other) = self.start()
        (janitor,) = [one.parent for one in harness.processes() if one.pid == other]
        os.kill(agent, signal.SIGKILL)
        os.kill(janitor, signal.SIGKILL)
        note = "a is lost: its ssh or its agent has ended"
        run.await_err(note)
        self.path.touch()
        result = run.finish(10)
        self.assertEqual((result.status, result.out.splitlines()[1:]), (0, ["done"]), result.err)

    def test_lose_no_item_where_processes_cannot_be_started(self):
        script = self.script(HEAD + """
def nap(k):
    time.sleep(0.01)
    return k
if __name__ == "__main__":
    while not os.path.exists(sys.argv[1]):
        assert list(futures.map(nap, range(20))) == list(range(20))
    print("done")
""")
        far = ("--ssh-executable", "env WHERE={host}", "--host", "a", "b")
        none, *some = (harness.Run(["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh",
                                    *harness.microscoop(*way, "-n", "8", script, self.path)])
                       for files, way in ((16, ()), (21, ()), (21, far)))      # an origin alone, or some of the workers
        for run in (none, *some):
            run.await_err("a process cannot be started: Too many open files (at most ")
            run.await_err("): raise that limit (ulimit -Hn), or have fewer workers\n")
        none.await_err("no worker could be started on any host")
        self.path.touch()
        for run in some:
            result = run.finish(20)
            self.assert_ended(result, "done\n")
            self.assertNotIn("Traceback", result.err)
        result = none.finish(20)
        self.assertEqual(result.status, 2)
        self.assertEqual((result.out, result.err.count("Traceback")), ("", 0), result.err)

    def test_leave_no_directory_when_the_launcher_is_killed(self):
        run, _ = self.start()
        run.process.kill()
        self.assert_gone()
        run.finish(5)


class Launcher(Case):
    """Killed with SIGKILL: launcher, its agent, origin. Nothing of theirs is alive after 5 seconds."""

    BUSY = """
def nap(k):
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)
def lock(k):
    note("lock", os.getpid())
    ctypes.PyDLL(None).sleep(1000)
def nest(k):
    return futures.submit(nap, k).result()
if __name__ == "__main__":
    opened = [futures.submit(task, 1) for task in (nap, lock, nest)]
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    time.sleep(0.2)
    print("busy", os.getpid(), flush=True)
    futures.wait(opened)
"""

    def start(self, text=BUSY):
        run = harness.start("-n", "4", self.script(HEAD + text), str(self.path))
        run.await_out("busy")
        run.await_out("\n")
        return run, int(run.out.text().split()[1])

    def kill(self, run, pid, number=signal.SIGKILL, seconds=5):
        begin = time.monotonic()
        os.kill(pid, number)
        self.assert_gone(seconds)
        self.assertLess(time.monotonic() - begin, seconds)
        return run.finish(5)

    def test_nothing_survives_a_killed_launcher(self):
        run, _ = self.start()
        self.kill(run, run.process.pid)

    def test_nothing_survives_a_killed_origin_and_the_launcher_says_so(self):
        run, origin = self.start()
        result = self.kill(run, origin)
        self.assertNotEqual(result.status, 0)
        self.assertRegex(result.err, "SIGKILL|signal 9|killed")

    def test_nothing_survives_a_killed_agent(self):
        run, origin = self.start()
        agent = next(process.parent for process in harness.processes() if process.pid == origin)
        self.assertNotEqual(agent, run.process.pid)
        self.assertNotEqual(self.kill(run, agent).status, 0)

    def test_nothing_survives_a_launcher_that_is_told_to_end(self):
        runs = {}
        for number in (signal.SIGTERM, signal.SIGHUP):
            runs[number], _ = self.start()
            self.path.unlink()
        for number, run in runs.items():
            os.kill(run.process.pid, number)
        self.assert_gone()
        self.assertNotIn(0, [run.finish(5).status for run in runs.values()])

    def test_nothing_survives_a_launcher_killed_at_its_start(self):
        for delay in (0.02, 0.05, 0.08, 0.12, 0.2):
            run = harness.start("-n", "4", self.script(HEAD + self.BUSY), str(self.path))
            time.sleep(delay)
            self.kill(run, run.process.pid)

    def test_nothing_is_said_of_a_launcher_killed_while_its_agent_forks(self):
        result = harness.plain("-c", textwrap.dedent("""
            import os, signal, sys, time
            from microscoop import agent, cli
            hand_out, launcher = agent.Agent._hand_out, os.getpid()

            def kill_first(self, *args):
                if os.getppid() == launcher:
                    os.kill(launcher, signal.SIGKILL)
                while os.getppid() == launcher:
                    time.sleep(0.01)
                return hand_out(self, *args)

            agent.Agent._hand_out = kill_first
            sys.exit(cli.main(sys.argv[1:]))
        """), "-q", "-n", "2", self.script(HEAD + self.BUSY), str(self.path))
        self.assertEqual(result, (-signal.SIGKILL, "", ""))

    def test_nothing_survives_a_launcher_killed_while_an_origin_floods_it(self):
        run, _ = self.start("""
def echo(data):
    return data
if __name__ == "__main__":
    print("busy", os.getpid(), flush=True)
    while True:
        for _ in futures.map(echo, [bytes(3000000)] * 50):
            pass
""")
        time.sleep(0.3)
        self.kill(run, run.process.pid)

    def test_nothing_survives_a_killed_launcher_with_stopped_workers(self):
        run, _ = self.start("""
def stop(k):
    os.kill(os.getpid(), signal.SIGSTOP)
if __name__ == "__main__":
    opened = [futures.submit(stop, k) for k in range(2)]
    time.sleep(0.3)
    print("busy", os.getpid(), flush=True)
    futures.wait(opened)
""")
        self.kill(run, run.process.pid)

    def test_nothing_survives_a_script_that_dies_of_a_signal(self):
        result = self.go("""
def nap(k):
    time.sleep(1000)
if __name__ == "__main__":
    opened = [futures.submit(nap, k) for k in range(9)]
    os.kill(os.getpid(), signal.SIGSEGV)
""")
        self.assertNotEqual(result.status, 0)
        self.assertRegex(result.err, "SIGSEGV|signal 11|[Ss]egmentation")


if __name__ == "__main__":
    unittest.main()
