"""One session with one peer, from the status 200 to its end. No I/O.

Bytes that came go in with `Session.receive`, which returns what comes of them as events;
bytes to send are drawn with `Session.pull`, and `Session.next_wake` says when
`Session.wake` must be called. Its states are those of `SESSION` in `peerproto.peering.states`.

A confirm is owed for each finished or partial, also if the lesson was begun again since: so the
last of them is meant. Whether this session is also the one that the node learns from is for the
resync of the node to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Optional

from peerproto.peering.acks import Acks
from peerproto.peering.adoption import Adoption
from peerproto.peering.events import Event, LessonOver, Moved, TaughtInPart
from peerproto.peering.liveness import DEAD_TIMEOUT, Liveness
from peerproto.peering.meanwhile import ChangedMeanwhile
from peerproto.peering.memory import PeerMemory
from peerproto.peering.patience import Patience
from peerproto.peering.precedence import Precedence
from peerproto.peering.reasons import Lack, Reason
from peerproto.peering.receiving import Receiver
from peerproto.peering.sending import Sender
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.standing import Standing
from peerproto.peering.states import SESSION, SessionInput, SessionState
from peerproto.peering.teaching import Teaching
from peerproto.peering.waiting import Return, WaitingShares
from peerproto.tables.store import TableStore
from peerproto.wire.errors import OversizedMessage, RemoteProtocolError
from peerproto.wire.frames import STICK_TABLE, Frame, FrameBuffer
from peerproto.wire.handshake import MINOR
from peerproto.wire.layout import Column
from peerproto.wire.messages import (
    UPDATES,
    Ack,
    Control,
    ErrorMessage,
    Mark,
    RelayedTable,
    TableSwitch,
    read_message,
)

ASK_TIMEOUT: Final = 1000
"""Time in ms in which a peer may ask for a lesson before it is asked for one; while it is
taught, it is not asked."""

LONG_TIMEOUT: Final = 60_000
"""The same, in ms, for a peer that was asked in vain twice."""

ASKED_IN_VAIN: Final = 2
"""Lessons in a row of which nothing came, after which a peer is asked less often."""

READ_AT_ONCE: Final = 1000
"""Messages, apart from runs of updates, that are read in one turn: some ms."""

COSTLY: Final = 10
"""As many others a message of a costly kind (a definition, a request) counts for."""

# To look up a member of an enum takes long, and a session is asked for each read.
_LIVE: Final = SessionState.LIVE
_TEACHING: Final = SessionState.TEACHING
_IN_LESSON: Final = (SessionState.TEACHING, SessionState.AWAITING_CONFIRM)


class Session:
    """See the module."""

    def __init__(
        self,
        peer: PeerMemory,
        minor: int,
        now: int,
        adoption: Adoption,
        meanwhile: ChangedMeanwhile,
        standing: Standing,
        process: Optional[int] = None,
    ) -> None:
        """``minor`` is the lower version of both sides, ``process`` the id of the peer's process,
        if it has told; ``now`` in ms."""
        self.peer = peer
        self.minor = minor
        self.state = SessionState.LIVE
        self.ask_at: Optional[int] = None
        """When (in ms) the peer is to be asked for a lesson, if it has not asked for one."""
        self.watched = False
        """Whether every read is an event, for somebody who waits to see the peer in step."""
        self.taught = False
        """Whether the peer has confirmed a lesson on this session."""
        self.ended_by: Optional[str] = None
        """Why the session is in ``ENDED``, in words."""
        self.call_soon = True
        """Whether the peer is to be called soon after the end: not if it or we erred."""
        self._adoption = adoption
        self._directory = adoption.tables_of(peer)
        self._events: list[Event] = []
        """What has happened and was not returned yet."""
        # Those of this session: the peer may have a newer one by the end of it.
        self._relays = peer.relays = set()
        self._frames = FrameBuffer(adoption.limits.message_length)
        self._precedence = Precedence(peer, adoption, meanwhile, standing, self._events)
        other_names: dict[int, str] = {}
        self._receiver = Receiver(
            peer, adoption, self._directory, self._precedence, self._events, other_names
        )
        self._acks = Acks(peer, self._directory, self._receiver, self._precedence)
        self._return = Return(peer, process, now)
        if self.shares_wait:
            self._receiver.waiting = WaitingShares(peer)
        self._send_stamped_again()
        self._urgent = bytearray()
        self._confirms = 0
        """How many confirms are to be sent."""
        self._to_define: dict[TableStore, None] = {}
        """Tables that are to be defined to the peer before it is sent changes of them."""
        self._read = 0
        """Messages that were read in this turn."""
        self.unread = False
        """Whether messages wait that are to be read in another turn, by `read_on`."""
        self._sender = Sender(
            minor >= MINOR, peer.counters, other_names, None if peer.local else peer.number
        )
        self._teaching = Teaching(
            self._sender,
            self._directory,
            lambda: [one for one in self.tables if one.sharing.teach or peer.local],
            lambda shared: shared.after is None or shared.sharing.learn or peer.local,
            lambda: standing.can_finish(self),
        )
        self._now = now
        self._liveness = Liveness(peer, now)
        self._heard = 0
        """Messages about tables that the peer has sent, but for updates in runs."""
        self._patience = Patience(now)
        self._finished = False
        """Whether our latest lesson has ended with *finished*."""
        self._ask_again = False
        """Whether the peer is to be asked once more when its present lesson is over."""
        peer.established(now)
        self._greet(now)

    def _greet(self, now: int) -> None:
        """Say what is to be said before all else."""
        # At once: HAProxy may have lost its mark that we are alive in a collision.
        self._heartbeat(now)
        self._relayed = self._adoption.relayed_for(self.peer)
        """The tables of which the peer was told that we pass on what it says of them."""
        # Before anything else that the peer may have to take for a change of a peerproto. One that
        # knows of no relays is to take us for a HAProxy: by names, what two relays say of the
        # same would go round without end.
        names = self._adoption.passed_on_to(self.peer)
        for name in names:
            self._say(RelayedTable(name, name in self._relayed).encode())
        if not names:
            self._say(Mark.TIES.encode())

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self.ended_by is not None

    @property
    def teaching(self) -> bool:
        """Whether a lesson for the peer is under way, or not confirmed yet."""
        return self.state in _IN_LESSON

    @property
    def learning(self) -> bool:
        """Whether the peer was asked for a lesson that is not over."""
        return self._precedence.learning

    @property
    def is_peerproto(self) -> bool:
        """Whether the peer settles ties by names, as we do."""
        return self._precedence.is_peerproto

    @property
    def lesson_ahead(self) -> bool:
        """Whether the peer gives the node a lesson, or is about to be asked for one."""
        return self.gives_lesson or (not self.over and self.ask_at is not None)

    @property
    def gives_lesson(self) -> bool:
        """Whether the peer was asked for a lesson, and gives it."""
        return not self.over and self.learning

    @property
    def lesson_given(self) -> Optional[tuple[int, int]]:
        """How many entries the peer has been given of the lesson under way, and about how many
        are left; ``None`` without a lesson."""
        if not self.teaching:
            return None
        given = self._sender.taught
        return given, max(0, self._teaching.entries - given)

    @property
    def lesson_learnt(self) -> Optional[int]:
        """How many updates have come of the lesson that the peer gives; ``None`` if it gives
        none."""
        if not self.gives_lesson:
            return None
        return self.peer.counters.rx_updates - self._receiver.lesson_from

    @property
    def shares_wait(self) -> bool:
        """Whether the peer may not have got back what it had."""
        return self._return.until is not None

    def is_silent(self, now: int) -> bool:
        """Whether nothing was received for longer than a peer with heartbeats is ever silent."""
        return self._liveness.is_silent(now)

    @property
    def _shares(self) -> list[TableStore]:
        """The peer's shares of tables that are shared per peer."""
        return [shared.table for shared in self.tables if shared.sharing.per_peer]

    def _send_stamped_again(self) -> None:
        """The peer may have something of tables that are stamped from an old process of its own."""
        if self.shares_wait and not (self.taught or self.teaching):
            for table in self._directory.values():
                if self._directory.outgoing(table).stamping is not None:
                    self.peer.acked.pop(table.log, None)
                    self._receiver.shared(table).sent = 0

    def lacks(self, table: TableStore) -> bool:
        """Whether a table that this node still shares was not defined by the peer as ours is."""
        if not self._adoption.directory.shares(table):
            return False
        # A share of another peer is one that this peer does not know of.
        return not self._directory.shares(table) or self._receiver.shared(table).remote_id is None

    @property
    def tables(self) -> list[SharedTable]:
        """All tables, as far as this session knows them."""
        return self._receiver.tables

    @property
    def defined(self) -> list[TableStore]:
        """The tables that the peer has defined, and that are the same as ours."""
        return [shared.table for shared in self.tables if shared.remote_id is not None]

    def columns_of(self, table: TableStore) -> Mapping[int, Column]:
        """The columns of a table that the peer has defined, by the bits of their data types."""
        return self._receiver.shared(table).columns

    def behind(self) -> int:
        """How many changes were not sent yet."""
        return sum(shared.table.log.count_after(shared.sent) for shared in self._receiver.sent)

    def has_sent_all(self, table: TableStore) -> bool:
        """Whether no change of a table waits to be sent, and no lesson is under way."""
        return not self.teaching and self._receiver.shared(table).sent >= table.log.head

    def unacked(self) -> int:
        """How many changes the peer has yet to ack, of the tables that it is known to have."""
        return self._acks.missing()

    @property
    def differences(self) -> dict[str, str]:
        """By table: why the peer's is not shared with ours, in words."""
        return self._receiver.differences

    def notes(self) -> list[str]:
        """What else is to be known of the peer, in words: it is in step all the same."""
        return [note for shared in self.tables for note in shared.notes()]

    def out_of_step(self) -> list[Reason]:
        """Every reason why the peer and we do not have the same, in words."""
        receiver = self._receiver
        reasons = [Reason(Lack.TABLE_DIFFERS, why) for why in receiver.differences.values()]
        reasons += [Reason(Lack.TOO_LONG, why) for why in receiver.not_taken.values()]
        if self.gives_lesson:
            reasons.append(Reason(Lack.LEARNING, "it is teaching us"))
        elif self.lesson_ahead:
            reasons.append(Reason(Lack.LEARNING, "it is to be asked for a lesson"))
        if self.teaching:
            reasons.append(Reason(Lack.TEACHING, "we are teaching it"))
        elif behind := self.behind():
            changes = "1 change is" if behind == 1 else f"{behind} changes are"
            reasons.append(Reason(Lack.BEHIND, f"{changes} still to be sent to it"))
        elif unacked := self.unacked():
            changes = "1 change" if unacked == 1 else f"{unacked} changes"
            reasons.append(Reason(Lack.BEHIND, f"it has yet to ack {changes}"))
        return reasons

    # -- receiving -------------------------------------------------------

    def receive(self, data: bytes, now: int) -> Sequence[Event]:
        """Take bytes from the peer: what comes of them, in the order in which it happened.

        What they bring is stored at the end of them, or of a lesson. A protocol error ends
        the session, after what came before it was taken. What costs much is not all read
        at once: see `unread`.
        """
        if now != self._liveness.noted_at:
            self._liveness.received(now)
        if self._frames.add(data) and not self.unread:
            return self.read_on(now)
        return ()

    def read_on(self, now: int) -> Sequence[Event]:
        """Read the messages that wait: what comes of them."""
        frames, receiver = self._frames, self._receiver
        counters = self.peer.counters
        counters.rx_bytes += frames.take_count()
        self.unread = False
        if self.ended_by is not None:
            frames.drop()
            return ()
        self._now = now
        self._read = 0
        read_run = receiver.read_run
        try:
            while self._read < READ_AT_ONCE:
                frame = frames.next() if frames.read_run(read_run, now) else None
                if frame is None:
                    break
                self._read += 1
                counters.rx_messages += 1
                if frame.message_class == STICK_TABLE and frame.message_type in UPDATES:
                    self._heard += 1
                    receiver.update(frame, now)
                else:
                    self._take(frame)
                    if self.over:
                        break
            else:
                self.unread = True
        except RemoteProtocolError as problem:
            self._say(ErrorMessage(problem.code).encode())
            too_long = isinstance(problem, OversizedMessage)
            self._erred(SessionInput.TOO_LONG if too_long else SessionInput.MALFORMED, str(problem))
        receiver.store(now)
        if self.watched:
            self._events.append(Moved())
        return self.happened() if self._events else ()

    def happened(self) -> Sequence[Event]:
        """The events that were not returned yet."""
        if not self._events:
            return ()
        events = self._events[:]
        self._events.clear()
        return events

    def _take(self, frame: Frame) -> None:
        """Take a message that is no update."""
        message = read_message(frame)
        if message is None:
            return
        if isinstance(message, Control):
            self._control(message)
        elif isinstance(message, TableSwitch):
            self._heard += 1
            self._receiver.switch(message.id, self._now)
        elif isinstance(message, Ack):
            if not self.teaching:  # during a lesson it means nothing
                self._acks.took(message, self._now)
        elif isinstance(message, Mark):
            self._precedence.is_peerproto = True
        elif isinstance(message, RelayedTable):
            self._relays_it(message)
        elif isinstance(message, ErrorMessage):
            what = {ErrorMessage.PROTOCOL: "protocol error", ErrorMessage.SIZE_LIMIT: "size limit"}
            why = f"it reported a {what[message]} in what we sent"
            self._erred(SessionInput.ERROR, why)
        else:
            self._heard += 1
            if not self._receiver.define_again(message, self._now):
                self._read += COSTLY - 1
                self._receiver.define(message, self._now)
                self.tell_relayed()

    def _relays_it(self, message: RelayedTable) -> None:
        """Take what the peer, a peerproto, says of a table that it passes on, or does not."""
        self._precedence.is_peerproto = True
        if message.is_relayed:
            if len(self._relays) < self._adoption.limits.tables_per_peer:
                self._relays.add(message.name)
        elif message.name in self._relays:
            self._receiver.store(self._now)  # by the rules of before
            self._relays.discard(message.name)
            table = self._directory.get(message.name)
            if table is not None:
                self._precedence.relays_no_more(table, self._now)

    # -- resync ----------------------------------------------------------

    def ask_for_lesson(self) -> None:
        """Send a resync request: the node wants to learn from this peer.

        While the peer is giving a lesson, it is asked when that one is over: nobody could tell
        which of the two its end would be of.
        """
        if self.gives_lesson:
            self._ask_again = True
            return
        self.expect_lesson()
        self._say(Control.RESYNC_REQUEST.encode())

    def ask_later(self) -> None:
        """Ask for a lesson, after that of the peer if it begins by asking for one.

        One of whose lessons nothing came twice is asked after a while.
        """
        late = self.peer.given_up >= ASKED_IN_VAIN
        self.ask_at = self._now + (LONG_TIMEOUT if late else ASK_TIMEOUT)

    def expect_lesson(self) -> None:
        """Take what is received for a lesson: the old process teaches without being asked."""
        self.ask_at = None
        self._receiver.begin_lesson()
        self._patience.asked(self._now)

    def teach(self) -> None:
        """Give a lesson, or give it again: it begins when its first bytes are drawn."""
        if self._step(SessionInput.REQUEST):
            self._precedence.teaching = True
            self._teaching.begin()

    def _control(self, message: Control) -> None:
        if message is Control.RESYNC_REQUEST:
            self._read += COSTLY - 1
            if not self.shares_wait and not self.peer.local and not self.taught:
                # The same id, and another process: it would not ask if it had what it had.
                self._return.begin(self._now)
                self._receiver.waiting = WaitingShares(self.peer)
            self.teach()
            self.peer.log.info(self._now, "peer {peer} asked for a lesson", peer=self.peer.shown)
        elif message is Control.RESYNC_CONFIRM:
            if self._teaching.confirmed() and self.state is SessionState.AWAITING_CONFIRM:
                self._confirmed()
        elif message is Control.HEARTBEAT:
            self._liveness.heartbeat()
        else:
            self._learnt(message)

    def _confirmed(self) -> None:
        """The peer has all that we had when the lesson began."""
        self._precedence.teaching = False
        self.taught = True
        # Before what was changed here counts as acked: it is newer.
        self._receiver.take_waiting(self._now, is_up_to_date=False)
        if self._finished or self._return.is_in(self._shares):
            self._return.end(self._shares)
        elif self.shares_wait:
            self._events.append(TaughtInPart())
        for shared, origin in self._teaching.origins:
            shared.sent = origin
            self.peer.took(shared.table.log, origin, self._now)
            self._precedence.acked(shared.table, origin, origin)
        self.peer.log.info(self._now, "peer {peer} confirmed its lesson", peer=self.peer.shown)
        if self.peer.local:
            self._end(SessionInput.NEW_PROCESS_CONFIRM, "the new process has learnt everything")
        else:
            self._step(SessionInput.LAST_CONFIRM)

    def _learnt(self, message: Control) -> None:
        """A lesson is over: it is confirmed, whether it was asked for or not."""
        self._receiver.store(self._now)  # before others hear that it is over
        self._confirms += 1
        self.peer.counters.confirm += 1
        for shared in self.tables:
            shared.got = shared.acked = None
        if self.learning:
            self.peer.given_up = 0
            if message is Control.RESYNC_FINISHED:
                self._send_stamped_again()
                self._receiver.take_waiting(self._now, is_up_to_date=True)
                self._return.end(self._shares)
            self._receiver.end_lesson(message is Control.RESYNC_FINISHED, self._now)
            if self._ask_again:
                self._ask_again = False
                self.ask_for_lesson()
                return
            self._events.append(LessonOver(message is Control.RESYNC_FINISHED))

    # -- sending ---------------------------------------------------------

    @property
    def wants_to_send(self) -> bool:
        """Whether `pull` has something to give."""
        if self._urgent or self._confirms or self._to_define:
            return True
        if self.state is _TEACHING or (self._acks.due and not self.over):
            return True
        if self.state is _LIVE:
            for one in self._receiver.sent:
                if one.has_more:
                    return True
        return False

    def pull(self, room: int, now: int) -> bytes:
        """Bytes to send now: about ``room`` of them, or fewer if there are no more."""
        self._now = self._sender.now = now
        out = bytearray()
        if self._confirms:
            confirm = Control.RESYNC_CONFIRM.encode()
            confirms = min(self._confirms, max(1, room // len(confirm)))
            self._confirms -= confirms
            self.peer.counters.tx_messages += confirms
            out += confirm * confirms
        if not self._confirms:
            # A request goes out behind the confirm of the lesson before it: HAProxy takes a
            # confirm that comes later for the end of the lesson that it has just begun.
            out += self._urgent
            self._urgent = bytearray()
        if self._to_define:
            self._define(out, room)
        if self._acks.due and not self.over:
            self._acks.write(out)
        if self.state is _LIVE:
            for shared in self._receiver.sent:
                size = 0
                while shared.has_more and len(out) + size < room:
                    changes, live = self._sender.changes(
                        shared.local_id,
                        shared.outgoing,
                        shared.sent,
                        room - len(out),
                        shared.expire,
                        self.peer,
                    )
                    shared.sent, shared.said = live.sent, live.said or shared.said
                    self._acks.end_sparing(shared, self._now)
                    out += changes
                    # The next piece is about as long: a part of it would be for this peer alone.
                    size = len(changes)
        elif self.state is _TEACHING:
            self._teach(out, room)
        if out:
            self._liveness.sent(now)
            self.peer.counters.tx_bytes += len(out)
        return bytes(out)

    def _define(self, out: bytearray, room: int) -> None:
        """Add the definitions that wait to ``out``, as far as there is ``room``."""
        self._sender.forget_but({one.local_id for one in self.tables})
        while self._to_define and len(out) < room:
            table = next(iter(self._to_define))
            del self._to_define[table]
            if self._directory.shares(table):
                local_id = self._receiver.shared(table).local_id
                out += self._sender.announce(local_id, table.declaration)

    def _say(self, message: bytes) -> None:
        """Send one message before all that waits."""
        self._urgent += message
        self.peer.counters.tx_messages += 1

    def _teach(self, out: bytearray, room: int) -> None:
        end = self._teaching.draw(out, room)
        if end is not None:
            self.peer.counters.tx_messages += 1
            self._step(SessionInput.LAST_ENTRY)
            self._patience.taught(self._now)
            self._finished = end is Control.RESYNC_FINISHED
            self.peer.log.info(
                self._now,
                "peer {peer} was taught {count} entries ({how})",
                peer=self.peer.shown,
                count=self._sender.taught,
                how=end.name.partition("_")[2].lower(),
            )

    # -- time ------------------------------------------------------------

    def next_wake(self) -> int:
        """When (in ms) to call `wake`."""
        wake = min(self._liveness.heartbeat_at, self._liveness.period_end)
        return wake if self.ask_at is None else min(wake, self.ask_at)

    def wake(self, now: int) -> Sequence[Event]:
        """Time has passed: a heartbeat may be due, or the peer may be dead."""
        if self.over:
            return ()
        self._now = now
        self.peer.counters.rx_bytes += self._frames.take_count()
        self.peer.log.catch_up(now)
        if self.ask_at is not None and now >= self.ask_at:
            if self.teaching:
                # It may count itself up to date once it has learnt: it is asked then.
                self.ask_at = now + ASK_TIMEOUT
            else:
                self.ask_for_lesson()
        if self._return.until is not None and now >= self._return.until:
            self._receiver.take_waiting(now, is_up_to_date=False)
            self._return.end()
        liveness = self._liveness
        if now >= liveness.period_end:
            if not liveness.begin_period(now, self.unread):
                why = f"nothing came from it for {DEAD_TIMEOUT / 1000:g} s"
                self._end(SessionInput.SILENCE, why)
                return self.happened()
            self._look_at_lesson()
            if self.over:
                return self.happened()
        if now >= liveness.heartbeat_at:
            self._heartbeat(now)
        return self.happened()

    def _look_at_lesson(self) -> None:
        """End the session if a lesson does not go on: on the same session nobody could tell what
        still comes of it from another one."""
        ends = self._patience.ends(
            self._now,
            self.peer.counters.rx_updates + self._heard,
            self.learning and not self.unread,
            self.state is SessionState.AWAITING_CONFIRM,
        )
        if ends is not None:
            on, why = ends
            if on is SessionInput.NO_LESSON:
                self.peer.given_up += 1
            self._end(on, why)

    def _heartbeat(self, now: int) -> None:
        self._liveness.sent(now)
        if not self._urgent:
            self._say(Control.HEARTBEAT.encode())
            self.peer.counters.tx_hbt += 1

    def replaced(self) -> None:
        """The peer has a newer session: this one is over."""
        self.peer.counters.coll += 1
        self._end(SessionInput.NEWER_SESSION, "it has a newer session")

    def closed(self, why: str) -> None:
        """The connection is over, whatever the session thought of it."""
        if not self.over:
            self._end(SessionInput.CLOSED, why)

    def _erred(self, on: SessionInput, why: str) -> None:
        """A protocol error: the same is likely to happen again."""
        self.peer.counters.proto_err += 1
        self.call_soon = False
        self._end(on, why)

    def look_again(
        self, added: Collection[TableStore], now: int, adopt: bool = False
    ) -> Sequence[Event]:
        """Other tables are shared than before: the peer's may be among them now.

        The tables that were ``added`` are defined to the peer, which may do the same. With
        ``adopt``, what the peer has defined before is adopted where that may be now.
        """
        self._now = now
        self._receiver.look_again(now, adopt)
        self.tell_relayed()
        for table in added:
            self.announce(table)
        return self.happened()

    def announce(self, table: TableStore) -> None:
        """Define a table to the peer, which may have looked at another one of its name."""
        waiting = [one for one in self._to_define if self._directory.shares(one)]
        alike = [self._receiver.shared(one) for one in self._directory.alike(table)]
        more = [one.table for one in alike if one.sharing.teach]
        self._to_define = dict.fromkeys((*waiting, *more))

    def tell_relayed(self) -> None:
        """Tell the peer, if it is a peerproto, of which tables is passed on what it says, where
        that is otherwise than it was told before."""
        relayed = self._adoption.relayed_for(self.peer)
        for name in sorted(relayed ^ self._relayed):
            self._say(RelayedTable(name, name in relayed).encode())
        self._relayed = relayed

    def _step(self, on: SessionInput) -> bool:
        """Go to the next state: whether there is one."""
        step = SESSION.get((self.state, on))
        if step is not None:
            self.state = step.to
        return step is not None

    def _end(self, on: SessionInput, why: str) -> None:
        self._step(on)
        self.peer.counters.rx_bytes += self._frames.take_count()
        self.ended_by = why
        self._relays.clear()
        self._confirms = 0
        self._precedence.end()
