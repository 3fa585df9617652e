"""HAProxy's peers protocol for Twisted: stick tables, shared with a fleet of HAProxies."""

# The service
from peerproto.peering.limits import Limits

# Tables
from peerproto.service.batch import Batch
from peerproto.service.command import Command, CommandError
from peerproto.service.feed import Feed, FeedOverrun
from peerproto.service.filters import Filter, Network, Prefix
from peerproto.service.keeper import IKeeper
from peerproto.service.nodetime import NodeTime
from peerproto.service.observers import IObserver, Observer
from peerproto.service.part import Detail, IPart, Member, Metric, Part
from peerproto.service.portable import Portable, PortableTable
from peerproto.service.query import Cursor, Page, StaleCursor
from peerproto.service.service import StickTableService
from peerproto.service.status import Lag, NodeStatus, PeerStatus, TableStatus
from peerproto.service.sticktable import StickTable
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.record import Record
from peerproto.tables.snapshot import Kept, Snapshot
from peerproto.tables.store import TableFull
from peerproto.tables.storedrows import StoredRows
from peerproto.updates.stamping import UNSTAMPED

# The wire
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.errors import (
    LocalProtocolError,
    MalformedMessage,
    OversizedMessage,
    PeerError,
    RefusedHello,
    RemoteProtocolError,
)
from peerproto.wire.keys import Key, KeyType
from peerproto.wire.layout import Cell

__version__ = "0.2.0"

__all__ = [
    "UNSTAMPED",
    "Batch",
    "Cause",
    "Cell",
    "Command",
    "CommandError",
    "Cursor",
    "Declaration",
    "Detail",
    "Entry",
    "Feed",
    "FeedOverrun",
    "Filter",
    "Frequency",
    "IKeeper",
    "IObserver",
    "IPart",
    "Kept",
    "Key",
    "KeyType",
    "Kind",
    "Lag",
    "Limits",
    "LocalProtocolError",
    "MalformedMessage",
    "Member",
    "Metric",
    "Network",
    "NodeStatus",
    "NodeTime",
    "Observer",
    "OversizedMessage",
    "Page",
    "Part",
    "PeerError",
    "PeerStatus",
    "Portable",
    "PortableTable",
    "Prefix",
    "Record",
    "RefusedHello",
    "RemoteProtocolError",
    "Snapshot",
    "StaleCursor",
    "StickTable",
    "StickTableService",
    "StoredRows",
    "TableFull",
    "TableStatus",
    "__version__",
]
