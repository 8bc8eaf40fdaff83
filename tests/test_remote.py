"""Whole runs over hosts made of namespaces: what they show when all is well, and when hosts, ways or heads fail.

Each test tells what happens, how soon it is noticed, and what is left: nothing, on any host.
"""
from __future__ import annotations

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from typing import Any, Dict, List, Sequence

from tests import harness, namespaces
from tests.sshd import descendants, write
from tests.test_ssh import PROJECT, WAYS

PROMPT = 2.0  # seconds in which the end of ssh or of an agent is noticed
AGAIN = 10.0  # seconds after which a lost host is tried again
SILENT = 15.0  # seconds in which a silent cut is noticed
LOADED = 1.0  # seconds more, for a busy machine

# Runs until there is a file with the name that it is given; tells which hosts worked in its last second.
STEADY = """
import itertools, os, sys, time
from microscoop import futures
def task(k):
    time.sleep(0.03)
    return k, os.uname().nodename
def numbers():
    for k in itertools.count():
        if os.path.exists(sys.argv[1]):
            return
        yield k
if __name__ == "__main__":
    found, last = [], {}
    for k, host in futures.map_as_completed(task, numbers(), buffersize=24):
        found.append(k)
        last[host] = time.monotonic()
        if len(found) == 50:
            print("begun", flush=True)
    print("each once" if sorted(found) == list(range(len(found))) else "NOT each once: %r" % found)
    print("lately", *sorted(host for host, when in last.items() if time.monotonic() - when < 1))
"""

# The same, where arguments, results and what nested tasks take and give are large: deaths cut streams short.
HEAVY = STEADY.replace("""
def task(k):
    time.sleep(0.03)
    return k, os.uname().nodename
""", """
SIZES = 10, 300000, 900000
def leaf(data):
    time.sleep(0.01)
    return data
def data(k):
    return b"%08d" % k * (SIZES[k % 3] // 8)
def task(sent):
    k = int(sent[:8])
    assert sent == data(k)
    children = [futures.submit(leaf, sent[:size]) for size in (100, 400000)]
    for child, size in zip(children, (100, 400000)):
        assert child.result() == sent[:size]
    return k, os.uname().nodename, sent
""").replace("yield k", "yield data(k)").replace("for k, host in", "for k, host, back in").replace(
    "found.append(k)", "assert back == data(k); found.append(k)")


def other_python() -> str:
    """A Python of another minor version than ours, where there is one."""
    names = ["/usr/bin/python3", *map(shutil.which, ("python3.%d" % minor for minor in range(8, 20)))]
    names += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))
    for name in filter(None, names):
        words = [name, "-c", "import sys; print(sys.version_info[:2] >= (3, 8), sys.version_info[1])"]
        told = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.split()
        if told[:1] == ["True"] and int(told[1]) != sys.version_info[1]:
            return name
    return "/usr/bin/python3"


@namespaces.requires_hosts
class Case(harness.TestCase):
    hosts: namespaces.Hosts

    def up(self, count: int, **options: Dict[str, Any]) -> None:
        """Hosts until the end of the test, whose first processes and files are known."""
        self.hosts = namespaces.up(count, **options)
        self.addCleanup(self.hosts.down)

    def start(self, *words: Any, **settings: Any) -> harness.Run:
        return harness.start("--ssh-executable", self.hosts.command, *words, **settings)

    def begin(self, *words: Any, text: str = STEADY) -> harness.Run:
        """A steady run that has begun; `finish` lets it go on to its end."""
        script = self.script(text)
        self.flag = script.parent / "enough"
        run = self.start(*words, script, self.flag)
        run.await_out("begun")
        return run

    def finish(self, run: harness.Run, lately: str, timeout: float = 10) -> harness.Result:
        """Its result: it delivered each item once, and the hosts that worked lately are these."""
        self.flag.touch()
        result = run.finish(timeout)
        self.assertEqual((result.status, result.out), (0, f"begun\neach once\nlately {lately}\n"), result.err)
        return result

    def assert_said(self, run: harness.Run, text: str, since: float, seconds: float) -> None:
        """It says so on stderr in so many seconds since then."""
        run.await_err(text, seconds + LOADED + 3)
        self.assertLess(time.monotonic() - since, seconds + LOADED, run.err.text())

    def ours(self, name: str) -> List[str]:
        """What is there of ours: processes, and files in the folders that were empty."""
        found = [line for _, line in self.hosts.ps(name) if "microscoop" in line]
        words = ["find", "/tmp", "/var/tmp", "/home", "/root", "/srv", "/run", "/dev/shm", "-name", "*microscoop*"]
        return found + self.hosts.run_in(name, words).stdout.split()

    def agent_and_workers(self, name: str) -> List[int]:
        """Process numbers; all are forks of the janitor, which is the child of sshd."""
        return max((descendants(pid) for pid, line in self.hosts.ps(name) if " microscoop " in line), key=len)

    def ssh(self, name: str) -> int:
        """The process here that leads to a host."""
        (pid,) = [one.pid for one in harness.processes() if re.match(f"ssh .* {name} exec sh", one.command)]
        return pid

    def assert_clean(self, *names: str, seconds: float = 5) -> None:
        for name in names or self.hosts.hosts:
            harness.until(lambda: not self.ours(name), seconds)  # noqa: B023
            self.assertEqual(self.ours(name), [], name)


@namespaces.requires_hosts
class TheTrio(Case):
    """Three hosts with nothing but a login and a Python, each unlike the others."""

    PYTHON_AT = "/python-of-h1/bin/python3"
    FOUND = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121]"

    def setUp(self) -> None:
        super().setUp()
        self.up(3, h1={"user": "worker", "port": 2222, "alias": "slave", "python": other_python(),
                       "python_at": self.PYTHON_AT},
                h2={"shell": shutil.which("fish") or "/bin/sh", "noise": True, "options": {"AllowTcpForwarding": "no"}})
        folder = self.script("").parent
        for name, text in PROJECT.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        write(str(folder / "hosts"), f"slave python={self.PYTHON_AT}  # an alias\nh2\nh3\n")
        self.folder = folder

    def go(self, *words: str) -> harness.Result:
        result = self.start(*words, "-v", "--hostfile", "hosts", "--send", "data.txt", "script.py", "a b", "--c",
                            cwd=self.folder).finish(30)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.splitlines()[0], self.FOUND)
        return result

    def places(self, result: harness.Result) -> List[Sequence[Any]]:
        """Where tasks ran: file, sys.path[0], working directory and Python's version, each but once."""
        found = [eval(text) for text in eval(result.out.splitlines()[2])]
        for data, word, *_, argv, _ in found:
            self.assertEqual((data, word, argv), ("data file", "package", ["a b", "--c"]))
        return [(*rest[:-2], rest[-1]) for _, _, *rest in found]

    def test_hosts_without_any_file_of_ours_run_it(self) -> None:
        self.assert_clean()
        result = self.go("-n", "6")
        for line in ("slave:\t2\n", "h2:\t2\n", "h3:\t2\n"):
            self.assertIn(line, result.err)
        self.assertNotIn("WARNING", result.err)
        places = self.places(result)
        self.assertEqual(len(places), 3)
        for script, path0, directory, _ in places:
            self.assertRegex(directory, "^/tmp/microscoop-[0-9a-f]+/files$")
            self.assertEqual((script, path0), (directory + "/script.py", directory))
        if other_python() != "/usr/bin/python3":
            self.assertGreater(len({version[:2] for *_, version in places}), 1)
        spent = [result.out.splitlines()[1]]
        while int(spent[-1].split()[2]) >= 250 and len(spent) < 4:  # something else ran on this machine
            spent.append(self.go("-n", "6").out.splitlines()[1])
        print(f"[the trio: {', '.join(spent)}]", file=sys.stderr)
        self.assertLess(int(spent[-1].split()[2]), 250)
        self.assert_clean()

    def test_tunnel_works_where_it_is_allowed_and_tells_what_to_do_where_not(self) -> None:
        result = self.go("-n", "6", "--tunnel")
        self.assertEqual(len(self.places(result)), 2)
        (line,) = [line for line in result.err.splitlines() if "WARNING" in line]
        self.assertRegex(line, "h2 could not be started, stage ready: .*open failed.*; it does not allow forwarding: "
                               "leave out --tunnel$")
        self.assert_clean()

    def test_check_tells_of_each(self) -> None:
        result = self.start("--check", "--hostfile", "hosts", "script.py", cwd=self.folder).finish(30)
        self.assertEqual((result.status, result.err), (0, ""))
        for name, word in (("slave", "allowed"), ("h2", "refused"), ("h3", "allowed")):
            self.assertRegex(result.out, f"(?m)^{name} +ready +login .* sent +forwarding {word}$")
        self.assert_clean()


class AHost(Case):
    def test_that_shares_the_folder_runs_in_place(self) -> None:
        folder = self.script(STEADY).parent
        (folder / "enough").touch()
        (folder / "script.py").write_text("""
import os
from microscoop import futures
def where(k):
    with open("found%d" % k, "w") as file:
        file.write(os.uname().nodename)
    return __file__, os.getcwd()
if __name__ == "__main__":
    print(*set(futures.map(where, range(4))))
""")
        self.up(1, h1={"share": [str(folder)]})
        result = self.start("-v", "--host", "h1", "-n", "2", "script.py", cwd=folder).finish(20)
        self.assertEqual((result.status, result.out), (0, f"{(str(folder / 'script.py'), str(folder))}\n"), result.err)
        self.assertEqual([path.read_text() for path in folder.glob("found*")], ["h1"] * 4)
        self.assertRegex(result.err, "h1 is ready: .*, in place")
        self.assert_clean()

    def test_without_room_or_leave_for_a_private_directory_is_left_out(self) -> None:
        self.up(3, h2={"user": "worker"})
        self.hosts.run_in("h1", ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "/tmp"], check=True)
        self.hosts.run_in("h2", ["chmod", "755", "/tmp"], check=True)
        for way in WAYS:
            with self.subTest(way):
                run = self.begin(*way, "--host", "h1", "h2", "h3", "-n", "3")
                result = self.finish(run, "h3")
                self.assertRegex(result.err, "WARNING h1 could not be started, stage files: cannot write to /tmp/.*: "
                                             "No space left on device; make room there.* df -h\n")
                self.assertRegex(result.err, "WARNING h2 could not be started, stage files: no private directory can "
                                             "be made in /tmp: Permission denied; make room there")
                self.assert_clean()

    def test_that_is_far_away_does_its_part(self) -> None:
        self.up(2)
        self.hosts.delay("h1", 0.05)
        for way in WAYS:
            with self.subTest(way):
                self.finish(self.begin(*way, "--host", "h1", "h2", "-n", "4"), "h1 h2")
                self.assert_clean()

    def test_replaces_a_killed_worker_within_a_second(self) -> None:
        self.up(1)
        run = self.begin("-q", "--host", "h1", "-n", "2")
        agent, *workers = self.agent_and_workers("h1")
        os.kill(workers[0], signal.SIGKILL)
        left = {agent, workers[1]}
        self.assertTrue(harness.until(lambda: len({*self.agent_and_workers("h1"), *left}) == 3, 1 + LOADED))
        self.assertEqual(self.finish(run, "h1").err, "")
        self.assert_clean()


class AHostThatIsLost(Case):
    def test_by_a_death_is_told_at_once_and_tried_again(self) -> None:
        """By all four deaths one after the other; h5 lives."""
        for way in WAYS:
            with self.subTest(way):
                self.up(5)
                run = self.begin(*way, "-v", "--host", "h1", "h2", "h3", "h4", "h5", "-n", "5")
                for name, death in (
                    ("h1", lambda: os.kill(self.agent_and_workers("h1")[0], signal.SIGKILL)),
                    ("h2", lambda: os.kill(self.ssh("h2"), signal.SIGKILL)),
                    ("h3", lambda: self.hosts.kill_sshd("h3")),
                    ("h4", lambda: self.hosts.crash("h4")),
                ):
                    since = time.monotonic()
                    death()
                    self.assert_said(run, f"WARNING {name} is lost: ", since, PROMPT)
                    self.assert_clean(name)
                self.assert_said(run, "WARNING h3 could not be started, stage ssh: ", since, AGAIN + PROMPT)
                harness.until(lambda: run.err.text().count("h2 is ready") > 1, 5)  # noqa: B023
                time.sleep(0.5)
                self.finish(run, "h1 h2 h5")
                self.hosts.down()

    def test_with_streams_on_their_way_loses_none(self) -> None:
        self.up(4)
        for way in WAYS:
            with self.subTest(way):
                run = self.begin("-q", *way, "--host", "h1", "h2", "h3", "h4", "-n", "6", "--retries", "9", text=HEAVY)
                os.kill(self.agent_and_workers("h1")[0], signal.SIGKILL)
                time.sleep(0.5)
                os.kill(self.ssh("h2"), signal.SIGKILL)
                for _ in range(3):
                    time.sleep(0.5)
                    os.kill(self.agent_and_workers("h4")[1], signal.SIGKILL)
                time.sleep(2)
                self.finish(run, "h3 h4", 20)
                self.assert_clean()

    def test_by_silence_is_told_in_time_and_comes_back_when_healed(self) -> None:
        """For two heads at once, which reach the same hosts by both ways. A short silence does no harm."""
        self.up(3)
        runs = []
        for way in WAYS:
            runs.append((self.begin(*way, "-v", "--host", "h1", "h2", "h3", "-n", "3"), self.flag))
        self.hosts.cut("h1")
        time.sleep(3)
        self.hosts.heal("h1")
        time.sleep(2)
        self.hosts.cut("h1")
        self.hosts.crash("h2", silent=True)
        since = time.monotonic()
        for run, _ in runs:
            for name in ("h1", "h2"):
                self.assert_said(run, f"WARNING {name} is lost: ", since, SILENT)
        self.hosts.heal("h1")
        for run, _ in runs:
            harness.until(lambda: run.err.text().count("h1 is ready") == 2, AGAIN + 5)  # noqa: B023
            self.assertEqual(run.err.text().count(" is lost"), 2, run.err.text())
        time.sleep(0.5)
        for run, flag in runs:
            self.flag = flag
            self.finish(run, "h1 h3")
        self.assert_clean("h1", "h3")

    def test_with_all_others_ends_the_run(self) -> None:
        for way in WAYS:
            with self.subTest(way):
                self.up(2)
                run = self.begin("-q", *way, "--host", "h1", "h2", "-n", "2")
                since = time.monotonic()
                self.hosts.crash("h1")
                self.hosts.crash("h2")
                result = run.finish(PROMPT + LOADED + 4)
                self.assertLess(time.monotonic() - since, PROMPT + LOADED)
                self.assertEqual((result.status, result.out), (1, "begun\n"), result.err)
                self.assertIn("ERROR   no worker is left on any host: the run cannot go on\n", result.err)
                self.hosts.down()

    def test_before_it_answers_is_told_within_30_seconds_and_a_stopped_worker_is_replaced_after_as_many(self) -> None:
        self.up(3, h2={"options": {"ForceCommand": "echo so slow; sleep 1000"}})
        self.hosts.cut("h1")
        since = time.monotonic()
        run = self.begin("--wait", "1", "--host", "h1", "h2", "h3", "h3")
        agent, stopped, other = self.agent_and_workers("h3")
        os.kill(stopped, signal.SIGSTOP)
        at = time.monotonic()
        self.assert_said(run, "WARNING h1 could not be started, stage ssh: ssh: connect to host", since, 12)
        self.assert_said(run, "WARNING h2 could not be started, stage shell: no answer within 30 s; it printed 'so ",
                         since, 30)
        self.assertIn(stopped, self.agent_and_workers("h3"))
        self.assertTrue(harness.until(lambda: stopped not in self.agent_and_workers("h3"), 5))
        self.assertGreater(time.monotonic() - at, 29)
        harness.until(lambda: len(self.agent_and_workers("h3")) == 3, 1)
        self.finish(run, "h3")
        self.assert_clean("h3")


class AHead(Case):
    """That ends or stops: nothing outlives it."""

    def test_whose_launcher_or_origin_is_killed_leaves_nothing(self) -> None:
        self.up(2)
        for way in WAYS:
            for name, number in (("launcher", signal.SIGKILL), ("launcher", signal.SIGTERM),
                                 ("origin", signal.SIGKILL)):
                with self.subTest(way, name=name, number=number):
                    run = self.begin("-q", *way, "--host", "h1", "h2", "-n", "4")
                    os.kill(run.process.pid if name == "launcher" else self.origin(run), number)
                    self.assert_gone()
                    self.assert_clean()
                    self.assertNotEqual(run.finish(5).status, 0)

    def origin(self, run: harness.Run) -> int:
        """The launcher's only grandchild: its agent's child."""
        (pid,) = [one.pid for one in harness.processes() if one.parent in descendants(run.process.pid)]
        return pid

    def test_that_is_killed_at_its_start_leaves_nothing(self) -> None:
        self.up(2)
        for way in WAYS:
            for seconds in (0.15, 0.3, 0.5, 0.7):
                with self.subTest(way, seconds=seconds):
                    run = self.start(*way, "--host", "h1", "h2", "-n", "4", self.script(STEADY), "/nowhere")
                    time.sleep(seconds)
                    run.process.kill()
                    self.assert_gone()
                    self.assert_clean()
                    run.finish(5)

    def test_that_is_killed_behind_a_cut_leaves_nothing_after_45_seconds(self) -> None:
        self.up(2)
        runs = [self.begin("-q", *way, "--host", "h1", "h2", "-n", "2") for way in WAYS]
        self.hosts.cut("h1")
        since = time.monotonic()
        for run in runs:
            run.process.kill()
        self.assert_gone()
        self.assert_clean("h2")
        self.assertTrue(self.ours("h1"))
        self.assert_clean("h1", seconds=since + 45 - time.monotonic())
        for run in runs:
            run.finish(5)

    def test_that_was_suspended_for_less_than_30_seconds_goes_on(self) -> None:
        self.up(1)
        run = self.begin("-q", "--host", "h1", "-n", "2")
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(14)
        run.process.send_signal(signal.SIGCONT)
        time.sleep(3)
        self.assertEqual(self.finish(run, "h1").err, "")
        self.assert_clean()

    def test_that_was_suspended_starts_its_hosts_again(self) -> None:
        self.up(2)
        runs = []
        for way in WAYS:
            runs.append((self.begin(*way, "--host", "h1", "h2", "-n", "2"), self.flag))
        for run, _ in runs:
            run.process.send_signal(signal.SIGSTOP)
        time.sleep(36)
        self.assert_clean(seconds=1)
        for run, _ in runs:
            run.process.send_signal(signal.SIGCONT)
        time.sleep(4)
        for run, flag in runs:
            self.flag = flag
            result = self.finish(run, "h1 h2")
            (line,) = [line for line in result.err.splitlines() if "WARNING" in line]
            self.assertRegex(line, "this run was suspended for 3[67] s; started again: h1, h2$")
        self.assert_clean()


if __name__ == "__main__":
    unittest.main()
