"""Raw peers over real connections, to try peerproto and HAProxy with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional, Union

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from peerproto.testing.rawpeer import Acks, Heard
from peerproto.testing.rawpeer import RawPeer as ScriptedPeer
from testbed.node import Node
from testbed.ports import free_port
from testbed.waiting import reactor, until

__all__ = ["Acks", "Heard", "RawListener", "RawPeer"]


class RawPeer(ScriptedPeer):
    """One connection, and what to wait for on it."""

    @classmethod
    async def call(cls, node: Node, name: str, hello: Optional[bytes] = None) -> RawPeer:
        """Call a node under a name that it knows; ``hello`` instead of the right one.

        The connection is there, the status has not come yet: see `session`.
        """
        peer = cls(name, node.name)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", node.port)
        await connectProtocol(endpoint, peer)
        peer.greet(hello)
        return peer

    @classmethod
    async def session(cls, node: Node, name: str) -> RawPeer:
        """Call a node, and wait until it has accepted."""
        peer = await cls.call(node, name)

        async def accepted() -> bool:
            assert not peer.closed.called, f"{node.name} hung up"
            return peer.lines == ["200"]

        await until(accepted, f"{node.name} accepts {name}")
        return peer

    async def hears(self, what: Union[Heard, Callable[[Heard], bool]], times: int = 1) -> Heard:
        """Wait for a message, or for one that fits: the last of so many."""

        def fits(one: Heard) -> bool:
            return what(one) if callable(what) else one == what

        async def heard() -> Optional[Heard]:
            found = [one for one in self.heard if fits(one)]
            return found[times - 1] if len(found) >= times else None

        found: Heard = await until(heard, f"{self.name} hears {what}")
        return found

    async def end(self) -> list[Heard]:
        """Wait until the other side hangs up: all that it has said."""

        async def is_over() -> bool:
            return bool(self.closed.called)

        await until(is_over, f"{self.name} is left")
        return self.heard


class RawListener:
    """A port on which raw peers are called."""

    def __init__(self, name: str, port: Optional[int] = None, answer: str = "200") -> None:
        """Listen under a name; ``answer`` is the status that hellos get."""
        self.name = name
        self.port = port or free_port()
        self.answer = answer
        self.sessions: list[RawPeer] = []
        """All that have called, the last one at the end."""
        factory = Factory.forProtocol(self._accept)
        factory.noisy = False
        self._listening = reactor.listenTCP(self.port, factory, interface="127.0.0.1")

    def _accept(self) -> RawPeer:
        peer = RawPeer(self.name)
        peer.answer = self.answer
        self.sessions.append(peer)
        return peer

    async def session(self) -> RawPeer:
        """Wait until somebody has called, and said hello: the last one."""

        async def greeted() -> Optional[RawPeer]:
            done = [one for one in self.sessions if len(one.lines) == 3 and not one.closed.called]
            return done[-1] if done else None

        found: RawPeer = await until(greeted, f"{self.name} is called")
        return found

    async def stop(self) -> None:
        """Listen no more, and hang up."""
        await self._listening.stopListening()
        for peer in self.sessions:
            if not peer.closed.called:
                peer.hang_up()
