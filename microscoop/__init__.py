"""microscoop: `futures.map` over processes here and on other machines; imported in every process, keeps no state.

Parses on old Pythons too, so that __main__.py can name the one that is needed. See __main__.py, then cli.py.
"""
__version__ = "1.0.0"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from microscoop.leaves.executor import Executor as Executor

LAZY = {  # what is imported from a leaf when it is asked for
    "Executor": "executor", "logger": "log",
    "BROKER": "surroundings", "DEBUG": "surroundings", "IS_ORIGIN": "surroundings", "IS_RUNNING": "surroundings",
    "SIZE": "surroundings", "worker": "surroundings",
}


def __getattr__(name):  # type: (str) -> object
    """What is imported only when it is asked for."""
    if name not in LAZY:
        raise AttributeError("module 'microscoop' has no attribute %r" % name)
    from importlib import import_module
    return getattr(import_module("microscoop.leaves." + LAZY[name]), name)
