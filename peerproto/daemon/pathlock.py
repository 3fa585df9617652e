"""A moment alone at a path, to look at what is there and to change it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alone_at(path: str) -> Iterator[None]:
    """Be the only process here, of those that ask. Nothing of it stays, whatever ends a process.

    :raises OSError: another process is there, or no lock file can be made beside the path.
    """
    name = f"{path}.peerproto-lock"
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise OSError(
                    errno.EADDRINUSE, "another process begins to listen there, or ends it"
                ) from problem
            if _is_at(descriptor, name):
                try:
                    yield
                finally:
                    os.unlink(name)
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, name: str) -> bool:
    """Whether the file that we have locked is still the one that others will find."""
    try:
        found = os.lstat(name)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
