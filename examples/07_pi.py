"""Reduction: pi from random points, added up on the workers, so that only sums come back.

Each task has a seed of its own, so every -n gives the same digits. `map_scan` gives each sum on the way, too.

    $ python3 -m microscoop -n 3 examples/07_pi.py
    pi is about 3.142775
    after 1, 8 and 24 tasks: 3.1480 3.1371 3.1428
"""
import operator
import random

from microscoop import futures

POINTS = 20000
TASKS = 24


def hits(seed):
    """How many of POINTS random points of the unit square lie in the quarter of a circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(POINTS))


if __name__ == "__main__":
    print("pi is about", 4 * futures.map_reduce(hits, operator.add, range(TASKS)) / (TASKS * POINTS))
    sums = futures.map_scan(hits, operator.add, range(TASKS))
    print("after 1, 8 and 24 tasks:", *(f"{4 * sums[n - 1] / (n * POINTS):.4f}" for n in (1, 8, 24)))
