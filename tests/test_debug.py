"""MICROSCOOP_DEBUG=1: every frame on a line, with time, process and peer."""
from __future__ import annotations

import re
import unittest
from typing import List

from microscoop.protocol import TABLE
from tests import harness

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} (launcher|process \d+) (->|<-) (launcher|process \d+|agent of \S+): (.+)")
ON = {"MICROSCOOP_DEBUG": "1"}
SCRIPT = """
import sys
from microscoop import futures
def task(text):
    print("said", flush=True)
    return text + "SECRET"
if __name__ == "__main__":
    print(*futures.map(task, ["a", "b" * 300000]), file=open("/dev/null", "w"))
    print("done")
"""


class Debug(harness.TestCase):
    def trace(self, *words: str) -> List[str]:
        """The lines of a run, each in the form that is promised, with real messages."""
        result = harness.run("-q", *words, self.script(SCRIPT), env=ON)
        self.assertEqual((result.status, sorted(result.out.split())), (0, ["done", "said", "said"]), result.err)
        lines = result.err.splitlines()
        names = {kind.__name__ for kind, _ in TABLE.values()}
        for line in lines:
            found = LINE.fullmatch(line)
            self.assertIsNotNone(found, line)
            self.assertIn(found.group(4).split()[0], names)  # type: ignore[union-attr]
        self.assertNotIn("SECRET", result.err)
        return [line.partition(" ")[2] for line in lines]

    def count(self, lines: List[str], pattern: str) -> int:
        return sum(re.match(pattern, line) is not None for line in lines)

    def test_a_run_here_shows_both_ends_of_each_frame(self) -> None:
        lines = self.trace("-n", "2")
        block = r"Block owner=\d+ call=1 first=0 items=1 .* body=\d+ B$"
        for ends in ("process 1 ->", "launcher <- process 1", "launcher -> process [23]", "process [23] <-"):
            self.assertEqual(self.count(lines, ends + ".*: " + block), 1, ends)
        self.assertEqual(self.count(lines, "launcher -> agent of 127.0.0.1: Spawn process="), 3)
        self.assertEqual(self.count(lines, "launcher -> agent of 127.0.0.1: End$"), 1)

    def test_what_a_host_relays_is_shown_in_full_and_its_workers_write_too(self) -> None:
        lines = self.trace("-n", "2", "--ssh-executable", "env WHERE={host}", "--host", "far", "--")
        self.assertGreater(self.count(lines, r"launcher <- agent of far: Relay process=\d+ Result owner="), 0)
        self.assertGreater(self.count(lines, r"launcher -> agent of far: Relay process=\d+ Block owner="), 0)
        self.assertGreater(self.count(lines, r"launcher <- agent of far: Print process=\d+ stream=1 body=5 B"), 0)
        self.assertGreater(self.count(lines, r"process [12] <- launcher: Block owner="), 0)
        self.assertGreater(self.count(lines, r"process [12] -> launcher: Piece .* body=\d+ B$"), 0, "of a stream")

    def test_without_the_variable_nothing_is_said(self) -> None:
        for value in (None, ""):
            result = harness.run("-q", "-n", "1", self.script(SCRIPT), env={"MICROSCOOP_DEBUG": value})
            self.assertEqual((result.status, result.err), (0, ""))


if __name__ == "__main__":
    unittest.main()
