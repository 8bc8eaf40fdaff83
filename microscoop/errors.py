"""The exceptions and the exit statuses, in one table each; used in every process, imports nothing of ours."""
from __future__ import annotations

import sys
from contextlib import suppress


class Status:
    """What the launcher's exit status means when the script itself did not choose one."""

    OK = 0
    FAILED = 1  # an uncaught exception in the script, a failed --check
    USAGE = 2  # bad input, or no worker could be started
    DEFECT = 70  # of a process of ours: what must not happen has happened there, or it could not even be started
    UNFIT = 71  # a worker's: the script cannot be loaded there
    UNWRITTEN = 120  # as Python's: what the script has printed could not be written
    INTERRUPTED = 130  # 128 + SIGINT; likewise 129 and 143 for SIGHUP and SIGTERM


def exit_status(error: SystemExit) -> int:
    """As Python takes it: a number, nothing, or a text for stderr."""
    if error.code is None:
        return Status.OK
    if isinstance(error.code, int):
        return (error.code if abs(error.code) <= sys.maxsize else -1) & 0xFF
    say(str(error.code))
    return Status.FAILED


def say(text: str) -> None:
    """Tell stderr, if there is one: print takes stdout where sys.stderr is None, since that was closed."""
    if sys.stderr is not None:
        with suppress(Exception):                  # nobody reads it, or the script's own refuses: no mishap of ours
            print(text, file=sys.stderr, flush=True)


def show(error: BaseException, trace: object) -> int:
    """Tell the user's sys.excepthook, or stderr, of an error that nobody caught; the status to exit with, as Python has
    it where that hook exits or raises."""
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)  # type: ignore[arg-type]
    except SystemExit as exit:
        return exit_status(exit)
    except BaseException as again:                 # of the hook, whatever it is: both are told
        own = again.__traceback__.tb_next if again.__traceback__ else None
        again.__context__ = None
        say("Error in sys.excepthook:")
        sys.__excepthook__(type(again), again.with_traceback(own), own)
        say("\nOriginal exception was:")
        sys.__excepthook__(type(error), error, trace)  # type: ignore[arg-type]
    return Status.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Status.FAILED


# --- the user's or the machines' fault: the launcher ends with one sentence ----------------------------------------

class UsageError(Exception):
    """Bad input. The text is one sentence: what was found, where, what was expected, what to try."""


class HostError(Exception):
    """A host could not be started; str() is the one line that is shown.

    stage: ssh, shell, prolog, python, version, files, script or ready; words: the last words of ssh or of the host;
    advice: what to change; command: what to try by hand. The last three may be empty.
    """

    def __init__(self, host: str, stage: str, words: str = "", advice: str = "", command: str = "") -> None:
        super().__init__(host, stage, words, advice, command)
        self.host, self.stage, self.words, self.advice, self.command = host, stage, words, advice, command

    def told(self) -> tuple[str, str]:
        """What is wrong, and what to do about it, which may be empty."""
        attempt = f"try: {self.command}" if self.command else ""
        return self.words or "it ended without a word", "; ".join(filter(None, (self.advice, attempt)))

    def __str__(self) -> str:
        return f"{self.host} could not be started, stage {self.stage}: " + "; ".join(filter(None, self.told()))


# --- a task's fault: raised by the task's own future ---------------------------------------------------------------
# They travel by pickle, as class(*args) plus __dict__: so args are exactly what __init__ takes.

class RemoteError(Exception):
    """Stands for an exception that cannot be pickled or rebuilt: its type's name, its text, its traceback's text."""

    def __init__(self, kind: str, text: str, traceback: str) -> None:
        super().__init__(kind, text, traceback)
        self.kind, self.text, self.traceback = kind, text, traceback

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class WorkerLost(Exception):
    """Every worker that began the item died of it.

    host: where the last one was; cause: how it ended, as in "was killed by SIGKILL (out of memory?)" or "exited with
    status 3"; item: its position in the map, or a text that names the task; attempts: how often it was begun.
    """

    def __init__(self, host: str, cause: str, item: int | str, attempts: int) -> None:
        super().__init__(host, cause, item, attempts)
        self.host, self.cause, self.item, self.attempts = host, cause, item, attempts

    def __str__(self) -> str:
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        return f"the worker on {self.host} {self.cause} while it ran item {self.item}, which was begun {times}"


class NoMatchingWorker(Exception):
    """No worker has the Python that a function needs which travels by value; python: that one, as in "3.11"."""

    def __init__(self, python: str) -> None:
        super().__init__(python)
        self.python = python

    def __str__(self) -> str:
        return (f"a lambda, or a function that workers cannot find by name, goes to an equal Python only, and no "
                f"worker runs Python {self.python}: put it at the top of the script or of a module, or name that "
                f"Python: --python-interpreter python{self.python}")


class TaskTimeout(Exception):
    """A task ran longer than --task-timeout allows and was ended with its worker; seconds: the limit."""

    def __init__(self, host: str, item: int | str, seconds: float) -> None:
        super().__init__(host, item, seconds)
        self.host, self.item, self.seconds = host, item, seconds

    def __str__(self) -> str:
        return f"item {self.item} on {self.host} ran longer than {self.seconds:g} s and was ended"
