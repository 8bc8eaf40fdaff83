"""--report and --trace: what they hold is what happened; the page opens in a browser and shows it."""
from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Tuple
from unittest import mock

from microscoop import broker, protocol
from microscoop.hosts import Host, Share
from microscoop.leaves import record, report_page, timeline
from tests import harness
from tests.sshd import requires

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=3000",
         "--enable-logging=stderr", "--v=0", "--window-size=1280,900"]

SCRIPT = """
import os, signal, sys, time
from microscoop import futures
class Rude:
    def __repr__(self):
        raise RuntimeError("</script><b>")
def nap(k, seconds=0.02, rude=None):
    time.sleep(seconds)
    return k
def inc(k):
    return k + 1
def parent(k):
    return sum(futures.map(nap, range(k))) + futures.submit(inc, k).result()
def elsewhere(pid):
    time.sleep(0.05 if os.getpid() == pid else 0.4)
def waits(k):
    list(futures.map(elsewhere, [os.getpid()] * 2))
def fail(text):
    time.sleep(0.03)
    raise ValueError(text)
def die(path):
    if not os.path.exists(path):
        open(path, "w").close()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.4)
if __name__ == "__main__":
    futures.submit(die, sys.argv[0] + ".died").result()
    list(futures.map(nap, range(10)))
    list(futures.map(inc, range(5000)))
    list(futures.map(parent, [3, 4]))
    futures.submit(waits, 1).result()
    futures.submit(fail, "</script><b>").exception()
    futures.submit(nap, 7, seconds=0.5, rude=Rude()).result()
    len(futures.submit(bytes, 3_000_000).result())
    sys.exit(3)
"""
TASKS = {"die": 1, "nap": 10 + 7 + 1, "elsewhere": 2, "inc": 5002, "parent": 2, "waits": 1, "fail": 1, "bytes": 1}


class Trace:
    """What a trace says, by kind of event."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text())
        self.about: Dict[str, Any] = document["otherData"]
        self.events: List[Dict[str, Any]] = document["traceEvents"]
        self.tasks = self.of("X", "task", "failed")

    def of(self, phase: str, *kinds: str) -> List[Dict[str, Any]]:
        return [event for event in self.events if event["ph"] == phase and event.get("cat") in kinds]

    def named(self, name: str) -> Dict[Any, str]:
        return {(e["pid"], e.get("tid")): e["args"]["name"] for e in self.events if e["name"] == name}

    def counts(self) -> Dict[str, int]:
        counts: Dict[str, int] = {}
        for event in self.tasks:
            counts[event["name"]] = counts.get(event["name"], 0) + event["args"]["items"]
        return counts


class Recorded(harness.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.base = Path(tempfile.mkdtemp(dir=str(harness.BASE)))
        self.addCleanup(shutil.rmtree, str(self.base))
        self.page, self.trace = self.base / "run.html", self.base / "run.json"

    def record(self, text: str, *words: str, status: int = 0) -> Trace:
        result = harness.run("-q", "--report", self.page, "--trace", self.trace, *words, self.script(text))
        self.assertEqual((result.status, result.err), (status, ""))
        return Trace(self.trace)


@unittest.skipUnless(sys.platform == "linux", "needs /proc")
class Runs(Recorded, harness.AtOnce):
    def test_all_that_happened_is_in_both(self) -> None:
        trace = self.record(SCRIPT, "-n", "3", status=3)
        self.assertEqual(trace.counts(), TASKS)
        self.assertLess(len(trace.tasks), 1000, "short tasks are told together")
        self.assertEqual(trace.about["status"], 3)
        for event in trace.tasks:
            self.assertLessEqual(0, event["ts"])
            self.assertLessEqual(event["ts"] + event["dur"], trace.about["duration"])
        self.check_nesting(trace)
        self.assertEqual(trace.named("process_name"), {(1, None): "127.0.0.1"})
        self.assertEqual(set(trace.named("thread_name").values()), {f"worker {k}" for k in (2, 3, 4, 5)})
        (death,), (again,), (lost,) = trace.of("i", "death"), trace.of("i", "retry"), trace.of("X", "lost")
        self.assertIn("SIGKILL", death["args"]["text"])
        self.assertEqual((lost["tid"], lost["name"]), (death["tid"], "lost: item 1"))
        self.assertAlmostEqual(lost["ts"] + lost["dur"], death["ts"], delta=1000)
        self.assertGreater(lost["dur"], 50_000)
        self.assertGreaterEqual(again["ts"], death["ts"])
        (failed,) = trace.of("X", "failed")
        self.assertEqual(failed["name"], "fail")
        (moved,) = trace.of("b", "transfer")
        self.assertGreater(moved["args"]["bytes"], 3_000_000)
        self.check_waits(trace)
        self.check_page()

    def check_nesting(self, trace: Trace) -> None:
        """No two tasks of one thread overlap in part."""
        lanes: Dict[Tuple[int, int], List[Dict[str, Any]]] = {}
        for event in trace.tasks:
            lanes.setdefault((event["pid"], event["tid"]), []).append(event)
        for events in lanes.values():
            ends: List[int] = []
            for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
                while ends and ends[-1] <= event["ts"] + 1:    # both are rounded
                    ends.pop()
                self.assertTrue(not ends or event["ts"] + event["dur"] <= ends[-1] + 1, event)
                ends.append(event["ts"] + event["dur"])

    def check_waits(self, trace: Trace) -> None:
        """A task sleeps while another worker has its last child."""
        (parent,) = (event for event in trace.tasks if event["name"] == "waits")
        ends = {event["id"]: event["ts"] for event in trace.of("e", "wait")}
        asleep = [ends[event["id"]] - event["ts"] for event in trace.of("b", "wait")
                  if parent["ts"] - 1000 <= event["ts"] <= parent["ts"] + parent["dur"]]
        self.assertGreater(sum(asleep), 200_000)

    def check_page(self) -> None:
        text = self.page.read_text()
        self.assertEqual(re.findall(r"https?:|@import|\burl\(|\bsrc=|\bfetch\(|XMLHttpRequest|\bimport\b", text), [])
        self.assertEqual(re.findall(r'href="([^"]*)"', text), ["data:,"])
        self.assertIn("default-src 'none'", text)
        self.assertEqual(text.count("</script>"), 2, "nothing of the user's ends a script")
        figures = dict(re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", text))
        self.assertEqual(figures["Tasks"], f"{sum(TASKS.values()):,}")
        self.assertEqual([figures[name] for name in ("Failed", "Workers lost", "Run again")], ["1", "1", "1"])
        slowest = re.findall(r"<tr data-at.*?</tr>", text)
        self.assertEqual(len(slowest), timeline.SLOWEST)
        self.assertIn("7, seconds=0.5, rude=&lt;Rude instance at ", slowest[0])
        self.assertIn("&lt;/script&gt;&lt;b&gt;", " ".join(slowest))
        self.assertIn(".died", " ".join(slowest))

    def test_each_host_has_its_workers_and_its_times_are_on_one_clock(self) -> None:
        trace = self.record("""
            import time
            from microscoop import futures
            def nap(k):
                time.sleep(0.1)
            if __name__ == "__main__":
                list(futures.map(nap, range(8)))
        """, "-n", "4", "--ssh-executable", "env HOST={host}", "--host", "h1", "h2")
        self.assertEqual(trace.named("process_name"), {(1, None): "h1", (2, None): "h2"})
        self.assertEqual(trace.counts(), {"nap": 8})
        self.assertEqual({event["pid"] for event in trace.tasks}, {1, 2})
        starts = [event["ts"] for event in trace.tasks]
        self.assertLess(max(starts) - min(starts), 2_000_000)
        self.assertTrue(all(0 < event["ts"] < trace.about["duration"] for event in trace.tasks))

    def test_a_run_that_is_ended_writes_them_too(self) -> None:
        run = harness.start("-n", "2", "--report", self.page, "--trace", self.trace, self.script("""
            import time
            from microscoop import futures
            def nap(k):
                time.sleep(k)
            if __name__ == "__main__":
                for k in futures.map(nap, [0.1] * 4 + [100]):
                    print(k, flush=True)
        """))
        run.await_out("None\n" * 4)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.finish().status, 143)
        trace = Trace(self.trace)
        self.assertEqual((trace.counts(), trace.about["status"]), ({"nap": 4}, 143))
        self.assertIn("exit status 143", self.page.read_text())

    def test_a_file_that_cannot_be_written_is_refused_at_the_start(self) -> None:
        script = self.script("print('begun')\n")
        for option, path, why in (("--report", "no/where.html", "No such file or directory"),
                                  ("--trace", ".", "Is a directory")):
            result = harness.run(option, path, script)
            self.assertEqual(result, (2, "", f"microscoop: {option}: cannot write {path!r}: {why}\n"))


class Parts(unittest.TestCase):
    def test_a_clock_that_runs_elsewhere_is_brought_onto_ours(self) -> None:
        """That of h2 is 5 s ahead; a message to us takes 10 ms, now and then more."""
        now = 1_000_000_000
        ahead, trip = 5_000_000_000, 10_000_000
        job: Any = SimpleNamespace(script="s.py", args=(), shares=[Share(Host("here"), 1), Share(Host("h2"), 1)])
        with mock.patch.object(timeline, "clock", lambda: now):
            recorder = timeline.Recorder({}, job, SimpleNamespace())  # type: ignore[arg-type]
            recorder.see(broker.HostUp("here", 0, 0.0002), [])
            recorder.see(broker.HostUp("h2", 1, 0.0002), [broker.Start("h2", 7, protocol.WORKER)])
            recorder.see(broker.Measured("h2", 2 * trip / 1e9), [])
            for late in (70_000_000, 0, 30_000_000):
                began = now
                now += 100_000_000
                body = record.TAG + record.HEAD.pack(now + ahead, 1) + record.SPAN.pack(
                    began + ahead, now + ahead, 3, 1, 0, 0) + b'{"names": ["f"]}'
                now += trip + late
                recorder.see(broker.Heard(7, protocol.Remark(body)), [])
                recorder.see(broker.Heard(7, protocol.Remark(b"record\0\0")), [])    # of whom? Not readable
            run = recorder._run(0)
        self.assertEqual([task.start for task in run.lanes[0].tasks], [0, 180_000, 290_000])
        self.assertEqual({task.took for task in run.lanes[0].tasks}, {100_000})

    def test_tasks_that_overlap_in_part_get_tracks_of_their_own(self) -> None:
        spans = [(0, 10, 0), (1, 4, 0), (2, 3, 0), (5, 12, 0), (6, 7, 0), (11, 13, 0), (20, 21, 0)]
        self.assertEqual(list(timeline.placed(spans)), [(0, 0), (0, 1), (0, 2), (1, 0), (0, 1), (0, 0), (0, 0)])

    @harness.slow
    def test_a_long_run_stays_a_small_page(self) -> None:
        tasks = [timeline.Task(k * 1100, 1000, k, 1, 0, k == 50_000, 0, 0) for k in range(200_000)]
        lane = timeline.Lane("h", 1, 0)
        lane.tasks, lane.down = tasks, 220_000_000
        run = timeline.Run("s.py", 0.0, 220_000_000, 0, ["h"], [lane], ["f"], [], [])
        text = "".join(report_page.page(run))
        self.assertLess(len(text), 2_000_000)
        data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
        self.assertEqual(sum(data["lanes"][0]["items"]), 200_000)
        self.assertEqual(len(data["lanes"][0]["failed"]), 1)

    def test_short_futures_become_one_span_with_what_they_submitted(self) -> None:
        worker: Any = SimpleNamespace(remarks=[])
        clerk, now = record.Clerk(worker), 0

        def run(*children: Any, took: int = 1000) -> Any:
            def task() -> None:
                nonlocal now
                now += took
                for child in children:
                    clerk.wrap(child, SimpleNamespace(serial=1))()
            return task

        with mock.patch.object(record, "clock", lambda: now):
            for _ in range(3):
                clerk.wrap(run(run(), run(run())), SimpleNamespace(serial=1))()
            clerk.wrap(run(run(), took=record.SHORT * 2), SimpleNamespace(serial=1))()
            clerk._tell()
        spans = [(began, ended, items) for began, ended, _, items, _, _ in record.unpacked(worker.remarks[0].body)[1]]
        self.assertEqual(spans, [(0, 12_000, 12), (52_000, 53_000, 1), (12_000, 53_000, 1)])


@requires("" if CHROMIUM else "no chromium here: install it (apt-get install chromium)", "browser")
class Browser(Recorded):
    """The page in a headless browser."""

    def opened(self) -> Tuple[Dict[str, str], str]:
        """What the page says of itself once it is drawn, and what the browser logged."""
        with self.directory() as directory:
            result = harness.Run([CHROMIUM, *FLAGS, f"--user-data-dir={directory}", "--dump-dom",
                                  self.page.as_uri()], env={"HOME": directory}).finish()
        self.assertEqual(result.status, 0, result.err)
        (body,) = re.findall(r"<body ([^>]*)>", result.out)
        return dict(re.findall(r'data-(\w+)="(\d+)"', body)), result.err

    @contextlib.contextmanager
    def directory(self) -> Iterator[str]:
        path = tempfile.mkdtemp(dir=str(harness.BASE))
        yield path
        shutil.rmtree(path, ignore_errors=True)

    def test_it_opens_without_errors_and_shows_what_the_trace_holds(self) -> None:
        trace = self.record(SCRIPT, "-n", "3", status=3)
        shown, log = self.opened()
        self.assertNotIn("CONSOLE", log)
        self.assertEqual(int(shown["tasks"]), sum(trace.counts().values()))
        self.assertEqual(int(shown["spans"]), len(trace.tasks))
        self.assertEqual(int(shown["drawn"]), len(trace.tasks))
        self.assertEqual((shown["lanes"], shown["hosts"]), ("4", "1"))
        self.assertEqual((shown["failed"], shown["deaths"], shown["retries"], shown["transfers"]), ("1", "1", "1", "1"))
        self.assertEqual(int(shown["waits"]), len(trace.of("b", "wait")))


if __name__ == "__main__":
    unittest.main()
