"""Each example does what its own text says: its one command gives the output that is shown beneath it."""
from __future__ import annotations

import re
import shlex
import unittest

from tests import harness

EXAMPLES = harness.ROOT / "examples"
LESSONS = sorted(EXAMPLES.glob("[0-9][0-9]_*"))
COMMAND = re.compile(r"^#? {4,5}\$ python3 -m microscoop (.*)\n((?:#? {4,5}\S.*\n)*)", re.MULTILINE)


def commands(text):
    """The commands that a text shows, without `python3 -m microscoop`, and the output that it shows for each."""
    return [(shlex.split(words), re.sub("^#? {4,5}", "", output, flags=re.MULTILINE))
            for words, output in COMMAND.findall(text)]


def pages(lesson):
    """Its file, or the files of its folder."""
    return [lesson] if lesson.is_file() else sorted(lesson.rglob("*.py"))


def masked(output):
    """Without what differs from run to run: times."""
    return re.sub(r"\d+ msec", "... msec", output)


class Examples(harness.AtOnce):
    """Has a test for each lesson; they are added at its end."""

    def check(self, text):
        ((words, output),) = commands(text)
        if "--report" in words and "--report" not in harness.run("--help").out:
            self.skipTest("there is no --report here")
        folder = self.script("").parent            # what an example writes is not to stay in the checkout
        (folder / "examples").symlink_to(EXAMPLES)
        result = harness.run("-q", *words, cwd=folder, timeout=20)
        self.assertEqual((result.status, result.err), (0, ""))
        self.assertEqual(masked(result.out), masked(output))

    def test_hostfile(self):
        self.check((EXAMPLES / "hosts.txt").read_text(encoding="utf-8"))
    for lesson in LESSONS:
        text = "".join(page.read_text(encoding="utf-8") for page in pages(lesson))
        vars()[f"test_{lesson.stem}"] = lambda self, text=text: self.check(text)


class Course(harness.TestCase):
    def test_the_lessons_are_numbered_and_have_at_most_40_lines(self):
        self.assertEqual([int(lesson.name[:2]) for lesson in LESSONS], list(range(1, 11)))
        for lesson in LESSONS:
            for page in pages(lesson):
                self.assertLessEqual(len(page.read_text(encoding="utf-8").splitlines()), 40, page)

    def test_they_work_with_plain_python_too(self):
        for name in ("01_squares.py", "08_folder/survey.py"):
            ((_, output),) = commands((EXAMPLES / name).read_text(encoding="utf-8"))
            result = harness.plain(EXAMPLES / name)
            self.assertEqual(result.out, output)
            self.assertEqual(result.err.count("RuntimeWarning"), 1, result.err)


if __name__ == "__main__":
    unittest.main()
