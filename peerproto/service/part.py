"""Parts: the features of a node, as they are found by those who show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, Union

import attrs
from zope.interface import Interface, implementer

from peerproto.service.command import Command

Plain = Union[str, int, float, bool, None]
"""A value that needs no explanation."""


@attrs.frozen
class Metric:
    """Something that is measured."""

    name: str
    """As Prometheus has names: ``peerproto_visitors``."""
    help: str
    """What it is, in a line."""
    value: float
    labels: Mapping[str, str] = attrs.field(factory=dict)
    counter: bool = False
    """Whether it only grows; if not, it is a gauge."""


@attrs.frozen
class Member:
    """A peer that takes part in something: see `Detail`."""

    name: str
    """The name of the peer."""
    is_in: bool
    """Whether it is there, and what it says may be relied on."""
    state: str
    """Why it does or does not, in words."""
    values: Mapping[str, Plain] = attrs.field(factory=dict)
    """What else can be said of it."""
    notes: tuple[str, ...] = ()
    """What is to be known of it, in words."""


@attrs.frozen
class Detail:
    """One of the things that a part does, such as one aggregate."""

    name: str
    reads: Optional[str] = None
    """The name of the table that it is made of."""
    writes: Optional[str] = None
    """The name of the table that it writes."""
    not_ready: Optional[str] = None
    """Why it is not to be relied on, in words; ``None`` if it is."""
    values: Mapping[str, Plain] = attrs.field(factory=dict)
    """How it stands."""
    members: tuple[Member, ...] = ()
    """The peers that take part."""


class IPart(Interface):
    """A feature of a node: see `StickTableService.add_part`.

    The runtime socket and others who show a node find it there. So features serve each other
    without knowing each other.
    """

    def status() -> Mapping[str, Plain]:
        """How it stands, in values by their names."""

    def details() -> Iterable[Detail]:
        """What it does, one thing after the other, with who takes part."""

    def commands() -> Iterable[Command]:
        """The commands that it offers, as long as it is a part."""

    def metrics() -> Iterable[Metric]:
        """What it measures, as of now."""

    def not_ready() -> Optional[str]:
        """Why it is not ready, in words; ``None`` if it is."""

    def writes() -> Iterable[str]:
        """The names of the tables that it alone writes: what others write there does not last."""


@implementer(IPart)
class Part:
    """A part that offers nothing, and is ready: the methods of `IPart` to be overridden."""

    def status(self) -> Mapping[str, Plain]:
        """See `IPart`."""
        return {}

    def details(self) -> Iterable[Detail]:
        """See `IPart`."""
        return ()

    def commands(self) -> Iterable[Command]:
        """See `IPart`."""
        return ()

    def metrics(self) -> Iterable[Metric]:
        """See `IPart`."""
        return ()

    def not_ready(self) -> Optional[str]:
        """See `IPart`."""
        return None

    def writes(self) -> Iterable[str]:
        """See `IPart`."""
        return ()
