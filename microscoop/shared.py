"""Constants that every task can read, wherever it runs: set once, sent once to each host.  In the origin, in tasks.

    from microscoop import shared
    shared.setConst(table=table)          in the script, or in a task
    shared.getConst("table")              in any task, also in a process that starts later

A value that the script can build when it is loaded is shared more cheaply as a name at its top level.
"""
from __future__ import annotations

import time
from typing import Any

from . import futures, tasks


def setConst(**constants: Any) -> None:
    """Give each of these names its value, once for the whole run.

    Raises TypeError if a name has a value already, and what pickling raises, naming the culprit.
    """
    table = futures._owner().constants
    for name, value in constants.items():
        if not table.set(name.encode(), tasks.pack(value, "the constant %s" % name)):
            raise TypeError("the constant %s is set already: a name gets its value once in a run" % name)


def getConst(name: str, timeout: float = 0.1) -> Any:
    """The value of a name: one object for all tasks of a process, which they must not change.

    timeout: seconds to wait until somebody sets it.  Raises TimeoutError if nobody does.
    """
    owner, key = futures._owner(), name.encode()
    table, limit = owner.constants, time.monotonic() + timeout
    while key not in table.data:
        if not owner.wait(lambda: key in table.known, (table,), max(limit - time.monotonic(), 0)):
            raise futures._error("TimeoutError", "nobody has set the constant %s within %s s" % (name, timeout))
        table.fetch(key)
        owner.wait(lambda: key in table.data or key not in table.known, (table,))
    return table.value(key)
