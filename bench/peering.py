"""Nodes and their sessions without connections, for measurements of what they do alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Optional

from twisted.internet.task import Clock
from twisted.logger import Logger

from peerproto.peering.events import Learnt
from peerproto.peering.node import Node
from peerproto.peering.session import Session
from peerproto.service.batch import Batch
from peerproto.service.observers import Observer
from peerproto.service.service import StickTableService
from peerproto.tables.changes import Changes
from peerproto.tables.declaration import Declaration


def make_node(declarations: Iterable[Declaration] = ()) -> Node:
    """A node that has not begun to learn."""
    return Node("us", Logger(namespace="bench"), declarations)


def begin(node: Node, name: str = "them") -> Session:
    """A session of a node with a peer."""
    return node.begin(node.expect(name, 0), 1, 0)


def receive(
    session: Session, data: bytes, tell: Optional[Callable[[list[Changes]], None]] = None
) -> None:
    """Take bytes from a peer, and tell what was learnt."""
    for event in session.receive(data, 0):
        if tell is not None and isinstance(event, Learnt):
            tell(event.batches)


class Told(Observer):
    """An observer that is a function."""

    def __init__(self, told: Callable[[Batch], None]) -> None:
        self._told = told

    def table_changed(self, batch: Batch) -> None:
        self._told(batch)


def observed(
    declarations: Iterable[Declaration], told: Callable[[Batch], None]
) -> StickTableService:
    """A service that was not started, with an observer."""
    return StickTableService("us", tables=declarations, observers=[Told(told)], reactor=Clock())
