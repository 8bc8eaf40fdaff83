"""Programs as users have them: modules named as those that we use, a shell's background (test process)."""
from __future__ import annotations

import sys
import unittest

from tests import harness

SHELL = """
import os, signal, sys

def start(*words):
    job = os.fork()
    if not job:
        os.setpgid(0, 0)
        os.execvp(words[0], words)
    return job

def bring(job):
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)

signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = start(*sys.argv[1:])
_, status = os.waitpid(job, os.WUNTRACED)
print("stopped" if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTTIN else status, flush=True)
bring(job)
_, status = os.waitpid(job, 0)
print("status", os.WEXITSTATUS(status), flush=True)
"""


class Programs(harness.TestCase):
    def test_modules_beside_the_script_that_are_named_as_those_that_we_use(self):
        script = self.script("""
            import logging
            from microscoop import futures

            def task(x):
                return logging.level / x

            if __name__ == "__main__":
                print(list(futures.map(task, [1, 2])))
                error = futures.submit(task, 0).exception()
                print(repr(error), "no traceback: ImportError" in str(error.__cause__))
        """)
        (script.parent / "logging.py").write_text("level = 6\n")
        (script.parent / "token.py").write_text("text = 'of a user'\n")
        self.assert_ended(harness.run("-q", "-n", "1", script), "[6.0, 3.0]\n"
                          "ZeroDivisionError('division by zero') True\n")

    def test_callable_objects_that_are_false_or_answer_for_no_attribute(self):
        script = self.script("""
            import operator
            from microscoop import futures

            class Times(list):
                def __call__(self, x):
                    return 10 * x

            class Odd:
                def __call__(self, x):
                    return 10 * x

                def __getattr__(self, name):
                    if name in ("func", "__wrapped__", "__qualname__", "__code__"):
                        raise KeyError(name)
                    raise AttributeError(name)

            if __name__ == "__main__":
                for function in (Times(), Odd()):
                    print(*futures.map(function, [1, 2]), futures.submit(function, 3).result(),
                          futures.map_reduce(function, operator.add, [1, 2]))
        """)
        for words in ((), ("--report", script.parent / "page.html", "--resume", script.parent / "journal")):
            self.assertEqual(harness.run("-q", "-n", "2", *words, script), (0, "10 20 30 30\n" * 2, ""), words)

    def test_a_job_in_the_background_that_reads_from_the_terminal_stops_until_it_is_in_the_foreground(self):
        script = self.script("""
            import time
            from microscoop import futures

            if __name__ == "__main__":
                print(list(futures.map(abs, [-1])), flush=True)
                try:
                    print("read", input(), flush=True)
                    time.sleep(30)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
        """)
        shell = harness.Run([sys.executable, "-c", SHELL, *harness.microscoop("-q", "-n", "1", script)], pty=True)
        shell.await_out("stopped")
        self.assertIn("[1]", shell.out.text())
        shell.type(b"a line\n")
        shell.await_out("read a line")
        shell.type(b"\x03")
        shell.await_out("status 0")
        self.assertIn("interrupted", shell.out.text())
        self.assertEqual(shell.finish().err, "")


if __name__ == "__main__":
    unittest.main()
