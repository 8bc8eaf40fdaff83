"""--serial: the script and all its tasks in one process, the launcher's own, so that a debugger sees everything.

The same pickling as anywhere, task after task; no agent, no worker, no host.
"""
from __future__ import annotations

import os
import sys
from typing import NoReturn

from .. import hooks
from ..child import Settings, program
from ..job import Job, Options
from ..serial import Serial

IGNORED = ("n", "hosts", "hostfile", "tunnel", "prolog", "python_interpreter", "ssh_executable", "path", "send", "wait",
           "strict", "retries", "task_timeout", "nice")
LAUNCHERS = ("profile", "progress", "record")      # leaves that see nothing without a launcher and workers


def run(options: Options, job: Job) -> NoReturn:
    """Run the script here, and end as Python would."""
    ignored = ["-n" if name == "n" else "--" + name.replace("_", "-").replace("hosts", "host") for name in IGNORED
               if getattr(options, name) != getattr(Options, name)]
    for leaf, value in job.leaves.items():
        if leaf in LAUNCHERS and value:
            ignored += ["--" + name for name in (value if isinstance(value, dict) else [leaf])]
    if ignored and job.verbose >= 0:
        print("microscoop: warning: --serial: everything runs in this process, without " + ", ".join(ignored),
              file=sys.stderr)
    os.environ.update(job.env)
    script = os.path.join(os.getcwd(), job.script)
    paths = tuple(filter(None, (job.pythonpath or "").split(os.pathsep)))
    settings = Settings(job.shares[0].host.name, script, (job.script, *job.args),
                        os.path.dirname(os.path.realpath(script)), None, paths, {}, 0, 0, None, 1, leaves=job.leaves)
    hooks.enter("process", job.leaves, settings)
    program(settings, Serial("origin"))
