"""Who may come in: connections that are counted before anybody is known by name."""

from __future__ import annotations

from collections import Counter
from typing import Final, Optional

from twisted.logger import Logger, LogLevel

from peerproto.limits import Limits

REMEMBERED: Final = 1000
"""Reasons to turn callers away that are remembered, in order not to log them again."""


class Door:
    """Counts open handshakes, and connections from each address."""

    _log = Logger()

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._handshakes = 0
        self._addresses: Counter[str] = Counter()
        self._complained: set[str] = set()
        self._turned_away: dict[tuple[Optional[str], str], None] = {}

    def enter(self, address: Optional[str]) -> bool:
        """Whether one more connection may come in, from an IP address if it has one.

        If it may, `leave` is owed, and `shake_hands` before if the handshake succeeds.
        """
        if self._handshakes >= self._limits.handshakes:
            self._complain("", f"there are {self._handshakes} open handshakes")
            return False
        if address is not None:
            if self._addresses[address] >= self._limits.connections_per_address:
                self._complain(address, f"{address} has {self._addresses[address]} connections")
                return False
            self._addresses[address] += 1
        self._handshakes += 1
        return True

    def shake_hands(self) -> None:
        """A handshake is over, in whichever way."""
        self._handshakes -= 1
        self._complained.discard("")

    def turned_away(self, address: Optional[str], why: str) -> None:
        """Log why a caller got no session: once, until one from its address gets one."""
        again = (address, why) in self._turned_away
        if not again:
            if len(self._turned_away) >= REMEMBERED:
                del self._turned_away[next(iter(self._turned_away))]
            self._turned_away[address, why] = None
        self._log.emit(
            LogLevel.debug if again else LogLevel.warn,
            "caller {host}: {why}",
            host=address or "on a UNIX socket",
            why=why,
        )

    def welcomed(self, address: Optional[str]) -> None:
        """A caller from this address has a session."""
        for known in [known for known in self._turned_away if known[0] == address]:
            del self._turned_away[known]

    def leave(self, address: Optional[str]) -> None:
        """A connection is over."""
        if address is not None:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
                self._complained.discard(address)

    def _complain(self, about: str, why: str) -> None:
        """Say it once, until it is better."""
        if about not in self._complained:
            self._complained.add(about)
            self._log.warn("connections are closed at once: {why}", why=why)
