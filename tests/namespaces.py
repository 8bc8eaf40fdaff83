"""Real hosts on one Linux machine, made of namespaces, each with an sshd of its own (in the test's process).

    with namespaces.up(3, h2={"user": "worker", "port": 2222}, h3={"shell": "/usr/bin/fish"}) as hosts:
        subprocess.run(hosts.ssh + ["h1", "hostname"])           # hosts.ssh is ["ssh", "-F", FILE]
        hosts.cut("h1")                                          # every frame is lost and nobody is told

A host has its own network, processes, host name, shared memory and /etc. It has this machine's system folders (/var and
/opt are the very same), and empty ones where the checkout, /tmp, /home, /root and /srv are: nothing of ours is there.
Needs root, iproute2 and sshd. Nothing must be removed by name later: a host's network goes with its last process, and
all of them go with this process, however it ends. Several sets of hosts may be up at once.

         this machine                                  host h2 (process 1: namespaces_inside.py)
    10.78.K.1  msPID-K-2 ------- a virtual cable ------- eth0  10.78.K.12
               mtPID-K-2 - relay - cable, while there is a delay and the kernel has no netem
"""
from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tests.harness import ROOT, slow
from tests.sshd import PATH, client_options, make_key, missing, requires, write

INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "namespaces_inside.py")
NOBODY = "02:4d:53:ff:ff:ff"  # no interface has it: what is sent there is dropped in silence
NOISE = "*** a line that a start-up file prints ***"


class Options(NamedTuple):
    """What can be said of a host."""

    user: str = "root"  # who logs in; another is made, with uid 4000
    port: int = 22
    alias: str = ""  # one more name in the ssh_config
    shell: str = "/bin/bash"  # the login shell
    noise: bool = False  # start-up files print a line
    options: Optional[Dict[str, str]] = None  # any sshd_config lines, as {"AllowTcpForwarding": "no"}
    python: Optional[str] = None  # the interpreter that is its python3; "": it has none; None: the system's
    python_at: str = ""  # the only place of its python3, not in PATH
    share: Sequence[str] = ()  # folders of this machine that are seen there too, at the same path


def _reason() -> str:
    if not sys.platform.startswith("linux"):
        return "hosts of namespaces need Linux"
    if os.geteuid():
        return "hosts of namespaces need root"
    lacking = missing("ssh", "sshd", "ssh-keygen", "ip", "unshare", "nsenter")
    return f"no {', '.join(lacking)} here: apt-get install openssh-server iproute2 util-linux" if lacking else ""


def requires_hosts(test: Any) -> Any:
    """For tests that make hosts: they are slow ones; without root they are skipped, or fail if skips are forbidden."""
    return slow(requires(_reason())(test)) if os.environ.get("MICROSCOOP_SLOW_TESTS") else slow(test)


class Host:
    """What this machine knows of one host."""

    def __init__(self, name: str, number: int, net: int, options: Options, log: str) -> None:
        self.name, self.options, self.log = name, options, log
        self.address, self.head = f"10.78.{net}.{10 + number}", f"10.78.{net}.1"
        self.link, self.tap = (f"{kind}{os.getpid()}-{net}-{number}" for kind in ("ms", "mt"))  # at most 15 letters
        self.mac, self.link_mac, self.tap_mac = (f"02:4d:53:{net:02x}:{number:02x}:0{end}" for end in (1, 2, 3))
        self.process: Optional[subprocess.Popen[str]] = None  # unshare, which waits for process 1 and takes it along
        self.relay: Optional[subprocess.Popen[str]] = None
        self.pid = 0  # of process 1, as this machine counts
        self.table = ""  # its process table's own name
        self.is_cut = False

    def say(self, line: str, answer: str) -> None:
        assert self.process and self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != answer + "\n":
            with open(self.log) as file:
                raise RuntimeError(f"{self.name} did not say {answer!r}:\n{file.read()}")

    def end(self) -> None:
        """Kill process 1; when its parent, which is our child, has seen the end of it, all others are dead as well."""
        if self.process and self.process.poll() is None and self.pid:
            with contextlib.suppress(ProcessLookupError):  # it has failed at its start
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait()
        _end(self.process)

    def enter(self, *words: str, only: Sequence[str] = ("-m", "-u", "-i", "-n", "-p")) -> List[str]:
        """The command that runs these words inside."""
        return ["nsenter", "-t", str(self.pid), *only, "--", *words]


class Hosts:
    """Some hosts that are up; see the top of this file. Made by `up`."""

    def __init__(self, count: int, options: Dict[str, Options]) -> None:
        self._claim, net = _claim_net()
        self.directory = tempfile.mkdtemp(prefix="ms-hosts-")
        self.config = os.path.join(self.directory, "ssh_config")
        self.ssh = ["ssh", "-F", self.config]
        self.command = " ".join(map(shlex.quote, self.ssh))  # for --ssh-executable
        names = [f"h{number}" for number in range(1, count + 1)]
        self.hosts = {
            name: Host(name, number, net, options.get(name, Options()), f"{self.directory}/{name}.log")
            for number, name in enumerate(names, 1)
        }
        try:
            self._start()
        except BaseException:
            self.down()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def address(self, name: str) -> str:
        return self.hosts[name].address

    def cut(self, name: str) -> None:
        """Lose every frame to and from the host; neither side is told."""
        self.hosts[name].is_cut = True
        self._wire(self.hosts[name])

    def heal(self, name: str) -> None:
        self.hosts[name].is_cut = False
        self._wire(self.hosts[name])

    def delay(self, name: str, seconds: float) -> None:
        """Make every frame that much later, each way; 0 undoes it."""
        host = self.hosts[name]
        _end(host.relay)
        host.relay = None
        if not self._netem(host, seconds) and seconds:
            host.say("plain-frames", "done")
            host.relay = _program(["relay", host.tap, host.link, str(seconds)], host.log)
            assert host.relay.stdout
            host.relay.stdout.readline()
            _ip("link", "set", host.tap, "address", host.tap_mac, "up")
        self._wire(host)

    def crash(self, name: str, silent: bool = False) -> None:
        """Every process of the host dies at once; silent: as if the plug were pulled, with no last frame."""
        if silent:
            self.cut(name)
        self.hosts[name].end()

    def kill_sshd(self, name: str) -> None:
        """SIGKILL for the host's sshd and each of its sessions; what they run lives on."""
        self.hosts[name].say("kill-sshd", "done")

    def start_sshd(self, name: str) -> None:
        self.hosts[name].say("start-sshd", "done")

    def ps(self, name: str) -> List[Tuple[int, str]]:
        """The host's processes but its first: pid (as this machine counts) and command line."""
        host, found = self.hosts[name], []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has just ended
                if os.readlink(f"/proc/{pid}/ns/pid") == host.table and int(pid) != host.pid:
                    with open(f"/proc/{pid}/cmdline", errors="replace") as file:
                        found.append((int(pid), file.read().replace("\0", " ").strip()))
        return sorted(found)

    def run_in(self, name: str, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without sshd; `options` are subprocess.run's."""
        options = {"capture_output": True, "text": True, "env": {"PATH": PATH, "HOME": "/root"}, **options}
        return subprocess.run(self.hosts[name].enter(*argv), **options)

    def down(self) -> None:
        """End everything; may be called twice."""
        for host in self.hosts.values():
            _end(host.relay)
            host.end()
            # Its network goes by itself, but only once the kernel has given up its last connections.
            subprocess.run(["ip", "link", "delete", host.link], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._claim.close()

    def _start(self) -> None:
        accepted = make_key(self.directory + "/key")
        for host in self.hosts.values():
            unshare = ["unshare", "-n", "-m", "-u", "-i", "-p", "--fork", "--kill-child"]
            host.process = _program(["host"], host.log, unshare)
            assert host.process.stdout
            host.pid = int(host.process.stdout.readline())
            host.table = os.readlink(f"/proc/{host.pid}/ns/pid")
            _ip("link", "add", host.link, "address", host.link_mac, "type", "veth",
                "peer", "name", "eth0", "address", host.mac, "netns", str(host.pid))
            _ip("address", "add", host.head + "/32", "dev", host.link)
            _ip("link", "set", host.link, "up")
        known, config = "", ""
        for host in self.hosts.values():
            public = make_key(f"{self.directory}/{host.name}")
            host.say(self._order(host, accepted), "ready")
            self._wire(host)
            option = host.options
            where = host.address if option.port == 22 else f"[{host.address}]:{option.port}"
            known += f"{where} {public}\n"
            config += f"Host {host.name} {host.address} {option.alias}\n    HostName {host.address}\n"
            config += f"    Port {option.port}\n    User {option.user}\n"
        write(self.directory + "/known_hosts", known)
        write(self.config, config + client_options(self.directory))

    def _order(self, host: Host, accepted: str) -> str:
        """All that process 1 needs to know, as one line."""
        option = host.options
        share, program = list(option.share), option.python
        if program:
            words = "import os, sys; print(sys.base_prefix); print(os.path.realpath(sys.executable))"
            prefix, program = subprocess.check_output([program, "-c", words], text=True).splitlines()
            share += [prefix] if not prefix.startswith("/usr") else []
        with open(f"{self.directory}/{host.name}") as file:
            host_key = file.read()
        order = dict(option._asdict(), name=host.name, address=host.address, head=host.head, host_key=host_key,
                     accepted=accepted + "\n", share=share, python=program, hide=str(ROOT),
                     noise=NOISE if option.noise else "", options=option.options or {})
        return json.dumps(order)

    def _wire(self, host: Host) -> None:
        """Set the way to the host and back. Neighbours are fixed, so that nobody asks and a cut is plain silence."""
        device, mac = (host.tap, host.tap_mac) if host.relay else (host.link, host.link_mac)
        there, back = (NOBODY, NOBODY) if host.is_cut else (host.mac, mac)
        _ip("route", "replace", host.address + "/32", "dev", device, "src", host.head)
        _ip("neighbour", "replace", host.address, "lladdr", there, "dev", device, "nud", "permanent")
        words = ["ip", "neighbour", "replace", host.head, "lladdr", back, "dev", "eth0", "nud", "permanent"]
        subprocess.run(host.enter(*words, only=["-n"]), check=True)

    def _netem(self, host: Host, seconds: float) -> bool:
        """Whether the kernel itself can delay, and now does."""
        change = ["replace", "root", "netem", "delay", f"{seconds * 1e6:.0f}us"] if seconds else ["delete", "root"]
        here, there = (["tc", "qdisc", change[0], "dev", end, *change[1:]] for end in (host.link, "eth0"))
        for words in (here, host.enter(*there, only=["-n"])):
            if subprocess.run(words, stderr=subprocess.DEVNULL).returncode:
                return False
        return True


def up(count: int, **options: Dict[str, Any]) -> Hosts:
    """Make `count` hosts named h1, h2, …; h2={"user": "worker"} sets Options of that one."""
    return Hosts(count, {name: Options(**values) for name, values in options.items()})


def _claim_net() -> Tuple[socket.socket, int]:
    """A number K for 10.78.K.0/24 that nobody else has; it is ours while the socket is open."""
    claim = socket.socket(socket.AF_UNIX)
    for net in range(1, 100):
        with contextlib.suppress(OSError):
            claim.bind(f"\0microscoop-test-hosts-{net}")
            return claim, net
    raise RuntimeError("99 sets of hosts are up already")


def _program(words: Sequence[str], log: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a program of namespaces_inside.py; it ends when we do."""
    with open(log, "a") as errors:
        return subprocess.Popen(
            [*before, sys.executable, "-I", INSIDE, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            start_new_session=True,
        )


def _end(process: Optional[subprocess.Popen[str]]) -> None:
    if process:
        process.kill()
        process.communicate()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
