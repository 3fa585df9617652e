from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

import peerproto
from peerproto.daemon import Daemon
from peerproto.tap import Options, makeService

GOOD = "[node]\nlocalpeer = us\nruntime = /tmp/r.sock\n[peers]\nlb1 = 127.0.0.1:1\n"


class OptionsTests(SynchronousTestCase):
    def file(self, text: str) -> str:
        path: str = self.mktemp()
        Path(path).write_text(text)
        return path

    def stopped(self, *arguments: str) -> object:
        with self.assertRaises(SystemExit) as caught:
            Options().parseOptions(arguments)
        return caught.exception.code

    def test_check_good(self) -> None:
        """A good file: status 0."""
        self.assertEqual(self.stopped("--check", "--config", self.file(GOOD)), 0)

    def test_bad(self) -> None:
        """A bad file: one line on standard error and status 1, with --check or without."""
        path = self.file("[node]\nbind = x\n")
        for more in ([], ["--check"]):
            said = self.stopped("--config", path, *more)
            assert isinstance(said, str)
            self.assertTrue(said.startswith(f"{path}:2: read 'bind = x', expected a Twisted"))

    def test_missing(self) -> None:
        """A file that is not there is named, with the reason."""
        self.assertEqual(
            self.stopped("--config", "/nowhere.ini"),
            "/nowhere.ini: cannot be read: No such file or directory",
        )

    def test_version(self) -> None:
        """--version says ours."""
        self.assertEqual(self.stopped("--version"), 0)

    def test_service(self) -> None:
        """The service is what the file describes."""
        options = Options()
        options.parseOptions(["--config", self.file(GOOD), "--soft-finish", "7"])
        daemon = makeService(options, MemoryReactorClock())
        self.assertTrue(IService.providedBy(daemon))
        assert isinstance(daemon, Daemon)
        self.assertEqual(daemon.stick_tables.localpeer, "us")
        self.assertEqual(list(daemon.stick_tables.peers), ["lb1"])
        self.assertIsNotNone(daemon.runtime)
        self.assertEqual(options["soft-finish"], 7)


class ImportTests(SynchronousTestCase):
    def run_python(self, code: str) -> str:
        root = Path(peerproto.__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_no_reactor(self) -> None:
        """Importing installs no reactor: that is the application's choice."""
        for module in (
            "peerproto",
            "peerproto.tap",
            "peerproto.testing",
            "peerproto.peering.tls",
            "peerproto.runtime.protocol",
            "twisted.plugins.peerproto_plugin",
        ):
            self.run_python(
                f"import sys, {module}; assert 'twisted.internet.reactor' not in sys.modules"
            )

    def test_pure_floors(self) -> None:
        """Wire and tables know neither Twisted nor a clock."""
        self.run_python(
            "import importlib, os, pkgutil, sys, types\n"
            f"root = {str(Path(peerproto.__file__).parent)!r}\n"
            "package = types.ModuleType('peerproto'); package.__path__ = [root]\n"
            "sys.modules['peerproto'] = package\n"
            "for floor in ('wire', 'tables'):\n"
            "    for one in pkgutil.iter_modules([os.path.join(root, floor)]):\n"
            "        importlib.import_module(f'peerproto.{floor}.{one.name}')\n"
            "found = {'twisted', 'zope', 'asyncio'} & set(sys.modules)\n"
            "assert not found, found\n"
        )

    def test_floors(self) -> None:
        """Each floor imports only from the ones above it."""
        above = {
            "wire": {"wire"},
            "tables": {"wire", "tables"},
            "peering": {"wire", "tables", "peering", "limits"},
            "runtime": {
                "wire",
                "tables",
                "peering",
                "runtime",
                "service",
                "sharedtable",
                "compiled",
                "",
            },
        }
        root = Path(peerproto.__file__).parent
        for floor, allowed in above.items():
            for path in (root / floor).glob("*.py"):
                for line in path.read_text().splitlines():
                    words = line.split()
                    if words[:1] in (["from"], ["import"]) and words[1].startswith("peerproto"):
                        imported = [*words[1].split("."), ""][1]
                        self.assertIn(imported, allowed, f"{path.name}: {line}")
