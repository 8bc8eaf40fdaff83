"""More cores: a dozen tasks of 0.1 s take some 1200 msec with -n 1, 400 with -n 3, 200 with -n 6.

    $ python3 -m microscoop -n 3 examples/02_timed_squares.py
    [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121]
    End at 403 msec
"""
import math
import time

from microscoop import futures

data = range(12)


def func(num):
    time.sleep(0.1)
    return num ** 2


if __name__ == "__main__":
    begin_time = time.time()
    res = list(futures.map(func, data))
    spent_time = math.ceil((time.time() - begin_time) * 1000)
    print(res)
    print("End at {} msec".format(spent_time))
