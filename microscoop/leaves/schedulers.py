"""What Slurm, PBS/Torque or SGE has allocated, as their environment tells it -> hosts.  Runs in the launcher.

    Slurm        SLURM_JOB_NODELIST=n[1-3,7]  SLURM_TASKS_PER_NODE=2(x3),1  or  SLURM_JOB_CPUS_PER_NODE=16(x4)
    PBS, Torque  PBS_NODEFILE: a file with a line `name` for each slot
    SGE          PE_HOSTFILE: a file of lines `name slots queue processors`
"""
from __future__ import annotations

import re
import socket
from itertools import islice, repeat
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ..errors import UsageError
from ..hosts import Host, add, is_local, named, whole_number
from ..report import Reporter
from .ranges import expanded

COUNT = re.compile(r"([1-9][0-9]{0,8})(?:\(x([1-9][0-9]{0,8})\))?")
WAY_OUT = "--host or --hostfile says instead where to run"

Slots = Iterator[Tuple[str, Optional[int]]]  # name, slots


def allocated(environment: Mapping[str, str], verbose: int) -> List[Host]:
    """The hosts of the job that this is; says which scheduler's. Raises UsageError for what cannot be understood."""
    for scheduler, variable, read in SCHEDULERS:
        if environment.get(variable):
            Reporter(verbose).info(f"Detected {scheduler} environment.")
            try:
                return _hosts(read(environment, variable), environment)
            except ValueError as error:
                raise UsageError(f"{variable}={environment[variable]!r}: {error}; {WAY_OUT}") from None
    return []


def _hosts(slots: Slots, environment: Mapping[str, str]) -> List[Host]:
    found: Dict[str, Host] = {}
    for name, count in slots:
        host = named(name)
        add(found, host._replace(slots=count, local=host.local or _is_head(name, environment)))
    if not found:
        raise ValueError("expected at least one host")
    return list(found.values())


def _is_head(name: str, environment: Mapping[str, str]) -> bool:
    """Whether that is this machine, in whichever of its forms: short names differ within one cluster."""
    own, short = socket.gethostname().lower().partition(".")[0], name.lower().partition(".")[0]
    return is_local(name) or short == own or name == environment.get("SLURMD_NODENAME")


# --- Slurm -----------------------------------------------------------------------------------------------------------

def _slurm(environment: Mapping[str, str], variable: str) -> Slots:
    names = expanded(environment[variable])
    source = _counting(environment)
    if source is None:
        return zip(names, repeat(None))
    counts = list(islice(_counts(source, environment[source]), len(names) + 1))
    if len(counts) != len(names):
        raise ValueError(f"expected a count for each of the {len(names)} nodes, found {source}={environment[source]!r}")
    return zip(names, counts)


def _counting(environment: Mapping[str, str]) -> Optional[str]:
    """Which variable has the slots. Without a number of tasks, Slurm says 1 task a node, whatever cores it gave."""
    names = ["SLURM_JOB_CPUS_PER_NODE", "SLURM_TASKS_PER_NODE"]
    if environment.get("SLURM_NTASKS"):
        names.reverse()
    return next((name for name in names if environment.get(name)), None)


def _counts(source: str, text: str) -> Iterator[int]:
    """The numbers that 2(x3),1 stands for."""
    for word in text.split(","):
        found = COUNT.fullmatch(word)
        if found is None:
            raise ValueError(f"expected counts, as 2(x3),1, found {word!r} in {source}={text!r}")
        yield from repeat(int(found[1]), int(found[2] or 1))


# --- files of PBS and SGE --------------------------------------------------------------------------------------------

def _lines(path: str) -> Iterator[List[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from filter(None, map(str.split, file))
    except OSError as error:
        raise ValueError(f"cannot read that file: {error.strerror}") from None


def _pbs(environment: Mapping[str, str], variable: str) -> Slots:
    for words in _lines(environment[variable]):
        yield " ".join(words), 1


def _sge(environment: Mapping[str, str], variable: str) -> Slots:
    for words in _lines(environment[variable]):
        count = whole_number(words[1]) if len(words) > 1 else None
        if not count:
            raise ValueError(f"expected lines `name slots queue processors`, found {' '.join(words)!r}")
        yield words[0], count


SCHEDULERS: List[Tuple[str, str, Callable[[Mapping[str, str], str], Slots]]] = [
    ("SLURM", "SLURM_JOB_NODELIST", _slurm), ("SLURM", "SLURM_NODELIST", _slurm),
    ("PBS", "PBS_NODEFILE", _pbs), ("SGE", "PE_HOSTFILE", _sge)]
