"""Peers in memory, to test applications under trial: see `MemoryNetwork`."""

from peerproto.testing.entries import Text, Update
from peerproto.testing.network import MemoryConnection
from peerproto.testing.peers import MemoryNetwork
from peerproto.testing.rawpeer import Acks, RawPeer

__all__ = ["Acks", "MemoryConnection", "MemoryNetwork", "RawPeer", "Text", "Update"]
