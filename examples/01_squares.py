"""The squares of a dozen numbers: a map whose items are spread over the workers.

    $ python3 -m microscoop -n 3 examples/01_squares.py
    [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121]

Try it as `python3 examples/01_squares.py` too: the same answer, one item after the other, with a warning.
"""
from microscoop import futures


def func(num):
    return num ** 2


if __name__ == "__main__":
    print(list(futures.map(func, range(12))))
