"""The program of a run, and what workers have of it.  Runs in the origin and in workers; agents compile it for them.

The origin runs it as `__main__`, workers load it as `__mp_main__` without what stands under the guard.  So a function
from there has a name in the origin that workers do not know.
"""
from __future__ import annotations

import builtins
import sys
from types import CodeType, ModuleType
from typing import Any, Dict, Iterator, List, Optional

NAMES = ("__main__", "__mp_main__")
_current: List[Program] = []   # this process's, in a run
OPTIMIZED = 1              # co_flags of a function's code; that of a class goes without


class Program:
    """What the program is made from."""

    def __init__(self, path: str, text: bytes, loaded: bool = True) -> None:
        self.path, self.text = path, text
        self.loaded = loaded                       # workers load it, too
        self.names: Dict[str, Any] = {}            # its module's
        self.sure: Dict[int, Any] = {}             # by id: functions, or their code, that every process has as they are
        self._code: Optional[CodeType] = None
        self.mixed = not loaded                    # there are functions and classes of whom that is not so sure

    def module(self, name: str) -> ModuleType:
        """A new module for it, under both names that pickles may use."""
        module = ModuleType(name)
        if not self.path.startswith("<"):
            module.__file__ = self.path
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        self.names = module.__dict__
        self.names["__builtins__"] = builtins      # in __main__ it is the module, in others its dict
        self.adopt()
        return module

    def adopt(self) -> None:
        """Be the program of this process."""
        _current[:] = [self]

    def code(self) -> CodeType:
        """The whole, compiled.  Raises SyntaxError, ValueError."""
        if self._code is not None:
            return self._code
        code = self._code = compile(self.text, self.path, "exec", dont_inherit=True)
        guard = next((number for number, line in enumerate(self.text.splitlines(), 1)
                      if b"__name__" in line and line.lstrip().startswith(b"if")), sys.maxsize)
        for found in definitions(code):
            if self.loaded and found.co_firstlineno < guard:
                self.sure[id(found)] = found
            else:
                self.mixed = True
        return code

    def is_sure_of(self, function: Any) -> bool:
        """Whether workers have this function by its name, as far as can be said without a closer look."""
        if id(attribute(function, "__code__")) in self.sure or id(function) in self.sure:
            return True
        return isinstance(function, type) or attribute(function, "__qualname__") is None or attribute(
            function, "__module__") not in NAMES


def attribute(value: object, name: str) -> Any:
    """An attribute, or None where there is none."""
    try:
        return getattr(value, name, None)
    except Exception:                              # of a property or __getattr__ of the user's: it has none, then
        return None


def definitions(code: CodeType) -> Iterator[CodeType]:
    """The code of each function and method that a module, or a class, defines, and of each class."""
    for found in code.co_consts:
        if isinstance(found, CodeType) and not found.co_name.startswith("<"):
            yield found
            if not found.co_flags & OPTIMIZED:
                yield from definitions(found)


def current() -> Optional[Program]:
    """That of this process; None outside of a run."""
    return _current[0] if _current else None


def read(path: str) -> Program:
    """That of a script."""
    with open(path, "rb") as file:
        return Program(path, file.read())


def compiled(path: str) -> Optional[Program]:
    """The same with its code, in an agent: for all workers that it will fork.  None if that fails: they say why."""
    import warnings
    try:
        program = read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")            # the origin shows them
            program.code()
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return program


def execute(name: str, program: Program) -> None:
    """Run a program, or load it, as a module of this name.  Raises what it raises."""
    module = program.module(name)
    exec(program.code(), module.__dict__)
