"""The command line by tables: whose word is whose, what becomes of each option, one sentence for each bad input."""
from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator, Optional
from unittest import mock

from microscoop import __version__, cli
from microscoop.errors import HostError, UsageError
from microscoop.hosts import Host, Share, usable_cores
from microscoop.job import Job, make_job
from microscoop.options import DROPPED

ROOT = Path(__file__).resolve().parent.parent
OWN_NAME = socket.gethostname()

# words -> the program's; every name that ends in .py exists as a file, but for no.py and folder.py
PROGRAMS: list[tuple[str, str]] = [
    ("script.py", "script.py"),
    ("script.py -n 3 --help -- x", "script.py -n 3 --help -- x"),
    ("-n 6 script.py a", "script.py a"),
    ("-n6 script.py", "script.py"),
    ("-vn 6 script.py", "script.py"),
    ("-vn6 script.py", "script.py"),
    ("-v -v script.py", "script.py"),
    ("--path d script.py", "script.py"),
    ("--path=d script.py", "script.py"),
    ("--path= script.py", "script.py"),
    ("-pd script.py", "script.py"),
    ("--tunnel script.py", "script.py"),
    ("--nice -5 script.py", "script.py"),
    ("-- -odd.py -- x", "-odd.py -- x"),
    ("--host a b script.py c", "script.py c"),
    ("--hosts a b -n 2 script.py", "script.py"),
    ("--host a b -- program x", "program x"),
    ("--host a no.py b", ""),
    ("--host a.py.b script.py", "script.py"),
    ("--host a --host b script.py", "script.py"),
    ("--host=a script.py", "script.py"),
    ("--host folder.py script.py", "script.py"),
    ("- -n", "- -n"),
    ("-m module -n 3 -- x", "-n 3 -- x"),
    ("-n 3 -mmodule -n 3", "-n 3"),
    ("--host a b -m module script.py", "script.py"),
    ("-c code -c x", "-c x"),
    ("-qc code -n", "-n"),
    ("-n6 -ccode", ""),
    ("-n 3", ""),
    ("--", ""),
    ("", ""),
]

# words before script.py -> what they change in the Job
JOBS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["-n", "3"], {"shares": (Share(Host("127.0.0.1", local=True), 3, True),)}),
    (["--host", "a", "b", "b", "-n", "3"], {"shares": (
        Share(Host("127.0.0.1", local=True), 0, True), Share(Host("a"), 1), Share(Host("b", 2), 2))}),
    (["--host", "a", "--hosts=a"], {"shares": (
        Share(Host("127.0.0.1", local=True), 0, True), Share(Host("a", 2), 2))}),
    (["--hostfile", "hosts"], {"shares": (
        Share(Host("127.0.0.1", 1, local=True), 1, True), Share(Host("a", None, "py"), None))}),
    (["--tunnel"], {"tunnel": True}),
    (["--ssh-executable", "ssh -F 'my config'"], {"ssh": ("ssh", "-F", "my config")}),
    (["--ssh-executable", "docker exec -i {host}"], {"ssh": ("docker", "exec", "-i", "{host}")}),
    (["--python-interpreter", "$HOME/py -E"], {"python": "$HOME/py -E"}),
    (["--prolog", ""], {"prolog": None}),
    (["-p", "."], {"path": "HERE", "pythonpath": "HERE/lib"}),
    (["--path", "/nowhere", "--host", "a"], {"path": "/nowhere", "pythonpath": "HERE/lib", "shares": (
        Share(Host("127.0.0.1", local=True), 0, True), Share(Host("a"), None))}),
    (["--send", "hosts", "--send", "folder.py"], {"send": ["hosts", "folder.py"]}),
    (["--pythonpath", "x:y"], {"pythonpath": "x:y"}),
    (["--pythonpath", ""], {"pythonpath": ""}),
    (["--env", "A=1", "--env", "B=x=y", "--env", "C=", "--env", "FROM_HERE"], {
        "env": {"A": "1", "B": "x=y", "C": "", "FROM_HERE": "here"}}),
    (["--nice", "-5"], {"nice": -5}),
    (["--retries", "0"], {"retries": 0}),
    (["--wait", "0.5"], {"wait": 0.5}),
    (["--strict"], {"strict": True}),
    (["-v"], {"verbose": 1}),
    (["-vv"], {"verbose": 2}),
    (["--verbose", "-vv"], {"verbose": 2}),
    (["-q"], {"verbose": -1}),
    (["--quiet"], {"verbose": -1}),
]
DEFAULT = Job(
    script="script.py", args=("-n", "--", "--help"),
    shares=(Share(Host("127.0.0.1", local=True), usable_cores(), True),), tunnel=False, ssh=("ssh",), python=None,
    prolog=None, path=None, send=(), pythonpath="lib", env={}, nice=0, retries=2, task_timeout=None, leaves={},
    wait=10.0, strict=False, verbose=0)

NAMES = "-m -c -n --host --hosts --hostfile --tunnel --ssh-executable --python-interpreter --prolog -p --path " \
        "--send --pythonpath --env --nice --retries --task-timeout --wait --strict --progress --no-progress " \
        "--report --trace --dry-run --check --scoop -v --verbose -q --quiet --version -h --help"

# words -> what the one sentence must say
REFUSED: list[tuple[list[str], str]] = [
    (["-m"], "-m: expected one argument"),
    (["-m", "no.module"], "-m: there is no module 'no.module'"),
    (["-m", "xml"], "-m: 'xml' is a package without a module __main__"),
    (["-m", "sys"], "-m: there is no module 'sys'"),
    ([], "no script was given"),
    (["-n", "3"], "no script was given"),
    (["--host", "a", "no.py"], "'no.py' was taken for a host"),
    (["no.py"], "there is no file 'no.py'"),
    (["-n", "3", "a", "script.py"], "there is no file 'a'"),
    (["--", "--help"], "there is no file '--help'"),
    (["-"], "there is no file '-'"),
    (["folder.py"], "'folder.py' is a directory"),
    (["/dev/null"], "'/dev/null' is no regular file, and each worker reads the script anew: save it"),
    (["-n", "0", "script.py"], "-n: expected a whole number of at least 1, found '0'"),
    (["-n", "-1", "script.py"], "found '-1'"),
    (["-n", "x", "script.py"], "found 'x'"),
    (["-n", "1.5", "script.py"], "found '1.5'"),
    (["-n", "1_0", "script.py"], "found '1_0'"),
    (["-n", "9" * 5000, "script.py"], "-n: expected a whole number from 1 to 999999999, found"),
    (["--seed", "9" * 10, "script.py"], "--seed: expected a whole number from 0 to 999999999, found"),
    (["-n", "", "script.py"], "found ''"),
    (["-n"], "-n: expected one argument"),
    (["--nice", "21", "script.py"], "from -20 to 19"),
    (["--nice", "--5", "script.py"], "--nice: expected one argument"),
    (["--retries", "-1", "script.py"], "--retries: expected a whole number"),
    (["--wait", "soon", "script.py"], "--wait: expected a number of seconds, found 'soon'"),
    (["--wait", "-1", "script.py"], "found '-1'"),
    (["--wait", "nan", "script.py"], "found 'nan'"),
    (["--wait", "inf", "script.py"], "found 'inf'"),
    (["--hostf", "hosts", "script.py"], "unknown option '--hostf'; options are never abbreviated"),
    (["--hostf", "hosts", "script.py"], "is --hostfile meant?"),
    (["--verb", "script.py"], "unknown option '--verb'"),
    (["-x", "script.py"], "unknown option '-x'"),
    (["-xv", "script.py"], "unknown option '-xv'"),
    (["--zzzz=3", "script.py"], "unknown option '--zzzz=3'"),
    (["--tunnel=x", "script.py"], "--tunnel: ignored explicit argument 'x'"),
    (["--path", "--tunnel", "script.py"], "--path: expected one argument"),
    (["-vx", "script.py"], "x'"),
    (["-vb1", "script.py"], "leave out -b"),
    (["--host=a", "b", "script.py"], "there is no file 'b'"),
    (["--verbos", "script.py"], "is --verbose meant?"),
    (["--hots", "a", "script.py"], "is --host"),
    (["-b", "2", "script.py"], "leave out -b"),
    (["-b2", "script.py"], "leave out -b"),
    (["--rsh", "script.py"], "rsh {host}"),
    (["--backend", "TCP", "script.py"], "leave out --backend"),
    (["--backend=ZMQ", "script.py"], "leave out --backend"),
    (["--external-hostname", "x", "script.py"], "leave out --external-hostname"),
    (["--debug", "script.py"], "-vv says"),
    (["--host", "script.py"], "--host/--hosts: expected at least one argument"),
    (["--hosts", "-n", "3", "script.py"], "--host/--hosts: expected at least one argument"),
    (["--host", "a", "--hostfile", "hosts", "script.py"], "--hostfile: not allowed with argument --host/--hosts"),
    (["--host", "a:4", "script.py"], "4 slots or a port?"),
    (["--host", "a", "4", "script.py"], "'4': a count?"),
    (["--hostfile", "none", "script.py"], "cannot read the hostfile 'none': No such file or directory"),
    (["--hostfile", "folder.py", "script.py"], "cannot read the hostfile 'folder.py': Is a directory"),
    (["--hostfile", "binary", "script.py"], "'binary' is not UTF-8 text"),
    (["--hostfile", "empty", "script.py"], "empty names no host"),
    (["--hostfile", "wrong", "script.py"], "wrong, line 2, 'b 0': expected a count of at least 1"),
    (["--hostfile", "", "script.py"], "cannot read the hostfile ''"),
    (["--ssh-executable", "ssh -F 'x", "script.py"], "--ssh-executable: expected a command, found"),
    (["--ssh-executable", " ", "script.py"], "--ssh-executable: expected a command, found nothing"),
    (["--ssh-executable", "srun -w {host}", "--tunnel", "script.py"], "--tunnel needs ssh's own options"),
    (["--python-interpreter", "", "script.py"], "--python-interpreter: expected a command"),
    (["--env", "1A=x", "script.py"], "--env: expected NAME or NAME=VALUE, found '1A=x'"),
    (["--env", "=x", "script.py"], "found '=x'"),
    (["--env", "A-B=x", "script.py"], "found 'A-B=x'"),
    (["--env", "Ä=x", "script.py"], "found 'Ä=x'"),
    (["--env", "NOT_SET_ANYWHERE", "script.py"], "NOT_SET_ANYWHERE is not set here"),
    (["--send", "none", "script.py"], "--send: there is no file or folder 'none'"),
    (["--path", "none", "script.py"], "there is no directory 'none' here"),
    (["--path", "", "--host", "a", "--", "script.py"], "there is no directory ''"),
    (["-q", "-v", "script.py"], "-v/--verbose: not allowed with argument -q/--quiet"),
    (["a\nb"], "there is no file 'a\\nb'"),
    (["zipped"], "'zipped' has null bytes, so it is no Python text"),
]


@contextlib.contextmanager
def variables(**changes: Optional[str]) -> Iterator[None]:
    """Some variables of the environment set, or unset by None, for a while."""
    before = {name: os.environ.get(name) for name in changes}
    put(changes)
    try:
        yield
    finally:
        put(before)


def put(values: dict[str, Optional[str]]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def noting(jobs: list[Job]) -> Callable[[Job], int]:
    def run(job: Job) -> int:
        jobs.append(job)
        return 7
    return run


def failing(error: BaseException) -> Callable[[Job], int]:
    def run(job: Job) -> int:
        raise error
    return run


class InFolder(unittest.TestCase):
    """Each test stands in a folder that has script.py, hosts and some things that are wrong."""

    def setUp(self) -> None:
        terminal = mock.patch("os.isatty", return_value=False)     # on one a prompt is what is wanted
        terminal.start()
        self.addCleanup(terminal.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name).resolve()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.here)
        (self.here / "folder.py").mkdir()
        for name, content in [
            ("script.py", b""), ("-odd.py", b""), ("hosts", b"\xef\xbb\xbf127.0.0.1 1\na python=py\n"),
            ("binary", b"\xff"), ("empty", b"# nothing\n"), ("wrong", b"a\nb 0\n"),
            ("zipped", b"PK\3\4\x14\0"),
        ]:
            (self.here / name).write_bytes(content)

    def said(self, *words: str, run: Optional[Callable[[Job], int]] = None) -> tuple[int, str, str]:
        """Status, stdout and stderr of one command line whose Job is not run, but given to `run`."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                status = cli.main(words, run=run or (lambda job: 0))
            except SystemExit as end:  # argparse's, at --help and --version
                status = end.code if isinstance(end.code, int) else 1
        return status, stdout.getvalue(), stderr.getvalue()


class Words(InFolder):
    def test_all_that_follows_the_script_is_the_programs(self) -> None:
        for words, program in PROGRAMS:
            with self.subTest(words):
                self.assertEqual(cli.parse(words.split())[1], program.split())

    def test_each_option_reaches_the_job(self) -> None:
        for words, changes in JOBS:
            expected = DEFAULT._replace(**changes)
            expected = expected._replace(**{name: value.replace("HERE", str(self.here)) for name, value in (
                ("path", expected.path), ("pythonpath", expected.pythonpath)) if value})
            with self.subTest(words), variables(FROM_HERE="here", PYTHONPATH="lib"):
                jobs: list[Job] = []
                self.assertEqual(self.said(*words, "--", "script.py", *DEFAULT.args, run=noting(jobs)), (7, "", ""))
                for name in ("n", "hosts", "hostfile"):    # these say the same as the shares
                    jobs[0] = jobs[0]._replace(**{name: getattr(DEFAULT, name)})
                self.assertEqual(jobs, [expected])

    def test_what_runs_in_a_scripts_place_is_found_in_this_folder_and_needs_none(self) -> None:
        (self.here / "pack").mkdir()
        for name in ("__init__", "__main__", "part"):
            (self.here / "pack" / f"{name}.py").write_text("")
        for words, script, value in [
                (["-m", "pack", "-q"], "pack/__main__.py", {"module": "pack"}),
                (["-m", "pack.part", "-q"], "pack/part.py", {"module": "pack.part"}),
                (["-m", "timeit", "-q"], "", {"module": "timeit"}), (["-c", "1", "-q"], "", {"code": "1"})]:
            with self.subTest(words):
                job, _ = make_job(*cli.parse(words))
                path = str(self.here / script) if script else ""
                self.assertEqual((job.script, job.args, job.folder), (path, ("-q",), str(self.here)))
                self.assertEqual((job.leaves, job.verbose), ({"instead": value}, 0))

    def test_on_a_terminal_no_script_means_a_prompt_unless_one_was_meant(self) -> None:
        with mock.patch("os.isatty", return_value=True):
            self.assertEqual(make_job(*cli.parse(["-n", "2"]))[0].leaves, {"instead": {}})
            self.assertEqual(make_job(*cli.parse(["--check"]))[0].leaves, {})
            self.assertIn("no script was given", self.said("--host", "a", "no.py")[2])

    def test_with_a_path_the_pythonpath_is_that_of_this_folder_and_not_of_the_workers(self) -> None:
        with variables(PYTHONPATH="lib"):
            for words, names in ((["--pythonpath", "x:/y::../z"], ["x", "/y", "../z"]), ([], ["lib"]),
                                 (["--pythonpath", ""], [])):
                with self.subTest(words):
                    job, _ = make_job(*cli.parse(["-p", "/", *words, "script.py"]))
                    self.assertEqual(job.pythonpath, ":".join(os.path.normpath(self.here / name) for name in names))

    def test_without_pythonpath_here_there_is_none(self) -> None:
        with variables(PYTHONPATH=None):
            job, _ = make_job(*cli.parse(["script.py"]))
        self.assertIsNone(job.pythonpath)

    def test_what_one_command_line_says_is_forgotten_in_the_next(self) -> None:
        cli.parse(["--host", "a", "--host", "b", "--send", "hosts", "--env", "A=1", "-vv", "--", "script.py"])
        options, _ = cli.parse(["-n", "1", "script.py"])
        self.assertEqual((options.hosts, options.send, options.env, options.verbose), ((), (), {}, 0))

    def test_a_check_leaves_no_host_out(self) -> None:
        job, warning = make_job(*cli.parse(["-n", "1", "--check", "--host", "a", "b"]))
        self.assertEqual(([share.host.name for share in job.shares], warning), (["127.0.0.1", "a", "b"], None))

    def test_a_start_without_options_does_not_wait_for_argparse(self) -> None:
        program = "import sys; from microscoop import cli; " \
                  "sys.exit(cli.main([sys.argv[1], '-n', '3'], run=lambda job: 3 + ('argparse' in sys.modules)))"
        done = subprocess.run([sys.executable, "-S", "-c", program, str(self.here / "script.py")], cwd=ROOT, timeout=60)
        self.assertEqual(done.returncode, 3)


class BadInput(InFolder):
    def test_is_one_sentence_on_stderr_and_status_2(self) -> None:
        for words, saying in REFUSED:
            with self.subTest([word[:40] for word in words]):
                status, stdout, stderr = self.said(*words)
                self.assertIn(saying, stderr)
                self.assertEqual((status, stdout), (2, ""))
                self.assertTrue(stderr.startswith("microscoop: ") and stderr.count("\n") == 1, stderr)

    def test_a_working_directory_that_is_gone_is_one_sentence_too(self) -> None:
        script = str(self.here / "script.py")
        gone = self.here / "gone"
        gone.mkdir()
        os.chdir(gone)
        self.addCleanup(os.chdir, str(ROOT))
        gone.rmdir()
        status, stdout, stderr = self.said(script)
        self.assertEqual((status, stdout), (2, ""))
        self.assertRegex(stderr, "^microscoop: the working directory cannot be found.*cd to one that exists\n$")

    def test_unreadable_files_are_named(self) -> None:
        self.here.chmod(0o755)
        (self.here / "script.py").chmod(0)
        (self.here / "hosts").chmod(0)
        if os.geteuid() == 0:  # root may read all
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        for name, words in [("script.py", ["script.py"]), ("hosts", ["--hostfile", "hosts", "script.py"])]:
            with self.subTest(name):
                status, stdout, stderr = self.said(*words)
                self.assertEqual((status, stdout), (2, ""))
                self.assertRegex(stderr, f"^microscoop: cannot read the .* '{name}': Permission denied\n$")

    def test_an_error_of_the_run_is_one_sentence_too(self) -> None:
        host_error = HostError("h2", "ssh", "Connection refused", "is sshd running?", "ssh h2 true")
        for error in (UsageError("no host is left"), host_error):
            with self.subTest(str(error)):
                self.assertEqual(self.said("script.py", run=failing(error)), (2, "", f"microscoop: {error}\n"))
        self.assertEqual(self.said("script.py", run=failing(KeyboardInterrupt())), (130, "", ""))

    def test_the_folder_taken_for_a_script_is_one_sentence_too(self) -> None:
        for path in ("microscoop", "microscoop/__main__.py"):
            done = subprocess.run([sys.executable, path, "script.py"], cwd=ROOT, capture_output=True, timeout=60)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (
                2, b"", b"microscoop: this folder is no script; try, where it lies: python3 -m microscoop\n"))

    def test_windows_is_told_of_wsl(self) -> None:
        program = "import shutil, sys; from microscoop import cli; sys.platform = 'win32'; sys.exit(cli.main(['x.py']))"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (2, b"", 1))
        self.assertIn(b"WSL", done.stderr)


class Answers(InFolder):
    def test_help_names_every_option_on_stdout(self) -> None:
        for word in ("--help", "-h"):
            status, stdout, stderr = self.said("-n", "3", word, "script.py")
            self.assertEqual((status, stderr), (0, ""))
            for name in NAMES.split():
                self.assertRegex(stdout, rf"(?m)^  .*(?<![\w-]){name}\b")
            for name in DROPPED:
                self.assertNotRegex(stdout, rf"(?<![\w-]){name}\b")

    def test_version(self) -> None:
        self.assertEqual(self.said("--version"), (0, f"microscoop {__version__}\n", ""))

    def test_dry_run_prints_the_distribution_and_runs_nothing(self) -> None:
        (self.here / "four").write_text("127.0.0.1\na 2\nb\nc 3\n")
        origin_only = "127.0.0.1\torigin only\n"
        for words, expected in [
            ("-n 3", "127.0.0.1\t2 + origin\n"),
            ("-n 3 --prolog false --tunnel", "127.0.0.1\t2 + origin\n"),
            ("", f"127.0.0.1\t{usable_cores() - 1} + origin\n"),
            ("--hostfile four -n 7", "127.0.0.1\t0 + origin\na\t2\nb\t1\nc\t3\n"),
            ("--hostfile four -n 3", "127.0.0.1\t0 + origin\na\t2\n"),
            ("--hostfile four -n 9", "127.0.0.1\t1 + origin\na\t2\nb\t2\nc\t3\n"),
            ("--host a b b", origin_only + "a\tcores\nb\t2\n"),
            (f"-n 2 --host {OWN_NAME}", f"{OWN_NAME}\t1 + origin\n"),
        ]:
            with self.subTest(words):
                for program in (["--", "script.py", "x"], []):
                    run = self.said("--dry-run", *words.split(), *program, run=self.fail)
                    self.assertEqual(run, (0, expected, ""))

    def test_counts_that_are_exceeded_are_warned_of(self) -> None:
        (self.here / "two").write_text("a 1\nb 1\n")
        words = ["--dry-run", "-n", "5", "--hostfile", "two"]
        expected = "127.0.0.1\torigin only\na\t3\nb\t2\n"
        status, stdout, stderr = self.said(*words)
        self.assertEqual((status, stdout), (0, expected))
        self.assertRegex(stderr, "^microscoop: warning: 5 workers .* 2 slots.*\n$")
        self.assertEqual(self.said("-q", *words), (0, expected, ""))

    def test_a_dry_run_asks_no_resolver_and_no_network(self) -> None:
        program = (
            "import sys\n"
            "def watch(event, args):\n"
            "    if event.startswith('socket.') and event != 'socket.gethostname': raise SystemExit(event)\n"
            "sys.addaudithook(watch)\n"
            "from microscoop import cli\n"
            "sys.exit(cli.main(['--dry-run', '--host', '127.0.0.1', 'localhost', 'h1', '-n', '4']))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"127.0.0.1\t1 + origin\nh1\t2\n", b""))


# A stand-in for the launcher beneath the prolog: it says what it was given.
STAND_IN = """
def main(beneath_prolog):
    import json, os, sys
    import microscoop.later
    print(json.dumps({"beneath": beneath_prolog, "words": sys.argv[1:], "path0": sys.path[0], "cwd": os.getcwd(),
                      "stdin": sys.stdin.read(), "python": sys.executable, "later": microscoop.later.__file__,
                      "environ": dict(os.environ), "descriptors": os.listdir("/dev/fd")}))
"""
START = "import sys; sys.path.insert(0, sys.argv[1]); from microscoop.leaves import prolog; " \
        "prolog.start_again(sys.argv[2], sys.argv[3] or None, sys.argv[4:])"


class Prolog(unittest.TestCase):
    """The real prolog.py starts the stand-in: beneath bash and sh, from a folder and from a zipapp."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name).resolve() / "it's here"
        self.home = self.here / "home"
        self.home.mkdir(parents=True)
        package = self.here / "microscoop"
        (package / "leaves").mkdir(parents=True)
        for name, text in [("__init__", ""), ("__main__", STAND_IN), ("later", ""), ("leaves/__init__", "")]:
            (package / f"{name}.py").write_text(text)
        for name in ("errors", "leaves/prolog"):
            shutil.copy(str(ROOT / "microscoop" / f"{name}.py"), str(package / f"{name}.py"))
        with zipfile.ZipFile(str(self.here / "microscoop.pyz"), "w") as archive:
            for file in package.rglob("*.py"):
                archive.write(str(file), str(file.relative_to(self.here)))
        # A login shell may set PATH anew: so its start-up file sees to it that python3 is this interpreter.
        self.programs = self.here / "programs"
        self.programs.mkdir()
        (self.programs / "python3").symlink_to(sys.executable)
        (self.home / ".profile").write_text(f"echo noise; cd /; PATH=\"{self.programs}:$PATH\"; export FROM_PROFILE=1")

    def begin(self, prolog: str, *words: str, package_home: str = ".", python: str = "",
              path: Optional[str] = None) -> subprocess.CompletedProcess[str]:
        environ = {"HOME": str(self.home), "PATH": path or os.environ["PATH"]}
        return subprocess.run(
            [sys.executable, "-c", START, str(self.here / package_home), prolog, python, *words], cwd=str(self.here),
            env=environ, capture_output=True, text=True, input="the program's", timeout=60)

    def answer(self, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def test_the_launcher_has_the_same_words_directory_and_standard_streams(self) -> None:
        words = ["-n", "3", "--prolog", "it's $HOME `x` \\ \n!", "script.py", "--", "", "*", "ä", "-c"]
        for package_home in (".", "microscoop.pyz"):
            with self.subTest(package_home):
                prolog = "export FROM_PROLOG=1; cd /tmp; echo more; cat; set -- 9"
                done = self.begin(prolog, *words, package_home=package_home)
                answer = self.answer(done)
                self.assertEqual(answer["words"], words)
                self.assertEqual((answer["beneath"], answer["cwd"], answer["path0"]), (True, str(self.here), ""))
                self.assertEqual((answer["stdin"], done.stderr), ("the program's", "noise\nmore\n"))
                self.assertEqual(answer["later"], str(self.here / package_home / "microscoop" / "later.py"))
                self.assertEqual(answer["python"], str(self.programs / "python3"))
                self.assertEqual((answer["environ"]["FROM_PROFILE"], answer["environ"]["FROM_PROLOG"]), ("1", "1"))
                self.assertFalse([name for name in answer["environ"] if "MICROSCOOP" in name.upper()])
                self.assertLessEqual(len(answer["descriptors"]), 4)  # 0, 1, 2 and the listing's own

    def test_without_bash_sh_does_it(self) -> None:
        (self.programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
        (self.programs / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
        answer = self.answer(self.begin("export FROM_PROLOG=1; cat", "script.py", path=str(self.programs)))
        self.assertEqual(answer["words"], ["script.py"])
        self.assertEqual((answer["environ"]["FROM_PROFILE"], answer["environ"]["FROM_PROLOG"]), ("1", "1"))

    def test_one_word_that_names_a_readable_file_is_sourced(self) -> None:
        for name in ("setup.sh", "set up.sh"):
            (self.here / name).write_text("export FROM_FILE=$#\n")
            with self.subTest(name):
                answer = self.answer(self.begin(f"'{name}'", "script.py"))
                self.assertEqual(answer["environ"]["FROM_FILE"], "0")

    def test_the_given_interpreter_is_taken_where_it_runs_here(self) -> None:
        (self.here / "other one").symlink_to(sys.executable)
        for python in ('"$PLACE/other one" -E', str(self.here / "other one")):
            answer = self.answer(self.begin("export PLACE=.", python=python))
            self.assertEqual(Path(answer["python"]).name, "other one")
        answer = self.answer(self.begin("true", python="/nowhere/python"))
        self.assertEqual(answer["python"], str(self.programs / "python3"))

    def test_a_prolog_that_fails_or_ends_the_shell_is_one_sentence_and_status_2(self) -> None:
        (self.here / "ends.sh").write_text("exit 0\n")
        for prolog, status in [("false", 1), ("exit 5", 5), ("ends.sh", 0), ("no-such-command-here", 127)]:
            with self.subTest(prolog):
                done = self.begin(prolog)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(f"microscoop: here, --prolog ended with status {status}, where 0 was", done.stderr)
        for prolog in ("if (", "echo 'x"):
            with self.subTest(prolog):
                self.assertEqual(self.begin(prolog).returncode, 2)

    def test_no_python_is_one_sentence_and_status_2(self) -> None:
        done = self.begin("PATH=/nowhere")
        self.assertEqual((done.returncode, done.stderr), (
            2, "noise\nmicroscoop: --prolog left no python3 or python of 3.8 or newer on PATH here\n"))

    def test_a_python_that_is_too_old_or_does_not_run_is_passed_over(self) -> None:
        (self.programs / "python3").unlink()
        (self.programs / "python3").write_text("#!/bin/sh\nexit 1\n")
        (self.programs / "python3").chmod(0o755)
        (self.programs / "python").symlink_to(sys.executable)
        self.assertEqual(self.answer(self.begin("true"))["python"], str(self.programs / "python"))

    def test_nothing_that_it_leaves_running_holds_stdout(self) -> None:
        self.answer(self.begin("sleep 100 >/dev/null 2>&1 & echo $! > pid"))  # else it would end by its time limit
        os.kill(int((self.here / "pid").read_text()), 9)

    def test_words_that_are_too_long_for_a_shell_are_an_error(self) -> None:
        program = "import sys; from microscoop import cli; sys.exit(cli.main(['--prolog', 'true'] + ['x' * 999] * 200))"
        done = subprocess.run([sys.executable, "-c", program], cwd=str(ROOT), capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (
            2, b"microscoop: cannot start a shell for --prolog: Argument list too long\n"))


class OldPythons(unittest.TestCase):
    def test_the_door_parses_on_them(self) -> None:
        for name in ("__init__.py", "__main__.py"):
            text = (ROOT / "microscoop" / name).read_text()
            tree = ast.parse(text, feature_version=(3, 4))
            self.assertTrue(text.isascii(), "Python 2 has no other encoding without being told")
            new = (ast.JoinedStr, ast.AnnAssign, ast.Nonlocal, ast.Starred)
            self.assertFalse([node for node in ast.walk(tree) if isinstance(node, new)])

    def test_they_say_which_one_is_needed(self) -> None:
        found = [python for python in map(old_python, ("2.7", "3.5", "3.6", "3.7")) if python]
        if not found:
            self.skipTest("no Python older than 3.8 here: install python2.7, 3.6 or 3.7, by pyenv for instance")
        for python in found:
            with self.subTest(python):
                done = subprocess.run([python, "-B", "-m", "microscoop", "-n", "3", "script.py"], cwd=str(ROOT),
                                      capture_output=True, timeout=60)
                self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (2, b"", 1))
                self.assertIn(b"microscoop: Python 3.8 or newer is needed", done.stderr)


def old_python(version: str) -> Optional[str]:
    for command in (f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))):
        with contextlib.suppress(OSError):
            if subprocess.run([command, "-c", ""], capture_output=True, timeout=60).returncode == 0:
                return command
    return None


if __name__ == "__main__":
    unittest.main()
