"""--prolog: what it is to a shell, here and on hosts; and the launcher's second start beneath it.  Runs in the
launcher.

Here a login shell runs the prolog, and then the launcher once more. The process stays the same: launcher -> shell ->
prolog -> the Python that the prolog left on PATH -> launcher. What the start-up files and the prolog print goes to
stderr, since stdout is the program's; they do not get its stdin; and the directory is the user's again, before and
after, since the words of the command line are relative to it.
"""
from __future__ import annotations

import os
import re
import shlex
import signal
from typing import NoReturn, Optional, Sequence

from ..errors import UsageError

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
    package_home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    start = " ".join(shlex.quote(word) for word in ("-c", START, package_home, *words))
    back = f"cd {shlex.quote(directory)} || exit"
    lines = [
        "trap 'echo \"microscoop: here, --prolog ended with status $?, where 0 was expected\" >&2; exit 2' 0",
        back,
        f"{command(prolog)} </dev/null {stdout}>&- || exit",  # nothing that it starts may hold stdout open
        back,
        "trap - 0",
    ]
    given = (shlex.quote(python), python) if python else ()  # one program's path, or text for a shell
    for candidate in (*given, "python3", "python"):
        lines.append(f"{candidate} -c {PROBE} && exec {candidate} {start} >&{stdout} {stdout}>&-")
    lines.append("echo 'microscoop: --prolog left no python3 or python of 3.8 or newer on PATH here' >&2; exit 2")
    return "\n".join(lines)


def command(prolog: str) -> str:
    """It as text for sh, here or on a host: one word that names a readable file there is sourced, all else is run."""
    try:
        words = shlex.split(prolog)
    except ValueError:
        words = []  # the shell will say what is wrong with it
    tests = ""
    if len(words) == 1:
        for path in dict.fromkeys((os.path.abspath(words[0]), words[0])):
            place = shlex.quote(os.path.join(".", path))
            home = re.match(r"~[\w.-]*/", path)
            if home:
                place = home.group() + shlex.quote(path[home.end():])  # the shell knows where that is
            tests += f"if [ -f {place} ] && [ -r {place} ]; then . {place}; el"
    return f"{tests}se eval {shlex.quote(prolog)}; fi" if tests else f"eval {shlex.quote(prolog)}"
