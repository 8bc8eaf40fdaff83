"""Data that all tasks read: made at the top of the script, so that every worker has it and no task carries it.

Each worker loads the script once, all but what stands under the guard. So the sieve is made once in each process, and
what travels is one number to a task and a short list back. As an argument it would be sent again and again; in a
`functools.partial` once to each host; from shared.setConst too, and that is for data which only the origin can make.

    $ python3 -m microscoop -n 3 examples/03_data.py
    2160 pairs of twin primes, the last at 199931
"""
from microscoop import futures

LIMIT = 200000
STEP = 5000

sieve = bytearray([0, 0]) + bytearray([1]) * LIMIT
for number in range(2, int(LIMIT ** 0.5) + 1):
    if sieve[number]:
        sieve[number * number::number] = bytes(len(range(number * number, len(sieve), number)))


def twins(start):
    """The primes p from here to the next start for which p + 2 is one, too."""
    return [p for p in range(start, start + STEP) if sieve[p] and sieve[p + 2]]


if __name__ == "__main__":
    found = sum(futures.map(twins, range(0, LIMIT, STEP)), [])
    print(len(found), "pairs of twin primes, the last at", found[-1])
