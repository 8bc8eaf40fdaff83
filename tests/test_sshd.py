"""The tests' own sshd: each of its options does what tests rely on, and it leaves nothing behind."""
from __future__ import annotations

import os
import subprocess
import unittest

from tests import harness, sshd
from tests.harness import until


def ssh(server: sshd.Sshd, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*server.ssh, "-o", "BatchMode=yes", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


@sshd.requires_sshd
class RealSshd(unittest.TestCase):
    def start(self, **options: object) -> sshd.Sshd:
        server = sshd.Sshd(**options)  # type: ignore[arg-type]
        self.addCleanup(server.stop)
        return server

    def log_in(self, server: sshd.Sshd) -> subprocess.Popen[bytes]:
        """A login that stays."""
        login = subprocess.Popen(
            [*server.ssh, "h1", "echo in; exec sleep 600"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(login.communicate)
        self.addCleanup(login.kill)
        assert login.stdout
        self.assertEqual(login.stdout.readline(), b"in\n")
        return login

    def test_every_alias_logs_in_and_nothing_else_is_said(self) -> None:
        server = self.start(aliases=("h1", "other"))
        for alias in ("h1", "other"):
            done = ssh(server, alias, "echo $((6 * 7))")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "42\n", ""))

    def test_failed_logins_say_why(self) -> None:
        self.assertIn("Host key verification failed", ssh(self.start(known="no"), "h1", "true").stderr)
        self.assertIn("IDENTIFICATION HAS CHANGED", ssh(self.start(known="changed"), "h1", "true").stderr)
        self.assertIn("Permission denied (password)", ssh(self.start(password=True), "h1", "true").stderr)
        self.assertIn("Permission denied (publickey)", ssh(self.start(passphrase="secret"), "h1", "true").stderr)
        self.assertIn("Permission denied", ssh(self.start(), "nobodyhere@h1", "true").stderr)

    def test_forwarding_can_be_forbidden(self) -> None:
        server = self.start(options={"AllowTcpForwarding": "no"})
        done = ssh(server, "-W", "127.0.0.1:%d" % server.port, "h1")
        self.assertIn("administratively prohibited", done.stderr)

    def test_ending_sessions_leaves_the_listener(self) -> None:
        server = self.start()
        login = self.log_in(server)
        server.end_sessions()
        self.assertEqual(login.wait(10), 255)
        self.assertEqual(ssh(server, "h1", "true").returncode, 0)

    @harness.slow
    def test_nothing_is_left_after_stop(self) -> None:
        with sshd.Sshd() as server:
            login = self.log_in(server)
            ours = [server.pid, *server.sessions()]
            self.assertGreater(len(ours), 1)
        login.wait(10)
        self.assertTrue(until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in ours), 5))
        self.assertFalse(os.path.exists(server.directory))


class SkipsThatAreForbidden(unittest.TestCase):
    def test_a_missing_program_fails_a_class_and_a_function_by_its_reason(self) -> None:
        class Example(unittest.TestCase):
            def test_one(self) -> None:
                pass

        marked = sshd._failing("install it", "ssh")(Example)
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(marked).run(result)
        self.assertIn("install it", result.errors[0][1])
        with self.assertRaisesRegex(AssertionError, "install it"):
            sshd._failing("install it", "ssh")(lambda self: None)(self)
