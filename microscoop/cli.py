"""The command line: words -> one Job -> its run -> exit status. Runs in the launcher.

Bad input ends here: one sentence.
"""
from __future__ import annotations

import os
import sys
from typing import Callable, Optional, Sequence

from .errors import HostError, Status, UsageError, say
from .hosts import distribution_lines
from .job import Job, make_job


def main(
    argv: Optional[Sequence[str]] = None, beneath_prolog: bool = False, run: Optional[Callable[[Job], int]] = None
) -> int:
    """Run the command line and return the exit status; --help and --version end in SystemExit.

    argv: sys.argv[1:]; run: what is done with the Job.
    """
    try:
        return _answer(list(sys.argv[1:] if argv is None else argv), beneath_prolog, run or _serve)
    except (UsageError, HostError) as error:
        say(f"microscoop: {error}")
        return Status.USAGE
    except KeyboardInterrupt:  # before anything was started, or in --check, which has ended what it started
        return Status.INTERRUPTED


def _answer(words: list[str], beneath_prolog: bool, run: Callable[[Job], int]) -> int:
    asked, program = parse(words)
    if not (asked.dry_run or beneath_prolog):
        _find_footing(asked, words)
    job, warning = make_job(asked, program)
    if warning and job.verbose >= 0:
        say(f"microscoop: warning: {warning}")
    if job.dry_run:
        print("\n".join(distribution_lines(job.shares, dry_run=True)))
        return Status.OK
    if job.check:
        from .leaves import check
        return check.run(job)
    if job.serial:
        from .leaves import alone
        return alone.run(job)
    return run(job)


def parse(words: Sequence[str]) -> tuple[Job, list[str]]:
    """What is asked for, and the program: the script and all words after it. Raises UsageError; --help, SystemExit."""
    if not words or not words[0].startswith("-"):
        return Job(), list(words)  # a plain start does not wait for argparse
    from . import options
    return options.parse(words)


def _find_footing(asked: Job, words: list[str]) -> None:
    """See to it that what starts processes can run at all; beneath the prolog, in another process, if there is one."""
    if sys.platform == "win32":
        raise UsageError("the launcher needs POSIX: run it under WSL; without it, python script.py works serially")
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(f"the working directory cannot be found: {error.strerror}; cd to one that exists") from None
    if asked.prolog:
        from .leaves import prolog
        prolog.start_again(asked.prolog, asked.python, words)


def _serve(job: Job) -> int:
    from . import hooks, server
    leaves = dict(job.leaves)
    shown = leaves.pop("progress", job.verbose >= 0)  # the one leaf that is there unless it is switched off
    if shown and os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb" and hooks.leaf("progress"):
        leaves["progress"] = True
    return server.Server(job._replace(leaves=leaves)).run()
