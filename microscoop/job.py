"""What one run is asked to do, in the launcher: the options that cli.py read -> one Job, checked.

Here stands what needs a look at this machine: is the script there, what does the hostfile say, what is PYTHONPATH.
"""
from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from microscoop.errors import UsageError
from microscoop.hosts import Share, distribute, parse_hostfile, parse_words, total
from microscoop.record import Record

ALLOCATIONS = ("SLURM_JOB_NODELIST", "SLURM_NODELIST", "PBS_NODEFILE", "PE_HOSTFILE")  # of Slurm, PBS and Torque, SGE


class Options:
    """What the command line says; here, what holds where it does not. argparse fills it in, and copies the lists."""

    n: Optional[int] = None
    hosts: list[str] = []
    hostfile: Optional[str] = None
    tunnel = False
    ssh_executable: tuple[str, ...] = ("ssh",)
    python_interpreter: Optional[str] = None
    prolog: Optional[str] = None
    path: Optional[str] = None
    send: list[str] = []
    pythonpath: Optional[str] = None
    env: list[str] = []
    nice = 0
    retries = 2
    task_timeout: Optional[float] = None
    wait = 10.0
    strict = False
    dry_run = False
    check = False
    serial = False
    verbose = 0
    quiet = False
    leaves: dict[str, Any] = {}
    scriptless = False  # it may be that there is none


class Job(Record):
    """All that the command line asks for, checked; paths are as given but where it says absolute."""

    script: str  # "": none was given, which --check, --dry-run and a program with workers of its own allow
    args: tuple[str, ...]  # the program's
    shares: tuple[Share, ...]
    tunnel: bool
    ssh: tuple[str, ...]  # a command's words; a whole template where one of them has {host} in it
    python: Optional[str]  # text for a shell
    prolog: Optional[str]  # text for a shell, or a file's name
    path: Optional[str]  # absolute
    send: tuple[str, ...]
    pythonpath: Optional[str]
    env: dict[str, str]
    nice: int
    retries: int
    task_timeout: Optional[float]  # seconds
    wait: float  # seconds
    strict: bool
    verbose: int  # -1 quiet, 0, 1, 2
    leaves: dict[str, Any]  # see hooks.py
    folder: str = ""  # sys.path[0] of what runs in a script's place; "": that of the script

    def settings(self, share: Share) -> dict[str, Any]:
        """Those of child.Settings that do not depend on where the script lies on that host; fit for JSON."""
        return {"host": share.host.name, "argv": [self.script, *self.args], "env": self.env, "nice": self.nice,
                "pythonpath": [path for path in (self.pythonpath or "").split(os.pathsep) if path],
                "retries": self.retries, "task_timeout": self.task_timeout, "workers": total(self.shares),
                "here": share.workers, "leaves": self.leaves}


def make_job(options: Options, program: Sequence[str]) -> tuple[Job, Optional[str]]:
    """The Job, and a warning if there is one; program: the script and its arguments. Raises UsageError."""
    hosts = parse_words(options.hosts)
    if options.hostfile is not None:
        hosts = parse_hostfile(_read(options.hostfile), options.hostfile)
    elif not hosts and any(os.environ.get(name) for name in ALLOCATIONS):
        from microscoop.leaves import schedulers
        hosts = schedulers.allocated(os.environ, -1 if options.quiet else options.verbose)
    shares, warning = distribute(hosts, None if options.check else options.n)  # a check leaves no host out
    leaves = options.leaves
    if not program and "instead" not in leaves and _may_talk(options):
        leaves = dict(leaves, instead={})
    if "instead" in leaves:
        from microscoop.leaves import instead
        folder, args = os.getcwd(), tuple(program)
        script = instead.script(leaves["instead"], folder)
    else:
        folder, args = "", tuple(program[1:])
        script = _script(program, options)
    job = Job(
        script=script, args=args, folder=folder, shares=tuple(shares),
        tunnel=options.tunnel, ssh=options.ssh_executable, python=options.python_interpreter,
        prolog=options.prolog or None, path=_directory(options.path, shares), send=tuple(options.send),
        pythonpath=_pythonpath(options.pythonpath), env=_variables(options.env), nice=options.nice,
        retries=options.retries, task_timeout=options.task_timeout, wait=options.wait, strict=options.strict,
        verbose=-1 if options.quiet else min(options.verbose, 2), leaves=_leaves(leaves))
    return job, warning


def _leaves(leaves: dict[str, Any]) -> dict[str, Any]:
    return dict(leaves, debug=True) if os.environ.get("MICROSCOOP_DEBUG") else leaves


def _read(hostfile: str) -> str:
    try:
        with open(hostfile, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read the hostfile {hostfile!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the hostfile {hostfile!r} is not UTF-8 text") from None


def _may_talk(options: Options) -> bool:
    """Whether there is somebody to type a program, and no sign that a script was meant."""
    needless = options.check or options.dry_run or options.scriptless
    return not needless and not (options.hosts or [""])[-1].endswith(".py") and os.isatty(0)


def _script(program: Sequence[str], options: Options) -> str:
    if not program:
        if options.check or options.dry_run or options.scriptless:
            return ""
        raise UsageError("no script was given; expected: python3 -m microscoop [options] script.py [args ...]"
                         + _about_last_host(options.hosts))
    script = program[0]
    if os.path.isdir(script):
        raise UsageError(f"{script!r} is a directory, where a script was expected")
    if not os.path.isfile(script):  # each worker loads it anew, so it cannot be a pipe
        raise UsageError(f"there is no file {script!r}, where a script was expected")
    try:
        open(script, "rb").close()
    except OSError as error:
        raise UsageError(f"cannot read the script {script!r}: {error.strerror}") from None
    return script


def _about_last_host(hosts: Optional[Sequence[str]]) -> str:
    if not hosts:
        return ""
    return f"; {hosts[-1]!r} was taken for a host, as it is no existing .py file: `--` ends the hosts too"


def _directory(path: Optional[str], shares: Sequence[Share]) -> Optional[str]:
    """--path made absolute, so that it means the same on every host; it must exist where this machine has workers."""
    if path is None:
        return None
    if not os.path.isdir(path) and (not path or any(share.host.local and share.workers for share in shares)):
        raise UsageError(f"--path: there is no directory {path!r} here")
    return os.path.abspath(path)


def _variables(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, or NAME alone for the value it has here."""
    env = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise UsageError(f"--env: {name} is not set here; write {name}=VALUE")
        env[name] = value if equals else os.environ[name]
    return env


def _pythonpath(given: Optional[str]) -> Optional[str]:
    return os.environ.get("PYTHONPATH") if given is None else given


def is_template(ssh: Sequence[str]) -> bool:
    """Whether --ssh-executable is a whole command of its own, to which none of ssh's options are added."""
    return any("{host}" in word for word in ssh)
