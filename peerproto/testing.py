"""Peers in memory, to test applications under trial without sockets and without waiting.

The peers are real: the whole service runs, with a clock that the test moves
and connections that a `MemoryNetwork` carries::

    class BlockedVisitors(TestCase):
        def setUp(self):
            self.network = MemoryNetwork()
            self.lb1 = self.network.peer("lb1", {"rates": "type ip size 1k store gpc0"})
            self.app = self.network.peer("app", learn_tables=True)
            self.network.start()
            self.addCleanup(self.network.stop)

        def test_learns(self):
            self.lb1.table("rates").set("192.0.2.7", gpc0=3)
            self.network.advance(0)
            self.assertEqual(self.app.table("rates")["192.0.2.7"]["gpc0"], 3)

An application that makes its own `StickTableService` gives it the network's
``clock`` as reactor, ``network.server(name)`` to bind and ``network.client(name)``
for each peer, and has it joined with `MemoryNetwork.add`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Optional, Union

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from peerproto.service import StickTableService
from peerproto.tables.declaration import Declaration


@implementer(IAddress)
@attrs.frozen
class MemoryAddress:
    """The name of a peer, as an address."""

    name: str


class MemoryNetwork:
    """Carries connections between services, and moves their clock."""

    def __init__(self, seed: int = 0) -> None:
        """``seed`` decides what is random: the same test runs the same each time."""
        self.clock = Clock()
        self.chance = random.Random(seed)
        self.services: dict[str, StickTableService] = {}
        self._ports: dict[str, IProtocolFactory] = {}
        self._pumps: list[IOPump] = []

    # -- making peers ----------------------------------------------------

    def peer(
        self,
        name: str,
        tables: Union[Mapping[str, str], Iterable[Declaration]] = (),
        *,
        learn_tables: bool = False,
        calls: Optional[Iterable[str]] = None,
    ) -> StickTableService:
        """A peer that knows all others made here, and calls ``calls`` (by default
        those that were made before it)."""
        others = list(self.services) if calls is None else list(calls)
        service = StickTableService(
            name,
            {other: self.client(other) for other in others},
            tables,
            self.server(name),
            learn_tables=learn_tables,
            reactor=self.clock,
            chance=self.chance,
        )
        return self.add(service)

    def add(self, service: StickTableService) -> StickTableService:
        """Join a service that was made with this network's clock and endpoints."""
        for other in self.services.values():
            other.expect_peer(service.localpeer)
            service.expect_peer(other.localpeer)
        self.services[service.localpeer] = service
        return service

    def server(self, name: str) -> IStreamServerEndpoint:
        """The endpoint on which the peer ``name`` listens."""
        return _Server(self, name)

    def client(self, name: str) -> IStreamClientEndpoint:
        """The endpoint that leads to the peer ``name``."""
        return _Client(self, name)

    # -- running ---------------------------------------------------------

    def start(self) -> None:
        """Start all services, and let them come in step."""
        for service in self.services.values():
            if not service.running:
                service.startService()
        self.advance(0)

    def stop(self) -> None:
        """Stop all services; nothing is left on the clock."""
        for service in self.services.values():
            if service.running:
                service.stopService()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Move the clock, in steps short enough that nothing is skipped."""
        self.settle()
        target = self.clock.seconds() + seconds
        while self.clock.seconds() < target:
            self.clock.advance(min(0.05, target - self.clock.seconds()))
            self.settle()

    def settle(self) -> None:
        """Carry bytes and run what is due now, until nothing moves any more."""
        for _ in range(100_000):
            self.clock.advance(0)
            due = any(call.getTime() <= self.clock.seconds() for call in self.clock.calls)
            moved = [pump.pump(advanceClock=False) for pump in list(self._pumps)]
            self._pumps = [pump for pump in self._pumps if not _closed(pump)]
            if not due and not any(moved):
                return
        raise RuntimeError("the peers do not come to rest")

    def cut(self) -> None:
        """Break all connections, without a word to either side's protocol."""
        for pump in self._pumps:
            pump.clientIO.stream = []
            pump.serverIO.stream = []
            pump.clientIO.disconnecting = pump.serverIO.disconnecting = True
        self.settle()

    # -- for the endpoints -----------------------------------------------

    def listen(self, name: str, factory: IProtocolFactory) -> IListeningPort:
        """Take connections to ``name``."""
        self._ports[name] = factory
        return _Port(self, name)

    def close(self, name: str) -> None:
        """Take no more connections to ``name``."""
        self._ports.pop(name, None)

    def connect(self, name: str, factory: IProtocolFactory) -> IProtocol:
        """Make a connection to ``name``.

        :raises ConnectError: nobody listens there.
        """
        listening = self._ports.get(name)
        if listening is None:
            raise ConnectError(string=f"no peer {name} in memory")
        address = MemoryAddress(name)
        client, server = factory.buildProtocol(address), listening.buildProtocol(address)
        assert client is not None and server is not None
        client_side = FakeTransport(client, isServer=False, peerAddress=address)
        server_side = FakeTransport(server, isServer=True, hostAddress=address)
        self._pumps.append(IOPump(client, server, client_side, server_side, False, self.clock))
        server.makeConnection(server_side)
        client.makeConnection(client_side)
        return client


def _closed(pump: IOPump) -> bool:
    return bool(pump.clientIO.disconnected and pump.serverIO.disconnected)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class _Server:
    network: MemoryNetwork
    name: str

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return succeed(self.network.listen(self.name, protocolFactory))


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Client:
    network: MemoryNetwork
    name: str

    def __str__(self) -> str:
        return f"memory:{self.name}"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        try:
            return succeed(self.network.connect(self.name, protocolFactory))
        except ConnectError:
            return fail()


@implementer(IListeningPort)
@attrs.frozen
class _Port:
    network: MemoryNetwork
    name: str

    def startListening(self) -> None:
        """It listens since it was made."""

    def stopListening(self) -> None:
        self.network.close(self.name)

    def getHost(self) -> MemoryAddress:
        return MemoryAddress(self.name)
