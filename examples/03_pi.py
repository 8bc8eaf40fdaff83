"""Pi from random points: each task has a seed of its own, so every -n gives the same digits.

    $ python3 -m microscoop -n 3 examples/03_pi.py
    pi is about 3.142775
"""
import random

from microscoop import futures

POINTS = 20000


def hits(seed):
    """How many of POINTS random points of the unit square lie in the quarter of a circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(POINTS))


if __name__ == "__main__":
    tasks = 24
    print("pi is about", 4 * sum(futures.map(hits, range(tasks))) / (tasks * POINTS))
