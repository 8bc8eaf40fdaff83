"""Programs as users have them: beside modules named as those that we use (test process)."""
from __future__ import annotations

import unittest

from tests import harness


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


if __name__ == "__main__":
    unittest.main()
