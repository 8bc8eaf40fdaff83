"""The examples of SCOOP's own manual run unedited with --scoop; they are not here, but in its source distribution.

MICROSCOOP_SCOOP_EXAMPLES names that folder; MICROSCOOP_FORBID_SKIP=scoop makes its absence a failure.
"""
from __future__ import annotations

import os
import re
import unittest
from pathlib import Path
from typing import NamedTuple

from tests import harness, sshd

FOLDER = Path(os.environ.get("MICROSCOOP_SCOOP_EXAMPLES", "nowhere"))
HELLOS = "".join("Hello World from Future #%d\n" % i for i in range(16))
SECONDS = r"\d+\.\d+"
SCAN = re.escape("[0, 1, 5, 14, 30, 55, 91, 140, 204, 285]")
TYPED = """\
def myExample(inVal):
    return inVal + 1

shared.setConst(myExample=myExample)
print(list(futures.map(myExample, range(64))))
exit()
"""


class Example(NamedTuple):
    out: str                   # a regular expression of all of its standard output
    status: int = 0
    err: str = r"\A\Z"         # one that is found there
    stdin: str = ""


EXAMPLES = {
    "callback.py": Example("".join("Done: %d\n" % (i + 1) for i in range(5))),
    "conditional_execution.py": Example("Hello( Parallel)? World\n"),
    "conditional_import.py": Example(HELLOS),
    "deap_ga_evosn.py": Example(r"(.*\n)*\d errors, length \d+, depth \d+\n"),
    "deap_ga_onemax.py": Example("gen.*\n" + "".join(r"%d\s.*\n" % i for i in range(41))),
    "except_example.py": Example("", 1, r"\nException: This exception is normal\n$"),
    "full_tree.py": Example("76153\n"),
    "interactive_shell.py": Example(r"[>. ]*" + re.escape(str(list(range(1, 65)))) + r"\n>>> ", 0, "Console", TYPED),
    "lambda.py": Example(r"\[0, 2, 4, 6, 8, 10, 12, 14, 16, 18\]\n\[1\.0, 0\.54.*\]\n\[1, 2, 3.*, 10\]\n"),
    "map_as_completed.py": Example(r"Execution of map\(\):\n(Hello from #\d!\n){10}"
                                   r"Execution of map_as_completed\(\):\n(Hello from #\d!\n){10}"),
    "map_doc.py": Example(HELLOS),
    "map_reduce.py": Example(r"(Executed \w+ in: %ss with result: 332833500\n){2}" % SECONDS),
    "map_scan.py": Example(r"(Executed \w+ in: %ss with result: %s\n){2}" % (SECONDS, SCAN)),
    "object.py": Example(r"\[(<__main__.myClass object at \w+>(, )?){20}\]\n\[(6(, )?){20}\]\n"),
    "pi_calc.py": Example(r"pi = 3\.14\d+\ntotal time: %s\n" % SECONDS),
    "pi_calc_doc.py": Example(r"pi = 3\.14\d+\n"),
    "recurse.py": Example(r"2\^12 = 4096\n"),
    "rssDoc.py": Example(r"mapReduce result obtained in %ss\nSerial result obtained in %ss\n" % (SECONDS, SECONDS)),
    "shared_example.py": Example(r"(Hello World from 127\.0\.0\.1/\d!\n|Second element\n){20}"
                                 r"\[1, 2, 3, 4, 5, 6, 7, 8, 9, 10\]\n"),
    "shared_example_doc.py": Example(r"English letter values used\.\n(Player \d played words: .*\n){4}"
                                     r"Player 0: 102\nPlayer 1: 122\nPlayer 2: 74\nPlayer 3: 145\n"),
    "sorting.py": Example(r"Parallel time: %ss\nSerial time:   %ss\n" % (SECONDS, SECONDS)),
    "sum_multiples.py": Example(r"Serial time: %s s\nParallel time: %s s\n" % (SECONDS, SECONDS)),
    "tree_traversal.py": Example(r"Beginning Tree generation\.\nTree generation done\.\nParallel result: (\d+)\n"
                                 r"Serial result:   \1\n(.*\n)*", err="dropped what map does not know: parallelLevel"),
}
ELSEWHERE = {
    "image_resize.py": "the Image module and the integer division of Python 2",
    "url_fetch.py": "the network",
    "url_fetch_doc.py": "the network",
    "tree/dtm-tree.py": "no program for SCOOP: one for deap.dtm, which DEAP has no more",
    "tree/serial-tree.py": "no program for SCOOP: the same without",
    "tree/TreeGen.py": "run below", "tree/scoop_tree.py": "run below", "tree/Tree.py": "a module of these",
    "dependency/__init__.py": "a module", "dependency/sortingnetwork.py": "a module",
}


@sshd.requires("" if FOLDER.is_dir() else "no examples of SCOOP's: MICROSCOOP_SCOOP_EXAMPLES names no folder", "scoop")
class Examples(harness.TestCase):
    def test_there_are_no_others(self) -> None:
        found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py")}
        self.assertEqual(found, {*EXAMPLES, *ELSEWHERE})

    def test_they_run_unedited(self) -> None:
        for name, expected in EXAMPLES.items():
            with self.subTest(name):
                result = harness.run("-q", "-n", "3", "--scoop", FOLDER / name, stdin=expected.stdin, timeout=120)
                self.assertEqual(result.status, expected.status, result.err)
                self.assertRegex(result.out, r"\A%s\Z" % expected.out)
                self.assertRegex(result.err, expected.err)

    def test_the_tree_that_one_makes_and_the_other_walks(self) -> None:
        tree, file = FOLDER / "tree", self.script("", "tree.txt")
        words = ["--height", "3", "--minChildren", "2", "--maxChildren", "3", "--scale", "0.001", "--filename", file]
        made = harness.run("-q", "-n", "1", "--scoop", tree / "TreeGen.py", *words)
        self.assertRegex(made.out, r"Generated :\nheight : 3\nleaves : \d+\n", made.err)
        walked = harness.run("-q", "-n", "3", "--scoop", tree / "scoop_tree.py", file)
        self.assertRegex(walked.out, r"\Atotal time : %s\ncores : 3\n\Z" % SECONDS, walked.err)


if __name__ == "__main__":
    unittest.main()
