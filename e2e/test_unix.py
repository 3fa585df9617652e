"""Peers on UNIX sockets, as HAProxy's ``peer name /path`` has them."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from .conftest import Mesh
from .test_bad_input import untouched


@ensureDeferred
async def test_both_directions(mesh: Mesh) -> None:
    """HAProxy and peerproto, each on a socket of its own, call each other and share tables."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    haproxy.place = str(mesh.folder / "lb1.peers")
    peer.place = str(mesh.folder / "peerproto.peers")
    mesh.start(haproxy)
    await haproxy.up()
    await haproxy.do("set table t_never key 1 data.gpc0 1")
    mesh.start(peer)  # it calls HAProxy
    await peer.in_step("lb1")
    await untouched(mesh, peer, 2)
    await haproxy.stop()
    mesh.start(haproxy)  # it calls peerproto, most often first, and is taught
    await haproxy.up()
    await peer.in_step("lb1")
    await untouched(mesh, peer, 3)
