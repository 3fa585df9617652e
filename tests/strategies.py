"""What hypothesis draws: layouts, values, messages."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from peerproto.tables import row as stored
from peerproto.tables.declaration import Declaration
from peerproto.updates.writer import UpdateWriter
from peerproto.wire.codec import MAX_AGE, Values
from peerproto.wire.datatypes import DATA_TYPES, DataType, Frequency, Kind
from peerproto.wire.dictionary import SendingDictionary
from peerproto.wire.frames import FrameBuffer
from peerproto.wire.keys import FIXED_LENGTH, KeyType
from peerproto.wire.layout import Column, Layout
from peerproto.wire.messages import (
    Ack,
    Control,
    ErrorMessage,
    Mark,
    RelayedTable,
    TableDefinition,
    TableSwitch,
)

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)

ages = st.integers(0, MAX_AGE) | st.integers(0, 300) | st.sampled_from((2287, 264_431, 33_818_863))
"""Those that are sent in any number of bytes, and where an older one takes one more."""

VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.SIGNED: st.integers(-(2**31), 2**31 - 1),
    Kind.UNSIGNED32: uint32,
    Kind.UNSIGNED64: uint64,
    Kind.FREQUENCY: st.builds(Frequency, ages, uint32, uint32),
    # One with a NUL is cut when it is received, and refused when it is set.
    Kind.DICTIONARY: st.none()
    | st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=40),
}


@st.composite
def columns(draw: st.DrawFn, data_type: DataType) -> Column:
    elements = draw(st.integers(1, 5)) if data_type.array else None
    period = draw(st.integers(0, 2**31 - 1)) if data_type.kind is Kind.FREQUENCY else None
    return Column(data_type, elements, period)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    key_type = draw(st.sampled_from(KeyType))
    key_length = FIXED_LENGTH.get(key_type) or draw(st.integers(2, 64))
    data_types = draw(st.lists(st.sampled_from(DATA_TYPES), unique=True, max_size=8))
    data_types.sort(key=lambda data_type: data_type.bit)
    return Layout(key_type, key_length, tuple(draw(columns(one)) for one in data_types))


@st.composite
def values(draw: st.DrawFn, layout: Layout) -> Values:
    return tuple(
        draw(VALUES[column.data_type.kind])
        if column.elements is None
        else tuple(draw(VALUES[column.data_type.kind]) for _ in range(column.elements))
        for column in layout.columns
    )


def records(layout: Layout) -> st.SearchStrategy[bytes]:
    """As a peer may have sent them: an age may lie in the future, which is above `MAX_AGE`."""

    def young(record: Values) -> Values:
        return tuple(
            one._replace(age=0xFFFFFFFF) if isinstance(one, Frequency) else one for one in record
        )

    sent = values(layout) | values(layout).map(young)
    return sent.map(layout.codec.encode)


def raw_keys(layout: Layout) -> st.SearchStrategy[bytes]:
    if layout.key_type is KeyType.STRING:
        # One with a NUL is cut when it is stored.
        return st.binary(max_size=layout.key_length - 1).map(lambda raw: raw.replace(b"\0", b"0"))
    return st.binary(min_size=layout.key_length, max_size=layout.key_length)


names = st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=1, max_size=30)

definitions = st.builds(TableDefinition, uint64, names, layouts(), st.integers(0, 2**31 - 1))

messages = st.one_of(
    st.sampled_from(Control),
    st.sampled_from(ErrorMessage),
    definitions,
    st.builds(TableSwitch, uint64),
    st.builds(Ack, uint64, uint32),
    st.sampled_from(Mark),
    st.builds(RelayedTable, names, st.booleans()),
)


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes, cut anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)])]


def as_sent(layout: Layout, record: bytes, sending: SendingDictionary) -> bytes:
    """The values of an update for a record that has just come."""
    writer = UpdateWriter(Declaration("t", layout), sending, False)
    key = bytes(layout.fixed_key_length)
    writer.write([(key, stored.pack(0, 0) + key + record)], 0, bytes(4))
    (frame,) = FrameBuffer().feed(writer.take())
    return frame.payload[4 + (len(key) or 1) :]
