"""Whole runs over a real sshd on loopback, by both ways: what users see of hosts that work, fail or forbid."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Tuple

from tests import harness
from tests.sshd import Sshd, descendants, make_key, requires_sshd, write

VERSION = sys.version.split()[0]
WAYS = ((), ("--tunnel",))
SEEN = {"SetEnv": f"TMPDIR={harness.TEMP} {harness.MARK_NAME}={harness.MARK}"}  # by who looks for remains
PROJECT = {
    "helper.py": "def square(number):\n    return number ** 2\n",
    "pack/__init__.py": "",
    "pack/deep.py": "import pack.deeper\nword = pack.deeper.word\n",
    "pack/deeper.py": "word = 'package'\n",
    "data.txt": "data file\n",
    "script.py": """
import math, os, sys, time
import helper
from pack.deep import word
from microscoop import futures
data = range(12)
def func(num):
    time.sleep(0.1)
    return helper.square(num)
def where(k):
    time.sleep(0.05)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "data.txt")) as file:
        return file.read().strip(), word, __file__, sys.path[0], os.getcwd(), sys.argv[1:], sys.version_info[:3]
if __name__ == "__main__":
    begin_time = time.time()
    res = list(futures.map(func, data))
    spent_time = math.ceil((time.time() - begin_time) * 1000)
    print(res)
    print("End at {} msec".format(spent_time))
    print(set(map(repr, futures.map(where, range(12)))))
"""}


class Case(harness.TestCase):
    """One sshd for all tests of a class."""

    sshd: Sshd

    @classmethod
    def setUpClass(cls) -> None:
        cls.sshd = Sshd(options=SEEN)
        cls.addClassCleanup(cls.sshd.stop)

    def project(self, files: Dict[str, str]) -> Path:
        """The folder of a script with these files beside it."""
        folder = self.script("").parent
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return folder

    def elsewhere(self, folder: Path) -> str:
        """A Python on a host that does not share this folder, for a hostfile."""
        path = self.script("", "python").parent / "python"
        hidden = f"import os; real = os.path.isdir; os.path.isdir = lambda path: path != '{folder}' and real(path)"
        path.write_text(f'#!/bin/sh\nloader=$3\nshift 3\nexec {sys.executable} -u -c "{hidden}\n$loader" "$@"\n')
        path.chmod(0o755)
        return str(path)

    def start(self, *words: Any, **settings: Any) -> harness.Run:
        return harness.start("--ssh-executable", self.sshd.command, *words, **settings)

    def run_it(self, *words: Any, **settings: Any) -> harness.Result:
        return self.start(*words, **settings).finish(30)

    def assert_ok(self, result: harness.Result, out: str) -> None:
        self.assertEqual((result.status, result.out), (0, out), result.err)


@requires_sshd
class HostsThatWork(Case, harness.AtOnce):
    LIST = str([number ** 2 for number in range(12)])

    def check(self, result: harness.Result) -> Tuple[Any, ...]:
        """What all tasks found in common: their file, sys.path[0] and working directory."""
        self.assertEqual(result.status, 0, result.err)
        res, spent, found, *_ = result.out.splitlines()
        self.assertEqual(res, self.LIST)
        self.assertLess(int(spent.split()[2]), 10_000)
        (text,) = eval(found)
        data, word, *places, argv, version = eval(text)
        self.assertEqual((data, word, argv, version), ("data file", "package", ["a b", "--c"], sys.version_info[:3]))
        return tuple(places)

    def test_in_place_both_ways(self) -> None:
        folder = self.project(PROJECT)
        runs = [self.start(*way, "-v", "--host", "h1", "h2", "h3", "-n", "6", "script.py", "a b", "--c", cwd=folder)
                for way in WAYS]
        for way, run in zip(WAYS, runs):
            with self.subTest(way):
                result = run.finish(30)
                self.assertEqual(self.check(result), (str(folder / "script.py"), str(folder), str(folder)))
                for text in ("Deploying 6 worker(s) over 3 host(s).", "   127.0.0.1:\torigin only\n",
                             *[f"   h{number}:\t2\n" for number in (1, 2, 3)],
                             *[f"h{number} is ready: Python {VERSION}, in place" for number in (1, 2, 3)],
                             "Root process is done.", "Finished cleaning spawned subprocesses."):
                    self.assertIn(text, result.err)
                self.assertNotIn("WARNING", result.err)

    def test_sent_both_ways_with_the_head_working_too(self) -> None:
        folder = self.project(PROJECT)
        hosts = write(str(folder / "hosts"), f"h1 2 python={self.elsewhere(folder)}\n")
        runs = [self.start(*way, "-v", "--hostfile", hosts, "--send", folder / "data.txt", folder / "script.py",
                           "a b", "--c") for way in WAYS]
        for way, run in zip(WAYS, runs):
            with self.subTest(way):
                result = run.finish(30)
                script, path0, directory = self.check(result)
                self.assertEqual((script, path0), (directory + "/script.py", directory))
                self.assertTrue(directory.startswith(str(harness.TEMP)), directory)
                self.assertRegex(result.err, "h1 is ready: Python .*, sent,")
                self.assertNotIn("WARNING", result.err)

    def test_what_was_not_sent_is_told_with_how_to_send_it(self) -> None:
        folder = self.project({"script.py": """
import importlib, sys
from microscoop import futures
def read(k):
    return open("data.txt").read()
def load(k):
    return importlib.import_module("late")
if sys.argv[1:]:
    importlib.import_module("late")
if __name__ == "__main__":
    for task in (read, load):
        print(repr(futures.submit(task, 1).exception().__cause__).count("--send PATH"))
""", "data.txt": "1", "late.py": ""})
        hosts = write(str(folder / "hosts"), f"h1 1 python={self.elsewhere(folder)}\n")
        late, result = harness.at_once(lambda words: self.run_it(
            "-q", "--hostfile", hosts, folder / "script.py", *words, cwd=folder), ((), ("early",)))
        self.assert_ok(late, "1\n1\n")
        self.assertEqual((result.status, result.out), (1, ""))
        self.assertIn("h1 is left out: ModuleNotFoundError: No module named 'late'\n", result.err)
        self.assertIn("Note: install late there, or have its file or folder sent along: --send PATH\n", result.err)
        self.assertEqual(result.err.count("no worker is left on any host"), 1)

    def test_what_a_task_prints_comes_before_its_result(self) -> None:
        script = self.script("""
import sys
from microscoop import futures
def task(k):
    for number in range(3):
        print("out", k, number)
        print("err", k, number, file=sys.stderr)
    return k
if __name__ == "__main__":
    for k in futures.map_as_completed(task, range(20)):
        for stream in (sys.stdout, sys.stderr):
            print("got", k, file=stream, flush=True)
""")
        runs = [self.start("-q", *way, "--host", "h1", "h2", "-n", "3", script) for way in WAYS]
        for way, run in zip(WAYS, runs):
            with self.subTest(way):
                result = run.finish(30)
                self.assertEqual(result.status, 0, result.err)
                for text, name in ((result.out, "out"), (result.err, "err")):
                    expected = sorted(f"{name} {k} {number}" for k in range(20) for number in range(3))
                    lines = text.splitlines()
                    self.assertEqual(sorted(line for line in lines if not line.startswith("got")), expected)
                    for k in range(20):
                        before = lines[:lines.index(f"got {k}")]
                        self.assertEqual(sum(line.startswith(f"{name} {k} ") for line in before), 3, text)

    def test_a_killed_worker_loses_nothing(self) -> None:
        script = self.script("""
import os, signal, sys
from microscoop import futures
def task(k):
    if k in (3, 70):
        try:
            os.close(os.open("%s.%d" % (sys.argv[1], k), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return k
        os.kill(os.getpid(), signal.SIGKILL)
    return k
if __name__ == "__main__":
    print(list(futures.map(task, range(100))) == list(range(100)))
""")
        marks = {way: script.parent / f"died{len(way)}" for way in WAYS}
        runs = [self.start("-q", *way, "--host", "h1", "h2", "-n", "3", script, marks[way]) for way in WAYS]
        for mark, run in zip(marks.values(), runs):
            with self.subTest(mark.name):
                self.assert_ok(run.finish(30), "True\n")
                self.assertEqual(len(list(script.parent.glob(mark.name + ".*"))), 2)

    def test_files_that_tasks_leave_are_kept_and_the_command_that_is_told_fetches_them(self) -> None:
        folder = self.project({"script.py": """
from microscoop import futures
def write(k):
    with open("result%d.csv" % k, "w") as file:
        file.write(str(k))
if __name__ == "__main__":
    list(futures.map(write, range(2)))
"""})
        hosts = write(str(folder / "hosts"), f"h1 1 python={self.elsewhere(folder)}\n")
        results = harness.at_once(lambda way: self.run_it(*way, "--hostfile", hosts, folder / "script.py"), WAYS)
        for way, result in zip(WAYS, results):
            with self.subTest(way):
                line = next(line for line in result.err.splitlines() if "result0.csv" in line)
                told = re.search(f"WARNING h1: tasks left .* in ({harness.TEMP}/microscoop-[^/]*)/files", line)
                assert told, line
                home = self.script("edited since").parent
                mode = home.stat().st_mode
                subprocess.run(line.partition("fetch it with: ")[2], shell=True, cwd=str(home), check=True)
                for k in range(2):
                    self.assertEqual((home / "h1" / f"result{k}.csv").read_text(), str(k))
                self.assertEqual(((home / "script.py").read_text(), home.stat().st_mode), ("edited since", mode))
                self.assertEqual(os.listdir(told.group(1)), ["files"])
                shutil.rmtree(told.group(1))

    def test_check_tells_of_each_host(self) -> None:
        folder = self.project(PROJECT)
        hosts = write(str(folder / "hosts"), f"h1\nh2 python={self.elsewhere(folder)}\n")
        result = self.run_it("--check", "--hostfile", hosts, "script.py", cwd=folder)
        self.assertEqual((result.status, result.err), (0, ""))
        rows = result.out.splitlines()
        self.assertEqual([row.split()[0] for row in rows], ["127.0.0.1", "h1", "h2"])
        for row, files in zip(rows[1:], ("in place", "sent")):
            self.assertRegex(row, rf"ready +login \d+ ms.* {VERSION} .* cores? .*GiB +"
                                  rf"round trip [\d.]+ ms +{files} +forwarding allowed$")


@requires_sshd
class HostsThatFail(Case, harness.AtOnce):
    """One ssh_config with a name for each way to fail; what is said is OpenSSH's own."""

    # name -> its ssh_config lines; @NAME is the directory of another sshd, #NAME its port
    CLIENT = {
        "unknown": "UserKnownHostsFile /dev/null",
        "changed": "UserKnownHostsFile @main/changed",
        "locked": "Port #locked\n IdentityFile @locked/key",
        "password": "Port #password",
        "nouser": "User nobodyhere",
        "keys": "Port #strict",
        "open": "Port #noshell\n IdentityFile @main/open",
        "refused": "Port 1",
        "nosuch": "HostName nosuchname.invalid",
        "hangsup": "ProxyCommand true",
        "noshell": "Port #noshell\n IdentityFile @noshell/key",
        "forbids": "Port #strict\n IdentityFile @strict/key",
    }
    TOLD = (  # name, stage, ssh's words, advice, command
        ("unknown", "ssh", "Host key verification failed|host key is known", "not known here", "ssh .* true"),
        ("changed", "ssh", "key .* has changed", "another one than before", r"ssh-keygen -R '\[127\.0\.0\.1\]:\d+'"),
        ("locked", "ssh", "Permission denied", "your key has a passphrase", "ssh-add .*/key"),
        ("password", "ssh", r"Permission denied \(password\)", "it takes passwords only", "ssh .* true"),
        ("nouser", "ssh", "Permission denied", "is the user right", "ssh-copy-id nouser"),
        ("keys", "ssh", "Too many authentication failures", "IdentitiesOnly", ""),
        ("open", "ssh", "Permissions 0644 for '.*/open' are too open", "others can read your key", "chmod 600 .*/open"),
        ("refused", "ssh", "Connection refused", "is it up, is the port right", "ssh .* true"),
        ("nosuch", "ssh", "Could not resolve", "nobody knows this name", "ssh .* true"),
        ("hangsup", "ssh", "kex_exchange|banner exchange|closed by", "its sshd hung up", "ssh .* true"),
        ("noshell", "shell", "it printed 'no shell for you'", "must run commands", "ssh .* echo hello"),
        ("nopython", "python", "no Python was found, tried /nonexistent/python", "install Python 3.8", "ssh .* ls"),
        ("nodisk", "files", "no private directory can be made in /nonexistent", "make room there", "ssh .* df -h"),
    )

    @classmethod
    def setUpClass(cls) -> None:
        others = {"locked": Sshd(passphrase="secret"), "password": Sshd(password=True),
                  "strict": Sshd(options={**SEEN, "MaxAuthTries": "1", "AllowTcpForwarding": "no"}),
                  "noshell": Sshd(options={"ForceCommand": "echo no shell for you; exit 1"})}
        names = [*cls.CLIENT, "nopython", "nodisk"]
        cls.sshd = main = Sshd(options=SEEN, aliases=("h1", "h2", *names))
        for server in (main, *others.values()):
            cls.addClassCleanup(server.stop)
        shutil.copy(others["noshell"].directory + "/key", main.directory + "/open")
        os.chmod(main.directory + "/open", 0o644)
        write(main.directory + "/changed", f"[127.0.0.1]:{main.port} {make_key(main.directory + '/changed_key')}\n")
        known = [main.directory + "/known_hosts"] + [one.directory + "/known_hosts" for one in others.values()]
        text = "".join(f"Host {name}\n {lines}\n" for name, lines in cls.CLIENT.items())
        for name, server in dict(others, main=main).items():
            text = text.replace("@" + name, server.directory).replace("#" + name, str(server.port))
        text += f"Host {' '.join(names)}\n UserKnownHostsFile {' '.join(known)}\n"
        write(main.config, text + Path(main.config).read_text())

    def hostfile(self) -> str:
        names = [name for name, *_ in self.TOLD]
        lines = [f"{name} 1" for name in ("h1", "h2", *names)]
        lines[lines.index("nopython 1")] += " python=/nonexistent/python"
        lines[lines.index("nodisk 1")] += f" python='env TMPDIR=/nonexistent {sys.executable}'"
        return write(str(self.script("").parent / "hosts"), "\n".join(lines) + "\n")

    SCRIPT = """
from microscoop import futures
def task(k):
    return k
if __name__ == "__main__":
    print(sum(futures.map(task, range(100))))
"""

    def test_are_left_out_each_with_one_line_and_the_run_goes_on(self) -> None:
        result = self.run_it("-q", "--hostfile", self.hostfile(), self.script(self.SCRIPT))
        self.assert_ok(result, "4950\n")
        self.assertEqual(len(result.err.splitlines()), len(self.TOLD), result.err)
        for name, stage, words, advice, command in self.TOLD:
            attempt = f"; try: {command}.*" if command else "[^;]*"
            self.assertRegex(result.err, f"launcher  WARNING {name} could not be started, stage {stage}: "
                                         f".*({words}).*; .*{advice}.*{attempt}\n")

    @harness.slow
    def test_have_a_row_each_in_check(self) -> None:
        result = self.run_it("--check", "--hostfile", self.hostfile())
        self.assertEqual((result.status, result.err), (1, ""))
        for name, stage, words, advice, command in self.TOLD:
            self.assertRegex(result.out, f"(?m)^{name} +failed at {stage} +.*({words}).*\n .*{advice}.*{command}")
        self.assertEqual(len(re.findall("(?m)^h[12] +ready", result.out)), 2)

    def test_one_among_three_costs_one_line(self) -> None:
        result = self.run_it("--host", "h1", "refused", "h2", "-n", "3", self.script(self.SCRIPT))
        self.assert_ok(result, "4950\n")
        self.assertEqual(result.err.count("refused could not be started"), 1)
        self.assertEqual(result.err.count("WARNING"), 1)

    def test_end_a_strict_run_at_once(self) -> None:
        result = self.run_it("-q", "--strict", "--host", "h1", "refused", "-n", "2", self.script(self.SCRIPT))
        self.assertEqual((result.status, result.out), (2, ""))
        self.assertRegex(result.err, r"^microscoop: refused could not be started, stage ssh: [^\n]*refused[^\n]*\n$")

    def test_end_the_run_where_there_is_no_other(self) -> None:
        result = self.run_it("-q", "--host", "refused", "nosuch", "-n", "2", self.script(self.SCRIPT))
        self.assertEqual((result.status, result.out), (2, ""))
        *lines, last = result.err.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(last, "microscoop: no worker could be started on any host")

    def test_by_forbidding_what_tunnel_needs(self) -> None:
        hosts, work = ("--host", "forbids", "h1"), ("-n", "2", self.script(self.SCRIPT))
        plain, result, check = harness.at_once(lambda words: self.run_it(*words), (
            ("-q", *hosts, *work), ("-q", "--tunnel", *hosts, *work), ("--check", *hosts)))
        self.assertEqual(plain, (0, "4950\n", ""))
        self.assert_ok(result, "4950\n")
        self.assertRegex(result.err, r"WARNING forbids could not be started, stage ready: .*open failed.*; it does not "
                                     r"allow forwarding: leave out --tunnel\n$")
        self.assertRegex(check.out, "(?m)^forbids .*forwarding refused\nh1 .*forwarding allowed$")


@requires_sshd
@unittest.skipUnless(os.path.exists("/proc/net/unix"), "needs Linux's /proc")
class NobodyIsLetIn(Case):
    SCRIPT = """
import os, sys, time
from microscoop import futures
def task(k):
    return k
if __name__ == "__main__":
    print(sum(futures.map(task, range(100))), flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
"""

    @harness.slow  # tests/test_nobody.py asks the same, otherwise
    def test_a_run_listens_on_nothing(self) -> None:
        """With --tunnel neither, once both ends have met, but for ssh's end in a directory that is removed by then."""
        for way in WAYS:
            with self.subTest(way):
                script = self.script(self.SCRIPT)
                go_on = script.parent / "go_on"
                run = self.start("-q", *way, "--host", "h1", "h2", "127.0.0.1", "-n", "3", script, go_on)
                run.await_out("4950\n")
                processes = harness.processes()
                found = [listener for process in processes for listener in listening(process.pid)]
                go_on.touch()
                self.assert_ok(run.finish(), "4950\n")
                self.assertGreater(len(processes), 9)
                self.assertEqual([one for one in found if not way or "/microscoop-" not in one], [])
                self.assertEqual([one for one in found if os.path.exists(one)], [])

    @harness.slow  # likewise
    def test_no_secret_is_in_any_argv_environment_or_log(self) -> None:
        folder = self.script(self.SCRIPT).parent
        ssh = folder / "ssh"
        ssh.write_text(LISTENS_IN % (sys.executable, folder, self.sshd.ssh))
        ssh.chmod(0o755)
        run = harness.start("--ssh-executable", ssh, "--tunnel", "-vv", "--host", "h1", "h2", "-n", "2",
                            folder / "script.py", ssh)
        seen = b""
        while run.process.poll() is None:
            pids = {process.pid for process in harness.processes()} | {*descendants(self.sshd.pid), self.sshd.pid}
            for pid in pids:
                seen += contents(pid, "cmdline") + contents(pid, "environ")
            time.sleep(0.01)
        result = run.finish()
        self.assert_ok(result, "4950\n")
        said = [path.read_bytes() for path in folder.glob("said.*")]
        secrets = [word for text in said for word in re.findall(rb'"(?:key|ticket)": "([0-9a-f]{64})"', text)]
        self.assertEqual(len(set(secrets)), 4)
        self.assertIn(b"microscoop", seen)
        for secret in secrets:
            for text in (seen, (result.out + result.err + self.sshd.log()).encode()):
                self.assertNotIn(secret, text)
                self.assertNotIn(bytes.fromhex(secret.decode()), text)


LISTENS_IN = """#!%s
import os, select, subprocess, sys
said = open("%s/said.%%d" %% os.getpid(), "wb", 0)
ssh = subprocess.Popen(%r + sys.argv[1:], stdin=subprocess.PIPE, bufsize=0)
data = b"x"
while data and select.select([0], [], []):  # ssh may not let its descriptors block, and this is one of them
    data = os.read(0, 65536)
    said.write(data)
    ssh.stdin.write(data)
ssh.stdin.close()
sys.exit(ssh.wait())
"""


def contents(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # it has just ended


def listening(pid: int) -> List[str]:
    """The local addresses or paths on which a process listens."""
    tables = {"tcp": (3, "0A", 9, 1), "tcp6": (3, "0A", 9, 1), "unix": (3, "00010000", 6, 7)}
    inodes = {}
    for table, (column, value, inode, name) in tables.items():
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[column] == value:
                inodes[f"socket:[{fields[inode]}]"] = fields[name] if len(fields) > name else "?"
    try:
        opened = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []  # it has just ended
    return [inodes[one] for one in opened if one in inodes]


if __name__ == "__main__":
    unittest.main()
