"""Whose value holds, where the peer of a session and this node changed the same.

A *tie* is a change of the peer that it wrote before it had read ours of the same column:
we know that since it has not acked ours. The protocol has no order for the two.

- Between two peerprotos the one whose name is the lesser wins. It keeps its own value. The
  other one takes that, and sends it to all its peers as a change of its own: so on each of
  its connections the winner's value comes after the loser's. The highest of all sends nothing
  again, so this comes to an end. What another peer has sent it since makes no difference.
- A relay gives way to a peer that is none: what it sends may be what that peer has said itself
  before, on its way back over another relay. So that peer keeps a change of its own until each
  relay of the table has acked it, and says nothing again to relays: they have it from each other,
  and to them it would be something new, which can go round without end. A relay says so of tables
  that it shares with that peer alone: others it would never ack. It begins with that, and does not
  say that it is a peerproto otherwise: an older one, which knows of no relays, takes it for a
  HAProxy, and does the same but for the acks of other relays. When it relays one no longer, both
  may have kept theirs: so that peer sends its own once more.
- Any other peer takes what it is sent, so we keep our value, which it will have in a moment.
  But it may have sent its own to others, too: so they get ours again once it has acked it, when
  it has nothing more to send from before. It is spared itself, since it may have gone on from
  ours. That is done once for each change of ours: for HAProxies that count without end it
  would be sent without end.
- A change of ours can come to one peer after that of another one that had read it. So if it
  is acked when we have that other change already, the peer is sent what we have by then; so it is
  if it was acked less than a second before that change of another peerproto came.
- A HAProxy sends the columns that it has not changed, too. One that has not read our change yet
  sends the value of before to the others, and these to us with what they count, though they have
  acked it. So for a second ours stays where such a value comes, and all are sent it once more:
  otherwise no HAProxy could be told anything of an entry that all of them count at that time.
- In a lesson ours stays, and is sent again at its end: a lesson has values of any age.

Of an entry that was forgotten here, all columns count as changed, to nothing. As long as its
tombstone stands, no lesson brings it back, whoever gives it: the teacher may have the entry from
a peer that has not heard of it. What a peer sends outside of a lesson after it has acked that,
makes the entry anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import attrs

from peerproto.peering.adoption import Adoption
from peerproto.peering.events import AckedLate, Event, TieSettled
from peerproto.peering.meanwhile import ChangedMeanwhile
from peerproto.peering.memory import PeerMemory
from peerproto.peering.sharedtable import SharedTable
from peerproto.peering.standing import Standing
from peerproto.tables.before import Old
from peerproto.tables.store import TableStore
from peerproto.updates.reception import Reception

_NONE: Final[Mapping[bytes, int]] = {}
_NO_VALUES: Final[Mapping[bytes, Old]] = {}


@attrs.frozen
class Verdict:
    """What of some updates is not to be taken; columns are bits of data types."""

    ours: Mapping[bytes, int]
    """Keys and columns with changes of ours that hold."""
    stays: Mapping[bytes, int]
    """Keys and columns of which the values here stay."""
    newer: Collection[bytes] = ()
    """Keys of which nothing is taken."""
    lost: Mapping[bytes, int] = _NONE
    """Keys and columns of ours that give way to the peer's."""
    replaced: Mapping[bytes, Old] = _NO_VALUES
    """Keys and values that are not to come back."""


ALL: Final = Verdict(_NONE, _NONE)
"""All is to be taken."""


class Precedence:
    """See the module. One for each session."""

    def __init__(
        self,
        peer: PeerMemory,
        adoption: Adoption,
        meanwhile: ChangedMeanwhile,
        standing: Standing,
        events: list[Event],
    ) -> None:
        """``events`` is where what happens is put, for the node."""
        self._peer = peer
        self._adoption = adoption
        self._meanwhile = meanwhile
        self._standing = standing
        self._events = events
        self.teaching = False
        """Whether the peer is being taught."""
        self.learning = False
        """Whether updates belong to a lesson that the node wants."""
        self.is_peerproto = False
        """Whether the peer settles ties by names, as we do."""
        self._kept: dict[TableStore, dict[bytes, int]] = {}
        """Keys whose values were not taken from the present lesson, since they changed here, and
        the columns of the changes."""
        self._aside: dict[TableStore, dict[bytes, int]] = {}
        """The same, of what the peer has changed itself and sent outside of a lesson."""

    def judge(self, shared: SharedTable, reception: Reception, now: int) -> Verdict:
        """What is to be taken of the updates that a reception has; ``now`` is in ms."""
        table = shared.table
        head = table.log.head
        if not (head or self.learning):
            # Most tables of most nodes have no changes of their own: that is to cost nothing.
            return ALL
        acked = self._acked(table)
        if acked >= head and not self.learning and (self.is_peerproto or not table.before):
            return ALL
        if self._peer.local and self.teaching:
            # The new process of our name: what it sends is newer than ours.
            return ALL
        yields = self.is_peerproto and not self.learning and self._is_above(shared)
        keys = reception.keys
        ours = self._ours(table, keys, acked, yields, now) if acked < head else {}
        forgotten = table.tombstones.standing(keys, now)
        if self.learning:
            ours.update(dict.fromkeys(forgotten, table.layout.bits))
            _add(self._kept, table, ours)
            newer, stays = self._newer_here(table, keys, ours)
            newer.update(forgotten)
            return Verdict(ours, stays, newer)
        replaced = _NO_VALUES if self.is_peerproto else table.before.of(keys, now)
        if not (ours or replaced):
            return ALL
        if not yields:
            gone = {key: ours[key] for key in forgotten if key in ours}
            if gone:
                self.left_aside(table, gone)
            return Verdict(ours, ours, gone, replaced=replaced)
        sent = reception.layout.bits
        lost = {key: columns & sent for key, columns in ours.items() if columns & sent}
        ours = {key: ours[key] for key in ours.keys() - lost.keys()}
        return Verdict(ours, ours, lost=lost)

    def taken(
        self, reception: Reception, keys: Sequence[bytes], verdict: Verdict, now: int
    ) -> Collection[bytes]:
        """Updates of these keys were stored: they are newer than a lesson that is ahead, and than
        changes of ours that do not hold.

        Returns the ones of which the values were from here until now.
        """
        table, meanwhile = reception.table, self._meanwhile
        if not self.learning and self._standing.lessons_ahead:
            if not reception.layout.codec.has_texts:
                meanwhile.learnt(table, keys, reception.layout.bits, self._peer)
            else:
                for key in keys:
                    columns = reception.columns_of(key, now)
                    meanwhile.learnt(table, (key,), columns, self._peer)
        if not table.log.head:
            return ()
        ours = verdict.ours
        return table.log.overwrite([key for key in keys if key not in ours] if ours else keys)

    def left_aside(self, table: TableStore, left: Mapping[bytes, int]) -> None:
        """Note what the peer has changed in vain: others may have its values."""
        if not (self.learning or self.is_peerproto):
            _add(self._aside, table, left)

    def acked(self, table: TableStore, before: int, latest: int) -> None:
        """The peer has acked changes of ours: those after ``before`` up to the ``latest``.

        It has nothing more to send from before them.
        """
        late = table.log.overwritten(before, latest)
        if late:
            self._events.append(AckedLate(table, late))
        aside = self._aside.get(table)
        if aside:
            unacked = table.log.later(aside.keys(), self._peer.acked.get(table.log, 0))
            settled = {key: aside.pop(key) for key in aside.keys() - unacked.keys()}
            self._events.append(TieSettled(table, settled))

    def end_lesson(self, now: int) -> None:
        """The lesson is over: send what it had older values for, since others may have these."""
        self.learning = False
        kept, self._kept = self._kept, {}
        for table, changes in kept.items():
            if self._adoption.directory.shares(table):
                table.change_again(changes, now, as_before=True)

    def end(self) -> None:
        """The session is over: the peer will not ack on it what it has changed in vain."""
        aside, self._aside = self._aside, {}
        self._events += [TieSettled(table, changes) for table, changes in aside.items()]

    def relays_no_more(self, table: TableStore, now: int) -> None:
        """The peer passes on a table no longer, and goes by names from then on: send it once more
        what it has not acked, since both sides may have kept theirs."""
        acked = self._peer.acked.get(table.log, 0)
        keys = [key for _, _, key in table.log.after(acked, self._peer)]
        table.change_again(table.log.later(keys, acked, peer=self._peer), now, as_before=True)

    def _acked(self, table: TableStore) -> int:
        """The change of ours up to which ours give way to what the peer says."""
        if self._adoption.passes_on(self._peer, table):
            return self._adoption.acked_by_relays(table)
        return self._peer.acked.get(table.log, 0)

    def _is_above(self, shared: SharedTable) -> bool:
        """Whether the peer wins ties of a table."""
        we_relay = shared.sharing.relay is not None
        if not self._peer.local and we_relay is not (shared.table.name in self._peer.relays):
            return we_relay
        return self._peer.name < self._adoption.localpeer

    def _ours(
        self, table: TableStore, keys: list[bytes], acked: int, overwritten: bool, now: int
    ) -> dict[bytes, int]:
        """The ones of ``keys`` with changes of ours that the peer has yet to ack: their columns.

        Those are the ones after the change that it has ``acked``. Until it acks a change, the
        peer may write updates without having read it. Among them are those that were
        ``overwritten`` since, if that is wanted.
        """
        changes = table.log.later(keys, acked, overwritten, self._peer)
        # What has expired here is not sent any more, so the peer will not ack it.
        return {
            key: columns
            for key, columns in changes.items()
            if (table.has(key, now) or table.forgotten(key, now))
        }

    def _newer_here(
        self, table: TableStore, keys: list[bytes], ours: Mapping[bytes, int]
    ) -> tuple[set[bytes], Mapping[bytes, int]]:
        """What a lesson has older values for: the keys that it is not to bring at all, and
        the columns of others that stay."""
        meanwhile, every = self._meanwhile, table.layout.bits
        newer = set(meanwhile.gone(table, keys)) if self._peer.local else set()
        stays = dict(ours)
        for key, columns in meanwhile.columns(table, keys, self._peer).items():
            if columns & every == every:
                newer.add(key)
            else:
                stays[key] = stays.get(key, 0) | columns
        return newer, stays


def _add(
    noted: dict[TableStore, dict[bytes, int]], table: TableStore, changes: Mapping[bytes, int]
) -> None:
    """Add columns of keys to those that were noted."""
    if changes:
        columns_of = noted.setdefault(table, {})
        for key, columns in changes.items():
            columns_of[key] = columns_of.get(key, 0) | columns
