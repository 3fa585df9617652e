"""What a hostile network may cost at most."""

from __future__ import annotations

import attrs

from peerproto.wire.frames import MAX_PAYLOAD
from peerproto.wire.handshake import MAX_LINE


@attrs.frozen
class Limits:
    """Each with a default that a mesh of 50 HAProxies is far from."""

    handshakes: int = 200
    """Connections that have not finished their handshake, at one time."""
    connections_per_address: int = 100
    """Connections from one IP address, at one time."""
    line_length: int = MAX_LINE
    """Bytes of a line in a handshake."""
    message_length: int = MAX_PAYLOAD
    """Bytes of a message's payload; HAProxy sends 16384 at most."""
    tables_per_peer: int = 200
    """Tables that are adopted from one peer."""
    entries_per_table: int = 4 << 20
    """Entries of a table that is adopted: definitions do not tell a size."""
    entries: int = 16 << 20
    """Entries of all tables together: beyond, each table is as if it were full."""
    runtime_clients: int = 100
    """Connections to the runtime socket, at one time."""
