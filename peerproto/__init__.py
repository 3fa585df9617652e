"""HAProxy's peers protocol for Twisted: stick tables, shared with a fleet of HAProxies."""

# The service
from peerproto.interfaces import ITableObserver
from peerproto.limits import Limits
from peerproto.service import StickTableService
from peerproto.sharedtable import SharedStickTable

# Tables
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.table import TableFull

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

__version__ = "0.1.0"

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
    "SharedStickTable",
    "StickTableService",
    "TableFull",
    "__version__",
]
