"""Makes ``twist peers`` known to Twisted."""

from twisted.application.service import ServiceMaker

peers = ServiceMaker(
    "peers",
    "peerproto.tap",
    "A peer in a mesh of HAProxies, holding their stick tables.",
    "peers",
)
