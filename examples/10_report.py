"""A report: what a run looked like, on one page for a browser.

Uneven tasks, a task that has children, a worker that dies: find the three on the page, and whoever waits.

    $ python3 -m microscoop -n 3 --report run.html examples/10_report.py
    16 tasks, 8 children, 1 that ran again
"""
import os
import signal
import tempfile
import time

from microscoop import futures


def work(msec):
    time.sleep(msec / 1000)
    return 1


def family(children):
    return sum(futures.map(work, [40] * children))


def die_once(mark):
    time.sleep(0.05)
    if not os.path.isdir(mark):
        os.mkdir(mark)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tasks = futures.map(work, [10, 80, 20, 160] * 4)
        children = futures.submit(family, 8)
        again = futures.submit(die_once, folder + "/mark")
        print(f"{sum(tasks)} tasks, {children.result()} children, {again.result()} that ran again")
