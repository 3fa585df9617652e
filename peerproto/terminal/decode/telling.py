"""Messages to words and fields: tables, keys and values by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Optional

from peerproto.service.text import format_key
from peerproto.tables.rates import rate
from peerproto.terminal.decode.texts import Said
from peerproto.terminal.decode.told import Told, counted, some, word
from peerproto.wire.codec import MAX_AGE
from peerproto.wire.datatypes import Frequency, Kind
from peerproto.wire.frames import (
    INCREMENTAL_TIMED_UPDATE,
    INCREMENTAL_UPDATE,
    TIMED_UPDATE,
    UPDATE,
    Frame,
)
from peerproto.wire.layout import Cell, Column, Layout
from peerproto.wire.messages import Control, ErrorMessage, Mark, RelayedTable, TableDefinition

UPDATE_KINDS: Final = {
    UPDATE: "update",
    INCREMENTAL_UPDATE: "incremental-update",
    TIMED_UPDATE: "timed-update",
    INCREMENTAL_TIMED_UPDATE: "incremental-timed-update",
}

_CONTROLS: Final = {
    Control.RESYNC_REQUEST: ("resync-request", "teach me all that you have"),
    Control.RESYNC_FINISHED: ("resync-finished", "the lesson is over, and I am up to date"),
    Control.RESYNC_PARTIAL: ("resync-partial", "the lesson is over, and I may have missed some"),
    Control.RESYNC_CONFIRM: ("resync-confirm", "I have heard that your lesson is over"),
    Control.HEARTBEAT: ("heartbeat", "I am alive"),
    ErrorMessage.PROTOCOL: ("error", "protocol error: a message of yours was malformed"),
    ErrorMessage.SIZE_LIMIT: ("error", "size limit: a message of yours was too long"),
    Mark.TIES: ("peerproto", "I am a peerproto, and settle ties by names"),
}


def control(offset: int, message: Control | ErrorMessage | Mark) -> Told:
    """A message of two bytes."""
    kind, text = _CONTROLS[message]
    fields = {"error": message.name.lower()} if isinstance(message, ErrorMessage) else {}
    return Told(offset, kind, text, fields)


def relayed(offset: int, message: RelayedTable) -> Told:
    """A peerproto's word about what it passes on."""
    what = "pass on to others" if message.is_relayed else "do not pass on"
    fields = {"table": word(message.name), "relayed": message.is_relayed}
    return Told(
        offset, "peerproto", f"I {what} what I am told of table {word(message.name)}", fields
    )


def unknown(offset: int, frame: Frame) -> Told:
    """A message that only others know."""
    fields = {
        "class": frame.message_class,
        "type": frame.message_type,
        "payload": frame.payload[:256].hex(),
    }
    if frame.message_type < 128:
        payload = "without a payload"
    else:
        size = counted(len(frame.payload), "byte")
        payload = f"with {size}: {some(frame.payload)}" if frame.payload else f"with {size}"
    text = f"class {frame.message_class}, type {frame.message_type:#04x} {payload}"
    return Told(offset, "unknown", f"{text}; a peer skips what it does not know", fields)


# -- definitions ----------------------------------------------------------------


def definition(offset: int, message: TableDefinition) -> Told:
    """A definition, and what may be asked about it."""
    layout = message.layout
    expire = {None: "", 0: " expire never"}.get(message.expire, f" expire {message.expire}ms")
    store = ",".join(map(_column, layout.columns))
    store = f" store {store}" if store else " store nothing"
    bits = ", ".join(map(str, message.unknown_bits))
    more = f" (and data types that are not known: bits {bits})" if bits else ""
    text = (
        f"table {word(message.name)} id {message.id} type {layout.key_type.word}"
        f" (key length {layout.key_length}){expire}{store}{more}"
    )
    fields = {
        "table": word(message.name),
        "table_id": message.id,
        "key_type": layout.key_type.word,
        "key_length": layout.key_length,
        "expire_ms": message.expire,
        "columns": [
            {"name": one.name, "elements": one.elements, "period_ms": one.period}
            for one in layout.columns
        ],
        "unknown_bits": list(message.unknown_bits),
    }
    return Told(offset, "definition", text, fields)


def _column(column: Column) -> str:
    numbers = [] if column.elements is None else [str(column.elements)]
    if column.period is not None:
        numbers.append(f"{column.period}ms")
    return column.name + (f"({','.join(numbers)})" if numbers else "")


# -- updates ----------------------------------------------------------------------


def update(
    offset: int,
    frame: Frame,
    table: TableDefinition,
    update_id: Optional[int],
    expiry: Optional[int],
    key: bytes,
    record: bytes,
    said: Sequence[Said],
) -> Told:
    """An entry; ``update_id`` is ``None`` if it is one more than one that is not known."""
    layout = table.layout
    name = word(table.name)
    shown = format_key(key, layout.key_type)
    values: dict[str, Any] = {}
    words = [name, f"id={'?' if update_id is None else update_id}"]
    if expiry is not None:
        words.append(f"expires_in={expiry}ms")
    words.append(f"key={shown}")
    for text, cell, value in _cells(layout, record, said):
        words.append(text)
        values[cell.name] = value
    fields = {
        "table": name,
        "update_id": update_id,
        "expiry_ms": expiry,
        "key": shown,
        "values": values,
    }
    return Told(offset, UPDATE_KINDS[frame.message_type], " ".join(words), fields)


def _cells(
    layout: Layout, record: bytes, said: Sequence[Said]
) -> list[tuple[str, Cell, dict[str, Any] | int | None]]:
    decoded = layout.codec.decode(record, 0)
    told: list[tuple[str, Cell, dict[str, Any] | int | None]] = []
    texts = iter(said)
    for cell in layout.printed:
        value = decoded[cell.place]
        if cell.index is not None:
            value = value[cell.index]
        kind = cell.column.data_type.kind
        if kind is Kind.DICTIONARY:
            told.append(_text(cell, value, next(texts)))
        elif kind is Kind.FREQUENCY:
            told.append(_frequency(cell, value))
        else:
            told.append((f"{cell.name}={value}", cell, value))
    return told


def _frequency(cell: Cell, value: Frequency) -> tuple[str, Cell, dict[str, Any]]:
    period = cell.column.period
    events = None if period is None else rate(value, period)
    fields = {"rate": events, "period_ms": period, **value._asdict()}
    fields["age_ms"] = fields.pop("age")
    age = f"{value.age}ms" if value.age < MAX_AGE else "24d or more"
    name = cell.name if period is None else f"{cell.name}({period})"
    shown = "?" if events is None else events
    return f"{name}={shown}[{value.current} for {age}, {value.previous} before]", cell, fields


def _text(cell: Cell, value: Optional[str], said: Said) -> tuple[str, Cell, dict[str, Any]]:
    fields: dict[str, Any] = {
        "text": None,
        "text_id": said.id or None,
        "first": said.is_new,
    }
    if not said.id:
        return f"{cell.name}=-[nothing said]", cell, fields
    if said.is_new and not said.is_known:
        return f"{cell.name}=?[text {said.id}, which is too long to be taken]", cell, fields
    if not said.is_known:
        return f"{cell.name}=?[text {said.id}, which was not sent before]", cell, fields
    fields["text"] = word(value or "")
    how = "text" if said.is_new else "again text"
    return f"{cell.name}={word(value or '')}[{how} {said.id}]", cell, fields
