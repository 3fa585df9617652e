"""The file that holds our process id while we run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional


class PidFile:
    """One line with the process id."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._before: Optional[bytes] = None
        self._written = False

    @property
    def _ours(self) -> bytes:
        return b"%d\n" % os.getpid()

    def write(self) -> None:
        """Write our process id; what was there before is kept for `restore`.

        :raises OSError: it cannot be written.
        """
        try:
            with open(self._path, "rb") as file:
                self._before = file.read()
        except FileNotFoundError:
            self._before = None
        self._written = True
        try:
            self._fill(self._ours)
        except OSError:
            # The first error is the one to tell of.
            with suppress(OSError):
                self._restore(b"")
            raise

    def restore(self) -> None:
        """Have the file as it was before `write`; without that it is another process's."""
        if self._written:
            self._restore(self._ours)

    def _restore(self, written: bytes) -> None:
        if self._before is not None:
            self._fill(self._before)
        else:
            self._unlink(written)

    def remove(self) -> None:
        """Remove the file, if it is still ours.

        :raises OSError: it cannot be removed.
        """
        self._unlink(self._ours)

    def _unlink(self, text: bytes) -> None:
        """Remove the file, if this is what it has."""
        try:
            with open(self._path, "rb") as file:
                ours = file.read() == text
        except FileNotFoundError:
            return
        if ours:
            os.unlink(self._path)

    def _fill(self, text: bytes) -> None:
        # Never empty in between: somebody may read it in order to signal.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, text)
            os.ftruncate(descriptor, len(text))
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, self._path) from problem
        finally:
            os.close(descriptor)
