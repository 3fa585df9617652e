"""The part of a node that its aggregates are: status, metrics and ``show aggregate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from peerproto import Command, CommandError, Detail, Metric, Part, StickTableService
from peerproto.aggregation.showing import detail, one_key, one_table
from peerproto.service.command import Answer
from peerproto.service.part import Plain

if TYPE_CHECKING:
    from peerproto.aggregation.aggregate import Aggregate

NAME = "aggregation"
"""The name of the part."""


class AggregationPart(Part):
    """See the module."""

    def __init__(self, service: StickTableService, aggregates: Mapping[str, Aggregate]) -> None:
        """``aggregates`` are those that there are now, by the tables that they sum."""
        self._service = service
        self._aggregates = aggregates

    def status(self) -> Mapping[str, Plain]:
        """See `IPart`."""
        status: dict[str, Plain] = {}
        for name, one in self._aggregates.items():
            status[f"{name}.to"] = one.rules.output
            status[f"{name}.keys"] = one.keys()
            status[f"{name}.authority"] = one.why_not() is None
        return status

    def details(self) -> Iterable[Detail]:
        """See `IPart`."""
        return [detail(one, self._service) for one in self._aggregates.values()]

    def not_ready(self) -> str | None:
        """See `IPart`."""
        reasons = [
            f"{name}: {why}" for name, one in self._aggregates.items() if (why := one.why_not())
        ]
        return "; ".join(reasons) or None

    def writes(self) -> Iterable[str]:
        """See `IPart`."""
        return [table for one in self._aggregates.values() for table in one.rules.made]

    def metrics(self) -> Iterable[Metric]:
        """See `IPart`."""
        for name, one in self._aggregates.items():
            labels = {"table": name, "to": one.rules.output}
            authority = float(one.why_not() is None)
            yield Metric(
                "peerproto_aggregate_authority", "Whether the sum has authority", authority, labels
            )
            yield Metric("peerproto_aggregate_keys", "Keys of the sum", one.keys(), labels)
            sources = one.sources.names()
            yield Metric(
                "peerproto_aggregate_sources", "Sources that are peers", len(sources), labels
            )
            yield Metric(
                "peerproto_aggregate_sources_in",
                "Sources that are connected, have taught and vouch for what they say",
                sum(one.sources.vouched(name) is not None for name in sources),
                labels,
            )
            yield Metric(
                "peerproto_aggregate_lag_ms",
                "Age of the oldest change that is not published, in ms",
                one.lag(),
                labels,
            )
            yield Metric(
                "peerproto_aggregate_published_total",
                "Sums that were published",
                one.published.total,
                labels,
                counter=True,
            )

    def commands(self) -> Iterable[Command]:
        """See `IPart`."""
        return [
            Command(
                ("show", "aggregate"),
                "[<table> [key <key>]]",
                "what is added up, of whom, and whether it may be relied on",
                self._show,
            )
        ]

    def _show(self, arguments: list[str]) -> Answer:
        name, rest = arguments[:1], arguments[1:]
        if not name:
            for one in self._aggregates.values():
                yield from one_table(one, self._service)
            return
        aggregate = self._aggregates.get(name[0])
        if aggregate is None:
            names = ", ".join(self._aggregates) or "none there is"
            raise CommandError(f"Aggregate: read '{name[0]}', expected one of {names}")
        if not rest:
            yield from one_table(aggregate, self._service)
        elif len(rest) == 2 and rest[0] == "key":
            yield from one_key(aggregate, self._service, rest[1])
        else:
            raise CommandError(f"read '{' '.join(rest)}', expected key <key>")
