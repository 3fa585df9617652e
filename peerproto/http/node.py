"""``/v1/node``, ``/v1/peers`` and ``/v1/parts``: how a node stands."""

from __future__ import annotations

import peerproto
from peerproto import StickTableService
from peerproto.http.access import Access
from peerproto.http.answers import Answer
from peerproto.http.problems import Problem
from peerproto.http.routes import Call
from peerproto.http.showing import node_shown, parts_shown, peer_shown
from peerproto.http.text import written


class NodeRoutes:
    """What is asked of the node as a whole."""

    def __init__(self, service: StickTableService, access: Access) -> None:
        self._service = service
        self._access = access

    def node(self, call: Call) -> Answer:
        """The node itself."""
        return Answer(
            {
                **node_shown(self._service, peerproto.__version__),
                "allow_writes": self._access.settings.allow_writes,
                "may_write": call.caller.may_write,
            }
        )

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
        return Answer(parts_shown(self._service))
