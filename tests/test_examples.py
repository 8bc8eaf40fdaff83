"""Each example does what its own text says: its one command gives the output that is shown beneath it."""
from __future__ import annotations

import re
import shlex
import unittest

from tests import harness

EXAMPLES = harness.ROOT / "examples"
PAGES = [path for path in sorted(EXAMPLES.rglob("*")) if path.suffix in (".py", ".txt")]
COMMAND = re.compile(r"^#? {4,5}\$ python3 -m microscoop (.*)\n((?:#? {4,5}\S.*\n)*)", re.MULTILINE)


def commands(path):
    """The commands that a file shows, without `python3 -m microscoop`, and the output that it shows for each."""
    return [(shlex.split(words), re.sub("^#? {4,5}", "", output, flags=re.MULTILINE))
            for words, output in COMMAND.findall(path.read_text(encoding="utf-8"))]


def masked(output):
    """Without what differs from run to run: times."""
    return re.sub(r"\d+ msec", "... msec", output)


class Examples(harness.TestCase):
    """Has a test for each page with a command; they are added below."""

    def check(self, words, output):
        folder = harness.TEMP / "here"             # what an example writes is not to stay in the checkout
        folder.mkdir()
        (folder / "examples").symlink_to(EXAMPLES)
        result = harness.run("-q", *words, cwd=folder, timeout=20)
        self.assertEqual((result.status, result.err), (0, ""))
        self.assertEqual(masked(result.out), masked(output))

    def check_page(self, path):
        ((words, output),) = commands(path)
        if "--report" in words and "--report" not in harness.run("--help").out:
            self.skipTest("there is no --report here")
        self.check(words, output)


for page in filter(commands, PAGES):
    name = "test_" + "_".join(page.relative_to(EXAMPLES).with_suffix("").parts)
    setattr(Examples, name, lambda self, page=page: self.check_page(page))


class Course(harness.TestCase):
    def test_the_lessons_are_numbered_and_each_shows_one_command_in_at_most_40_lines(self):
        lessons = sorted(EXAMPLES.glob("[0-9]*"))
        self.assertEqual([int(path.name[:2]) for path in lessons], list(range(1, 11)))
        for lesson in lessons:
            pages = [lesson] if lesson.is_file() else list(lesson.rglob("*.py"))
            self.assertEqual(sum(len(commands(path)) for path in pages), 1, lesson)
            for path in pages:
                self.assertLessEqual(len(path.read_text(encoding="utf-8").splitlines()), 40, path)

    def test_they_work_with_plain_python_too(self):
        for name in ("01_squares.py", "08_folder/survey.py"):
            ((_, output),) = commands(EXAMPLES / name)
            result = harness.plain(EXAMPLES / name)
            self.assertEqual(result.out, output)
            self.assertEqual(result.err.count("RuntimeWarning"), 1, result.err)


if __name__ == "__main__":
    unittest.main()
