"""Failures: an error comes out where the result would have, and a worker that dies costs no other task anything.

A task whose worker died is run again on another worker, twice (--retries), and then fails as WorkerLost: host,
cause, item, how often it was begun.

    $ python3 -m microscoop -n 3 examples/06_failures.py
    0.5
    ZeroDivisionError('division by zero')
    done, by the second worker
    WorkerLost('127.0.0.1', 'was killed by SIGKILL (out of memory?)', 'die', 3)
"""
import os
import signal
import tempfile

from microscoop import errors, futures


def inverse(number):
    return 1 / number


def die(mark):
    """End this worker the hard way, unless another one has left the mark."""
    if mark and os.path.isdir(mark):
        return "done, by the second worker"
    if mark:
        os.mkdir(mark)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for function, argument in (inverse, 2), (inverse, 0), (die, folder + "/mark"), (die, None):
            try:
                print(futures.submit(function, argument).result())
            except (ZeroDivisionError, errors.WorkerLost) as error:
                print(repr(error))
