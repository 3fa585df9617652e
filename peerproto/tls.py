"""TLS with peers: what an application needs of it (``pip install 'peerproto[tls]'``)."""

from peerproto.connections.tls import Credentials

__all__ = ["Credentials"]
