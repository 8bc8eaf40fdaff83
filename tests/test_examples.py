"""Each example does what its own text says, line by line."""
from __future__ import annotations

import doctest
import re
import unittest

from tests import harness

EXAMPLES = harness.ROOT / "examples"
COMMAND = re.compile(r"^#? {4,5}\$ python3 -m microscoop (.*)\n((?:#? {4,5}\S.*\n)*)", re.MULTILINE)


def commands(text):
    """The commands that a text shows, without `python3 -m microscoop`, and the output that it shows for each."""
    return [(words.split(), re.sub("^#? {4,5}", "", output, flags=re.MULTILINE))
            for words, output in COMMAND.findall(text)]


class Examples(harness.TestCase):
    def check(self, name, options=()):
        shown = commands((EXAMPLES / name).read_text())
        self.assertEqual(len(shown), 1, "one command")
        words, output = shown[0]
        result = harness.run("-q", *words, *options, cwd=harness.ROOT, timeout=20)
        self.assertEqual((result.status, result.err), (0, ""))
        same = doctest.OutputChecker().check_output(output, result.out, doctest.ELLIPSIS)
        self.assertTrue(same, f"shown:\n{output}\nfound:\n{result.out}")

    def test_squares(self):
        self.check("01_squares.py")

    def test_timed_squares(self):
        self.check("02_timed_squares.py")

    def test_pi(self):
        self.check("03_pi.py")

    def test_tree(self):
        self.check("04_tree.py")

    def test_folder_with_module_package_and_data(self):
        self.check("05_folder/survey.py")

    def test_hostfile(self):
        self.check("hosts.txt")

    def test_every_example_is_tested_and_short(self):
        tested = re.findall(r'self\.check\("(.*?)"\)', (harness.ROOT / "tests" / "test_examples.py").read_text())
        for path in EXAMPLES.rglob("*.py"):
            client = path.name.startswith("clients_")      # test_clients.py tests those
            self.assertLessEqual(len(path.read_text().splitlines()), 60 if client else 40, path)
            if path.parent == EXAMPLES and not client:
                self.assertIn(path.name, tested)

    def test_they_work_with_plain_python_too(self):
        for path in ("01_squares.py", "05_folder/survey.py"):
            (_, output), = commands((EXAMPLES / path).read_text())
            result = harness.plain(EXAMPLES / path)
            self.assertEqual(result.out, output)
            self.assertEqual(result.err.count("RuntimeWarning"), 1, result.err)


if __name__ == "__main__":
    unittest.main()
