"""--scoop: programs written for SCOOP run unedited, with microscoop under SCOOP's names.  Runs in the origin and in
workers.

`import scoop`, `from scoop import futures, shared` find modules made here.  Where SCOOP has conventions of its own they
hold there: a negative timeout means none, a map drops keywords that it does not know and says so, getConst gives None
when its timeout is over.  SCOOP itself is not needed, and is not used where it is installed.
"""
from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator, Optional

import microscoop

from .. import futures, shared

KNOWN = ("timeout", "chunksize", "buffersize")


def enter_process(value: object, settings: object) -> None:
    """Before the script: let its imports find us."""
    scoop: Any = _Scoop("scoop", __doc__)
    scoop.__path__ = []                            # a package
    scoop.__version__ = "0.7"
    scoop.futures, scoop.shared = ModuleType("scoop.futures"), ModuleType("scoop.shared")
    for function in (Future, submit, map, map_as_completed, mapReduce, mapScan, wait, as_completed):
        setattr(scoop.futures, function.__name__, function)
    scoop.futures.__getattr__ = lambda name: getattr(futures, name)
    scoop.shared.setConst, scoop.shared.getConst = shared.setConst, getConst
    sys.modules.update({"scoop": scoop, "scoop.futures": scoop.futures, "scoop.shared": scoop.shared})


class _Scoop(ModuleType):
    """Its constants are ours."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(microscoop, name)


def _limit(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None or timeout < 0 else timeout


def _kept(keywords: Any, known: Iterable[str]) -> Any:
    """Those of a map's keywords that mean something."""
    strange = sorted(set(keywords) - set(known))
    if strange:
        warnings.warn("dropped what map does not know: %s" % ", ".join(strange), RuntimeWarning, stacklevel=3)
    kept = {name: value for name, value in keywords.items() if name in known}
    if "timeout" in kept:
        kept["timeout"] = _limit(kept["timeout"])
    return kept


class Future(futures.Future):
    """What `submit` gives."""
    __slots__ = ()

    def result(self, timeout: Optional[float] = None) -> Any:
        """As of futures.Future."""
        return super().result(_limit(timeout))

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """As of futures.Future."""
        return super().exception(_limit(timeout))


def submit(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future:
    """As futures.submit."""
    future = futures.submit(func, *args, **kwargs)
    future.__class__ = Future
    return future


def map(func: Callable[..., Any], *iterables: Iterable[Any], **keywords: Any) -> Iterator[Any]:
    """As futures.map."""
    return futures.map(func, *iterables, **_kept(keywords, KNOWN))


def map_as_completed(func: Callable[..., Any], *iterables: Iterable[Any], **keywords: Any) -> Iterator[Any]:
    """As futures.map_as_completed."""
    return futures.map_as_completed(func, *iterables, **_kept(keywords, KNOWN))


def mapReduce(map_func: Callable[..., Any], reduce_func: Callable[..., Any], *iterables: Iterable[Any],
              **keywords: Any) -> Any:
    """As futures.map_reduce."""
    return futures.mapReduce(map_func, reduce_func, *iterables, **_kept(keywords, ("timeout",)))


def mapScan(map_func: Callable[..., Any], reduce_func: Callable[..., Any], *iterables: Iterable[Any],
            **keywords: Any) -> Any:
    """As futures.map_scan."""
    return futures.mapScan(map_func, reduce_func, *iterables, **_kept(keywords, ("timeout",)))


def wait(fs: Iterable[futures.Future], timeout: float = -1,
         return_when: str = futures.ALL_COMPLETED) -> futures.DoneAndNotDone:
    """As futures.wait."""
    return futures.wait(fs, _limit(timeout), return_when)


def as_completed(fs: Iterable[futures.Future], timeout: float = -1) -> Iterator[futures.Future]:
    """As futures.as_completed."""
    return futures.as_completed(fs, _limit(timeout))


def getConst(name: str, timeout: float = 0.1) -> Any:
    """As shared.getConst, but None when nobody has set it in time."""
    try:
        return shared.getConst(name, timeout)
    except futures.TimeoutError:
        return None
