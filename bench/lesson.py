"""Full resyncs as a HAProxy sends them, made up."""

from __future__ import annotations

import random
from collections.abc import Iterator

from peerproto.tables.declaration import Declaration
from peerproto.wire import varint
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.messages import Control, EntryUpdate

LINES = {
    "rates": "type ip size 4m expire 1h store gpc0,conn_cnt,http_req_cnt,http_req_rate(10s)",
    "mixed": "type string len 32 size 4m expire 1h store server_key,gpc_rate(2,10s)",
}
"""What follows ``stick-table``: addresses with counters, and names with a server each."""

TABLES = {name: Declaration.parse(name, line) for name, line in LINES.items()}

TABLE = TABLES["rates"]

_UPDATES_AT_ONCE = 200
"""HAProxy starts again with an explicit id after so many updates."""

_SERVERS = [f"web{number:02}" for number in range(40)]


def scattered(number: int) -> int:
    """A number of 32 bits for each, in no order: visitors come from everywhere."""
    return number * 0x9E3779B1 & 0xFFFFFFFF


def _rates(number: int, chance: random.Random, _: SendingDictionary) -> tuple[bytes, bytes]:
    counters = (chance.randrange(4), chance.randrange(300), chance.randrange(300))
    rate = (chance.randrange(20_000), chance.randrange(100), chance.randrange(100))
    values = b"".join(map(varint.encode, counters + rate))
    return number.to_bytes(4, "big"), values


def _mixed(number: int, chance: random.Random, cache: SendingDictionary) -> tuple[bytes, bytes]:
    server = chance.choice(_SERVERS).encode()
    rates = [varint.encode(chance.randrange(most)) for _ in range(2) for most in (20_000, 100, 100)]
    return b"visitor-%08x" % number, cache.write(server) + b"".join(rates)


_ENTRIES = {"rates": _rates, "mixed": _mixed}


def lesson(
    entries: int, name: str = "rates", seed: int = 1, ascending: bool = False
) -> Iterator[bytes]:
    """The messages of a lesson of so many entries of a table, ended by ``finished``.

    Keys are `scattered` unless they are ``ascending``.
    """
    chance = random.Random(seed)
    cache = SendingDictionary()
    table = TABLES[name]
    yield table.definition(1).encode()
    for number in range(entries):
        key, values = _ENTRIES[name](number if ascending else scattered(number), chance, cache)
        update_id = number + 1 if number % _UPDATES_AT_ONCE == 0 else None
        expiry = chance.randrange(1_800_000, 3_600_000)
        yield EntryUpdate(update_id, expiry, key, values).encode(table.layout.key_type)
    yield Control.RESYNC_FINISHED.encode()
