"""Named values that every process can get, for shared.py.  Runs in the origin and in workers; board.py in the launcher.

    setter --Const--> Board --Const--> every process, also those that start later        who has the value of a name
    setter <--Named-- Board                   whether it was free; yes, to a worker, once the origin has a copy
    getter --Pull---> owner, through its host's cache                                    the value, once for each host

The Board lets a name be set once.  The origin copies what a worker has set and says so, and only then the setter goes
on: the value outlives it.  If it dies before, the name is free again.  All of it travels in Remarks.
"""
from __future__ import annotations

import pickle
import time
from struct import Struct, error
from typing import Any, Dict, List, Tuple, Union

from .. import child, futures, tasks
from ..calls import ring
from ..hooks import Stage, Watcher
from ..owner import Owner
from ..protocol import KEPT, Remark
from ..record import Record
from ..serial import Serial

TAG = __name__.rpartition(".")[2].encode() + b"\0"
CONST, NAMED = Struct("!BIQQQB16s"), Struct("!BQB")     # of the fields, but for `first` and `name`


class Const(Record):
    """setter -> Board -> every process: this name has a value, in a stream (call, KEPT) of its owner."""
    owner: int
    call: int
    size: int         # 0: its owner has died, and nobody has the value any more
    digest: int
    copy: int         # 1: of the origin's, which has copied what another process had set
    place: bytes      # as in Block
    name: bytes
    first: int = KEPT

    def arrived(self, owner: Owner, data: Any) -> None:
        """Its value is here."""
        of(owner).arrived(self, data)


class Named(Record):
    """Board -> setter: whether the name of the Const with this call was free."""
    call: int
    ours: int


def encode(said: Union[Const, Named]) -> Remark:
    """What travels."""
    if isinstance(said, Named):
        return Remark(TAG + NAMED.pack(1, *said))
    return Remark(TAG + CONST.pack(0, *said[:6]) + said.name)


def decode(body: bytes) -> Union[Const, Named, None]:
    """What a Remark says, if it is one of these."""
    try:
        if not body.startswith(TAG):
            return None
        if body[len(TAG)]:
            return Named(*NAMED.unpack_from(body, len(TAG))[1:])
        _, owner, call, size, digest, copy, place = CONST.unpack_from(body, len(TAG))
        return Const(owner, call, size, digest, copy, place, body[len(TAG) + CONST.size:])
    except (error, IndexError):                    # not of our making
        return None


def attend(stage: Stage) -> Watcher:
    """In the launcher, when the first of these has come."""
    from .board import Board
    return Board(stage.processes)


# What scripts call ---------------------------------------------------------------------------------------------------

def setConst(**constants: Any) -> None:
    """Give each of these names its value, once for the whole run.

    Raises TypeError if a name has a value already, and what pickling raises, naming the culprit.
    """
    table = of(futures._owner())
    for name, value in constants.items():
        if not table.set(name.encode(), tasks.pack(value, "the constant %s" % name)):
            raise TypeError("the constant %s is set already: a name gets its value once in a run" % name)


def getConst(name: str, timeout: float = 0.1) -> Any:
    """The value of a name: one object for all tasks of a process, which they must not change.

    timeout: seconds to wait until somebody sets it.  Raises TimeoutError if nobody does.
    """
    if not isinstance(name, str):
        raise TypeError("getConst takes the name of a constant, a str, not %r" % (name,))
    owner, key = futures._owner(), name.encode()
    table, limit = of(owner), time.monotonic() + timeout
    while key not in table.data:
        if not owner.wait(lambda: key in table.known, (table,), max(limit - time.monotonic(), 0)):
            raise futures._error("TimeoutError", "nobody has set the constant %s within %s s" % (name, timeout))
        table.fetch(key)
        owner.wait(lambda: key in table.data or key not in table.known, (table,))
    return table.value(key)


# What a process knows ------------------------------------------------------------------------------------------------

def told(body: bytes, owner: Owner) -> None:
    """What the Board has said; under the owner's lock."""
    said = decode(body)
    if isinstance(said, Const):
        of(owner).hear(said)
    elif said is not None:
        of(owner).answered(said)


def of(owner: Owner) -> Constants:
    """What this process knows."""
    if isinstance(owner, child.Loading):
        raise RuntimeError(child.GUARD % "getConst or setConst")
    with owner.lock:
        made: Constants = owner.leaves.get("constants") or (Alone if isinstance(owner, Serial) else Constants)(owner)
        owner.leaves["constants"] = made
    return made


class Constants:
    """Those that a process knows of; Owner.wait can watch it.  The owner's lock is taken here where it is needed."""

    left = 0                   # nothing of it could be run here instead of waiting

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._copies = owner.is_origin
        self.waiters: List[Any] = []
        self.known: Dict[bytes, Const] = {}
        self.data: Dict[bytes, Any] = {}           # their pickles, as far as they are here; empty once they are values
        self._values: Dict[bytes, Any] = {}
        self._answers: Dict[int, bool] = {}
        self._pulled: Dict[bytes, Tuple[int, int]] = {}        # on their way from (owner, call)

    def set(self, name: bytes, data: bytes) -> bool:
        """Give a name its value; False if it has one already.  Waits for the Board's answer."""
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
        self._owner.link.send(encode(Const(number, call, len(data), digest, int(copy), place, name)))

    # Under the lock of the owner, in whatever thread takes in what comes

    def hear(self, message: Const) -> None:
        """Who has the value of a name now; size 0: nobody any more."""
        name, owner = message.name, self._owner
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
        name = message.name
        with self._owner.lock:
            if self._pulled.get(name) != (message.owner, message.call):
                return                             # its owner has died meanwhile
            del self._pulled[name]
            self.data[name] = data = bytes(data) if self._copies else data
            ring(self.waiters)
        if self._copies:
            self._publish(name, self._owner.serial(), data, True)


class Alone(Constants):
    """The constants of a process that is all there is."""

    def set(self, name: bytes, data: bytes) -> bool:
        if name in self.data:
            return False
        self.data[name] = data
        return True
