"""A real sshd that a test starts itself, as the current user, on a free loopback port; runs in the test's process.

    with Sshd() as sshd:
        subprocess.run(sshd.ssh + ["h1", "echo hello"])          # sshd.ssh is ["ssh", "-F", FILE]

Every alias (h1, h2, h3) is this machine by way of ssh, so all of them share its files. The sshd has its own host
key, accepted keys and configuration in a private directory; the machine's sshd and the user's ~/.ssh are not touched.
"""
from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
from typing import Any, Dict, Iterator, List, Optional, Sequence

from tests.harness import until

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
FORBID_SKIP = os.environ.get("MICROSCOOP_FORBID_SKIP", "").replace(",", " ").split()


def missing(*programs: str) -> List[str]:
    return [program for program in programs if not shutil.which(program, path=PATH)]


def requires(reason: str, what: str = "ssh") -> Any:
    """A decorator for a test or a class: skip it for this reason, fail where skips are forbidden; "" means run it."""
    if not reason:
        return lambda test: test
    return _failing(reason, what) if what in FORBID_SKIP else unittest.skip(reason)


def _failing(reason: str, what: str) -> Any:
    def fail(*_: Any) -> None:
        raise AssertionError(f"{reason} (MICROSCOOP_FORBID_SKIP={what} makes this skip a failure)")

    def decorate(test: Any) -> Any:
        if not isinstance(test, type):
            return fail
        test.setUpClass = classmethod(fail)  # type: ignore[attr-defined]
        return test

    return decorate


_MISSING = missing("ssh", "sshd", "ssh-keygen")
_INSTALL = f"no {', '.join(_MISSING)} here: install OpenSSH's client and server (apt-get install openssh-server)"
requires_sshd = requires(_INSTALL if _MISSING else "")


def make_key(path: str, passphrase: str = "") -> str:
    """Write a new key pair; the public half as it stands in known_hosts and authorized_keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", path], check=True)
    with open(path + ".pub") as file:
        return " ".join(file.read().split()[:2])


def write(path: str, text: str) -> str:
    with open(path, "w") as file:
        file.write(text)
    return path


def client_options(directory: str) -> str:
    """ssh_config lines that hold for every host: nothing of the user's own keys, agent or known hosts is used."""
    return (
        f'Host *\n    IdentityFile "{directory}/key"\n    IdentitiesOnly yes\n    IdentityAgent none\n'
        f'    UserKnownHostsFile "{directory}/known_hosts"\n    GlobalKnownHostsFile /dev/null\n'
    )


def descendants(pid: int) -> List[int]:
    """All processes below `pid`, found by their parents in /proc (Linux; elsewhere none)."""
    children: Dict[int, List[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        with contextlib.suppress(OSError, ValueError):
            with open("/proc/%d/stat" % int(entry)) as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found[1:]


class Sshd:
    """One sshd and the client's files to reach it.

    aliases:    names in the ssh_config that all lead here
    known:      "yes"; "no": its key is in no known_hosts; "changed": another key is
    password:   only passwords are accepted, and there is none to give
    passphrase: the client's key is locked with it
    options:    any sshd_config lines, as {"AllowTcpForwarding": "no"}
    client:     ssh_config text that comes before the rest, so that it wins
    """

    def __init__(
        self,
        aliases: Sequence[str] = ("h1", "h2", "h3"),
        known: str = "yes",
        password: bool = False,
        passphrase: str = "",
        options: Optional[Dict[str, str]] = None,
        client: str = "",
    ) -> None:
        self.directory = tempfile.mkdtemp(prefix="ms-sshd-")
        self.config = os.path.join(self.directory, "ssh_config")
        self.ssh = ["ssh", "-F", self.config]
        self.command = " ".join(map(shlex.quote, self.ssh))  # for --ssh-executable
        self._aliases, self._known, self._client = aliases, known, client
        self._password, self._options = password, options or {}
        self._guard: Optional[subprocess.Popen[bytes]] = None
        self.pid = self.port = 0
        try:
            self._make_keys(passphrase)
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """What sshd has said so far."""
        with contextlib.suppress(FileNotFoundError), open(self._path("log")) as file:
            return file.read()
        return ""

    def sessions(self) -> List[int]:
        """The processes of all logins: sshd's own for each connection and what they run."""
        return [pid for pid in descendants(self._guard.pid) if pid != self.pid] if self._guard else []

    def end_sessions(self) -> None:
        """End every login at once, as if the processes on the far side were killed; the listener stays."""
        _kill(self.sessions())

    def stop(self) -> None:
        """End this sshd and its sessions and remove its directory; may be called twice."""
        if self._guard:
            sessions = self.sessions()
            self._end_guard()
            _kill(sessions)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _make_keys(self, passphrase: str) -> None:
        write(self._path("authorized_keys"), make_key(self._path("key"), passphrase) + "\n")
        self._host_key = make_key(self._path("host_key"))
        if self._known == "changed":
            self._host_key = make_key(self._path("another_key"))

    def _start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where root's sshd separates its privileges
        for port in _free_ports(5):
            self.port = port
            self._write_files()
            # The shell ends sshd when its own input ends: also when this process is killed.
            guard = 'exec 2>/dev/null; "$@" & echo $!; read _; kill $!; wait $!'
            program = shutil.which("sshd", path=PATH) or "sshd"  # its full path: it starts itself again
            argv = [program, "-D", "-f", self._path("sshd_config"), "-E", self._path("log")]
            self._guard = subprocess.Popen(
                ["sh", "-c", guard, "sh", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._guard.stdout
            self.pid = int(self._guard.stdout.readline())
            until(lambda: re.search("Server listening|Cannot bind|terminating", self.log()), 10)
            if "Server listening" in self.log():
                return
            self._end_guard()
            complaint = self.log()
            os.unlink(self._path("log"))
        raise RuntimeError(f"sshd did not start: {complaint}")

    def _end_guard(self) -> None:
        assert self._guard and self._guard.stdin and self._guard.stdout
        self._guard.stdin.close()  # it ends sshd, waits for it and ends
        self._guard.wait()
        self._guard.stdout.close()
        self._guard = None

    def _write_files(self) -> None:
        root, user = os.geteuid() == 0, pwd.getpwuid(os.getuid()).pw_name
        lines = dict(self._options)  # sshd takes the first value it reads
        for key, value in (
            ("Port", self.port),
            ("ListenAddress", "127.0.0.1"),
            ("HostKey", '"%s"' % self._path("host_key")),
            ("AuthorizedKeysFile", '"%s"' % self._path("authorized_keys")),
            ("PidFile", "none"),
            ("StrictModes", "no"),
            ("UsePAM", "yes" if root else "no"),  # as root it lets a locked root account in; others may not use it
            ("PermitRootLogin", "yes"),
            ("PubkeyAuthentication", "no" if self._password else "yes"),
            ("PasswordAuthentication", "yes" if self._password else "no"),
            ("KbdInteractiveAuthentication" if _openssh() >= (8, 7) else "ChallengeResponseAuthentication", "no"),
            ("MaxStartups", 100),
            ("KexAlgorithms", "curve25519-sha256"),  # a third of the work of the newer one
            ("PrintMotd", "no"),
            ("UseDNS", "no"),
        ):
            lines.setdefault(key, str(value))
        if _openssh() >= (9, 8):
            lines.setdefault("PerSourcePenalties", "no")  # failed logins are what some tests are about
        write(self._path("sshd_config"), "".join(f"{key} {value}\n" for key, value in lines.items()))
        known = "" if self._known == "no" else f"[127.0.0.1]:{self.port} {self._host_key}\n"
        write(self._path("known_hosts"), known)
        here = f"Host {' '.join(self._aliases)}\n    HostName 127.0.0.1\n    Port {self.port}\n    User {user}\n"
        write(self.config, self._client + here + client_options(self.directory))


def _kill(pids: List[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _free_ports(count: int) -> Iterator[int]:
    """Ports that were free a moment ago; whoever uses one must be ready to try the next."""
    for _ in range(count):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        yield port


def _openssh() -> tuple[int, int]:
    words = subprocess.run(["ssh", "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", words)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
