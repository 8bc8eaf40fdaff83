"""Where a leaf joins in, when the command line asks for it or a Remark names it.  Runs in every process; names no leaf.

`Job.leaves` maps the name of a module in microscoop/leaves to its value, which JSON can carry to any host.  Such a
module has one or more of these functions:

    watch(value, stage) -> Watcher          in the launcher, before anything is started
    enter_process(value, settings)          in the origin and in workers, before the script runs or is loaded
    enter_origin(value, owner, settings)    in the origin, before the script runs
    enter_worker(value, worker, settings)   in a worker, once it has loaded the script
    run_program(value, settings)            in the origin, in the script's place
    load_program(value, settings)           in a worker, likewise
    told(body, owner)                       in an owner, when a Remark for it comes from the launcher
    attend(stage) -> Watcher                in the launcher, when the first Remark for it comes

What it may use from there on: `Owner.dressers` see each function that is submitted, `Worker.wrappers` each one that is
about to run, `Worker.guards` are held by a thread while it runs code of tasks; `Owner.pushes` are called when a call
gets items, `Worker.before_results` before outcomes are sent, with which `Worker.remarks` go.  `Remark` carries bytes to
the Watchers, and from them to `told`; `Owner.leaves` is for what a leaf keeps there.  `Owner.recorder` is asked about
each function, for a record that may have outcomes of its items already and is given the others.  The origin finds the
Watchers in `Settings.watchers`, as they were when it was forked: memory that they share can be used by both.  The
`heralds` of Reporter and Outlet are told what is about to be written.
"""
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from .record import Record

if TYPE_CHECKING:
    from .broker import Action, Event, Process
    from .job import Job
    from .loop import Loop
    from .report import Outlet, Reporter


class Stage(Record):
    """What the launcher has for a Watcher."""
    job: Job
    loop: Loop
    report: Reporter
    outlets: Dict[int, Outlet]     # 1 and 2: the launcher's stdout and stderr
    processes: Dict[int, Process]  # that are up


class Watcher:
    """Sees what happens in a run; in the launcher."""

    def see(self, event: Event, actions: List[Action]) -> None:
        """The broker has handled this event, and these actions are about to be carried out; `see` may add some."""

    def close(self, status: int) -> None:
        """Everything of ours has ended; the run's exit status."""


def call(name: str, leaves: Dict[str, Any], *arguments: Any) -> List[Any]:
    """Call the function of this name of each leaf that has one, with the leaf's value; what they give."""
    functions = [(getattr(import_module("microscoop.leaves." + leaf), name, None), leaves[leaf]) for leaf in leaves]
    return [function(value, *arguments) for function, value in functions if function is not None]


def leaf(name: str) -> Optional[ModuleType]:
    """The leaf of this name, imported now; None if it was deleted."""
    try:
        return import_module("microscoop.leaves." + name)
    except ModuleNotFoundError:
        return None


def speaker(body: bytes) -> Optional[ModuleType]:
    """The leaf whose name a Remark begins with, before a NUL."""
    name = body[:32].partition(b"\0")[0].decode("ascii", "replace")
    return leaf(name) if name.isidentifier() else None


def when_imported(name: str, function: Callable[[], None]) -> None:
    """Call this as soon as the program has imported that module: at once, later or never."""
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Lookout(name, function))


class _Lookout:
    """Finds no module; sees one being imported."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._name, self._function = name, function

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name or self not in sys.meta_path:
            return None
        from importlib.util import find_spec
        sys.meta_path.remove(self)                 # now whoever really finds it is asked
        spec = find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                self._function()
            loader.exec_module = exec_module
        return spec
