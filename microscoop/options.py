"""The options of the command line, by argparse. Runs in the launcher, which imports it only when an option was given.

The words are split before argparse sees them: all that follows the script is the program's, a `--` too.
"""
from __future__ import annotations

import argparse
import os
import re
from functools import partial
from typing import Any, Callable, NoReturn, Optional, Sequence

from . import __version__
from .errors import UsageError
from .job import Job, is_template

DROPPED = {
    "-b": "there is one broker and more would not help: leave out -b",
    "--rsh": "hosts are reached by ssh; where rsh is all there is, try --ssh-executable \"rsh {host}\"",
    "--backend": "there is one way to carry messages and nothing to choose: leave out --backend",
    "--external-hostname": "hosts never connect to this machine, so its name is not needed: leave out "
                           "--external-hostname",
    "--debug": "-vv says what the launcher does, and MICROSCOOP_DEBUG=1 in the environment shows every message",
}


def parse(words: Sequence[str]) -> tuple[Job, list[str]]:
    """What is asked for, and the program: the script and all words after it. Raises UsageError; --help, SystemExit."""
    parser = _parser()
    for name in DROPPED:
        parser.add_argument(name, action=_Dropped, nargs="?", help=argparse.SUPPRESS)
    own, program = parser.split(words)
    found, strange = parser.parse_known_args(own)
    if strange:
        raise UsageError(parser.about_strange(strange[0]))
    asked = Job(**vars(found))
    if asked.tunnel and is_template(asked.ssh):
        raise UsageError("--tunnel needs ssh's own options, which a template with {host} goes without: leave out one")
    return asked, program


class _Parser(argparse.ArgumentParser):
    """Sees our own words alone, and raises UsageError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.replace("argument ", "", 1))

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Our own words, and the program."""
        own: list[str] = []
        rest = list(words)
        while rest and _is_option(rest[0]):
            word = rest.pop(0)
            if word == "--":
                break
            option, lacks = self._valued(word)
            count = _count_values(option, rest) if option and lacks else 0
            own += [word, *rest[:count]]
            del rest[:count]
            if option and option.dest.startswith("instead"):  # all that follows -m and -c is the program's
                break
        return own, rest

    def _valued(self, word: str) -> tuple[Optional[argparse.Action], bool]:
        """The option in a word that takes values; whether it lacks them yet: not in --path=x and -n6, but in -vn."""
        names = [word] if word.startswith("--") else ["-" + letter for letter in word[1:]]
        for name in names:
            option = self._option_string_actions.get(name)
            if option and option.nargs in (None, "+"):
                return option, name == names[-1]
        return None, False

    def about_strange(self, word: str) -> str:
        """What is said about an option that there is not."""
        from difflib import get_close_matches
        name, names = word.partition("=")[0], list(self._option_string_actions)
        close = [known for known in names if known.startswith(name)] or get_close_matches(name, names, 1, 0.7)
        advice = f"is {close[0]} meant?" if close else "--help lists the options"
        return f"unknown option {word!r}; options are never abbreviated and stand before the script; {advice}"


class _Dropped(argparse.Action):
    """An option of SCOOP's that is not needed here: DROPPED says why."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: object = None) -> NoReturn:
        raise UsageError(DROPPED[self.option_strings[0]])


class Leaf(argparse.Action):
    """An option whose value goes to the leaf that `dest` names (see hooks.py); `const` where it stands without one.
    Where several options are one leaf's, `dest` is LEAF.KEY, and the leaf gets a dict."""

    def __call__(self, parser: object, namespace: Any, values: object, option_string: object = None) -> None:
        value = self.const if values is None or values == [] else values
        leaf, _, key = self.dest.partition(".")
        leaves = vars(namespace).setdefault("leaves", {})
        if key:
            value = dict(leaves.get(leaf, {}), **{key: value})
        leaves[leaf] = value


class Variable(argparse.Action):
    """NAME=VALUE, or NAME alone for the value that it has here, into a dict."""

    def __call__(self, parser: object, namespace: Any, text: Any, option_string: object = None) -> None:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and name.isascii()):
            raise argparse.ArgumentError(self, f"expected NAME or NAME=VALUE, found {text!r}")
        if not equals and name not in os.environ:
            raise argparse.ArgumentError(self, f"{name} is not set here; write {name}=VALUE")
        vars(namespace).setdefault(self.dest, {})[name] = value if equals else os.environ[name]


def _count_values(option: argparse.Action, words: Sequence[str]) -> int:
    """How many of the words behind this option are its values."""
    if option.nargs != "+":
        return 1
    return next((place for place, word in enumerate(words) if _ends_hosts(word)), len(words))


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _ends_hosts(word: str) -> bool:
    return _is_option(word) or (word.endswith(".py") and os.path.isfile(word))


def _parser() -> _Parser:
    parser = _Parser(
        prog="python3 -m microscoop", add_help=False,
        usage="%(prog)s [options] [script.py | -m MODULE | -c CODE] [args ...]",
        description="Run a script whose futures.map calls spread over processes here and on other machines; without "
                    "one, on a terminal, a Python prompt.",
        allow_abbrev=False, argument_default=argparse.SUPPRESS,  # what holds without an option is in the class Job
        formatter_class=partial(argparse.HelpFormatter, max_help_position=28, width=100))
    # A given width saves a look at the terminal for each option.
    add = parser.add_argument
    either = parser.add_mutually_exclusive_group().add_argument
    loudness = parser.add_mutually_exclusive_group().add_argument
    add("-m", metavar="MODULE", dest="instead.module", action=Leaf, help="run a module, as python3 -m")
    add("-c", metavar="CODE", dest="instead.code", action=Leaf,
        help="run this text; its functions travel to workers by value")
    add("-n", metavar="N", type=_whole(1), help="workers in all (default: the hosts' counts, or one for each core)")
    either("--host", "--hosts", metavar="H", dest="hosts", nargs="+", action="extend",
           help="hosts, up to the next option, `--` or an existing .py file; named k times: k workers")
    either("--hostfile", metavar="FILE", help="hosts, one a line: name [count] [python=COMMAND]")
    add("--tunnel", action="store_true", help="reach each remote host through ssh -L")
    add("--ssh-executable", metavar="CMD", dest="ssh", type=_command,
        help="ssh, with options of your own; with {host} in it, a whole command instead, such as "
             "\"docker exec -i {host}\"")
    add("--python-interpreter", metavar="CMD", dest="python", type=_command_text,
        help="Python on the hosts (default: found by itself)")
    add("--prolog", metavar="CMD", help="run before Python, in a login shell, on each host and here; one word that "
                                        "names a readable file there is sourced")
    add("-p", "--path", metavar="DIR", help="working directory of the workers")
    add("--send", metavar="PATH", type=_existing, action="append",
        help="one more file or folder for hosts that are sent files; may be repeated")
    add("--pythonpath", metavar="DIRS", help="the workers' PYTHONPATH (default: the one here)")
    add("--env", metavar="NAME[=VALUE]", action=Variable,
        help="a variable of the workers' environment; may be repeated")
    add("--nice", metavar="N", type=_whole(-20, 19), help="niceness of the workers")
    add("--retries", metavar="N", type=_whole(0),
        help="how often a task that was running when its worker died is run again (default: 2)")
    add("--task-timeout", metavar="SECONDS", type=_duration,
        help="a task that runs longer is ended with its worker, and fails as TaskTimeout")
    add("--resume", metavar="FILE", dest="journal", action=Leaf, type=os.path.abspath,
        help="keep in FILE what the script's own maps and submits give, and do not run again what it holds")
    add("--profile", metavar="DIR", action=Leaf, nargs="?", const="profile",
        help="a cProfile file for each worker, in DIR (default: profile), written as --profile=DIR")
    add("--seed", metavar="N", type=_whole(0), action=Leaf,
        help="seed random, and numpy.random where it is imported, before each task: the same numbers for every -n")
    add("--serial", action="store_true", help="run everything in this process, task after task, for a debugger")
    add("--wait", metavar="SECONDS", type=_seconds,
        help="once one host is ready, how long the script waits for the others (default: 10)")
    add("--strict", action="store_true", help="stop if any host cannot be started")
    add("--progress", action=Leaf, dest="progress", nargs=0, const=True,
        help="on a terminal, a line about maps that last over a second, with -q too (default: without -q)")
    add("--no-progress", action=Leaf, dest="progress", nargs=0, const=False, help="no such line")
    add("--report", metavar="FILE", action=Leaf, dest="record.report",
        help="write a page (HTML) of the run: what each worker did when, and the slowest tasks")
    add("--trace", metavar="FILE", action=Leaf, dest="record.trace",
        help="write the same in Chrome's trace-event format, for ui.perfetto.dev")
    add("--dry-run", action="store_true", help="print which host would get how many workers, and stop")
    add("--check", action="store_true", help="contact every host, print a row for each, and stop; needs no script")
    add("--scoop", action=Leaf, nargs=0, const=True, help="run a program that was written for SCOOP, unedited")
    loudness("-v", "--verbose", action="count", help="say more; -vv: still more")
    loudness("-q", "--quiet", dest="verbose", action="store_const", const=-1, help="say nothing but errors")
    add("--version", action="version", version=f"microscoop {__version__}", help="print the version and stop")
    add("-h", "--help", action="help", help="print this and stop")
    return parser


# --- what reads a value --------------------------------------------------------------------------------------------

MOST = 999_999_999  # of anything that can be counted


def _whole(least: int, most: int = MOST) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch("-?[0-9]{1,9}", text) else least - 1
        large = re.fullmatch("0*[1-9][0-9]{9,}", text)
        wanted = f"of at least {least}" if most == MOST and not large else f"from {least} to {most}"
        if value < least or value > most:
            raise argparse.ArgumentTypeError(f"expected a whole number {wanted}, found {text!r}")
        return value
    return read


def _duration(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")
    return value


def _command(text: str) -> tuple[str, ...]:
    import shlex
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a command, found {text!r} ({error})") from None
    if not words:
        raise argparse.ArgumentTypeError("expected a command, found nothing")
    return words


def _command_text(text: str) -> str:
    _command(text)
    return text


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(f"there is no file or folder {path!r}")
    return path
