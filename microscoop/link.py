"""A process's end of its way to the broker, and what its threads sleep by.  Runs in processes that have threads.

    socket --> the reader thread ----------> handlers -- ring --> Bell of a thread that waits
           \\-> or a thread that listens --> handlers, and goes on

What comes is taken in by the reader thread; or by a thread that has nothing else to do and *listens* in its stead.
Then one thread wakes for a message, and not two of which one waits for the other: for a task that returns at once that
is a fifth of its time.  Meanwhile the reader thread sleeps on, since the socket is not among what it waits for: it has
that in an epoll(7) of its own.  Elsewhere than on Linux nobody listens.  Nor does the main thread where a signal's
handler may be called in it, which may wait for what comes in ways that we do not see.  And while a second thread waits
the reader thread does not sleep on: who listens may be kept all the same, say by an object's __del__.

All but what may block (`send`, `attend`, `hear`, `sleep`) is called under the owner's lock: so the frames are read, and
what they say is done, by one thread at a time and in their order.
"""
from __future__ import annotations

import os
import select
import threading
from _signal import set_wakeup_fd  # type: ignore[import-not-found]  # as in owner.py
from select import POLLIN, poll
from socket import MSG_DONTWAIT, socket
from typing import Any, List, Optional, Sequence, Tuple

from .channel import Frames, framed
from .protocol import Message, decode, encode
from .spin import Spin

LONGEST = 1e6              # seconds that `poll` is asked to wait at most: its integers end at 2e6
AT_ONCE = int(MSG_DONTWAIT)


class Link:
    """A process's socket to the broker (or to the agent that passes it on)."""

    def __init__(self, sock: Optional[socket] = None, name: str = "") -> None:
        self._sending = threading.Lock()
        self._frames = Frames()
        self._spin = Spin()                        # of who listens
        self._listens = False                      # a thread does
        self._heeds = False                        # signals write to the pipe for who listens
        self._others = 0                           # threads that wait and do not
        self._attended = True                      # the reader thread waits for the socket
        self._error: Optional[OSError] = None      # why it is lost, for `receive` to raise
        if sock is not None:
            self.connect(sock, name)

    def connect(self, sock: socket, name: str) -> None:
        """Lead there, if it was made before there was a socket."""
        self._socket, self.name = sock, name
        sock.setblocking(True)                     # whatever socket.setdefaulttimeout was told
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None    # the socket, while it is attended
        if self._epoll is not None:
            self._epoll.register(sock.fileno(), POLLIN)
        self._attends, self._hears = poll(), poll()
        self._wake, self._poke = os.pipe()         # for the reader thread
        self._stir, self._rouse = os.pipe()        # for who listens
        self._attends.register(sock.fileno() if self._epoll is None else self._epoll.fileno(), POLLIN)
        self._attends.register(self._wake, POLLIN)
        self._hears.register(sock.fileno(), POLLIN)
        self._hears.register(self._stir, POLLIN)
        os.set_blocking(self._poke, False)
        os.set_blocking(self._rouse, False)

    def send(self, *messages: Message) -> None:
        """Send whole messages; blocks while the other side is slow, which never stops reading.  Any thread may."""
        data = b"".join([framed(encode(message)) for message in messages])
        with self._sending:
            self._socket.sendall(data)

    def receive(self) -> List[Message]:
        """What has come, by one read; nothing if another thread was quicker.  Raises EOFError when the broker is gone,
        OSError if the socket is lost, or what we wait with."""
        if self._error is not None:
            raise self._error
        try:
            frames = self._frames.read(self._socket.fileno(), self._read)
        except BlockingIOError:
            return []
        return [decode(frame) for frame in frames]

    def _read(self, _: int, buffers: Sequence[memoryview]) -> int:
        return self._socket.recv_into(buffers[0], 0, AT_ONCE)

    # The reader thread

    def attend(self, seconds: Optional[float]) -> bool:
        """Wait until something has come, time is up, or somebody pokes; whether something has come."""
        return _has_come(self._attends.poll(_milliseconds(seconds)), self._wake)

    def poke(self) -> None:
        """End its waiting.  Any thread may, with the lock or without."""
        _write(self._poke)

    # Who listens

    def listen(self) -> bool:
        """Whether the calling thread listens, from now on; not if one does, be it itself beneath a signal's handler."""
        if self._listens or self._epoll is None:
            return False
        self._listens = True
        self._see_to_reader()
        return True

    def hear(self, seconds: Optional[float], may_spin: bool = False) -> bool:
        """As `attend`, but it is `rouse` that ends it early; and `receive` raises what it should."""
        try:
            wait, limit = self._hears.poll, _milliseconds(seconds)
            return _has_come(self._spin.wait(wait, limit) if may_spin else wait(limit), self._stir)
        except OSError as error:
            self._error = error
            return True

    def rouse(self) -> None:
        """End its waiting, or the next."""
        _write(self._rouse)

    def stop_listening(self) -> None:
        """The thread that listened does so no more."""
        self._listens = False
        self._see_to_reader()

    def heed_signals(self, whether: bool) -> None:
        """Have signals end its waiting, for the main thread.  Python calls a handler between two of its own steps: that
        of a signal which comes just before `poll` would be called after it, which may be never."""
        if whether:
            try:
                former = set_wakeup_fd(self._rouse, warn_on_full_buffer=False)
            except OSError as error:               # the script has closed it
                self._error = error
                return
            self._heeds = former < 0
            if former >= 0:                        # somebody else's
                set_wakeup_fd(former)
        elif self._heeds:
            self._heeds = False
            set_wakeup_fd(-1)

    def wait_too(self, threads: int) -> None:
        """So many more threads wait, or less, that do not listen."""
        self._others += threads
        self._see_to_reader()

    def _see_to_reader(self) -> None:
        """Have the reader thread wait for the socket if need be.  Not in a fork of the script's, which has the socket
        closed: what we wait with belongs to the parent as well."""
        attended = not self._listens or self._others > 0
        if attended != self._attended and self._socket.fileno() >= 0:
            self._attended = attended
            try:
                self._epoll.modify(self._socket.fileno(), POLLIN if attended else 0)
            except OSError as error:
                self._error = error


class Bell:
    """What a thread sleeps by until it is rung; if it listens, also until something has come for this process."""

    def __init__(self, link: Link, may_listen: bool = True, heeds: bool = False) -> None:
        """heeds: signals, in the main thread."""
        self._link, self._lock, self._heeds = link, threading.Lock(), heeds
        self._lock.acquire()                       # free: it was rung
        self._listens = self._hears = False        # its thread is to do so, and does
        self.may_listen, self.is_out = may_listen, False

    def take_out(self) -> None:
        """Before the first `sleep`, if its thread may listen."""
        self.is_out, self._listens = True, self._link.listen()
        if not self._listens:
            self._link.wait_too(1)
        elif self._heeds:
            self._link.heed_signals(True)

    def put_away(self) -> None:
        """After the last one, if it is out."""
        if self.is_out and self._listens:
            if self._heeds:
                self._link.heed_signals(False)
            self._link.stop_listening()
        elif self.is_out:
            self._link.wait_too(-1)
        self.is_out = False

    def ring(self) -> None:
        """End its `sleep`, or the next one."""
        if self._lock.locked():
            self._lock.release()
        if self._hears:                            # else it is awake, as a rule to take in what we ring for
            self._link.rouse()

    def sleep(self, seconds: Optional[float], may_spin: bool = False) -> bool:
        """Whether something has come."""
        if not self._listens:
            self._lock.acquire(timeout=-1 if seconds is None else seconds)
            return False
        self._hears = True                         # first: who rings looks at it last
        try:
            return not self._lock.acquire(False) and self._link.hear(seconds, may_spin)
        finally:
            self._hears = False


def _milliseconds(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else min(seconds, LONGEST) * 1000


def _has_come(ready: List[Tuple[int, int]], pipe: int) -> bool:
    """Whether anything of what `poll` has found is more than the pipe, which is just to wake us and is emptied."""
    woken = any(descriptor == pipe for descriptor, _ in ready)
    if woken:
        os.read(pipe, 4096)
    return len(ready) > woken


def _write(pipe: int) -> None:
    """Wake who waits for the other end."""
    try:
        os.write(pipe, b".")
    except BlockingIOError:                        # it has not even read the last ones: it will wake
        return
