"""Was it worth it?  What the tasks took, beside how long they were on their way.  Runs in the launcher."""
from __future__ import annotations

import time
from typing import Optional


class Balance:
    """Adds up, from one moment in which nothing was given out to the next.

    So long as something is, n workers need at least the work's n-th part, and at least the longest piece of it; who
    takes whatever comes next needs at most both together (R. L. Graham, Bounds for certain multiprocessing anomalies,
    1966).  Time beyond twice the larger of the two is therefore nobody's but ours.
    """

    def __init__(self) -> None:
        self._began: Optional[float] = None        # something is given out since
        self._phase = self._longest = 0.0          # seconds of work in this phase
        self.work = self.least = self.took = 0.0   # seconds

    def result(self, seconds: float) -> None:
        """A piece of work was done."""
        self._phase += seconds
        self._longest = max(self._longest, seconds)

    def see(self, out: bool, workers: int) -> None:
        """Whether something is given out now, to so many workers."""
        if out and self._began is None:
            self._began = time.monotonic()
        elif not out and self._began is not None:
            self.took += time.monotonic() - self._began
            self.work += self._phase
            self.least += max(self._phase / max(workers, 1), self._longest)
            self._began, self._phase, self._longest = None, 0.0, 0.0

    def verdict(self) -> str:
        """One line if giving the work out took longer than the work had to; else nothing.

        Nor is there one for a run that was cut off: what was under way is not counted."""
        overhead = self.took - self.least
        if overhead <= self.least or not self.work or self._began is not None:
            return ""
        return "The tasks took %.3g s of work, and giving them out %.3g s: larger tasks would suit better." % (
            self.work, overhead)
