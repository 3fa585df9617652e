"""Peers in memory, to test applications under trial: see `MemoryNetwork`."""

from peerproto.testing.network import MemoryConnection
from peerproto.testing.peers import MemoryNetwork

__all__ = ["MemoryConnection", "MemoryNetwork"]
