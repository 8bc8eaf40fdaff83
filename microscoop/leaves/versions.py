"""Whether a function is still the one that it was: a digest of its code and of what it uses.  Pure; for journal.py.

What it uses: the functions, classes and plain constants (numbers, texts) of its module that it names, and what those
name in turn.  Comments and places in the file make no difference; another minor version of Python does.
"""
from __future__ import annotations

import dis
import functools
import pickle
from hashlib import blake2b
from types import CodeType, FunctionType, MethodType
from typing import Any, Iterator, List, Set, Tuple
from weakref import WeakKeyDictionary

from .. import program, tasks
from .dressed import Dressed


class Versions:
    """Remembers the functions that it has looked at."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def of(self, function: Any) -> Tuple[str, str]:
        """Name and version of any callable; builtin ones have no version."""
        inner = _inner(function)
        if program.attribute(inner, "__qualname__") is None:
            inner = type(inner)
        name = "%s.%s" % (getattr(inner, "__module__", None), inner.__qualname__)      # str.upper has none
        if not isinstance(inner, FunctionType):
            return name, _version(inner)
        if inner not in self._known:
            self._known[inner] = _version(inner)
        return name, self._known[inner]


def settled(data: bytes) -> bytes:
    """The same pickle, for a digest, wherever in its file a function stands that goes by value in it."""
    if not tasks.minor([data]):
        return data
    from .byvalue import pickled
    return pickled(pickle.loads(data), lambda code: repr(_described(code)).encode())


def _inner(function: Any) -> Any:
    """The function in what is wrapped around it; that which the pickle of the whole cannot tell."""
    while True:
        if isinstance(function, (Dressed, functools.partial)):
            function = function.func
        elif isinstance(function, (MethodType, staticmethod, classmethod)):
            function = function.__func__
        elif not isinstance(function, FunctionType) and program.attribute(function, "__wrapped__") is not None:
            function = function.__wrapped__        # functools.lru_cache
        else:
            return function


def _version(thing: Any) -> str:
    digest, queue, seen = blake2b(digest_size=16), [thing], set()
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            queue += _parts(thing)
        elif isinstance(thing, FunctionType):
            digest.update(repr((_described(thing.__code__), _default(thing))).encode())
            for name, value in _uses(thing):
                if type(value) in tasks.ATOMS:
                    digest.update(repr((name, value)).encode())
                else:
                    queue.append(value)
    return digest.hexdigest()


def _parts(kind: type) -> List[Any]:
    """The methods of a class, and its bases in the same module."""
    methods = [inner for inner in map(_inner, vars(kind).values()) if isinstance(inner, FunctionType)]
    return methods + [base for base in kind.__bases__ if base.__module__ == kind.__module__]


def _uses(function: FunctionType) -> Iterator[Any]:
    """The names of a function, with their values: variables of the functions around it, and of its module."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield name, _inner(cell.cell_contents)
        except ValueError:                         # it has no value yet
            continue
    for name in sorted(_globals(function.__code__)):
        value = _inner(function.__globals__.get(name))
        if type(value) in tasks.ATOMS or getattr(value, "__module__", None) == function.__module__:
            yield name, value


def _globals(code: CodeType) -> Set[str]:
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals(const) for const in code.co_consts if isinstance(const, CodeType)))


def _described(value: Any) -> Any:
    """A constant or code, without what changes from run to run or with its place in the file."""
    if isinstance(value, CodeType):
        return [value.co_code, value.co_names, getattr(value, "co_exceptiontable", b""), value.co_argcount,
                value.co_kwonlyargcount, value.co_flags, _each(value.co_consts)]
    if isinstance(value, tuple):
        return _each(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _each(values: Any) -> List[Any]:
    return [_described(value) for value in values]


def _default(function: FunctionType) -> Any:
    try:
        return pickle.dumps((function.__defaults__, function.__kwdefaults__), tasks.PROTOCOL)
    except Exception:                              # a default that cannot be pickled: its place says nothing
        return None
