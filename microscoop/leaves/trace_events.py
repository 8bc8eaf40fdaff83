"""--trace: a run in Chrome's trace-event format, for Perfetto or chrome://tracing.  Runs in the launcher, at the end.

A process is a host, a thread is a worker; where two tasks of a worker overlap there is a second one of its name.
"""
from __future__ import annotations

import json
from typing import Any, Iterator, List, Tuple

from .timeline import Lane, Run

MARKS = 1 << 20            # tid of a host's own marks


def events(run: Run) -> Iterator[str]:
    """The file, in pieces; times in microseconds."""
    yield '{"displayTimeUnit": "ms", "otherData": %s, "traceEvents": [\n' % json.dumps(
        {"command": run.command, "began": run.began, "status": run.status, "duration": run.duration})
    yield ",\n".join(map(json.dumps, _names(run)))
    host = {name: pid for pid, name in enumerate(run.hosts, 1)}
    names = [json.dumps(name) for name in run.names]
    for lane in run.lanes:
        pid = host[lane.host]
        for task in lane.tasks:                    # formatted by hand, since there may be a million
            yield ',\n{"ph": "X", "cat": "%s", "pid": %d, "tid": %d, "ts": %d, "dur": %d, "name": %s, "args": ' \
                  '{"item": %d, "items": %d}}' % ("failed" if task.failed else "task", pid, _thread(lane, task.track),
                                                  task.start, task.took, names[task.name], task.item, task.items)
        for event in _others(lane):
            yield ",\n" + json.dumps(dict(event, pid=pid))
    for mark in run.marks:
        yield ",\n" + json.dumps({
            "ph": "i", "cat": mark.kind, "pid": host[mark.host], "tid": mark.worker or MARKS, "ts": mark.at,
            "s": "t" if mark.worker else "p", "name": mark.kind, "args": {"text": mark.text}})
    yield "\n]}\n"


def _thread(lane: Lane, track: int) -> int:
    return lane.number + MARKS * 2 * track


def _names(run: Run) -> Iterator[Any]:
    for pid, host in enumerate(run.hosts, 1):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": host}}
        for lane in run.lanes:
            for track in sorted({0, *(task.track for task in lane.tasks)}) if lane.host == host else ():
                yield {"ph": "M", "pid": pid, "tid": _thread(lane, track), "name": "thread_name",
                       "args": {"name": "worker %d" % lane.number}}


def _others(lane: Lane) -> Iterator[Any]:
    """Waits and transfers overlap tasks as they like, so they are async events."""
    spans: List[Tuple[str, int, int, Any]] = [("wait", start, stop, {}) for start, stop in lane.waits]
    spans += [("result" if one.out else "arguments", one.start, one.end, {"bytes": one.size}) for one in lane.transfers]
    for number, (name, start, stop, args) in enumerate(spans):
        same = {"cat": "wait" if name == "wait" else "transfer", "id": "%d.%d" % (lane.number, number), "name": name,
                "tid": lane.number}
        yield dict(same, ph="b", ts=start, args=args)
        yield dict(same, ph="e", ts=stop)
    for start, stop, what in lane.lost:
        yield {"ph": "X", "cat": "lost", "tid": lane.number, "ts": start, "dur": stop - start, "name": "lost: " + what,
               "args": {}}
