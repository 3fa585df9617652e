from __future__ import annotations

import fcntl
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.pathlock import alone_at


class PathLockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "s")

    def refused(self) -> str:
        with self.assertRaises(OSError) as caught, alone_at(self.path):
            self.fail("two are alone")
        return str(caught.exception)

    def test_one_at_a_time(self) -> None:
        """Whoever is alone at a path is so until it leaves; nothing of it stays."""
        for _ in range(2):
            with alone_at(self.path):
                self.assertIn("another process begins to listen there", self.refused())
                with alone_at(self.path + "2"):
                    """Another path is another matter."""
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_error(self) -> None:
        """Who leaves with an error leaves."""
        with self.assertRaises(ZeroDivisionError), alone_at(self.path):
            raise ZeroDivisionError
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_left_behind(self) -> None:
        """A file that a dead process left behind is in nobody's way."""
        with alone_at(self.path):
            (name,) = self.folder.iterdir()
        name.touch()
        with alone_at(self.path):
            self.refused()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_left_while_we_came(self) -> None:
        """A lock on the file of somebody who has just left, and removed it, is none."""
        with alone_at(self.path):
            (name,) = self.folder.iterdir()
        flock = fcntl.flock
        found: list[int] = []

        def left(descriptor: int, operation: int) -> None:
            found.append(os.fstat(descriptor).st_ino)
            if len(found) == 1:
                os.unlink(name)
            flock(descriptor, operation)

        self.patch(fcntl, "flock", left)
        with alone_at(self.path):
            self.assertEqual(len(found), 2)
            self.assertEqual(name.stat().st_ino, found[1])
            self.refused()

    def test_no_folder(self) -> None:
        """Where no file can be made, that is said."""
        self.path = str(self.folder / "nowhere" / "s")
        self.assertIn("No such file", self.refused())
