"""What tests of several floors need: a node without connections, and its sessions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Optional

import attrs
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from peerproto.peering.boundedlog import BoundedLog
from peerproto.peering.events import Event, Learnt
from peerproto.peering.limits import Limits
from peerproto.peering.memory import PeerMemory
from peerproto.peering.node import Node
from peerproto.peering.resync import Resync
from peerproto.peering.session import Session
from peerproto.tables.changes import Changes
from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore

LOG = Logger(namespace="tests")


def make_node(
    declarations: Iterable[Declaration] = (),
    *,
    limits: Optional[Limits] = None,
    learn_columns: bool = True,
) -> Node:
    """A node named ``us`` that has not begun to learn."""
    return Node("us", LOG, declarations, limits=limits, learn_columns=learn_columns)


def memory(name: str, local: bool = False) -> PeerMemory:
    """What is remembered of a peer that no node has."""
    return PeerMemory(name, BoundedLog(f"peer {name}", LOG), local)


def begin(node: Node, name: str = "them", minor: int = 1, now: int = 0) -> Session:
    """A session of a node with a peer, which it may know already."""
    peer = node.local if name == node.localpeer else node.expect(name, now)
    return node.begin(peer, minor, now)


def act(node: Node, session: Session, events: Iterable[Event], now: int = 0) -> list[Changes]:
    """What observers are told of the events of a session, once the node has acted on them."""
    events = list(events)
    told = [batch for one in events if isinstance(one, Learnt) for batch in one.batches]
    for event in events:
        if not isinstance(event, Learnt):
            told += node.took(session, event, now)
    return told


def take(node: Node, session: Session, data: bytes, now: int = 0) -> list[Changes]:
    """What observers are told of bytes from a peer, once the node has acted on them."""
    return act(node, session, session.receive(data, now), now)


@attrs.define(eq=False)
class Asked:
    """A session as far as the resync sees it."""

    peer: PeerMemory
    asked: int = 0
    expects: int = 0
    asks: int = 0
    learning: bool = False
    lesson_ahead: bool = False
    gives_lesson: bool = False
    shares_wait: bool = False
    tables: tuple[TableStore, ...] = ()

    @property
    def defined(self) -> tuple[TableStore, ...]:
        return self.tables

    def ask_for_lesson(self) -> None:
        self.asked += 1

    def lacks(self, table: TableStore) -> bool:
        return table not in self.tables

    def expect_lesson(self) -> None:
        self.expects += 1

    def ask_later(self) -> None:
        self.asks += 1


class TimedResync:
    """A resync whose node wakes it in time, and notes when it becomes up to date."""

    def __init__(self) -> None:
        self.resync = Resync(LOG, random.Random(1))
        self.now = 0
        self.done: list[str] = []
        """The reasons for which it became up to date."""

    def _happened(self, before: bool) -> None:
        if self.resync.up_to_date and not before:
            self.done.append(self.resync.reason)

    def do(self, what: Callable[..., None], *about: object, **more: bool) -> None:
        """Something happens now: a method of the resync."""
        before = self.resync.up_to_date
        what(*about, self.now, **more)
        self._happened(before)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + round(seconds * 1000)
        while self.resync.deadline is not None and self.resync.deadline <= end:
            self.now = self.resync.deadline
            self.do(self.resync.wake)
        self.now = end


class NodeTestCase(SynchronousTestCase):
    """A node, and what its observers are told."""

    def setUp(self) -> None:
        self.node = make_node()
        self.told: list[Changes] = []

    def take(self, session: Session, data: bytes, now: int = 0) -> None:
        """A peer has sent something."""
        self.told += take(self.node, session, data, now)

    def act(self, session: Session, events: Iterable[Event], now: int = 0) -> None:
        """Something has happened to a session."""
        self.told += act(self.node, session, events, now)

    def wake(self, session: Session, now: int) -> None:
        """Time has passed for a session."""
        self.act(session, session.wake(now), now)

    def read_on(self, session: Session, now: int = 0) -> None:
        """A session has its next turn of reading."""
        self.act(session, session.read_on(now), now)
