"""--progress: the line on a terminal, and that nothing else on the terminal is touched by it."""
from __future__ import annotations

import os
import re
import sys
import unittest
from pathlib import Path
from typing import Any, List, Union

from tests import harness

LINE = r"(\d+) of (\d+) done, [\d.]+/s, \d+ s left, (\d) of 3 workers busy"
COUNT = r"(\d+) done, [\d.]+/s, \d of 3 workers busy"


def terminal(text: str) -> List[str]:
    """What stands on the screen in the end."""
    lines, column = [""], 0
    for piece in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            lines, column = [*lines, ""], 0
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column] + piece + lines[-1][column + len(piece):]
            column += len(piece)
    return lines


@unittest.skipUnless(os.path.exists("/proc/self/environ"), "needs /proc")
class Progress(harness.AtOnce):
    def start(self, text: str, *words: Union[str, Path], columns: int = 90, err: str = "2>&1",
              **settings: Any) -> harness.Run:
        """A run whose standard streams are all the terminal."""
        script = self.script("import os, signal, sys, time\nfrom microscoop import futures\n" + text)
        command = 'stty cols %d; exec "$0" "$@" %s' % (columns, err)
        return harness.Run(["sh", "-c", command, sys.executable, "-m", "microscoop", "-n", "3", *words, script],
                           pty=True, env={"TERM": "xterm", **settings})

    def test_it_never_mixes_with_what_script_and_tasks_print(self) -> None:
        run = self.start("""
def nap(k):
    time.sleep(0.05)
    if k % 10 == 7:
        print("task", k)
    return k
def bad():
    raise ValueError("bad")
if __name__ == "__main__":
    for k in futures.map(nap, range(120)):
        if k % 40 == 39:
            print("script", k)
            print("error", k, file=sys.stderr)
    print("begun", end="", flush=True)
    list(futures.map(nap, [1] * 45))        # the cursor stands behind a word: no line
    print(" and ended")
    print("hello", input("name? "))
    sys.stdout.buffer.write(b"bytes\\n")
    print(sys.stdout.name, sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding.lower(), sys.stdout.mode)
""", "-q", "--progress")
        run.await_out("name? ")
        run.type(b"Ada\n")
        result = run.finish()
        shown = re.findall(LINE, result.out)
        self.assertGreater(len(shown), 2, result.out)
        self.assertEqual({(total, busy) for _, total, busy in shown}, {("120", "3")})
        self.assertEqual([int(done) for done, _, _ in shown], sorted(int(done) for done, _, _ in shown))
        lines = terminal(result.out)
        expected = [f"task {k}" for k in range(7, 120, 10)]
        expected += [f"{word} {k}" for k in (39, 79, 119) for word in ("script", "error")]
        self.assertEqual(sorted(lines[:18]), sorted(expected))
        self.assertEqual(lines[18:], ["begun and ended", "name? Ada", "hello Ada", "bytes",
                                      "<stdout> True 1 utf-8 w", ""])
        self.assertNotIn("\x1b", result.out[result.out.index("begun"):])

    def test_it_is_on_where_it_is_wanted(self) -> None:
        text = """
def nap(k):
    time.sleep(0.05)
if __name__ == "__main__":
    list(futures.map(nap, range(60)))
"""
        runs = {
            "default": self.start(text), "-q": self.start(text, "-q"), "both": self.start(text, "-q", "--progress"),
            "off": self.start(text, "--no-progress"), "narrow": self.start(text, columns=30),
            "dumb": self.start(text, TERM="dumb"),
            "pipe": self.start(text, "--progress", err=""), "stdout in a pipe": self.start(text, err="2>&1 | cat")}
        results = {name: run.finish() for name, run in runs.items()}
        for name, result in results.items():
            with self.subTest(name):
                self.assertEqual(result.status, 0, result)
                shown = re.findall(r"\x1b\[K(\d.*?)(?=\r)", result.out + result.err)
                self.assertEqual(bool(shown), name in ("default", "both", "narrow"), result)
                if name == "narrow":
                    self.assertEqual({len(line) for line in shown}, {29})
        self.assertEqual(set(terminal(results["both"].out)), {""})
        self.assertTrue(all(re.match(r"\[.*launcher|$", line) for line in terminal(results["default"].out)))

    def test_it_tells_of_deaths_and_promises_nothing_about_inputs_without_a_length(self) -> None:
        run = self.start("""
def nap(path):
    time.sleep(0.05)
    if path and not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
def endless():
    while True:
        yield ""
if __name__ == "__main__":
    list(futures.map(nap, [sys.argv[0] + ".died"] + [""] * 69))
    begin = time.monotonic()
    for _ in futures.map(nap, endless(), buffersize=20):
        if time.monotonic() - begin > 1.2:
            break
""", "-q", "--progress")
        result = run.finish()
        self.assertRegex(result.out, LINE + ", 1 lost, 1 run again")
        self.assertRegex(result.out, r"\x1b\[K" + COUNT)
        self.assertEqual(set(terminal(result.out)), {""})

    def test_a_traceback_and_ctrl_c_find_a_clean_line(self) -> None:
        run = self.start("""
def nap(k):
    time.sleep(0.05)
if __name__ == "__main__":
    list(futures.map(nap, range(2000)))
""", "-q", "--progress")
        run.await_out(" left")
        run.type(b"\x03")
        result = run.finish()
        self.assertEqual(result.status, 130)
        self.assertEqual(terminal(result.out.replace("^C", ""))[0], "Traceback (most recent call last):")


if __name__ == "__main__":
    unittest.main()
