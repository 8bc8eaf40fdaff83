"""Process 1 of a host that namespaces.py makes, and the relay that delays its frames; each is a program of its own.

    python namespaces_inside.py host                   in new namespaces; orders come on its standard input
    python namespaces_inside.py relay TAP LINK SECONDS

Both end when their standard input ends, and with process 1 the kernel ends everything else in its host.
"""
from __future__ import annotations

import array
import collections
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Deque, Dict, List, Tuple

SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "sys", "usr", "var")
STAGE = "/mnt"  # what must be kept while the folders above it become empty
SSHD = ["/usr/sbin/sshd", "-f", "/run/sshd/config", "-E", "/run/sshd/log"]


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def write(path: str, text: str, mode: str = "w", permissions: int = 0o644) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, mode) as file:
        file.write(text)
    os.chmod(path, permissions)


# Process 1


def host() -> None:
    print(os.readlink("/proc/self"), flush=True)  # its pid as the machine counts; /proc is still the machine's own
    spec: Dict[str, Any] = json.loads(sys.stdin.readline())
    socket.sethostname(spec["name"])
    network(spec)
    files(spec)
    account(spec)
    for line in sshd_lines(spec):
        write("/run/sshd/config", line + "\n", "a", 0o600)
    start_sshd(spec["port"])
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    orders = {"kill-sshd": kill_sshd, "start-sshd": lambda: start_sshd(spec["port"]), "plain-frames": plain_frames}
    for line in sys.stdin:
        orders[line.strip()]()
        print("done", flush=True)


def reap(*_: Any) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none left


def network(spec: Dict[str, Any]) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", spec["address"] + "/32", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", spec["head"], "dev", "eth0", "src", spec["address"])


def files(spec: Dict[str, Any]) -> None:
    """Empty folders where neither the system's nor shared ones are; changes of /etc and programs stay in the host."""
    run("mount", "-t", "tmpfs", "tmpfs", STAGE)
    shared = {path: f"{STAGE}/{number}" for number, path in enumerate(spec["share"])}
    for path, kept in shared.items():
        os.mkdir(kept)
        run("mount", "--bind", path, kept)
    run("mount", "-t", "proc", "proc", "/proc")
    empty = [entry.path for entry in os.scandir("/") if entry.is_dir(follow_symlinks=False)]
    empty = [path for path in empty if path[1:] not in SYSTEM and path != STAGE]
    for path in [*empty, "/var/tmp", "/dev/shm", spec["hide"]]:
        if os.path.isdir(path):  # the last may lie under another
            mode = "mode=1777" if path.endswith(("tmp", "shm")) else "mode=0755"
            run("mount", "-t", "tmpfs", "-o", mode, "tmpfs", path)
    for number, path in enumerate(("/etc", "/usr/bin", "/usr/local/bin")):
        layers = [f"{STAGE}/{kind}{number}" for kind in ("upper", "work")]
        for layer in layers:
            os.mkdir(layer)
        run("mount", "-t", "overlay", "-o", "lowerdir={},upperdir={},workdir={}".format(path, *layers), "overlay", path)
    for path, kept in shared.items():
        os.makedirs(path, exist_ok=True)
        run("mount", "--bind", kept, path)
    python(spec)
    run("umount", "--lazy", STAGE)
    run("mount", "-t", "tmpfs", "tmpfs", STAGE)


def python(spec: Dict[str, Any]) -> None:
    """Which `python3` this host has, and where."""
    program, place = spec["python"], spec["python_at"]
    if program is None and not place:
        return
    keep = program if program is not None else os.path.realpath("/usr/bin/python3")
    if place:
        write(place, "", permissions=0o755)
        shutil.copy2(keep, place)
    if place or not program:
        for folder in ("/usr/bin", "/usr/local/bin"):
            for name in os.listdir(folder):
                if name.startswith("python"):
                    os.unlink(f"{folder}/{name}")
    if program and not place:
        os.symlink(program, "/usr/local/bin/python3")


def account(spec: Dict[str, Any]) -> None:
    """The login account, its start-up files and its accepted key."""
    user, shell = spec["user"], spec["shell"]
    uid, home = (0, "/root") if user == "root" else (4000, "/home/" + user)
    for path, line in (
        ("/etc/passwd", f"{user}:x:{uid}:{uid}::{home}:{shell}"),
        ("/etc/group", f"{user}:x:{uid}:"),
        ("/etc/shadow", f"{user}:*:19000:0:99999:7:::"),  # no password, but not locked either
    ):
        with open(path) as file:
            others = [other for other in file.read().splitlines() if other.split(":")[0] != user]
        with open(path, "w") as file:
            file.write("\n".join([line, *others]) + "\n")
    write("/etc/hosts", f"127.0.0.1 localhost {spec['name']}\n")
    write(home + "/.ssh/authorized_keys", spec["accepted"], permissions=0o600)
    if spec["noise"]:
        for name in (".bashrc", ".profile", ".cshrc", ".config/fish/config.fish"):
            write(f"{home}/{name}", f"echo '{spec['noise']}'\n")
    run("chown", "-R", f"{uid}:{uid}", home)


def sshd_lines(spec: Dict[str, Any]) -> List[str]:
    write("/run/sshd/host_key", spec["host_key"], permissions=0o600)
    lines = dict(spec["options"])  # sshd takes the first value it reads
    for line in (
        f"Port {spec['port']}",
        "HostKey /run/sshd/host_key",
        "PidFile none",
        "UsePAM no",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "PrintMotd no",
        "UseDNS no",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
    ):
        lines.setdefault(*line.split(" ", 1))
    return [f"{key} {value}" for key, value in lines.items()]


def start_sshd(port: int) -> None:
    """Until it listens; the process that is started ends before that."""
    run(*SSHD)
    limit, listening = time.monotonic() + 20, f":{port:04X} 00000000:0000 0A"  # as proc(5) has it
    while listening not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < limit, "its sshd does not listen; see /run/sshd/log"
        time.sleep(0.01)


def kill_sshd() -> None:
    """This host has a process table of its own, so every sshd in it belongs to the test."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm") as file:
                if file.read().startswith("sshd"):
                    os.kill(int(name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended


def plain_frames() -> None:
    """Frames as on a real cable, no longer than 1500 bytes and with their checksums: a relay can carry them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for feature in (0x17, 0x19, 0x1F, 0x24, 0x2C):  # ETHTOOL_STXCSUM, SSG, STSO, SGSO, SGRO
            value = array.array("I", [feature, 0])
            request = struct.pack("16sP16x", b"eth0", value.buffer_info()[0])
            fcntl.ioctl(any_socket, 0x8946, request)  # SIOCETHTOOL


# The relay


def relay(tap_name: str, link: str, seconds: str) -> None:
    """Carry every frame between a tap device and a cable, late, in both directions."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", tap_name.encode(), 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))  # ETH_P_ALL
    cable.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    cable.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    cable.bind((link, 0))
    print("ready", flush=True)
    other = {tap: cable.fileno(), cable.fileno(): tap}
    late: Deque[Tuple[float, int, bytes]] = collections.deque()  # in order of time, as the delay is the same for all
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        readable = select.select([0, *other], [], [], wait)[0]
        if 0 in readable:
            return
        for source in readable:
            for frame in frames(source):
                late.append((time.monotonic() + float(seconds), other[source], frame))
        while late and late[0][0] <= time.monotonic():
            try:
                os.write(late[0][1], late[0][2])
            except OSError:
                pass  # a full queue loses frames, as a real network does
            late.popleft()


def frames(source: int) -> List[bytes]:
    """What can be read at once, and not so much that what is due would wait."""
    found: List[bytes] = []
    try:
        while len(found) < 64:
            found.append(os.read(source, 65536))
    except OSError:
        pass  # no more for now, or the device is not up yet
    return found


if __name__ == "__main__":
    if sys.argv[1] == "host":
        host()
    else:
        relay(*sys.argv[2:])
