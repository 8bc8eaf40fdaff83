"""microscoop.Executor, as programs use it: run with plain Python, under the launcher, at a prompt, with hosts."""
from __future__ import annotations

import os
import shlex
import signal
import sys
import unittest

from tests import harness, sshd

HEAD = """
import asyncio, concurrent.futures, operator, os, signal, subprocess, sys, threading, time
import microscoop
from microscoop import futures

def square(x):
    return x * x

def nested(x):
    return sum(futures.map(square, range(x)))

def say(text, seconds=0):
    time.sleep(seconds)
    print(text, flush=True)
    return text

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)

def launcher():
    return os.getppid(), os.getpid()
"""


class Programs(harness.AtOnce):
    def go(self, text, *words, **more):
        return harness.plain("-u", str(self.script(HEAD + text)), *words, **{"timeout": 40, **more})

    def check(self, text, out, *words, **more):
        result = self.go(text, *words, **more)
        self.assertEqual((result.status, result.out, result.err), (0, out, ""))


class Standard(Programs):
    """What concurrent.futures and asyncio expect of an executor."""

    def test_nothing_is_said_where_python_warns_of_everything(self):
        script = self.script(HEAD + """
if __name__ == "__main__":
    with microscoop.Executor(2) as executor:
        print(list(executor.map(square, [1, 2])))
""")
        self.assertEqual(harness.plain("-X", "dev", "-W", "error", script), (0, "[1, 4]\n", ""))

    def test_futures(self):
        self.check("""
async def chores(executor):
    loop = asyncio.get_running_loop()
    wrapped = asyncio.wrap_future(executor.submit(square, 5))
    return await asyncio.gather(wrapped, *(loop.run_in_executor(executor, square, i) for i in range(3)))

if __name__ == "__main__":
    with microscoop.Executor(3) as executor:
        one = executor.submit(square, 3)
        assert isinstance(executor, concurrent.futures.Executor) and isinstance(one, concurrent.futures.Future)
        done, not_done = concurrent.futures.wait([one, executor.submit(say, "said")], timeout=20)
        print(sorted(str(future.result()) for future in done), not_done)
        print(asyncio.run(chores(executor)))
        failed = executor.submit(operator.truediv, 1, 0)
        print(repr(failed.exception()), "Traceback" in str(failed.exception().__cause__))
        print(sorted(f.result() for f in concurrent.futures.as_completed([executor.submit(abs, -i) for i in (1, 2)])))
        print(executor.submit(nested, 10).result(), list(executor.map(nested, [3, 4])))
        called = threading.Event()
        executor.submit(square, 2).add_done_callback(lambda f: executor.submit(square, f.result()).add_done_callback(
            lambda f: (print("called back:", f.result()), called.set())))
        called.wait(20)
        assert "the task[1][0] is lock" in outcome(executor.submit, square, threading.Lock())
        big = b"x" * (5 << 20)
        assert executor.submit(operator.add, big, big).result() == big + big
""", "said\n['9', 'said'] set()\n[25, 0, 1, 4]\nZeroDivisionError('division by zero') True\n[1, 2]\n285 [5, 14]\n"
     "called back: 16\n")

    def test_map(self):
        self.check("""
def slow(x):
    time.sleep(x)
    return x

if __name__ == "__main__":
    with microscoop.Executor(2) as executor:
        assert sum(executor.map(abs, range(100_000))) == 4999950000
        began = time.monotonic()
        list(executor.map(abs, range(20_000)))
        mapped = time.monotonic()
        concurrent.futures.wait([executor.submit(abs, i) for i in range(5_000)])
        assert mapped - began < time.monotonic() - mapped, "a message for each item?"
        taken = iter(range(5))
        results = executor.map(pow, taken, iter([2] * 9), chunksize=2)
        assert list(taken) == [], "read at the call"
        print(list(results), list(executor.map(square, [])), list(executor.map(square, iter(()))))
        print(outcome(list, executor.map(slow, [0, 1], timeout=0.2)))
        print(outcome(executor.map, square, [1], chunksize=0))
        broken = executor.map(operator.truediv, [1, 1, 1], [1, 0, 1])
        print(next(broken), outcome(next, broken), list(broken))
        started = executor.map(say, ["not", "iterated"])
    print(list(started), outcome(executor.map, square, [1]))
""", "[0, 1, 4, 9, 16] [] []\nTimeoutError: no result within the time given to map\n"
     "ValueError: chunksize must be a whole number of at least 1, not 0\n"
     "1.0 ZeroDivisionError: division by zero []\nnot\niterated\n"
     "['not', 'iterated'] RuntimeError: cannot schedule new futures after shutdown\n")

    def test_cancel_and_shutdown(self):
        self.check("""
def stuck(executor):
    return [executor.submit(time.sleep, 0.5), *(executor.submit(time.sleep, 0.02) for _ in range(30))]

if __name__ == "__main__":
    executor = microscoop.Executor(1)
    first, *others = stuck(executor)
    others[-1].add_done_callback(lambda f: print("callback of", f.cancelled()))
    print(others[-1].cancel(), others[-1].cancelled(), others[-1].cancel(), first.cancel())
    concurrent.futures.wait([others[-1]], timeout=0)
    assert others[-1] in concurrent.futures.wait([others[-1]], timeout=0).done
    results = executor.map(time.sleep, [0.01] * 500)
    executor.shutdown(wait=False, cancel_futures=True)
    print(first.done(), outcome(executor.submit, square, 1))
    print(repr(outcome(list, results)))
    executor.shutdown()
    executor.shutdown()
    assert all(f.done() for f in others) and first.result() is None
    assert sum(f.cancelled() for f in others) > 10

    executor = microscoop.Executor(1)
    ended = []
    executor.submit(square, 2).add_done_callback(lambda f: ended.append(executor.shutdown()))
    kept = executor.map(square, range(3))
    executor.submit(time.sleep, 0).result()
    watched = executor._guest._launcher
    del executor
    print(list(kept), ended)
    assert watched.wait(20) == 0
""", "callback of True\nTrue True True False\nFalse RuntimeError: cannot schedule new futures after shutdown\n"
     "'CancelledError: '\n" "[0, 1, 4] [None]\n")

    def test_many_leave_nothing(self):
        self.check("""
if __name__ == "__main__":
    import gc
    several = [microscoop.Executor(1) for _ in range(3)]
    print([executor.submit(square, i).result() for i, executor in enumerate(several)])
    for executor in several:
        executor.shutdown()
    before = os.listdir("/dev/fd")
    for _ in range(2):
        with microscoop.Executor(1) as executor:
            assert sum(executor.map(len, [b"x" * (1 << 20)] * 3)) == 3 << 20
    del executor, several
    print(len(os.listdir("/dev/fd")) <= len(before), threading.active_count())
""", "[0, 1, 4]\nTrue 1\n")


class Ends(Programs):
    """What ends, and what does not."""

    def test_at_exit_what_was_submitted_is_finished(self):
        result = self.go("""
if __name__ == "__main__":
    kept = microscoop.Executor(2)
    kept.submit(say, "kept", 0.1)
    microscoop.Executor(1).submit(say, "collected", 0.2)
    late = microscoop.Executor(1)
    late.submit(say, "told", 0.3)
    late.shutdown(wait=False)
""")
        self.assertEqual((sorted(result.out.split()), result.err), (["collected", "kept", "told"], ""))

    def test_a_worker_s_death_breaks_nothing(self):
        result = self.go("""
if __name__ == "__main__":
    with microscoop.Executor(2, retries=0, task_timeout=1) as executor:
        print(outcome(executor.submit(die).result))
        print(outcome(executor.submit(time.sleep, 60).result))
        print(outcome(list, executor.map(die, [1])))
        print(executor.submit(square, 4).result())
""")
        self.assertEqual(result.out.replace("127.0.0.1", "here"), """\
WorkerLost: the worker on here was killed by SIGKILL (out of memory?) while it ran item die, which was begun once
TaskTimeout: item sleep on here ran longer than 1 s and was ended
WorkerLost: the worker on here was killed by SIGKILL (out of memory?) while it ran item 0, which was begun once
16
""")

    def test_the_launcher_s_death_is_an_error_and_not_the_program_s(self):
        self.check("""
if __name__ == "__main__":
    executor = microscoop.Executor(2)
    parent, worker = executor.submit(launcher).result()
    waiting, results = executor.submit(time.sleep, 60), executor.map(time.sleep, [60] * 9)
    os.kill(executor._guest._launcher.pid, signal.SIGKILL)
    print(outcome(waiting.result), isinstance(waiting.exception(), concurrent.futures.BrokenExecutor))
    print(outcome(list, results), outcome(executor.submit, square, 1), outcome(executor.map, square, [1]), sep="\\n")
    executor.shutdown()
    print("goes on")
""", ("BrokenProcessPool: the workers are gone: their launcher was killed by signal 9; stderr says why\n" * 4).replace(
            "\n", " True\n", 1) + "goes on\n")

    def test_the_launcher_s_death_while_the_program_exits(self):
        result = self.go("""
if __name__ == "__main__":
    executor = microscoop.Executor(True)
    waiting = executor.submit(time.sleep, 60)
    waiting.add_done_callback(lambda future: print(isinstance(future.exception(), concurrent.futures.BrokenExecutor)))
    def kill():
        time.sleep(0.3)
        executor._guest._launcher.kill()
    threading.Thread(target=kill, daemon=True).start()
""", timeout=20)
        self.assertEqual((result.status, result.out), (0, "True\n"), result.err)

    def test_a_program_whose_stdout_is_closed(self):
        path = self.script(HEAD + """
if __name__ == "__main__":
    with microscoop.Executor(1) as executor:
        print(outcome(executor.submit(say, "nobody hears it").result), file=sys.stderr)
""")
        result = harness.Run(["sh", "-c", f"{sys.executable} {path} >&-"]).finish(20)
        self.assertEqual((result.status, result.err), (0, "nobody hears it\n"))

    def test_what_is_cancelled_after_the_launcher_s_death_fails_like_the_rest(self):
        self.check("""
if __name__ == "__main__":
    executor, go_on = microscoop.Executor(1), threading.Event()
    executor.submit(time.sleep, 0.1).add_done_callback(lambda _: go_on.wait())
    many = [executor.submit(time.sleep, 60) for _ in range(60)]
    while not many[0].running():
        time.sleep(0.01)
    executor._guest._launcher.kill()
    executor._guest._reader.join()
    print(any(future.cancel() for future in many))
    go_on.set()
    print(len(concurrent.futures.wait(many, 10).done), {type(future.exception()).__name__ for future in many})
""", "False\n60 {'BrokenProcessPool'}\n")

    def test_ctrl_c_is_the_program_s(self):
        run = harness.Run([sys.executable, "-u", str(self.script(HEAD + """
if __name__ == "__main__":
    with microscoop.Executor(2) as executor:
        try:
            executor.submit(say, "begun").result()
            executor.submit(time.sleep, 1).result()
        except KeyboardInterrupt:
            print("interrupted", executor.submit(square, 3).result())
"""))])
        run.await_out("begun")
        os.killpg(run.process.pid, signal.SIGINT)
        self.assertEqual(run.finish(), (0, "begun\ninterrupted 9\n", ""))


class Killed(Programs):
    def test_a_killed_program_takes_all_along_but_its_own_children(self):
        run = harness.Run([sys.executable, "-u", str(self.script(HEAD + """
if __name__ == "__main__":
    executor = microscoop.Executor(2)
    executor.submit(square, 1).result()
    waiting = executor.submit(time.sleep, 60)
    child = os.fork()
    if not child:
        print(outcome(executor.submit, square, 1))
        executor.shutdown()
        print("forked", os.getpid())
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""))])
        run.await_out("forked ")
        self.assertTrue(harness.until(lambda: run.out.text().endswith("\n"), 5), run.out.text())
        line, forked = run.out.text().splitlines()
        self.assertEqual(line, "RuntimeError: cannot schedule new futures: this Executor belongs to the process that "
                               "made it")
        child = int(forked.split()[1])
        run.process.kill()
        gone = harness.until(lambda: {p.pid for p in harness.processes()} <= {child}, 5)
        os.kill(child, signal.SIGKILL)
        self.assertTrue(gone, harness.processes())
        run.finish()


class Places(Programs):
    """Where it can be used."""

    def test_in_the_origin_and_in_a_task(self):
        path = self.script(HEAD + """
def inner(n):
    with microscoop.Executor(2) as executor:
        return list(executor.map(square, range(n)))

if __name__ == "__main__":
    print(inner(3), futures.submit(inner, 4).result())
    kept = microscoop.Executor(1)
    kept.submit(say, "at the end", 0.1)
""")
        result = harness.run("-q", "-n", "2", path, env={"PYTHONUNBUFFERED": "1"})
        self.assertEqual((result.out, result.err), ("[0, 1, 4] [0, 1, 4, 9]\nat the end\n", ""))

    def test_a_module_that_is_run_by_name(self):
        path = self.script(HEAD.replace("import microscoop", "import microscoop\nfrom . import part") + """
if __name__ == "__main__":
    with microscoop.Executor(1) as executor:
        print(executor.submit(square, 3).result(), executor.submit(part.cube, 3).result(), sys.argv[1:])
""", "program.py")
        package = path.parent / "package"
        package.mkdir()
        path.rename(package / "program.py")
        (package / "__init__.py").write_text("")
        (package / "part.py").write_text("def cube(x):\n    return x ** 3\n")
        result = harness.plain("-m", "package.program", "word", cwd=path.parent)
        self.assertEqual((result.out, result.err), ("9 27 ['word']\n", ""))

    def test_a_prompt_and_a_changed_path(self):
        path = self.script("def cube(x):\n    return x ** 3\n", "part.py")
        result = harness.plain("-i", "-q", stdin=f"""
import microscoop, operator, sys
sys.path.append({str(path.parent)!r})
import part
executor = microscoop.Executor(2)
print(list(executor.map(part.cube, range(4))), executor.submit(operator.add, 1, 2).result())
""", env={"PYTHONSTARTUP": None})
        self.assertEqual((result.status, result.out), (0, "[0, 1, 8, 27] 3\n"), result.err)

    def test_without_the_guard_the_advice_is_given(self):
        result = self.go("""
executor = microscoop.Executor(1)
print(outcome(executor.submit(square, 1).result))
""")
        self.assertIn("microscoop.Executor was called while a worker was loading the script: put what", result.err)
        self.assertIn("BrokenProcessPool: the workers are gone: their launcher ended with status 1", result.out)

    def test_hosts(self):
        """By a stand-in for ssh, which runs the command here."""
        self.check("""
def where(_):
    time.sleep(0.05)
    return os.environ.get("STAND_IN", "here"), os.environ["GREETING"], os.getcwd()

if __name__ == "__main__":
    os.chdir("/")
    with microscoop.Executor(3, hosts=["127.0.0.1", "h1", "h2"], ssh_executable="env STAND_IN={host}", wait=20,
                             env={"GREETING": "hello"}, path="/tmp") as executor:
        while {host for host, *rest in executor.map(where, range(12))} != {"here", "h1", "h2"}:
            pass
        print(executor.submit(where, 1).result()[1:])
""", "('hello', '/tmp')\n")


    @sshd.requires_sshd
    def test_a_real_ssh(self):
        with sshd.Sshd(options={"SetEnv": f"{harness.MARK_NAME}={harness.MARK}"}) as server:
            self.check("""
def where(_):
    time.sleep(0.05)
    return "SSH_CONNECTION" in os.environ

if __name__ == "__main__":
    for way in ({}, {"tunnel": True}):
        with microscoop.Executor(hosts=["h1", "127.0.0.1"], ssh_executable=sys.argv[1], **way) as executor:
            while set(executor.map(where, range(8))) != {True, False}:
                pass
            print(sum(executor.map(square, range(10_000))))
""", "333283335000\n" * 2, shlex.join(server.ssh))


class Options(Programs):
    def test_errors_are_the_command_line_s(self):
        cases = {
            "0": "ValueError: max_workers must be greater than 0, not 0",
            "10**9": "ValueError: max_workers must be at most 999999999, not 1000000000",
            "'4'": "TypeError: 'str' object cannot be interpreted as an integer",
            "hosts='h1'": "TypeError: hosts must be a list of names, not 'h1'",
            "hosts=['h1', '3']": "ValueError: --host, '3': a count? --host takes names: repeat the name, or write",
            "hosts=['h1'], hostfile='f'": "ValueError: --host/--hosts: not allowed with argument --hostfile",
            "hostfile='/nowhere'": "ValueError: cannot read the hostfile '/nowhere': No such file or directory",
            "wait='soon'": "ValueError: --wait: expected a number of seconds, found 'soon'",
            "retries=-1": "ValueError: --retries: expected a whole number of at least 0, found '-1'",
            "retrys=1": "TypeError: Executor has no option 'retrys'; it has max_workers, hosts, hostfile, tunnel, ",
            "send='data'": "TypeError: send must be a list, not 'data'",
            "path=['/']": "TypeError: path must not be a list, as ['/'] is",
            "tunnel=True, ssh_executable='docker exec -i {host}'": "ValueError: --tunnel needs ssh's own options",
        }
        text = "".join(f"    print(outcome(lambda: microscoop.Executor({arguments})))\n" for arguments in cases)
        result = self.go("if __name__ == '__main__':\n" + text)
        for (arguments, expected), found in zip(cases.items(), result.out.splitlines()):
            self.assertTrue(found.startswith(expected), f"{arguments}: {found}\nexpected: {expected}")
        self.assertEqual((len(result.out.splitlines()), result.err), (len(cases), ""))

    def test_it_can_be_heard(self):
        result = self.go("if __name__ == '__main__':\n    microscoop.Executor(2, quiet=False).shutdown()\n")
        self.assertIn("Deploying 2 worker(s) over 1 host(s).", result.err)


class Map(Programs):
    """futures as a pool with a map, and futures.map as a bare callable, for libraries that want such."""

    TEXT = """
import pickle
from functools import partial

class Library:
    def __init__(self, pool=None, workers=map):
        self.map = pool.map if pool else workers

    def total(self, function, items):
        return sum(self.map(function, items))

def island(library, n):
    return library.total(square, range(n))

if __name__ == "__main__":
    print(Library(pool=futures).total(square, range(10)), Library(workers=futures.map).total(square, range(10)))
    assert pickle.loads(pickle.dumps(futures.map)) is futures.map
    library = Library(workers=futures.map)
    print(list(library.map(partial(island, library), range(5))))
"""

    def test_it_works_for_libraries(self):
        result = harness.run("-q", "-n", "2", self.script(HEAD + self.TEXT))
        self.assertEqual((result.out, result.err), ("285 285\n[0, 0, 1, 5, 14]\n", ""))


if __name__ == "__main__":
    unittest.main()
