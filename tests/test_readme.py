"""The README is true: what it names exists, its commands parse, and what it shows as output is what comes out."""
from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import unittest
from typing import List, NamedTuple
from unittest import mock

from microscoop import cli, errors, futures, hosts, options
from tests import harness

README = (harness.ROOT / "README.md").read_text(encoding="utf-8")
RUN = ["python3", "-m", "microscoop"]
RUNNER = r"(?:[A-Z_]+=\w+ )?(?:python3 .+|\.ci/run)"
OPTION = r"(?<![\w-])--?[a-z][a-z-]*"
PATH = r"(?:\.ci/)?[\w/]+(?:\.(?:py|md|sh|txt)|/)"


class Command(NamedTuple):
    text: str
    output: str  # as shown


class Block(NamedTuple):
    kind: str  # what stands after the fence
    text: str

    def commands(self) -> List[Command]:
        """Of a block of lines `$ command`, each with its output."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [Command(*part.partition("\n")[::2]) for part in parts]


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
COMMANDS = [command for block in BLOCKS for command in block.commands()]
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
CODE = re.findall(r"`([^`\n]+)`", PROSE)


def listed() -> List[str]:
    """Every command of the page: of its blocks, its scripts and its text."""
    scripts = [line for block in BLOCKS for line in block.text.splitlines() if line.startswith(" ".join(RUN))]
    return [command.text for command in COMMANDS] + scripts + [code for code in CODE if re.fullmatch(RUNNER, code)]


def settled(text: str) -> str:
    """Without what differs from run to run and from machine to machine."""
    text = re.sub(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]", "[time]", text, flags=re.MULTILINE)
    text = re.sub(r" on \w+ using Python [\d.]+\S*", " on PLATFORM using Python VERSION", text)
    return re.sub(r"\bEnd at \d+ msec", "End at ... msec", re.sub(r" +$", "", text, flags=re.MULTILINE))


class Commands(harness.TestCase):
    def test_each_is_one_that_a_shell_can_read(self) -> None:
        self.assertGreater(len(listed()), 15)
        for command in listed():
            with self.subTest(command):
                self.assertTrue(shlex.split(command))
                result = harness.Run(["sh", "-n", "-c", command]).finish()
                self.assertEqual((result.status, result.err), (0, ""))

    def test_those_of_microscoop_have_options_that_exist_and_a_script(self) -> None:
        for command in listed():
            words = shlex.split(command)
            if words[:3] != RUN or "--help" in words:
                continue
            # a reader's script.py is none of ours, but a host list ends at a file that exists
            with self.subTest(command), mock.patch.object(options.os.path, "isfile", lambda path: True):
                found, program = cli.parse(words[3:])
                self.assertEqual(len(program), 1, program)
                self.assertTrue(program[0] == "script.py" or (harness.ROOT / program[0]).is_file())
                for name in hosts.parse_words(found.hosts):
                    self.assertFalse(name.name.endswith(".py"), name)

    def test_modules_that_are_run_exist(self) -> None:
        modules = {module for command in listed() for module in re.findall(r"python3 -m (\S+)", command)}
        self.assertGreaterEqual(modules, {"microscoop", "unittest", "zipapp", "tests.benchmark", "tests.simulation"})
        for module in sorted(modules):
            self.assertIsNotNone(importlib.util.find_spec(module), module)

    def test_the_first_two_are_to_run_and_to_test(self) -> None:
        screen = README[:README.index("\n## ")]
        shown = re.findall(r"^\$ (.*)$", screen, re.MULTILINE)
        self.assertEqual([shlex.split(command)[:3] for command in shown], [RUN, ["python3", "-m", "unittest"]])
        self.assertLessEqual(len(screen.splitlines()), 40)

    def test_the_output_that_is_shown_is_the_real_one(self) -> None:
        shown = [command for command in COMMANDS if command.output]
        self.assertEqual(shown[0], COMMANDS[0], "the first command has its output")
        for command in shown:
            with self.subTest(command.text):
                words = " ".join([shlex.quote(sys.executable), *command.text.split()[1:]])
                result = harness.Run(["sh", "-c", words + " 2>&1"], cwd=harness.ROOT).finish()
                self.assertEqual(result.status, 0)
                self.assertEqual(settled(result.out), settled(command.output))


class Script(harness.TestCase):
    def test_the_program_that_is_shown_is_a_whole_one(self) -> None:
        (program,) = [block.text for block in BLOCKS if block.kind == "python"]
        self.assertLessEqual(len([line for line in program.splitlines() if line]), 6)
        path, output = self.script(program), f"{[number ** 2 for number in range(12)]}\n"
        self.assertEqual(harness.run("-q", "-n", "2", path), (0, output, ""))
        result = harness.plain(path)
        self.assertEqual((result.status, result.out, result.err.count("RuntimeWarning")), (0, output, 1))


class Names(harness.TestCase):
    def test_files_and_folders_exist(self) -> None:
        links = re.findall(r"\]\(([^)#]+)\)", PROSE)
        files = [code for code in CODE if re.fullmatch(PATH, code) and code not in ("script.py", "build/")]
        self.assertGreater(len(links) + len(files), 15)
        for name in links:
            self.assertTrue((harness.ROOT / name).exists(), name)
        for name in files:
            places = [folder / name for folder in (harness.ROOT, harness.ROOT / "microscoop")]
            self.assertTrue(any(place.exists() for place in places), name)

    def test_options_exist(self) -> None:
        known = set(re.findall(OPTION, harness.run("--help").out)) | set(options.DROPPED)
        named = {code.split()[0] for code in CODE if code.startswith("-")} - {"--unbuffered"}  # which is srun's
        self.assertGreater(len(named), 15)
        self.assertEqual(named - known, set())

    def test_options_of_the_tests_own_programs_exist(self) -> None:
        programs = [command.split()[2:] for command in listed() if command.startswith("python3 -m tests.")]
        self.assertGreater(len(programs), 3)
        for module, *words in programs:
            known = harness.plain("-m", module, "--help", cwd=harness.ROOT).out
            self.assertEqual(set(re.findall(OPTION, " ".join(words))) - set(re.findall(OPTION, known)), set(), module)

    def test_functions_and_exceptions_exist(self) -> None:
        for name in ("submit", "map", "map_as_completed", "map_reduce", "map_scan", "mapReduce", "mapScan", "wait",
                     "as_completed", "Future"):
            self.assertIn(f"`{name}`", README)
            self.assertTrue(hasattr(futures, name), name)
        for name in ("RemoteError", "WorkerLost"):
            self.assertIn(f"`{name}`", README)
            self.assertTrue(hasattr(errors, name), name)

    def test_what_is_to_be_changed_for_a_message_or_an_option_stands_where_it_says(self) -> None:
        part = README[README.index("- **A message**"):]
        for file, names in (("protocol", "Message TABLE"), ("owner", "_handlers"), ("workers", "_handlers"),
                            ("agent", "_handlers"), ("broker", "_MESSAGES"), ("server", "_words"),
                            ("options", "_parser Leaf"), ("job", "Job make_job"), ("child", "Settings")):
            text = (harness.ROOT / "microscoop" / (file + ".py")).read_text(encoding="utf-8")
            self.assertIn(file + ".py`", part)
            for name in names.split():
                self.assertIn(f"`{name}`", part)
                self.assertRegex(text, rf"\b{name}\b")

    def test_the_drawings_stand_at_the_top_of_their_files(self) -> None:
        for file, words in (("TOUR.md", "head machine"), ("futures.py", "The path of one")):
            text = (harness.ROOT / "microscoop" / file).read_text(encoding="utf-8")
            self.assertIn(words, text.partition("from __future__")[0])

    def test_it_stays_a_page(self) -> None:
        self.assertLessEqual(len(README.splitlines()), 200)


if __name__ == "__main__":
    unittest.main()
