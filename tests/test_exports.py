from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import peerproto


class ExportTests(SynchronousTestCase):
    def test_all(self) -> None:
        """``__all__`` is what the package imports, sorted, constants first, and nothing else."""
        tree = ast.parse(Path(peerproto.__file__).read_text())
        imported = [
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        names = sorted(imported, key=lambda name: (not name.isupper(), name))
        self.assertEqual(peerproto.__all__, [*names, "__version__"])
        for name in peerproto.__all__:
            self.assertTrue(hasattr(peerproto, name))

    def test_errors_are_exported(self) -> None:
        """People can catch everything that is raised."""
        from peerproto.wire import errors

        for name, value in vars(errors).items():
            if isinstance(value, type) and issubclass(value, peerproto.PeerError):
                self.assertIs(getattr(peerproto, name), value)
