"""What can run in a script's place: a module, a text, a prompt."""
from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import Any

from tests import harness

PROJECT = {
    "pack/__init__.py": "",
    "pack/__main__.py": """
import sys
from microscoop import futures
from . import helper
OFFSET = 3
def func(x):
    return helper.square(x) + OFFSET
print(sys.argv[1:], __name__, __package__, list(futures.map(func, range(4))))
""",
    "pack/helper.py": "def square(x):\n    return x * x\n",
    "pack/unused.txt": "text\n",
    "pack/part.py": """
import os, sys
import beside
from microscoop import futures
from . import helper
class Pair(tuple):
    pass
def func(x):
    there = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    assert __name__ == "__mp_main__" and sys.path[0] == there == os.getcwd() and os.path.isfile("pack/unused.txt")
    return Pair([helper.square(x) + beside.ONE, *sys.argv[1:], __package__, __spec__.name])
if __name__ == "__main__":
    print(sys.argv, sys.path[0], __name__, __package__, __spec__.name)
    if futures._current:
        print(sorted(set(futures.map(func, range(2)))))
""",
    "beside.py": "ONE = 1\n",
}


class Case(harness.TestCase):
    def project(self) -> Path:
        folder = self.script("").parent
        for name, text in PROJECT.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return folder

    def run_it(self, *words: Any, **settings: Any) -> str:
        result = harness.run("-q", "-n", "2", *words, **settings)
        self.assertEqual((result.status, result.err), (0, ""))
        return result.out


class Modules(Case):
    FOUND = "[(1, 'a', '-n', '--', 'pack', 'pack.part'), (2, 'a', '-n', '--', 'pack', 'pack.part')]\n"

    def test_a_module_runs_as_python_runs_it_and_workers_load_it(self) -> None:
        folder, words = self.project(), ("-m", "pack.part", "a", "-n", "--")
        plain = harness.plain(*words, cwd=folder)
        self.assertEqual(self.run_it(*words, cwd=folder), plain.out + self.FOUND, plain.err)

    def test_hosts_are_sent_the_whole_package_and_what_it_imports(self) -> None:
        folder = self.project()
        hidden = f"import os; real = os.path.isdir; os.path.isdir = lambda path: path != '{folder}' and real(path)"
        python = self.script("", "python")
        python.write_text(f'#!/bin/sh\nloader=$3\nshift 3\nexec {sys.executable} -u -c "{hidden}\n$loader" "$@"\n')
        python.chmod(0o755)
        words = ["-v", "-n", "2", "--host", "h1", "-m", "pack.part", "a", "-n", "--"]
        interpreters = {"in place": sys.executable, "sent": python}
        results = harness.at_once(lambda name: harness.run(
            "--ssh-executable", "env H={host}", "--python-interpreter", interpreters[name], *words, cwd=folder),
            interpreters)
        for name, result in zip(interpreters, results):
            with self.subTest(name):
                self.assertEqual((result.status, result.out.splitlines(True)[1:]), (0, [self.FOUND]), result.err)
                self.assertIn(f", {name}, login", result.err)

    def test_a_package_is_its_main_module_which_workers_do_not_load(self) -> None:
        self.assertEqual(self.run_it("-m", "pack", "a", cwd=self.project()), "['a'] __main__ pack [3, 4, 7, 12]\n")

    def test_a_class_of_that_is_refused_with_the_way_out(self) -> None:
        folder = self.project()
        (folder / "pack/__main__.py").write_text(
            "from microscoop import futures\nclass Typed: pass\nfutures.submit(print, Typed())\n")
        result = harness.run("-q", "-n", "1", "-m", "pack", cwd=folder)
        self.assertEqual(result.status, 1)
        self.assertRegex(result.err.splitlines()[-1], "Typed.*workers do not load a package's __main__: put it into "
                                                      "another module of the package$")
        self.assertNotIn("guard", result.err)

    def test_a_module_of_the_standard_library(self) -> None:
        self.assertEqual(self.run_it("-m", "calendar", "2026", "11").splitlines()[0].split(), ["November", "2026"])


class Texts(Case):
    def test_what_it_defines_travels_by_value(self) -> None:
        text = """
import sys, os
from microscoop import futures
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
def where(_):
    return __name__, sys.argv, os.path.samefile(sys.path[0], os.getcwd())
print(sys.argv, sys.path[:1], "__file__" in globals(), list(futures.map(fib, range(8))))
print(futures.submit(where, 0).result())
"""
        argv = ["-c", "-n", "--x"]
        self.assertEqual(self.run_it("-c", text, *argv[1:]), f"{argv} [''] False [0, 1, 1, 2, 3, 5, 8, 13]\n"
                         f"{('__mp_main__', argv, True)}\n")

    def test_its_end_is_its_own(self) -> None:
        for text, status, last in (("import sys; sys.exit(7)", 7, ""), ("def f(:", 1, "SyntaxError: invalid syntax\n"),
                                   ("1/0", 1, "ZeroDivisionError: division by zero\n")):
            with self.subTest(text):
                result = harness.run("-q", "-n", "1", "-c", text)
                self.assertEqual((result.status, result.out), (status, ""))
                self.assertTrue(result.err.endswith(last) and bool(result.err) == bool(last), result.err)
                self.assertNotIn("microscoop", result.err)

    def test_a_class_of_it_is_refused(self) -> None:
        text = "from microscoop import futures\nclass Typed: pass\nfutures.submit(print, Typed())"
        result = harness.run("-q", "-n", "1", "-c", text)
        self.assertEqual(result.status, 1)
        self.assertRegex(result.err.splitlines()[-1], "Typed.*given with -c.*into a module$")


class Prompt(Case):
    def test_without_a_script_somebody_at_a_terminal_is_asked(self) -> None:
        run = harness.start("-q", "-n", "2", pty=True, env={"HOME": str(harness.TEMP), "TERM": "dumb"})
        run.await_out(">>> ")
        for lines in ("from microscoop import futures", "def f(n):\n    return n and n + f(n - 1)\n",
                      "print('sum', list(futures.map(f, range(5))))", "print(list(map(lambda x: -x, [7])), 'done')"):
            run.type(lines.encode() + b"\n")
        run.await_out("sum [0, 1, 3, 6, 10]")
        run.await_out("[-7] done")
        run.type(b"1/0\n")
        run.await_err("ZeroDivisionError: division by zero")
        run.type(b"exit(3)\n")
        result = run.finish(20)
        self.assertEqual(result.status, 3)
        self.assertRegex(result.err, r"^Python 3.*microscoop .*by value")

    def test_end_of_file_ends_it(self) -> None:
        run = harness.start("-q", "-n", "1", pty=True, env={"HOME": str(harness.TEMP), "TERM": "dumb"})
        run.await_out(">>> ")
        run.type(b"\x04")
        self.assertEqual(run.finish(20).status, 0)


if __name__ == "__main__":
    unittest.main()
