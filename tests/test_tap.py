from __future__ import annotations

import gc
import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

import peerproto
from peerproto.daemon.process import Daemon
from peerproto.tap import Options, makeService
from twisted.plugins.peerproto_plugin import peers

GOOD = "[node]\nlocalpeer = us\nruntime = /tmp/r.sock\n[peers]\nlb1 = 127.0.0.1:1\n"


class PluginTests(SynchronousTestCase):
    def test_garbage(self) -> None:
        """Garbage is collected after the import as it was before."""
        self.addCleanup(gc.unfreeze)
        self.assertIs(peers.options, Options)
        self.assertTrue(gc.isenabled())
        self.addCleanup(gc.enable)
        gc.disable()
        self.assertIs(peers.options, Options)
        self.assertFalse(gc.isenabled())


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

    def test_check_warns(self) -> None:
        """A file that is good, but read in another way than it is written, says so."""
        path = self.file(GOOD + "[tables]\nt = type ip size 1 expire 1h30m\n")
        with redirect_stdout(StringIO()) as said:
            self.assertEqual(self.stopped("--check", "--config", path), 0)
        warning, good = said.getvalue().splitlines()
        self.assertEqual(
            warning, f"{path}:7: expire of table t: read '1h30m' as '1h', as HAProxy does"
        )
        self.assertTrue(good.startswith(f"{path}: good"))

    def test_bad(self) -> None:
        """A bad file: one line on standard error and status 1, with --check or without."""
        path = self.file("[node]\nbind = x\n")
        for more in ([], ["--check"]):
            said = self.stopped("--config", path, *more)
            assert isinstance(said, str)
            self.assertTrue(said.startswith(f"{path}:2: read 'bind = x', expected a Twisted"))

    def test_cut(self) -> None:
        """A file whose last line does not end is bad, as it is for HAProxy."""
        path = self.file(GOOD.removesuffix("\n"))
        for more in ([], ["--check"]):
            said = self.stopped("--config", path, *more)
            self.assertEqual(
                said,
                f"{path}:{len(GOOD.splitlines())}: read '{GOOD.splitlines()[-1]}', expected a line"
                " feed at the end of the last line: the file may have been cut",
            )

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
            "peerproto.connections.tls",
            "peerproto.runtime.protocol",
            "twisted.plugins.peerproto_plugin",
        ):
            self.run_python(
                f"import sys, {module}; assert 'twisted.internet.reactor' not in sys.modules"
            )

    def test_without_extras(self) -> None:
        """Without the packages for HTTP all else works, and `[http]` in a file names the extra."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text(GOOD)
        missing = "import sys; sys.modules.update(klein=None, cattrs=None, werkzeug=None)"
        options = f"['--check', '-c', {path!r}]"
        check = f"from peerproto.tap import Options; Options().parseOptions({options})"
        good = f"{missing}; import peerproto; {check}"
        self.assertIn("good", self.run_python(good))
        Path(path).write_text(f"{GOOD}[http]\n")
        said = self.run_python(
            f"{missing}\ntry:\n    {check}\nexcept SystemExit as problem:\n    print(problem.code)"
        )
        self.assertIn(":6: read '[http]', expected the packages of peerproto[http]", said)

    def test_memory(self) -> None:
        """`twist peers` ends with one line where there is not enough memory."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text(GOOD)
        self.run_python(
            "from unittest.mock import patch\n"
            "from peerproto.tap import Options, makeService\n"
            f"options = Options(); options.parseOptions(['--config', {path!r}])\n"
            "with patch('peerproto.daemon.shortage.end_without_memory') as end:\n"
            "    makeService(options)\n"
            "assert end.called\n"
            "import gc; assert gc.get_freeze_count() > 1000\n"
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
            # An old zope.interface puts a package ``zope`` there before anything is imported.
            "found = {'twisted', 'zope.interface', 'asyncio'} & set(sys.modules)\n"
            "assert not found, found\n"
        )
