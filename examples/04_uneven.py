"""Uneven tasks: whoever is idle gets the next one, so no worker waits while there is work, and nothing is to be tuned.

Cut into three equal parts beforehand, the last third of these tasks would keep one worker busy for 1000 msec.
`map` gives the results in order, `map_as_completed` each as soon as it is there.

    $ python3 -m microscoop -n 3 examples/04_uneven.py
    24 tasks of 5 to 120 msec
    in order: 1500 msec of work done in 530 msec
    as completed: 1500 msec of work done in 530 msec
"""
import time

from microscoop import futures

LENGTHS = [5 * step for step in range(1, 25)]      # milliseconds


def work(length):
    time.sleep(length / 1000)
    return length


def measure(how, each_map):
    begin = time.time()
    total = sum(each_map(work, LENGTHS))
    print(f"{how}: {total} msec of work done in {(time.time() - begin) * 1000:.0f} msec")


if __name__ == "__main__":
    print(f"{len(LENGTHS)} tasks of {LENGTHS[0]} to {LENGTHS[-1]} msec")
    measure("in order", futures.map)
    measure("as completed", futures.map_as_completed)
