"""CPython's own test cases for executors, with microscoop.Executor.  They come with the standard library's tests, which
some distributions leave out; only a Python without them skips this.  All but a few are slow ones.

Left out, since they look into the two executors of the standard library: test_killed_child, test_saturation,
test_traceback, test_ressources_gced_in_workers, test_idle_*, test_thread*, test_processes_terminate,
test_context_manager_shutdown, test_del_shutdown, test_shutdown_no_wait, test_max_*_per_child, test_init, test_deadlock
(a worker's death breaks no Executor of ours); and what submits a closure: test_map_submits_without_iteration,
test_pending_calls_race, test_executor_map_current_future_cancel.  test_executor.py has its like where it makes sense.
"""
from __future__ import annotations

import os
import sys
import threading
import unittest
from importlib.util import find_spec
from unittest import mock

import microscoop
from tests import harness

test_shutdown, missing = None, "the standard library's tests of concurrent.futures"
if find_spec("test") and find_spec("test.test_concurrent_futures"):
    try:
        if sys.version_info >= (3, 12):
            from test.test_concurrent_futures import (
                executor,
                test_as_completed,
                test_process_pool,
                test_shutdown,
                test_wait,
            )
        else:
            from test import test_concurrent_futures as executor
            test_as_completed = test_process_pool = test_shutdown = test_wait = executor
    except unittest.SkipTest as reason:            # they skip themselves: no semaphores, say
        missing = str(reason)

QUICK = ("test_submit", "test_map", "test_map_exception", "test_no_stale_references", "test_cancel_futures",
         "test_interpreter_shutdown", "test_correct_timeout_exception_msg",
         "test_first_completed_some_already_completed")


def python(*words, **_):
    """As assert_python_ok, but the executor is ours."""
    text = words[-1].replace("from concurrent.futures import", "from microscoop import")
    text = text.replace("microscoop import ThreadPoolExecutor", "microscoop import Executor as ThreadPoolExecutor")
    library = os.path.dirname(os.path.dirname(sys.modules["test"].__file__))
    path = os.pathsep.join([str(harness.ROOT), library])
    result = harness.plain("-c", text, env={"PYTHONPATH": path})
    if result.status:
        raise AssertionError(f"status {result.status}: {result.err}")
    return result.status, result.out.encode(), result.err.encode()


class Mixin(harness.TestCase):
    """What CPython's ExecutorMixin does."""
    executor_type = microscoop.Executor
    worker_count = 5

    def setUp(self):
        super().setUp()
        if self._testMethodName not in QUICK and not os.environ.get("MICROSCOOP_SLOW_TESTS"):
            self.skipTest("slow: set MICROSCOOP_SLOW_TESTS=1")
        for patch in (mock.patch.dict(os.environ, {harness.MARK_NAME: harness.MARK, "PYTHONPATH": str(harness.ROOT)}),
                      mock.patch.object(test_shutdown, "assert_python_ok", python)):
            patch.start()
            self.addCleanup(patch.stop)
        self.threads = threading.enumerate()
        self.executor = self.executor_type(max_workers=self.worker_count)

    def tearDown(self):
        self.executor.shutdown()
        self.executor = None
        self.assertEqual(threading.enumerate(), self.threads)
        super().tearDown()


if test_shutdown is None:
    class Missing(unittest.TestCase):
        def test_executors(self):
            self.skipTest("this Python comes without " + missing)
else:
    class ExecutorTests(executor.ExecutorTest, Mixin):
        test_submit_keyword = unittest.skipIf(sys.version_info < (3, 9), "wants submit(fn=...), which 3.8 deprecates")(
            executor.ExecutorTest.test_submit_keyword)
        test_map_chunksize = test_process_pool.ProcessPoolExecutorTest.test_map_chunksize

    class ShutdownTests(test_shutdown.ExecutorShutdownTest, Mixin):
        if hasattr(test_shutdown.ThreadPoolShutdownTest, "test_cancel_futures_wait_false"):
            test_cancel_futures_wait_false = test_shutdown.ThreadPoolShutdownTest.test_cancel_futures_wait_false

    class WaitTests(test_wait.WaitTests, Mixin):
        pass

    class AsCompletedTests(test_as_completed.AsCompletedTests, Mixin):
        pass


if __name__ == "__main__":
    unittest.main()
