"""Every message and its bytes.  Runs everywhere; channel.py carries them.

In a frame the first byte names the message, fixed numbers follow, and what is left is the body.  Bodies of tasks and
results are opaque here and in the broker: only the two ends of a task unpickle them.

No frame is longer than FRAME_LIMIT, and none that a process sends is longer than SAID_LIMIT, so that Relay can wrap it.
A body above INLINE stays with its sender, as a stream (streams.py), which the receiver asks for (`Pull`) and gets in
pieces (`Piece`).
"""
from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any, Container, Dict, List, Optional, Tuple, Type, Union

from .record import Record

FRAME_LIMIT = 1 << 19
SAID_LIMIT = FRAME_LIMIT - 64
INLINE = 1 << 18
WINDOW = 8 << 20
KEPT = (1 << 64) - 1               # as its first item: a stream that belongs to the whole call
NONSENSE = b"\0"                   # begins no message; what stands behind it was not even a frame


class ProtocolError(Exception):
    """What came is not a frame, or not a message, of this protocol; its sender is heard no more."""


# Between an owner, the broker and a worker --------------------------------------------------------------------------

class Block(Record):
    """owner -> broker -> worker: run items first .. first + items - 1 of a call."""
    owner: int
    call: int
    first: int
    items: int
    planned: int      # microseconds that it should take; 0: not known
    surplus: int      # items that the owner still has to give away
    size: int         # of a body that must be pulled (stream: call, first); 0: it is here
    function: int     # size of a function that travels apart (stream: call, KEPT); 0: it is in the body
    minor: int        # of the Python 3 that alone can run it, since functions in it travel by value; 0: any
    place: bytes = b""             # of the body that must be pulled, for whoever can open it there (streams.PLACE)
    function_place: bytes = b""
    body: Any = b""                # also a Memory, until it is made fit to be sent


class Result(Record):
    """worker -> broker -> owner: outcomes of items first .. first + items - 1."""
    owner: int
    call: int
    first: int
    items: int
    spent: int        # nanoseconds
    worker: int
    size: int         # as in Block
    place: bytes = b""
    body: Any = b""


class Taken(Record):
    """owner -> broker -> worker: the pulled result has arrived whole; forget it."""
    worker: int
    owner: int
    call: int
    first: int
    items: int


class Back(Record):
    """worker -> broker: items that were not begun and go to somebody else."""
    owner: int
    call: int
    first: int
    items: int


class Lost(Record):
    """broker -> owner: items that are yours again; the body says why, if the worker died."""
    call: int
    first: int
    items: int
    verdict: int      # FREE, CHARGED, ALONE, OVERDUE or UNMATCHED
    body: bytes = b""


# Not begun; begun: counts as an attempt; perhaps begun: run again one a block; begun, and ran too long: not again;
# not begun, and no worker has the Python that it needs: not again.
FREE, CHARGED, ALONE, OVERDUE, UNMATCHED = range(5)


class Drop(Record):
    """owner -> broker -> holders: nobody wants this call (0: any of that owner) any more."""
    owner: int
    call: int

    def covers(self, owner: int, call: int) -> bool:
        """Whether this call of this owner is one of those."""
        return owner == self.owner and self.call in (0, call)

    def purge(self, table: Dict[Any, Any]) -> List[Any]:
        """Take what is of those calls out of a table whose keys begin with owner and call; gives it."""
        return [table.pop(key) for key in list(table) if self.covers(*key[:2])]


class Quiet(Record):
    """origin -> broker: tell me when nobody has anything to do; and the same back, when that is so."""


class Unfit(Record):
    """worker -> broker: the script cannot be loaded on this host; why, in one line, then the traceback."""
    body: bytes = b""


class Remark(Record):
    """process <-> launcher: bytes from leaf to leaf, that begin with its name; the broker does nothing about it."""
    body: bytes = b""


class Idle(Record):
    """worker -> broker: whether I have something to run."""
    idle: int         # RUNNING, WAITING, FREED or DONE
    blocks: int = 0   # that have come so far; 0: some of them are not here whole


# Something; nothing, but tasks of mine sleep or are out; nothing, and none do; none do any more, since I said WAITING.
RUNNING, WAITING, FREED, DONE = range(4)


class Surplus(Record):
    """owner -> broker: I have items to give away and no credit, or many more than I said."""
    items: int


class Credit(Record):
    """broker -> owner: send so many blocks; so many workers share the work."""
    blocks: int
    workers: int


class Pull(Record):
    """receiver -> broker -> sender of a stream: send on, up to this offset."""
    to: int
    by: int
    owner: int
    call: int
    first: int
    upto: int


class Piece(Record):
    """sender -> broker -> receiver: the next bytes of a stream."""
    to: int           # who gets it; when it arrives, who sent it
    owner: int
    call: int
    first: int
    body: bytes = b""


# Between the head and an agent ---------------------------------------------------------------------------------------

class Spawn(Record):
    """head -> agent: fork a process of this kind under this id."""
    process: int
    kind: int


ORIGIN, WORKER = range(2)


class Up(Record):
    """agent -> head: the process runs."""
    process: int
    pid: int


class Died(Record):
    """agent -> head: how it ended (a waitpid status), and which items are charged with that (BEGUN triples)."""
    process: int
    status: int
    overdue: int = 0  # whether it was ended since these had run longer than --task-timeout
    body: bytes = b""


Begun = Tuple[int, int, int]      # owner, call, item: what a process is on
BEGUN = Struct("=QQQ")            # the same, as it has noted it in memory that its agent shares


class Kill(Record):
    """head -> agent: end this process with SIGKILL."""
    process: int


class End(Record):
    """head -> agent -> processes: the run is over."""


class Print(Record):
    """agent -> head: what a process wrote to its stdout (1) or stderr (2)."""
    process: int
    stream: int
    body: bytes = b""


class Printed(Record):
    """head -> agent: so many bytes of Print were dealt with."""
    size: int


class Ping(Record):
    """head -> agent, and back as it is."""
    sent: int         # microseconds on the head's clock


class Note(Record):
    """agent -> head: one line for the user."""
    body: bytes = b""


class Guard(Record):
    """launcher -> its own agent: if I die, end this process group (an ssh) and remove the directory in the body."""
    start: int        # which of my starts: a later Guard of the same one takes its place
    pid: int          # 0: none yet, or no more
    body: bytes = b""


class Relay(Record):
    """head <-> agent: a frame to or from one process of that host."""
    process: int
    body: bytes = b""


Message = Union[Block, Result, Taken, Back, Lost, Drop, Quiet, Unfit, Remark, Idle, Surplus, Credit, Pull,
                Piece, Spawn, Up, Died, Kill, End, Print, Printed, Ping, Note, Relay, Guard]

TABLE: Dict[int, Tuple[Type[Any], str]] = {
    1: (Block, "IIQIIQQQB16s16s"), 2: (Result, "IIQIQIQ16s"), 3: (Taken, "IIIQI"), 4: (Back, "IIQI"), 5: (Lost, "IQIB"),
    6: (Drop, "II"), 7: (Idle, "BI"), 8: (Surplus, "Q"), 9: (Credit, "II"), 10: (Pull, "IIIIQQ"), 11: (Piece, "IIIQ"),
    12: (Unfit, ""), 13: (Quiet, ""), 15: (Remark, ""),
    21: (Spawn, "IB"), 22: (Up, "IQ"), 23: (Died, "IIB"), 24: (Kill, "I"), 25: (End, ""),
    26: (Print, "IB"), 27: (Printed, "I"), 28: (Ping, "Q"), 29: (Note, ""), 30: (Relay, "I"),
    31: (Guard, "QQ"),
}
_PACK = {cls: (code, Struct("!B" + form).pack, cls._fields[-1:] == ("body",)) for code, (cls, form) in TABLE.items()}
_UNPACK = {code: (cls, Struct("!B" + form), cls._fields[-1:] == ("body",)) for code, (cls, form) in TABLE.items()}
BLOCK, LATER, IDLE = (_PACK[cls][0] for cls in (Block, Piece, Idle))       # pieces go behind all else
_CACHED = [_PACK[cls][0] for cls in (Pull, Piece, Drop)]


def idles(frame: bytes, blocks: int) -> bool:
    """Whether its sender has nothing to run, though it has what it was sent, so many blocks: an unfinished line of its
    output is all there will be for now.  Asked about every frame, so it is not decoded for that."""
    return len(frame) == 6 and frame[0] == IDLE and frame[1] != RUNNING and frame[2:] == blocks.to_bytes(4, "big")


def about_kept(frame: bytes) -> Optional[Message]:
    """The message in a frame, if an agent's cache has to do with it."""
    if frame[0] not in _CACHED:
        return None
    try:
        message: Any = decode(frame)
    except ProtocolError:                      # the launcher says so
        return None
    return message if type(message) is Drop or message.first == KEPT else None


def encode(message: Message) -> bytes:
    """The bytes of a message, without the frame's length."""
    code, pack, has_body = _PACK[type(message)]
    fields: Tuple[Any, ...] = message
    data: bytes = pack(code, *fields[:-1]) + fields[-1] if has_body else pack(code, *fields)
    return data


def decode(frame: bytes, known: Container[Type[Any]] = _PACK) -> Message:
    """The message in a frame, if it is one of those `known`.  Raises ProtocolError for anything else."""
    try:
        cls, form, has_body = _UNPACK[frame[0]]
        numbers = form.unpack_from(frame)[1:]
    except (IndexError, KeyError, StructError) as error:
        said = frame[len(NONSENSE):] if frame.startswith(NONSENSE) else frame
        raise ProtocolError("not a message: %r" % bytes(said[:32])) from error
    if cls not in known:
        raise ProtocolError("%s is not for this side to say" % cls.__name__)
    if has_body:
        return cls(*numbers, frame[form.size:])  # type: ignore[no-any-return]
    if len(frame) != form.size:
        raise ProtocolError("%d bytes too many after %s" % (len(frame) - form.size, cls.__name__))
    return cls(*numbers)  # type: ignore[no-any-return]
