"""Logging in tasks, microscoop.logger, and the constants that a SCOOP program reads (test process)."""
from __future__ import annotations

import re
import unittest

from tests import harness

STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] "


class Logging(harness.AtOnce):
    def go(self, text, *words, python=None):
        script = self.script(text)
        result = harness.plain(script) if python else harness.run("-q", *words, script)
        self.assertEqual(result.status, 0, result.err)
        return result.out, result.err.splitlines()

    def test_a_task_that_imports_logging_itself(self):
        text = """
            import sys
            from microscoop import futures

            def warn(x):
                import logging
                logging.warning("plain %d", x)
                logging.getLogger("mine").error("two\\nlines")
                print("a print", file=sys.stderr)

            if __name__ == "__main__":
                assert "logging" not in sys.modules
                list(futures.map(warn, [7]))
                warn(8)
        """
        _, lines = self.go(text, "-n", "1")
        where = re.match(r"\[\S+/\d+\] ", lines[0]).group()
        plain = [where + "WARNING:root:plain 7", where + "ERROR:mine:two", "lines", "a print"]
        self.assertEqual(lines, plain + ["WARNING:root:plain 8", "ERROR:mine:two", "lines", "a print"])
        _, lines = self.go(text, "--serial")           # where the task is, is no question
        self.assertEqual(lines[:4], [line.replace(where, "") for line in plain])

    def test_a_script_that_configures_logging(self):
        out, lines = self.go("""
            import logging, sys
            from microscoop import futures

            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
            log = logging.getLogger(__name__)
            other = logging.StreamHandler(sys.stdout)
            other.setFormatter(logging.Formatter("seen: %(message)s"))
            log.addHandler(other)

            def tell(x):
                log.info("number %d", x)
                try:
                    1 / 0
                except ZeroDivisionError:
                    log.exception("with a traceback")

            if __name__ == "__main__":
                list(futures.map(tell, [7]))
                log.warning("the origin")
        """, "-n", "1")
        self.assertRegex(lines[0], r"\A\[\S+/\d+\] INFO number 7\Z")
        self.assertRegex(lines[1], r"\A\[\S+/\d+\] ERROR with a traceback\Z")
        self.assertEqual(lines[2], "Traceback (most recent call last):")
        self.assertEqual(lines[-1], "WARNING the origin")
        self.assertIn("seen: number 7\n", out)

    def test_the_last_resort_handler(self):
        _, lines = self.go("""
            import logging
            from microscoop import futures

            def warn(x):
                logging.getLogger("mine").warning("unconfigured %d", x)
                logging.getLogger("mine").info("not to be seen")

            if __name__ == "__main__":
                list(futures.map(warn, [7]))
        """, "-n", "1")
        self.assertEqual([re.sub(r"\A\[\S+/\d+\]", "[h]", line) for line in lines], ["[h] unconfigured 7"])

    def test_microscoop_logger(self):
        text = """
            import logging, microscoop
            from microscoop import futures, logger

            logging.basicConfig()

            def tell(x):
                microscoop.logger.info("number %d", x)
                logger.debug("not to be seen")

            if __name__ == "__main__":
                list(futures.map(tell, [7]))
                logger.warning("the origin")
        """
        _, lines = self.go(text, "-n", "1")
        self.assertRegex(lines[0], r"\A" + STAMP + r"\S+/\d+ script    INFO    number 7\Z")
        self.assertRegex(lines[1], r"\A" + STAMP + r"origin script    WARNING the origin\Z")
        self.assertEqual(len(lines), 2)
        _, lines = self.go(text, python=True)
        self.assertRegex(lines[-1], r"\A" + STAMP + r"here script    WARNING the origin\Z")


class Constants(harness.AtOnce):
    TEXT = """
        import microscoop
        from microscoop import IS_ORIGIN, IS_RUNNING, futures
        loaded = IS_ORIGIN, IS_RUNNING, microscoop.SIZE, microscoop.worker

        def seen(_):
            return loaded, constants()

        def constants():
            return microscoop.IS_ORIGIN, microscoop.IS_RUNNING, microscoop.SIZE, microscoop.worker

        if __name__ == "__main__":
            print(loaded, constants(), microscoop.DEBUG, microscoop.BROKER)
            print(*futures.map(seen, [1]))
            try:
                microscoop.NONSENSE
            except AttributeError as error:
                print(error)
    """

    def test_in_the_origin_in_workers_and_in_one_process(self):
        error = "module 'microscoop' has no attribute 'NONSENSE'\n"
        script = self.script(self.TEXT)
        out = harness.run("-q", "-n", "3", script).out.splitlines(True)
        here = (True, True, 3, "origin")
        self.assertEqual(out[0], f"{here} {here} False None\n")
        name = re.search(r"'(\S+/\d+)'", out[1]).group(1)
        there = (False, True, 3, name)
        self.assertEqual(out[1], f"{(there, there)}\n")
        self.assertEqual(out[2], error)
        here = (True, True, 1, "origin")
        self.assertEqual(harness.run("-q", "--serial", script).out,
                         f"{here} {here} False None\n{(here, here)}\n" + error)

    def test_with_hosts(self):
        out = harness.run("-q", "-n", "4", "--ssh-executable", "env WHERE={host}", "--host", "a", "b", "--",
                          self.script(self.TEXT)).out.splitlines()
        here = (True, True, 4, "origin")
        self.assertEqual(out[0], f"{here} {here} False None")
        self.assertRegex(out[1], r"\A(\(\((False, True, 4, '[ab]/\d')\), \(\2\)\))\Z")

    def test_outside_of_the_launcher(self):
        here = (True, False, 1, "here")
        result = harness.plain(self.script(self.TEXT))
        self.assertEqual(result.out.splitlines()[:2], [f"{here} {here} False None", f"{(here, here)}"])
        self.assertIn("started without `python -m microscoop`", result.err)


if __name__ == "__main__":
    unittest.main()
