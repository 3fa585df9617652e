"""What all sessions of this node share: tables, peers and the resync."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Optional, Union

import attrs
from twisted.internet.task import Cooperator
from twisted.logger import Logger

from peerproto.limits import Limits
from peerproto.peering.door import Door
from peerproto.peering.peer import Peer
from peerproto.peering.resync import Resync
from peerproto.tables.batch import Batch, Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.reception import disagreement
from peerproto.tables.table import Quota, StickTable
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import in_bit_order
from peerproto.wire.messages import Definition, RefusedDefinition, TableDefinition

if TYPE_CHECKING:
    from peerproto.peering.tls import Credentials


class Node:
    """This peer, as its sessions see it."""

    _log = Logger()

    def __init__(
        self,
        localpeer: str,
        resync: Resync,
        tables: Iterable[Declaration] = (),
        learn_tables: bool = True,
        limits: Optional[Limits] = None,
        tell: Optional[Callable[[Batch], None]] = None,
        wake_sessions: Optional[Callable[[], None]] = None,
    ) -> None:
        """``tell`` gets every batch of changes, one after the other;
        ``wake_sessions`` is called when sessions have something to send."""
        self.localpeer = localpeer
        self.resync = resync
        self.learn_tables = learn_tables
        self.limits = limits or Limits()
        self.door = Door(self.limits)
        self.credentials: Optional[Credentials] = None
        """With them, TLS is under all connections but those on UNIX sockets."""
        self.peers: dict[str, Peer] = {}
        self.tables: dict[str, StickTable] = {}
        self.tables_version = 0
        """Another one whenever other tables are shared."""
        self.removed: list[StickTable] = []
        """Tables that are shared no longer, until their memory is given back."""
        self.turns = Cooperator(scheduler=partial(resync.clock.callLater, 0))
        """Shares the reactor among sessions with much to send, a few ms a turn."""
        self._ids: dict[str, int] = {}
        self._quota = Quota(self.limits.entries)
        self._tell = tell
        self._wake_sessions = wake_sessions
        self._newer: dict[str, set[bytes]] = {}
        self._batches: deque[Batch] = deque()
        self._telling = False
        for declaration in tables:
            self.add_table(declaration)

    # -- tables ----------------------------------------------------------

    def add_table(self, declaration: Declaration) -> StickTable:
        """:raises LocalProtocolError: there is one of this name already."""
        if declaration.name in self.tables:
            raise LocalProtocolError("table", declaration.name, "a name that is not taken")
        table = self.tables[declaration.name] = StickTable(declaration, quota=self._quota)
        self._ids.setdefault(table.name, len(self._ids) + 1)
        self.tables_version += 1
        return table

    def remove_table(self, name: str) -> None:
        """Share this table no longer, if there is one; its number stays its own."""
        table = self.tables.pop(name, None)
        if table is not None:
            self.tables_version += 1
            table.clear()
            if table.discarding:
                self.removed.append(table)

    def table_for(self, definition: Definition, peer: Peer) -> Optional[StickTable]:
        """The table that a peer's updates belong to after this definition.

        A table that nobody here declared is adopted, with ``learn_tables``, and
        an adopted one follows what is defined later. ``None`` if the peer's
        table is not shared; the peer's `differences` and the log say why.
        """
        table = self._shared_table(definition, peer)
        if isinstance(table, str):
            self._note_difference(peer, definition.name, table)
            return None
        peer.differences.pop(definition.name, None)
        return table

    def _note_difference(self, peer: Peer, name: str, why: str) -> None:
        """Remember and log a reason once; of very many reasons, that there are more."""
        if name not in peer.differences and len(peer.differences) >= self.limits.tables_per_peer:
            name, why = "", "it defines more tables that are not shared"
        if peer.differences.get(name) != why:
            peer.differences[name] = why
            self._log.warn("peer {peer}: {why}", peer=peer.name, why=why)

    def _shared_table(self, definition: Definition, peer: Peer) -> Union[StickTable, str]:
        """The table, or in words why there is none."""
        name = definition.name
        if not name.isprintable() or " " in name:
            return f"table {name!r} cannot be shared: its name has characters that are not printed"
        if isinstance(definition, RefusedDefinition):
            return f"table {name} cannot be stored: {definition.why}"
        table = self.tables.get(name)
        if table is None:
            if not self.learn_tables:
                return f"table {name} is not declared here, and learn-tables is off"
            limit = self.limits.tables_per_peer
            if (
                sum(one.declaration.adopted_from == peer.name for one in self.tables.values())
                >= limit
            ):
                return f"table {name} is not adopted: {limit} of this peer's tables are already"
            try:
                declaration = Declaration.adopted(
                    definition, peer.name, self.limits.entries_per_table
                )
            except LocalProtocolError as problem:
                return f"table {name} cannot be adopted: {problem}"
            self._log.info("table {table} adopted from peer {peer}", table=name, peer=peer.name)
            return self.add_table(declaration)
        why = disagreement(table, definition.layout)
        if why is None and table.declaration.adopted_from is not None:
            self._follow(table, definition, peer)
        return why or table

    def _follow(self, table: StickTable, definition: TableDefinition, peer: Peer) -> None:
        """Take over what a later definition of an adopted table says.

        Every peer may add data types; the rest is for the one it was adopted from.
        """
        ours = table.declaration
        columns = {one.data_type: one for one in definition.layout.columns}
        expire = definition.expire or 0
        if peer.name == ours.adopted_from:
            columns = {one.data_type: one for one in ours.layout.columns} | columns
        else:
            columns |= {one.data_type: one for one in ours.layout.columns}
            expire = ours.expire
        layout = attrs.evolve(ours.layout, columns=in_bit_order(list(columns.values())))
        later = attrs.evolve(ours, layout=layout, expire=expire)
        if later != ours:
            table.redeclare(later)
            self._log.info(
                "table {table} follows a new definition by peer {peer}",
                table=table.name,
                peer=peer.name,
            )

    def local_id(self, table: StickTable) -> int:
        """The number under which we define a table to peers, from 1."""
        return self._ids[table.name]

    # -- changes ---------------------------------------------------------

    def changed(self, table: StickTable, keys: list[bytes], cause: Cause, now: int) -> None:
        """Tell observers, and let sessions send what was changed here."""
        if cause is Cause.SET:
            self.note_newer(table, keys)
            if self._wake_sessions is not None:
                self._wake_sessions()
        self.announce([Batch(table, cause, keys, now)], now)

    def note_newer(self, table: StickTable, keys: Iterable[bytes]) -> None:
        """While an old process has yet to teach us: what changed is newer than what it knows."""
        if self.resync.taking_over:
            self._newer.setdefault(table.name, set()).update(keys)
        elif self._newer:
            self._newer.clear()

    def newer_than_old(self, table: StickTable) -> set[bytes]:
        """The keys that the old process is not to overwrite."""
        return self._newer.get(table.name, set())

    def announce(self, batches: list[Batch], now: int) -> None:
        """Tell observers, one batch after the other, even if they cause new ones."""
        for batch in batches:
            if batch.raw_keys:
                self._batches.append(batch)
            trashed = batch.table.take_trashed()
            if trashed:
                self._batches.append(Batch(batch.table, Cause.TRASHED, trashed, now))
        if self._telling or not self._batches:
            return
        self._telling = True
        try:
            while self._batches:
                batch = self._batches.popleft()
                if self._tell is not None:
                    self._tell(batch)
        finally:
            self._telling = False
