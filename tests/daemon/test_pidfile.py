from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.pidfile import PidFile


class PidFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.file = PidFile(str(self.path))

    def test_one_line(self) -> None:
        """The file has one line with the process id, and goes with the process."""
        self.file.write()
        self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")
        self.file.remove()
        self.assertFalse(self.path.exists())
        self.file.remove()

    def test_restore(self) -> None:
        """A start that fails leaves the file as it was."""
        for before in (None, "", "1\n", "some words that are longer than a number\n"):
            if before is not None:
                self.path.write_text(before)
            self.file.write()
            self.assertEqual(self.path.read_text(), f"{os.getpid()}\n")
            self.file.restore()
            self.assertEqual(self.path.read_text() if self.path.exists() else None, before)

    def test_restore_without_write(self) -> None:
        """A start that fails before it wrote anything leaves another's file, empty or not."""
        for before in ("", "1\n"):
            self.path.write_text(before)
            self.file.restore()
            self.assertEqual(self.path.read_text(), before)

    def test_not_ours(self) -> None:
        """A new process's file is left, also while that one has not written it yet."""
        self.file.write()
        for text in ("1\n", ""):
            self.path.write_text(text)
            self.file.remove()
            self.assertEqual(self.path.read_text(), text)

    def test_full_disk(self) -> None:
        """A file that could not be written to its end is not left behind."""

        def write(descriptor: int, text: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "write", write)
        self.assertRaises(OSError, self.file.write)
        self.assertFalse(self.path.exists())

    def test_cannot_be_written(self) -> None:
        """What stands in the way is raised, with the path."""
        for path in ("/nowhere/pid", "/proc/version", self.mktemp()):
            if not path.startswith("/"):
                os.mkdir(path)
            problem = self.assertRaises(OSError, PidFile(path).write)
            self.assertEqual(problem.filename, path)

    def test_never_empty(self) -> None:
        """A reader finds the old id or the new one, never none."""
        self.path.write_text("1\n")
        seen: list[str] = []
        truncate = os.ftruncate

        def note(descriptor: int, length: int) -> None:
            seen.append(self.path.read_text())
            truncate(descriptor, length)

        self.patch(os, "ftruncate", note)
        self.file.write()
        self.assertEqual(seen, [f"{os.getpid()}\n"])
