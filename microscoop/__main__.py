"""`python3 -m microscoop`, in the launcher: refuses an old Python in one sentence, else cli.main().

Parses on Python 2.7. A zipapp starts main() too, and so does the launcher beneath a --prolog.
"""
import os
import sys

if False:  # what the annotations name
    from typing import Optional, TextIO  # noqa: F401


def occupy_standard_descriptors():  # type: () -> None
    """Nothing of ours must come to stand where stdin, stdout or stderr was closed by who started us."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main(beneath_prolog=False):  # type: (bool) -> None
    """Run the command line and exit with its status."""
    if sys.version_info < (3, 8):
        sys.stderr.write("microscoop: Python 3.8 or newer is needed, and %s is %d.%d; try: python3.8 -m microscoop\n"
                         % ((sys.executable,) + sys.version_info[:2]))
        sys.exit(2)
    if not __package__:  # `python3 microscoop`: then no module of ours can be found
        sys.stderr.write("microscoop: this folder is no script; try, where it lies: python3 -m microscoop\n")
        sys.exit(2)
    occupy_standard_descriptors()
    import microscoop
    microscoop.__path__ = [os.path.abspath(path) for path in microscoop.__path__]  # Python 3.8 has a zipapp's as typed
    from microscoop import cli
    status = cli.main(beneath_prolog=beneath_prolog)
    failure = flush(sys.stdout)
    if failure is not None:
        if not isinstance(failure, BrokenPipeError):  # `| head` is no mishap
            sys.stderr.write("microscoop: cannot write to stdout: %s\n" % failure.strerror)
        status = status or 1
    flush(sys.stderr)  # nor is it one if nobody reads that
    os._exit(status)  # all is cleaned up, and taking the interpreter apart would cost 5 ms of every run


def flush(stream):  # type: (Optional[TextIO]) -> Optional[OSError]
    """Write what is in its buffer; why that failed."""
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    return None


if __name__ == "__main__":
    main()
