"""--check: every host is started as for a run, asked a few round trips and ended; one row each.
Runs in the launcher.

A second, short login through `ssh -L` then tells whether forwarding is allowed: sshd refuses that silently and only
when somebody connects, so nothing less than the whole way of --tunnel proves it. It comes after the first, so that a
host that lets nobody in is asked only once, and all hosts do both at the same time.
"""
from __future__ import annotations

import signal
import time
from typing import Any, NoReturn, Optional, Sequence

from .. import bootstrap, launch
from ..channel import Channel
from ..errors import HostError, Status
from ..files import Parcel
from ..hosts import Share
from ..job import Job, is_template
from ..loop import Loop
from ..protocol import End, Ping, ProtocolError, decode, encode

TRIPS = 5  # round trips, of which the shortest counts
ANSWER = 10  # seconds that all of them may take
GRACE = 4  # seconds that an agent has to end
LAST_WORDS = 0.5  # seconds that ssh has to say why an agent is gone


def run(job: Job) -> int:
    """Contact every host and print what was found; Status.FAILED if any failed. Raises UsageError."""
    _heed_signals()
    parcel = Parcel(job.script, job.send, job.folder)
    remote = [share for share in job.shares if not share.host.local]
    visits = visit(remote, job, parcel)
    through: dict[str, Visit] = {}
    if not is_template(job.ssh) and not job.tunnel:
        welcome = [share for share in remote if not visits[share.host.name].error]
        through = visit(welcome, job._replace(tunnel=True), parcel)
    names = [share.host.name for share in job.shares]
    rows = [_row(visits[name], through.get(name), job) if name in visits else _own_row(name, job) for name in names]
    print("\n".join(_aligned(rows)))
    return Status.FAILED if any(one.error for one in visits.values()) else Status.OK


def _heed_signals() -> None:
    """Those that end a program end this one by an exception, so that ssh is ended too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


# --- what is printed -----------------------------------------------------------------------------------------------

def _own_row(name: str, job: Job) -> list[str]:
    """This machine, which nobody needs to contact."""
    return [name, "ready", "-", *_facts({**bootstrap.facts(), "in_place": True}), "-", _files(True, job), "-"]


def _row(found: Visit, through: Optional[Visit], job: Job) -> list[str]:
    """The cells of one host; where it failed, the last one holds the words and, in a line of its own, the advice."""
    error = found.error
    if error:
        return [found.name, f"failed at {error.stage}", "\n".join(filter(None, error.told()))]
    facts, forwarding = found.facts, "-"
    if through or job.tunnel:
        forwarding = _forwarding(through.error if through else None)
    return [found.name, "ready", f"login {facts['login'] * 1000:.0f} ms", *_facts(facts),
            f"round trip {found.trip * 1000:.2f} ms", _files(facts["in_place"], job), forwarding]


def _facts(facts: dict[str, Any]) -> list[str]:
    cores, memory = facts["cores"], facts["memory"]
    return [str(facts["python"]), ".".join(map(str, facts["version"])), f"{cores} core{'s' * (cores != 1)}",
            f"{memory / 2 ** 30:.1f} GiB" if memory else "-"]


def _files(in_place: bool, job: Job) -> str:
    if not job.script:
        return "-"
    return "in place" if in_place else "sent"


def _forwarding(error: Optional[HostError]) -> str:
    if not error:
        return "forwarding allowed"
    if "forwarding" in error.advice:  # the table of cures has recognized the refusal
        return "forwarding refused"
    return f"forwarding unknown (stage {error.stage}: {error.words})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart; a second line in the last cell begins where the first one does."""
    widths = [max(len(row[place]) for row in rows if len(row) > place + 1)
              for place in range(max(map(len, rows)) - 1)]
    lines = []
    for row in rows:
        start = "".join(cell.ljust(width + 2) for cell, width in zip(row[:-1], widths))
        lines.append(start + row[-1].replace("\n", "\n" + " " * len(start)))
    return lines


# --- the visits ----------------------------------------------------------------------------------------------------

def visit(shares: Sequence[Share], job: Job, parcel: Parcel) -> dict[str, Visit]:
    """All of these hosts at once; by name, each with what was found or with its error. Raises UsageError."""
    loop = Loop()
    visits = {share.host.name: Visit(loop, share.host.name) for share in shares}
    try:
        for share in shares:
            visits[share.host.name].begin(share, job, parcel)
        while not all(one.over for one in visits.values()):
            loop.turn()
    finally:
        for one in visits.values():
            one.close()
    return visits


class Visit:
    """One login: the start, some round trips with the agent, and its end."""

    def __init__(self, loop: Loop, name: str) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}
        self.trip = ANSWER * 1.0  # seconds
        self.error: Optional[HostError] = None
        self.over = False
        self._loop, self._left = loop, TRIPS
        self._start: Optional[launch.Start] = None
        self._channel: Optional[Channel] = None

    def begin(self, share: Share, job: Job, parcel: Parcel) -> None:
        """Start ssh; what follows is called by the loop."""
        self._start = launch.Start(self._loop, share, job, parcel, self._settled)

    def close(self) -> None:
        """Let go of everything; ssh is ended if it still runs. May be called twice."""
        self.over = True
        if self._channel:
            self._loop.drop(self._channel)
        if self._start:
            self._start.close()
        self._channel = self._start = None

    def _end(self, error: Optional[HostError] = None) -> None:
        if not self.over:
            self.error = error
            self.close()

    def _settled(self) -> None:
        start = self._start
        assert start
        if not start.channel:
            return self._end(start.error)
        self.facts = start.facts
        self._channel = Channel(start.channel.fileno(), start.channel.fileno())
        self._loop.read(self._channel.reader, self._hear)
        self._loop.after(ANSWER, self._expire)
        self._ping()

    def _ping(self) -> None:
        assert self._channel
        self._loop.send(self._channel, encode(Ping(_microseconds())))

    def _hear(self) -> None:
        assert self._channel
        try:
            messages = [decode(frame) for frame in self._channel.receive()]
        except (EOFError, OSError):
            self._hung_up()
        except ProtocolError as error:
            self._fail(str(error))
        else:
            for message in messages:
                if isinstance(message, Ping) and self._left:
                    self._pong(message)

    def _pong(self, message: Ping) -> None:
        assert self._channel
        self.trip = min(self.trip, (_microseconds() - message.sent) / 1e6)
        self._left -= 1
        if self._left:
            self._ping()
        else:
            self._loop.send(self._channel, encode(End()))
            self._loop.after(GRACE, self._end)

    def _expire(self) -> None:
        if self._left and self._channel:
            self._fail(f"its agent gave no answer within {ANSWER} s")

    def _hung_up(self) -> None:
        assert self._channel
        self._loop.drop(self._channel)
        self._channel = None
        if self._left:
            self._loop.after(LAST_WORDS, lambda: self._fail("its agent has ended"))
        else:
            self._end()

    def _fail(self, words: str) -> None:
        said = self._start.complaints()[-1:] if self._start else []
        self._end(HostError(self.name, "ready", "; ".join([words, *said])))


def _microseconds() -> int:
    return int(time.monotonic() * 1e6)
