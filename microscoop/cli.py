"""The command line, in the launcher: words -> one Job -> its run -> exit status. Bad input ends here, in one sentence.

The words are split before argparse sees them: all that follows the script is the program's, a `--` too.
"""
from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Callable, NamedTuple, NoReturn, Optional, Sequence

from microscoop import __version__
from microscoop.errors import HostError, Status, UsageError
from microscoop.hosts import distribution_lines, whole_number
from microscoop.job import Job, is_template, make_job


def main(
    argv: Optional[Sequence[str]] = None, beneath_prolog: bool = False, run: Optional[Callable[[Job], int]] = None
) -> int:
    """Run the command line and return the exit status; argv: sys.argv[1:]; run: what is done with the Job."""
    try:
        return _answer(list(sys.argv[1:] if argv is None else argv), beneath_prolog, run or _serve)
    except (UsageError, HostError) as error:
        print(f"microscoop: {error}", file=sys.stderr)
        return Status.USAGE
    except KeyboardInterrupt:  # before anything was started
        return Status.INTERRUPTED


def _answer(words: list[str], beneath_prolog: bool, run: Callable[[Job], int]) -> int:
    own, program = split(words)
    options = parse(own)
    if options.help or options.version:
        print(_parser().format_help() if options.help else f"microscoop {__version__}")
        return Status.OK
    if sys.platform == "win32":
        raise UsageError("the launcher needs POSIX: run it under WSL; without it, python script.py works serially")
    if options.prolog and not (beneath_prolog or options.dry_run):
        from microscoop import prolog
        prolog.start_again(options.prolog, options.python, words)
    job, warning = make_job(options, program)
    if warning and not options.quiet:
        print(f"microscoop: warning: {warning}", file=sys.stderr)
    if options.dry_run:
        print("\n".join(distribution_lines(job.shares, dry_run=True)))
        return Status.OK
    return _check(job) if options.check else run(job)


def _serve(job: Job) -> int:
    from microscoop import server
    return server.run(job)


def _check(job: Job) -> int:
    from microscoop.leaves import check
    return check.run(job)


# --- the table of options ------------------------------------------------------------------------------------------

def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        sign = -1 if text.startswith("-") else 1
        value = whole_number(text[1:] if sign < 0 else text)
        if value is None or not least <= sign * value <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
        return sign * value
    return read


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


def _variable(text: str) -> str:
    name = text.partition("=")[0]
    if not (name.isidentifier() and name.isascii()):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME=VALUE, found {text!r}")
    return text


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise argparse.ArgumentTypeError(f"there is no file or folder {path!r}")
    return path


class _Option(NamedTuple):
    names: str
    value: str  # what the help calls its value; "": it takes none
    help: str
    settings: dict[str, Any] = {}


HOST_OPTIONS = "--host --hosts"
ANY = 999_999_999

OPTIONS = (
    _Option("-n", "N", "workers in all (default: the hosts' counts, or one for each core)", {"type": _number(1, ANY)}),
    _Option(HOST_OPTIONS, "H", "hosts, up to the next option, `--` or an existing .py file; named k times: k workers",
            {"dest": "hosts", "nargs": "+", "action": "extend"}),
    _Option("--hostfile", "FILE", "hosts, one a line: name [count] [python=COMMAND]"),
    _Option("--tunnel", "", "reach each remote host through ssh -L"),
    _Option("--ssh-executable", "CMD", "ssh, with options of your own; with {host} in it, a whole command instead, "
            "such as \"docker exec -i {host}\"", {"dest": "ssh", "type": _command, "default": ("ssh",)}),
    _Option("--python-interpreter", "CMD", "Python on the hosts (default: found by itself)",
            {"dest": "python", "type": _command_text}),
    _Option("--prolog", "CMD", "run before Python, in a login shell, on each host and here; one word that names a "
            "readable file there is sourced"),
    _Option("-p --path", "DIR", "working directory of the workers"),
    _Option("--send", "PATH", "one more file or folder for hosts that are sent files; may be repeated",
            {"type": _existing, "action": "append", "default": []}),
    _Option("--pythonpath", "DIRS", "the workers' PYTHONPATH (default: the one here)"),
    _Option("--env", "NAME[=VALUE]", "a variable of the workers' environment; may be repeated",
            {"type": _variable, "action": "append", "default": []}),
    _Option("--nice", "N", "niceness of the workers", {"type": _number(-20, 19), "default": 0}),
    _Option("--retries", "N", "how often a task that was running when its worker died is run again (default: 2)",
            {"type": _number(0, ANY), "default": 2}),
    _Option("--wait", "SECONDS", "once one host is ready, how long the script waits for the others (default: 10)",
            {"type": _seconds, "default": 10.0}),
    _Option("--strict", "", "stop if any host cannot be started"),
    _Option("--dry-run", "", "print which host would get how many workers, and stop"),
    _Option("--check", "", "contact every host, print a row for each, and stop; needs no script"),
    _Option("-v --verbose", "", "say more; -vv: still more", {"action": "count", "default": 0}),
    _Option("-q --quiet", "", "say nothing but errors"),
    _Option("--version", "", "print the version and stop"),
    _Option("-h --help", "", "print this and stop"),
)

_VALUED = frozenset(name for option in OPTIONS if option.value for name in option.names.split())

_DROPPED = {
    "-b": "there is one broker and more would not help: leave out -b",
    "--rsh": "hosts are reached by ssh; where rsh is all there is, try --ssh-executable \"rsh {host}\"",
    "--backend": "there is one way to carry messages and nothing to choose: leave out --backend",
    "--external-hostname": "hosts never connect to this machine, so its name is not needed: leave out "
                           "--external-hostname",
    "--debug": "there is no debug mode to switch on: -vv says what the launcher does",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.replace("argument ", "", 1))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python3 -m microscoop", usage="%(prog)s [options] script.py [args ...]", add_help=False,
        allow_abbrev=False, description="Run a script whose futures.map calls spread over processes here and on hosts.")
    for option in OPTIONS:
        kind = {"metavar": option.value} if option.value else {"action": "store_true"}
        parser.add_argument(*option.names.split(), help=option.help, **{**kind, **option.settings})
    return parser


# --- from words to options -----------------------------------------------------------------------------------------

def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """microscoop's own words, and the program's: the script and all that follows it."""
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return list(words[:place]), list(words[place + 1:])
        if not word.startswith("-"):
            return list(words[:place]), list(words[place:])
        place += 1
        if word in HOST_OPTIONS.split():
            while place < len(words) and not _ends_hosts(words[place]):
                place += 1
        elif _takes_next(word):
            place += 1
    return list(words), []


def _ends_hosts(word: str) -> bool:
    return word.startswith("-") or (word.endswith(".py") and os.path.isfile(word))


def _takes_next(word: str) -> bool:
    """Whether an option's value is the next word: not in --path=x, not in -n6, but in -vn."""
    if word.startswith("--"):
        return word in _VALUED
    for end, letter in enumerate(word[1:], 2):
        if "-" + letter in _VALUED:
            return end == len(word)
    return False


def parse(own: Sequence[str]) -> argparse.Namespace:
    """The options that microscoop's own words ask for. Raises UsageError."""
    options, strange = _parser().parse_known_args(own)
    if strange:
        raise UsageError(_about_strange(strange[0]))
    if options.hosts and options.hostfile is not None:
        raise UsageError("--host and --hostfile exclude each other: give one of them")
    if options.quiet and options.verbose:
        raise UsageError("-q and -v exclude each other: give one of them")
    if options.tunnel and is_template(options.ssh):
        raise UsageError("--tunnel needs ssh's own options, which a template with {host} goes without: leave out one")
    return options


def _about_strange(word: str) -> str:
    name = word.partition("=")[0]
    for dropped, why in _DROPPED.items():
        if name == dropped or (len(dropped) == 2 and name.startswith(dropped)):
            return why
    from difflib import get_close_matches
    known = [each for option in OPTIONS for each in option.names.split()]
    close = [each for each in known if each.startswith(name)] or get_close_matches(name, known, 1)
    advice = f"is {close[0]} meant?" if close else "--help lists the options"
    return f"unknown option {word!r}; options are never abbreviated and stand before the script; {advice}"
