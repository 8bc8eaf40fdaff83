"""Allocations of Slurm, PBS and SGE by tables, names with ranges, and the submission scripts with stand-in commands."""
from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Optional
from unittest import mock

from microscoop.errors import UsageError
from microscoop.hosts import Host, parse_hostfile, parse_words
from microscoop.job import ALLOCATIONS
from microscoop.leaves import schedulers
from microscoop.leaves.ranges import MOST, expanded
from tests import harness

OWN = socket.gethostname()

RANGES: list[tuple[str, str]] = [
    ("n1", "n1"),
    ("n[1-3,7]", "n1 n2 n3 n7"),
    ("n[1-3,7],x[01-02]y", "n1 n2 n3 n7 x01y x02y"),
    ("a1,b[01-02]", "a1 b01 b02"),
    ("a,b,c", "a b c"),
    ("n[8-11]", "n8 n9 n10 n11"),
    ("n[008-010,7]", "n008 n009 n010 n7"),
    ("n[098-101]", "n098 n099 n100 n101"),
    ("r[1-2]n[3-4]", "r1n3 r1n4 r2n3 r2n4"),
    ("n[5]", "n5"),
    ("n[3,1,2]", "n3 n1 n2"),
    ("n[1-2].cluster.example", "n1.cluster.example n2.cluster.example"),
    ("me@n[1-2]", "me@n1 me@n2"),
    ("n-[1-2]-ib0", "n-1-ib0 n-2-ib0"),
    ("[1-2]", "1 2"),
    ("n[0-0]", "n0"),
]

# text -> what the error must name
BAD_RANGES: list[tuple[str, str]] = [
    ("n[1-3", "'n[1-3'"), ("a,n[1-3,7", "'n[1-3'"), ("n1-3]", "'n1-3]'"), ("n[[1-3]]", "'n[[1-3]]'"), ("n[]", "''"),
    ("n[1,]", "''"), ("n[3-1]", "'3-1'"), ("n[1-]", "'1-'"), ("n[-1]", "'-1'"), ("n[a-b]", "'a-b'"),
    ("n[1-2-3]", "'1-2-3'"), ("n[1 - 2]", "'1 - 2'"), ("n[²]", "'²'"), ("", "''"), ("a,,b[1]", "''"), ("n[1],", "''"),
    ("n[1-999999999]", str(MOST)), ("n[0-999]m[0-999]", str(MOST)), ("n[1-9999999999]", "'1-9999999999'"),
]

# node list, tasks per node, number of tasks, cores per node -> name and slots of each host
SLURM: list[tuple[str, Optional[str], Optional[str], Optional[str], list[tuple[str, Optional[int]]]]] = [
    ("n1", "4", "4", "8", [("n1", 4)]),
    ("n[1-3,7]", "2(x3),1", "7", "16(x4)", [("n1", 2), ("n2", 2), ("n3", 2), ("n7", 1)]),
    ("n[1-2]", "1(x2)", None, "16(x2)", [("n1", 16), ("n2", 16)]),
    ("n[1-2],x3", "1(x3)", None, "16(x2),8", [("n1", 16), ("n2", 16), ("x3", 8)]),
    ("n[1-2]", "3(x2)", None, None, [("n1", 3), ("n2", 3)]),
    ("n[1-2]", None, "4", "2(x2)", [("n1", 2), ("n2", 2)]),
    ("n[1-2]", "", "4", "2,3", [("n1", 2), ("n2", 3)]),
    ("n[1-2]", None, None, None, [("n1", None), ("n2", None)]),
]

BAD_SLURM: list[tuple[str, str, str]] = [
    ("n[1-", "2", "'n[1-'"), ("n[1-2]", "2", "a count for each of the 2 nodes, found SLURM_TASKS_PER_NODE='2'"),
    ("n1", "2(x3)", "each of the 1 nodes"), ("n[1-2]", "2(x999999999)", "each of the 2 nodes"), ("n1", "0", "'0'"),
    ("n1", "2(x", "'2(x'"), ("n1", "two", "'two'"), ("n1", "2,", "''"), ("n1", "2(x0)", "'2(x0)'"),
    ("-oProxyCommand=x", "1", "begin with a dash"), ("n;1", "1", "no ';'"),
]

# PBS_NODEFILE's text, "/" for the end of a line -> hosts
PBS: list[tuple[str, list[tuple[str, int]]]] = [
    ("n1/n1/n2/", [("n1", 2), ("n2", 1)]),
    ("n1/n2/n1/n2", [("n1", 2), ("n2", 2)]),
    ("n1.example.org//", [("n1.example.org", 1)]),
]

SGE: list[tuple[str, list[tuple[str, int]]]] = [
    ("n1.example 4 all.q@n1.example UNDEFINED/n2.example 2 all.q@n2.example UNDEFINED/", [
        ("n1.example", 4), ("n2.example", 2)]),
    ("n1 2 a.q@n1 0,0:0,1/n1 1 b.q@n1 <NULL>/", [("n1", 3)]),
    ("n1 1/", [("n1", 1)]),
]


def slurm(nodes: str, tasks: Optional[str], ntasks: Optional[str], cores: Optional[str]) -> dict[str, str]:
    names = ("SLURM_JOB_NODELIST", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS", "SLURM_JOB_CPUS_PER_NODE")
    return {name: value for name, value in zip(names, (nodes, tasks, ntasks, cores)) if value is not None}


class Ranges(unittest.TestCase):
    def test_every_form_of_a_list(self) -> None:
        for text, names in RANGES:
            with self.subTest(text):
                self.assertEqual(expanded(text), names.split())

    def test_a_malformed_one_is_an_error_that_names_the_text(self) -> None:
        for text, saying in BAD_RANGES:
            with self.subTest(text), self.assertRaises(ValueError) as caught:
                expanded(text)
            self.assertIn(saying, str(caught.exception))

    def test_the_limit_is_for_all_words_together(self) -> None:
        self.assertEqual(len(expanded(f"n[1-{MOST}]")), MOST)
        with self.assertRaises(ValueError):
            expanded(f"m1,n[1-{MOST}]")

    def test_hostfile_lines_and_host_words_have_them_too(self) -> None:
        hosts = parse_hostfile("n[1-2] 4 python=p # rack\na,b[01-02]\nn2 1\n", "hosts")
        self.assertEqual(hosts, [Host("n1", 4, "p"), Host("n2", 5, "p"), Host("a"), Host("b01"), Host("b02")])
        self.assertEqual(parse_words(["n[1-2]", "n2"]), [Host("n1"), Host("n2", 2)])

    def test_errors_there_say_where(self) -> None:
        with self.assertRaisesRegex(UsageError, r"hosts, line 2, 'n\[2-1\] 4': .*'2-1'"):
            parse_hostfile("a\nn[2-1] 4\n", "hosts")
        with self.assertRaisesRegex(UsageError, r"--host, 'n\[1': .*'n\[1'"):
            parse_words(["n[1"])
        with self.assertRaisesRegex(UsageError, "dash"):
            parse_words(["-n[1-2]"])


class Allocations(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.file = Path(directory) / "nodes"

    def hosts(self, environment: dict[str, str], says: str) -> list[Host]:
        with mock.patch("sys.stderr") as stderr:
            hosts = schedulers.allocated(environment, 0)
        self.assertRegex(str(stderr.write.call_args), rf"INFO +Detected {says} environment\.\\n")
        return hosts

    def refused(self, environment: dict[str, str], *sayings: str) -> None:
        with self.assertRaises(UsageError) as caught:
            schedulers.allocated(environment, -1)
        for saying in sayings:
            self.assertIn(saying, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_slurm(self) -> None:
        for *given, expected in SLURM:
            with self.subTest(given):
                hosts = self.hosts(slurm(*given), "SLURM")  # type: ignore[arg-type]
                self.assertEqual([host[:2] for host in hosts], expected)
        self.assertEqual(self.hosts({"SLURM_NODELIST": "n[1-2]"}, "SLURM"), [Host("n1"), Host("n2")])

    def test_slurm_malformed(self) -> None:
        for nodes, tasks, saying in BAD_SLURM:
            with self.subTest(nodes=nodes, tasks=tasks):
                self.refused(slurm(nodes, tasks, "1", None), f"SLURM_JOB_NODELIST={nodes!r}: ", saying, "--hostfile")

    def test_pbs_and_torque(self) -> None:
        for text, expected in PBS:
            self.file.write_text(text.replace("/", "\n"))
            with self.subTest(text):
                hosts = self.hosts({"PBS_NODEFILE": str(self.file)}, "PBS")
                self.assertEqual([host[:2] for host in hosts], expected)

    def test_sge(self) -> None:
        for text, expected in SGE:
            self.file.write_text(text.replace("/", "\n"))
            with self.subTest(text):
                hosts = self.hosts({"PE_HOSTFILE": str(self.file)}, "SGE")
                self.assertEqual([host[:2] for host in hosts], expected)

    def test_files_malformed_empty_or_missing(self) -> None:
        for variable, text, saying in [
            ("PBS_NODEFILE", "n1\nn1 2\n", "no ' '"), ("PBS_NODEFILE", "\n", "at least one host"),
            ("PE_HOSTFILE", "n1\n", "found 'n1'"), ("PE_HOSTFILE", "n1 0 q x\n", "found 'n1 0 q x'"),
            ("PE_HOSTFILE", "n1 four\n", "found 'n1 four'"), ("PE_HOSTFILE", "-n1 4\n", "dash"),
            ("PE_HOSTFILE", "", "at least one host"),
        ]:
            self.file.write_text(text)
            with self.subTest(variable=variable, text=text):
                self.refused({variable: str(self.file)}, f"{variable}={str(self.file)!r}: ", saying)
        self.refused({"PBS_NODEFILE": "/no/such/file"}, "'/no/such/file': cannot read that file: No such file")

    def test_the_heads_own_node_is_local_however_it_is_called(self) -> None:
        short = OWN.partition(".")[0]
        for name, more in [(OWN, {}), (short, {}), (short.upper(), {}), (short + ".cluster.example", {}),
                           ("127.0.0.1", {}), ("node17", {"SLURMD_NODENAME": "node17"})]:
            with self.subTest(name):
                environment = {**slurm(f"a,{name},b", "1,4,2", "7", None), **more}
                self.assertEqual(self.hosts(environment, "SLURM"), [
                    Host("a", 1), Host(name, 4, local=True), Host("b", 2)])
        self.file.write_text(f"{short}\n{short}.cluster.example\n")
        self.assertEqual(self.hosts({"PBS_NODEFILE": str(self.file)}, "PBS"), [Host(short, 2, local=True)])


class CommandLine(harness.TestCase):
    ALLOCATION = slurm("n[1-2]", "3(x2)", "6", None)

    def dry(self, *words: str, **env: str) -> harness.Result:
        clear = dict.fromkeys(ALLOCATIONS)
        return harness.run("--dry-run", *words, env={**clear, **env})

    def test_an_allocation_counts_where_no_host_option_is_given(self) -> None:
        result = self.dry(**self.ALLOCATION)
        self.assertEqual((result.status, result.out), (0, "127.0.0.1\torigin only\nn1\t3\nn2\t3\n"))
        self.assertRegex(result.err, r"^\[.*\] launcher  INFO    Detected SLURM environment\.\n$")
        self.assertEqual(self.dry("-n", "4", **self.ALLOCATION).out, "127.0.0.1\torigin only\nn1\t3\nn2\t1\n")
        self.assertEqual(self.dry("-q", **self.ALLOCATION).err, "")

    def test_host_options_come_first(self) -> None:
        result = self.dry("--host", "x[1-2]", **self.ALLOCATION)
        self.assertEqual((result.out, result.err), ("127.0.0.1\torigin only\nx1\tcores\nx2\tcores\n", ""))

    def test_what_cannot_be_understood_ends_it_with_one_sentence(self) -> None:
        result = self.dry(SLURM_JOB_NODELIST="n[1-")
        self.assertEqual((result.status, result.out), (2, ""))
        self.assertRegex(result.err, r"\nmicroscoop: SLURM_JOB_NODELIST='n\[1-': .*\n$")

    def test_without_an_allocation_no_leaf_is_loaded(self) -> None:
        program = ("import sys; from microscoop import cli; cli.main(['--dry-run', '--host', 'a', 'b'])\n"
                   "print([name for name in sys.modules if 'leaves' in name])")
        result = harness.plain("-c", program, env=dict.fromkeys(ALLOCATIONS))
        self.assertEqual(result.out, "127.0.0.1\torigin only\na\tcores\nb\tcores\n[]\n", result.err)


STAND_IN = """\
#!/bin/sh
# for srun and qrsh: what follows them; for ssh: the command line, which is its last word
name=$(basename "$0")
echo "$name $*" >> "$(dirname "$0")/log"
if [ "$name" = ssh ]; then for last; do :; done; exec sh -c "$last"; fi
while [ "$1" != sh ]; do shift; done
exec "$@"
"""


class Examples(harness.TestCase):
    """The submission scripts, on an allocation of this machine and another one, which the stand-ins make of it too."""

    def submit(self, name: str, env: harness.Environment) -> tuple[harness.Result, str]:
        path = harness.ROOT / "examples" / name
        self.assertLessEqual(len(path.read_text().splitlines()), 40)
        bin_ = Path(tempfile.mkdtemp(dir=str(harness.BASE)))
        self.addCleanup(shutil.rmtree, bin_)
        for command in ("srun", "qrsh", "ssh"):
            (bin_ / command).write_text(STAND_IN)
            (bin_ / command).chmod(0o755)
        (bin_ / "python3").write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} \"$@\"\n")
        (bin_ / "python3").chmod(0o755)
        clear = dict.fromkeys(ALLOCATIONS)
        environment = {**clear, "PATH": f"{bin_}:{os.environ['PATH']}", **env}
        result = harness.Run(["bash", str(path)], env=environment, cwd=harness.ROOT).finish(40)
        return result, (bin_ / "log").read_text()

    def check(self, name: str, env: harness.Environment, scheduler: str, call: str) -> None:
        result, log = self.submit(name, env)
        self.assertEqual(result.out, "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121]\n", result.err)
        self.assertIn(f"Detected {scheduler} environment.\n", result.err)
        self.assertIn(f"{OWN}:\t1 + origin\n", result.err)
        self.assertIn("n9:\t2\n", result.err)
        self.assertRegex(log, call)
        self.assertEqual(result.status, 0)

    def file(self, text: str) -> str:
        path = harness.BASE / "nodes"
        path.write_text(text)
        return str(path)

    def test_slurm(self) -> None:
        environment = dict(slurm(f"{OWN},n[9]", "2(x2)", "4", "8(x2)"))
        self.check("slurm.sh", environment, "SLURM", r"^srun -w n9 -N1 -n1 .*sh\n$")

    def test_pbs(self) -> None:
        nodes = self.file(f"{OWN}\n{OWN}\nn9\nn9\n")
        self.check("pbs.sh", {"PBS_NODEFILE": nodes, "PBS_O_WORKDIR": str(harness.ROOT)}, "PBS", r"^ssh .* n9 ")

    def test_sge(self) -> None:
        nodes = self.file(f"{OWN} 2 all.q@{OWN} UNDEFINED\nn9 2 all.q@n9 UNDEFINED\n")
        self.check("sge.sh", {"PE_HOSTFILE": nodes}, "SGE", r"^qrsh -inherit n9 sh\n$")

    def test_each_directive_stands_before_the_first_command(self) -> None:
        for name, mark in (("slurm.sh", "#SBATCH"), ("pbs.sh", "#PBS"), ("sge.sh", "#$")):
            text = (harness.ROOT / "examples" / name).read_text()
            head = re.split(r"^[^#\n]", text, maxsplit=1, flags=re.MULTILINE)[0]
            self.assertGreater(head.count(f"\n{mark} "), 1, name)
            self.assertEqual(head.count(mark), text.count(mark), name)


if __name__ == "__main__":
    unittest.main()
