"""The tour that travels with the folder names only what exists, and what exists says what it is."""
import ast
import importlib
import inspect
import re
import unittest
from pathlib import Path

from microscoop import futures

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


def public(module):
    """Its public functions and classes, and the methods of those."""
    for name, thing in vars(module).items():
        if name.startswith("_") or not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        if thing.__module__ == module.__name__:
            yield thing
            yield from (getattr(thing, inner) for inner, one in vars(thing).items()
                        if inspect.isfunction(one) and not inner.startswith("_"))


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

    def test_the_path_is_drawn_in_the_code_as_it_is_told_here(self):
        told = re.findall(r"^\| \d+ `([\w.]+)` ", TOUR, re.MULTILINE)
        drawing = futures.__doc__.partition("drawn with")[2].partition("Outside")[0]
        drawn = re.findall(r"(?:\b[A-Z]\w+|futures)\.\w+", drawing)
        self.assertEqual(drawn, told)

    def test_it_stays_short(self):
        self.assertLessEqual(len(TOUR.splitlines()), 400)


class Docstrings(unittest.TestCase):
    def test_every_public_name_has_one_of_its_own_or_of_what_it_overrides(self):
        for path in PACKAGE.rglob("[a-z]*.py"):
            module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
            self.assertTrue(module.__doc__, path)
            for thing in public(module):
                self.assertTrue(inspect.getdoc(thing), thing)
                self.assertNotEqual(inspect.getdoc(thing).partition("(")[0], thing.__name__, "a NamedTuple's own")
