"""What a service has of its node's tables: the tables themselves, feeds, observers, and parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Optional, TypeVar, Union
from weakref import WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, deferLater

from peerproto.connections.clock import milliseconds
from peerproto.connections.mesh import Mesh
from peerproto.peering.limits import Limits
from peerproto.peering.node import Node
from peerproto.peering.sharing import Passes, Sharing
from peerproto.service.dispatcher import Dispatcher
from peerproto.service.feed import MOST, Feed
from peerproto.service.nodetime import NodeTime
from peerproto.service.observers import IObserver
from peerproto.service.part import IPart
from peerproto.service.parts import Parts
from peerproto.service.query import Steps
from peerproto.service.renewal import Renewal
from peerproto.service.sticktable import StickTable
from peerproto.service.work import Work
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.updates.compiled import SPEED

T = TypeVar("T")

_SENT = (Cause.SET, Cause.FORGOTTEN)
"""What peers are to hear of."""


class TableHolder(Service):
    """Holds the tables of a node, and tells what happens in them."""

    def __init__(
        self,
        node: Node,
        mesh: Mesh,
        reactor: Any,
        observers: Iterable[IObserver],
        told: Callable[[], None],
        wall_clock: Callable[[], float],
    ) -> None:
        """
        :param told: called when peers were told of what is shared anew.
        :param wall_clock: seconds since the epoch.
        """
        self._clock: IReactorTime = reactor
        self.node = node
        self.mesh = mesh
        self.time = NodeTime(reactor, wall_clock)
        """The time as people and disks read it."""
        self.parts = Parts()
        """The features that this node has beside its tables, by name."""
        self.dispatcher = Dispatcher(node.tables, self.public, mesh.turns, observers)
        self._renewal = Renewal(mesh, self._clock, told)
        self._work = Work(mesh.turns)
        self._tables: WeakValueDictionary[TableStore, StickTable] = WeakValueDictionary()
        self._begun = False
        """Whether the node listens and calls, or has tried to."""

    # -- tables ----------------------------------------------------------

    @property
    def tables(self) -> list[StickTable]:
        """All tables, those included that were adopted from peers so far."""
        return [self.public(store) for store in self.node.tables.values()]

    def table(self, name: str) -> StickTable:
        """:raises KeyError: there is no table of this name (yet)."""
        return self.public(self.node.tables[name])

    def find_table(self, name: str) -> Optional[StickTable]:
        """The table of this name; ``None`` if there is none (yet)."""
        store = self.node.tables.get(name)
        return None if store is None else self.public(store)

    def public(self, store: TableStore) -> StickTable:
        """The one object that an application has for a table."""
        known = self._tables.get(store)
        if known is None:
            known = self._tables[store] = StickTable(self, store)
        return known

    def add_table(self, declaration: Declaration) -> StickTable:
        """Share one more table.

        :raises LocalProtocolError: there is one of this name already.
        """
        self._share_anew(self.node.add_table(declaration), declaration.name)
        self._tell([])
        return self.table(declaration.name)

    def declare_table(self, declaration: Declaration) -> None:
        """Share a table, or declare one anew: entries keep what both declarations store.

        With ``learn_columns``, what peers store beyond the declaration stays, too.
        With another type or length of keys, it begins anew without entries. What peers
        have of it and this node has not is learnt from one of them.

        :raises LocalProtocolError: it has entries of as many earlier declarations
            as can be told from each other, which are 256.
        """
        before = self.node.tables.get(declaration.name)
        news = self.node.declare_table(declaration)
        if news is not None:
            self._share_anew(news, declaration.name)
        self._tell_gone(before)

    def remove_table(self, name: str) -> None:
        """Share a table no longer; with ``learn_tables`` a peer may bring it back."""
        before = self.node.tables.get(name)
        self.node.remove_table(name)
        self._tell_gone(before)

    def share(
        self,
        name: str,
        *,
        learn: bool = True,
        teach: bool = True,
        per_peer: bool = False,
        relay: Union[bool, Passes] = False,
        after: Optional[str] = None,
        stamp: Optional[int] = None,
    ) -> None:
        """Share the table of this name otherwise than evenly with all peers; it need not be there
        yet. What is not said is as it is without any rules.

        :param learn: whether what peers send of it is stored.
        :param teach: whether peers are sent what is stored.
        :param per_peer: each peer has a store of its own, to learn into and to be taught from: see
            `StickTable.contributions`. The node is up to date when each peer has taught. A
            table that was shared otherwise begins anew.
        :param relay: what one peer says is passed on to the others as our change, never to where
            it came from; a function of two names tells whether what the first one says goes to
            the second. What changes nothing is not passed on; of a lesson, only entries are that
            were not known here.
        :param after: the name of a table; this one is sent to a peer only while nothing of that
            one waits to be sent to it.
        :param stamp: an element of ``gpt``, -1 for the last. Where the table has
            `peerproto.UNSTAMPED` in it, a peer is sent the number of its session: what another
            process of it got from us, and may teach it at any time, has another one.
        :raises LocalProtocolError: both ``per_peer`` and ``relay``, or ``after`` in a circle.
        """
        passes = _to_all if relay is True else relay or None
        before = self.node.tables.get(name)
        news = self.node.share(name, Sharing(learn, teach, per_peer, passes, after, stamp))
        if news is not None:
            self._share_anew(news, name)
        self._tell_gone(before)

    def _tell_gone(self, store: Optional[TableStore]) -> None:
        """Tell observers that a table is cleared, if it is gone: the first now, the rest in
        slices."""
        tables = self.node.tables
        self._tell([])
        if store is not None and store in tables.removed:
            self.changed([Changes(store, Cause.CLEARED, tables.discard(store), self.now())])

    # -- what happens in them --------------------------------------------

    def add_observer(self, observer: IObserver) -> None:
        """Tell ``observer`` of all changes from now on."""
        self.dispatcher.observers.append(observer)

    def remove_observer(self, observer: IObserver) -> None:
        """:raises ValueError: it was not added."""
        self.dispatcher.observers.remove(observer)

    def feed(
        self,
        tables: Optional[Collection[str]] = None,
        causes: Collection[Cause] = tuple(Cause),
        most: int = MOST,
    ) -> Feed:
        """A feed of all changes from now on; `Feed.close` ends it.

        :param tables: names of tables, also of those that there are later; ``None`` for all.
        :param causes: changes for other causes are left out.
        :param most: how many changed keys it holds: see `FeedOverrun`.
        """
        feeds = self.dispatcher.feeds
        feed = Feed(self.now, self.turn, feeds.remove, tables, causes, most)
        feeds.append(feed)
        return feed

    def turn(self) -> Deferred[None]:
        """Fires in another turn of the reactor."""
        return deferLater(self._clock, 0)

    def now(self) -> int:
        """The time in ms by the service's clock: the monotonic one, whatever steps the wall
        clock makes, but for clocks of tests."""
        return milliseconds(self._clock)

    # -- parts and turns -------------------------------------------------

    def add_part(self, name: str, part: IPart) -> None:
        """Have one more part: its status, its commands and what it measures are shown from now on
        wherever those of the node are.

        :raises LocalProtocolError: there is a part of this name, or with such a command, already.
        """
        self.parts.add(name, part)

    def remove_part(self, name: str) -> None:
        """:raises KeyError: there is no part of this name."""
        self.parts.remove(name)

    @property
    def turns(self) -> Cooperator:
        """Shares the reactor among all that have much to do, a few ms a turn."""
        return self.mesh.turns

    def in_turns(self, steps: Steps[T]) -> Deferred[T]:
        """Do work in short steps, in turns with others; fires with its result.

        Fails with what a step raises, or with ``CancelledError`` when the service stops.
        """
        return self._work.do(steps)

    @property
    def limits(self) -> Limits:
        """What a hostile network may cost."""
        return self.node.limits

    @property
    def speed(self) -> str:
        """Whether the hot modules run compiled, in words."""
        return SPEED

    def learn(self, tables: bool, columns: bool) -> None:
        """From now on adopt tables of peers, or columns beyond the lines of tables, or not.

        What is adopted from now on is learnt from the peers that are connected, too.
        What was adopted before stays.
        """
        adoption = self.node.adoption
        more = [
            f"{what} of peers are adopted"
            for what, wanted, before in (
                ("tables", tables, adoption.learn_tables),
                ("columns", columns, adoption.learn_columns),
            )
            if wanted and not before
        ]
        adoption.learn_tables, adoption.learn_columns = tables, columns
        for news in more:
            self._share_anew(news)

    @property
    def learns_tables(self) -> bool:
        """Whether tables of peers are adopted."""
        return self.node.adoption.learn_tables

    @property
    def learns_columns(self) -> bool:
        """Whether columns of peers are adopted beyond the lines of tables."""
        return self.node.adoption.learn_columns

    @property
    def tasks(self) -> int:
        """How many calls wait for their time, on the whole reactor."""
        return len(self._clock.getDelayedCalls())

    # -- what goes on ----------------------------------------------------

    def changed(self, batches: list[Changes]) -> None:
        """Tell observers of changes, and let sessions send what was changed here."""
        if any(batch.cause in _SENT for batch in batches):
            self.mesh.flush_soon()
        self.dispatcher.announce(batches)

    def _tell(self, batches: list[Changes]) -> None:
        self.dispatcher.announce(batches)

    def _share_anew(self, reason: str, name: Optional[str] = None) -> None:
        """A table is shared anew, or more of what peers have: they are told after this turn."""
        if self._begun:
            self._renewal.add(reason, None if name is None else self.node.tables[name])


def _to_all(source: str, target: str) -> bool:
    """Whom a relay passes on to, if nothing else is said."""
    return True
