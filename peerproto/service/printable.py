"""Texts that any screen and any format can take: see `peerproto.wire.printable`."""

from peerproto.wire.printable import printable

__all__ = ["printable"]
