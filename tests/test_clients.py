"""Real programs as clients: the examples/clients_*.py give what their texts show, and the same without any worker.

They need packages that are not always there; MICROSCOOP_FORBID_SKIP=clients makes their absence a failure.
"""
from __future__ import annotations

import importlib.util
import unittest

from tests import harness, sshd
from tests.test_examples import EXAMPLES, commands


def requires(*packages):
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return sshd.requires(f"no {', '.join(missing)} here" if missing else "", "clients")


class Clients(harness.TestCase):
    def check(self, name):
        """The output that the example shows, under the launcher and without."""
        (words, output), = commands((EXAMPLES / name).read_text())
        result = harness.run("-q", *words, cwd=harness.ROOT, timeout=60)
        self.assertEqual((result.status, result.out, result.err), (0, output, ""))
        result = harness.plain("-W", "ignore", EXAMPLES / name, timeout=60)
        self.assertEqual((result.status, result.out, result.err), (0, output, ""))

    @requires("deap")
    def test_deap(self):
        self.check("clients_deap.py")

    @requires("scipy")
    def test_scipy(self):
        self.check("clients_scipy.py")

    @requires("sklearn", "joblib")
    def test_sklearn(self):
        text = (EXAMPLES / "clients_sklearn.py").read_text()
        output = text.partition("examples/clients_sklearn.py\n    ")[2].partition("\n")[0]
        result = harness.plain(EXAMPLES / "clients_sklearn.py", timeout=60)
        self.assertEqual((result.status, result.out, result.err), (0, output + "\n", ""))

    @requires("joblib", "sklearn")
    def test_an_error_of_a_task_reaches_joblib_s_caller(self):
        path = self.script("""
import joblib, math, runpy, sys
runpy.run_path(sys.argv[1])

if __name__ == "__main__":
    with joblib.parallel_config("microscoop", n_jobs=2):
        try:
            joblib.Parallel()(joblib.delayed(math.sqrt)(i) for i in range(20, -20, -1))
        except ValueError as error:
            print("ValueError:", error)
        print(joblib.Parallel()(joblib.delayed(math.sqrt)(i * i) for i in range(4)))
""")
        result = harness.plain(path, EXAMPLES / "clients_sklearn.py", timeout=60)
        self.assertRegex(result.out, r"^ValueError: .*\n\[0\.0, 1\.0, 2\.0, 3\.0\]\n$", result.err)


if __name__ == "__main__":
    unittest.main()
