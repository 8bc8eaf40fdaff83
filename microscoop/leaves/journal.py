"""--resume: a journal of what the origin's maps and submits gave, so that a run goes on where it was stopped.

Runs in the origin; `watch` in the launcher refuses a wrong file before anything starts.  An item is found again by its
function, the version of that (see versions.py) and its pickled arguments, not by its position; equal items that were
run k times stand there k times, and each entry is used once.  With --seed its position is part of it.

The file: MAGIC, then records: HEAD (size, checksum, number of the function, key) and so many bytes.  Function 0 is no
item: it gives the next function its number, with name and version.  A record is written at once and whole, when its
outcome comes in, so whatever is killed takes none along; a torn one at the end is cut off when the file is opened.
"""
from __future__ import annotations

import fcntl
import json
import os
import pickle
import stat
import threading
import time
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .. import tasks
from ..child import Settings
from ..errors import UsageError, say
from ..hooks import Stage, Watcher
from ..owner import Owner
from .dressed import Dressed
from .versions import Versions, settled

MAGIC = b"microscoop journal 1\n"
HEAD = Struct("!QII16s")
KEY, AT = 16, Struct("!Q")             # bytes of a key; where the record of an item begins
BATCH = 1000                           # items that are looked for at a time
SMALL = 256                            # bytes: most records are no longer
PATIENCE = 5.0                         # seconds in which a run that was just killed lets go of the file

Function = Tuple[str, str]             # name, version


def watch(value: str, stage: Stage) -> Watcher:
    """Raises UsageError for a file that cannot be used."""
    os.close(opened(value))
    return Watcher()


def enter_origin(value: str, owner: Owner, settings: Settings) -> None:
    """Ask and tell the journal about each item.  Raises UsageError."""
    kept = Journal(value)
    os.register_at_fork(after_in_child=kept.close)     # a child of the script's must not hold the lock
    owner.recorder = kept.record


def opened(path: str) -> int:
    """The descriptor of a journal, new or not, that is ours alone.  Raises UsageError, which ends this process."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
        _make_ready(file, path)
    except OSError as error:
        raise UsageError("--resume: cannot use %r: %s" % (path, error.strerror)) from None
    return file


def _make_ready(file: int, path: str) -> None:
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > limit:
                raise UsageError("--resume: another run is using %r; give each run a journal of its own"
                                 % path) from None
            time.sleep(0.05)
    begin = os.pread(file, len(MAGIC), 0)
    if not stat.S_ISREG(os.fstat(file).st_mode) or not MAGIC.startswith(begin):
        raise UsageError("--resume: %r is no journal; name a new file, or one that --resume has made" % path)
    if begin != MAGIC:                             # new, or torn at once
        os.ftruncate(file, 0)
        os.write(file, MAGIC)


class Journal:
    """The file, and what former runs have left in it."""

    def __init__(self, path: str) -> None:
        self._path, self._file = path, opened(path)
        self._lock = threading.Lock()
        self._functions: Dict[Function, int] = {}
        self._counts: Dict[Function, int] = {}     # entries of former runs
        self._rows: List[bytes] = []               # key and place of each entry, sorted; without the place: used
        self._said: Set[str] = set()               # names of functions whose other versions were mentioned
        self._versions = Versions()
        self._full = False                         # nothing more can be written
        self._load()

    def record(self, function: Any) -> Record:
        """What is kept of this function."""
        name, version = self._versions.of(function)
        self._mention(name, version)
        pickled = settled(tasks.pack(function, "the function", function))
        return Record(self, (name, version), pickled, isinstance(function, Dressed))

    def _mention(self, name: str, version: str) -> None:
        """Say so if there are entries of another version."""
        nameless = "<" in name                     # there may be several
        if name in self._said or nameless and (name, version) in self._functions:
            return
        self._said.add(name)
        count = sum(count for (known, other), count in self._counts.items() if known == name and other != version)
        if count:
            _say("%d result(s) of %s are of %s, and not used" % (count, name, "another function that is called so, or "
                 "another version of this one" if nameless else "another version of it"))

    def close(self) -> None:
        """Let go of the file, once: forks of forks come here, too."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # Reading

    def _load(self) -> None:
        with open(self._file, "rb", 1 << 20, closefd=False) as file:
            file.seek(len(MAGIC))
            end = at = file.tell()
            counts: Counter[int] = Counter()
            for number, key, data in _records(file):
                end = file.tell()
                if number:
                    self._rows.append(key + AT.pack(at))
                    counts[number] += 1
                else:
                    name, version = json.loads(data)
                    self._functions[name, version] = len(self._functions) + 1
                at = end
            size = file.seek(0, os.SEEK_END)
        self._counts = {function: counts[number] for function, number in self._functions.items()}
        if size > end:
            _say("the last %d bytes of %r are no whole record: cut off" % (size - end, self._path))
            os.ftruncate(self._file, end)
        self._rows.sort()

    def has_any(self) -> bool:
        """Whether former runs have left anything."""
        return bool(self._rows)

    def find(self, keys: Sequence[bytes]) -> List[Optional[int]]:
        """Where the entries of these items are; None: there is none, or it is used already."""
        with self._lock:
            return [self._take(key) for key in keys]

    def _take(self, key: bytes) -> Optional[int]:
        at = bisect_left(self._rows, key + b"\0")  # used ones are shorter, and before that
        if at == len(self._rows) or not self._rows[at].startswith(key):
            return None
        row, self._rows[at] = self._rows[at], key
        return AT.unpack(row[KEY:])[0]  # type: ignore[no-any-return]

    def entry(self, at: int) -> Any:
        """The outcome that begins there."""
        data = os.pread(self._file, SMALL, at)
        size = HEAD.size + HEAD.unpack_from(data)[0]
        if size > SMALL:
            data = os.pread(self._file, size, at)
        return pickle.loads(memoryview(data)[HEAD.size:])

    # Writing

    def keep(self, function: Function, entries: Sequence[Tuple[bytes, Any]]) -> None:
        """Write the outcomes of these items."""
        with self._lock:
            number, parts = self._functions.get(function, 0), []
            if not number:
                number = self._functions[function] = len(self._functions) + 1
                parts.append(_framed(0, bytes(KEY), json.dumps(function).encode()))
            parts += [_framed(number, key, tasks.pickled(entry)) for key, entry in entries]
            self._write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest and not self._full:
                rest = rest[os.write(self._file, rest):]
        except OSError as error:                   # the run goes on
            self._full = True
            _say("cannot write to %r: %s; what ends from now on is not kept" % (self._path, error.strerror))


class Record:
    """What is kept of one function, for one map or submitted task."""

    def __init__(self, journal: Journal, function: Function, pickled: bytes, positional: bool) -> None:
        self._journal, self._function, self._positional = journal, function, positional
        self._base = blake2b(json.dumps(function).encode() + pickled, digest_size=KEY)

    def known(self, first: int, columns: Sequence[tasks.Column]) -> List[Tuple[int, Kept]]:
        """Those of these items that former runs have done: first item, outcomes."""
        runs: List[Tuple[int, Kept]] = []
        if not self._journal.has_any():
            return runs
        keys, number, stop = self._keys(first, columns), first, -1
        for batch in iter(lambda: list(islice(keys, BATCH)), []):
            for at in self._journal.find(batch):
                if at is not None:
                    if number != stop:
                        runs.append((number, Kept(self._journal)))
                    runs[-1][1].places.append(at)
                    stop = number + 1
                number += 1
        return runs

    def keep(self, first: int, columns: Sequence[tasks.Column], outcomes: Sequence[Any]) -> None:
        """These items are done; what failed is not kept."""
        entries = [(key, entry) for key, entry in zip(self._keys(first, columns), outcomes) if not tasks.failed(entry)]
        if entries:
            self._journal.keep(self._function, entries)

    def _keys(self, first: int, columns: Sequence[tasks.Column]) -> Iterator[bytes]:
        """A digest for each item: the same however its arguments happen to travel."""
        pickles = [column if isinstance(column, tuple) else map(tasks.pickled, column) for column in columns]
        for number, arguments in enumerate(zip(*pickles), first):
            key = self._base.copy()
            for data in map(settled, arguments):
                key.update(b"%d:%b" % (len(data), data))
            if self._positional:
                key.update(b"%d" % number)
            yield key.digest()


class Kept(tasks.Outcomes):
    """Outcomes that are in the journal; each is read when somebody takes it."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self.places = journal, array("Q")

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Any]:
        return map(self._journal.entry, self.places)


def _framed(number: int, key: bytes, data: bytes) -> bytes:
    return HEAD.pack(len(data), zlib.crc32(data, zlib.crc32(key)), number, key) + data


def _records(file: BinaryIO) -> Iterator[Tuple[int, bytes, bytes]]:
    """Function, key and data of each record, up to the first that is not whole."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    while left >= HEAD.size:
        size, checksum, number, key = HEAD.unpack(file.read(HEAD.size))
        left -= HEAD.size + size
        data = file.read(size) if left >= 0 else b""
        if left < 0 or zlib.crc32(data, zlib.crc32(key)) != checksum:
            return
        yield number, key, data


def _say(text: str) -> None:
    say("microscoop: --resume: " + text)
