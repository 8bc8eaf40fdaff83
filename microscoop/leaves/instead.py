"""-m, -c and the prompt: what runs in a script's place.  Runs in the launcher, in the origin and in workers.

The value is {"module": NAME}, {"code": TEXT}, or {} for the prompt.  Workers load a module as they would a script, but
not the `__main__` of a package, as `multiprocessing` does not: that often has no guard.  What they do not load travels
by value.
"""
from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Dict, Optional

from .. import __version__
from ..errors import UsageError
from ..program import Program

if TYPE_CHECKING:
    from ..child import Settings

MAIN = ".__main__"


def script(value: Dict[str, str], folder: str) -> str:
    """In the launcher: the module's file, if it lies in this folder; else "".  Imports nothing; raises UsageError."""
    if "module" not in value:
        return ""
    name = value["module"]
    found = _found(name, [folder, *sys.path])
    if found.submodule_search_locations is not None:
        found = PathFinder.find_spec("__main__", found.submodule_search_locations)
        if found is None:
            raise UsageError(f"-m: {name!r} is a package without a module __main__, so it cannot be run")
    file = str(found.origin)
    if not file.endswith(".py") or not os.path.isfile(file):
        raise UsageError(f"-m: {name!r} has no source file")
    return file if os.path.commonpath([folder, file]) == folder else ""


def _found(name: str, path: Any) -> Any:
    """Where a module, or package, is.  Raises UsageError."""
    for part in name.split("."):
        found = PathFinder.find_spec(part, path) if path else None
        if found is None:
            raise UsageError(f"-m: there is no module {name!r}")
        path = found.submodule_search_locations
    return found


def run_program(value: Dict[str, str], settings: Settings) -> None:
    """In the origin: run it as `__main__`.  Raises what it raises."""
    if "module" in value:
        _execute(_spec(value["module"]), "__main__")
        return
    sys.argv[0], sys.path[0] = "-c" if "code" in value else "", ""
    program = Program("<string>", value.get("code", "").encode("utf-8", "surrogateescape"), False)
    names = program.module("__main__").__dict__
    if "code" in value:
        exec(program.code(), names)
    else:
        _talk(names)


def load_program(value: Dict[str, str], settings: Settings) -> None:
    """In a worker: load it as `__mp_main__`, if workers load it.  Raises what it raises."""
    spec = _spec(value["module"]) if "module" in value else None
    if spec is not None and not spec.name.endswith(MAIN):
        _execute(spec, "__mp_main__")
    else:
        sys.argv[0] = str(spec.origin) if spec else "-c" if "code" in value else ""
        Program("<string>", b"").module("__mp_main__")


def _spec(name: str) -> ModuleSpec:
    """As `python3 -m` finds it; imports the packages above it."""
    spec: Optional[ModuleSpec] = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(name + MAIN)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named %s" % name, name=name)
    return spec


def _execute(spec: ModuleSpec, title: str) -> None:
    sys.argv[0] = path = str(spec.origin)
    with open(path, "rb") as file:
        program = Program(path, file.read(), not spec.name.endswith(MAIN))
    module = program.module(title)
    module.__spec__, module.__package__ = spec, spec.parent
    exec(program.code(), module.__dict__)


def _talk(names: Dict[str, Any]) -> None:
    """The prompt, with completion and history as python3 has them, until end of file.  Raises SystemExit."""
    from code import interact
    begin = getattr(sys, "__interactivehook__", None)
    if begin is not None:
        begin()
    interact("Python %s, microscoop %s: functions that you type travel by value, classes do not" % (
        sys.version.split()[0], __version__), local=names, exitmsg="")
