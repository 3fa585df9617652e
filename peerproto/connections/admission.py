"""Who may come in: connections that are counted before anybody is known by name."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Final, Optional

from peerproto.peering.boundedlog import BoundedLog, Log
from peerproto.peering.limits import Limits

REMEMBERED: Final = 1000
"""Reasons to turn callers away that are remembered, in order not to log them again."""


class Admission:
    """Counts open handshakes, and connections from each address."""

    def __init__(self, limits: Limits, log: Log) -> None:
        self._limits = limits
        self._handshakes = 0
        self._addresses: Counter[str] = Counter()
        self._complained: set[str] = set()
        self._turned_away: dict[tuple[Optional[str], str], None] = {}
        self._callers = BoundedLog("callers without a session", log)

    def enter(self, address: Optional[str], now: int) -> bool:
        """Whether one more connection may come in, from an IP address if it has one.

        ``now`` is in ms.

        If it may, `leave` is owed, and `shake_hands` before if the handshake succeeds.
        """
        if self._handshakes >= self._limits.handshakes:
            self._complain("", f"there are {self._handshakes} open handshakes", now)
            return False
        if address is not None:
            if self._addresses[address] >= self._limits.connections_per_address:
                connections = self._addresses[address]
                self._complain(address, f"{address} has {connections} connections", now)
                return False
            self._addresses[address] += 1
        self._handshakes += 1
        return True

    def shake_hands(self) -> None:
        """A handshake is over, in whichever way."""
        self._handshakes -= 1
        self._complained.discard("")

    def turned_away(self, address: Optional[str], why: str, now: int) -> None:
        """Log why a caller got no session: once, until one from its address gets one."""
        again = (address, why) in self._turned_away
        if not again:
            if len(self._turned_away) >= REMEMBERED:
                del self._turned_away[next(iter(self._turned_away))]
            self._turned_away[address, why] = None
        log = self._callers.debug if again else partial(self._callers.warn, now)
        log("caller {host}: {why}", host=address or "on a UNIX socket", why=why)

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

    def _complain(self, about: str, why: str, now: int) -> None:
        """Say it once, until it is better."""
        if about not in self._complained:
            self._complained.add(about)
            self._callers.warn(now, "connections are closed at once: {why}", why=why)
