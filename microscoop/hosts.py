"""Hosts and slots: hostfile or --host -> Host, hosts and -n -> Share. Runs in the launcher; resolves no name.

A host without a count is *open*: it takes whatever is left. A host with one is *capped*: it is never given more while
there is an open one. The head, whatever it is called, is one host.
"""
from __future__ import annotations

import socket
from typing import Callable, Iterable, Optional, Sequence

from .bootstrap import usable_cores
from .errors import UsageError
from .record import Record

LOCAL_NAMES = frozenset(("127.0.0.1", "localhost", "::1"))
LINE_FORM = "name [count] [python=COMMAND]"
NOT_IN_NAMES = frozenset(" ,=/\\'\"`$&;|<>(){}[]!?*#^~")  # ssh itself refuses most of these


class Host(Record):
    """One machine; slots: None = open; python: the command that starts Python there, None = found by itself."""

    name: str
    slots: Optional[int] = None
    python: Optional[str] = None
    local: bool = False


class Share(Record):
    """What one host gets; workers: None = one for each of the cores that only it knows, 0 = the origin alone.

    workers counts the processes that run tasks. The origin is one more: reports only call one of the head's slots its.
    """

    host: Host
    workers: Optional[int]
    origin: bool = False


HEAD = Host("127.0.0.1", local=True)


# --- reading -------------------------------------------------------------------------------------------------------

def parse_hostfile(text: str, source: str) -> list[Host]:
    """The hosts of a hostfile's text, in file order; source: what errors call it. Raises UsageError."""
    import shlex

    hosts: dict[str, Host] = {}
    for number, line in enumerate(text.split("\n"), 1):
        try:
            words = shlex.split(line, comments=True)
            for name in _names(words[0]) if words else ():
                add(hosts, _read_line([name, *words[1:]]))
        except ValueError as error:
            where = f"{source}, line {number}, {line.strip()!r}"
            raise UsageError(f"{where}: {error}; a line is {LINE_FORM}, all else belongs in ~/.ssh/config") from None
    if not hosts:
        raise UsageError(f"{source} names no host; a line is {LINE_FORM}")
    return list(hosts.values())


def parse_words(words: Sequence[str]) -> list[Host]:
    """The hosts of `--host a b b`, in order. Raises UsageError."""
    hosts: dict[str, Host] = {}
    for word in words:
        try:
            if whole_number(word) is not None:
                raise ValueError("a count? --host takes names: repeat the name, or write a hostfile")
            for name in _names(word):
                add(hosts, named(name))
        except ValueError as error:
            raise UsageError(f"--host, {word!r}: {error}") from None
    return list(hosts.values())


def whole_number(text: str) -> Optional[int]:
    """The number that up to nine plain digits say, else None: int() would also take '1_0', ' 1' and '+1'."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _names(word: str) -> Sequence[str]:
    """The names that a word stands for: several where it has ranges, as n[1-3,7] has."""
    if "[" not in word or ":" in word:  # it may be an IPv6 address in brackets
        return [word]
    from .leaves import ranges
    return ranges.expanded(word)


def _read_line(words: list[str]) -> Host:
    host, rest = named(words[0]), words[1:]
    if rest and "=" not in rest[0]:
        host = host._replace(slots=_count(rest.pop(0)))
    for word in rest:
        key, _, value = word.partition("=")
        if key == "slots" and host.slots is None:
            host = host._replace(slots=_count(value))
        elif key == "python" and value and host.python is None:
            host = host._replace(python=value)
        else:
            raise ValueError(f"expected slots=N or python=COMMAND, each once, found {word!r}")
    return host


def _count(text: str) -> int:
    count = whole_number(text)
    if not count:
        raise ValueError(f"expected a count of at least 1, found {text!r}")
    return count


def named(name: str) -> Host:
    """The host of that name. Raises ValueError if it cannot be one's."""
    user, _, machine = name.rpartition("@")
    if name.startswith("-") or machine.startswith("-"):
        raise ValueError("a host's name does not begin with a dash")
    if not machine or name.startswith("@"):
        raise ValueError("expected a host's name")
    if name.isprintable() and ":" in machine and _family(machine) is None:
        raise ValueError(_about_colon(machine))
    for character in name:
        if character in NOT_IN_NAMES or not character.isprintable():
            raise ValueError(f"a host's name has no {character!r} in it")
    return Host(name, local=not user and is_local(name))


def _about_colon(machine: str) -> str:
    if machine.startswith("["):
        return "an IPv6 address is written without brackets"
    name, _, number = machine.rpartition(":")
    if whole_number(number) is None:
        return "only an IPv6 address has a colon in it"
    return f"{number} slots or a port? Slots are a word of their own ({name} {number}), a port belongs in ~/.ssh/config"


def add(hosts: dict[str, Host], new: Host) -> None:
    """Counts of one name add up, where a bare line beside another one counts 1. All local names are one host."""
    key = HEAD.name if new.local else new.name
    known = hosts.setdefault(key, new)
    if known is new:
        return
    if known.python and new.python and known.python != new.python:
        raise ValueError(f"this host's Python was {known.python!r} in a line above")
    hosts[key] = known._replace(slots=(known.slots or 1) + (new.slots or 1), python=known.python or new.python)


# --- which names are this machine's --------------------------------------------------------------------------------

def is_local(name: str) -> bool:
    """Whether the name is this machine's own or an address that it can bind; asks the kernel, never a resolver."""
    if name.lower() in LOCAL_NAMES:
        return True
    family = _family(name)
    if family is not None:
        return _can_bind(name, family)
    own = socket.gethostname().lower()
    return name.lower() in (own, own.partition(".")[0])


def _family(name: str) -> Optional[socket.AddressFamily]:
    """The kind of address, where the name is an IP literal (with a zone as in fe80::1%eth0, too)."""
    for family, text in (socket.AF_INET, name), (socket.AF_INET6, name.partition("%")[0]):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):  # ValueError: a NUL, half a character
            continue
        return family
    return None


def _can_bind(literal: str, family: socket.AddressFamily) -> bool:
    address, _, zone = literal.partition("%")
    try:
        scope = socket.if_nametoindex(zone) if zone else 0
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0, 0, scope) if family == socket.AF_INET6 else (address, 0))
    except OSError:
        return False
    return True


# --- sharing out ---------------------------------------------------------------------------------------------------

def total(shares: Iterable[Share]) -> int:
    """How many workers there are to be, at least 1; a host whose cores only it knows counts as one."""
    return max(sum(1 if share.workers is None else share.workers for share in shares), 1)


def distribute(
    hosts: Sequence[Host], n: Optional[int], cores: Callable[[], int] = usable_cores
) -> tuple[list[Share], Optional[str]]:
    """Share n workers out (None: as many as the hosts have), and a warning where counts had to be exceeded."""
    hosts = list(hosts) or [HEAD]
    if n is None:
        return _shares(hosts, [cores() if host.local and host.slots is None else host.slots for host in hosts]), None
    counts, warning = _fill(hosts, n)
    return _shares(hosts, counts), warning


def _shares(hosts: Sequence[Host], counts: Sequence[Optional[int]]) -> list[Share]:
    """Hosts that get none are left out, but for the head: where no worker runs here it comes first, for the origin."""
    shares = [Share(host, count, host.local) for host, count in zip(hosts, counts) if count != 0]
    if not any(share.origin for share in shares):
        head = next((host for host in hosts if host.local), HEAD)
        shares.insert(0, Share(head, 0, True))
    return shares


def _fill(hosts: Sequence[Host], n: int) -> tuple[list[int], Optional[str]]:
    """First round in order (1 for an open host, its count for a capped one), then round-robin what is left."""
    counts, left = [], n
    for host in hosts:
        counts.append(min(left, host.slots or 1))
        left -= counts[-1]
    still_open = [place for place, host in enumerate(hosts) if host.slots is None]
    chosen = still_open or range(len(hosts))
    for turn, place in enumerate(chosen):
        counts[place] += left // len(chosen) + (turn < left % len(chosen))
    if left and not still_open:
        return counts, f"{n} workers on hosts that have {n - left} slots: no host is open, so counts are exceeded"
    return counts, None


def distribution_lines(shares: Sequence[Share], dry_run: bool = False) -> list[str]:
    """A line for each share, as the start-up report has it, or as --dry-run prints it."""
    form = "{}\t{}" if dry_run else "   {}:\t{}"
    return [form.format(share.host.name, _count_words(share)) for share in shares]


def _count_words(share: Share) -> str:
    if share.workers is None:
        return "cores"
    if not share.origin:
        return str(share.workers)
    return f"{share.workers - 1} + origin" if share.workers else "origin only"
