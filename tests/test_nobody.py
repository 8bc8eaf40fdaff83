"""Nobody is let in: nothing listens, the launcher and the agents unpickle nothing, secrets are not to be seen, and
names, paths and arguments reach no shell as anything but themselves."""
from __future__ import annotations

import ast
import base64
import contextlib
import os
import shlex
import stat
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence, Set

from microscoop import hosts
from microscoop.errors import UsageError
from tests import harness
from tests.sshd import Sshd, requires_sshd
from tests.test_launch import LaunchCase
from tests.test_ssh import SEEN

ODD = ("#~ünï%h{host} it's \"quoted\"  twice", "new\nline back\\slash\\", "$(exit)`x`$HOME!*?;&|<>{}()[1-3]", "--")
BUSY = """
import os, sys, time
from microscoop import futures
def nap(k):
    time.sleep(0.05)
    return k
if __name__ == "__main__":
    print("busy", flush=True)
    while not os.path.exists(sys.argv[1]):
        list(futures.map(nap, range(8)))
"""
HAS_PROC = os.path.exists("/proc/self/net/unix")


# What listens


def sockets(pid: int) -> Set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for path in (harness.PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(path).partition(":")
                found |= {inode.strip("[]")} if kind == "socket" else set()
    return found


def rows(name: str) -> Iterator[List[str]]:
    path = harness.PROC / "self" / "net" / name
    for line in path.read_text().splitlines()[1:] if path.exists() else ():
        yield line.split()


def listeners(pids: Sequence[int]) -> List[str]:
    """What these processes listen on: unix sockets by their path, all else by its address."""
    ours: Set[str] = set().union(*map(sockets, pids))
    found = ["%s %s" % (name, row[1]) for name in ("tcp", "tcp6") for row in rows(name)
             if row[9] in ours and row[3] == "0A"]
    found += ["%s %s" % (name, row[1]) for name in ("udp", "udp6") for row in rows(name) if row[9] in ours]
    return found + ["".join(row[7:]) for row in rows("unix") if row[6] in ours and int(row[3], 16) & 0x10000]


def processes() -> List[int]:
    return [process.pid for process in harness.processes()]


@unittest.skipUnless(HAS_PROC, "needs /proc")
class NothingListens(LaunchCase):
    def watch(self, look: Callable[[List[str]], None], *options: str, least: int) -> None:
        """Look at what listens, all the time from the start until the tasks are at work, and then once more."""
        flag = self.base / "enough"
        run = harness.start("-q", *options, self.program("busy.py", BUSY), flag)
        while "busy" not in run.out.text() and run.process.poll() is None:
            look(listeners(processes()))
            time.sleep(0.01)
        self.assertTrue(harness.until(lambda: len(processes()) >= least, 10))
        look(listeners(processes()))
        flag.touch()
        result = run.finish(20)
        flag.unlink()
        self.assertEqual((result.status, result.out), (0, "busy\n"), result.err)

    def nothing(self, found: List[str]) -> None:
        self.assertEqual(found, [])

    def private_sockets(self, found: List[str]) -> None:
        """None but in directories that only we may enter."""
        for path in found:
            self.assertTrue(path.startswith("/"), path)
            with contextlib.suppress(FileNotFoundError):
                about = os.stat(os.path.dirname(path))
                self.assertEqual((stat.S_IMODE(about.st_mode), about.st_uid), (0o700, os.geteuid()), path)

    def test_here(self) -> None:
        self.watch(self.nothing, "-n", "2", least=5)

    def test_with_a_host_behind_ssh(self) -> None:
        self.watch(self.nothing, "-n", "2", "--host", "h2", "--ssh-executable", self.ssh, least=7)

    @requires_sshd
    def test_with_hosts_behind_a_real_ssh_but_on_sockets_in_private_directories_if_asked_to(self) -> None:
        with Sshd(options=SEEN) as sshd:
            words = ("-n", "2", "--host", "h1", "h2", "--ssh-executable", sshd.command)
            self.watch(self.nothing, *words, least=9)
            self.watch(self.private_sockets, *words, "--tunnel", least=9)

    def test_a_listener_would_be_found(self) -> None:
        program = """
import os, socket, sys, tempfile, time
many = [socket.socket(family, kind) for family, kind in ((2, 1), (2, 2), (1, 1))]
many[0].bind(("127.0.0.1", 0)); many[0].listen(); many[1].bind(("127.0.0.1", 0))
many[2].bind(sys.argv[1]); many[2].listen()
print("ready", flush=True); time.sleep(50)
"""
        run = harness.Run([sys.executable, "-c", program, str(self.base / "socket")])
        run.await_out("ready")
        self.assertEqual([name.split()[0] for name in listeners([run.process.pid])],
                         ["tcp", "udp", str(self.base / "socket")])
        run.process.kill()
        run.finish()


# What is unpickled


@unittest.skipUnless(HAS_PROC, "needs /proc")
class NothingIsUnpickled(LaunchCase):
    SCRIPT = """
import os, sys
from microscoop import futures

def note(name, *words):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), "a") as file:
        print(*words, file=file)

def explode(kind, data):
    note("marks", os.getpid())
    return kind(data)

class Bomb:
    def __init__(self, data):
        self.data = data
    def __reduce__(self):
        return explode, (type(self), self.data)

class Cry(Bomb, Exception):
    pass

def task(bomb):
    note("workers", os.getpid(), os.getppid())
    return Bomb(bomb.data)

def fail(bomb):
    raise Cry(bomb.data)

if __name__ == "__main__":
    for data in (b"", bytes(1000000)):
        for bomb in [futures.submit(task, Bomb(data)).result(), *futures.map(task, [Bomb(data)] * 20)]:
            assert type(bomb) is Bomb and bomb.data == data
        assert type(futures.submit(fail, Bomb(data)).exception()) is Cry
    print(os.getpid(), os.getppid())
"""

    def test_by_launcher_and_agents(self) -> None:
        script = self.script.with_name("bombs.py")
        for options in ((), ("--host", "h2", "--ssh-executable", self.ssh)):
            script.write_text(self.SCRIPT)
            run = harness.start("-q", "-n", "2", *options, script)
            result = run.finish(20)
            self.assertEqual((result.status, result.err), (0, ""))
            origin, agent = map(int, result.out.split())
            marks = set(map(int, script.with_name("marks").read_text().split()))
            numbers = [tuple(map(int, line.split())) for line in script.with_name("workers").read_text().splitlines()]
            workers, agents = {pid for pid, _ in numbers}, {parent for _, parent in numbers}
            self.assertIn(origin, marks)
            self.assertTrue(workers & marks)
            self.assertEqual(marks & {run.process.pid, agent, *agents}, set())
            self.assertEqual(marks - workers, {origin})
            for name in ("marks", "workers"):
                script.with_name(name).unlink()


# Secrets


@unittest.skipUnless(HAS_PROC, "needs /proc")
@requires_sshd
class SecretsAreNotToBeSeen(harness.TestCase):
    """The key and the ticket of --tunnel."""

    LAUNCHER = """
import sys
from microscoop import cli
from microscoop.leaves import tunnel
order = tunnel.Tunnel.order
def told(self):
    found = order(self)
    with open({path!r}, "a") as file:
        print(found["key"], found["ticket"], file=file)
    return found
tunnel.Tunnel.order = told
sys.exit(cli.main(sys.argv[1:]))
"""

    def test_in_any_command_line_environment_log_or_file(self) -> None:
        busy = self.script(BUSY)
        told, flag, seen = busy.with_name("secrets"), busy.with_name("enough"), set()
        launcher = self.script(self.LAUNCHER.format(path=str(told)), "launcher.py")
        with Sshd(options=dict(SEEN, LogLevel="DEBUG3")) as sshd:
            words = ("-vv", "-n", "2", "--host", "h1", "h2", "--tunnel", "--ssh-executable", sshd.command + " -v")
            run = harness.Run([sys.executable, launcher, *words, busy, flag])
            while "busy" not in run.out.text() and run.process.poll() is None:
                seen |= self.visible(processes() + sshd.sessions())
                time.sleep(0.02)
            seen |= self.visible(processes() + sshd.sessions())
            flag.touch()
            result = run.finish(20)
            seen |= {result.out.encode(), result.err.encode(), sshd.log().encode()}
        self.assertEqual((result.status, result.out), (0, "busy\n"), result.err)
        secrets = told.read_text().split()
        self.assertEqual([len(secret) for secret in secrets], [64] * 4)
        self.assertEqual(len(set(secrets)), 4, "each host has its own")
        text = b"\n".join(seen)
        self.assertIn(b"microscoop", text)
        for secret in map(bytes.fromhex, secrets):
            for form in (secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)):
                at = text.find(form)
                self.assertEqual(at, -1, text[max(at - 300, 0):at + 100])

    def visible(self, pids: Sequence[int]) -> Set[bytes]:
        """What others may see of these processes, and the files of the run."""
        paths = [harness.PROC / str(pid) / name for pid in pids for name in ("cmdline", "environ")]
        found = set()
        for folder, folders, names in os.walk(str(harness.TEMP)):      # some go meanwhile
            paths += [Path(folder, name) for name in folders + names if not name.endswith(".py")]
        for path in paths:
            with contextlib.suppress(OSError):
                found.add(path.read_bytes() if not path.is_dir() else bytes(str(path), "utf-8"))
        return found


# Names


class NamesAreThemselves(LaunchCase):
    SCRIPT = """
import os, sys
from microscoop import futures
def about(_):
    import beside
    return sys.argv, __file__, os.getcwd(), os.environ.get("ODD"), os.listdir(), beside.__file__
if __name__ == "__main__":
    print((sys.argv, __file__, os.getcwd()))
    print(futures.submit(about, 1).result())
"""
    remote = ("--host", "h2", "-n", "1", "--ssh-executable")

    def folder(self, name: str) -> Path:
        """One of that name, with a script of that name in it, and a module."""
        folder = self.base / "project" / name
        folder.mkdir()
        (folder / (name + ".py")).write_text(self.SCRIPT)
        (folder / "beside.py").write_text("")
        return folder

    def told(self, *words: Any, **settings: Any) -> List[Any]:
        """What the origin and a worker tell of themselves."""
        result = harness.run("-q", *words, timeout=20, **settings)
        self.assertEqual((result.status, result.err), (0, ""))
        return [ast.literal_eval(line) for line in result.out.splitlines()]

    def test_script_folder_and_arguments(self) -> None:
        folders = {name: self.folder(name) for name in ODD}
        cases = [(name, options) for name in ODD for options in (("-n", "1"), (*self.remote, self.ssh))]
        found = harness.at_once(lambda case: self.told(
            *case[1], "--env", "ODD=" + case[0], folders[case[0]] / (case[0] + ".py"), *ODD, "",
            cwd=folders[case[0]]), cases)
        for (name, options), (origin, worker) in zip(cases, found):
            with self.subTest(name=name, options=options):
                folder = folders[name]
                script = str(folder / (name + ".py"))
                self.assertEqual(origin, ([script, *ODD, ""], script, str(folder)))
                self.assertEqual(worker[:4], ([script, *ODD, ""], script, str(folder), name))
                self.assertEqual(worker[5], str(folder / "beside.py"))

    def test_a_script_of_a_name_that_begins_with_a_dash(self) -> None:
        folder = self.folder("-n 3")
        for origin, worker in harness.at_once(
                lambda options: self.told(*options, "--", "-n 3.py", "-n", "--", "4", cwd=folder),
                (("-n", "1"), (*self.remote, self.ssh))):
            self.assertEqual((origin[0], worker[0]), (["-n 3.py", "-n", "--", "4"],) * 2)

    def test_what_is_sent(self) -> None:
        hidden = f"import os; real = os.path.isdir; " \
                 f"os.path.isdir = lambda path: not str(path).startswith('{self.base}/project') and real(path)"
        python = shlex.quote(self.python(hidden, "odd 'python' $3"))
        folders = {name: self.folder(name) for name in ODD}
        for name, folder in folders.items():
            (folder / ("data " + name)).write_text(name)
        found = harness.at_once(lambda name: self.told(
            *self.remote, self.ssh, "--python-interpreter", python, "--send", folders[name] / ("data " + name),
            folders[name] / (name + ".py"), *ODD, cwd=folders[name]), ODD)
        for (name, folder), (_, worker) in zip(folders.items(), found):
            with self.subTest(name):
                argv, file, cwd, _, names, module = worker
                self.assertTrue(cwd.startswith(str(harness.TEMP)), cwd)
                self.assertEqual((file, argv, module),
                                 (f"{cwd}/{name}.py", [str(folder / (name + ".py")), *ODD], f"{cwd}/beside.py"))
                self.assertEqual(set(names) - {"__pycache__"}, {name + ".py", "beside.py", "data " + name})

    def test_working_directory_and_search_path(self) -> None:
        others = {name: self.base / "home" / name for name in ODD}
        for other in others.values():
            other.mkdir()
        found = harness.at_once(lambda name: self.told(
            *self.remote, self.ssh, "--path", others[name], "--pythonpath", others[name],
            self.folder(name) / (name + ".py")), ODD)
        for name, (_, worker) in zip(ODD, found):
            self.assertEqual(worker[2], str(others[name]))

    def test_the_command_that_leads_to_a_host(self) -> None:
        os.rename(self.ssh, self.base / "bin" / "it's $HOME `x`; \"ssh\"")
        odd = shlex.quote(str(self.base / "bin" / "it's $HOME `x`; \"ssh\""))
        inner = self.program("in 'ner", f'#!/bin/sh\nhost=$1\nshift\nexec {odd} -- "$host" "$*"\n')
        folder = self.folder("plain")
        commands = (odd, odd + " -o 'ProxyCommand=a \"b\" $c'", shlex.quote(inner) + " {host}")
        found = harness.at_once(lambda command: self.told(*self.remote, command, folder / "plain.py"), commands)
        for command, lines in zip(commands, found):
            self.assertEqual(len(lines), 2, command)

    def test_a_host(self) -> None:
        def told(name: str) -> None:
            self.host(name, "")
            self.told("--host", name, "-n", "1", "--ssh-executable", self.ssh, self.folder(name) / (name + ".py"))

        harness.at_once(told, ("h_2.x-y", "ünï", "me+you@h2", "fe80::1"))

    def test_what_is_no_name_of_a_host_reaches_no_command(self) -> None:
        for name in ("-oProxyCommand=x", "me@-oX", "a b", "a'b", 'a"b', "$(x)", "`x`", "a;b", "a\nb", "a|b", "a&b",
                     "a\\b", "a/b", "{host}", "a\x1bb", "@h2", "h2@", ""):
            with self.subTest(name):
                self.assertRaises(UsageError, hosts.parse_words, [name])
                self.assertRaises(UsageError, hosts.parse_hostfile, shlex.quote(name) + " 1\n", "hostfile")
        called = self.base / "called"
        ssh = self.program("never", f"#!/bin/sh\ntouch {called}\n")
        result = harness.run("--host", "$(x)", "--ssh-executable", ssh, self.folder("plain") / "plain.py")
        self.assertEqual((result.status, result.out, called.exists()), (2, "", False))
        self.assertEqual(result.err, "microscoop: --host, '$(x)': a host's name has no '$' in it\n")


if __name__ == "__main__":
    unittest.main()
