"""What a host's sh is fed: the prolog, the choice of a Python, the loader that becomes bootstrap.py. Runs in
the launcher.

It comes through sh's stdin, so that the login shell, whichever it is, sees nothing but plain words.
"""
from __future__ import annotations

import os
import re
import shlex
import sys

from .hosts import Host
from .job import Job

# Prints the square of the number it is given, so that a shell that echoes commands does not print the nonce. With ""
# in sys.path, a json.py in the user's home would be imported. The alarm is for a head that vanishes just then.
LOADER = ("import os,signal,sys;signal.alarm(60);sys.path=[p for p in sys.path if p];os.write(1,str(%d**2).encode());"
          "f=os.fdopen(os.dup(0),'rb');exec(f.read(int(f.read(8))));main(f)")
PROBE = "import sys;sys.exit(sys.version_info<(3,8))"

# The echoes tell the launcher how far it came. Descriptor 3 is ssh's stdin.
PROLOG = """
echo {number}.prolog
{{ {command}; }} >&2 3<&- || exit
"""
PYTHON = """
echo {number}.python
run() {{ command -v "$1" >/dev/null 2>&1 && exec "$@" -u -c {loader} {marker} <&3 3<&-; }}
try() {{ command -v "$1" >/dev/null 2>&1 && "$@" -SEc {probe} >/dev/null 2>&1 && run "$@"; }}
{tries} || {{ echo {complaint} >&2; exit 127; }}
"""


def marker(job: Job) -> str:
    """Words for `ps` that mean nothing to any shell."""
    words = ("microscoop", os.uname()[1], str(os.getpid()), job.script)
    return " ".join(re.sub("[^A-Za-z0-9._+,@/-]", "_", word) or "-" for word in words)


def shell_text(number: int, job: Job, host: Host) -> str:
    """What sh is fed on the host; the nonce will be the number's square."""
    tries, names = _candidates(job, host)
    text = PYTHON.format(number=number, loader=shlex.quote(LOADER % number), probe=shlex.quote(PROBE),
                         marker=marker(job), tries=" || ".join(tries),
                         complaint=shlex.quote(f"no Python was found, tried {names}"))
    shells = ["exec sh -c"]
    if job.prolog:
        from .leaves import prolog
        text = PROLOG.format(number=number, command=prolog.command(job.prolog)) + text
        shells = ["command -v bash >/dev/null && exec bash -lc", "exec sh -lc"]
    execs = [f'{shell} "$T" {marker(job)} 3<&0 </dev/null' for shell in shells]
    return "\n".join([f"echo {number}.shell", f"T={shlex.quote(text)}", *execs, ""])


def _candidates(job: Job, host: Host) -> tuple[list[str], str]:
    """Shell commands that become Python or fail, in order, and what they try.

    A command that was given is the path of one program or else text for a shell, and is taken as it is; others are
    first asked for their version, since there are some that do not run (pyenv's) and the next may be new enough.
    """
    given = host.python or job.python
    if given:
        return [f"run {shlex.quote(given)}", f"eval {shlex.quote('run ' + given)}"], given
    same = () if job.prolog else (sys.executable, f"python3.{sys.version_info[1]}")
    names = [shlex.quote(name) for name in (*same, "python3", "python") if name]
    return [f"{verb} {name}" for verb in ("try", "run") for name in names], ", ".join(names)
