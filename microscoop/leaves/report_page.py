"""--report: a run as one page of HTML that needs nothing else.  Runs in the launcher, at the end.

Figures and tables are written here, into report_page.html; the script at its end draws the timeline from columns of
numbers.
"""
from __future__ import annotations

import json
import pkgutil
import re
import time
from html import escape
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from .timeline import Lane, Run, Task

MOST = 150_000             # spans in the page; of more, the shortest neighbours become one
ROWS = 6                   # of a lane; what is nested deeper is drawn in the last
MARKS = 200                # deaths and retries in the table


def page(run: Run) -> Iterator[str]:
    """The page, in pieces."""
    parts = {"TITLE": escape(run.command), "ABOUT": _about(run), "FIGURES": _figures(run, Totals.of(run)),
             "FUNCTIONS": _functions(run), "SLOWEST": _slowest(run), "MARKS": _marks(run),
             "DATA": json.dumps(_data(run), separators=(",", ":")).replace("<", "\\u003c")}
    form = (pkgutil.get_data(__package__, "report_page.html") or b"").decode()    # perhaps out of a zipapp
    for place, piece in enumerate(re.split("{{([A-Z]+)}}", form)):
        yield parts[piece] if place % 2 else piece


class Totals(NamedTuple):
    """The figures at the top of the page."""
    tasks: int
    failed: int
    busy: float                    # share of the time that the workers lived
    deaths: int
    retries: int
    moved: int                     # bytes of large bodies

    @classmethod
    def of(cls, run: Run) -> Totals:
        every = [task for lane in run.lanes for task in lane.tasks]
        lived = sum(lane.down - lane.up for lane in run.lanes)
        kinds = [mark.kind for mark in run.marks]
        return cls(sum(task.items for task in every), sum(task.failed for task in every),
                   sum(map(_busy, run.lanes)) / max(lived, 1), len(kinds) - kinds.count("retry"),
                   kinds.count("retry"), sum(one.size for lane in run.lanes for one in lane.transfers))


def _busy(lane: Lane) -> int:
    """Microseconds in which some task was at work, not asleep."""
    busy = until = 0
    for task in lane.tasks:
        if not task.depth:
            end = task.start + task.took
            busy += max(end - max(task.start, until), 0)
            until = max(until, end)
    return max(busy - sum(stop - start for start, stop in lane.waits), 0)


# Words and tables ----------------------------------------------------------------------------------------------------

def _about(run: Run) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.began))
    most = max((sum(one.up <= lane.up < one.down for one in run.lanes) for lane in run.lanes), default=0)
    return "%s &middot; %s on %s &middot; exit status %d" % (
        when, _many(most, "worker"), _many(len(run.hosts), "host"), run.status)


def _figures(run: Run, totals: Totals) -> str:
    figures: List[Tuple[str, str, str]] = [
        ("Tasks", f"{totals.tasks:,}", ""), ("Run time", _seconds(run.duration), ""),
        ("Workers busy", "%.0f %%" % (100 * totals.busy), ""),
        ("Failed", f"{totals.failed:,}", "bad" if totals.failed else ""),
        ("Workers lost", str(totals.deaths), "bad" if totals.deaths else ""),
        ("Run again", f"{totals.retries:,}", "odd" if totals.retries else "")]
    if totals.moved:
        figures.append(("Large data", "%.1f MiB" % (totals.moved / 2 ** 20), ""))
    return "\n".join('<div><dt>%s</dt><dd class="%s">%s</dd></div>' % (name, kind, value)
                     for name, value, kind in figures)


def _functions(run: Run) -> str:
    table = [[0, 0, 0] for _ in run.names]
    for lane in run.lanes:
        for task in lane.tasks:
            row = table[task.name]
            row[0] += task.items
            row[1] += task.took
            row[2] = max(row[2], task.took // task.items)
    order = sorted(range(len(table)), key=lambda name: -table[name][1])
    return _rows((('<i class="swatch" data-name="%d"></i>%s' % (name, escape(run.names[name])), f"{tasks:,}",
                   _seconds(took), _seconds(took / tasks), _seconds(longest))
                  for name in order[:50] for tasks, took, longest in [table[name]]), "lrrrr")


def _slowest(run: Run) -> str:
    most = max((one.took for one in run.slowest), default=1)
    return _rows((('<span class="bar" style="--part:%.3f">%s</span>' % (one.took / most, _seconds(one.took)),
                   escape(one.name), str(one.item), "<code>%s</code>" % escape(one.arguments),
                   escape("%s/%d" % (one.host, one.worker)), _seconds(one.start)) for one in run.slowest), "llrllr",
                 ['data-at="%d" data-took="%d"' % (one.start, one.took) for one in run.slowest])


def _marks(run: Run) -> str:
    if not run.marks:
        return "<tr><td colspan=4 class=none>None: every worker lived, every task ran once.</td></tr>"
    rows = _rows((('<span class="%s">%s</span>' % ("odd" if mark.kind == "retry" else "bad", mark.kind),
                   escape("%s/%d" % (mark.host, mark.worker) if mark.worker else mark.host), escape(mark.text),
                   _seconds(mark.at)) for mark in run.marks[:MARKS]), "lllr")
    more = len(run.marks) - MARKS
    return rows + ("<tr><td colspan=4 class=none>and %d more</td></tr>" % more if more > 0 else "")


def _rows(rows: Iterator[Sequence[str]], sides: str, attributes: Sequence[str] = ()) -> str:
    lines = []
    for number, row in enumerate(rows):
        cells = "".join('<td class="%s">%s</td>' % (side, cell) for side, cell in zip(sides, row))
        lines.append("<tr %s>%s</tr>" % (attributes[number] if attributes else "", cells))
    return "\n".join(lines)


def _many(count: int, what: str) -> str:
    return "%d %s%s" % (count, what, "s" * (count != 1))


def _seconds(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return ("%.3g %s" if microseconds < 1000 * size else "%.0f %s") % (microseconds / size, unit)
    return "%.3g µs" % microseconds


# Numbers for the drawing ---------------------------------------------------------------------------------------------

def _data(run: Run) -> Dict[str, Any]:
    quantum, lanes = 50, [lane.tasks for lane in run.lanes]
    while sum(map(len, lanes)) > MOST:
        quantum *= 2
        lanes = [_thinned(tasks, quantum) for tasks in lanes]
    waits, least = [lane.waits for lane in run.lanes], 100
    while sum(map(len, waits)) > MOST // 10:
        least *= 2
        waits = [[(start, stop) for start, stop in one if stop - start > least] for one in waits]
    return {"duration": run.duration, "hosts": run.hosts, "names": run.names,
            "lanes": [dict(_lane(lane, tasks), host=run.hosts.index(lane.host), waits=naps)
                      for lane, tasks, naps in zip(run.lanes, lanes, waits)],
            "marks": [[mark.at, run.hosts.index(mark.host), mark.worker, mark.kind, mark.text] for mark in run.marks]}


def _thinned(tasks: List[Task], quantum: int) -> List[Task]:
    """Neighbours of one function that last less than `quantum` microseconds, and lie as close, become one."""
    kept: List[Task] = []
    last: Dict[Tuple[int, int], int] = {}          # track and depth -> place in kept
    for task in tasks:
        at = last.get((task.track, task.depth), -1)
        before = kept[at] if at >= 0 else task
        gap = task.start - before.start - before.took
        if at >= 0 and task.took < quantum and gap < quantum and before.took < 10 * quantum \
                and (before.name, before.failed) == (task.name, task.failed):
            kept[at] = before._replace(took=task.start + task.took - before.start, items=before.items + task.items)
        else:
            last[task.track, task.depth] = len(kept)
            kept.append(task)
    return kept


def _lane(lane: Lane, tasks: List[Task]) -> Dict[str, Any]:
    """A lane in columns: starts and items as steps from one to the next, which are short."""
    depths: Dict[int, int] = {}
    for task in tasks:
        depths[task.track] = max(depths.get(task.track, 0), task.depth + 1)
    bases = [sum(depths[before] for before in range(track)) for track in range(len(depths))]
    starts, items = [task.start for task in tasks], [task.item for task in tasks]
    return {"number": lane.number, "up": lane.up, "down": lane.down,
            "tops": bases, "rows": min(max(sum(depths.values()), 1), ROWS),
            "start": _steps(starts), "took": [task.took for task in tasks], "item": _steps(items),
            "items": _same([task.items for task in tasks]), "name": _same([task.name for task in tasks]),
            "failed": [place for place, task in enumerate(tasks) if task.failed],
            "row": _same([bases[task.track] + task.depth for task in tasks]),
            "lost": lane.lost, "moves": lane.transfers}


def _steps(numbers: List[int]) -> List[int]:
    return [number - before for number, before in zip(numbers, [0, *numbers])]


def _same(numbers: List[int]) -> Any:
    """One number where all are the same."""
    return numbers[0] if len(set(numbers)) == 1 else numbers
