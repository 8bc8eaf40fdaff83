"""Constants that every task can read: set once, sent to each host once.  Runs in the origin and in tasks.

    from microscoop import shared
    shared.setConst(table=table)          in the script, or in a task
    shared.getConst("table")              in any task, also in a process that starts later

A value that the script can build when it is loaded is shared more cheaply as a name at its top level.
"""
from .leaves.constants import getConst, setConst

__all__ = ["getConst", "setConst"]
