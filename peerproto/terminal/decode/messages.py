"""The messages of one direction: which table each update is for, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Optional, Protocol

import attrs

from peerproto.terminal.decode import telling
from peerproto.terminal.decode.texts import HeardTexts, drop_unused
from peerproto.terminal.decode.told import BREAKS, ODD, Told, counted, remark, some, word
from peerproto.wire import varint
from peerproto.wire.errors import MalformedMessage, OversizedMessage, RemoteProtocolError
from peerproto.wire.frames import (
    ACK,
    DEFINITION,
    INCREMENTAL_TIMED_UPDATE,
    STICK_TABLE,
    SWITCH,
    TIMED_UPDATE,
    UPDATE,
    Frame,
    FrameBuffer,
)
from peerproto.wire.keys import KeyType
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Definition,
    ErrorMessage,
    RefusedDefinition,
    RelayedTable,
    TableDefinition,
    TableSwitch,
    read_message,
    read_update,
)
from peerproto.wire.printable import printable

_KINDS: Final = {**telling.UPDATE_KINDS, DEFINITION: "definition", SWITCH: "switch", ACK: "ack"}

TABLES: Final = 10_000
"""Definitions that are remembered, by their ids; of more, the oldest is forgotten."""


class Speaker(Protocol):
    """One side of a connection, as far as its messages depend on it."""

    other_waits: bool
    """Whether bytes of the other side have come that cannot be read yet."""

    @property
    def minor(self) -> Optional[int]:
        """The minor version that it has said in a hello."""

    @property
    def heard_from(self) -> Optional[Speaker]:
        """The other side, if it is known."""

    @property
    def messages(self) -> Messages:
        """What it has said since the session began."""


@attrs.define
class _Table:
    definition: Definition
    last_id: Optional[int] = None
    """Of its updates; ``None`` if it is not known."""
    ids_begin: bool = False
    """Whether an update since the definition had its id."""


class Messages:
    """What one side has said since the session began."""

    def __init__(self, longest: int) -> None:
        """``longest`` is the most bytes that a payload has."""
        self._longest = longest
        self._frames = FrameBuffer(longest)
        self._texts = HeardTexts()
        self._tables: dict[int, _Table] = {}
        self._current: Optional[_Table] = None
        self._all_known = True
        """Whether nothing is missing that may have defined tables."""
        self.offset = 0
        """Where the next message begins."""
        self.over = ""
        """Why nothing more can be read, in words."""
        self._error_at: Optional[int] = None

    def start(self, offset: int) -> None:
        """Messages begin at this byte of the direction."""
        self.offset = offset

    def forget(self) -> None:
        """Bytes are missing: a definition, a text or an update id may be among them."""
        self._all_known = False
        self._current = None
        self._texts.forget()
        for table in self._tables.values():
            table.last_id = None

    def rest(self) -> bytes:
        """The bytes of a message that is not complete."""
        return self._frames.rest()

    def drop(self) -> None:
        """Forget the bytes of a message that is not complete."""
        self._frames = FrameBuffer(self._longest)

    def table(self, table_id: int) -> Optional[Definition]:
        """What was defined last under an id."""
        table = self._tables.get(table_id)
        return None if table is None else table.definition

    def last_id(self, table_id: int) -> Optional[int]:
        """The id of the last update of a table, if it is known."""
        table = self._tables.get(table_id)
        return None if table is None else table.last_id

    @property
    def all_known(self) -> bool:
        """Whether all that this side has said is in the recording."""
        return self._all_known

    def receive(self, data: bytes, speaker: Speaker) -> Iterator[Told]:
        """Take bytes: each message that is complete."""
        if not self._frames.add(data):
            return
        before = len(self._frames)
        while True:
            try:
                frame = self._frames.next()
            except (OversizedMessage, MalformedMessage) as problem:
                yield self._breaks(problem, _after(problem))
                self.over = "where the next message begins cannot be known"
                return
            if frame is None:
                return
            yield from self._take(frame, speaker)
            left = len(self._frames)
            self.offset += before - left
            before = left

    def unfinished(self) -> Optional[tuple[str, str, str]]:
        """What, read and expected of a message that is not complete; ``None`` if there is none."""
        rest = self.rest()
        if not rest:
            return None
        if len(rest) < 2:
            return "a message", f"{some(rest)}, the first byte of its head", "its type"
        kind = f"class {rest[0]}, type {rest[1]:#04x}"
        if rest[0] == STICK_TABLE and rest[1] in _KINDS:
            kind = f"{kind} ({_KINDS[rest[1]]})"
        try:
            length, begin = varint.decode(rest, 2)
        except MalformedMessage:
            return "a message", kind, "the length of its payload"
        return "a message", f"{kind}, {len(rest) - begin} bytes of payload", f"{length}"

    # -- messages --------------------------------------------------------

    def _take(self, frame: Frame, speaker: Speaker) -> Iterator[Told]:
        if self._error_at is not None:
            yield Told(
                self.offset,
                ODD,
                f"a message after the error at byte {self._error_at}: its sender closes then",
            )
            self._error_at = None
        try:
            if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
                yield from self._update(frame, speaker)
            else:
                yield from self._other(frame, speaker)
        except RemoteProtocolError as problem:
            yield self._breaks(problem, _kind(frame))

    def _other(self, frame: Frame, speaker: Speaker) -> Iterator[Told]:
        at = self.offset
        message = read_message(frame)
        if message is None:
            yield telling.unknown(at, frame)
        elif isinstance(message, (TableDefinition, RefusedDefinition)):
            yield from self._define(message)
        elif isinstance(message, TableSwitch):
            yield from self._switch(message.id)
        elif isinstance(message, Ack):
            yield from self._ack(message, speaker)
        elif isinstance(message, RelayedTable):
            yield telling.relayed(at, message)
        else:
            yield telling.control(at, message)
            if isinstance(message, ErrorMessage):
                self._error_at = at

    def _define(self, message: Definition) -> Iterator[Told]:
        at = self.offset
        # The same once more, when the sender goes on with the table: its ids go on, too.
        before = self._tables.pop(message.id, None)
        same = before is not None and before.definition.name == message.name
        table = _Table(message, before.last_id if before is not None and same else None)
        self._tables[message.id] = self._current = table
        if len(self._tables) > TABLES:
            del self._tables[next(iter(self._tables))]
        if isinstance(message, TableDefinition):
            yield telling.definition(at, message)
            return
        fields = {
            "table": word(message.name),
            "table_id": message.id,
            "why": printable(message.why),
        }
        text = f"table {word(message.name)} id {message.id}, which no table can be made of"
        yield Told(at, "definition", f"{text}: {printable(message.why)}", fields)

    def _switch(self, table_id: int) -> Iterator[Told]:
        table = self._tables.get(table_id)
        self._current = table
        if table is not None:
            name = word(table.definition.name)
            fields = {"table": name, "table_id": table_id}
            yield Told(self.offset, "switch", f"to table {name} id {table_id}", fields)
            table.ids_begin = False
            return
        yield Told(self.offset, "switch", f"to table id {table_id}", {"table_id": table_id})
        if self._all_known:
            expected = "the id of a definition before: updates are skipped"
            yield remark(ODD, self.offset, "table id of a switch", str(table_id), expected)

    def _ack(self, message: Ack, speaker: Speaker) -> Iterator[Told]:
        at, table_id, other = self.offset, message.table_id, speaker.heard_from
        fields: dict[str, object] = {"table_id": table_id, "update_id": message.update_id}
        theirs = None if other is None else other.messages
        table = None if theirs is None else theirs.table(table_id)
        name = f"table id {table_id}"
        if table is not None:
            fields |= {"table": word(table.name)}
            name = f"{word(table.name)} (id {table_id})"
        yield Told(at, "ack", f"updates of {name} were taken up to {message.update_id}", fields)
        if theirs is None or not theirs.all_known or speaker.other_waits:
            return
        if table is None:
            expected = "the id of a table that the other side has defined"
            yield remark(ODD, at, "table id of an ack", str(table_id), expected)
            return
        last = theirs.last_id(table_id)
        if last is not None and (message.update_id - last) & 0xFFFFFFFF in range(1, 0x80000000):
            expected = f"{last} at most, the id of the last update"
            yield remark(ODD, at, "update id of an ack", str(message.update_id), expected)

    # -- updates ---------------------------------------------------------

    def _update(self, frame: Frame, speaker: Speaker) -> Iterator[Told]:
        at, table = self.offset, self._current
        definition = None if table is None else table.definition
        if table is None or not isinstance(definition, TableDefinition):
            yield self._unread(frame, definition)
            return
        texts = self._texts
        texts.said.clear()
        layout = definition.layout
        update_id, expiry, key, record, _ = read_update(
            frame.message_type, frame.payload, layout, texts
        )
        with_id = update_id is not None
        if update_id is None and table.last_id is not None:
            update_id = table.last_id + 1 & 0xFFFFFFFF
        yield telling.update(
            at, frame, definition, update_id, expiry, key, record, list(texts.said)
        )
        drop_unused()
        yield from self._odd(table, with_id, update_id, expiry, key, speaker)
        table.last_id = update_id
        table.ids_begin = table.ids_begin or with_id

    def _odd(
        self,
        table: _Table,
        with_id: bool,
        update_id: Optional[int],
        expiry: Optional[int],
        key: bytes,
        speaker: Speaker,
    ) -> Iterator[Told]:
        at = self.offset
        definition = table.definition
        assert isinstance(definition, TableDefinition)
        if not with_id and not table.ids_begin and self._all_known:
            expected = "an id: the first update after a definition has one"
            yield remark(ODD, at, "update id", "none", expected)
        if definition.layout.key_type is KeyType.STRING and b"\0" in key:
            expected = "a string without it: HAProxy 3.0 to 3.5-dev3 crashes"
            yield remark(ODD, at, "key", "a NUL in it", expected)
        limit = definition.expire
        if expiry is not None and limit is not None and expiry > limit:
            expected = f"{limit} ms at most, the expire of the table"
            yield remark(ODD, at, "expiry", f"{expiry} ms", expected)
        other = speaker.heard_from
        minors = [speaker.minor, other.minor if other else None]
        if expiry is not None and 0 in minors:
            expected = "an untimed update: the session speaks 2.0"
            yield remark(ODD, at, "update", "a timed one", expected)

    def _unread(self, frame: Frame, definition: Optional[Definition]) -> Told:
        """An update of a table of which nobody knows what is in it."""
        at, payload = self.offset, frame.payload
        fields: dict[str, object] = {"table": None, "payload": payload[:256].hex()}
        words = []
        begin = 0
        if frame.message_type in (UPDATE, TIMED_UPDATE) and len(payload) >= 4:
            fields["update_id"] = int.from_bytes(payload[:4], "big")
            words.append(f"id={fields['update_id']}")
            begin = 4
        timed = frame.message_type in (TIMED_UPDATE, INCREMENTAL_TIMED_UPDATE)
        if timed and len(payload) >= begin + 4:
            fields["expiry_ms"] = int.from_bytes(payload[begin : begin + 4], "big")
            words.append(f"expires_in={fields['expiry_ms']}ms")
            begin += 4
        if definition is not None:
            fields["table"] = word(definition.name)
            why = f"of table {word(definition.name)}, which no table can be made of"
        else:
            why = "before any definition" if self._all_known else "of a table that is not known"
        rest = f"{why}: a peer skips it; {counted(len(payload) - begin, 'byte')}"
        text = " ".join([*words, f"{rest}: {some(payload[begin:])}"])
        return Told(at, telling.UPDATE_KINDS[frame.message_type], text, fields)

    def _breaks(self, problem: RemoteProtocolError, what: str) -> Told:
        read = problem.read
        shown = some(read) if isinstance(read, bytes) else printable(str(read))
        expected = printable(problem.expected)
        return remark(BREAKS, self.offset, f"{what}{printable(problem.what)}", shown, expected)


def _kind(frame: Frame) -> str:
    """Where something is wrong: the offsets in what follows are those of the payload."""
    return f"payload of a message ({_KINDS.get(frame.message_type, 'unknown')}): "


def _after(problem: RemoteProtocolError) -> str:
    return "" if isinstance(problem, OversizedMessage) else "head of a message: "
