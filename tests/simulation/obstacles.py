"""What comes between two nodes in a simulation, whoever they are; and what is logged as failed."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from twisted.logger import ILogObserver, globalLogPublisher

from peerproto.testing import MemoryNetwork
from peerproto.testing.network import MemoryConnection

places = st.integers(0, 5)
"""Pairs of nodes, by their places among `Obstacles.links`."""


class Obstacles(RuleBasedStateMachine):
    """Steps that hinder connections, and wait."""

    network: MemoryNetwork

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        """What was logged as failed."""
        globalLogPublisher.addObserver(cast(ILogObserver, self._logged))

    def _logged(self, event: Any) -> None:
        if event.get("log_failure") is not None:
            self.failures.append(event["log_failure"].getTraceback())

    def links(self) -> list[tuple[str, str]]:
        """Who is connected with whom."""
        raise NotImplementedError

    def _link(self, number: int) -> tuple[str, str]:
        every = self.links()
        return every[number % len(every)]

    def _connections(self, number: int) -> list[MemoryConnection]:
        return self.network.between(*self._link(number))

    @rule(ms=st.sampled_from((0, 1, 5, 20, 100, 500, 2500, 7000)))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.network.advance(ms / 1000)

    @rule(place=places, after=st.sampled_from((0, 1, 5, 20, 50, 100, 200)), first=st.booleans())
    def cut(self, place: int, after: int, first: bool) -> None:
        """A connection breaks after so many bytes of one side."""
        for connection in self._connections(place)[-1:]:
            connection.cut(after, connection.names[first])

    @rule(place=places, back=st.booleans())
    def stall(self, place: int, back: bool) -> None:
        """Nothing gets through in one direction, until it flows."""
        for connection in self._connections(place)[-1:]:
            connection.stall(self._link(place)[back])

    @rule(place=places)
    def flow(self, place: int) -> None:
        """What is between two nodes flows again."""
        self._flow(self._connections(place))

    def _flow(self, connections: list[MemoryConnection]) -> None:
        for connection in connections:
            for end in (connection.caller, connection.called):
                end.stalled = False

    @rule(place=places, parted=st.booleans())
    def part(self, place: int, parted: bool) -> None:
        """Two nodes cannot reach each other, or can again."""
        (self.network.part if parted else self.network.heal)(*self._link(place))

    def remove_obstacles(self) -> None:
        """Let everything flow, and at once."""
        for one, other in self.links():
            self.network.heal(one, other)
        self._flow(self.network.connections)
        for connection in self.network.connections:
            connection.caller.cut_after = connection.called.cut_after = None
        self.network.pace = None

    def leave(self) -> None:
        """End everything, and see whether anything has failed.

        :raises AssertionError: something has.
        """
        self.network.stop()
        globalLogPublisher.removeObserver(cast(ILogObserver, self._logged))
        if self.failures:
            raise AssertionError(self.failures[0])
