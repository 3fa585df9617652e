"""The lock of a file that keeps tables: one process has it at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final, Optional

from peerproto.storage.errors import StorageError

_MAY_PASS: Final = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""The disk is full, or cannot be written: not a mistake in the path."""


class FileLock:
    """A lock beside a file: at ``<path>.lock``, since SQLite locks the file itself.

    It is the system's (``flock``): whatever ends a process, its lock is free then.
    """

    def __init__(self, path: str) -> None:
        """``path`` is that of the file that keeps the tables."""
        self.path = f"{path}.lock"
        self._descriptor: Optional[int] = None

    @property
    def held(self) -> bool:
        """Whether we have it."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Take the lock, unless another process has it: whether we have it now.

        :raises StorageError: there can be no lock file.
        :raises OSError: there can be none now, perhaps later.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = self._open()
        except OSError as problem:
            if problem.errno in _MAY_PASS:
                raise
            raise StorageError(
                "path in [storage]", self.path, f"a file that can be made: {problem.strerror}"
            ) from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            if problem.errno != errno.EROFS:
                raise
            if not os.path.exists(self.path):
                raise
            # It can be locked all the same.
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
