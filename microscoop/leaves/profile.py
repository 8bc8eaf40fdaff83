"""--profile: a cProfile file for each worker.  `Profiling` runs in workers, `Profiles` in the launcher.

What a worker's thread has run goes out when it comes to its end, and before it sleeps: so a worker that is killed takes
along only what it had not delivered anyway.
"""
from __future__ import annotations

import cProfile
import marshal
import os
import pstats
import re
import sys
import threading
from typing import Any, Dict, List, Optional, Tuple

from ..broker import Action, Event, Heard
from ..child import Settings
from ..errors import UsageError
from ..hooks import Stage, Watcher
from ..protocol import Remark
from ..workers import Worker

TAG = b"profile\0"
PART = 1000                # functions in one Remark
PLAIN = cProfile.Profile
ONE_FOR_ALL = sys.version_info >= (3, 12)      # a profiler sees all threads, and no second one is allowed

Stats = Dict[Any, Any]     # as in a file that pstats reads


def watch(value: str, stage: Stage) -> Watcher:
    """The profiles go into the folder `value`.  Raises UsageError."""
    return Profiles(value, stage)


def enter_process(value: str, settings: Settings) -> None:
    """Before the script may import it."""
    cProfile.Profile = Profile  # type: ignore[misc]


def enter_worker(value: str, worker: Worker, settings: Settings) -> None:
    """Profile what tasks do."""
    Profile.ours = Profiling(worker, settings.path0)
    worker.guards.append(Profile.ours)


class Profiling:
    """Held by one thread at a time, the one that runs tasks."""

    def __init__(self, worker: Worker, folder: str) -> None:
        self._worker, self._folder = worker, folder
        self._profile, self._thread = PLAIN(), 0
        self.theirs: Any = None                    # a profiler that a task has switched on

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self.go_on()

    def __exit__(self, *_: object) -> None:
        if self.theirs is not None and self._worker.task() is None:
            self.theirs.disable()                  # the task forgot to
        self._profile.create_stats()               # and stops
        stats: Stats = self._profile.stats
        self._profile.clear()
        self._thread = 0
        functions = list(stats)
        for i in range(0, len(functions), PART):
            part = {function: stats[function] for function in functions[i:i + PART]}
            self._worker.link.send(Remark(TAG + marshal.dumps((self._worker.where, self._folder, part), 2)))

    def rest(self) -> None:
        """A task has a profiler of its own."""
        if ONE_FOR_ALL or threading.get_ident() == self._thread:
            self._profile.disable()

    def go_on(self) -> None:
        """See what this thread does."""
        if threading.get_ident() == self._thread:
            try:
                self._profile.enable()
            except ValueError:                     # another is on, where a task waits or found it before us
                return


class Profile(cProfile.Profile):
    """What the script finds as cProfile.Profile: ours rests while theirs is on."""

    ours: Optional[Profiling] = None               # in a worker

    def enable(self, *args: Any, **kwargs: Any) -> None:
        """Begin to measure; ours rests meanwhile."""
        if self.ours is not None:
            self.ours.rest()
            self.ours.theirs = self
        super().enable(*args, **kwargs)

    def disable(self) -> None:
        """Measure no more."""
        super().disable()
        if self.ours is not None:
            self.ours.theirs = None
            self.ours.go_on()


class Profiles(Watcher):
    """Adds up what the workers send, and writes it at the end."""

    def __init__(self, folder: str, stage: Stage) -> None:
        self._folder, self._report = folder, stage.report
        self._home = os.path.dirname(os.path.realpath(stage.job.script))
        self._stats: Dict[str, Stats] = {}
        try:
            os.makedirs(folder, exist_ok=True)
            for name in os.listdir(folder):        # of the run before
                if re.fullmatch(r".+-\d+\.prof", name):
                    os.remove(os.path.join(folder, name))
        except OSError as error:
            raise UsageError("--profile: cannot use the folder %r: %s" % (folder, error.strerror)) from None

    def see(self, event: Event, actions: List[Action]) -> None:
        if isinstance(event, Heard) and isinstance(event.message, Remark):
            body = event.message.body
            if body.startswith(TAG):
                where, folder, stats = marshal.loads(body[len(TAG):])
                self._add(self._stats.setdefault(where, {}), stats, folder)

    def _add(self, known: Stats, stats: Stats, folder: str) -> None:
        """Add them, with the names that files have here."""
        def named(function: Tuple[str, int, str]) -> Tuple[str, int, str]:
            path, line, name = function
            return (self._home + path[len(folder):] if path.startswith(folder + os.sep) else path), line, name

        for function, (primitive, calls, own, total, callers) in stats.items():
            source = primitive, calls, own, total, {named(caller): value for caller, value in callers.items()}
            key = named(function)
            before = known.get(key, (0, 0, 0, 0, {}))
            known[key] = pstats.add_func_stats(before, source)  # type: ignore[attr-defined]

    def close(self, status: int) -> None:
        try:
            for where, stats in self._stats.items():
                name = where.replace("/", "-") + ".prof"
                with open(os.path.join(self._folder, name), "wb") as file:
                    marshal.dump(stats, file)
        except OSError as error:
            self._report.error("cannot write a profile into %s: %s" % (self._folder, error.strerror))
