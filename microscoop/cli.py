"""The command line, in the launcher: words -> one Job -> its run -> exit status. Bad input ends here, in one sentence.

One table says all of each option. argparse would eat a `--` of the program's, and cost 8 ms at each start.
"""
from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

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
    options, program = parse(words)
    if options.help or options.version:
        return _tell(_help() if options.help else f"microscoop {__version__}")
    if not (options.dry_run or beneath_prolog):
        _find_footing(options, words)
    job, warning = make_job(options, program)
    if warning and job.verbose >= 0:
        print(f"microscoop: warning: {warning}", file=sys.stderr)
    if options.dry_run:
        return _tell("\n".join(distribution_lines(job.shares, dry_run=True)))
    return (_check if options.check else run)(job)


def _find_footing(options: SimpleNamespace, words: list[str]) -> None:
    """See to it that what starts processes can run at all; beneath the prolog, in another process, if there is one."""
    if sys.platform == "win32":
        raise UsageError("the launcher needs POSIX: run it under WSL; without it, python script.py works serially")
    if options.prolog:
        from microscoop import prolog
        prolog.start_again(options.prolog, options.python_interpreter, words)


def _tell(text: str) -> int:
    print(text)
    return Status.OK


def _serve(job: Job) -> int:
    from microscoop import server
    return server.run(job)


def _check(job: Job) -> int:
    from microscoop.leaves import check
    return check.run(job)


# --- the table of options ------------------------------------------------------------------------------------------
# What reads a value raises ValueError with what was expected and found.

def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = whole_number(text)
        if value is None or value < least:
            raise ValueError(f"expected a whole number of at least {least}, found {text!r}")
        return value
    return read


def _niceness(text: str) -> int:
    negative = text.startswith("-")
    value = whole_number(text[negative:])
    if value is None or value > 19 + negative:
        raise ValueError(f"expected a whole number from -20 to 19, found {text!r}")
    return -value if negative else value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"expected a number of seconds, found {text!r}")
    return value


def _command(text: str) -> tuple[str, ...]:
    import shlex
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"expected a command, found {text!r} ({error})") from None
    if not words:
        raise ValueError("expected a command, found nothing")
    return words


def _command_text(text: str) -> str:
    _command(text)
    return text


def _variable(text: str) -> str:
    name = text.partition("=")[0]
    if not (name.isidentifier() and name.isascii()):
        raise ValueError(f"expected NAME or NAME=VALUE, found {text!r}")
    return text


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise ValueError(f"there is no file or folder {path!r}")
    return path


class _Option(NamedTuple):
    names: str
    value: str  # what the help calls its value; "": a switch, which is counted
    help: str
    read: Callable[[str], Any] = str
    default: Any = None
    many: bool = False  # all its values are kept, not the last one

    @property
    def key(self) -> str:
        """Its attribute's name among the options."""
        return self.names.split()[-1].lstrip("-").replace("-", "_")

    @property
    def unsaid(self) -> Any:
        """What it is among the options where nobody gave it."""
        if self.many:
            return []
        return self.default if self.value else 0


OPTIONS = (
    _Option("-n", "N", "workers in all (default: the hosts' counts, or one for each core)", _at_least(1)),
    _Option("--host --hosts", "H...", "hosts, up to the next option, `--` or an existing .py file; named k times: k "
            "workers", many=True),
    _Option("--hostfile", "FILE", "hosts, one a line: name [count] [python=COMMAND]"),
    _Option("--tunnel", "", "reach each remote host through ssh -L"),
    _Option("--ssh-executable", "CMD", "ssh, with options of your own; with {host} in it, a whole command instead, "
            "such as \"docker exec -i {host}\"", _command, ("ssh",)),
    _Option("--python-interpreter", "CMD", "Python on the hosts (default: found by itself)", _command_text),
    _Option("--prolog", "CMD", "run before Python, in a login shell, on each host and here; one word that names a "
            "readable file there is sourced"),
    _Option("-p --path", "DIR", "working directory of the workers"),
    _Option("--send", "PATH", "one more file or folder for hosts that are sent files; may be repeated", _existing,
            many=True),
    _Option("--pythonpath", "DIRS", "the workers' PYTHONPATH (default: the one here)"),
    _Option("--env", "NAME[=VALUE]", "a variable of the workers' environment; may be repeated", _variable, many=True),
    _Option("--nice", "N", "niceness of the workers", _niceness, 0),
    _Option("--retries", "N", "how often a task that was running when its worker died is run again (default: 2)",
            _at_least(0), 2),
    _Option("--wait", "SECONDS", "once one host is ready, how long the script waits for the others (default: 10)",
            _seconds, 10.0),
    _Option("--strict", "", "stop if any host cannot be started"),
    _Option("--dry-run", "", "print which host would get how many workers, and stop"),
    _Option("--check", "", "contact every host, print a row for each, and stop; needs no script"),
    _Option("-v --verbose", "", "say more; -vv: still more"),
    _Option("-q --quiet", "", "say nothing but errors"),
    _Option("--version", "", "print the version and stop"),
    _Option("-h --help", "", "print this and stop"),
)
_NAMED = {name: option for option in OPTIONS for name in option.names.split()}

_DROPPED = {
    "-b": "there is one broker and more would not help: leave out -b",
    "--rsh": "hosts are reached by ssh; where rsh is all there is, try --ssh-executable \"rsh {host}\"",
    "--backend": "there is one way to carry messages and nothing to choose: leave out --backend",
    "--external-hostname": "hosts never connect to this machine, so its name is not needed: leave out "
                           "--external-hostname",
    "--debug": "there is no debug mode to switch on: -vv says what the launcher does",
}


def _help() -> str:
    from textwrap import fill
    lines = ["usage: python3 -m microscoop [options] script.py [args ...]", "",
             "Run a script whose futures.map calls spread over processes here and on other machines.", ""]
    for option in OPTIONS:
        left = f"  {', '.join(option.names.split())} {option.value}".ljust(27)
        lines.append(fill(option.help, 100, initial_indent=left + " ", subsequent_indent=" " * 28))
    return "\n".join(lines)


# --- from words to options -----------------------------------------------------------------------------------------

def parse(words: Sequence[str]) -> tuple[SimpleNamespace, list[str]]:
    """The options, and the program: the script with every word after it. Raises UsageError."""
    values = {option.key: option.unsaid for option in OPTIONS}
    rest = list(words)
    while rest and _is_option(rest[0]):
        word = rest.pop(0)
        if word == "--":
            break
        for name, attached in _spelled(word):
            if name not in _NAMED:
                raise UsageError(_about_strange(name, word))
            try:
                _note(values, _NAMED[name], attached, rest)
            except ValueError as error:
                raise UsageError(f"{name}: {error}") from None
    options = SimpleNamespace(**values)
    _refuse_pairs(options)
    return options, rest


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _spelled(word: str) -> Iterator[tuple[str, Optional[str]]]:
    """The names in one word, each with the value that is attached to it: --path=x, -n6, -vn6, -vv."""
    if word.startswith("--"):
        name, given, value = word.partition("=")
        yield name, value if given else None
        return
    for end, letter in enumerate(word[1:], 2):
        takes_value = "-" + letter in _NAMED and _NAMED["-" + letter].value
        if takes_value and word[end:]:
            yield "-" + letter, word[end:]
            return
        yield "-" + letter, None


def _note(values: dict[str, Any], option: _Option, attached: Optional[str], rest: list[str]) -> None:
    """Enter what one option says; its value is taken off the rest of the words where none is attached."""
    if not option.value:
        if attached is not None:
            raise ValueError(f"takes no value, found {attached!r}")
        values[option.key] += 1
    elif option.key == "hosts" and attached is None:
        values[option.key] += _take_hosts(rest)
    else:
        value = option.read(_take_value(rest) if attached is None else attached)
        values[option.key] = values[option.key] + [value] if option.many else value


def _take_hosts(rest: list[str]) -> list[str]:
    hosts = []
    while rest and not _is_option(rest[0]) and not (rest[0].endswith(".py") and os.path.isfile(rest[0])):
        hosts.append(rest.pop(0))
    if not hosts:
        raise ValueError("expected at least one host")
    return hosts


def _take_value(rest: list[str]) -> str:
    if not rest:
        raise ValueError("expected a value")
    if _is_option(rest[0]) and not rest[0][1].isdigit():
        raise ValueError(f"expected a value, found the option {rest[0]!r}")
    return rest.pop(0)


def _refuse_pairs(options: SimpleNamespace) -> None:
    if options.hosts and options.hostfile is not None:
        raise UsageError("--host and --hostfile exclude each other: give one of them")
    if options.quiet and options.verbose:
        raise UsageError("-q and -v exclude each other: give one of them")
    if options.tunnel and is_template(options.ssh_executable):
        raise UsageError("--tunnel needs ssh's own options, which a template with {host} goes without: leave out one")


def _about_strange(name: str, word: str) -> str:
    if name in _DROPPED:
        return _DROPPED[name]
    from difflib import get_close_matches
    close = [known for known in _NAMED if known.startswith(name)] or get_close_matches(name, _NAMED, 1, 0.7)
    advice = f"is {close[0]} meant?" if close else "--help lists the options"
    return f"unknown option {word!r}; options are never abbreviated and stand before the script; {advice}"
