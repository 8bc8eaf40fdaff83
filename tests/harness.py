"""Runs microscoop as a user would, and sees to it that nothing is left behind (in the test process).

Every process that a run starts carries MARK in its environment, and its temporary directory is TEMP. So whatever
is left after a test is found in /proc by its mark and in TEMP by its name, and only what was started here is ever
ended. A run that lasts too long first writes the stacks of all its processes into the error that the test reports:
a `sitecustomize` on PYTHONPATH makes each Python of the run answer SIGUSR1 that way.
"""
from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Union

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
MARK_NAME = "MICROSCOOP_TEST_MARK"
STACKS_NAME = "MICROSCOOP_TEST_STACKS"
GRACE = 2.0  # seconds after a run within which what it started must be gone
Environment = Dict[str, Optional[str]]

HOOK = f"""
import faulthandler, fcntl, os, signal
try:
    opened = os.open(os.environ["{STACKS_NAME}"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    out_of_the_way = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 100)  # a test may have closed 0, 1 or 2
    os.close(opened)
    faulthandler.register(signal.SIGUSR1, file=out_of_the_way, all_threads=True)
except (KeyError, OSError, AttributeError):
    pass  # not one of the harness's runs, or a machine without these
"""


def _own_directory() -> Path:
    """A short path: a socket's name has at most some 100 bytes."""
    path = Path(tempfile.mkdtemp(prefix="t", dir="/tmp")).resolve()
    atexit.register(shutil.rmtree, str(path), True)
    (path / "hook").mkdir()
    (path / "hook" / "sitecustomize.py").write_text(HOOK)
    (path / "tmp").mkdir()
    return path


if MARK_NAME in os.environ:  # a script of one of our runs asks for stacks()
    MARK = os.environ[MARK_NAME]
    BASE = Path(os.environ[STACKS_NAME]).parent
else:
    MARK = f"{os.getpid()}.{time.time_ns()}"
    BASE = _own_directory()
TEMP = BASE / "tmp"
signal.signal(signal.SIGINT, signal.default_int_handler)  # who is started in the background ignores it, and its runs
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:      # as nohup leaves it: we go on ignoring it, our runs do not
    signal.signal(signal.SIGHUP, lambda *_: None)
STACKS = BASE / "stacks"


def slow(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that waits for more than 5 seconds, or shows at length what a quicker one shows, too."""
    return unittest.skipUnless(os.environ.get("MICROSCOOP_SLOW_TESTS"), "slow: set MICROSCOOP_SLOW_TESTS=1")(test)


def environment(changes: Optional[Environment] = None) -> Dict[str, str]:
    """The environment of a run; a change to None removes the name."""
    found: Environment = dict(os.environ, PYTHONUNBUFFERED=None)  # set, it would change what is tested
    path = [str(BASE / "hook"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    found.update({MARK_NAME: MARK, STACKS_NAME: str(STACKS), "TMPDIR": str(TEMP), "XDG_RUNTIME_DIR": str(TEMP)})
    found["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    found.update(changes or {})
    return {name: value for name, value in found.items() if value is not None}


# Processes


class Process(NamedTuple):
    pid: int
    parent: int
    state: str

    @property
    def command(self) -> str:
        return _read(self.pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()

    def __str__(self) -> str:
        return f"{self.pid} (parent {self.parent}, state {self.state}) {self.command}"


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            return file.read()
    except OSError:
        return b""  # it has just ended, or is not ours to look into


def _process(pid: int) -> Optional[Process]:
    fields = _read(pid, "stat").rpartition(b")")[2].decode().split()
    return Process(pid, int(fields[1]), fields[0]) if fields and fields[0] not in "ZX" else None


def processes() -> List[Process]:
    """What runs of this test process left alive: by their mark, or as descendants of such."""
    if not (PROC / "self" / "environ").exists():
        return []
    found = [_process(int(name)) for name in os.listdir(PROC) if name.isdigit()]
    table = {process.pid: process for process in found if process and process.pid != os.getpid()}
    mark = f"{MARK_NAME}={MARK}".encode()
    ours = {pid for pid in table if mark in _read(pid, "environ").split(b"\0")}
    for pid in sorted(table):
        if table[pid].parent in ours:
            ours.add(pid)
    return [table[pid] for pid in sorted(ours)]


def stacks() -> str:
    """The stacks of all threads of all Pythons of the runs, this one left out."""
    parts = []
    for process in processes():
        before = STACKS.stat().st_size if STACKS.exists() else 0
        if "python" in process.command + str(_executable(process.pid)):
            _signal(process.pid, signal.SIGUSR1)
            until(lambda: STACKS.exists() and STACKS.stat().st_size > before, 0.5)  # noqa: B023
            time.sleep(0.02)  # for the rest of it
        with contextlib.suppress(OSError), STACKS.open(errors="replace") as file:
            file.seek(before)
            parts.append(f"== {process}\n{file.read()}")
    return "\n".join(parts)


def _executable(pid: int) -> Optional[str]:
    try:
        return os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_all() -> List[Process]:
    """Kills what is left of the runs of this test process; returns what was killed."""
    left = processes()
    for process in left:
        _signal(process.pid, signal.SIGKILL)
    until(lambda: not processes(), 5)
    return left


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether the condition came true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


# Runs


class Result(NamedTuple):
    status: int
    out: str
    err: str


class TooSlow(AssertionError):
    """A run that was ended because its time was up, with what it had written so far."""

    def __init__(self, text: str, out: str, err: str) -> None:
        super().__init__(text)
        self.out, self.err = out, err


class _Reader(threading.Thread):
    """Collects one stream of a run, so that a test can wait for a text while the run goes on."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.data, self.changed = descriptor, b"", threading.Condition()
        self.start()

    def run(self) -> None:
        try:
            while True:
                piece = os.read(self.descriptor, 65536)
                if not piece:
                    break
                with self.changed:
                    self.data += piece
                    self.changed.notify_all()
        except OSError:
            pass  # a terminal whose other side is gone
        finally:
            os.close(self.descriptor)

    def text(self) -> str:
        return self.data.decode(errors="surrogateescape")

    def await_text(self, text: str, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: text in self.text(), seconds)


class Run:
    """A command on its way, in a session of its own; `pty`: with a terminal as its standard input and output."""

    def __init__(self, words: Sequence[Union[str, Path]], stdin: Union[str, bytes, None] = None,
                 env: Optional[Environment] = None, cwd: Union[str, Path, None] = None, pty: bool = False) -> None:
        self.words = [str(word) for word in words]
        self.terminal: Optional[int] = None
        command, streams = self.words, [subprocess.DEVNULL if stdin is None else subprocess.PIPE, subprocess.PIPE]
        if pty:
            self.terminal, inner = os.openpty()
            command = [sys.executable, "-S", "-c", ON_TERMINAL, *self.words]
            streams = [inner, inner]
        self.process = subprocess.Popen(command, stdin=streams[0], stdout=streams[1], stderr=subprocess.PIPE,
                                        env=environment(env), cwd=cwd or str(BASE), start_new_session=not pty)
        if pty:
            os.close(inner)
        out = self.terminal if self.terminal is not None else _detach(self.process.stdout)
        self.out = _Reader(os.dup(out) if pty else out)
        self.err = _Reader(_detach(self.process.stderr))
        self._feed(stdin.encode() if isinstance(stdin, str) else stdin)

    def _feed(self, data: Optional[bytes]) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(data or b"")
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def type(self, data: bytes) -> None:
        assert self.terminal is not None
        os.write(self.terminal, data)

    def await_out(self, text: str, timeout: float = 20) -> None:
        if not self.out.await_text(text, timeout):
            self._too_slow(f"{text!r} did not appear on its standard output", timeout)

    def await_err(self, text: str, timeout: float = 20) -> None:
        if not self.err.await_text(text, timeout):
            self._too_slow(f"{text!r} did not appear on its standard error", timeout)

    def finish(self, timeout: float = 60) -> Result:
        """Waits for the end of the process and of its streams."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._too_slow("it did not end", timeout)
        for reader in (self.out, self.err):
            if not (self.terminal and reader is self.out):
                reader.join(5)
                if reader.is_alive():
                    self._too_slow("it ended, but something of it still holds its output", 5)
        if self.terminal is not None:
            self.out.join(0.2)
            os.close(self.terminal)
            self.terminal = None
        return Result(status, self.out.text(), self.err.text())

    def _too_slow(self, what: str, seconds: float) -> None:
        report = stacks()
        end_all()
        self.process.wait(5)
        out, err = self.out.text(), self.err.text()
        raise TooSlow(f"after {seconds} s: {what}: {' '.join(self.words)}\n--- stdout\n{out[-4000:]}"
                      f"\n--- stderr\n{err[-4000:]}\n--- stacks\n{report}", out, err)


ON_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _detach(stream: object) -> int:
    assert stream is not None
    descriptor = os.dup(stream.fileno())  # type: ignore[attr-defined]
    stream.close()  # type: ignore[attr-defined]
    return descriptor


def microscoop(*words: Union[str, Path], python: str = sys.executable) -> List[Union[str, Path]]:
    return [python, "-m", "microscoop", *words]


def start(*words: Union[str, Path], python: str = sys.executable, stdin: Union[str, bytes, None] = None,
          env: Optional[Environment] = None, cwd: Union[str, Path, None] = None, pty: bool = False) -> Run:
    """`python -m microscoop WORDS` on its way."""
    return Run(microscoop(*words, python=python), stdin=stdin, env=env, cwd=cwd, pty=pty)


def run(*words: Union[str, Path], stdin: Union[str, bytes, None] = None, timeout: float = 60,
        env: Optional[Environment] = None, python: str = sys.executable,
        cwd: Union[str, Path, None] = None) -> Result:
    """`python -m microscoop WORDS`, to its end."""
    return start(*words, python=python, stdin=stdin, env=env, cwd=cwd).finish(timeout)


def plain(*words: Union[str, Path], stdin: Union[str, bytes, None] = None, timeout: float = 60,
          env: Optional[Environment] = None, python: str = sys.executable,
          cwd: Union[str, Path, None] = None) -> Result:
    """`python WORDS`, to its end."""
    return Run([python, *words], stdin=stdin, env=env, cwd=cwd).finish(timeout)


def at_once(function: Callable[[Any], Any], cases: Iterable[Any], most: int = 4) -> List[Any]:
    """The function's value for each case, as by map; so many calls, as of `run`, go on at once."""
    with ThreadPoolExecutor(most) as threads:
        return list(threads.map(function, cases))


@contextlib.contextmanager
def script(text: str, name: str = "script.py") -> Iterator[Path]:
    """The path of a script with this text, alone in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="s", dir=str(BASE)))
    path = directory / name
    path.write_text(textwrap.dedent(text))
    try:
        yield path
    finally:
        shutil.rmtree(str(directory))


# What is left


def left_files() -> List[str]:
    """Sockets and directories of ours in the runs' temporary directory."""
    found = []
    for path in TEMP.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it has just been removed
            if path.name.startswith("microscoop-") or stat.S_ISSOCK(path.lstat().st_mode):
                found.append(str(path))
    return found


def shared_memory() -> List[str]:
    path = Path("/dev/shm")
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


class TestCase(unittest.TestCase):
    """Fails a test that leaves a process, a socket, a private directory or shared memory."""

    memory = shared_memory()

    def setUp(self) -> None:
        self.addCleanup(self._nothing_is_left)

    def _nothing_is_left(self) -> None:
        left = []
        if not until(lambda: not processes(), GRACE):
            left = [str(process) for process in processes()]
            end_all()
        until(lambda: not left_files(), GRACE if not left else 0)
        left += left_files()
        shutil.rmtree(str(TEMP))
        TEMP.mkdir()
        if not until(self._no_new_memory, 5):
            left += sorted(set(shared_memory()) - set(TestCase.memory))
        TestCase.memory = shared_memory()
        self.assertEqual(left, [], "left behind")

    @staticmethod
    def _no_new_memory() -> bool:
        return set(shared_memory()) <= set(TestCase.memory)

    def script(self, text: str, name: str = "script.py") -> Path:
        """As the function `script`, until the end of the test."""
        context = script(text, name)
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def assert_ended(self, result: Result, out: str, status: int = 0) -> None:
        """The run wrote this to its standard output, and ended with this status."""
        self.assertEqual((result.status, result.out), (status, out), result.err)

    def assert_gone(self, seconds: float = 5) -> None:
        """Nothing that runs of this test started is alive."""
        until(lambda: not processes(), seconds)
        self.assertEqual([str(process) for process in processes()], [], f"alive after {seconds} s")


class AtOnce(TestCase):
    """Its tests go on at once, three at a time, when the first is run; then each says how it went.

    What is left of all of them the first one tells. So they look at nothing that another might have made: no
    `assert_gone`, no common name in TEMP. And they change nothing of this process: no `chdir`, no mock.
    """

    bodies: Dict[str, Callable[..., None]]
    errors: Dict[str, Optional[Exception]]

    def __init_subclass__(cls) -> None:
        cls.bodies = {name: getattr(cls, name) for name in unittest.defaultTestLoader.getTestCaseNames(cls)}
        cls.errors = {}
        for name, body in cls.bodies.items():
            setattr(cls, name, cls._teller(name, body))

    @staticmethod
    def _teller(name: str, body: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(body)
        def tell(self: AtOnce) -> None:
            if not self.errors:
                self.errors.update(zip(self.bodies, at_once(self._error, self.bodies, 3)))
            error = self.errors[name]
            if error is not None:
                raise error
        return tell

    @classmethod
    def _error(cls, name: str) -> Optional[Exception]:
        test, error = cls(name), None
        try:
            test.setUp()
            cls.bodies[name](test)
        except Exception as caught:  # a failure or a skip, too
            error = caught
        if not test.doCleanups() and error is None:
            error = AssertionError("a cleanup failed")
        return error

    def _nothing_is_left(self) -> None:
        if threading.current_thread() is threading.main_thread():
            super()._nothing_is_left()
