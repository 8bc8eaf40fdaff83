"""microscoop: `futures.map` over processes here and on other machines; imported in every process, keeps no state.

Parses on old Pythons too, so that __main__.py can name the one that is needed. See __main__.py, then cli.py.
"""
__version__ = "1.0.0"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from microscoop.leaves.executor import Executor as Executor


def __getattr__(name):  # type: (str) -> object
    """What is imported only when it is asked for."""
    if name == "Executor":
        from microscoop.leaves.executor import Executor
        return Executor
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
