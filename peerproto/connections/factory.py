"""A factory for connections that come and go all the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol


class QuietFactory(Factory):
    """Does not log each start and stop, and may refuse a connection."""

    noisy = False

    def __init__(self, protocol: Callable[[], Optional[Protocol]]) -> None:
        """``protocol`` makes the protocol for a connection, or gives ``None`` to close it."""
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Optional[Protocol]:
        return self._protocol()
