"""Named values that every process can get; shared.py is what users see of it.  Runs in the origin and in workers.

    setter --Const--> broker --Const--> every process, also those that start later       who has the value of a name
    setter <--Named-- broker                  whether it was free; yes, to a worker, once the origin has a copy
    getter --Pull---> owner, through its host's cache                                    the value, once for each host

The broker lets a name be set once.  The origin copies what a worker has set and says so, and only then the setter goes
on: the value outlives it.  If it dies before, the name is free again.
"""
from __future__ import annotations

import pickle
from typing import Any, Dict, List, Tuple

from .calls import ring
from .protocol import KEPT, Const, Named


class Constants:
    """Those that a process knows of; Owner.wait can watch it.  The owner's lock is taken here where it is needed."""

    left = 0                   # nothing of it could be run here instead of waiting

    def __init__(self, owner: Any, copies: bool) -> None:
        self._owner = owner
        self._copies = copies                      # it is the origin's
        self.waiters: List[Any] = []
        self.known: Dict[bytes, Const] = {}
        self.data: Dict[bytes, Any] = {}           # their pickles, as far as they are here; empty once they are values
        self._values: Dict[bytes, Any] = {}
        self._answers: Dict[int, bool] = {}
        self._pulled: Dict[bytes, Tuple[int, int]] = {}        # on their way from (owner, call)

    def set(self, name: bytes, data: bytes) -> bool:
        """Give a name its value; False if it has one already.  Waits for the broker's answer."""
        call = self._owner.serial()
        self._publish(name, call, data, False)
        self._owner.sleep(lambda: call in self._answers, (self,))
        with self._owner.lock:
            ours = self._answers.pop(call)
            if ours:
                self.data[name] = data
            else:
                self._owner.streams.withdraw(self._owner.number, call, KEPT)
        return ours

    def fetch(self, name: bytes) -> None:
        """Have the value of a known name brought here."""
        with self._owner.lock:
            const = self.known.get(name)
            if const is None or name in self.data or name in self._pulled:
                return
            self._pulled[name] = const.owner, const.call
        self._owner.pull(const, const.owner)

    def value(self, name: bytes) -> Any:
        """The value, once its data is here; one object in this process.  Raises whatever rebuilding it raises."""
        data = self.data[name]
        if name not in self._values:
            self._values.setdefault(name, pickle.loads(data))
            self.data[name] = b""                  # it may hold a descriptor; read above, since other threads ask, too
        return self._values[name]

    def _publish(self, name: bytes, call: int, data: bytes, copy: bool) -> None:
        import hashlib  # rarely needed: not worth 3 ms of every start
        number = self._owner.number
        digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
        with self._owner.lock:
            place = self._owner.streams.offer((number, call, KEPT), data)
        self._owner.link.send(Const(number, call, KEPT, len(data), digest, int(copy), place, name))

    # The reader thread

    def hear(self, message: Const) -> None:
        """Who has the value of a name now; size 0: nobody any more."""
        name, owner = bytes(message.body), self._owner
        with owner.lock:
            before = self._pulled.pop(name, None)
            if before is not None:                 # its owner may be dead by now
                owner.streams.forget((*before, KEPT))
            if message.size:
                self.known[name] = message
            elif name not in self.data:
                self.known.pop(name, None)
            ring(self.waiters)
        if before is not None or self._copies and message.owner != owner.number:
            self.fetch(name)

    def answered(self, message: Named) -> None:
        """Whether a name is ours."""
        with self._owner.lock:
            self._answers[message.call] = bool(message.ours)
            ring(self.waiters)

    def arrived(self, message: Const, data: Any) -> None:
        """The value of a name is here."""
        name = bytes(message.body)
        with self._owner.lock:
            if self._pulled.get(name) != (message.owner, message.call):
                return                             # its owner has died meanwhile
            del self._pulled[name]
            self.data[name] = data = bytes(data) if self._copies else data
            ring(self.waiters)
        if self._copies:
            self._publish(name, self._owner.serial(), data, True)
