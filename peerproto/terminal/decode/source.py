"""A file, or what comes through a pipe, read forwards with a look ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

_CHUNK: Final = 1 << 16
"""Bytes that are asked for at once."""


class Source:
    """The bytes of a recording, each of which is read once."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], object] = lambda _: None) -> None:
        """``tell`` is told after each read how many bytes have been taken so far."""
        # A pipe gives what it has; `read` would wait for as much as was asked for.
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)
        self._ahead = b""
        self._tell = tell
        self.offset = 0
        """How many bytes were taken."""

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, or fewer at the end; they stay."""
        while len(self._ahead) < count:
            more = self._read(max(count - len(self._ahead), _CHUNK))
            if not more:
                break
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """Take ``count`` bytes, or fewer at the end."""
        data = self.peek(count)
        self._ahead = self._ahead[len(data) :]
        self._took(len(data))
        return data

    def some(self, most: int) -> bytes:
        """Take what there is, without waiting for more than one byte; nothing at the end."""
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
        else:
            data = self._read(most)
        self._took(len(data))
        return data

    def _took(self, count: int) -> None:
        self.offset += count
        self._tell(self.offset)
