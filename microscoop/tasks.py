"""How functions, arguments, results and errors become bytes, and back.  Runs in owners and in workers; pure.

A block's body is one pickle of (function, columns).  A column holds one argument of each item: a list (or range) of
exact atoms, which nobody can change, or a tuple of pickles, one an item, unpickled just before that item runs.  So no
two items ever share an object, and an item that cannot be rebuilt harms no other.

Results travel as one pickle of a list of atoms, or of a tuple whose entries are atoms, (pickle,) for any other value,
or a failure: (pickle or None, type name, text, traceback).
"""
from __future__ import annotations

import pickle
import reprlib
import sys
from contextlib import suppress
from functools import partial
from itertools import islice
from types import FunctionType, MethodType
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Sequence, Tuple, Union

from . import hooks, program
from .errors import RemoteError

PROTOCOL = 5               # known to every Python from 3.8
BY_VALUE = __name__.rpartition(".")[0] + ".leaves.byvalue"
ATOMS = frozenset((int, float, complex, bool, str, bytes, type(None)))

Column = Sequence[Any]     # a list or range of atoms, or a tuple of pickles
# What `futures.submit` has made: a pickle; or, if nobody can change it, function, args, kwargs, the function's pickle.
Task = Union[bytes, Tuple[Callable[..., Any], Tuple[Any, ...], Dict[str, Any], bytes]]
Failure = Tuple[Optional[bytes], str, str, str]


def pickled(value: Any, function: Any = None) -> bytes:
    """The pickle of anything: by name what workers have by its name, other functions by value.

    function: the one that is to be run, if it is only a part of the value.  Raises what pickling raises."""
    lost = False
    try:
        lost = function is not None and is_lost(function)
        if lost:
            raise pickle.PicklingError("its class does not have it under its name")
        data = pickle.dumps(value, PROTOCOL)
    except Exception:                              # of any kind: perhaps it can go by value
        byvalue = hooks.leaf("byvalue")
        if byvalue is None or not lost and can_be_pickled(value):
            raise
        return bytes(byvalue.pickled(value))
    ours = program.current()
    if ours is None:
        return data
    if function is None and type(value) is FunctionType:
        function = value
    unsure = function is not None and not ours.is_sure_of(function)
    byvalue = hooks.leaf("byvalue") if unsure or ours.mixed and b"__main__" in data else None
    return data if byvalue is None else bytes(byvalue.checked(value, data, unsure))


def can_be_pickled(value: Any) -> bool:
    """Whether it can, after something was raised while it was pickled: then that came from a signal's handler."""
    try:
        pickle.dumps(value, PROTOCOL)
    except Exception:                              # of any kind, as above
        return False
    return True


def is_lost(function: Any) -> bool:
    """Whether it is a bound method, or made of one, that unpickling would not find: a pickle has the name of its
    function, as it stands in the `def`, and not the one that its class has it under."""
    while isinstance(function, (partial, Dressing)):
        function = function.func
    if type(function) is not MethodType:
        return False
    bound, inner = function.__self__, function.__func__
    found = program.attribute(bound if isinstance(bound, type) else type(bound), getattr(inner, "__name__", ""))
    return found is not inner and program.attribute(found, "__func__") is not inner


class Dressing:
    """What is submitted instead of a function, `func`."""
    func: Any


def dumps(value: Any) -> bytes:
    """The pickle of what is picklable for sure."""
    return pickle.dumps(value, PROTOCOL)


class Pickled:
    """Something that is pickled already, within another pickle."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> Tuple[Any, ...]:
        return pickle.loads, (self._data,)


class Named:
    """A function that was pickled by its name, as `data`."""
    __slots__ = ("data", "_function", "_code")

    def __init__(self, function: Any) -> None:
        self.data = dumps(function)
        self._function, self._code = function, function.__code__

    def stands_for(self, function: Any) -> bool:
        """Whether it is this one, unchanged, and still has that name."""
        module = sys.modules.get(function.__module__)
        return (function is self._function and function.__code__ is self._code
                and module is not None and module.__dict__.get(function.__qualname__) is function)


def are_atoms(args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
    """Whether nobody can change any of these arguments."""
    return ATOMS.issuperset(map(type, args)) and (
        not kwargs or ATOMS.issuperset(map(type, kwargs)) and ATOMS.issuperset(map(type, kwargs.values())))


def call_of(task: Task) -> Sequence[Any]:
    """Function, args and kwargs of a submitted task.  Raises what rebuilding them raises."""
    return pickle.loads(task) if isinstance(task, bytes) else task[:3]


def bytes_of(task: Task) -> bytes:
    """A submitted task as it travels."""
    if isinstance(task, bytes):
        return task
    _, args, kwargs, function = task
    return dumps((Pickled(function), args, kwargs))


def pack(value: Any, what: str, function: Any = None) -> bytes:
    """The pickle of an argument, a function or a result.  Raises what pickling raises, with `what` and the way to the
    culprit in its text."""
    try:
        return pickled(value, function)
    except Exception as error:
        raise explained(error, value, what) from error


def minor(pickles: Iterable[bytes]) -> int:
    """The minor version of this Python, if only its like can open one of these pickles, else 0: those with something
    by value, also in a pickle within, name the leaf that made them."""
    if BY_VALUE not in sys.modules:                # it has made none
        return 0
    name = BY_VALUE.encode()
    return sys.version_info[1] if any(name in data for data in pickles) else 0


def explained(error: Exception, value: Any, what: str) -> Exception:
    """The same kind of error, naming the object that cannot be pickled and the way to it."""
    path, culprit = _culprit(value, what, 0)
    text = "%s cannot be pickled: %s is %s (%s); %s" % (
        what, path, _describe(culprit), error, getattr(error, "way_out", "send a name, a path or plain data instead"))
    try:
        return type(error)(text)
    except Exception:                              # an exception class with a signature of its own
        return pickle.PicklingError(text)


def _culprit(value: Any, path: str, depth: int) -> Tuple[str, Any]:
    """The innermost part of a value that cannot be pickled."""
    with suppress(Exception):                      # of the value's own methods: then it cannot be looked into
        for name, part in _parts(value) if depth < 20 else ():
            try:
                pickled(part)
            except Exception:                      # found one; which kind of error does not matter here
                return _culprit(part, path + name, depth + 1)
    return path, value


def _parts(value: Any) -> Iterator[Tuple[str, Any]]:
    for kinds, label, pairs in _CONTAINERS:
        if isinstance(value, kinds):
            for key, part in pairs(value):
                yield label % reprlib.repr(key), part
            return
    bound = program.attribute(value, "__self__")
    if isinstance(value, FunctionType) and BY_VALUE in sys.modules:
        for name, part in sys.modules[BY_VALUE].brings(value).items():
            yield " (%s), its variable %s" % (value.__qualname__, name), part
    elif bound is not None and not isinstance(bound, type(sys)):
        yield ".__self__", bound
        yield ".__func__", program.attribute(value, "__func__")
    elif isinstance(value, partial):
        yield ".func", value.func
        yield ".args", value.args
    elif not isinstance(value, type):
        for key, part in getattr(value, "__dict__", {}).items():
            yield "." + key, part


_CONTAINERS: Sequence[Tuple[Any, str, Callable[[Any], Iterable[Tuple[Any, Any]]]]] = (
    # kinds, how a part is called, (name, part) of each part
    (dict, "[%s]", dict.items),
    ((list, tuple), "[%s]", enumerate),
    ((set, frozenset), "{%s}", lambda parts: zip(parts, parts)))


def _describe(value: Any) -> str:
    name, module = program.attribute(value, "__qualname__"), program.attribute(value, "__module__")
    if name:
        return "%s %s%s" % (type(value).__name__, "%s." % module if module else "", name)
    return "%s %s" % (type(value).__name__, reprlib.repr(value))       # which stands a __repr__ that raises


# Arguments -----------------------------------------------------------------------------------------------------------

def column(items: Sequence[Any], argument: int, first: int = 0) -> Column:
    """One argument of many items, so that it can be cut and sent later, whatever its owner does to it meanwhile."""
    if isinstance(items, range):
        return items
    values = items if type(items) is list else list(items)
    if ATOMS.issuperset(map(type, values)):
        return values[:] if values is items else values
    ours = program.current()
    if ours is None or not ours.mixed:
        try:
            return tuple([pickle.dumps(value, PROTOCOL) for value in values])
        except Exception:                          # once more, to see which item it is, and why
            if all(map(can_be_pickled, values)):
                raise
    return tuple(pack(value, "argument %d of item %d" % (argument + 1, first + i)) for i, value in enumerate(values))


def width(columns: Sequence[Column], start: int, stop: int) -> int:
    """About how many bytes these items take."""
    size = 0
    for values in columns:
        if isinstance(values, tuple):
            size += sum(map(len, values[start:stop]))
        elif len(values) > start and type(values[start]) in (str, bytes):
            size += sum(len(v) if isinstance(v, (str, bytes)) else 8 for v in values[start:stop])
    return size


def opened(data: bytes, apart: Optional[Apart] = None) -> Tuple[Callable[..., Any], Sequence[Column]]:
    """The function and the columns of a block.  Raises whatever rebuilding the function raises."""
    function, columns = pickle.loads(data)
    return apart.open() if apart else pickle.loads(function), columns


class Apart:
    """A function that did not come with its block; rebuilt once, by the first task that needs it."""

    def __init__(self, data: Any) -> None:
        self._data, self._function = data, None

    def open(self) -> Any:
        """The function.  Raises whatever rebuilding it raises."""
        data = self._data
        if data is not None:
            self._function, self._data = pickle.loads(data), None
        return self._function


def arguments(columns: Sequence[Column], start: int) -> Iterator[Tuple[Any, ...]]:
    """The arguments of each item, each rebuilt when it is asked for."""
    return zip(*(map(pickle.loads, islice(c, start, None)) if isinstance(c, tuple) else islice(c, start, None)
                 for c in columns))


def apply(task: Tuple[Callable[..., Any], Tuple[Any, ...], Any]) -> Any:
    """The function of a block of `submit`s: its one column holds (function, args, kwargs)."""
    function, args, kwargs = task
    return function(*args, **kwargs)


APPLY = pickle.dumps(apply, PROTOCOL)


def named(function: Any) -> str:
    """What a function is called."""
    return str(program.attribute(function, "__qualname__") or type(function).__name__)


def submitted(error: BaseException) -> str:
    """What the function is called that `apply` ran when it raised this; it may not have come so far."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not apply.__code__:
        trace = trace.tb_next
    return named(trace.tb_frame.f_locals.get("function", apply)) if trace is not None else "a submitted task"


# Results -------------------------------------------------------------------------------------------------------------

def outcome(value: Any) -> Any:
    """A result as it travels; pickled at once, so that it is what the task returned."""
    return value if type(value) in ATOMS else (pack(value, "the result"),)


class Outcomes:
    """A run of outcomes that lie elsewhere: has a length, and can be iterated."""


def outcomes(data: Any) -> Sequence[Any]:
    """The outcomes again, if they are bytes still; runs no code of the user."""
    return data if isinstance(data, (list, tuple, Outcomes)) else pickle.loads(data)  # type: ignore[return-value]


def failed(entry: Any) -> bool:
    """Whether an outcome is a failure."""
    return type(entry) is tuple and len(entry) == 4


def value(entry: Any) -> Any:
    """The value of an outcome; raises the error of a failed one."""
    if type(entry) is not tuple:
        return entry
    if len(entry) == 1:
        return pickle.loads(entry[0])
    raise rebuilt(entry)


# Errors --------------------------------------------------------------------------------------------------------------

class RemoteTraceback(Exception):
    """The cause of an error that a task raised: where it ran, and its traceback there, as text."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0]) if self.args else ""


def failure(error: BaseException, where: str, sent: bool = False) -> Failure:
    """An error as it travels.  Whether it can is decided here, by trying.

    where: names host, worker and item; sent: that host has only the files that were sent to it.
    """
    try:
        import traceback  # rarely needed: not worth 3 ms of every start; may find a token.py of the script's
        lines = traceback.format_exception(type(error), error, of_program(error) or error.__traceback__)
    except BaseException as again:                 # of that import, a __str__ or a source loader of the user's
        lines = ["%s (no traceback: %s while it was formatted)\n" % (type(error).__qualname__, type(again).__name__)]
    text = ("[%s] " % where) + "".join(lines).encode("utf-8", "backslashreplace").decode()
    kind = "%s.%s" % (type(error).__module__, type(error).__qualname__)
    said = _text(error)
    data: Optional[bytes] = None
    try:
        data = pickle.dumps(error, PROTOCOL)
        there = pickle.loads(data)
        if type(there) is not type(error):
            data = None
        elif _text(there) != said:                 # its class makes a text of what it is given, once more
            as_is = pickle.dumps(AsIs(error), PROTOCOL)
            data = as_is if _text(pickle.loads(as_is)) == said else data
    except BaseException as again:                 # whatever it is: the text goes instead
        text += "(it cannot be pickled and rebuilt: %s)\n" % type(again).__name__
        data = None
    return data, kind, said, text + (lacking(error) if sent else "")


def _text(error: BaseException) -> str:
    try:
        return "".join([str(error)])               # a plain str, whatever subclass __str__ gives
    except BaseException as again:                 # a __str__ that raises must not hide the error
        return "<%s in its __str__>" % type(again).__name__


class AsIs:
    """An error that is rebuilt without its class's __init__."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Tuple[Any, ...]:
        error = self._error
        return type(error).__new__, (type(error), *error.args), error.__dict__


def never_ran(error: Exception) -> Failure:
    """The outcome of an item that no task gave."""
    kind = type(error).__name__
    return pickle.dumps(error, PROTOCOL), kind, str(error), "%s: %s" % (kind, error)


def lacking(error: BaseException) -> str:
    """What to do about an error of a host that has only the files that it was sent, one line."""
    if isinstance(error, ModuleNotFoundError):
        return "Note: install %s there, or have its file or folder sent along: --send PATH\n" % error.name
    if isinstance(error, FileNotFoundError):
        return "Note: this host has only what it was sent; to have more sent along: --send PATH\n"
    return ""


def of_program(error: BaseException) -> Any:
    """The traceback of an error without our own frames, which stand first."""
    trace, ours = error.__traceback__, __name__.rpartition(".")[0] + "."
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(ours):
        trace = trace.tb_next
    return trace


def rebuilt(entry: Failure) -> BaseException:
    """The error of a failure, with the remote traceback as its cause; RemoteError where it cannot be rebuilt."""
    data, kind, said, text = entry
    error: BaseException = RemoteError(kind, said, text)
    if data is not None:
        try:
            error = pickle.loads(data)
        except BaseException as again:             # rebuilt on the worker, but not here
            text += "(it cannot be rebuilt here: %s: %s)\n" % (type(again).__name__, again)
            error = RemoteError(kind, said, text)
    error.__cause__ = RemoteTraceback(text + _advice(error))
    return error


def _advice(error: BaseException) -> str:
    """What the user may have overlooked, one line."""
    if isinstance(error, NameError):
        name = getattr(error, "name", None) or str(error).partition("'")[2].partition("'")[0]
        if name and hasattr(sys.modules.get("__main__"), name):
            return "Note: %s is set under the guard; workers do not run that.\n" % name
    if isinstance(error, ValueError) and str(error).startswith("signal only works in main thread"):
        return "Note: while a task waits, its worker runs others in a second thread, which cannot set handlers.\n"
    return ""
