"""--report: a run as one page of HTML that needs nothing else.  Runs in the launcher, at the end.

Figures and tables are written here; the timeline is drawn by the script at the end of PAGE from columns of numbers.
"""
from __future__ import annotations

import json
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
    for place, piece in enumerate(re.split("{{([A-Z]+)}}", PAGE)):
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


PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>{{TITLE}}: a microscoop run</title>
<link rel="icon" href="data:,">
<style>
:root { --page: #f6f7f8; --card: #fff; --text: #1c2128; --soft: #69727d; --line: #e4e7eb; --lane: #f1f3f5;
  --bad: #cf3f36; --odd: #c77d12; --busy: #4c78a8; --c0: #4c78a8; --c1: #5f9e8f; --c2: #c09a4a; --c3: #8f78b5;
  --c4: #bf7790; --c5: #7e8894; }
@media (prefers-color-scheme: dark) {
  :root { --page: #13161b; --card: #1a1e25; --text: #e5e8ec; --soft: #98a2ae; --line: #2c323c; --lane: #21262e;
    --bad: #ff7168; --odd: #f0b04e; --busy: #6a9bd1; --c0: #6a9bd1; --c1: #6fb5a5; --c2: #d0ad62; --c3: #a890d2;
    --c4: #d98fa8; --c5: #929ca8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 22px; font-weight: 650; letter-spacing: -.01em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 13px; font-weight: 600; margin: 0; }
header p { color: var(--soft); margin: 2px 0 20px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 1px; margin: 0 0 16px;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
dl div { box-shadow: 0 0 0 1px var(--line); padding: 12px 16px; }
dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; font-size: 21px; font-weight: 600; letter-spacing: -.01em; }
.bad { color: var(--bad); } .odd { color: var(--odd); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 16px;
  margin-bottom: 16px; }
.top { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 16px; margin-bottom: 8px; }
.top .hint { color: var(--soft); font-size: 12px; margin-left: auto; }
button { font: inherit; font-size: 12px; color: var(--text); background: none; border: 1px solid var(--line);
  border-radius: 6px; padding: 1px 9px; cursor: pointer; }
button:hover { background: var(--lane); }
canvas { display: block; width: 100%; touch-action: pan-y; }
#lanes { cursor: grab; outline-offset: 4px; } #lanes.held { cursor: grabbing; }
#legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0 0; padding: 0; color: var(--soft);
  font-size: 12px; list-style: none; }
#legend li { display: flex; align-items: center; gap: 6px; }
#legend canvas { width: 16px; height: 12px; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; }
#legend .swatch { margin: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 0 16px; align-items: start; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th { color: var(--soft); font-size: 12px; font-weight: 500; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: baseline;
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.r { text-align: right; }
td code { white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.4 ui-monospace, Menlo, Consolas, monospace; }
td .bar { display: block; min-width: 92px; padding-left: 6px; border-radius: 3px;
  background: linear-gradient(color-mix(in srgb, var(--busy) 28%, transparent) 0 0) no-repeat;
  background-size: calc(var(--part) * 100%) 100%; }
tr[data-at] { cursor: pointer; } tr[data-at]:hover td { background: var(--lane); }
.none { color: var(--soft); }
#marks td:nth-child(3) { white-space: normal; }
#tip { position: fixed; display: none; max-width: 420px; padding: 7px 11px; border-radius: 8px; pointer-events: none;
  background: var(--text); color: var(--card); font-size: 12px; line-height: 1.45; white-space: pre-line;
  box-shadow: 0 4px 18px rgb(0 0 0 / .25); z-index: 9; }
#tip::first-line { font-weight: 650; }
footer { color: var(--soft); font-size: 12px; }
</style>
</head>
<body>
<main>
<header><h1>{{TITLE}}</h1><p>{{ABOUT}}</p></header>
<dl>{{FIGURES}}</dl>
<section>
<div class="top"><h2>Workers busy</h2></div>
<canvas id="busy" height="96"></canvas>
</section>
<section>
<div class="top"><h2>Timeline</h2>
<span><button id="in" title="zoom in">+</button> <button id="out" title="zoom out">&minus;</button>
<button id="all">whole run</button></span>
<span class="hint">drag to pan, double-click or Ctrl + wheel to zoom, hover for details</span></div>
<canvas id="lanes" tabindex="0" aria-label="timeline: a lane for each worker"></canvas>
<ul id="legend"></ul>
</section>
<div class="pair">
<section class="wide"><div class="top"><h2>Functions</h2></div>
<table id="functions"><thead><tr><th>function<th class="r">tasks<th class="r">in all<th class="r">mean
<th class="r">longest</thead><tbody>{{FUNCTIONS}}</tbody></table></section>
<section class="wide"><div class="top"><h2>Deaths and retries</h2></div>
<table id="marks"><thead><tr><th>what<th>where<th>how<th class="r">at</thead><tbody>{{MARKS}}</tbody></table></section>
</div>
<section class="wide"><div class="top"><h2>Slowest tasks</h2></div>
<table id="slowest"><thead><tr><th>took<th>function<th class="r">item<th>arguments, as the task left them<th>worker
<th class="r">began</thead><tbody>{{SLOWEST}}</tbody></table></section>
<footer>Written by microscoop. Times from the start of the launcher; a task that waits for others counts as not busy.
Tasks too short to be told apart are drawn as one.</footer>
</main>
<div id="tip"></div>
<script type="application/json" id="data">{{DATA}}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = id => document.getElementById(id);
const LEFT = 118, AXIS = 22, HEAD = 26, RIGHT = 8;

// Columns to arrays -----------------------------------------------------------------------------------------------

function column(values, count) {
  return Array.isArray(values) ? Float64Array.from(values) : new Float64Array(count).fill(values);
}

function steps(values) {
  const sums = new Float64Array(values.length);
  for (let i = 0, sum = 0; i < values.length; i++) sums[i] = sum += values[i];
  return sums;
}

for (const lane of data.lanes) {
  const count = lane.took.length;
  lane.start = steps(lane.start);
  lane.end = Float64Array.from(lane.took, (took, i) => lane.start[i] + took);
  lane.longest = lane.took.reduce((most, took) => Math.max(most, took), 0);
  lane.item = steps(lane.item);
  for (const name of ["items", "name", "row"]) lane[name] = column(lane[name], count);
  lane.row = lane.row.map(row => Math.min(row, lane.rows - 1));
  lane.bad = new Uint8Array(count);
  for (const place of lane.failed) lane.bad[place] = 1;
  lane.marks = data.marks.filter(mark => mark[2] === lane.number);
}

// Lanes by host; how high each is ---------------------------------------------------------------------------------

const count = data.lanes.length;
const ROW = count <= 16 ? 20 : count <= 48 ? 13 : count <= 160 ? 8 : 4;
const DEEP = Math.max(ROW >> 1, 3);  // of tasks beneath others, and of a second one at the same time
const GAP = ROW > 8 ? 4 : 1;
const heads = [];
let height = AXIS;
data.hosts.forEach((name, host) => {
  heads.push({name, y: height});
  height += HEAD;
  for (const lane of data.lanes.filter(lane => lane.host === host)) {
    lane.y = height;
    lane.high = ROW + (lane.rows - 1) * DEEP;
    height += lane.high + GAP;
  }
  height += 6;
});

const edge = (lane, row) => lane.y + (row && ROW + (row - 1) * DEEP);
const thick = row => (row ? DEEP : ROW) - (ROW > 6 ? 1 : 0);

// Colours: the functions that took longest have one of their own --------------------------------------------------

const spent = data.names.map(() => 0);
for (const lane of data.lanes) lane.took.forEach((took, i) => spent[lane.name[i]] += took);
const ranked = data.names.map((_, i) => i).sort((a, b) => spent[b] - spent[a]);
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "soft", "line", "lane", "card", "bad", "odd", "busy", "c0", "c1", "c2", "c3", "c4", "c5"])
    colours[name] = style.getPropertyValue("--" + name).trim();
  colours.names = [];
  ranked.forEach((name, place) => colours.names[name] = colours["c" + Math.min(place, 5)]);
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  for (const kind of ["soft", "bad"]) {
    const pen = tile.getContext("2d");
    pen.clearRect(0, 0, 6, 6);
    pen.strokeStyle = colours[kind];
    pen.lineWidth = 1.4;
    pen.beginPath();
    for (const x of [-6, 0, 6]) { pen.moveTo(x - 1, 7); pen.lineTo(x + 7, -1); }
    pen.stroke();
    colours[kind + "Hatch"] = pen.createPattern(tile, "repeat");
  }
  for (const swatch of document.querySelectorAll("[data-name]"))
    swatch.style.background = colours.names[swatch.dataset.name];
}

// Time and place --------------------------------------------------------------------------------------------------

const view = {from: 0, to: Math.max(data.duration, 1)};
let width = 0;
const x = time => LEFT + (time - view.from) / (view.to - view.from) * (width - LEFT - RIGHT);
const time = px => view.from + (px - LEFT) / (width - LEFT - RIGHT) * (view.to - view.from);

function look(from, to) {
  const span = Math.min(Math.max(to - from, 20), data.duration);
  view.from = Math.min(Math.max(from, 0), data.duration - span);
  view.to = view.from + span;
  requestAnimationFrame(draw);
}

function zoom(factor, at) {
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
}

function text(us) {
  if (us >= 1e6) return +(us / 1e6).toPrecision(us < 1e9 ? 4 : 7) + " s";
  return us >= 1000 ? +(us / 1000).toPrecision(4) + " ms" : Math.round(us) + " µs";
}

function ticks() {
  const least = (view.to - view.from) / Math.max((width - LEFT) / 110, 1);
  let step = 10 ** Math.floor(Math.log10(least));
  step *= [1, 2, 5, 10].find(times => times * step >= least);
  const unit = step >= 1e5 ? ["s", 1e6] : step >= 100 ? ["ms", 1e3] : ["µs", 1];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit[1]) - 1e-9));
  const found = [];
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step)
    found.push([at, (at / unit[1]).toFixed(digits) + " " + unit[0]]);
  return found;
}

function canvas(name, high) {
  const one = get(name), ratio = Math.min(devicePixelRatio || 1, 16000 / high);
  width = one.clientWidth;
  one.width = width * ratio;
  one.height = high * ratio;
  one.style.height = high + "px";
  const pen = one.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  return pen;
}

function first(lane) {               // the first span that may reach into view
  let low = 0, high = lane.start.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lane.start[middle] < view.from - lane.longest) low = middle + 1; else high = middle;
  }
  return low;
}

// Drawing ---------------------------------------------------------------------------------------------------------

let drawn = 0;

function draw() {
  drawn = 0;
  drawBusy();
  drawLanes();
  document.body.dataset.drawn = drawn;
}

function drawBusy() {
  const high = 96, pen = canvas("busy", high), top = 8, bottom = high - AXIS;
  const bins = Math.max(Math.floor((width - LEFT - RIGHT) / 2), 1), size = (view.to - view.from) / bins;
  const sum = new Float64Array(bins), alive = new Float64Array(bins), own = new Float64Array(bins);
  const add = (into, from, to, sign) => {
    from = Math.max((from - view.from) / size, 0);
    to = Math.min((to - view.from) / size, bins);
    for (let bin = Math.floor(from); bin < to; bin++)
      into[bin] += sign * (Math.min(to, bin + 1) - Math.max(from, bin));
  };
  for (const lane of data.lanes) {
    own.fill(0);
    const tops = new Set(lane.tops);
    for (let i = first(lane); i < lane.start.length && lane.start[i] < view.to; i++)
      if (tops.has(lane.row[i])) add(own, lane.start[i], lane.end[i], 1);
    for (let bin = 0; bin < bins; bin++) own[bin] = Math.min(own[bin], 1);
    for (const [from, to] of lane.waits) add(own, from, to, -1);
    for (let bin = 0; bin < bins; bin++) sum[bin] += Math.max(own[bin], 0);
    add(alive, lane.up, lane.down, 1);
  }
  const most = Math.max(1, ...alive.map(Math.round));
  const y = value => bottom - value / most * (bottom - top);
  pen.strokeStyle = colours.line;
  pen.fillStyle = colours.soft;
  pen.textAlign = "right";
  for (const level of most > 1 ? [0, most / 2, most] : [0, 1]) {
    pen.beginPath(); pen.moveTo(LEFT, y(level) + .5); pen.lineTo(width - RIGHT, y(level) + .5); pen.stroke();
    if (Number.isInteger(level)) pen.fillText(level, LEFT - 10, y(level));
  }
  drawTicks(pen, bottom + 13);
  const trace = values => {
    pen.beginPath();
    values.forEach((value, bin) => {
      pen.lineTo(LEFT + 2 * bin, y(value));
      pen.lineTo(LEFT + 2 * bin + 2, y(value));
    });
  };
  trace(sum);
  pen.lineTo(LEFT + 2 * bins, bottom); pen.lineTo(LEFT, bottom);
  pen.fillStyle = colours.busy;
  pen.globalAlpha = .28; pen.fill(); pen.globalAlpha = 1;
  trace(sum);
  pen.strokeStyle = colours.busy; pen.lineWidth = 1.25; pen.stroke();
  trace(alive);
  pen.setLineDash([3, 3]); pen.strokeStyle = colours.soft; pen.lineWidth = 1; pen.stroke();
}

function drawTicks(pen, y, line) {
  pen.textAlign = "center";
  for (const [at, label] of ticks()) {
    pen.fillStyle = colours.soft;
    const half = pen.measureText(label).width / 2;
    pen.fillText(label, Math.min(x(at), width - half), y);
    if (line) { pen.fillStyle = colours.line; pen.fillRect(Math.round(x(at)), line, 1, height - line); }
  }
}

function drawLanes() {
  const pen = canvas("lanes", height);
  drawTicks(pen, 8, AXIS - 4);
  pen.textAlign = "left";
  for (const head of heads) {
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillStyle = colours.text;
    pen.fillText(fitted(pen, head.name, 300), 0, head.y + HEAD / 2 + 1);
  }
  pen.font = "11px system-ui, sans-serif";
  for (const lane of data.lanes) {
    if (ROW >= 11) {
      pen.fillStyle = colours.soft;
      pen.fillText("worker " + lane.number, 12, lane.y + ROW / 2);
    }
    pen.save();
    pen.beginPath(); pen.rect(LEFT, lane.y - 3, width - LEFT - RIGHT, lane.high + 6); pen.clip();
    pen.fillStyle = colours.lane;
    pen.fillRect(x(lane.up), lane.y, Math.max(x(lane.down) - x(lane.up), 1), ROW);
    drawTasks(pen, lane);
    drawRest(pen, lane);
    pen.restore();
  }
  const hosts = data.marks.filter(mark => !mark[2]);
  for (const mark of hosts) {
    pen.strokeStyle = colours.bad;
    cross(pen, x(mark[0]), heads[mark[1]].y + HEAD / 2);
  }
}

function drawTasks(pen, lane) {
  const pixels = Math.ceil(width), cover = [], who = [], bad = [];
  for (let i = first(lane); i < lane.start.length && lane.start[i] < view.to; i++) {
    const from = x(lane.start[i]), to = x(lane.end[i]), row = lane.row[i];
    if (to < LEFT) continue;
    drawn++;
    if (lane.bad[i]) bad.push([from, to, row]);
    if (to - from >= 2) {
      pen.fillStyle = lane.bad[i] ? colours.bad : colours.names[lane.name[i]];
      pen.fillRect(from, edge(lane, row), to - from - (to - from > 5 ? 1 : 0), thick(row));
      if (to - from > 46 && thick(row) > 9) label(pen, lane, i, Math.max(from, LEFT), to);
    } else {                         // too many to be drawn one by one: how much of each pixel they fill
      cover[row] = cover[row] || new Float32Array(pixels + 2);
      who[row] = who[row] || new Uint16Array(pixels + 2);
      const pixel = Math.max(Math.floor(from), 0), inside = Math.min(to, pixel + 1) - from;
      cover[row][pixel] += inside;
      cover[row][pixel + 1] += to - from - inside;
      who[row][pixel] = who[row][pixel + 1] = lane.name[i];
    }
  }
  cover.forEach((values, row) => {
    for (let pixel = LEFT; pixel < pixels;) {
      const level = Math.ceil(Math.min(values[pixel], 1) * 8), name = who[row][pixel], from = pixel;
      while (pixel < pixels && Math.ceil(Math.min(values[pixel], 1) * 8) === level && who[row][pixel] === name) pixel++;
      if (level) {
        pen.globalAlpha = .2 + .1 * level;
        pen.fillStyle = colours.names[name];
        pen.fillRect(from, edge(lane, row), pixel - from, thick(row));
      }
    }
  });
  pen.globalAlpha = 1;
  pen.fillStyle = colours.bad;
  for (const [from, to, row] of bad)
    if (to - from < 2) pen.fillRect(from, edge(lane, row), 2, thick(row));
}

function label(pen, lane, i, from, to) {
  const words = lane.items[i] > 1 ? data.names[lane.name[i]] + " × " + lane.items[i] : data.names[lane.name[i]];
  const shown = fitted(pen, words, to - from - 12);
  if (shown.length < 3) return;
  pen.fillStyle = "#fff";
  if (matchMedia("(prefers-color-scheme: dark)").matches) pen.fillStyle = "#12151a";
  pen.fillText(shown, from + 6, edge(lane, lane.row[i]) + thick(lane.row[i]) / 2 + .5);
}

function fitted(pen, words, space) {
  if (pen.measureText(words).width <= space) return words;
  while (words && pen.measureText(words + "…").width > space) words = words.slice(0, -1);
  return words && words + "…";
}

function drawRest(pen, lane) {
  for (const [from, to] of lane.waits) {
    if (to < view.from || from > view.to) continue;
    pen.globalAlpha = .7; pen.fillStyle = colours.lane;
    pen.fillRect(x(from), lane.y, Math.max(x(to) - x(from), 1), ROW - 1);
    pen.globalAlpha = .55; pen.fillStyle = colours.softHatch;
    pen.fillRect(x(from), lane.y, Math.max(x(to) - x(from), 1), ROW - 1);
    pen.globalAlpha = 1;
  }
  for (const [from, to] of lane.lost) {
    pen.fillStyle = colours.badHatch;
    pen.fillRect(x(from), lane.y, Math.max(x(to) - x(from), 2), ROW - 1);
  }
  pen.fillStyle = colours.text;
  const low = ROW > 6 ? 3 : 1;
  for (const [from, to] of lane.moves)
    pen.fillRect(x(from), lane.y + ROW - low, Math.max(x(to) - x(from), 2), low);
  for (const mark of lane.marks)
    (mark[3] === "retry" ? triangle : cross)(pen, x(mark[0]), lane.y + ROW / 2);
}

function cross(pen, px, y) {
  for (const [colour, thick] of [[colours.card, 5], [colours.bad, 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(px - 4, y - 4); pen.lineTo(px + 4, y + 4);
    pen.moveTo(px + 4, y - 4); pen.lineTo(px - 4, y + 4);
    pen.stroke();
  }
}

function triangle(pen, px, y) {
  pen.fillStyle = colours.odd;
  pen.strokeStyle = colours.card;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(px, y - 5); pen.lineTo(px + 5, y + 4); pen.lineTo(px - 5, y + 4);
  pen.closePath();
  pen.stroke(); pen.fill();
}

// Legend ----------------------------------------------------------------------------------------------------------

function legend() {
  const list = get("legend");
  list.textContent = "";
  const entry = (sign, words) => {
    const item = document.createElement("li");
    item.append(sign, words);
    list.append(item);
  };
  for (const [place, name] of ranked.slice(0, 6).entries()) {
    const swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = colours.names[name];
    entry(swatch, place === 5 && ranked.length > 6 ? "other functions" : data.names[name]);
  }
  const drawing = paint => {
    const one = document.createElement("canvas");
    one.width = 32; one.height = 24;
    const pen = one.getContext("2d");
    pen.scale(2, 2);
    paint(pen);
    return one;
  };
  const any = test => data.lanes.some(test);
  const fill = (colour, y, high) => drawing(pen => { pen.fillStyle = colour; pen.fillRect(0, y, 16, high); });
  if (any(lane => lane.failed.length)) entry(fill(colours.bad, 1, 10), "failed");
  if (any(lane => lane.waits.length)) entry(fill(colours.softHatch, 1, 10), "waits for other tasks");
  if (any(lane => lane.moves.length)) entry(fill(colours.text, 5, 3), "large data on its way");
  if (any(lane => lane.lost.length)) entry(fill(colours.badHatch, 1, 10), "lost with its worker");
  if (data.marks.some(mark => mark[3] !== "retry")) entry(drawing(pen => cross(pen, 8, 6)), "worker or host lost");
  if (data.marks.some(mark => mark[3] === "retry")) entry(drawing(pen => triangle(pen, 8, 6)), "run again");
}

// Hover, zoom, pan ------------------------------------------------------------------------------------------------

function under(px, y) {
  const lane = data.lanes.find(lane => y >= lane.y - 1 && y <= lane.y + lane.high + 1);
  if (!lane || px < LEFT) return "";
  const where = data.hosts[lane.host] + ", worker " + lane.number, at = time(px), near = time(px + 6) - at;
  for (const mark of lane.marks)
    if (Math.abs(mark[0] - at) <= near) return [mark[3] + " at " + text(mark[0]), mark[4], where].join("\n");
  for (const [from, to, what] of lane.lost)
    if (from <= at && at <= to) return ["lost: " + what, "at most " + text(to - from) + " at work", where].join("\n");
  if (y > lane.y + ROW - 6 && y <= lane.y + ROW)
    for (const [from, to, size, out] of lane.moves)
      if (from - near / 3 <= at && at <= to + near / 3)
        return [(size / 2 ** 20).toFixed(1) + " MiB " + (out ? "of results" : "of arguments"),
                text(to - from) + " from " + text(from), where].join("\n");
  const row = y < lane.y + ROW ? 0 : Math.min(1 + Math.floor((y - lane.y - ROW) / DEEP), lane.rows - 1);
  let best = -1;
  for (let i = first(lane); i < lane.start.length && lane.start[i] <= at + near / 6; i++)
    if (lane.row[i] === row && lane.end[i] >= at - near / 6) best = i;
  if (best < 0) return "";
  const items = lane.items[best], took = lane.took[best];
  const lines = [data.names[lane.name[best]] + (items > 1 ? ", " + items.toLocaleString("en") + " tasks" :
                                                ", item " + lane.item[best])];
  lines.push(text(took) + (items > 1 ? ", each about " + text(took / items) : "") + ", from " + text(lane.start[best]));
  if (lane.bad[best]) lines.push(items > 1 ? "some failed" : "failed");
  if (lane.waits.some(([from, to]) => from <= at && at <= to)) lines.push("waits for other tasks here");
  return [...lines, where].join("\n");
}

const lanes = get("lanes"), tip = get("tip");
let held = null;

lanes.addEventListener("pointermove", event => {
  if (held) {
    const by = time(held.x) - time(event.offsetX);
    held.x = event.offsetX;
    look(view.from + by, view.to + by);
    return;
  }
  tip.textContent = under(event.offsetX, event.offsetY);
  tip.style.display = tip.textContent ? "block" : "none";
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
});
lanes.addEventListener("pointerleave", () => tip.style.display = "none");
lanes.addEventListener("pointerdown", event => {
  held = {x: event.offsetX};
  lanes.setPointerCapture(event.pointerId);
  lanes.classList.add("held");
  tip.style.display = "none";
});
for (const name of ["pointerup", "pointercancel"])
  lanes.addEventListener(name, () => { held = null; lanes.classList.remove("held"); });
lanes.addEventListener("dblclick", event => zoom(.4, time(event.offsetX)));
lanes.addEventListener("wheel", event => {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(Math.min(Math.max(event.deltaY, -60), 60) / 120), time(event.offsetX));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    const by = time(event.deltaX) - time(0);
    look(view.from + by, view.to + by);
  }
}, {passive: false});
lanes.addEventListener("keydown", event => {
  const span = view.to - view.from, middle = (view.from + view.to) / 2;
  const keys = {"+": () => zoom(.6, middle), "-": () => zoom(1 / .6, middle), "0": () => look(0, data.duration),
    ArrowLeft: () => look(view.from - span / 5, view.to - span / 5),
    ArrowRight: () => look(view.from + span / 5, view.to + span / 5)};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
get("in").addEventListener("click", () => zoom(.5, (view.from + view.to) / 2));
get("out").addEventListener("click", () => zoom(2, (view.from + view.to) / 2));
get("all").addEventListener("click", () => look(0, data.duration));
for (const row of document.querySelectorAll("tr[data-at]"))
  row.addEventListener("click", () => {
    const at = +row.dataset.at, took = +row.dataset.took;
    look(at - took, at + 2 * took);
    get("lanes").scrollIntoView({behavior: "smooth", block: "center"});
  });

function start() {
  readColours();
  legend();
  draw();
}

addEventListener("resize", () => requestAnimationFrame(draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", start);
const sum = (list, value) => list.reduce((all, one) => all + value(one), 0);
Object.assign(document.body.dataset, {
  tasks: sum(data.lanes, lane => sum([...lane.items], items => items)),
  spans: sum(data.lanes, lane => lane.took.length),
  lanes: data.lanes.length, hosts: data.hosts.length, waits: sum(data.lanes, lane => lane.waits.length),
  transfers: sum(data.lanes, lane => lane.moves.length),
  failed: sum(data.lanes, lane => lane.failed.length), deaths: data.marks.filter(mark => mark[3] !== "retry").length,
  retries: data.marks.filter(mark => mark[3] === "retry").length});
start();
</script>
</body>
</html>
"""
