"""What a SCOOP program reads of its surroundings: microscoop.IS_ORIGIN and the like.  Runs in the origin, in workers,
also while they load the script, and outside of the launcher; nothing is kept, so each look sees what is so now."""
from __future__ import annotations

from .. import futures
from ..serial import HERE, Serial

DEBUG = False
BROKER = None              # nothing connects to ours


def __getattr__(name: str) -> object:
    owner = futures.current() or Serial()
    if name == "IS_ORIGIN":
        return owner.is_origin
    if name == "IS_RUNNING":                       # under the launcher
        return owner.where != HERE
    if name == "SIZE":                             # how many workers there are
        return owner.workers
    if name == "worker":                           # this process's name: origin, h2/3
        return owner.where
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
