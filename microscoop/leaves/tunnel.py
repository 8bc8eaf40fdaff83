"""Both ends of --tunnel: a socket here, forwarded by `ssh -L` to one on the host, where the agent listens.

The launcher makes a Tunnel before ssh starts and connects when the host says that it listens; accept_head() runs on
the host, before there is an agent. Each socket lies in a fresh directory of its own (0700) that is removed as soon as
the two have met. The secrets reach the host through ssh's stdin.
"""
from __future__ import annotations

import hmac
import multiprocessing
import os
import re
import shutil
import socket
import struct
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from typing import Callable

from ..errors import UsageError

CONNECT = 20  # seconds that the head has to come
HANDSHAKE = 5  # seconds that each message of the handshake may take
STRANGERS = 200  # connections that may wait on the host at once; beyond it the oldest is dropped
TICKET = 32  # bytes


class Tunnel:
    """The launcher's end."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(base) > 60 or re.search("[^A-Za-z0-9/_.-]", base):
            base = "/tmp"  # a socket's name has at most some 100 bytes, and ssh gives a meaning to : % $ and more
        self.directory = os.path.join(base, "microscoop-" + os.urandom(8).hex())
        self._here = os.path.join(self.directory, "s")
        self._there = f"/tmp/microscoop-{os.urandom(8).hex()}/s"
        self._key, self._ticket = os.urandom(32), os.urandom(TICKET)
        self.options = ("-o", "StreamLocalBindUnlink=yes", "-L", f"{self._here}:{self._there}")  # for ssh

    def make(self) -> None:
        """Make the directory.  Raises UsageError."""
        try:
            os.mkdir(self.directory, 0o700)
        except OSError as error:
            raise UsageError(f"--tunnel: no directory can be made here for its socket: {error}") from None

    def order(self) -> dict[str, str]:
        """What the host is told through ssh's stdin."""
        return {"socket": self._there, "key": self._key.hex(), "ticket": self._ticket.hex()}

    def connect(self) -> socket.socket:
        """The connection to the agent, once it listens. Blocks for as long as the handshake takes.

        Raises OSError, EOFError or ValueError; where ssh may not forward, that is an immediate end of file.
        """
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect(self._here)
            one.sendall(self._ticket)
            shake_hands(one, self._key, True)
        except BaseException:                      # whatever it is, it is raised on: only the socket is ours
            one.close()
            raise
        one.setblocking(False)
        return one

    def close(self) -> None:
        """Remove the socket's directory; ssh leaves its sockets behind."""
        shutil.rmtree(self.directory, ignore_errors=True)


def accept_head(stdin: int, order: dict[str, str], listening: Callable[[], None]) -> int:
    """On the host: the one connection that proves to be the head's; nothing listens any more when this returns.

    Whoever connects must first show the ticket, which the head sends unasked; only then are hands shaken. So strangers,
    however many and however silent, cost no time: they wait in `pending`, and the head overtakes them. Raises EOFError
    if the head does not come or its end of stdin is closed, OSError if the socket cannot be made.
    """
    pending: dict[socket.socket, bytes] = {}
    directory = os.path.dirname(order["socket"])
    os.mkdir(directory, 0o700)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(order["socket"])
        listener.listen(64)
        listener.setblocking(False)
        listening()
        limit = time.monotonic() + CONNECT
        while time.monotonic() < limit:
            ready = wait([stdin, listener, *pending], 1)
            if stdin in ready:
                break  # the head says nothing there: it is gone
            if listener in ready:
                _let_in(listener, pending)
            for one in pending.keys() & set(ready):
                if _is_head(one, pending, order):
                    return one.detach()
        raise EOFError
    finally:
        for one in (listener, *pending):
            one.close()
        shutil.rmtree(directory)


def _let_in(listener: socket.socket, pending: dict[socket.socket, bytes]) -> None:
    try:
        stranger = listener.accept()[0]
    except OSError:
        return  # it has gone again
    stranger.setblocking(False)
    pending[stranger] = b""
    if len(pending) > STRANGERS:
        oldest = next(iter(pending))
        del pending[oldest]
        oldest.close()


def _is_head(one: socket.socket, pending: dict[socket.socket, bytes], order: dict[str, str]) -> bool:
    """Whether it shows the ticket and has the key; if not, and unless it is still talking, it is closed."""
    shown = pending.pop(one)
    with suppress(OSError, EOFError, ValueError):  # a stranger, or one that has gone: being closed is its answer
        heard = one.recv(TICKET - len(shown))
        shown += heard
        if heard and len(shown) < TICKET:
            pending[one] = shown
            return False
        if hmac.compare_digest(shown, bytes.fromhex(order["ticket"])):
            one.setblocking(True)
            shake_hands(one, bytes.fromhex(order["key"]), False)
            return True
    one.close()
    return False


def shake_hands(one: socket.socket, key: bytes, is_head: bool) -> None:
    """Each side proves to the other that it has the key; raises OSError, EOFError or ValueError if that fails."""
    _limit(one, HANDSHAKE)
    connection = Connection(os.dup(one.fileno()))
    steps = (answer_challenge, deliver_challenge) if is_head else (deliver_challenge, answer_challenge)
    try:
        for step in steps:
            step(connection, key)  # which accept messages of 256 bytes at most, and unpickle nothing
    except multiprocessing.AuthenticationError as error:
        raise ValueError(str(error)) from None
    finally:
        connection.close()
    _limit(one, 0)


def _limit(one: socket.socket, seconds: int) -> None:
    """How long one read or write may block; 0: for ever."""
    for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        one.setsockopt(socket.SOL_SOCKET, name, struct.pack("ll", seconds, 0))
