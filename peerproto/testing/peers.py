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

What goes wrong between real peers goes wrong here too: `MemoryNetwork.part` two of them,
or take a connection from `MemoryNetwork.between` and stall or cut it
(`peerproto.testing.network.MemoryConnection`). With a ``pace``, bytes take their time. A
`MemoryNetwork.raw_peer` speaks the protocol as the test tells it to, right or wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Optional, Union

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from peerproto.service.service import StickTableService
from peerproto.tables.declaration import Declaration
from peerproto.testing.network import (
    ROOM,
    MemoryAddress,
    MemoryClock,
    MemoryConnection,
    MemoryTransport,
)
from peerproto.testing.rawpeer import RawPeer

WALL_CLOCK = 1_700_000_000.0
"""What the wall clock shows first, in seconds since the epoch."""

TURN = 0.001
"""Seconds that a turn takes in which bytes are carried at a pace."""


class MemoryNetwork:
    """Carries connections between services, and moves their clock."""

    def __init__(self, seed: int = 0, *, pace: Optional[int] = None, room: int = ROOM) -> None:
        """
        :param seed: decides what is random: the same test runs the same each time.
        :param pace: bytes that each direction of a connection carries in a turn, which then
            takes 1 ms; ``None`` to carry all at once. It may be changed at any time.
        :param room: bytes that wait in a connection before its writer has to pause.
        """
        self.clock = MemoryClock()
        self.chance = random.Random(seed)
        self.pace = pace
        self.room = room
        self.services: dict[str, StickTableService] = {}
        self.connections: list[MemoryConnection] = []
        """Those that are open, in the order in which they were made."""
        self._ports: dict[str, IProtocolFactory] = {}
        self._parted: set[frozenset[str]] = set()
        self._stepped = 0.0

    def __enter__(self) -> MemoryNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all peers."""
        self.stop()

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
            {other: self.client(other, name) for other in others},
            tables,
            self.server(name),
            learn_tables=learn_tables,
            reactor=self.clock,
            chance=self.chance,
            wall_clock=self.wall_clock,
        )
        return self.add(service)

    def add(self, service: StickTableService) -> StickTableService:
        """Join a service that was made with this network's clock and endpoints."""
        for other in self.services.values():
            other.expect_peer(service.localpeer)
            service.expect_peer(other.localpeer)
        self.services[service.localpeer] = service
        return service

    def raw_peer(self, name: str, called: str, process: int = 1) -> RawPeer:
        """A peer that says what the test tells it to say: it has called a service by its name, and
        said hello as the process of this id. What the service answers is there after `advance`."""
        self.services[called].expect_peer(name)
        peer = RawPeer(name, called, self.clock)
        self.connect(called, Factory.forProtocol(lambda: peer), name)
        peer.greet(process=process)
        return peer

    def raw_peers(self, name: str) -> list[RawPeer]:
        """Listen under a name like `raw_peer`, for services that call: those that were called so
        far, the latest one at the end."""
        called: list[RawPeer] = []

        def accept() -> RawPeer:
            called.append(RawPeer(name, clock=self.clock))
            return called[-1]

        self.listen(name, Factory.forProtocol(accept))
        return called

    def server(self, name: str) -> IStreamServerEndpoint:
        """The endpoint on which the peer ``name`` listens."""
        return _Server(self, name)

    def client(self, name: str, caller: str = "?") -> IStreamClientEndpoint:
        """The endpoint that leads to the peer ``name``; ``caller`` is the name of who calls."""
        return _Client(self, name, caller)

    def wall_clock(self) -> float:
        """The time of the wall clock, in seconds since the epoch."""
        return WALL_CLOCK + self.clock.seconds() + self._stepped

    def step_wall_clock(self, seconds: float) -> None:
        """Set the wall clock of all peers, ahead or back."""
        self._stepped += seconds

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
        # A raw peer may hold one open.
        self.cut()

    def advance(self, seconds: float) -> None:
        """Move the clock, from one call that is due to the next: nothing is skipped."""
        target = self.clock.seconds() + seconds
        while True:
            if self.pace is None:
                self.settle()
            moving = self.pace is not None and self.turn()
            now = self.clock.seconds()
            if now >= target:
                return
            due = now + TURN if moving else self.clock.next_call()
            self.clock.advance(max(0.0, min(target, target if due is None else due) - now))

    def settle(self) -> None:
        """Carry bytes and run what is due now, until nothing moves any more."""
        for _ in range(100_000):
            if not self.turn():
                return
        raise RuntimeError("the peers do not come to rest")

    def turn(self) -> bool:
        """One turn: run what is due now, and carry bytes once. Whether anything happened."""
        due = self.clock.next_call()
        happened = due is not None and due <= self.clock.seconds()
        self.clock.advance(0)
        for connection in list(self.connections):
            happened |= connection.carry(self.pace)
        self.connections = [one for one in self.connections if not one.closed]
        return happened

    # -- what goes wrong -------------------------------------------------

    def between(self, one: str, other: str) -> list[MemoryConnection]:
        """The open connections between two peers."""
        both = sorted((one, other))
        return [connection for connection in self.connections if sorted(connection.names) == both]

    def cut(self) -> None:
        """Break all connections, without a word to either side's protocol."""
        for connection in self.connections:
            connection.cut()
        self.settle()

    def part(self, one: str, other: str) -> None:
        """Break the connections between two peers, and let none be made until `heal`."""
        self._parted.add(frozenset((one, other)))
        for connection in self.between(one, other):
            connection.cut()

    def heal(self, one: str, other: str) -> None:
        """Let two peers connect again."""
        self._parted.discard(frozenset((one, other)))

    # -- for the endpoints -----------------------------------------------

    def listen(self, name: str, factory: IProtocolFactory) -> IListeningPort:
        """Take connections to ``name``, in place of whoever did so before."""
        self._ports[name] = factory
        return _Port(self, name, factory)

    def close(self, name: str) -> None:
        """Take no more connections to ``name``."""
        self._ports.pop(name, None)

    def connect(self, name: str, factory: IProtocolFactory, caller: str = "?") -> IProtocol:
        """Make a connection to ``name``.

        :raises ConnectError: nobody listens there, or the two are parted.
        """
        listening = self._ports.get(name)
        if listening is None:
            raise ConnectError(string=f"no peer {name} in memory")
        if frozenset((name, caller)) in self._parted:
            raise ConnectError(string=f"{caller} and {name} are parted")
        address = MemoryAddress(name)
        client, server = factory.buildProtocol(address), listening.buildProtocol(address)
        assert client is not None
        refused = server is None
        if server is None:
            server = Protocol()
        calling = MemoryTransport(caller, client, MemoryAddress(caller), address)
        called = MemoryTransport(name, server, address, MemoryAddress(caller))
        calling.room = called.room = self.room
        self.connections.append(MemoryConnection(calling, called))
        server.makeConnection(called)
        if refused:
            called.loseConnection()
        client.makeConnection(calling)
        return client

    def _closed(self, name: str, factory: IProtocolFactory) -> None:
        """A port was closed: of its name, another may be open by now."""
        if self._ports.get(name) is factory:
            self.close(name)


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
    caller: str

    def __str__(self) -> str:
        return f"memory:{self.name}"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        try:
            return succeed(self.network.connect(self.name, protocolFactory, self.caller))
        except ConnectError:
            return fail()


@implementer(IListeningPort)
@attrs.frozen
class _Port:
    network: MemoryNetwork
    name: str
    factory: IProtocolFactory

    def startListening(self) -> None:
        """It listens since it was made."""

    def stopListening(self) -> None:
        self.network._closed(self.name, self.factory)

    def getHost(self) -> MemoryAddress:
        return MemoryAddress(self.name)
