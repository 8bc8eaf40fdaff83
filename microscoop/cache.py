"""What every worker of a host needs, fetched once for all of them: functions with data.  Runs in agents.

    worker --Pull--> cache --Pull--> owner        for the first that asks, and for whoever needs more than is here
    worker <--Piece- cache <--Piece- owner        what has come goes to all who asked for it

The stream of such a thing has KEPT for its first item.  It is held until a Drop says that nobody wants it, or until
the last process that asked has ended.
"""
from __future__ import annotations

from typing import Callable, Dict, Tuple

from .protocol import INLINE, KEPT, Drop, Message, Piece, Pull


class Entry:
    """One stream, as far as it has come."""
    __slots__ = ("data", "askers", "front", "came", "asked")

    def __init__(self) -> None:
        self.data = bytearray()
        self.askers: Dict[int, Tuple[int, int]] = {}   # process -> what it has been sent, what it asked for
        self.front = 0             # the process in whose name we ask; what comes for it is for all
        self.came = self.asked = 0     # since it is that one


class Cache:
    """The streams that processes of this host ask for."""

    def __init__(self, up: Callable[[int, Message], None], down: Callable[[int, Message], None]) -> None:
        self._up, self._down = up, down            # (process, what it says or hears)
        self._entries: Dict[Tuple[int, int], Entry] = {}       # (owner, call)

    def pull(self, process: int, message: Pull) -> None:
        """A process asks for more."""
        entry = self._entries.setdefault((message.owner, message.call), Entry())
        sent, _ = entry.askers.get(process, (0, 0))
        entry.askers[process] = sent, message.upto
        self._serve(entry, message)

    def hear(self, process: int, message: Message) -> bool:
        """Something is on its way to a process: whether it is to go on."""
        if isinstance(message, Drop):
            message.purge(self._entries)
        if not isinstance(message, Piece):
            return True
        entry = self._entries.get((message.owner, message.call))
        if entry is None or process != entry.front:
            return False
        entry.data += message.body[max(len(entry.data) - entry.came, 0):]      # another front may have had it already
        entry.came += len(message.body)
        self._serve(entry, Pull(message.to, 0, message.owner, message.call, KEPT, 0))
        return False

    def gone(self, process: int) -> None:
        """A process has ended."""
        for (owner, call), entry in list(self._entries.items()):
            entry.askers.pop(process, None)
            if not entry.askers:
                del self._entries[owner, call]
            elif process == entry.front:
                entry.front = entry.came = entry.asked = 0
                self._serve(entry, Pull(owner, 0, owner, call, KEPT, 0))

    def _serve(self, entry: Entry, message: Pull) -> None:
        """Send on what is here, and ask for what is not."""
        for process, (sent, upto) in entry.askers.items():
            while sent < min(upto, len(entry.data)):
                stop = min(sent + INLINE, upto, len(entry.data))
                self._down(process, Piece(message.to, message.owner, message.call, KEPT, bytes(entry.data[sent:stop])))
                sent = stop
            entry.askers[process] = sent, upto
        wanted = max(upto for _, upto in entry.askers.values())
        if wanted > max(entry.asked, len(entry.data)):
            entry.front, entry.asked = entry.front or next(iter(entry.askers)), wanted
            self._up(entry.front, message._replace(by=entry.front, upto=wanted))
