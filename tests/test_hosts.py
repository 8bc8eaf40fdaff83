"""Hosts and slots by tables: what a hostfile means, which names are this machine's, how workers are shared out."""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import unittest
from typing import Optional

from microscoop.errors import UsageError
from microscoop.hosts import (
    Host,
    Share,
    distribute,
    distribution_lines,
    is_local,
    parse_hostfile,
    parse_words,
    usable_cores,
)

PACKAGE_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# text, one "/" for each end of a line -> (name, slots, python) of each host
HOSTFILES: list[tuple[str, list[tuple[str, Optional[int], Optional[str]]]]] = [
    ("a", [("a", None, None)]),
    ("a/b/c", [("a", None, None), ("b", None, None), ("c", None, None)]),
    ("a 4", [("a", 4, None)]),
    ("a slots=4", [("a", 4, None)]),
    ("\ta \t 007 \r", [("a", 7, None)]),
    ("a/a", [("a", 2, None)]),
    ("a/b/a/a", [("a", 3, None), ("b", None, None)]),
    ("a/a 3", [("a", 4, None)]),
    ("a 3/a", [("a", 4, None)]),
    ("a 2/a slots=3", [("a", 5, None)]),
    ("# rack 3/a", [("a", None, None)]),
    ("a # 16 cores", [("a", None, None)]),
    ("a 2 # 16 cores//   /b#c", [("a", 2, None), ("b", None, None)]),
    ("a python=python3.9", [("a", None, "python3.9")]),
    ("a 2 python='env X=1 python3'", [("a", 2, "env X=1 python3")]),
    ("a python=p slots=2", [("a", 2, "p")]),
    ("a python=p/a", [("a", 2, "p")]),
    ("a/a python=p", [("a", 2, "p")]),
    ("a python=p/a 2 python=p", [("a", 3, "p")]),
    ("'a' 2", [("a", 2, None)]),
    ("me@a 2/a", [("me@a", 2, None), ("a", None, None)]),
    ("2001:db8::1 2/me@2001:db8::2/fe80::1%nosuch0", [
        ("2001:db8::1", 2, None), ("me@2001:db8::2", None, None), ("fe80::1%nosuch0", None, None)]),
    ("n_1.cluster-2", [("n_1.cluster-2", None, None)]),
    ("17", [("17", None, None)]),
    ("localhost/127.0.0.1 2/::1", [("localhost", 4, None)]),
    ("me@localhost", [("me@localhost", None, None)]),
]

# text -> line of the error, what it must say
MALFORMED: list[tuple[str, int, str]] = [
    ("a/host:4", 2, "4 slots or a port?"),
    ("host:4 2", 1, "4 slots or a port?"),
    ("me@host:22", 1, "22 slots or a port?"),
    ("host:x", 1, "only an IPv6 address has a colon"),
    ("host:", 1, "only an IPv6 address has a colon"),
    ("[::1]", 1, "without brackets"),
    ("[2001:db8::1]:22", 1, "without brackets"),
    ("a 0", 1, "a count of at least 1, found '0'"),
    ("a -1", 1, "a count of at least 1, found '-1'"),
    ("a 1.5", 1, "found '1.5'"),
    ("a b", 1, "found 'b'"),
    ("a 1_0", 1, "found '1_0'"),
    ("a ²", 1, "found '²'"),
    ("a " + "9" * 5000, 1, "a count of at least 1"),
    ("a ''", 1, "found ''"),
    ("a slots=0", 1, "found '0'"),
    ("a slots=", 1, "found ''"),
    ("a slots = 4", 1, "found 'slots'"),
    ("a 2 3", 1, "found '3'"),
    ("a 2 slots=3", 1, "found 'slots=3'"),
    ("a slots=3 slots=3", 1, "found 'slots=3'"),
    ("a python=p 4", 1, "found '4'"),
    ("a python=", 1, "found 'python='"),
    ("a python=p python=p", 1, "found 'python=p'"),
    ("a max_slots=4", 1, "found 'max_slots=4'"),
    ("a port=22", 1, "~/.ssh/config"),
    ("b python=p/ab/b python=q", 3, "'p' in a line above"),
    ("slots=4", 1, "no '='"),
    ("//-oProxyCommand=x", 3, "begin with a dash"),
    ("- 2", 1, "begin with a dash"),
    ("''", 1, "expected a host's name"),
    ("me@", 1, "expected a host's name"),
    ("@a", 1, "expected a host's name"),
    ("'a b'", 1, "no ' ' in it"),
    ("a,b", 1, "no ',' in it"),
    ("a\x0b", 1, "no '\\x0b' in it"),
    ("a\x0b:4", 1, "no '\\x0b' in it"),
    ("a;b", 1, "no ';' in it"),
    ("ok/a 'b", 2, "No closing quotation"),
    ("a \\", 1, "No escaped character"),
]

# hosts, -n -> the counts of the shares in order ("-": the origin alone), whether there is a warning
SHARES: list[tuple[str, Optional[int], str, bool]] = [
    ("127.0.0.1/b/c", 3, "1 1 1", False),
    ("127.0.0.1/b/c", 6, "2 2 2", False),
    ("127.0.0.1/b/c", 8, "3 3 2", False),
    ("127.0.0.1/b/c", 1, "1", False),
    ("127.0.0.1/a 2/b/c 3", 7, "1 2 1 3", False),
    ("127.0.0.1/a 2/b/c 3", 3, "1 2", False),
    ("127.0.0.1/a 2/b/c 3", 2, "1 1", False),
    ("127.0.0.1/a 2/b/c 3", 9, "2 2 2 3", False),
    ("127.0.0.1/a 2/b/c 3", None, "4 2 cores 3", False),
    ("a 1/b 1", 5, "- 3 2", True),
    ("a 1/b 1", 2, "- 1 1", False),
    ("a 1/127.0.0.1 1", 5, "3 2", True),
    ("a 3/127.0.0.1", 2, "- 2", False),
    ("a 3/127.0.0.1", 4, "3 1", False),
    ("a/a/b", 4, "- 2 2", False),
    ("a", None, "- cores", False),
    ("127.0.0.1 2", None, "2", False),
    ("", None, "4", False),
    ("", 6, "6", False),
    ("a/b", 1000000000, "- 500000000 500000000", False),
]


def hosts_of(text: str) -> list[Host]:
    return parse_hostfile(text.replace("/", "\n"), "hosts") if text else []


class Hostfile(unittest.TestCase):
    def test_every_form_of_a_line(self) -> None:
        for text, expected in HOSTFILES:
            with self.subTest(text):
                self.assertEqual([host[:3] for host in hosts_of(text)], expected)

    def test_a_malformed_line_is_an_error_with_file_line_and_text(self) -> None:
        for text, line, saying in MALFORMED:
            with self.subTest(text[:40]), self.assertRaises(UsageError) as caught:
                hosts_of(text)
            message = str(caught.exception)
            self.assertIn(saying, message)
            self.assertIn(f"hosts, line {line}, {text.split('/')[line - 1].strip()!r}: ", message)
            self.assertNotIn("\n", message)

    def test_a_file_without_any_host_is_an_error(self) -> None:
        for text in ("/", "# nothing", " / "):
            with self.subTest(text), self.assertRaisesRegex(UsageError, "hosts names no host"):
                hosts_of(text)


class Words(unittest.TestCase):
    def test_names_are_open_and_repeats_are_counted(self) -> None:
        self.assertEqual(parse_words(["a", "b", "b"]), [Host("a"), Host("b", 2)])
        self.assertEqual(parse_words(["127.0.0.1", "localhost"]), [Host("127.0.0.1", 2, local=True)])

    def test_anything_but_a_name_is_an_error_with_the_word(self) -> None:
        for word, saying in [("4", "a count?"), ("h:4", "4 slots or a port"), ("a 4", "no ' '"), ("", "name"),
                             ("a,b", "no ','"), ("\udce4", "no '\\udce4'"), ("-x", "dash"), ("a#b", "no '#'")]:
            with self.subTest(word), self.assertRaises(UsageError) as caught:
                parse_words(["a", word])
            self.assertIn(f"--host, {word!r}: ", str(caught.exception))
            self.assertIn(saying, str(caught.exception))


class LocalNames(unittest.TestCase):
    def test_names_and_addresses_of_this_machine_are_local(self) -> None:
        own = socket.gethostname()
        for name in ("127.0.0.1", "localhost", "LOCALHOST", "::1", own, own.upper(), own.partition(".")[0]):
            with self.subTest(name):
                self.assertTrue(is_local(name))

    def test_every_address_that_can_be_bound_is_local(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing: only asks which address would be used
            except OSError:
                self.skipTest("this machine has no address but the loopback's")
            self.assertTrue(is_local(probe.getsockname()[0]))

    def test_others_are_not(self) -> None:
        other = socket.gethostname() + "x"
        for name in ("192.0.2.1", "2001:db8::1", "fe80::1%nosuch0", "a", "127.0.0.1.example", "1", other):
            with self.subTest(name):
                self.assertFalse(is_local(name))

    def test_no_name_is_resolved_and_nothing_is_sent(self) -> None:
        program = (
            "import sys\n"
            "allowed = ('socket.__new__', 'socket.bind', 'socket.gethostname')\n"
            "def watch(event, args):\n"
            "    if event.startswith('socket.') and event not in allowed:\n"
            "        raise SystemExit(event)\n"
            "sys.addaudithook(watch)\n"
            "from microscoop.hosts import *\n"
            "names = '127.0.0.1 localhost ::1 192.0.2.1 2001:db8::1 fe80::1%lo fe80::1%no abc.example me@a'\n"
            "print(distribute(parse_hostfile(names.replace(' ', chr(10)), 'hosts'), 9)[1])\n"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE_HOME, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"None\n", b""))


class Distribution(unittest.TestCase):
    def test_every_row_of_the_table(self) -> None:
        for text, n, expected, warned in SHARES:
            with self.subTest(hosts=text, n=n):
                shares, warning = distribute(hosts_of(text), n, cores=lambda: 4)
                counts = ["-" if share.workers == 0 else str(share.workers or "cores") for share in shares]
                self.assertEqual((" ".join(counts), warning is not None), (expected, warned))
                self.assertEqual([share.origin for share in shares], [share.host.local for share in shares])
                self.assertEqual(sum(share.origin for share in shares), 1)

    def test_the_warning_says_how_many_slots_there_are(self) -> None:
        warning = distribute(hosts_of("a 1/b 1"), 5)[1]
        self.assertEqual(warning, "5 workers on hosts that have 2 slots: no host is open, so counts are exceeded")

    def test_without_hosts_the_head_has_a_worker_for_each_core_that_may_be_used(self) -> None:
        shares, _ = distribute([], None)
        self.assertEqual(shares, [Share(Host("127.0.0.1", local=True), usable_cores(), True)])
        self.assertGreaterEqual(usable_cores(), 1)

    def test_lines_of_the_report_and_of_the_dry_run(self) -> None:
        for text, n, lines in [
            ("127.0.0.1/a/b", 6, ["127.0.0.1 1 + origin", "a 2", "b 2"]),
            ("127.0.0.1/a/b", 3, ["127.0.0.1 0 + origin", "a 1", "b 1"]),
            ("a 2/b", None, ["127.0.0.1 origin only", "a 2", "b cores"]),
            ("a 2/localhost", 2, ["localhost origin only", "a 2"]),
        ]:
            with self.subTest(text):
                shares, _ = distribute(hosts_of(text), n)
                self.assertEqual(distribution_lines(shares), ["   " + line.replace(" ", ":\t", 1) for line in lines])
                dry = distribution_lines(shares, dry_run=True)
                self.assertEqual(dry, [line.replace(" ", "\t", 1) for line in lines])


if __name__ == "__main__":
    unittest.main()
