"""HAProxy's peers protocol for Twisted: stick tables, shared with a fleet of HAProxies."""

# The service
from peerproto.peering.limits import Limits

# Tables
from peerproto.service.batch import Batch
from peerproto.service.observers import ITableObserver
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.store import TableFull

# The wire
from peerproto.wire.datatypes import Frequency
from peerproto.wire.errors import (
    LocalProtocolError,
    MalformedMessage,
    OversizedMessage,
    PeerError,
    RefusedHello,
    RemoteProtocolError,
)
from peerproto.wire.keys import Key, KeyType

__version__ = "0.2.0"

__all__ = [
    "Batch",
    "Cause",
    "Declaration",
    "Entry",
    "Frequency",
    "ITableObserver",
    "Key",
    "KeyType",
    "Limits",
    "LocalProtocolError",
    "MalformedMessage",
    "OversizedMessage",
    "PeerError",
    "RefusedHello",
    "RemoteProtocolError",
    "StickTable",
    "StickTableService",
    "TableFull",
    "__version__",
]
