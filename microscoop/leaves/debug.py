"""MICROSCOOP_DEBUG=1: a line on stderr for every frame.  Runs in the launcher, the origin and the workers.

    11:37:04.413512 launcher -> process 3: Block owner=1 call=1 first=0 items=1 planned=0 surplus=8 body=53 B
    11:37:04.413790 process 3 <- launcher: Block owner=1 call=1 first=0 items=1 planned=0 surplus=8 body=53 B

The time is that of the machine, at the moment when the frame is queued or taken in.  Agents write nothing, as their
stderr is ssh's: the launcher shows what it says to them and hears, and what they relay in full; the processes the rest.
"""
from __future__ import annotations

import os
import time
from typing import Any, List

from ..channel import Channel
from ..hooks import Stage, Watcher
from ..link import Link
from ..protocol import Message, ProtocolError, Relay, decode
from ..streams import PLACE


def watch(value: object, stage: Stage) -> Watcher:
    """What the launcher says and hears; the agent that it forks has the same class, and stays silent."""
    launcher, send, read = os.getpid(), Channel.send, Channel.read

    def traced_send(self: Channel, payload: bytes, later: bool = False) -> None:
        if os.getpid() == launcher:
            _say("launcher", "->", self.peer, _read(payload))
        send(self, payload, later)

    def traced_read(self: Channel) -> List[bytes]:
        frames = read(self)
        if os.getpid() == launcher:
            for frame in frames:
                _say("launcher", "<-", self.peer, _read(frame))
        return frames

    Channel.send, Channel.read = traced_send, traced_read  # type: ignore[method-assign]
    return Watcher()


def enter_process(value: object, settings: object) -> None:
    """What this process says and hears."""
    send, receive = Link.send, Link.receive

    def traced_send(self: Link, *messages: Message) -> None:
        for message in messages:
            _say(self.name, "->", "launcher", _words(message))
        send(self, *messages)

    def traced_receive(self: Link) -> List[Message]:
        messages = receive(self)
        for message in messages:
            _say(self.name, "<-", "launcher", _words(message))
        return messages

    Link.send, Link.receive = traced_send, traced_receive  # type: ignore[method-assign]


def _read(frame: bytes) -> str:
    try:
        return _words(decode(frame))
    except ProtocolError as error:                 # who takes it in does something about it
        return str(error)


def _words(message: Message) -> str:
    """Its fields; of a body the size, but what is relayed in full; of a place the process and its descriptor."""
    fields: Any = dict(zip(message._fields, message))
    body = fields.pop("body", None)
    words = [type(message).__name__]
    for name, value in fields.items():
        if type(value) is int:
            words.append("%s=%d" % (name, value))
        elif any(value):
            words.append("%s=%d/%d" % (name, *PLACE.unpack(value)[:2]))
    if body is not None:
        words.append(_read(body) if isinstance(message, Relay) else "body=%d B" % len(body))
    return " ".join(words)


def _say(process: str, way: str, peer: str, words: str) -> None:
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.localtime(now)) + ".%06d" % (now % 1 * 1e6)
    try:
        os.write(2, ("%s %s %s %s: %s\n" % (stamp, process, way, peer, words)).encode())
    except OSError:                                # nobody reads it; the run goes on
        return
