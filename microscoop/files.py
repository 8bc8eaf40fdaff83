"""What a host must be sent: the script, what it imports from its own folder, and --send. Runs in the launcher.

Nothing is read before the first host has answered, and then only once: a purely local run never comes here. Each file
keeps its place relative to the script's folder, also where that is above or beside it (--send ../data).
"""
from __future__ import annotations

import ast
import hashlib
import os
import pkgutil
import warnings
import zlib
from functools import cached_property
from importlib.machinery import all_suffixes
from typing import Iterator, Sequence

from .errors import UsageError
from .record import Record

LIMIT = 64 << 20  # bytes
PACKAGE = __name__.partition(".")[0]


class Entry(Record):
    """One file, or an empty folder, whose name ends in "/"."""

    name: str  # relative to the parcel's root
    size: int
    mode: int
    digest: str  # sha256 in hexadecimal


class Bundle(Record):
    """Files as they travel: one zlib stream of all contents, in the order of the entries."""

    entries: list[Entry]
    blob: bytes


class Parcel:
    """All that one run may have to send. script: "" if there is none; raises UsageError for a --send that is not there.

    original: the script's file, links resolved; folder: where that is, or where a module is imported from
    (sys.path[0]); root: the lowest folder that holds everything.
    """

    def __init__(self, script: str, send: Sequence[str] = (), folder: str = "") -> None:
        self.script = os.path.abspath(script) if script else ""
        self.original = os.path.realpath(script) if script else os.getcwd()
        self.folder = os.path.realpath(folder) if folder else (
            os.path.dirname(self.original) if script else self.original)
        self._send = [_placed(path) for path in send]
        self.root = os.path.commonpath([self.folder, *self._send])
        self._contents: list[bytes] = []
        self._kept = 0

    @cached_property
    def package(self) -> Bundle:
        """microscoop itself."""
        sources = {f"{PACKAGE}/{name}": source for name, source in own_sources()}
        entries = [Entry(name, len(source), 0o600, "") for name, source in sources.items()]
        return Bundle(entries, zlib.compress(b"".join(sources.values()), 1))

    @cached_property
    def entries(self) -> list[Entry]:
        """The user's files with their digests. Raises UsageError for what cannot be read."""
        try:
            found = closure(self.original, self.folder) if self.script else {}
            for path in self._send:
                found.update(dict.fromkeys(tree(path)))
            return [self._read(path) for path in found]
        except OSError as error:
            raise UsageError(f"{error.filename} is to be sent to other hosts, but {error.strerror}") from None

    @cached_property
    def blob(self) -> bytes:
        """The contents of the entries, compressed. Raises UsageError if they are too large."""
        total = sum(entry.size for entry in self.entries)
        if total > LIMIT:
            largest = sorted(self.entries, key=lambda entry: -entry.size)[:3]
            names = ", ".join(f"{os.path.join(self.root, one.name)} ({_mib(one.size)})" for one in largest)
            raise UsageError(
                f"{_mib(total)} would have to be sent to each host that does not share {self.folder}, and the limit is "
                f"{_mib(LIMIT)}; the largest files: {names}; keep data out of packages, on a file system of all hosts")
        blob = zlib.compress(b"".join(self._contents), 1)  # a higher level would stop the launcher for seconds
        self._contents = []
        return blob

    def _read(self, path: str) -> Entry:
        """Keeps the content while it may still be sent: a file that changes now is sent as its digest says."""
        name = os.path.relpath(path, self.root)
        if path.endswith("/"):
            return Entry(name + "/", 0, 0o700, "")
        with open(path, "rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read()
        self._kept += len(content)
        if self._kept <= LIMIT:
            self._contents.append(content)
        return Entry(name, len(content), mode & 0o777 | 0o600, hashlib.sha256(content).hexdigest())


def _mib(size: int) -> str:
    return f"{size / 2 ** 20:.1f} MiB"


def _placed(path: str) -> str:
    """Absolute, with the links in it resolved but for the last name: that is the one it shall have."""
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise UsageError(f"--send: there is no file or folder {path!r}")
    head, tail = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(head), tail)


def own_sources() -> Iterator[tuple[str, bytes]]:
    """(name below the package, source) of each of our modules, by their loader: it may be that of a zipapp."""
    import microscoop
    names = ["__init__"]
    folders = [(path, "") for path in microscoop.__path__]
    for path, prefix in folders:
        for module in pkgutil.iter_modules([path]):
            names.append(prefix + module.name)
            if module.ispkg:
                folders.append((os.path.join(path, module.name), prefix + module.name + "/"))
                names[-1] += "/__init__"
    for name in names:
        source = pkgutil.get_data(PACKAGE, name + ".py")
        if source is not None:
            yield name + ".py", source


def tree(path: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """A file, or all that is in a folder, without __pycache__; links are followed, but not in circles."""
    if os.path.isfile(path):
        yield path
    real = os.path.realpath(path)
    if os.path.isdir(path) and real not in above:
        names = sorted(name for name in os.listdir(path) if name != "__pycache__")
        for name in names:
            yield from tree(os.path.join(path, name), (*above, real))
        if not names:
            yield os.path.join(path, "")


# --- the closure of imports ----------------------------------------------------------------------------------------

def closure(script: str, folder: str) -> dict[str, None]:
    """The script and all files in its folder that it imports, or what these import; packages whole."""
    found: dict[str, None] = {}
    top, *below = os.path.relpath(script, folder).split(os.sep)
    waiting = [script, *(tree(os.path.join(folder, top)) if below else ())]    # -m: the whole package
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            if path == script or path.endswith(".py"):
                waiting.extend(imported(path, folder))
    return found


def imported(path: str, folder: str) -> Iterator[str]:
    """The files in the folder that the imports of one source stand for; none if it cannot be parsed."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the script's own, which Python shows when it runs
            module = ast.parse(file.read())
    except (SyntaxError, ValueError, RecursionError):
        return  # whoever imports it will say what is wrong with it
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from find(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            up = [os.pardir] * (node.level - 1)
            base = os.path.normpath(os.path.join(os.path.dirname(path), *up)) if node.level else folder
            if os.path.commonpath([base, folder]) == folder:
                for alias in node.names:
                    yield from find(base, [*filter(None, (node.module or "").split(".")), alias.name])


def find(base: str, parts: Sequence[str]) -> Iterator[str]:
    """The files that a dotted name stands for, as seen from the folder base; a package's are all."""
    path = os.path.join(base, parts[0])
    files = [path + suffix for suffix in all_suffixes() if os.path.isfile(path + suffix)]
    if parts[0] == PACKAGE:
        return  # every host gets it anyway
    if any(os.path.isfile(os.path.join(path, "__init__" + suffix)) for suffix in all_suffixes()):
        yield from tree(path)
    elif files:
        yield from files
    elif len(parts) > 1 and os.path.isdir(path):
        yield from find(path, parts[1:])  # a namespace package: only what is named
