"""What a host must be sent: the closure of imports, --send, digests, limits."""
from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
import zlib
from pathlib import Path
from typing import Sequence
from unittest import mock

from microscoop import files
from microscoop.bootstrap import leftovers, unpack
from microscoop.errors import UsageError


class FilesCase(unittest.TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="ms-files-")).resolve()
        self.addCleanup(shutil.rmtree, str(self.base))
        self.folder = self.base / "project"
        self.folder.mkdir()

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def parcel(self, text: str = "", send: Sequence[str] = (), name: str = "script.py") -> files.Parcel:
        script = self.write(name, text)
        return files.Parcel(str(script), [str(self.folder / path) for path in send])

    def names(self, text: str = "", send: Sequence[str] = ()) -> list[str]:
        """What is sent beside the script."""
        return sorted(entry.name for entry in self.parcel(text, send).entries if entry.name != "script.py")


class TheClosureOfImports(FilesCase):
    def test_a_module_beside_the_script_and_what_that_imports(self) -> None:
        self.write("helper.py", "import deeper, os")
        self.write("deeper.py")
        self.write("bystander.py")
        self.assertEqual(self.names("import helper, sys, numpy"), ["deeper.py", "helper.py"])

    def test_a_package_whole_without_pycache(self) -> None:
        for name in ("__init__.py", "sub/__init__.py", "sub/a.py", "data/table.csv", "__pycache__/a.cpython-311.pyc"):
            self.write("pkg/" + name)
        expected = ["pkg/__init__.py", "pkg/data/table.csv", "pkg/sub/__init__.py", "pkg/sub/a.py"]
        for text in ("import pkg", "import pkg.sub.a", "from pkg import sub", "from pkg.sub.a import x as y"):
            with self.subTest(text):
                self.assertEqual(self.names(text), expected)

    def test_imports_in_functions_conditions_and_packages_that_lead_out_again(self) -> None:
        self.write("pkg/__init__.py", "def f():\n    from helper import x\n")
        self.write("helper.py", "try:\n    import fast\nexcept ImportError:\n    import slow\n")
        self.write("fast.py")
        self.write("slow.py")
        self.assertEqual(self.names("if 1:\n    import pkg"), ["fast.py", "helper.py", "pkg/__init__.py", "slow.py"])

    def test_of_a_namespace_package_only_what_is_named(self) -> None:
        self.write("space/one.py", "from . import two\nfrom .inner.four import x")
        for name in ("two", "three", "inner/four"):
            self.write(f"space/{name}.py")
        expected = ["space/inner/four.py", "space/one.py", "space/two.py"]
        for text in ("import space.one", "from space import one", "from space.one import x"):
            with self.subTest(text):
                self.assertEqual(self.names(text), expected)

    def test_a_folder_that_only_has_the_name_of_a_module_stays(self) -> None:
        self.write("json/big.dat")
        self.assertEqual(self.names("import json, json.decoder"), [])

    def test_relative_imports_never_lead_out_of_the_folder(self) -> None:
        (self.base / "outside.py").write_text("")
        self.write("space/one.py", "from ... import outside\nfrom .. import inside")
        self.write("inside.py")
        self.assertEqual(self.names("import space.one\nfrom .. import outside"), ["inside.py", "space/one.py"])

    def test_microscoop_is_never_the_users_file(self) -> None:
        self.write("microscoop/__init__.py")
        self.assertEqual(self.names("from microscoop import futures"), [])

    def test_a_module_that_does_not_parse_is_sent_as_it_is(self) -> None:
        self.write("broken.py", "def (:")
        self.write("nul.py", "\0")
        self.assertEqual(self.names("import broken, nul"), ["broken.py", "nul.py"])

    def test_a_script_in_another_encoding_and_modules_that_import_each_other(self) -> None:
        (self.folder / "script.py").write_bytes(b"# coding: latin-1\n# \xe9\nimport a")
        self.write("a.py", "import b")
        self.write("b.py", "import a, script")
        parcel = files.Parcel(str(self.folder / "script.py"))
        self.assertEqual(sorted(entry.name for entry in parcel.entries), ["a.py", "b.py", "script.py"])

    def test_a_script_that_is_a_link_has_its_modules_where_it_leads_to(self) -> None:
        self.write("helper.py")
        script = self.write("script.py", "import helper")
        link = self.base / "command"
        link.symlink_to(script)
        parcel = files.Parcel(str(link))
        self.assertEqual((parcel.script, parcel.original, parcel.folder), (str(link), str(script), str(self.folder)))
        self.assertEqual([entry.name for entry in parcel.entries], ["script.py", "helper.py"])


class WhatIsSentBesides(FilesCase):
    def test_files_and_folders_keep_their_places(self) -> None:
        self.write("data/a.csv")
        self.write("data/empty/__pycache__/x.pyc")
        self.write("one.txt")
        self.assertEqual(self.names(send=["data", "one.txt"]), ["data/a.csv", "data/empty/", "one.txt"])

    def test_also_outside_of_the_scripts_folder(self) -> None:
        (self.base / "other").mkdir()
        (self.base / "other" / "a.csv").write_text("")
        parcel = self.parcel(send=["../other"])
        self.assertEqual(parcel.root, str(self.base))
        self.assertEqual([entry.name for entry in parcel.entries], ["project/script.py", "other/a.csv"])

    def test_links_are_followed_but_not_in_circles(self) -> None:
        self.write("real/a.csv", "1")
        (self.folder / "real" / "up").symlink_to("..")
        (self.folder / "link").symlink_to("real")
        (self.folder / "dangling").symlink_to("nowhere")
        self.assertEqual([name for name in self.names(send=["link"]) if "up" not in name], ["link/a.csv"])

    def test_one_that_is_not_there_is_an_error_at_once(self) -> None:
        with self.assertRaisesRegex(UsageError, "--send: there is no file or folder '.*missing'"):
            self.parcel(send=["missing"])

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_one_that_cannot_be_read_is_an_error(self) -> None:
        self.write("secret").chmod(0)
        with self.assertRaisesRegex(UsageError, "secret is to be sent to other hosts, but Permission denied"):
            self.names(send=["secret"])

    def test_nothing_is_read_before_it_is_asked_for(self) -> None:
        self.write("helper.py")
        with mock.patch.object(files, "closure", side_effect=AssertionError):
            self.parcel("import helper")

    def test_too_much_is_an_error_that_names_the_largest(self) -> None:
        self.write("pkg/__init__.py")
        self.write("pkg/small.bin", "x" * 2000)
        self.write("pkg/large.bin", "x" * 1100000)
        parcel = self.parcel("import pkg")
        with mock.patch.object(files, "LIMIT", 1 << 20):
            self.assertEqual(len(parcel.entries), 4)  # to look whether they are in place is always possible
            expected = r"^1\.1 MiB would .* the limit is 1\.0 MiB; the largest files: .*/pkg/large.bin \(1\.0 MiB\), "
            with self.assertRaisesRegex(UsageError, expected):
                parcel.blob  # noqa: B018

    def test_no_script_is_an_empty_parcel(self) -> None:
        parcel = files.Parcel("")
        self.assertEqual((parcel.script, parcel.entries, zlib.decompress(parcel.blob)), ("", [], b""))


class OnTheOtherSide(FilesCase):
    ODD = ("new\nline", "quo'te\"s", "ünïcode", "-dash", "a b", "back\\slash", "%s{0}", "deep/er/one")

    def unpack(self, parcel: files.Parcel) -> Path:
        target = self.base / "unpacked"
        unpack(str(target), parcel.entries, parcel.blob)
        return target

    def test_odd_names_and_all_contents_arrive(self) -> None:
        for name in self.ODD:
            self.write(name, f"content of {name}")
        target = self.unpack(self.parcel(send=self.ODD))
        for name in self.ODD:
            self.assertEqual((target / name).read_text(), f"content of {name}")

    @unittest.skipUnless(sys.platform == "linux", "only Linux has such names")
    def test_a_name_that_is_no_text_arrives(self) -> None:
        raw = os.fsencode(self.folder) + b"/\xff\xfe"
        with open(raw, "w") as file:
            file.write("raw")
        target = self.unpack(files.Parcel(str(self.write("script.py")), [os.fsdecode(raw)]))
        self.assertIn(b"\xff\xfe", os.listdir(os.fsencode(target)))

    def test_a_program_can_still_be_executed(self) -> None:
        self.write("tool").chmod(0o755)
        self.assertTrue(os.access(self.unpack(self.parcel(send=["tool"])) / "tool", os.X_OK))

    def test_nothing_is_written_outside_of_the_directory(self) -> None:
        from microscoop.bootstrap import Failure
        for name in ("../outside", "/tmp/outside", "a/../../outside", ".."):
            with self.subTest(name), self.assertRaises(Failure):
                unpack(str(self.base / "u" / str(abs(hash(name)))), [(name, 1, 0o600, "")], zlib.compress(b"x"))

    def test_what_is_new_or_changed_there_is_found(self) -> None:
        self.write("data/a.csv")
        parcel = self.parcel(send=["data"])
        target = self.unpack(parcel)
        (target / "__pycache__").mkdir()
        (target / "__pycache__" / "script.pyc").write_text("")
        self.assertEqual(leftovers(str(target), parcel.entries), [])
        (target / "data" / "result.csv").write_text("")
        (target / "link").symlink_to("/tmp")
        self.assertEqual(leftovers(str(target), parcel.entries), ["data/result.csv", "link"])
        (target / "data" / "a.csv").write_text("changed")
        self.assertEqual(leftovers(str(target), parcel.entries), ["data/a.csv", "data/result.csv", "link"])
        self.assertEqual(leftovers(str(self.base / "never made"), []), [])


class MicroscoopItself(FilesCase):
    def test_all_modules_are_in_the_package(self) -> None:
        package = files.Parcel("").package
        folder = Path(files.__file__).parent
        expected = {str(path.relative_to(folder.parent)): path.stat().st_size for path in folder.rglob("*.py")}
        self.assertEqual({entry.name: entry.size for entry in package.entries}, expected)
        self.assertEqual(len(zlib.decompress(package.blob)), sum(expected.values()))

    def test_a_zipapp_has_the_same_sources(self) -> None:
        archive = str(self.base / "app.pyz")
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, source in files.own_sources():
                zipped.writestr("microscoop/" + name, source)
        text = f"import sys; sys.path[0] = {archive!r}; from microscoop.files import *; print(sorted(own_sources()))"
        found = subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, check=True, cwd="/").stdout
        self.assertEqual(ast.literal_eval(found.decode()), sorted(files.own_sources()))


if __name__ == "__main__":
    unittest.main()
