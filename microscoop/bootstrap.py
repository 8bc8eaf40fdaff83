"""What a bare Python on a host is fed through ssh's stdin, from its nonce to the agent; launch.py is the other end.

It imports nothing of ours and parses on Python 2.7, so that an old Python can say how old it is; annotations are
comments for that reason. Up to the fork it is one process. Then the child becomes the agent, and the parent is the
janitor: it holds nothing of ssh's, and removes the private directory when the agent is gone, however it went.

Both ways go frames: four bytes of length, then JSON or, for files, one zlib stream of all their contents in the order
of a list of (name, size, mode, digest) that came before. A name that ends in "/" is a folder.
"""
import os
import signal
import sys

NEEDED = (3, 8)
SILENCE = 45  # seconds without a byte from the head after which it is given up

if False:  # what the annotations name; importing it would cost each start 10 ms
    from typing import Any, BinaryIO, Dict, Iterable, List, NoReturn, Tuple  # noqa: F401


class Failure(Exception):
    """The start ends here; args: the stage, what happened."""


def fail(stage, words):  # type: (str, str) -> NoReturn
    """End the start; main() tells the head."""
    raise Failure(stage, words)


def main(stdin):  # type: (BinaryIO) -> None
    """Called by the loader on the head's command line, which has read this text from the same stdin."""
    out = os.dup(1)
    silence(0, 1)
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, give_up)
    try:
        start(stdin, out)
    except EOFError:
        sys.exit(1)  # the head is gone, and there is nobody to tell
    except ImportError as error:
        send(out, '{"stage": "python", "error": "it lacks the standard module %s"}'
             % (getattr(error, "name", None) or str(error).split()[-1]))
    except Failure as failure:
        tell(out, failure.args[0], error=failure.args[1])
    sys.exit(1)


def start(stdin, out):  # type: (BinaryIO, int) -> None
    """All stages in their order; the parent and the child both leave it by exiting."""
    import json
    order = json.loads(receive(stdin).decode("ascii"))
    if sys.version_info < NEEDED:
        fail("version", too_old(order["settings"]["host"]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the janitor could not wait for the agent
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    package = receive(stdin)
    here = is_in_place(order)
    tell(out, "files", in_place=here, **facts())
    files = b"" if here else receive(stdin)
    directory = private_path()
    try:
        make_private(directory)
        unpack(os.path.join(directory, "lib"), order["package"], package)
        order.update(directory=directory, sent=os.path.join(directory, "files"))
        if not here:
            unpack(order["sent"], order["files"], files)
        place(order, here)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))  # until both know what it means to them
        parent, child = os.getpid(), fork()
    except BaseException:  # sys.exit of a failed stage, too: nothing stays behind
        remove(directory)
        raise
    if child:
        os.close(out)
        stdin.close()
        janitor(child, order)
    serve(stdin, out, order)
    if os.getppid() != parent:  # the janitor has been killed
        clean_up(order)
    os._exit(0)


# --- talking with the head -----------------------------------------------------------------------------------------

def tell(out, stage, **known):  # type: (int, str, **Any) -> None
    """One message: the stage that is reached and what is known by now."""
    import json
    send(out, json.dumps(dict(known, stage=stage)))


def send(out, text):  # type: (int, str) -> None
    """One frame of ASCII; EOFError when the head is gone. By hand: `struct` or `json` may be what is missing."""
    size = len(text)
    rest = bytes(bytearray([size >> 24 & 255, size >> 16 & 255, size >> 8 & 255, size & 255])) + text.encode("ascii")
    try:
        while rest:
            rest = rest[os.write(out, rest):]
    except OSError:
        give_up()


def receive(stdin):  # type: (BinaryIO) -> bytes
    """The next frame; EOFError when the head is gone."""
    size = bytearray(read(stdin, 4))
    return read(stdin, size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3])


def read(stdin, size):  # type: (BinaryIO, int) -> bytes
    """So many bytes; EOFError when the head is gone, or silent for SILENCE seconds."""
    parts = []
    while size:
        signal.alarm(SILENCE)
        parts.append(stdin.read(min(size, 1 << 16)))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    signal.alarm(0)
    return b"".join(parts)


def give_up(*_):  # type: (*object) -> None
    """The head is gone; a handler of SIGALRM and SIGTERM, too."""
    raise EOFError


def silence(*descriptors):  # type: (*int) -> None
    """What is written there from now on vanishes, and nothing comes from there."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


# --- stage version -------------------------------------------------------------------------------------------------

def too_old(host):  # type: (str) -> str
    """What is wrong with this Python, and which names on PATH are better."""
    minors = set()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.startswith("python3.") and name[8:].isdigit() and int(name[8:]) >= NEEDED[1]:
                minors.add(int(name[8:]))
    words = "%s on %s is %d.%d; %d.%d or newer is needed" % (
        (os.path.basename(sys.executable), host) + sys.version_info[:2] + NEEDED)
    others = ", ".join("python3.%d" % minor for minor in sorted(minors, reverse=True))
    return words + ("; there is also " + others if others else "")


def usable_cores():  # type: () -> int
    """The cores that this process may use, where the system can tell; else all."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # it cannot be asked, or must not be
        return os.cpu_count() or 1


def facts():  # type: () -> Dict[str, Any]
    """What this machine and its Python are: memory in bytes, cores that may be used."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # a system that does not tell
        memory = 0
    return {"python": sys.executable, "version": list(sys.version_info[:3]), "hostname": os.uname()[1],
            "cores": usable_cores(), "memory": memory}


# --- stage files ---------------------------------------------------------------------------------------------------

def is_in_place(order):  # type: (Dict[str, Any]) -> bool
    """Whether this host shares the script's folder: all that would be sent lies there with the same content.

    The head's working directory has to be there too, unless --path names another one.
    """
    folders = (order["folder"], order["path"] or order["cwd"])
    if not os.path.isfile(order["script"]) or not all(map(os.path.isdir, folders)):
        return False
    return all(is_same(os.path.join(order["root"], name), size, digest) for name, size, _, digest in order["files"])


def is_same(path, size, digest):  # type: (str, int, str) -> bool
    """Whether that file, or folder, is here; size in bytes, digest: sha256 in hexadecimal."""
    import hashlib
    if path.endswith("/"):
        return os.path.isdir(path)
    try:
        if not os.path.isfile(path) or os.path.getsize(path) != size:
            return False
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:  # it may not be read, or has just gone: then it is not the same for us
        return False


def private_path():  # type: () -> str
    """Where the private directory is to be."""
    base = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")
    return os.path.join(base, "microscoop-" + "".join("%02x" % byte for byte in bytearray(os.urandom(8))))


def make_private(path):  # type: (str) -> None
    """A new directory that only this user can enter."""
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        fail("files", "no private directory can be made in %s: %s" % (os.path.dirname(path), error.strerror))


def unpack(directory, entries, blob):  # type: (str, Iterable[Tuple[str, int, int, str]], bytes) -> None
    """Writes the files below the directory and nowhere else; it is fresh and ours, so it has no links."""
    import zlib
    data, at = zlib.decompress(blob), 0
    try:
        os.mkdir(directory, 0o700)
        for name, size, mode, _ in entries:
            path = os.path.normpath(os.path.join(directory, name))
            if not path.startswith(directory + os.sep):
                fail("files", "%r would lie outside of the private directory" % name)
            os.makedirs(path if name.endswith("/") else os.path.dirname(path), 0o700, exist_ok=True)
            if not name.endswith("/"):
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                    file.write(data[at:at + size])
            at += size
    except OSError as error:
        fail("files", "cannot write to %s: %s" % (directory, error.strerror))


# --- stage script --------------------------------------------------------------------------------------------------

def place(order, here):  # type: (Dict[str, Any], bool) -> None
    """Completes the settings: where the script and its folder are, in place or where they were sent."""
    script, folder, cwd = order["script"], order["folder"], order["cwd"]
    if not here:
        folder, original = (os.path.normpath(os.path.join(order["sent"], os.path.relpath(order[name], order["root"])))
                            for name in ("folder", "original"))
        script, cwd = script and original, folder
    cwd = order["path"] or cwd
    if not os.path.isdir(cwd):
        fail("script", "there is no directory %s" % cwd)
    if script and not os.access(script, os.R_OK):
        fail("script", "%s cannot be read" % script)
    order["settings"].update(script=script, path0=folder, directory=cwd, sent=not here)


def fork():  # type: () -> int
    """As os.fork, but a Failure of its stage where that is refused."""
    try:
        return os.fork()
    except OSError as error:
        fail("ready", "no process can be started: %s" % error.strerror)


# --- stage ready: the agent ----------------------------------------------------------------------------------------

def serve(stdin, out, order):  # type: (BinaryIO, int, Dict[str, Any]) -> None
    """In the child: becomes the agent."""
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    sys.path[:0] = [os.path.join(order["directory"], "lib")] * 2  # workers put the script's folder over the first
    from microscoop import agent
    fd_in, fd_out = os.dup(stdin.fileno()), out  # the head sends nothing before "ready": no byte is in stdin's buffer
    stdin.close()
    held = []  # descriptors that the agent alone must hold open
    if order["tunnel"]:
        from microscoop.leaves import tunnel
        held = [fd_in, out]
        try:
            fd_in = fd_out = tunnel.accept_head(fd_in, order["tunnel"], lambda: tell(out, "ready"))
        except OSError as error:
            fail("ready", "cannot listen on %s: %s" % (order["tunnel"]["socket"], error.strerror))
    else:
        tell(out, "ready")
    agent.serve_remote(fd_in, fd_out, order, held)


# --- the end: the janitor ------------------------------------------------------------------------------------------

def janitor(child, order):  # type: (int, Dict[str, Any]) -> None
    """In the parent, to its end: waits for the agent and removes what was made for it, results of tasks excepted."""
    silence(0, 1, 2)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    status = reap(child)
    clean_up(order)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def reap(child):  # type: (int) -> int
    """Its status when it has ended; if it stays stopped, it is ended: the head has given it up, and would not come."""
    import time
    stopped = 0.0  # since when
    while True:
        changed, status = os.waitpid(child, os.WUNTRACED | os.WCONTINUED | (os.WNOHANG if stopped else 0))
        if changed and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            return status
        if changed:
            stopped = time.monotonic() if os.WIFSTOPPED(status) else 0.0
        elif time.monotonic() - stopped > SILENCE:
            os.kill(child, signal.SIGKILL)
        else:
            time.sleep(0.1)


def clean_up(order):  # type: (Dict[str, Any]) -> None
    """Remove all that was made here, but for results of tasks."""
    if order["tunnel"]:
        remove(os.path.dirname(order["tunnel"]["socket"]))
    directory = order["directory"]
    remove(os.path.join(directory, "lib") if leftovers(order["sent"], order["files"]) else directory)


def leftovers(directory, entries):  # type: (str, Iterable[Tuple[str, int, int, str]]) -> List[str]
    """Names of files below the directory that are not as the entries say, __pycache__ apart; none where it is gone."""
    known, found = {entry[0]: entry for entry in entries}, []  # type: Any, List[str]
    for path, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name != "__pycache__"]
        names += [name for name in folders if os.path.islink(os.path.join(path, name))]
        found += [os.path.relpath(os.path.join(path, name), directory) for name in names]
    return sorted(name for name in found if name not in known or not is_same(
        os.path.join(directory, name), known[name][1], known[name][3]))


def remove(directory):  # type: (str) -> None
    """Tries for two seconds: a worker that is just being ended may still write there."""
    import shutil
    import time
    for _ in range(20):
        shutil.rmtree(directory, True)
        if not os.path.lexists(directory):
            return
        time.sleep(0.1)
