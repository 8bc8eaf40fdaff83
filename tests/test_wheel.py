"""The wheel and the source distribution: built without network, complete, and what is installed from them runs.

Builds in a copy, since setuptools leaves folders where it works; needs a Python that can make environments, and
setuptools.  MICROSCOOP_FORBID_SKIP=wheel makes their absence a failure.
"""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tarfile
import tempfile
import unittest
import zipfile
from importlib import metadata
from pathlib import Path
from typing import List, Union

import microscoop
from tests import harness
from tests.sshd import requires

NEEDED = (70, 1)           # the first setuptools that makes wheels by itself
APART = {"PYTHONPATH": str(harness.BASE / "hook"), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
SDIST = "from setuptools import build_meta; build_meta.build_sdist('dist')"


def lacking() -> str:
    """Why nothing can be built here; "" if it can."""
    missing = [name for name in ("pip", "ensurepip") if importlib.util.find_spec(name) is None]
    try:
        version = tuple(map(int, re.findall(r"\d+", metadata.version("setuptools"))[:2]))
    except metadata.PackageNotFoundError:
        version = (0, 0)
    if version < NEEDED:
        missing.append("setuptools %d.%d" % NEEDED)
    return "no %s here: install them for %s" % (", ".join(missing), sys.executable) if missing else ""


def tree(folder: str) -> List[str]:
    """The files below a folder of the project that belong to it, by their names in it."""
    paths = [path for path in (harness.ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.relative_to(harness.ROOT).as_posix() for path in paths)


@requires(lacking(), "wheel")
class Wheel(harness.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.copy = Path(tempfile.mkdtemp(dir=str(harness.BASE)))
        self.addCleanup(shutil.rmtree, str(self.copy))
        for name in (".ci", "examples", "microscoop", "tests"):
            shutil.copytree(harness.ROOT / name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in harness.ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, self.copy)

    def python(self, *words: Union[str, Path], python: Union[str, Path] = sys.executable) -> None:
        result = harness.plain(*words, python=str(python), env=APART, cwd=self.copy)
        self.assertEqual(result.status, 0, result.out + result.err)

    def test_they_are_complete_and_an_example_runs_from_an_environment_that_has_nothing_else(self) -> None:
        name = f"microscoop-{microscoop.__version__}"
        self.python("-c", SDIST)
        with tarfile.open(self.copy / "dist" / f"{name}.tar.gz") as archive:
            found = {entry.name.partition("/")[2] for entry in archive.getmembers()}
        whole = [*tree("microscoop"), *tree("tests"), *tree("examples"), *tree(".ci")]
        self.assertEqual({"pyproject.toml", "README.md", "LICENSE", *whole} - found, set())
        self.python("-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", "wheels",
                    f"dist/{name}.tar.gz")
        with zipfile.ZipFile(self.copy / "wheels" / f"{name}-py3-none-any.whl") as wheel:
            packed = [entry for entry in wheel.namelist() if ".dist-info/" not in entry]
        self.assertEqual(sorted(packed), tree("microscoop"))
        self.python("-m", "venv", "fresh")
        fresh = self.copy / "fresh" / "bin" / "python"
        self.python("-m", "pip", "install", "-q", "--no-deps", "--find-links", "wheels", "microscoop", python=fresh)
        shutil.rmtree(self.copy / "microscoop")
        result = harness.run("-q", "-n", "2", "examples/01_squares.py", python=str(fresh), env=APART, cwd=self.copy)
        self.assertEqual(result, (0, f"{[number ** 2 for number in range(12)]}\n", ""))


if __name__ == "__main__":
    unittest.main()
