"""Host lists as Slurm writes them -> names: n[1-3,7],x[01-02]y.  Runs in the launcher, when a name has a `[`."""
from __future__ import annotations

import itertools
import re
from typing import List

MOST = 100_000  # names of one list

COMMA = re.compile(r",(?![^\[]*\])")  # between words, not between brackets
WORD = re.compile(r"(?:[^\[\]]|\[[^\[\]]*\])+")
BRACKETS = re.compile(r"\[(.*?)\]")
RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def expanded(text: str) -> List[str]:
    """All names that a list stands for, in its order. Raises ValueError, which names the word or the range."""
    names: List[str] = []
    for word in COMMA.split(text):
        if not WORD.fullmatch(word):
            raise ValueError(f"expected a name with ranges, as n[1-3,7], found {word!r}")
        parts = [_numbers(part) if place % 2 else [part] for place, part in enumerate(BRACKETS.split(word))]
        names += map("".join, itertools.islice(itertools.product(*parts), MOST + 1))
        if len(names) > MOST:
            raise ValueError(f"{word!r} stands for too many names; the limit is {MOST}")
    return names


def _numbers(text: str) -> List[str]:
    """What stands between two brackets: 1-3,7; the zeros of 01-12 stay."""
    numbers: List[str] = []
    for item in text.split(","):
        found = RANGE.fullmatch(item)
        low, high = found.groups() if found else ("", None)
        first, last = int(low or 1), int(high or low or 0)
        if last < first:
            raise ValueError(f"expected a number or a range, as 1-3 or 01-12, found {item!r}")
        numbers += [f"{number:0{len(low)}d}" for number in range(first, min(last, first + MOST) + 1)]
    return numbers
