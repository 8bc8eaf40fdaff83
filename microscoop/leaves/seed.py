"""--seed: the numbers that a task draws depend on its position alone.  Runs in the origin and in workers.

The position of the origin is the seed; that of a call, whose it is and which of its calls; that of an item, its call
and its number.  Each is a digest of the one before, so it is the same for every -n, every cut into blocks and every
retry, and travels with the function (`Seeded`).  What a thread started by a task submits has no such position: there,
numbers differ from run to run.
"""
from __future__ import annotations

import os
import random
import sys
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, Callable, Dict, Tuple

from .. import futures
from ..child import Settings
from ..hooks import when_imported
from ..owner import Owner
from ..runs import Run
from ..workers import Worker
from .dressed import Dressed


class Place:
    """A position: of the origin, or of the item that a thread is on."""

    def __init__(self, key: bytes) -> None:
        self._key, self._calls = key, count()
        self._states: Dict[str, Any] = {}          # of the generators, while other code runs

    def call(self) -> bytes:
        """The position of the next call that is made here."""
        return _below(self._key, next(self._calls))

    def seed(self, *names: str) -> None:
        """Begin with the numbers of this position, in these modules or in all."""
        for name, (seed, _, _) in _generators().items():
            if not names or name in names:
                seed(list(memoryview(self._key).cast("I")) if name == "numpy.random" else self._key)

    def save(self) -> None:
        """Other code is about to run in this process."""
        self._states = {name: get() for name, (_, get, _) in _generators().items()}

    def restore(self) -> None:
        """Go on where `save` was; with what was imported meanwhile as if it had been imported here."""
        for name, (_, _, put) in _generators().items():
            if name in self._states:
                put(self._states[name])
            else:
                self.seed(name)


PLACE: ContextVar[Place] = ContextVar("PLACE")     # of what the thread runs


class Seeded(Dressed):
    """A function, and the position of the call that it was given to."""

    def __init__(self, function: Callable[..., Any], key: bytes) -> None:
        super().__init__(function)
        self._key = key

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        task: Any = futures._owner().task()
        of_map = isinstance(task, Run) and task.block.call         # else it is a task that was submitted: item 0
        return self._run(task.item() if of_map else 0, *args, **kwargs)

    def at(self, item: int) -> Callable[..., Any]:
        return partial(self._run, item)

    def _run(self, item: int, /, *args: Any, **kwargs: Any) -> Any:
        beneath, place = PLACE.get(None), Place(_below(self._key, item))
        if beneath is not None:
            beneath.save()
        token = PLACE.set(place)
        place.seed()
        try:
            return self.func(*args, **kwargs)
        finally:
            PLACE.reset(token)
            if beneath is not None:
                beneath.restore()


class Guard:
    """The generators belong to the process: a thread that has slept finds them as it left them."""

    def __enter__(self) -> None:
        if PLACE.get(None) is not None:
            PLACE.get().restore()

    def __exit__(self, *_: object) -> None:
        if PLACE.get(None) is not None:
            PLACE.get().save()


def enter_origin(value: int, owner: Owner, settings: Settings) -> None:
    """The script begins with the numbers of the seed."""
    origin = Place(_below(b"", value))
    PLACE.set(origin)
    origin.seed()
    _enter(owner, origin)


def enter_worker(value: int, worker: Worker, settings: Settings) -> None:
    """Tasks bring their positions along."""
    worker.guards.append(Guard())
    _enter(worker, Place(os.urandom(32)))


def _enter(owner: Owner, elsewhere: Place) -> None:
    """elsewhere: the position of threads that run no task of ours."""
    owner.dressers.append(lambda function: Seeded(function, PLACE.get(elsewhere).call()))
    when_imported("numpy.random", lambda: PLACE.get(elsewhere).seed("numpy.random"))


def _below(key: bytes, number: int) -> bytes:
    return blake2b(key + b"%d" % number, digest_size=32).digest()


def _generators() -> Dict[str, Tuple[Callable[[Any], object], Callable[[], Any], Callable[[Any], object]]]:
    """How to seed, read and write what random numbers come from."""
    found: Dict[str, Any] = {"random": (random.seed, random.getstate, random.setstate)}
    numpy = sys.modules.get("numpy.random")
    if hasattr(numpy, "set_state"):                # not while it is being imported
        found["numpy.random"] = numpy.seed, numpy.get_state, numpy.set_state  # type: ignore[union-attr]
    return found
