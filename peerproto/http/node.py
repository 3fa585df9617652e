"""``/v1/node``, ``/v1/peers`` and ``/v1/parts``: how a node stands."""

from __future__ import annotations

from peerproto import StickTableService
from peerproto.http.answers import Answer
from peerproto.http.health import Health
from peerproto.http.problems import Problem
from peerproto.http.routes import Call
from peerproto.http.showing import node_shown, peer_shown, plain
from peerproto.http.text import shown, written


class NodeRoutes:
    """What is asked of the node as a whole."""

    def __init__(self, service: StickTableService, health: Health) -> None:
        self._service = service
        self._health = health

    def node(self, call: Call) -> Answer:
        """The node itself."""
        return Answer(node_shown(self._service, self._health.not_ready()))

    def peers(self, call: Call) -> Answer:
        """All peers."""
        peers = self._service.peers.values()
        return Answer({"peers": [peer_shown(one.status()) for one in peers]})

    def peer(self, call: Call) -> Answer:
        """One peer."""
        name = call.name("peer")
        peer = self._service.peers.get(name)
        if peer is None:
            names = ", ".join(map(written, self._service.peers)) or "none yet"
            raise Problem.wrong("path.peer", written(name), f"one of {names}", 404)
        return Answer(peer_shown(peer.status()))

    def parts(self, call: Call) -> Answer:
        """All parts."""
        parts = self._service.parts
        return Answer(
            {
                "parts": {
                    shown(name): {shown(key): plain(value) for key, value in status.items()}
                    for name, status in parts.status().items()
                },
                "not_ready": [shown(one) for one in parts.not_ready()],
            }
        )
