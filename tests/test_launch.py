"""The start of a host with a stand-in for ssh, which runs the command here: stages, noise, shells, advice, remains.

The stand-in first reads the file that has the host's name, in which a test says what that host is like. The agent is a
stub too: it tells its settings, evaluates what it is sent, and ends at the end of its input.
"""
from __future__ import annotations

import ast
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Union
from unittest import mock

from microscoop import bootstrap, errors, files, launch, shell
from microscoop.errors import HostError, UsageError
from microscoop.hosts import Host, Share
from microscoop.job import Job
from microscoop.leaves import tunnel
from microscoop.loop import Loop
from tests import harness
from tests.sshd import Sshd, requires_sshd

STAND_IN = """#!%(python)s -SE
import os, sys
words, there = sys.argv[1:], {"PATH": %(path)r, "HOME": "%(base)s/home", "TMPDIR": "%(temp)s", "%(name)s": "%(mark)s"}
if "-G" in words:
    sys.exit(0)
host, command = words[words.index("--") + 1:]
if "-L" in words and "FORBID" not in os.environ:
    os.symlink(*reversed(words[words.index("-L") + 1].split(":")))
child = os.fork()
if not child:
    os.setsid()
    text = 'cd; LOGIN=/bin/sh; . "%(base)s/hosts/$0"; exec $LOGIN -c "$1"'
    os.execve("/bin/sh", ["sh", "-c", text, host, command], there)
os.dup2(os.open(os.devnull, os.O_RDWR), 0)
os.dup2(0, 1)
status = os.waitpid(child, 0)[1]
sys.exit(status >> 8 or status)
"""
AGENT = b"""
import json, os, struct, sys

def read(fd, size):
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data

def write(fd, value):
    data = json.dumps(value).encode()
    os.write(fd, struct.pack("!i", len(data)) + data)

def serve_remote(fd_in, fd_out, order, held):
    print("this must go nowhere")
    os.chdir(order["settings"]["directory"])
    sys.path[0] = order["settings"]["path0"]
    settings = dict(order["settings"], private=order["directory"])
    while True:
        write(fd_out, eval(read(fd_in, *struct.unpack("!i", read(fd_in, 4))), dict(globals(), settings=settings)))
"""


def old_pythons() -> List[str]:
    """Those of this machine, if any, that are too old; pyenv's too, where they are not on PATH."""
    found = [path for path in map(shutil.which, ("python2.7", "python3.6", "python3.7")) if path]
    found += map(str, Path.home().glob(".pyenv/versions/[23].[67].*/bin/python"))
    return [path for path in found if not subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL).returncode]


def package() -> files.Bundle:
    sources = {"__init__.py": b"", "agent.py": AGENT, "leaves/tunnel.py": Path(tunnel.__file__).read_bytes(),
               "errors.py": Path(errors.__file__).read_bytes()}
    entries = [files.Entry("microscoop/" + name, len(source), 0o600, "") for name, source in sources.items()]
    return files.Bundle(entries, zlib.compress(b"".join(sources.values())))


def stub_parcel(script: Union[str, Path], send: Sequence[str] = ()) -> files.Parcel:
    parcel = files.Parcel(str(script), send)
    parcel.package = package()
    return parcel


class Talk:
    """With the stub agent of a ready host."""

    def __init__(self, start: launch.Start) -> None:
        assert start.channel
        self.channel, self.rest = start.channel, b""
        self.channel.settimeout(10)
        self.settings: dict[str, Any] = self.ask("settings")

    def ask(self, expression: str) -> Any:
        self.channel.sendall(struct.pack("!i", len(expression)) + expression.encode())
        size, = struct.unpack("!i", self._take(4))
        return json.loads(self._take(size))

    def _take(self, size: int) -> bytes:
        while len(self.rest) < size:
            piece = self.channel.recv(65536)
            if not piece:
                raise EOFError
            self.rest += piece
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


class LaunchCase(harness.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.base = Path(tempfile.mkdtemp(prefix="ms-launch-", dir="/tmp")).resolve()
        self.addCleanup(shutil.rmtree, str(self.base))
        for name in ("hosts", "home", "project", "bin"):
            (self.base / name).mkdir()
        (self.base / "bin" / "sh").symlink_to("/bin/sh")
        self.host("h2", "")
        self.ssh = self.program("ssh", STAND_IN % {
            "base": self.base, "temp": harness.TEMP, "name": harness.MARK_NAME, "mark": harness.MARK,
            "python": sys.executable,
            "path": os.pathsep.join([os.path.dirname(os.path.realpath(sys.executable)), os.defpath])})
        self.script = self.base / "project" / "script.py"
        self.script.write_text("import helper\n")
        (self.base / "project" / "helper.py").write_text("number = 42\n")

    def host(self, name: str, text: str) -> None:
        """What the stand-in does for this host before it runs the command."""
        (self.base / "hosts" / name).write_text(text)

    def program(self, name: str, text: str) -> str:
        path = self.base / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def python(self, setup: str, name: str = "python3.9") -> str:
        """A Python that does this before it runs what it is given; asked for its version, it fails."""
        return self.program(name, f'#!/bin/sh\n[ "$1" = -SEc ] && exit 1\nloader=$3\nshift 3\n'
                                  f'exec {sys.executable} -u -c "{setup}\n$loader" "$@"\n')

    def job(self, **changes: Any) -> Job:
        job = Job(
            script=str(self.script), args=("a b", "--c"), shares=(), tunnel=False, ssh=(self.ssh,), python=None,
            prolog=None, path=None, send=(), pythonpath=None, env={}, nice=0, retries=2, wait=10.0, strict=False,
            task_timeout=None, leaves={},
            verbose=0)
        return job._replace(**changes)

    def start(self, host: str = "h2", python: Optional[str] = None, parcel: Optional[files.Parcel] = None,
              **changes: Any) -> launch.Start:
        """Driven to its end, ready or not."""
        job = self.job(**changes)
        parcel = parcel or stub_parcel(job.script, job.send)
        loop, settled = Loop(), []
        start = launch.Start(loop, Share(Host(host, python=python), 1), job, parcel, lambda: settled.append(True))
        self.addCleanup(start.close)
        while not settled:
            loop.turn()
        return start

    def ready(self, host: str = "h2", **changes: Any) -> launch.Start:
        start = self.start(host, **changes)
        self.assertIsNone(start.error)
        return start

    def error(self, host: str = "h2", **changes: Any) -> HostError:
        start = self.start(host, **changes)
        self.assertIsNotNone(start.error)
        assert start.error
        return start.error

    def sent(self, **changes: Any) -> launch.Start:
        """A host that does not have the script's folder."""
        parcel = stub_parcel(self.script, changes.get("send", ()))
        self.assertTrue(parcel.entries)
        self.script.parent.rename(self.base / "hidden")
        return self.ready(parcel=parcel, **changes)

    def private(self) -> List[str]:
        return [path for path in os.listdir(harness.TEMP) if path.startswith("microscoop-")]


class AHostThatIsReady(LaunchCase):
    def test_tells_what_it_is(self) -> None:
        start = self.ready()
        facts = start.facts
        self.assertEqual((facts["stage"], facts["in_place"], facts["hostname"]), ("ready", True, os.uname().nodename))
        self.assertGreater(facts["version"], [3, 8])
        self.assertGreater(facts["memory"], 1 << 20)
        self.assertGreaterEqual(facts["cores"], 1)
        self.assertLess(facts["login"], 10)

    def test_runs_in_place_where_it_shares_the_folder(self) -> None:
        settings = Talk(self.ready(env={"A": "b"}, nice=3)).settings
        expected = {"script": str(self.script), "path0": str(self.script.parent), "directory": os.getcwd(),
                    "argv": [str(self.script), "a b", "--c"], "env": {"A": "b"}, "nice": 3, "host": "h2", "sent": False}
        self.assertEqual({name: settings[name] for name in expected}, expected)
        self.assertEqual(os.listdir(settings["private"]), ["lib"])

    def test_is_sent_the_files_where_one_byte_differs(self) -> None:
        parcel = stub_parcel(self.script)
        self.assertTrue(parcel.entries)
        (self.base / "project" / "helper.py").write_text("number = 43\n")
        self.assertEqual(Talk(self.ready(parcel=parcel)).ask("__import__('helper').number"), 42)

    def test_is_sent_the_files_where_the_working_directory_is_missing(self) -> None:
        with mock.patch.object(os, "getcwd", return_value="/nowhere"):
            start = self.ready()
        self.assertFalse(start.facts["in_place"])

    def test_has_the_sent_files_in_a_private_directory_that_is_the_working_directory(self) -> None:
        talk = Talk(self.sent())
        settings = talk.settings
        self.assertEqual(os.stat(settings["private"]).st_mode & 0o777, 0o700)
        self.assertEqual(sorted(os.listdir(settings["directory"])), ["helper.py", "script.py"])
        self.assertEqual(settings["directory"], settings["path0"])
        self.assertEqual(settings["script"], os.path.join(settings["directory"], "script.py"))
        self.assertEqual(talk.ask("__import__('helper').number"), 42)

    def test_works_in_the_directory_that_was_asked_for(self) -> None:
        self.assertEqual(Talk(self.sent(path="/usr")).ask("os.getcwd()"), "/usr")

    def test_keeps_prints_and_a_json_py_in_the_home_out_of_the_way(self) -> None:
        for name in ("json", "zlib", "socket", "tempfile"):
            (self.base / "home" / f"{name}.py").write_text("raise SystemExit('the wrong one')")
        talk = Talk(self.ready(tunnel=True))
        talk.ask("print('more', flush=True)")
        self.assertEqual(talk.ask("1"), 1)

    def test_has_the_words_for_ps_and_no_secret_on_its_command_lines(self) -> None:
        start = self.ready(tunnel=True)
        words = Path(f"/proc/{Talk(start).ask('os.getpid()')}/cmdline").read_bytes().decode().split("\0")
        self.assertEqual(words[-5:-1], ["microscoop", os.uname().nodename, str(os.getpid()), str(self.script)])
        assert start._tunnel
        for secret in start._tunnel.order().values():
            if "/" not in secret:
                self.assertNotIn(secret, " ".join(words + list(map(str, start.process.args))))  # type: ignore[arg-type]

    def test_is_reached_by_a_template(self) -> None:
        inner = self.program("inner", f'#!/bin/sh\nhost=$1\nshift\nexec {self.ssh} -- "$host" "$*"\n')
        talk = Talk(self.ready(ssh=(inner, "{host}")))
        self.assertEqual(talk.ask("6 * 7"), 42)


class NothingOfItIsLeft(LaunchCase):
    def test_when_the_head_hangs_up(self) -> None:
        start = self.sent()
        self.assertEqual(len(self.private()), 1)
        assert start.channel
        start.channel.close()
        start.process.wait(10)
        self.assertEqual(self.private(), [])

    def test_when_ssh_or_the_agent_is_killed(self) -> None:
        for tunnel_too in (False, True):
            with self.subTest(tunnel=tunnel_too):
                start = self.ready(tunnel=tunnel_too)
                Talk(start).channel.sendall(struct.pack("!i", 23) + b"os.kill(os.getpid(), 9)")
                self.assertEqual(start.process.wait(10), 128 + 9)
                start = self.ready(tunnel=tunnel_too)
                os.killpg(start.process.pid, signal.SIGKILL)
                start.close()
                self.assertTrue(harness.until(lambda: not self.private(), 5))

    def test_but_what_tasks_have_written(self) -> None:
        start = self.sent()
        talk = Talk(start)
        talk.ask("open('result.csv', 'w').write('1')")
        talk.channel.close()
        start.process.wait(10)
        self.assertEqual(sorted(os.listdir(talk.settings["directory"])), ["helper.py", "result.csv", "script.py"])
        self.assertEqual(os.listdir(talk.settings["private"]), ["files"])
        shutil.rmtree(talk.settings["private"])

    def test_when_a_stage_fails(self) -> None:
        self.error(path="/nowhere")
        self.assertTrue(harness.until(lambda: not self.private(), 5))

    def test_when_a_signal_meets_it_halfway(self) -> None:
        for call in ("mkdir", "fork"):  # as it returns: in the parent and in the child
            with self.subTest(call=call):
                hit = self.python(f"import os; real = os.{call}\ndef hit(*a):\n    try:\n        return real(*a)\n"
                                  f"    finally:\n        os.kill(os.getpid(), 15)\nos.{call} = hit")
                self.error(python=hit)
                self.assertTrue(harness.until(lambda: not self.private(), 5), self.private())

    def test_of_the_tunnel_once_both_have_met(self) -> None:
        before = set(Path("/tmp").glob("microscoop-*"))
        start = self.ready(tunnel=True)
        self.assertEqual(Talk(start).ask("1"), 1)
        self.assertTrue(harness.until(lambda: set(Path("/tmp").glob("microscoop-*")) <= before, 5))
        self.assertEqual([name for name in self.private() if "lib" not in os.listdir(harness.TEMP / name)], [])


class AnyShellWillDo(LaunchCase):
    def test_as_login_shell_with_noise(self) -> None:
        for name in ("sh", "bash", "dash", "zsh", "ksh", "tcsh", "fish"):
            if shutil.which(name):
                with self.subTest(name):
                    self.host("h2", f"LOGIN={name}; seq 1 20000; echo 'some noise'")
                    self.assertEqual(Talk(self.ready(prolog="X='a!b\\'; export X")).ask("os.environ['X']"), "a!b\\")

    def test_to_run_the_prolog_before_python(self) -> None:
        (self.base / "home" / "env.sh").write_text("export X=sourced; echo noise")
        (self.base / "project" / "here.sh").write_text("export X=here")
        with contextlib.ExitStack() as stack:
            stack.callback(os.chdir, os.getcwd())
            os.chdir(self.base / "project")
            for prolog, expected in (("export X=ran", "ran"), ("env.sh", "sourced"), ("~/env.sh", "sourced"),
                                     (str(self.base / "home" / "env.sh"), "sourced"), ("here.sh", "here"),
                                     ("export X='new\nline'", "new\nline"), ("export X=a; cat; set -eu", "a")):
                with self.subTest(prolog):
                    self.assertEqual(Talk(self.ready(prolog=prolog)).ask("os.environ['X']"), expected)

    def test_with_any_script_path_and_argument(self) -> None:
        for name in ("it's \"quoted\".py", "-c.py", "new\nline.py", "$(exit)`x`!*;&.py", "ünï.py", "\\.py"):
            with self.subTest(name):
                script = self.base / "project" / name
                script.write_text("")
                arguments = (name, "", "'", "-c", "--")
                settings = Talk(self.ready(script=str(script), args=arguments)).settings
                self.assertEqual((settings["script"], settings["argv"][1:]), (str(script), list(arguments)))

    def test_and_a_host_is_never_an_option(self) -> None:
        command = launch.ssh_command(self.job(ssh=("ssh", "-v")), Host("-oProxyCommand=x"), ())
        self.assertEqual(command[-3:-1], ["--", "-oProxyCommand=x"])
        self.assertEqual(command[:2], ["ssh", "-v"])
        self.assertNotIn("StrictHostKeyChecking=no", " ".join(command))


class ThePythonThere(LaunchCase):
    def test_is_the_one_that_is_named(self) -> None:
        odd = self.python("import os; os.environ['WHICH'] = 'odd'", "my 'python' 3")
        for python in (odd, shlex.quote(odd), f"env A=1 {shlex.quote(odd)}", "~/../bin/my\\ \\'python\\'\\ 3"):
            with self.subTest(python):
                self.assertEqual(Talk(self.ready(python=python)).ask("os.environ['WHICH']"), "odd")

    def test_is_the_next_where_the_first_does_not_run(self) -> None:
        self.program(f"python3.{sys.version_info[1]}", "#!/bin/sh\necho 'pyenv: not found' >&2; exit 127\n")
        self.host("h2", f"PATH={self.base}/bin:$PATH")
        with mock.patch.object(sys, "executable", "/nowhere/python"):
            self.assertEqual(Talk(self.ready()).ask("1"), 1)

    def test_is_called_too_old_by_its_version(self) -> None:
        old = self.python("import sys; sys.version_info = (3, 6, 15); sys.executable = '/opt/python3'")
        self.program("python3.11", "")
        self.host("h2", f"PATH={self.base}/bin")
        error = self.error(python=old)
        self.assertEqual(
            error.words, "python3 on h2 is 3.6; 3.8 or newer is needed; there is also python3.11, python3.9")
        self.assertEqual(error.stage, "version")
        self.assertIn("python=python3.11 in the hostfile", error.advice)

    def test_may_lack_a_module(self) -> None:
        for module in ("json", "zlib", "multiprocessing"):
            lacking = self.python(f"import sys; sys.modules['{module}'] = None")
            with self.subTest(module):
                error = self.error(python=lacking, tunnel=True)
                self.assertEqual((error.stage, error.words), ("python", f"it lacks the standard module {module}"))

    def test_may_be_misled_by_a_variable(self) -> None:
        self.host("h2", "export PYTHONHASHSEED=x")
        error = self.error()
        self.assertRegex(error.words, "^Fatal Python error: .*PYTHONHASHSEED")
        self.assertIn("a variable such as", error.advice)

    def test_may_be_missing(self) -> None:
        self.host("h2", f"PATH={self.base}/bin")
        with mock.patch.object(sys, "executable", "/nowhere/python"):
            error = self.error()
        self.assertEqual(error.stage, "python")
        self.assertRegex(error.words, "no Python was found, tried /nowhere/python, python3.[0-9]+, python3, python$")
        self.assertRegex(self.error(python="no such 'one").words, "no such|nterminated|unexpected")

    def test_may_be_a_very_old_one(self) -> None:
        for python in old_pythons():
            with self.subTest(python):
                self.assertRegex(self.error(python=python).words, r"on h2 is [23]\.[0-7]; 3\.8 or newer is needed")


class WhatFails(LaunchCase):
    SAID = (
        ("Host key verification failed.", "its key is not known here", "h2 true"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "another one",
         "ssh-keygen -R h2"),
        ("Permissions 0644 for '/home/me/key' are too open.\nPermission denied (publickey).",
         "others can read your key", "chmod 600 /home/me/key"),
        ("Received disconnect from h2: Too many authentication failures", "IdentitiesOnly", ""),
        ("me@h2: Permission denied (password,keyboard-interactive).", "passwords only", "h2 true"),
        ("me@h2: Permission denied (publickey,password).", "is the user right", "ssh-copy-id h2"),
        ("ssh: connect to host h2 port 22: Connection refused", "no sshd listens there", "h2 true"),
        ("ssh: Could not resolve hostname h2: Name or service not known", "nobody knows this name", "h2 true"),
        ("ssh: connect to host h2 port 22: Connection timed out", "is it up", "h2 true"),
        ("ssh: connect to host h2 port 22: No route to host", "is it up", "h2 true"),
        ("kex_exchange_identification: read: Connection reset by peer", "MaxStartups", "h2 true"),
        ("channel 0: open failed: connect failed: open failed\nstdio forwarding failed\nkex_exchange_identification: "
         "Connection closed by remote host", "jump host", "h2 true"),
        ("c: line 2: Bad configuration option: port\nc: terminating, 1 bad configuration options", "mend", "h2 true"),
        ("Timeout, server h2 not responding.", "connection broke", "h2 true"),
        ("Unable to negotiate with h2: no matching cipher found. Their offer: 3des-cbc", "Ciphers", "h2 true"),
        ("something nobody has seen yet", "by hand", "h2 true"),
    )

    @mock.patch.object(launch, "PAUSES", (0.01,))
    def test_before_the_login_comes_with_sshs_words_and_a_cure(self) -> None:
        for words, advice, command in self.SAID:
            with self.subTest(words):
                self.host("h2", f"echo {shlex.quote(words)} >&2; exit 255")
                error = self.error()
                self.assertEqual((error.host, error.stage), ("h2", "ssh"))
                self.assertEqual(error.words, words.split("\n")[0].strip("@ ."))
                self.assertIn(advice, error.advice)
                self.assertIn(command, error.command)

    @mock.patch.object(launch, "PAUSES", (0.01, 0.01))
    def test_for_a_moment_at_an_sshd_with_too_many_logins_is_tried_again(self) -> None:
        for refusals in (2, 3):
            with self.subTest(refusals):
                tries = self.base / "tries"
                tries.write_text("")
                self.host("h2", f"echo >> {tries}; [ $(wc -l < {tries}) -gt {refusals} ] || "
                                "{ echo 'kex_exchange_identification: read: Connection reset' >&2; exit 255; }")
                start = self.start()
                self.assertEqual((bool(start.error), len(tries.read_text())), (refusals == 3, 3))
                start.close()

    def test_for_want_of_a_passphrase_names_the_key(self) -> None:
        key = self.base / "key"
        key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0\n--")
        self.program("ssh", f"#!/bin/sh\n[ $1 = -G ] && echo identityfile {key}\n"
                            "echo 'Permission denied (publickey)' >&2; exit 255")
        error = self.error()
        self.assertEqual((error.words, error.command), ("Permission denied (publickey)", f"ssh-add {key}"))

    def test_at_a_login_shell_that_runs_nothing(self) -> None:
        self.host("h2", "echo 'This account is currently not available.'; exit 1")
        error = self.error()
        self.assertEqual(error.stage, "shell")
        self.assertIn("it printed 'This account is currently not available'", str(error))
        for does, said, advice in (("echo rbash: exec: restricted >&2; exit 1", "rbash: exec: restricted", "chsh"),
                                   ("exit 0", "it ended with status 0", "StdinNull")):
            self.host("h2", does)
            error = self.error()
            self.assertEqual((error.stage, error.words), ("shell", said))
            self.assertIn(advice, error.advice)

    def test_at_the_login_where_ssh_itself_is_killed(self) -> None:
        error = self.error(ssh=(self.program("killed", "#!/bin/sh\nkill -9 $$\n"),))
        self.assertEqual((error.stage, error.words), ("ssh", "it ended with status -9"))

    def test_although_the_status_is_0(self) -> None:
        self.host("h2", "echo 'fish: Unexpected end of string' >&2; exit 0")
        error = self.error()
        self.assertEqual((error.stage, error.words), ("shell", "fish: Unexpected end of string"))

    def test_in_the_prolog(self) -> None:
        for prolog, words in (("false", "it ended with status 1"), ("exit 0", "it ended with status 0"),
                              ("nosuchcommand", "nosuchcommand: (command )?not found"), ("'", "nexpected|nterminated")):
            with self.subTest(prolog):
                error = self.error(prolog=prolog)
                self.assertEqual(error.stage, "prolog")
                self.assertRegex(error.words, words)

    def test_for_want_of_a_temporary_directory(self) -> None:
        self.host("h2", "export TMPDIR=/proc/nowhere")
        error = self.error()
        self.assertEqual(error.stage, "files")
        self.assertIn("no private directory can be made in /proc/nowhere: No such file or directory", error.words)

    def test_on_a_full_disk(self) -> None:
        full = self.python("import os; real = os.open\nos.open = lambda p, *a, **k: "
                           "real('/dev/full', os.O_WRONLY) if a[0] & os.O_EXCL else real(p, *a, **k)")
        error = self.error(python=full)
        self.assertEqual(error.stage, "files")
        self.assertRegex(error.words, "cannot write to .*/microscoop-[0-9a-f]+/lib: No space left on device")

    def test_for_want_of_the_working_directory(self) -> None:
        error = self.error(path="/nowhere")
        self.assertEqual((error.stage, error.words), ("script", "there is no directory /nowhere"))
        self.assertIn("--path", error.advice)

    def test_because_something_else_writes_to_the_channel(self) -> None:
        noisy = self.python("import os; d = os.dup\nos.dup = lambda fd: (fd == 1 and os.write(1, b'hello'), d(fd))[1]")
        error = self.error(python=noisy)
        self.assertIn("this came between: hello", error.words)
        self.assertIn("start-up files", error.advice)

    def test_because_ssh_is_not_there(self) -> None:
        error = self.error(ssh=("/nowhere/ssh",), tunnel=True)
        self.assertEqual((error.stage, error.words), ("ssh", "'/nowhere/ssh' cannot be run: No such file or directory"))

    def test_because_nobody_answers_in_time(self) -> None:
        self.host("h2", "echo 'Enter your token:'; exec cat >/dev/null")
        with mock.patch.object(launch, "PATIENCE", 0.3):
            error = self.error()
        self.assertEqual(error.stage, "shell")
        self.assertIn("no answer within 0 s; it printed 'Enter your token:'", error.words)

    def test_because_the_files_are_too_large(self) -> None:
        parcel = stub_parcel(self.script)
        self.assertTrue(parcel.entries)
        self.script.unlink()
        with mock.patch.object(files, "LIMIT", 1), self.assertRaisesRegex(UsageError, "the largest files: "):
            self.start(parcel=parcel)

    def test_where_forwarding_is_forbidden(self) -> None:
        self.host("h2", "echo 'channel 2: open failed: connect failed: open failed' >&2")
        with mock.patch.dict(os.environ, FORBID="yes"):
            error = self.error(tunnel=True)
        self.assertEqual((error.stage, error.words), ("ready", "channel 2: open failed: connect failed: open failed"))
        self.assertEqual(error.advice, "it does not allow forwarding: leave out --tunnel")


@requires_sshd
class ARealSshd(LaunchCase):
    """The words are those of the OpenSSH that is installed."""

    def check(self, sshd: Sshd, stage: str, advice: str, host: str = "h2", **changes: Any) -> HostError:
        with sshd:
            before = set(Path("/tmp").glob("microscoop-*"))
            start = self.start(host, **{"ssh": tuple(sshd.ssh), **changes})
            start.close()  # before sshd ends: it would take the janitor with it
            self.assertTrue(harness.until(lambda: set(Path("/tmp").glob("microscoop-*")) <= before, 5))
        error = start.error
        assert error
        self.assertEqual(error.stage, stage, error)
        self.assertIn(advice, error.advice, error)
        return error

    def test_is_ready_both_ways_and_gone_with_ssh(self) -> None:
        with Sshd() as sshd:
            for tunnel_too in (False, True):
                with self.subTest(tunnel=tunnel_too):
                    prolog = f"export TMPDIR={harness.TEMP} {harness.MARK_NAME}={harness.MARK}"
                    start = self.ready(ssh=tuple(sshd.ssh), tunnel=tunnel_too, prolog=prolog, python=sys.executable)
                    talk = Talk(start)
                    self.assertEqual(talk.ask("6 * 7"), 42)
                    self.assertEqual(len(self.private()), 1)
                    assert start.process
                    start.process.kill()
                    with self.assertRaises((EOFError, ConnectionError)):
                        talk.ask("1")
                    self.assertTrue(harness.until(lambda: not self.private(), 5))

    def test_whose_key_is_unknown_or_changed(self) -> None:
        self.check(Sshd(known="no"), "ssh", "its key is not known here")
        error = self.check(Sshd(known="changed"), "ssh", "its key is another one than before")
        self.assertRegex(error.command, r"^ssh-keygen -R '\[127\.0\.0\.1\]:\d+'$")

    def test_that_does_not_let_us_in(self) -> None:
        self.check(Sshd(password=True), "ssh", "it takes passwords only")
        self.check(Sshd(), "ssh", "no key of yours opens this account", "nobodyhere@h2")
        error = self.check(Sshd(passphrase="secret"), "ssh", "your key has a passphrase")
        self.assertIn("Permission denied", error.words)

    def test_that_is_not_there(self) -> None:
        self.check(Sshd(client="Host h2\nPort 1\n"), "ssh", "no sshd listens there")
        self.check(Sshd(client="Host h2\nHostName nosuchname.invalid\n"), "ssh", "nobody knows this name")
        silent = Sshd(client="Host h2\nProxyCommand sleep 100\n")
        self.check(silent, "ssh", "is it up", ssh=(*silent.ssh, "-o", "ConnectTimeout=1"))

    def test_that_has_no_python(self) -> None:
        self.check(Sshd(), "python", "install Python 3.8", python="/nowhere/python3")

    @harness.slow
    def test_that_forbids_forwarding(self) -> None:
        for option in ("AllowTcpForwarding", "AllowStreamLocalForwarding"):
            sshd = Sshd(options={option: "no"})
            self.check(sshd, "ready", "leave out --tunnel", tunnel=True, python=sys.executable)


class TheTunnelLetsNobodyIn(unittest.TestCase):
    def setUp(self) -> None:
        self.tunnel = tunnel.Tunnel()
        self.tunnel.make()
        self.addCleanup(self.tunnel.close)
        self.path = self.tunnel.order()["socket"]
        os.symlink(self.path, self.tunnel._here)
        self.stdin, self.head = socket.socketpair()
        self.accepted: List[int] = []
        listening = threading.Event()
        self.thread = threading.Thread(target=self.serve, args=(listening.set,), daemon=True)
        self.thread.start()
        self.assertTrue(listening.wait(5))
        self.addCleanup(self.end)

    def serve(self, listening: Any) -> None:
        with contextlib.suppress(EOFError):
            self.accepted.append(tunnel.accept_head(self.stdin.fileno(), self.tunnel.order(), listening))

    def end(self) -> None:
        self.head.close()
        self.thread.join(5)
        self.stdin.close()
        for descriptor in self.accepted:
            os.close(descriptor)
        self.assertFalse(self.thread.is_alive())
        self.assertFalse(os.path.exists(os.path.dirname(self.path)))

    def stranger(self, data: bytes) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        self.addCleanup(one.close)
        one.connect(self.path)
        one.sendall(data)
        return one

    def test_but_the_head(self) -> None:
        with self.tunnel.connect() as channel:
            self.thread.join(5)
            os.write(self.accepted[0], b"hello")
            channel.settimeout(5)
            self.assertEqual(channel.recv(5), b"hello")

    def test_and_a_thousand_strangers_do_not_delay_it(self) -> None:
        lines = (b"", b"x", b"GET / HTTP/1.0\r\n\r\n" * 9, b"\xff" * 4096, b"\x7f\xff\xff\xff" * 8, b"\0" * 32)
        for number in range(1000):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one = self.stranger(lines[number % len(lines)])
                if number % len(lines):
                    one.close()
        begun = time.monotonic()
        self.tunnel.connect().close()
        self.assertLess(time.monotonic() - begun, 1)

    def test_who_shows_the_ticket_but_has_not_the_key(self) -> None:
        with self.assertRaisesRegex(ValueError, "digest"):
            tunnel.shake_hands(self.stranger(bytes.fromhex(self.tunnel.order()["ticket"])), b"wrong", True)
        self.tunnel.connect().close()

    def test_who_announces_an_absurd_length_after_the_ticket(self) -> None:
        one = self.stranger(bytes.fromhex(self.tunnel.order()["ticket"]) + b"\x7f\xff\xff\xff" * 4)
        with contextlib.suppress(ConnectionResetError):
            while one.recv(4096):
                pass  # it is closed, not read on
        self.tunnel.connect().close()

    def test_when_the_head_is_gone(self) -> None:
        self.head.close()
        self.thread.join(5)
        self.assertEqual(self.accepted, [])


class TheJanitor(unittest.TestCase):
    def wait_for(self, text: str, patience: float) -> int:
        """How a child ended that stops, and then does this."""
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGSTOP)
            exec(text)
            os._exit(3)
        with mock.patch.object(bootstrap, "SILENCE", patience):
            if text:
                os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOWAIT)
                threading.Timer(0.05, os.kill, (child, signal.SIGCONT)).start()    # while it waits
            return bootstrap.reap(child)

    def test_ends_an_agent_that_stays_stopped(self) -> None:
        self.assertEqual(os.WTERMSIG(self.wait_for("", 0.05)), signal.SIGKILL)

    @unittest.skipUnless(hasattr(os, "waitid"), "needs waitid, which Python has on macOS from 3.13 on")
    def test_leaves_one_alone_that_goes_on(self) -> None:
        for text in ("pass", "time.sleep(0.8)"):
            self.assertEqual(os.WEXITSTATUS(self.wait_for(text, 0.5)), 3)


class TheTextsThatTravel(unittest.TestCase):
    def test_bootstrap_parses_on_old_pythons(self) -> None:
        text = Path(bootstrap.__file__).read_text()
        ast.parse(text, feature_version=(3, 4))
        for python in old_pythons():
            with self.subTest(python):
                result = subprocess.run([python, "-c", "import sys; compile(sys.stdin.read(), 'b', 'exec')"],
                                        input=text.encode(), stderr=subprocess.PIPE)
                self.assertEqual(result.stderr, b"")

    def test_ssh_is_given_nothing_that_a_shell_could_misread(self) -> None:
        job = mock.Mock(script="/a b/it's!\\\n.py")
        self.assertRegex(shell.marker(job), r"^microscoop [\w.-]+ \d+ /a_b/it_s___.py$")


def _all_stages() -> Iterator[str]:
    return iter(("ssh", "shell", "prolog", "python", "version", "files", "script", "ready"))


class TheTableOfAdvice(unittest.TestCase):
    def test_has_a_row_for_each_stage_and_no_other(self) -> None:
        self.assertEqual({cure.stage for cure in launch.CURES} - {""}, set(_all_stages()))


if __name__ == "__main__":
    unittest.main()
