"""--serial: the script and all its tasks in one process, the launcher's own, so that a debugger sees everything.

The same pickling as anywhere, task after task; no agent, no worker, no host.
"""
from __future__ import annotations

import os
from typing import NoReturn

from .. import hooks
from ..child import Settings, program
from ..errors import say
from ..job import Job
from ..serial import Serial

IGNORED = {                # fields of the Job: options
    "n": "-n", "hosts": "--host", "hostfile": "--hostfile", "tunnel": "--tunnel", "prolog": "--prolog",
    "python": "--python-interpreter", "ssh": "--ssh-executable", "path": "--path", "send": "--send", "wait": "--wait",
    "strict": "--strict", "retries": "--retries", "task_timeout": "--task-timeout", "nice": "--nice"}
LAUNCHERS = ("profile", "progress", "record")      # leaves that see nothing without a launcher and workers


def run(job: Job) -> NoReturn:
    """Run the script here, and end as Python would."""
    unasked = Job()
    ignored = [option for name, option in IGNORED.items() if getattr(job, name) != getattr(unasked, name)]
    for leaf, value in job.leaves.items():
        if leaf in LAUNCHERS and value:
            ignored += ["--" + name for name in (value if isinstance(value, dict) else [leaf])]
    if ignored and job.verbose >= 0:
        say("microscoop: warning: --serial: everything runs in this process, without " + ", ".join(ignored))
    os.environ.update(job.env)
    script = os.path.join(os.getcwd(), job.script)
    settings = Settings(script=script, path0=os.path.dirname(os.path.realpath(script)), directory=None,
                        **job.settings(job.shares[0]))
    hooks.call("enter_process", job.leaves, settings)
    program(settings, Serial("origin"))
