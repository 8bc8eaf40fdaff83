"""--check, with a stand-in for ssh (as in test_launch) and with a real sshd: rows, failures, forwarding, remains."""
from __future__ import annotations

import signal
import sys
import unittest
import zlib
from typing import Any
from unittest import mock

from microscoop import files
from microscoop.hosts import Host, Share, usable_cores
from microscoop.leaves import check
from tests import harness, test_launch
from tests.sshd import Sshd, requires_sshd

VERSION = r"%d\.%d\.%d" % sys.version_info[:3]
ABOUT = rf" +\S*python\S*  {VERSION}  {usable_cores()} cores?  \d+\.\d GiB +"
HEAD = rf"127\.0\.0\.1 +ready +-{ABOUT}- +"  # the end of its row is left to each test, as with the others
HOST = rf" +ready +login \d+ ms{ABOUT}round trip \d+\.\d\d ms +"

# what an agent does instead of answering -> the host's error
BAD_AGENTS = (
    ("os.write(2, b'no space left on device'); os._exit(3)", "its agent has ended; no space left on device"),
    ("os.read(fd_in, 99); os.write(fd_out, b'Welcome')", "not a message: b'Welcome'"),
    ("os.read(fd_in, 99); os.read(fd_in, 99)", "its agent gave no answer within 0.3 s"),
)


class CheckCase(test_launch.LaunchCase):
    def checked(self, *words: str, **settings: Any) -> harness.Result:
        return harness.run("--check", "--ssh-executable", self.ssh, *words, **settings)

    def hosts(self, text: str) -> str:
        path = self.base / "hostfile"
        path.write_text(text)
        return str(path)

    def elsewhere(self) -> str:
        """The Python of a host that does not share the script's folder."""
        return self.python(f"import os; real = os.path.isdir; os.path.isdir = lambda path: "
                           f"path != '{self.script.parent}' and real(path)")

    def assert_rows(self, result: harness.Result, status: int, *rows: str) -> None:
        """Each line of stdout matches one of the expressions, in this order, and nothing else was said."""
        self.assertEqual((result.status, result.err), (status, ""))
        lines = result.out.splitlines()
        self.assertEqual(len(lines), len(rows), result.out)
        for line, row in zip(lines, rows):
            self.assertRegex(line, f"^{row}$")


class Rows(CheckCase, harness.AtOnce):
    def test_tell_of_each_host_what_it_is_and_need_no_script(self) -> None:
        self.host("a.longer.name", "echo noise; echo more >&2")
        self.assert_rows(
            self.checked("-n", "1", "--host", "a.longer.name", "h2"), 0, HEAD + "-  -",
            rf"a\.longer\.name{HOST}-  forwarding allowed", f"h2{HOST}-  forwarding allowed")

    def test_are_aligned(self) -> None:
        self.host("a.longer.name", "")
        lines = self.checked("--host", "a.longer.name", "h2").out.splitlines()
        for word, among in (("ready", lines), (" GiB", lines), ("forwarding", lines[1:])):
            self.assertEqual(len({line.index(word) for line in among}), 1)

    def test_come_from_all_hosts_at_once(self) -> None:
        for name in ("h3", "h4", "h5"):  # each waits for the others
            self.host(name, f"touch {self.base}/here.$0; until [ -e {self.base}/here.h3 -a -e {self.base}/here.h4 "
                            f"-a -e {self.base}/here.h5 ]; do sleep 0.02; done")
        self.assertEqual(self.checked("--host", "h3", "h4", "h5", timeout=20).status, 0)

    def test_say_whether_the_script_is_in_place(self) -> None:
        self.host("h3", "")
        hosts = self.hosts(f"h2\nh3 python={self.elsewhere()}\n")
        self.assert_rows(self.checked("--hostfile", hosts, str(self.script), "--help"), 0, HEAD + "in place  -",
                         f"h2{HOST}in place  forwarding allowed", f"h3{HOST}sent      forwarding allowed")

    def test_are_of_this_machine_alone_where_there_is_no_other(self) -> None:
        self.assert_rows(harness.run("--check", "--ssh-executable", "/nowhere/ssh"), 0, HEAD + "-  -")

    def test_leave_forwarding_open_for_a_template(self) -> None:
        inner = self.program("inner", f'#!/bin/sh\nhost=$1\nshift\nexec {self.ssh} -- "$host" "$*"\n')
        result = harness.run("--check", "--ssh-executable", inner + " {host}", "--host", "h2")
        self.assert_rows(result, 0, HEAD + "-  -", f"h2{HOST}-  -")

    @harness.slow
    def test_tell_of_a_refused_forward_which_is_a_failure_only_with_tunnel(self) -> None:
        forbid: harness.Environment = {"FORBID": "1"}
        plain, failing, allowed = [
            harness.start("--check", "--ssh-executable", self.ssh, *way, "--host", "h2", env=env)
            for way, env in (((), forbid), (("--tunnel",), forbid), (("--tunnel",), {}))]
        self.assert_rows(plain.finish(), 0, HEAD + "-  -", "h2 .*  forwarding refused")
        self.assert_rows(failing.finish(), 1, HEAD + "-  -", "h2 +failed at ready  nobody answers through the tunnel",
                         " +it does not allow forwarding: leave out --tunnel")
        self.assert_rows(allowed.finish(), 0, HEAD + "-  -", "h2 .*  forwarding allowed")

    def test_do_not_call_a_forward_refused_when_the_second_login_fails_otherwise(self) -> None:
        once = self.base / "once"
        self.host("h2", f"mkdir {once} || {{ echo 'h2: too many logins' >&2; exit 255; }}")
        self.assert_rows(self.checked("--host", "h2"), 0, HEAD + "-  -",
                         r"h2 .*  forwarding unknown \(stage ssh: h2: too many logins\)")


class Failures(CheckCase):
    def test_name_stage_last_words_and_advice_beside_the_hosts_that_are_ready(self) -> None:
        self.host("closed", "echo 'me@closed: Permission denied (publickey).' >&2; exit 255")
        self.host("old", "")
        old = self.python("import sys; sys.version_info = (3, 6, 15)")
        result = self.checked("--hostfile", self.hosts(f"closed\nh2\nold python={old}\n"))
        self.assert_rows(
            result, 1, HEAD + "-  -", r"closed +failed at ssh {6}me@closed: Permission denied \(publickey\)",
            " {30}no key of yours opens .*; try: ssh-copy-id closed", f"h2{HOST}-  forwarding allowed",
            r"old +failed at version  \S+ on old is 3\.6; 3\.8 or newer is needed.*", " {30}.*python=.*")

    def test_of_ssh_itself_fail_every_host(self) -> None:
        row = "h. +failed at ssh  '/nowhere/ssh' cannot be run: No such file or directory", " +install OpenSSH.*"
        result = harness.run("--check", "--ssh-executable", "/nowhere/ssh", "--host", "h2", "h3")
        self.assert_rows(result, 1, HEAD + "-  -", *row, *row)

    def test_of_an_agent_that_does_not_answer_are_told(self) -> None:
        for body, words in BAD_AGENTS:
            agent = f"import os\ndef serve_remote(fd_in, fd_out, order, held): {body}\n"
            sources = {"__init__": "", "tunnel": "", "agent": agent}
            entries = [files.Entry(f"microscoop/{name}.py", len(text), 0o600, "") for name, text in sources.items()]
            parcel = files.Parcel("")
            parcel.package = files.Bundle(entries, zlib.compress("".join(sources.values()).encode()))
            with self.subTest(words), mock.patch.object(check, "ANSWER", 0.3):
                found = check.visit([Share(Host("h2"), 1)], self.job(script=""), parcel)["h2"]
                assert found.error
                self.assertEqual((found.error.stage, found.error.words), ("ready", words))

    def test_are_one_sentence_where_the_files_are_too_large(self) -> None:
        big = self.base / "big"
        with big.open("wb") as file:
            file.truncate(files.LIMIT + 1)
        hosts = self.hosts(f"h2 python={self.elsewhere()}\n")
        result = self.checked("--hostfile", hosts, "--send", str(big), str(self.script))
        self.assertEqual((result.status, result.out, result.err.count("\n")), (2, "", 1))
        self.assertRegex(result.err, "^microscoop: 64.0 MiB would have to be sent")


class Interrupted(CheckCase):
    def test_leaves_nothing(self) -> None:
        statuses = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
        runs = []
        for number in statuses:
            for words in ((), ("--tunnel",)):
                begun = self.base / f"begun{len(runs)}"
                host = f"slow{len(runs)}"
                self.host(host, f"touch {begun}; cat >/dev/null")  # it says nothing, and ends when ssh does
                run = harness.start("--check", "--ssh-executable", self.ssh, *words, "--host", "h2", host)
                runs.append((run, begun, number, words))
        for run, begun, number, words in runs:
            with self.subTest(number, words=words):
                self.assertTrue(harness.until(begun.exists, 20))
                run.process.send_signal(number)
                self.assertEqual(run.finish(20), harness.Result(statuses[number], "", ""))
        self.assert_gone()


@requires_sshd
class WithARealSshd(CheckCase):
    @harness.slow
    def test_it_says_whether_sshd_forwards(self) -> None:
        seen = {"SetEnv": f"TMPDIR={harness.TEMP} {harness.MARK_NAME}={harness.MARK}"}  # by who looks for remains
        for options, word in (({}, "allowed"), ({"AllowTcpForwarding": "no"}, "refused")):
            with self.subTest(word), Sshd(options={**seen, **options}) as sshd:
                result = harness.run("--check", "--ssh-executable", sshd.command, "--host", "h1")
                self.assert_rows(result, 0, HEAD + "-  -", f"h1{HOST}-  forwarding {word}")
                self.assert_gone()

    def test_a_changed_key_is_told_with_its_cure(self) -> None:
        with Sshd(known="changed") as sshd:
            result = harness.run("--check", "--ssh-executable", sshd.command, "--host", "h1")
        self.assert_rows(result, 1, HEAD + "-  -",
                         r"h1 +failed at ssh  Host key for \[127\.0\.0\.1\]:\d+ has changed and .*",
                         r" +its key is another one than before: .*; try: ssh-keygen -R '\[.*")


if __name__ == "__main__":
    unittest.main()
