"""Functions by value: lambdas, closures, and what stands under the guard or was typed.  Runs in owners and workers.

By name first: a function that workers can import, or have from the script, travels as its name.  Of any other go its
code (by `marshal`, so only between equal minor versions of Python), its defaults, the variables of its closure and
those of its globals that workers do not have; modules and classes go by name.  What travels in one pickle keeps its
ties: recursive functions, and functions that share variables.
"""
from __future__ import annotations

import ast
import builtins
import dis
import functools
import io
import marshal
import pickle
import sys
from importlib import import_module
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, BinaryIO, Callable, Dict, FrozenSet, Iterator, NamedTuple, Optional, Set, Tuple

from .. import program
from ..tasks import PROTOCOL, is_lost

MINOR = sys.version_info[1]
MOVE = "put it at the top of the script, above the guard, or into a module"
PACKAGE = "workers do not load a package's __main__: put it into another module of the package"


class Refused(pickle.PicklingError):
    """What does not travel even by value; way_out: what to do instead."""

    def __init__(self, text: str, way_out: str = MOVE) -> None:
        super().__init__(text)
        self.way_out = way_out


def pickled(value: Any, coded: Callable[[CodeType], bytes] = marshal.dumps) -> bytes:
    """The pickle of anything; coded: what stands in it for a code.  Raises what pickling raises, or Refused."""
    file = io.BytesIO()
    Pickler(file, coded).dump(value)
    return file.getvalue()


def checked(value: Any, data: bytes, unsure: bool) -> bytes:
    """The same of what can be pickled by name, as `data`, which workers perhaps cannot open.

    unsure: it is not known whether workers have its function; else it matters only whether it names what stands under
    the guard."""
    knowledge = _knowledge()
    if unsure or knowledge.how == "nothing" or any(name.encode() in data for name in knowledge.guarded):
        return pickled(value)
    return data


class Pickler(pickle.Pickler):
    """By value what has no name that workers know."""

    def __init__(self, file: BinaryIO, coded: Callable[[CodeType], bytes]) -> None:
        super().__init__(file, PROTOCOL)
        self._coded = coded
        self._spaces: Dict[int, Space] = {}        # by id of globals

    def reducer_override(self, value: Any) -> Any:
        """Called for each object that is not a plain one, before the usual ways."""
        if isinstance(value, ModuleType):
            return import_module, (value.__name__,)
        if type(value) is Cell:
            return _cell, ()                       # filled when its function is there, which may refer to itself
        if isinstance(value, type):
            _refuse_unknown(value)
        if type(value) is MethodType and is_lost(value):
            name = _attribute(value)
            return (getattr, (value.__self__, name)) if name else (_method, (value.__func__, value.__self__))
        if isinstance(value, (FunctionType, functools._lru_cache_wrapper)):
            if not _has_name(value):
                return self._function(value) if isinstance(value, FunctionType) else (
                    _cached, (value.cache_info().maxsize, value.__wrapped__))
            ours = program.current()
            if ours is not None:
                ours.sure[id(value)] = value       # no such look at it again
        return NotImplemented

    def _function(self, function: FunctionType) -> Any:
        if "__class__" in function.__code__.co_freevars:
            raise Refused("it uses super() or __class__, and its class does not travel", _way_out(
                function, "define that class, or the function, at the top of the script or of a module"))
        space = self._spaces.setdefault(id(function.__globals__), Space(function.__globals__))
        cells = function.__closure__ or ()
        contents = [(i, cell.cell_contents) for i, cell in enumerate(cells) if not _is_empty(cell)]
        notes = {name: note.__qualname__ if isinstance(note, type) and not _has_name(note) else note
                 for name, note in function.__annotations__.items()}
        state = (_globals(function), contents, function.__defaults__, notes, function.__dict__,
                 {name: getattr(function, name) for name in ("__kwdefaults__", "__module__", "__name__", "__qualname__",
                                                             "__doc__")})
        return _function, (MINOR, self._coded(function.__code__), space, cells), state, None, None, _fill


def _way_out(value: Any, usual: str = MOVE) -> str:
    """What to do about a class or a function: the __main__ of a package has no top that workers load."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return PACKAGE if value.__module__ in program.NAMES and spec and spec.name.endswith(".__main__") else usual


def _refuse_unknown(kind: type) -> None:
    """Raises Refused for a class that workers cannot find: classes do not travel."""
    if kind.__module__ in program.NAMES and _knowledge().lacks_class(kind):
        way_out = _way_out(kind)
        raise Refused("workers do not have this class" + ("" if way_out == PACKAGE else ": they run neither what "
                      "stands under the guard nor what is typed or given with -c"), way_out)
    if "<locals>" in kind.__qualname__ and not _is_found(kind):
        raise Refused("it is a class inside of a function", _way_out(kind))


class Space:
    """Stands in a pickle for the globals of functions, which share them there, too."""

    def __init__(self, names: Dict[str, Any]) -> None:
        self.names = names                         # also so that its id is not used again

    def __reduce__(self) -> Any:
        name = self.names.get("__name__")
        return _space, (name if name in program.NAMES or _owner(self.names) else None,)


# What a function needs -----------------------------------------------------------------------------------------------

def brings(function: FunctionType) -> Dict[str, Any]:
    """The variables of a function that travel with it, by name."""
    closure = zip(function.__code__.co_freevars, function.__closure__ or ())
    return {**{name: cell.cell_contents for name, cell in closure if not _is_empty(cell)}, **_globals(function),
            "__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}


def _globals(function: FunctionType) -> Dict[str, Any]:
    """Those globals that it uses and that a worker's own module of that name does not have."""
    names = function.__globals__
    used = {name: names[name] for name in sorted(set(_used(function.__code__)))
            if name in names and not name.startswith("__")}    # a module has its own __file__ there
    if names.get("__name__") in program.NAMES:
        there, knowledge = sys.modules["__main__"].__dict__, _knowledge()
        return {name: value for name, value in used.items()
                if name not in there or value is not there[name] or knowledge.lacks(name)}
    return {} if _owner(names) else used


def _used(code: CodeType) -> Iterator[str]:
    """The names of globals in a code, and in those within it."""
    for step in dis.get_instructions(code):
        if step.opname.endswith(("_GLOBAL", "_NAME", "_GLOBALS")):
            yield step.argval
    for within in code.co_consts:
        if isinstance(within, CodeType):
            yield from _used(within)


def _owner(names: Dict[str, Any]) -> Optional[ModuleType]:
    """The module whose globals these are."""
    module = sys.modules.get(str(names.get("__name__")))
    return module if module is not None and module.__dict__ is names else None


Cell = type((lambda cell: lambda: cell)(0).__closure__[0])  # type: ignore[index]


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


# What workers have ---------------------------------------------------------------------------------------------------

class Knowledge(NamedTuple):
    """What is known of the program that workers load."""
    codes: FrozenSet[CodeType]     # of its functions
    names: FrozenSet[str]          # that it uses or sets; not those that are set under the guard, too
    guarded: FrozenSet[str]        # that are set under the guard
    how: str                       # "all": whatever the module has, as there are no workers; "some"; "nothing"

    def lacks(self, name: str) -> bool:
        """Whether workers may not have what the origin has under this name."""
        return self.how != "all" and name not in self.names

    def lacks_class(self, cls: type) -> bool:
        """Whether it stands under the guard, or was typed."""
        return self.how == "nothing" or cls.__qualname__.partition(".")[0] in self.guarded


def _has_name(value: Any) -> bool:
    """Whether workers have it under its name."""
    if not _is_found(value):
        return False
    if value.__module__ not in program.NAMES or isinstance(value, type):
        return True
    knowledge, inner = _knowledge(), value
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    return knowledge.how == "all" or getattr(inner, "__code__", None) in knowledge.codes and not knowledge.lacks(
        value.__qualname__.partition(".")[0])


def _is_found(value: Any) -> bool:
    """Whether it is found under its name here."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _attribute(method: Any) -> Optional[str]:
    """The attribute of its object, or class, as which workers have a bound method; not one of the object's own, which
    may hold that method itself."""
    bound, function = method.__self__, method.__func__
    own = () if isinstance(bound, type) else program.attribute(bound, "__dict__") or ()
    names = [getattr(function, "__name__", "")]    # as it is pickled: a descriptor may make the method
    for kind in (bound if isinstance(bound, type) else type(bound)).__mro__:
        names += [name for name, value in vars(kind).items() if _sets(kind, name, function) and (
            value is function or program.attribute(value, "__func__") is function)]
    return next((name for name in names if name not in own and program.attribute(bound, name) == method), None)


def _sets(kind: type, name: str, function: Any) -> bool:
    """Whether a class has this attribute in workers, too: nobody but the class itself has set it."""
    if kind.__module__ not in program.NAMES:
        return program.attribute(function, "__module__") not in program.NAMES
    knowledge = _knowledge()
    return knowledge.how == "all" or any(
        code.co_name == kind.__name__ and name in code.co_names for code in knowledge.codes)


def _knowledge() -> Knowledge:
    ours = program.current()
    return Knowledge(frozenset(), frozenset(), frozenset(), "all") if ours is None else _known_of(ours)


@functools.lru_cache(None)
def _known_of(ours: program.Program) -> Knowledge:
    """Look at the program without its guard: what is still in it is what workers have."""
    if not ours.loaded:
        return Knowledge(frozenset(), frozenset(), frozenset(), "nothing")
    guard = Guard()
    tree = ast.fix_missing_locations(guard.visit(ast.parse(ours.text)))
    code = compile(tree, ours.path, "exec", dont_inherit=True)
    return Knowledge(frozenset(program.definitions(code)), frozenset(code.co_names) - guard.names,
                     frozenset(guard.names), "some")


class Guard(ast.NodeTransformer):
    """Cuts out what stands under `if __name__ == ...`, and notes which names are set there."""

    def __init__(self) -> None:
        self.names: Set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """What stands in a function is no guard."""
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Likewise."""
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """A guard, or not."""
        if not any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)):
            return self.generic_visit(node)
        for part in ast.walk(node):
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.names.add(part.name)
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.names.add(part.id)
            elif isinstance(part, ast.alias):
                self.names.add((part.asname or part.name).partition(".")[0])
        return ast.copy_location(ast.Pass(), node)


# What a worker makes of it -------------------------------------------------------------------------------------------

def _space(name: Optional[str]) -> Dict[str, Any]:
    """Globals: a module's own; of functions of the program a copy, to which they add what they bring."""
    if name is not None and name not in program.NAMES:
        return import_module(name).__dict__
    return dict(sys.modules["__main__"].__dict__ if name else {}, __builtins__=builtins)


def _cell() -> Any:
    return Cell()


def _method(function: Any, bound: Any) -> Any:
    return MethodType(function, bound)


def _cached(size: Optional[int], function: Any) -> Any:
    return functools.lru_cache(size)(function)


def _function(minor: int, code: bytes, names: Dict[str, Any], cells: Tuple[Any, ...]) -> FunctionType:
    if minor != MINOR:
        raise TypeError("a function by value comes from Python 3.%d and cannot run on 3.%d" % (minor, MINOR))
    return FunctionType(marshal.loads(code), names, None, None, cells)


def _fill(function: FunctionType, state: Tuple[Any, ...]) -> None:
    names, contents, defaults, notes, attributes, rest = state
    function.__globals__.update(names)
    for i, value in contents:
        function.__closure__[i].cell_contents = value  # type: ignore[index]
    function.__defaults__, function.__annotations__ = defaults, notes
    function.__dict__.update(attributes)
    for name, value in rest.items():
        setattr(function, name, value)
