"""--prolog on the head: the launcher starts itself once more beneath a login shell that has run it. In the launcher.

The process stays the same: launcher -> shell -> prolog -> the Python that the prolog left on PATH -> launcher. What the
start-up files and the prolog print goes to stderr, since stdout is the program's; they do not get its stdin; and the
directory is the user's again, before and after, since the words of the command line are relative to it.
"""
from __future__ import annotations

import os
import shlex
import signal
from typing import NoReturn, Optional, Sequence

from microscoop.errors import UsageError

# Finds this very package, copied folder or zipapp, and then leaves sys.path as `python -m` has it.
START = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import microscoop.__main__ as start; "
         "del sys.path[0]; start.main(True)")
PROBE = "'import sys; sys.exit(sys.version_info < (3, 8))' </dev/null >/dev/null 2>&1"


def start_again(prolog: str, python: Optional[str], words: Sequence[str]) -> NoReturn:
    """Replace this process by a login shell that runs the prolog and then the launcher with the same words.

    python: the command that is tried before python3 and python. Raises UsageError where no shell can be started.
    """
    try:
        text = shell_text(prolog, python, words, os.getcwd(), os.dup(1))
        os.dup2(2, 1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the prolog's commands would inherit that
        try:
            os.execvp("bash", ["bash", "-l", "-c", text])
        except FileNotFoundError:
            os.execvp("sh", ["sh", "-l", "-c", text])
    except OSError as error:
        raise UsageError(f"cannot start a shell for --prolog: {error.strerror}") from None


def shell_text(prolog: str, python: Optional[str], words: Sequence[str], directory: str, stdout: int) -> str:
    """What the shell executes; stdout: the descriptor that will be the program's stdout again."""
    os.set_inheritable(stdout, True)
    package_home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    start = " ".join(shlex.quote(word) for word in ("-c", START, package_home, *words))
    back = f"cd {shlex.quote(directory)} || exit"
    lines = [
        "trap 'echo \"microscoop: here, --prolog ended with status $?, where 0 was expected\" >&2; exit 2' 0",
        back,
        f"{_command(prolog)} </dev/null {stdout}>&- || exit",  # nothing that it starts may hold stdout open
        back,
        "trap - 0",
    ]
    given = (shlex.quote(python), python) if python else ()  # one program's path, or text for a shell
    for candidate in (*given, "python3", "python"):
        lines.append(f"{candidate} -c {PROBE} && exec {candidate} {start} >&{stdout} {stdout}>&-")
    lines.append("echo 'microscoop: --prolog left no python3 or python of 3.8 or newer on PATH here' >&2; exit 2")
    return "\n".join(lines)


def _command(prolog: str) -> str:
    """One word that names a readable file is sourced, all else is run by the same shell."""
    try:
        words = shlex.split(prolog)
    except ValueError:
        words = []  # the shell will say what is wrong with it
    path = os.path.abspath(os.path.expanduser(words[0])) if len(words) == 1 else ""
    if os.path.isfile(path) and os.access(path, os.R_OK):
        return f". {shlex.quote(path)}"
    return f"eval {shlex.quote(prolog)}"
