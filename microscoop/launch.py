"""The start of one remote host: its name -> ssh -> stages -> a channel to its agent, or advice.  Runs in the launcher.

    launcher                                          host                                             stage
    ssh HOST exec sh -s microscoop ... ─────────────▶ login shell, then sh                             ssh, shell
    one text for sh ────────────────────────────────▶ the prolog, then the first Python that will do   prolog, python
    ◀────────────── noise, marks, and the nonce ───── LOADER
    bootstrap.py, the order, microscoop ────────────▶ bootstrap.main()                                 version
    ◀───────── facts; are the files in place? ─────── compares digests                                 files
    the files, unless they are ─────────────────────▶ private directory                                script
    ◀───────────────────────────────── "ready" ────── forks: the agent, and a janitor who waits for it ready

Nothing but the text is sent before the nonce has come, since a shell may read ahead. So no shell but sh ever sees more
than plain words: the prolog and the like reach sh through its stdin.
"""
from __future__ import annotations

import json
import os
import pkgutil
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Union

from . import hooks
from .channel import Channel, framed
from .errors import HostError
from .files import PACKAGE, Parcel
from .hosts import Host, Share
from .job import Job, is_template
from .loop import Loop
from .record import Record
from .shell import marker, shell_text

if TYPE_CHECKING:
    from .leaves.tunnel import Tunnel

PATIENCE = 30  # seconds for the login, and as many for the rest
SLOWEST = 50_000  # bytes per second that a line should carry at least
CLEANING = 0.3  # seconds for a janitor, which is in ssh's group where the way to the host is a template
LONGEST = 1 << 20  # bytes of a message, and of what is kept of noise and complaints
PAUSES = (0.5, 1, 2)  # seconds, and up to twice as many, before an sshd that hung up at once is asked again
HUNG_UP = "kex_exchange|banner exchange|reset by|closed by"  # that is all that ssh says then

SSH_OPTIONS = ("-x", "-T", "-o", "RemoteCommand=none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
               "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2")


class Cure(Record):
    """What to do about a failed start: one row of the table of advice, of which the first counts that fits."""

    stage: str  # "": any
    found: str  # regular expression for a line of ssh's or the host's
    advice: str
    command: str = ""  # {ssh} leads to the host, {0} is what the expression's group found


CHANGED = "its key is another one than before: ask who runs it, and if that is right forget the old one"
CURES = (
    Cure("ssh", r"Host key for ([^\s']+) has changed", CHANGED, "ssh-keygen -R '{0}'"),  # as known_hosts has its name
    Cure("ssh", "REMOTE HOST IDENTIFICATION HAS CHANGED", CHANGED, "ssh-keygen -R {host}"),
    Cure("ssh", "Host key verification failed|host key is known",
         "its key is not known here: log in once by hand, compare the key and accept it", "{ssh} true"),
    Cure("ssh", "Permissions [0-9]+ for '(.*)' are too open", "others can read your key", "chmod 600 {0}"),
    Cure("ssh", "Too many authentication failures",
         "ssh offers it too many keys: name the right one in ~/.ssh/config (IdentityFile, IdentitiesOnly yes)"),
    Cure("ssh", "passphrase of key (.*)", "your key has a passphrase: give it to ssh-agent once", "ssh-add {0}"),
    Cure("ssh", r"Permission denied \((?!.*publickey)",
         "it takes passwords only, and nobody can type one here: have keys allowed there, or log in by hand with "
         "ControlMaster and ControlPersist set in ~/.ssh/config", "{ssh} true"),
    Cure("ssh", "Permission denied",
         "no key of yours opens this account: is the user right, and is your key in authorized_keys there?",
         "ssh-copy-id {host}"),
    Cure("ssh", "Connection refused", "no sshd listens there: is it up, is the port right?", "{ssh} true"),
    Cure("ssh", "Could not resolve|not known",
         "nobody knows this name: check it, or give it a HostName in ~/.ssh/config", "{ssh} true"),
    Cure("ssh", "timed out|No route|unreachable|no answer",
         "is it up, and is the way to it open (VPN, firewall, ProxyJump)?", "{ssh} true"),
    Cure("ssh", "Bad configuration option|subsystem", "mend your ssh's configuration (~/.ssh/config)", "{ssh} true"),
    Cure("ssh", "no matching (key exchange|host key|cipher|MAC)",
         "your ssh allows nothing that it offers: add one of these in ~/.ssh/config (KexAlgorithms, HostKeyAlgorithms, "
         "Ciphers, MACs)", "{ssh} true"),
    Cure("ssh", "open failed", "the jump host cannot reach it, or may not forward (AllowTcpForwarding)", "{ssh} true"),
    Cure("ssh", HUNG_UP,
         "its sshd hung up: too many logins at once (MaxStartups), or this machine is shut out", "{ssh} true"),
    Cure("ssh", "Too many open files", "raise that limit here (ulimit -Hn), or have fewer workers or hosts"),
    Cure("ssh", "cannot be run", "install OpenSSH's client, or name what leads to the hosts: --ssh-executable CMD"),
    Cure("shell", "restricted", "its login shell is a restricted one: have it changed (chsh), or use another account"),
    Cure("shell", "status 0$", "it read no command: is StdinNull in ~/.ssh/config, or a command forced there?",
         "{ssh} echo hello"),
    Cure("shell", "", "its login shell must run commands", "{ssh} echo hello"),
    Cure("prolog", "", "the prolog must end there with status 0", "{ssh} bash -l"),
    Cure("python", "standard module",
         "install the whole of Python there (python3, not python3-minimal), or name another one: python=COMMAND in the "
         "hostfile, or --python-interpreter"),
    Cure("python", "Fatal Python error",
         "a variable such as PYTHONHOME misleads it there: see what the start-up files set", "{ssh} env"),
    Cure("python", "",
         "install Python 3.8 or newer there, or name it: python=COMMAND in the hostfile, or --python-interpreter",
         "{ssh} ls /usr/bin /usr/local/bin"),
    Cure("version", "there is also ([^ ,;]+)", "name that: python={0} in the hostfile, or --python-interpreter {0}"),
    Cure("version", "newer is needed",
         "install one there, or name it: python=COMMAND in the hostfile, or --python-interpreter"),
    Cure("files", "directory|write", "make room there, or have another one used: --prolog 'export TMPDIR=DIRECTORY'",
         "{ssh} df -h"),
    Cure("script", "no directory", "choose one that is there: --path DIRECTORY"),
    Cure("ready", "open failed|tunnel", "it does not allow forwarding: leave out --tunnel"),
    Cure("ready", "cannot listen", "--tunnel needs a /tmp there that can be written to: see to that, or leave it out"),
    Cure("ready", "no process", "your account may have no more there: fewer workers, or a higher limit (ulimit -u)"),
    Cure("", "came between", "a program that its start-up files start prints there: send its output elsewhere"),
    Cure("", "Timeout, server|closed by|reset by", "the connection broke", "{ssh} true"),
    Cure("", "^it ended with", "it did not say why", "{ssh} true"),
    Cure("", "", "see what happens by hand", "{ssh} true"),
)


class Start:
    """One attempt to start one host, in a Loop: what ssh says goes in, what it is to be told goes out.

    settled() is called once, by the loop, when `channel` or `error` is there. After that ssh's stderr is still listened
    to and, where the channel is the tunnel's, its stdout: ended() is called when that closes. In the end: close().

    facts, as far as they are known: python (path), version [3, 11, 2], hostname, cores, memory (bytes), in_place,
    login (seconds until the nonce), stage (the last one reached).
    """

    def __init__(self, loop: Loop, share: Share, job: Job, parcel: Parcel, settled: Callable[[], None],
                 ended: Callable[[], None] = lambda: None,
                 guard: Callable[[int, int, str], None] = lambda number, pid, directory: None) -> None:
        """guard: told of what would outlive us, before it is made and again with ssh's process id."""
        self.host, self._share, self._job, self._parcel = share.host, share, job, parcel
        self.channel: Optional[socket.socket] = None  # to the agent, which does not speak first; non-blocking
        self.error: Optional[HostError] = None
        self.facts: dict[str, Any] = {"stage": "ssh"}
        self.number = int.from_bytes(os.urandom(6), "big") | 1 << 47
        self._loop, self._ended, self._guard = loop, ended, guard
        self._settled: Optional[Callable[[], None]] = settled
        self._began = time.monotonic()
        self._deadline = self._began + PATIENCE  # when it has to be settled
        self._met = False  # the nonce has come
        self._pauses = [pause * (1 + self.number % 1000 / 1000) for pause in PAUSES]  # others come back at other times
        self._tunnel: Optional[Tunnel] = None
        if job.tunnel:
            from .leaves import tunnel
            self._tunnel = tunnel.Tunnel()
        self._directory = self._tunnel.directory if self._tunnel else ""
        guard(self.number, 0, self._directory)
        if self._tunnel:
            self._tunnel.make()
        self._run_ssh()
        loop.after(0, self._expire)

    def _run_ssh(self) -> None:
        """Start it, and tell it all that may be said before the nonce has come."""
        self._said, self._complaints = bytearray(), bytearray()
        self._over = self._quiet = False  # its stdout and stderr are at their end
        self._sock, theirs = socket.socketpair()
        theirs.setblocking(True)  # whatever socket.setdefaulttimeout was told
        self._stderr, complaints = os.pipe()
        self._way = Channel(self._sock.fileno(), self._sock.fileno())  # for what is written
        os.set_blocking(self._stderr, False)
        self.process: Optional[subprocess.Popen[bytes]] = None
        try:
            self.process = subprocess.Popen(
                ssh_command(self._job, self.host, self._tunnel.options if self._tunnel else ()),
                stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=complaints, start_new_session=True)
            self._guard(self.number, self.process.pid, self._directory)
        except OSError as error:
            self._fail("ssh", f"{self._job.ssh[0]!r} cannot be run: {error.strerror}")
        finally:
            theirs.close()
            os.close(complaints)
        self._loop.read(self._sock.fileno(), self._hear)
        self._loop.read(self._stderr, self.hear_complaints)
        self._write(shell_text(self.number, self._job, self.host).encode("utf-8", "surrogateescape"))

    def _run_again(self) -> None:
        if self._settled:  # else it was closed meanwhile
            self._let_go()
            self._run_ssh()

    def close(self, seconds: float = 0) -> None:
        """End ssh and what it started, if need be by force, and let go of everything. May be called twice.

        seconds: how long ssh may take to end by itself, as it does when its agent has ended and the host is clean."""
        self._settled = None
        if seconds and self.process and self.channel:
            with suppress(OSError, subprocess.TimeoutExpired):  # it is gone, or it will be killed
                self.channel.shutdown(socket.SHUT_RDWR)  # ssh would wait for a tunnel's end
                self.process.wait(seconds)
        if self.process and self.process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGCONT):
                os.killpg(self.process.pid, number)
            try:
                self.process.wait(CLEANING)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._let_go()
        if self.channel:
            self.channel.close()
        if self._tunnel:
            self._tunnel.close()

    def _let_go(self) -> None:
        """Close what leads to ssh; may be called twice."""
        if self._sock.fileno() >= 0:
            self._loop.drop(self._way)
            self._loop.forget(self._stderr)
            os.close(self._stderr)
        self._sock.close()

    def complaints(self) -> list[str]:
        """The lines of ssh's stderr, fit to be shown."""
        return [line for line in map(_printable, self._complaints.splitlines()) if line]

    # In the loop

    def _hear(self) -> None:
        """What ssh says on its stdout. Raises UsageError if the files to send are too large or cannot be read."""
        data = self._read(self._sock.fileno())
        if data:
            self._said += data
            self._take_in()
        elif data is not None:
            self._over = True
            self._deadline = time.monotonic() + 1  # for ssh's last words
            self._loop.after(1, self._expire)
            if self.channel:
                self._ended()
        self._step()

    def hear_complaints(self) -> None:
        """Take in what ssh has said on its stderr."""
        data = self._read(self._stderr)
        if data:
            self._complaints += data
            del self._complaints[:-LONGEST]
        elif data is not None:
            self._quiet = True
        self._step()

    def _read(self, descriptor: int) -> Optional[bytes]:
        """What has come; nothing at its end, which is read once; None if there is no news."""
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            data = b""  # ssh ended with something unread
        if not data:
            self._loop.forget(descriptor)
        return data

    def _step(self) -> None:
        """After whatever has happened: perhaps it is settled."""
        if self._over and self._quiet and not self.channel and not self.error:
            self._ssh_ended(self._stage(self._status()))
        settled = self._settled
        if settled and (self.channel or self.error):
            self._settled = None
            if self.channel is self._sock:
                self._loop.forget(self._sock.fileno())  # whoever wants the channel reads it now
            settled()

    def _ssh_ended(self, stage: str) -> None:
        """Before there was a channel: that failed, unless sshd may only have too much to do."""
        complaints = self.complaints()
        if stage != "ssh" or not (self._pauses and complaints and all(re.search(HUNG_UP, one) for one in complaints)):
            return self._fail(stage)
        self._over = self._quiet = False
        self._deadline = self._began + PATIENCE
        self._guard(self.number, 0, self._directory)
        self._loop.after(self._pauses.pop(0), self._run_again)

    def _write(self, data: bytes) -> None:
        self._way.write(data)
        self._loop.flush(self._way)

    def _expire(self) -> None:
        """Perhaps it has taken too long."""
        left = self._deadline - time.monotonic()
        if self._settled and left > 0:
            self._loop.after(left, self._expire)
        elif self._settled:
            self._quiet = True
            if not self._over:
                self._fail(self._stage(None), f"no answer within {time.monotonic() - self._began:.0f} s")
        self._step()

    def _take_in(self) -> None:
        if not self._met:
            self._look_for_nonce()
        while self._met and not self.channel and not self.error:
            message = self._message()
            if message is None:
                break
            self._take(message)

    # The stages

    def _look_for_nonce(self) -> None:
        nonce = b"%d" % self.number ** 2
        at = self._said.find(nonce)
        if at < 0:
            del self._said[:-LONGEST]
            return
        del self._said[:at + len(nonce)]
        self._met = True
        self.facts.update(login=time.monotonic() - self._began, stage="version")
        program = pkgutil.get_data(PACKAGE, "bootstrap.py") or b""
        self._write(b"%08d" % len(program) + program)
        self._send(json.dumps(self._order()).encode())
        self._send(self._parcel.package.blob)
        self._deadline += PATIENCE

    def _order(self) -> dict[str, Any]:
        parcel, job = self._parcel, self._job
        return {
            "script": parcel.script, "original": parcel.original, "folder": parcel.folder, "root": parcel.root,
            "files": parcel.entries, "package": parcel.package.entries, "cwd": os.getcwd(), "path": job.path,
            "tunnel": self._tunnel.order() if self._tunnel else None, "reach": shlex.join(reach(job, self.host)),
            "settings": job.settings(self._share)}

    def _send(self, data: bytes) -> None:
        self._write(framed(data))
        self._deadline += len(data) / SLOWEST

    def _message(self) -> Optional[dict[str, Any]]:
        """The next whole message of bootstrap.py, taken off the buffer."""
        if len(self._said) < 4:
            return None
        size, = struct.unpack_from("!I", self._said)
        try:
            if size > LONGEST:
                raise ValueError
            if len(self._said) < 4 + size:
                return None
            message = dict(json.loads(self._said[4:4 + size]))
            self.facts["stage"] = message["stage"]
        except (ValueError, TypeError, KeyError):  # something on the host writes to the same stdout
            self._fail(self.facts["stage"], f"this came between: {_printable(self._said[:200])}")
            return None
        del self._said[:4 + size]
        return message

    def _take(self, message: dict[str, Any]) -> None:
        self.facts.update(message)
        if "error" in message:
            self._fail(message["stage"], message["error"])
        elif message["stage"] == "ready":
            self._finish()
        elif not message["in_place"]:
            self._send(self._parcel.blob)

    def _finish(self) -> None:
        channel = self._sock
        if self._tunnel:
            try:
                channel = self._tunnel.connect()
            except (OSError, EOFError, ValueError):
                if select.select([self._stderr], (), (), 0.5)[0]:
                    self._complaints += os.read(self._stderr, 65536)  # ssh says why
                return self._fail("ready", "" if self.complaints() else "nobody answers through the tunnel")
            finally:
                self._tunnel.close()
        self.channel = channel
        self._complaints.clear()  # they are not why it may end later

    # When it fails

    def _status(self) -> Optional[int]:
        try:
            return self.process.wait(0.5) if self.process else None
        except subprocess.TimeoutExpired:
            return None

    def _stage(self, status: Optional[int]) -> str:
        """How far it came, by what was printed."""
        if self._met:
            return str(self.facts["stage"])
        marks = re.findall(rb"(?<!echo )%d\.(\w+)" % self.number, self._said)  # the text itself may be echoed
        if marks:
            return str(marks[-1].decode())
        is_in = self._said or status in range(255) and not is_template(self._job.ssh)
        return "shell" if is_in else "ssh"

    def _fail(self, stage: str, words: str = "") -> None:
        self.facts["stage"] = stage
        self.error = self._diagnose(stage, words)

    def _diagnose(self, stage: str, words: str) -> HostError:
        """words: what is known to be wrong; else ssh's own are shown, and what was printed in the nonce's place."""
        ssh, complaints = reach(self._job, self.host), self.complaints()
        lines = [_printable(words.encode("utf-8", "surrogateescape"))] if words else complaints
        lines = lines or [f"it ended with status {self._status()}"]
        keys = hooks.leaf("keys") if stage == "ssh" and "Permission denied" in lines[-1] else None
        hints = [f"passphrase of key {path}" for path in keys.locked(ssh)] if keys else []
        cure, match = _cure(stage, [*lines, *complaints, *hints])
        said = match.string if match.string in lines and match.group() else lines[-1]
        slots = {"ssh": shlex.join(ssh), "host": shlex.quote(self.host.name)}
        return HostError(self.host.name, stage, "; ".join(filter(None, (said, self._noise()))),
                         cure.advice.format(*match.groups()), cure.command.format(*match.groups(), **slots))

    def _noise(self) -> str:
        """What was printed where the nonce should have come."""
        noise = b"" if self._met else re.sub(rb"%d\.\w+" % self.number, b"", self._said).strip()
        return f"it printed {_printable(noise)!r}" if noise else ""


def _cure(stage: str, lines: list[str]) -> tuple[Cure, re.Match[str]]:
    """The first in the table that knows one of these lines, and what it found there."""
    return next((cure, match) for cure in CURES if cure.stage in (stage, "")
                for match in (re.search(cure.found, line) for line in lines) if match)


def _printable(data: Union[bytes, bytearray]) -> str:
    """One line that cannot do anything to a terminal."""
    text = data[:1000].decode(errors="replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split()).strip("@ .")[:300]


# --- what is run, here and there -----------------------------------------------------------------------------------

def reach(job: Job, host: Host) -> list[str]:
    """The words that lead to the host, to which a command can be added by hand."""
    if is_template(job.ssh):
        return [word.replace("{host}", host.name) for word in job.ssh]
    return [*job.ssh, host.name]


def ssh_command(job: Job, host: Host, options: Sequence[str]) -> list[str]:
    """What is executed here; the user's own words come first, since ssh takes the first value that it sees."""
    if is_template(job.ssh):
        return [*reach(job, host), "sh"]
    return [*job.ssh, *SSH_OPTIONS, *options, "--", host.name, f"exec sh -s {marker(job)}"]
