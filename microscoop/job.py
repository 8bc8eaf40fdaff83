"""What one run is asked to do: a Job, which options.py fills in and make_job() completes. Runs in the launcher.

Here stands what needs a look at this machine: is the script there, what does the hostfile say, what is PYTHONPATH.
"""
from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from .errors import UsageError
from .hosts import Host, Share, distribute, parse_hostfile, parse_words, total
from .record import Record

ALLOCATIONS = ("SLURM_JOB_NODELIST", "SLURM_NODELIST", "PBS_NODEFILE", "PE_HOSTFILE")  # of Slurm, PBS and Torque, SGE


class Job(Record):
    """What the command line asks for.  Here is what holds where it does not say; make_job() checks and completes it."""

    n: Optional[int] = None
    hosts: Sequence[str] = ()  # the words of --host
    hostfile: Optional[str] = None
    tunnel: bool = False
    ssh: tuple[str, ...] = ("ssh",)  # a command's words; a whole template where one of them has {host} in it
    python: Optional[str] = None  # text for a shell
    prolog: Optional[str] = None  # text for a shell, or a file's name
    path: Optional[str] = None  # as given; made absolute
    send: Sequence[str] = ()
    pythonpath: Optional[str] = None  # as given, else PYTHONPATH here; made absolute where there is a path
    env: dict[str, str] = {}
    nice: int = 0
    retries: int = 2
    task_timeout: Optional[float] = None  # seconds
    wait: float = 10.0  # seconds
    strict: bool = False
    dry_run: bool = False
    check: bool = False
    serial: bool = False
    verbose: int = 0  # -1 quiet, 0, 1, 2
    leaves: dict[str, Any] = {}  # see hooks.py
    # Not options:
    script: str = ""  # "": none was given, which --check, --dry-run and a program with workers of its own allow
    args: tuple[str, ...] = ()  # the program's
    shares: tuple[Share, ...] = ()
    folder: str = ""  # sys.path[0] of what runs in a script's place; "": that of the script

    def settings(self, share: Share) -> dict[str, Any]:
        """Those of child.Settings that do not depend on where the script lies on that host; fit for JSON."""
        return {"host": share.host.name, "argv": [self.script, *self.args], "env": self.env, "nice": self.nice,
                "pythonpath": [path for path in (self.pythonpath or "").split(os.pathsep) if path],
                "retries": self.retries, "task_timeout": self.task_timeout, "workers": total(self.shares),
                "here": share.workers, "leaves": self.leaves}


def make_job(asked: Job, program: Sequence[str], scriptless: bool = False) -> tuple[Job, Optional[str]]:
    """The whole Job, and a warning if there is one.  Raises UsageError.

    program: the script and its arguments; scriptless: there may be none.
    """
    pythonpath = os.environ.get("PYTHONPATH") if asked.pythonpath is None else asked.pythonpath
    if asked.path is not None and pythonpath:  # without it a relative one may lie in what a host is sent
        pythonpath = os.pathsep.join(os.path.abspath(path) for path in pythonpath.split(os.pathsep) if path)
    shares, warning = distribute(_hosts(asked), None if asked.check else asked.n)  # a check leaves no host out
    return asked._replace(
        **_program(asked, program, scriptless or asked.check or asked.dry_run), shares=tuple(shares),
        prolog=asked.prolog or None, path=_directory(asked.path, shares), verbose=min(asked.verbose, 2),
        pythonpath=pythonpath), warning


def _program(asked: Job, program: Sequence[str], scriptless: bool) -> dict[str, Any]:
    """What is run, with what arguments: a script, or what the leaf `instead` has in its place."""
    leaves = dict(asked.leaves)
    if os.environ.get("MICROSCOOP_DEBUG"):
        leaves["debug"] = True
    if not (program or scriptless or "instead" in leaves) and _may_talk(asked):
        leaves["instead"] = {}
    if "instead" in leaves:
        from .leaves import instead
        folder = os.getcwd()
        script = instead.script(leaves["instead"], folder)
        return {"leaves": leaves, "script": script, "args": tuple(program), "folder": folder}
    script = "" if scriptless and not program else _script(program, asked.hosts)
    return {"leaves": leaves, "script": script, "args": tuple(program[1:])}


def _hosts(asked: Job) -> Sequence[Host]:
    """Those that were named; if none was, those that a scheduler has allotted."""
    hosts = parse_words(asked.hosts)
    if asked.hostfile is not None:
        return parse_hostfile(_read(asked.hostfile), asked.hostfile)
    if not hosts and any(os.environ.get(name) for name in ALLOCATIONS):
        from .leaves import schedulers
        return schedulers.allocated(os.environ, asked.verbose)
    return hosts


def _read(hostfile: str) -> str:
    try:
        with open(hostfile, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read the hostfile {hostfile!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the hostfile {hostfile!r} is not UTF-8 text") from None


def _may_talk(asked: Job) -> bool:
    """Whether there is somebody to type a program, and no sign that a script was meant."""
    return not (asked.hosts or [""])[-1].endswith(".py") and os.isatty(0)


def _script(program: Sequence[str], hosts: Sequence[str]) -> str:
    if not program:
        about_last = (f"; {hosts[-1]!r} was taken for a host, as it is no existing .py file: `--` ends the hosts too"
                      if hosts else "")
        raise UsageError("no script was given; expected: python3 -m microscoop [options] script.py [args ...]"
                         + about_last)
    script = program[0]
    if os.path.isdir(script):
        raise UsageError(f"{script!r} is a directory, where a script was expected")
    if not os.path.exists(script):
        raise UsageError(f"there is no file {script!r}, where a script was expected")
    if not os.path.isfile(script):
        raise UsageError(f"{script!r} is no regular file, and each worker reads the script anew: save it to one first")
    try:
        with open(script, "rb") as file:
            text = b"\0" not in file.read(4096)
    except OSError as error:
        raise UsageError(f"cannot read the script {script!r}: {error.strerror}") from None
    if not text:
        raise UsageError(f"{script!r} has null bytes, so it is no Python text; zipped or compiled, it cannot be run")
    return script


def _directory(path: Optional[str], shares: Sequence[Share]) -> Optional[str]:
    """--path made absolute, so that it means the same on every host; it must exist where this machine has workers."""
    if path is None:
        return None
    if not os.path.isdir(path) and (not path or any(share.host.local and share.workers for share in shares)):
        raise UsageError(f"--path: there is no directory {path!r} here")
    return os.path.abspath(path)


def is_template(ssh: Sequence[str]) -> bool:
    """Whether --ssh-executable is a whole command of its own, to which none of ssh's options are added."""
    return any("{host}" in word for word in ssh)
