"""The harness itself: a run that lasts too long shows its stacks, and what is left behind is found."""
from __future__ import annotations

import os
import sys
import threading
import unittest

from tests import harness

HAS_PROC = os.path.exists("/proc/self/environ")


@unittest.skipUnless(HAS_PROC, "needs /proc")
class Harness(unittest.TestCase):
    def test_a_run_that_lasts_too_long_shows_the_stacks_of_all_its_processes(self):
        with harness.script("""
            import os, time
            def parent_waits():
                time.sleep(100)
            def child_waits():
                time.sleep(100)
            child_waits() if os.fork() == 0 else parent_waits()
        """) as path:
            with self.assertRaises(AssertionError) as caught:
                harness.plain(path, timeout=0.5)
            self.assertRegex(str(caught.exception), r"(?s)line 4 in parent_waits.*line 6 in child_waits")
        self.assertEqual(harness.processes(), [])

    def test_a_process_socket_or_private_directory_left_behind_fails_the_test(self):
        class Case(harness.TestCase):
            def test_process(self):
                harness.plain("-c", "import subprocess; subprocess.Popen(['sleep', '100'], stdout=-3, stderr=-3)")

            def test_directory(self):
                (harness.TEMP / "microscoop-1").mkdir()

            def test_nothing(self):
                harness.plain("-c", "print()")

        grace, harness.GRACE = harness.GRACE, 0.05
        self.addCleanup(setattr, harness, "GRACE", grace)
        results = {}
        for name in ("test_process", "test_directory", "test_nothing"):
            result = unittest.TestResult()
            Case(name).run(result)
            results[name] = "".join(text for _, text in result.failures + result.errors)
        self.assertIn("sleep 100", results["test_process"])
        self.assertIn("microscoop-1", results["test_directory"])
        self.assertEqual(results["test_nothing"], "")

    def test_tests_that_go_on_at_once_each_say_how_they_went(self):
        met, result = threading.Barrier(3), unittest.TestResult()

        class Case(harness.AtOnce):
            def test_fails(self):
                met.wait(20)
                self.fail("as it was told to")

            def test_passes(self):
                met.wait(20)
                (harness.TEMP / "microscoop-1").mkdir()

            def test_skips(self):
                met.wait(20)
                self.skipTest("")

        grace, harness.GRACE = harness.GRACE, 0.05
        self.addCleanup(setattr, harness, "GRACE", grace)
        unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
        told = [(test.id().rpartition(".")[2], text) for test, text in result.failures]
        self.assertEqual([name for name, _ in told], ["test_fails", "test_fails"])
        self.assertIn("as it was told to", told[0][1])
        self.assertIn("microscoop-1", told[1][1])
        self.assertEqual((result.testsRun, result.errors, len(result.skipped)), (3, [], 1))

    def test_a_terminal_passes_ctrl_c_to_the_run(self):
        program = "import sys, time; print(sys.stdin.isatty(), flush=True); time.sleep(50)"
        run = harness.Run([sys.executable, "-c", program], pty=True)
        run.await_out("True")
        run.type(b"\x03")
        result = run.finish(5)
        self.assertIn("KeyboardInterrupt", result.err)
        self.assertEqual(result.status, -2)


if __name__ == "__main__":
    unittest.main()
