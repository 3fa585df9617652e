"""What definitions cost: changed columns travel under definitions with just these columns."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import combinations, islice

import attrs

from bench.peering import begin, make_node, receive
from peerproto.tables.declaration import Declaration
from peerproto.wire.layout import Column
from peerproto.wire.messages import EntryUpdate

WIDE = Declaration.parse(
    "wide",
    "type ip size 4m expire 1h store server_id,gpt0,gpc0,gpc0_rate(10s),conn_cnt,conn_rate(10s),"
    "sess_cnt,sess_rate(10s),http_req_cnt,http_req_rate(10s),http_err_cnt,http_err_rate(10s),"
    "bytes_in_cnt,bytes_out_cnt,gpc1,gpc1_rate(10s)",
)

_KEY = bytes(4)

_AT_ONCE = 200
"""Definitions in a read."""


def definitions() -> dict[str, float]:
    """Microseconds of the processor for a definition and an update by it of one wide entry."""
    some = [subset for count in (3, 4, 5) for subset in combinations(WIDE.layout.columns, count)]
    random.Random(1).shuffle(some)
    one, other = some[:2]
    return {
        "same_us": _each_us([_changed(one)] * 2000),
        "known_us": _each_us([_changed(one), _changed(other)] * 1000),
        "new_us": _each_us([_changed(subset) for subset in islice(some, 2000)]),
    }


def _changed(columns: Sequence[Column]) -> bytes:
    """A definition with some columns, and an update that has them."""
    layout = attrs.evolve(WIDE.layout, columns=tuple(columns))
    record = layout.codec.encode(layout.codec.blank())
    one = EntryUpdate(None, None, _KEY, record).encode(layout.key_type)
    return attrs.evolve(WIDE, layout=layout).definition(1).encode() + one


def _each_us(changes: list[bytes]) -> float:
    """Microseconds of the processor that a session takes for each."""
    session = begin(make_node([WIDE]))
    receive(session, _changed(WIDE.layout.columns))
    began = time.process_time()
    for start in range(0, len(changes), _AT_ONCE):
        receive(session, b"".join(changes[start : start + _AT_ONCE]))
        while session.unread:
            session.read_on(0)
    seconds = time.process_time() - began
    assert session.peer.counters.rx_updates == len(changes) + 1, session.ended_by
    return seconds / len(changes) * 1e6
