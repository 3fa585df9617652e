"""The links of `testbed`, over which other tests let peers reach each other."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory

from peerproto.wire.messages import Ack
from testbed import Conversation, Link, Mesh, Node, RawPeer, Update, converse, pause, reactor, until

from .test_rawpeer import LINES, RATES


@ensureDeferred
async def test_stalls(mesh: Mesh) -> None:
    """What is stalled in one direction arrives when it flows again; the other one goes on."""
    peer = mesh.peerproto(declared=f"rates = {LINES['rates']}")
    mesh.nodes.append(Node("raw", mesh.folder))
    mesh.start(peer)
    await peer.up()
    link = Link(peer.port, random.Random(1), calm=True)
    try:
        raw = await RawPeer.session(attrs.evolve(peer, port=link.port), "raw")
        raw.define(RATES)

        def changes() -> list[str]:
            return [str(one.key) for one in raw.updates]

        async def arrived() -> bool:
            return "192.0.2.1" in await peer.table("rates")

        link.stall(back=True)
        await peer.do("set table rates key 192.0.2.9 data.gpc0 1")
        raw.update("192.0.2.1", {"gpc0": 1}, 1)
        await until(arrived, "what goes there arrives")
        await pause(0.3)
        assert not changes() and Ack(1, 1) not in raw.heard
        link.stall(there=True)
        await raw.hears(lambda one: isinstance(one, Update))
        assert changes() == ["192.0.2.9"]
        await raw.hears(Ack(1, 1))
        await peer.do("clear table rates key 192.0.2.1")
        raw.update("192.0.2.1", {"gpc0": 2}, 2)
        await pause(0.3)
        assert not await arrived()
        link.stall()
        await until(arrived, "what was held up arrives")
    finally:
        link.stop()


@pytest.mark.parametrize("calms", [True, False])
@ensureDeferred
async def test_order(calms: bool) -> None:
    """Bytes arrive in their order when a link becomes calm, and before a cut without a gap."""
    target = Conversation()
    factory: Any = Factory.forProtocol(lambda: target)
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    link = Link(port.getHost().port, random.Random(3))
    text = b"".join(b"%06d\n" % number for number in range(10_000))
    try:
        caller = await converse(link.port)
        for start in range(0, len(text), 500):
            link.calm = calms and start >= 2000
            caller.send(text[start : start + 500])
            await pause(0.001)

        async def over() -> bool:
            return target.received == text if calms else bool(target.closed.called)

        await until(over, "all is carried, or the link cut")
        assert target.received
        assert text.startswith(target.received)
    finally:
        link.stop()
        await port.stopListening()
