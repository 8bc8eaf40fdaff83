"""The tour that travels with the folder names only what exists."""
import ast
import re
import unittest
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "microscoop"
TOUR = (PACKAGE / "TOUR.md").read_text(encoding="utf-8")


def defined():
    """Every name that the package defines: functions, classes, Class.method, module.function."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names |= {node.name, path.stem + "." + node.name}
                names |= {node.name + "." + inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


class Tour(unittest.TestCase):
    def test_files_and_folders_exist(self):
        for name in re.findall(r"`((?:tests/)?[a-z_/]+(?:\.py|/))`", TOUR):
            path = PACKAGE / name
            self.assertTrue(path.exists() or (PACKAGE.parent / name).exists(), name)

    def test_every_module_of_the_core_is_in_the_tour(self):
        for path in PACKAGE.glob("[a-z]*.py"):
            self.assertIn("`%s`" % path.name, TOUR)

    def test_names_exist(self):
        known = defined()
        for name in re.findall(r"`([A-Za-z_]+\.[A-Za-z_]+)`", TOUR):
            if not name.endswith(".py"):
                self.assertIn(name, known)
        for name in re.findall(r"^\| ((?:`[A-Z][a-z]+`(?:, )?)+) \|", TOUR, re.MULTILINE):
            for message in re.findall(r"`(\w+)`", name):
                self.assertIn(message, known)

    def test_it_stays_short(self):
        self.assertLessEqual(len(TOUR.splitlines()), 400)
