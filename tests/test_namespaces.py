"""The tests' own hosts: they are what they claim to be, fail as real ones do, and leave nothing behind."""
from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any, Dict, List

from tests import harness, namespaces
from tests.harness import until


def links() -> List[str]:
    return [name for name in os.listdir("/sys/class/net") if name.startswith(("ms", "mt"))]


@namespaces.requires_hosts
class Hosts(unittest.TestCase):
    def up(self, count: int = 1, **options: Dict[str, Any]) -> namespaces.Hosts:
        hosts = namespaces.up(count, **options)
        self.addCleanup(hosts.down)
        return hosts

    def ssh(self, hosts: namespaces.Hosts, name: str, words: str) -> str:
        argv = [*hosts.ssh, "-o", "BatchMode=yes", name, words]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 255, done.stderr)
        return done.stdout

    def echo(self, hosts: namespaces.Hosts) -> subprocess.Popen[bytes]:
        """A login to h1 that repeats what it is told."""
        argv = [*hosts.ssh, "-o", "BatchMode=yes", "h1", "cat"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        login = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=nothing, bufsize=0)
        self.addCleanup(login.communicate)
        self.addCleanup(login.kill)
        self.say(login, "first")
        self.assertTrue(self.hears(login, "first", 10))
        return login

    def say(self, login: subprocess.Popen[bytes], word: str) -> None:
        assert login.stdin
        login.stdin.write(word.encode())

    def hears(self, login: subprocess.Popen[bytes], word: str, seconds: float) -> bool:
        """Whether this word comes back in time."""
        assert login.stdout
        if select.select([login.stdout], [], [], seconds)[0]:
            self.assertEqual(os.read(login.stdout.fileno(), 100), word.encode())
            return True
        return False

    def connect(self, hosts: namespaces.Hosts, name: str, timeout: float = 5) -> float:
        """Seconds until a TCP connection to its sshd stood."""
        start = time.monotonic()
        socket.create_connection((hosts.address(name), hosts.hosts[name].options.port), timeout).close()
        return time.monotonic() - start

    def test_a_login_finds_another_machine_with_nothing_of_ours(self) -> None:
        hosts = self.up(2, h2={"user": "worker", "port": 2222, "alias": "slave", "noise": True})
        words = "hostname; whoami; ls -A /tmp /srv; ls -A " + str(harness.ROOT)
        self.assertEqual(self.ssh(hosts, "h1", words), "h1\nroot\n/srv:\n\n/tmp:\n")
        self.assertEqual(self.ssh(hosts, "slave", "hostname; whoami"), namespaces.NOISE + "\nh2\nworker\n")
        self.assertNotIn("unittest", " ".join(line for _, line in hosts.ps("h1")))

    def test_its_python_is_chosen(self) -> None:
        at = "/opt-python/bin/python3"
        hosts = self.up(3, h1={"python": sys.executable}, h2={"python": ""}, h3={"python_at": at})
        version = "%d.%d.%d" % sys.version_info[:3]
        self.assertEqual(self.ssh(hosts, "h1", "python3 -V"), f"Python {version}\n")
        self.assertEqual(self.ssh(hosts, "h2", "which python3; ls /usr/bin | grep ^python"), "")
        self.assertEqual(self.ssh(hosts, "h3", f"which python3; {at} -c 'import json; print(1)'"), "1\n")

    def test_a_shared_folder_is_the_same_there(self) -> None:
        hosts = self.up(1, h1={"share": [str(harness.ROOT)]})
        self.assertEqual(self.ssh(hosts, "h1", f"cd {harness.ROOT}; ls pyproject.toml"), "pyproject.toml\n")

    def test_a_cut_is_silent_and_heals(self) -> None:
        hosts = self.up(2)
        login = self.echo(hosts)
        hosts.cut("h1")
        self.say(login, "second")
        self.assertFalse(self.hears(login, "second", 2))
        self.assertIsNone(login.poll())
        with self.assertRaises(socket.timeout):
            self.connect(hosts, "h1", 1)
        self.connect(hosts, "h2")
        hosts.heal("h1")
        self.assertTrue(self.hears(login, "second", 10))

    def test_a_delay_counts_each_way_and_loses_nothing(self) -> None:
        hosts = self.up()
        login = self.echo(hosts)
        hosts.delay("h1", 0.05)
        self.assertTrue(0.1 <= self.connect(hosts, "h1") < 0.15, self.connect(hosts, "h1"))
        self.say(login, "second")
        self.assertTrue(self.hears(login, "second", 5))
        sent = os.urandom(4 << 20)
        got = subprocess.run([*hosts.ssh, "h1", "cat"], input=sent, stdout=subprocess.PIPE, timeout=30).stdout
        self.assertTrue(got == sent)
        hosts.cut("h1")
        with self.assertRaises(socket.timeout):
            self.connect(hosts, "h1", 1)
        hosts.heal("h1")
        hosts.delay("h1", 0)
        self.assertLess(self.connect(hosts, "h1"), 0.05)
        self.say(login, "third")
        self.assertTrue(self.hears(login, "third", 5))

    def test_a_crash_ends_every_process_and_is_seen_unless_silent(self) -> None:
        hosts = self.up(1)
        login = self.echo(hosts)
        hosts.crash("h1")
        self.assertEqual(login.wait(5), 255)
        self.assertEqual(hosts.ps("h1"), [])
        hosts = self.up(1)
        login = self.echo(hosts)
        hosts.crash("h1", silent=True)
        with self.assertRaises(subprocess.TimeoutExpired):
            login.wait(2)

    def test_without_its_sshd_a_host_runs_on(self) -> None:
        hosts = self.up()
        login = self.echo(hosts)
        sleeper = subprocess.Popen(hosts.hosts["h1"].enter("sleep", "600"))
        self.addCleanup(sleeper.wait)
        self.assertTrue(until(lambda: "sleep 600" in [line for _, line in hosts.ps("h1")], 5))
        self.addCleanup(hosts.crash, "h1")         # which ends the sleeper
        hosts.kill_sshd("h1")
        self.assertEqual(login.wait(5), 255)
        self.assertIn("sleep 600", [line for _, line in hosts.ps("h1")])
        with self.assertRaises(ConnectionRefusedError):
            self.connect(hosts, "h1")
        hosts.start_sshd("h1")
        self.assertEqual(self.ssh(hosts, "h1", "echo here"), "here\n")

    def test_two_sets_at_once_and_nothing_is_left_of_either(self) -> None:
        before = links()
        one, other = self.up(), self.up(2)
        self.assertNotEqual(one.address("h1"), other.address("h1"))
        for hosts, name in ((one, "h1"), (other, "h2")):
            self.assertEqual(self.ssh(hosts, name, "hostname"), name + "\n")
            self.assertEqual(hosts.run_in(name, ["hostname"]).stdout, name + "\n")
        one.delay("h1", 0.01)
        one.down()
        self.assertEqual(self.ssh(other, "h1", "hostname"), "h1\n")
        other.down()
        self.assertEqual(links(), before)
        self.assertEqual(one.ps("h1") + other.ps("h1") + other.ps("h2"), [])
        self.assertFalse(os.path.exists(one.directory) or os.path.exists(other.directory))

    def test_hosts_end_with_the_process_that_made_them(self) -> None:
        before = links()
        program = "from tests import namespaces; hosts = namespaces.up(1); hosts.delay('h1', 0.01); input('up\\n')"
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, TMPDIR=folder)
            with subprocess.Popen([sys.executable, "-c", program], cwd=str(harness.ROOT), env=environment,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
                assert owner.stdout
                self.assertEqual(owner.stdout.readline(), "up\n")
                self.assertNotEqual(links(), before)
                owner.send_signal(signal.SIGKILL)
            self.assertTrue(until(lambda: links() == before, 5))
