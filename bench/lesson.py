"""A full resync as a HAProxy sends it, made up."""

from __future__ import annotations

import random
from collections.abc import Iterator

from peerproto.tables.declaration import Declaration
from peerproto.wire import varint
from peerproto.wire.messages import Control, EntryUpdate

TABLE = Declaration.parse(
    "rates", "type ip size 4m expire 1h store gpc0,conn_cnt,http_req_cnt,http_req_rate(10s)"
)

_UPDATES_AT_ONCE = 200
"""HAProxy starts again with an explicit id after so many updates."""


def lesson(entries: int, seed: int = 1) -> Iterator[bytes]:
    """The messages of a lesson of so many entries, ended by ``finished``."""
    chance = random.Random(seed)
    yield TABLE.definition(1).encode()
    for number in range(entries):
        counters = (chance.randrange(4), chance.randrange(300), chance.randrange(300))
        rate = (chance.randrange(20_000), chance.randrange(100), chance.randrange(100))
        values = b"".join(map(varint.encode, counters + rate))
        update_id = number + 1 if number % _UPDATES_AT_ONCE == 0 else None
        expiry = chance.randrange(1_800_000, 3_600_000)
        key = (0x0A000000 + number).to_bytes(4, "big")
        yield EntryUpdate(update_id, expiry, key, values).encode(TABLE.layout.key_type)
    yield Control.RESYNC_FINISHED.encode()
