"""What may be wrong with a file that keeps tables."""

from __future__ import annotations

from peerproto import LocalProtocolError


class StorageError(LocalProtocolError):
    """The file is not to be used: another process has it, another program or a newer peerproto
    has made it, or it cannot be there. Nothing in it is changed."""


class Unavailable(Exception):
    """The store cannot be used now, perhaps later; the text says why."""


class HeldElsewhere(Unavailable):
    """Another process writes under the name of this node."""
