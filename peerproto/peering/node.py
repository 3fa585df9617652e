"""The node: its peers and their sessions, its tables, and the resync. No I/O.

What happens on a connection is told here: a session that begins (`Node.begin`), its events
(`Node.took`), its end (`Node.ended`). The node acts on that, below itself; what is for
others to know, it returns. After each of these, sessions may have something to send.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Optional

import attrs

from peerproto.peering.adoption import Adoption
from peerproto.peering.boundedlog import BoundedLog, Log
from peerproto.peering.directory import TableDirectory
from peerproto.peering.events import (
    AckedLate,
    Echoed,
    Event,
    Learnt,
    LessonOver,
    Moved,
    Overwritten,
    TableShared,
    TaughtInPart,
    TieLost,
    TieSettled,
)
from peerproto.peering.limits import Limits
from peerproto.peering.meanwhile import ChangedMeanwhile
from peerproto.peering.memory import PeerMemory
from peerproto.peering.peertables import PeerTables
from peerproto.peering.reasons import Lack, Reason
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.peering.sharing import Sharing
from peerproto.tables.changes import Changes
from peerproto.tables.columns import beyond
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.reception import disagreement
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.handshake import check_name
from peerproto.wire.layout import Column
from peerproto.wire.printable import printable


@attrs.frozen(eq=False)
class Spared:
    """Some peers whom a change is not for: they have it."""

    peers: frozenset[PeerMemory]

    def spares(self, peer: object) -> bool:
        """Whether a peer is one of them."""
        return peer in self.peers


class Node:
    """This peer, without its connections."""

    def __init__(
        self,
        localpeer: str,
        log: Log,
        tables: Iterable[Declaration] = (),
        *,
        learn_tables: bool = True,
        learn_columns: bool = True,
        limits: Optional[Limits] = None,
        chance: Optional[random.Random] = None,
    ) -> None:
        """``chance`` is for the choices that are random.

        :raises LocalProtocolError: no hello can have our name.
        """
        self.localpeer = check_name(localpeer)
        self.limits = limits or Limits()
        self._log = log
        self.peers: dict[str, PeerMemory] = {}
        """By name, the local peer included."""
        self.sessions: dict[PeerMemory, Session] = {}
        self.tables = TableDirectory(self.limits, log, tables)
        self.adoption = Adoption(
            localpeer, self.tables, self.limits, self.peers, learn_tables, learn_columns
        )
        self.resync = Resync(log, chance, self._must_be_heard)
        self.meanwhile = ChangedMeanwhile()
        self.local = self._remember(localpeer, local=True)
        """Our old or new process."""

    # -- peers -----------------------------------------------------------

    def _remember(self, name: str, local: bool = False) -> PeerMemory:
        log = BoundedLog(f"peer {printable(name)}", self._log)
        peer = self.peers[name] = PeerMemory(name, log, local)
        return peer

    def expect(self, name: str, now: int) -> PeerMemory:
        """The peer of this name, whether it is known or new; ``now`` in ms.

        :raises LocalProtocolError: the name is our own, or no hello can have it.
        """
        if check_name(name) == self.localpeer:
            raise LocalProtocolError("name of a peer", name, "another name than our own")
        peer = self.peers.get(name)
        if peer is None:
            peer = self._remember(name)
            self.tables.add_peer(name)
            self.resync.peer_added(peer, now)
        return peer

    def forget(self, peer: PeerMemory, now: int) -> None:
        """A peer is none any more; its session is over by then. ``now`` in ms."""
        del self.peers[peer.name]
        self.tables.remove_peer(peer.name)
        self.resync.peer_removed(peer, now)
        self._look_ahead()

    def _must_be_heard(self) -> list[PeerMemory]:
        """The peers of which each has something that no other one has."""
        if not self.tables.per_peer:
            return []
        return [peer for peer in self.peers.values() if not peer.local]

    def tables_of(self, peer: PeerMemory) -> PeerTables:
        """The tables as a peer knows them."""
        return self.adoption.tables_of(peer)

    def out_of_step(self, peer: PeerMemory) -> list[Reason]:
        """Every reason why a peer and this node do not have the same, in words."""
        session = self.sessions.get(peer)
        if session is None:
            return [Reason(Lack.NOT_CONNECTED, peer.trouble or "not connected yet")]
        reasons = session.out_of_step()
        if self.resync.owes(peer) and not session.gives_lesson:
            why = "it did not come to the end of the lesson that it was asked for"
            reasons.append(Reason(Lack.LESSON_OPEN, why))
        return reasons

    # -- sessions --------------------------------------------------------

    def begin(
        self, peer: PeerMemory, minor: int, now: int, process: Optional[int] = None
    ) -> Session:
        """A handshake succeeded: the session, of version 2.``minor``; ``now`` in ms, ``process`` as
        `Session` has it."""
        peer.trouble = None
        session = Session(peer, minor, now, self.adoption, self.meanwhile, self.resync, process)
        self.sessions[peer] = session
        peer.log.info(
            now,
            "session with peer {peer} established, version 2.{minor}",
            peer=peer.shown,
            minor=minor,
        )
        return session

    def connected(self, session: Session, now: int) -> None:
        """A session is there to learn from; not so that with a new process that we teach."""
        self.resync.connected(session, now)

    def took(self, session: Session, event: Event, now: int) -> list[Changes]:
        """Act on an event of a session: what observers are to be told.

        What was learnt is to be told before others are acted on: it is stored by then.
        """
        if isinstance(event, Learnt):
            return event.batches
        if isinstance(event, TableShared):
            self._tell_relayed()
            if not event.in_lesson:
                self.resync.newly_shared(session, event.table)
        elif isinstance(event, LessonOver):
            if event.finished and not (session.peer.local and self._differs(session)):
                self.resync.finished(session, now)
            else:
                self.resync.partial(session, now)
        elif isinstance(event, TaughtInPart):
            self.resync.taught_in_part(session)
        elif isinstance(event, (TieLost, Echoed)):
            if self.tables.shares(event.table):
                event.table.change_again(event.changes, now)
        elif isinstance(event, TieSettled):
            spared = () if session.over else (session.peer,)
            self._repeat_changes(event.table, event.changes, spared, now)
        elif isinstance(event, AckedLate):
            if not self.adoption.passes_on(session.peer, event.table):
                self._repeat_late_changes(event.table, event.changes, (session.peer,), now)
        elif isinstance(event, Overwritten):
            self._overwritten(event, session.peer, now)
        elif isinstance(event, Moved):
            pass
        else:
            return self._begun_anew(event.table, session, now)
        self._look_ahead()
        return []

    def _differs(self, session: Session) -> bool:
        """Whether an old process shares something otherwise than this one, which is not learnt from
        it then; a table that is learnt from nobody need not be here yet."""
        return any(self.tables.sharing(name).learn for name in session.differences)

    def _begun_anew(self, table: TableStore, origin: Session, now: int) -> list[Changes]:
        """A table has begun anew on a peer's word: the others may still have the one before, and
        know ours as that one, as this peer may, too."""
        origin.announce(table)
        batches: list[Changes] = []
        for session in list(self.sessions.values()):
            if session is not origin:
                batches += self._all_took(session, session.look_again((table,), now), now)
        return batches

    def _all_took(self, session: Session, events: Sequence[Event], now: int) -> list[Changes]:
        return [batch for event in events for batch in self.took(session, event, now)]

    def ended(self, session: Session, why: str, now: int) -> list[Changes]:
        """A session is over, for the reason in words: what observers are to be told."""
        peer = session.peer
        batches = self._all_took(session, session.happened(), now)
        peer.log.warn(now, "session with peer {peer} ended: {why}", peer=peer.shown, why=why)
        if self.sessions.get(peer) is session:
            del self.sessions[peer]
            peer.trouble = why
        self.resync.disconnected(session, now)
        self._look_ahead()
        return batches

    # -- the resync ------------------------------------------------------

    def start(self, now: int, expect_old: bool = False) -> None:
        """Begin to learn: with ``expect_old`` an old process of our name is about to call."""
        self.resync.start(now, expect_old)

    def wake(self, now: int) -> None:
        """The resync's deadline has come."""
        self.resync.wake(now)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Forget what changed meanwhile, once no lesson is awaited or under way."""
        if not self.resync.lessons_ahead:
            self.meanwhile.forget()

    # -- tables ----------------------------------------------------------

    def add_table(self, declaration: Declaration) -> str:
        """Share one more table: in words what there is to learn from peers now.

        :raises LocalProtocolError: there is one of this name already.
        """
        self.tables.add(declaration)
        self._tell_relayed()
        return f"table {declaration.name} was added"

    def declare_table(self, declaration: Declaration) -> Optional[str]:
        """Share a table, or declare one anew: entries keep what both declarations store.

        With ``learn_columns`` those are also the columns beyond the declaration that
        peers have defined. With another type or length of keys it begins anew. Returns
        in words what there is to learn from peers now, if anything.

        :raises LocalProtocolError: it has entries of as many earlier declarations
            as can be told from each other.
        """
        table = self.tables.get(declaration.name)
        if table is None or disagreement(table, declaration.layout) is not None:
            self.remove_table(declaration.name)
            return self.add_table(declaration)
        self.tables.warn_of(declaration)
        if self.adoption.learn_columns:
            declaration = declaration.with_columns(self._defined_columns(table))
        more = beyond(declaration.layout.columns, table.layout)
        if not self.tables.redeclare(table, declaration):
            raise LocalProtocolError(
                f"table {declaration.name}",
                "one more declaration",
                "fewer earlier ones of which there are still entries",
            )
        return f"table {declaration.name} stores more" if more else None

    def _defined_columns(self, table: TableStore) -> Iterator[Column]:
        """The columns of a table that peers store, as far as that is known."""
        ours = table.declaration
        yield from ours.learnt if ours.adopted_from is None else ours.layout.columns
        for session in self.sessions.values():
            for shared in session.tables:
                if shared.table.name == table.name and shared.definition is not None:
                    yield from shared.definition.layout.columns

    def remove_table(self, name: str) -> None:
        """Share a table no longer, if there is one of this name."""
        if name in self.tables:
            self.tables.remove(name)
            for peer in self.peers.values():
                peer.differences.pop(name, None)
            self._tell_relayed()

    def share(self, name: str, sharing: Sharing) -> Optional[str]:
        """Share the table of this name by other rules, whether there is one yet or not: in words
        what there is to learn from peers now, if anything.

        If it is to be shared per peer and was not, or the other way round, it begins anew.

        :raises LocalProtocolError: it would wait for itself.
        """
        table = self.tables.get(name)
        before = self.tables.sharing(name)
        if before == sharing:
            return None
        if table is not None and before.per_peer is not sharing.per_peer:
            self.remove_table(name)
            self.tables.set_sharing(name, sharing)
            return self.add_table(table.declaration)
        self.tables.set_sharing(name, sharing)
        self._tell_relayed()
        more = sharing.learn and not before.learn
        return f"table {name} is learnt" if table is not None and more else None

    def _tell_relayed(self) -> None:
        """Tell peerprotos of which tables is passed on what they say, if that has changed."""
        for session in self.sessions.values():
            session.tell_relayed()

    def learn_again(self, why: str, now: int) -> None:
        """More is shared than before, for the reason in words: peers may have entries of it."""
        self.resync.learn_again(why, now)
        self._look_ahead()

    # -- changes made here -----------------------------------------------

    def keys_removed(self, table: TableStore, keys: Iterable[bytes]) -> None:
        """Note that keys are removed here, also those that an old process has yet to teach."""
        if self.resync.taking_over:
            self.meanwhile.removed(table, keys)

    def cleared(self, table: TableStore) -> None:
        """Note that a table was cleared here."""
        if self.resync.taking_over:
            self.meanwhile.cleared(table)

    def _repeat_changes(
        self,
        table: TableStore,
        changes: Mapping[bytes, int],
        spared: Collection[PeerMemory],
        now: int,
    ) -> None:
        """Send changes of ours once more, no change more than once (`ChangeLog.repeat`), and not
        to the peers that are spared."""
        if not self.tables.shares(table):
            return
        table.log.mark(now)
        sparing = Spared(frozenset(spared)) if spared else None
        for key, columns in changes.items():
            if table.tells_of(key):
                table.log.repeat(key, columns, sparing)

    def _overwritten(self, event: Overwritten, origin: PeerMemory, now: int) -> None:
        """Send what a peer has changed to others that have acked ours a moment ago: they may have
        got its change first."""
        log = event.table.log
        # Relays have it from each other, and would pass on what we repeat as something new.
        relayed = self.adoption.passes_on(origin, event.table)
        recent = [
            (peer, settled, acked)
            for peer in self.peers.values()
            if peer is not origin
            and not (relayed and self.adoption.passes_on(peer, event.table))
            and (settled := peer.recent_acks.settled(log, now)) < (acked := peer.acked.get(log, 0))
        ]
        if not recent:
            return
        for key in event.keys:
            number, columns = log.number(key), log.columns(key) & event.columns
            late = [peer for peer, settled, acked in recent if settled < number <= acked]
            if late and columns:
                self._repeat_late_changes(event.table, {key: columns}, late, now)

    def _repeat_late_changes(
        self,
        table: TableStore,
        changes: Mapping[bytes, int],
        late: Collection[PeerMemory],
        now: int,
    ) -> None:
        """Send what is stored to peers that have acked changes so late that another one had
        changed the same by then, or nearly so: they may have got the one before the other.

        HAProxies that have acked them before are not sent it: they may have counted on.
        """
        log = table.log
        for key, columns in changes.items():
            spared = [
                peer
                for peer in self.peers.values()
                if peer not in late
                and not (peer in self.sessions and self.sessions[peer].is_peerproto)
                and log.number(key) <= peer.acked.get(log, 0)
            ]
            self._repeat_changes(table, {key: columns}, spared, now)
