"""Comparison of the tables of peers with those of an aggregate, in what a sum depends on.

A HAProxy takes a rate for one of the period that its own table has, and leaves out what its table
does not have, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from twisted.logger import Logger

from peerproto import StickTable, StickTableService
from peerproto.aggregation.rules import Rules


class Comparison:
    """Knows what peers have defined otherwise than this node has it."""

    _log = Logger()

    def __init__(self, service: StickTableService, rules: Rules) -> None:
        self._service = service
        self._rules = rules
        self._logged: Optional[str] = None

    def other_periods(self, sources: Iterable[str]) -> Optional[str]:
        """Which rates have another period with a source than here, in words; ``None`` if there are
        none. What is new of that is logged.

        :param sources: the names of peers.
        """
        table = self._service.find_table(self._rules.source)
        why = None if table is None else "; ".join(self._periods(table, list(sources))) or None
        if why != self._logged:
            self._logged = why
            if why is not None:
                name = self._rules.source
                self._log.error("aggregate {name} has no authority: {why}", name=name, why=why)
        return why

    def _periods(self, table: StickTable, sources: list[str]) -> Iterator[str]:
        peers = self._service.peers
        defined = {name: peers[name].columns_of(table.name) for name in sources if name in peers}
        for column in table.layout.columns:
            by_period: dict[int, list[str]] = {}
            for name, columns in defined.items():
                period = columns[column.name].period if column.name in columns else None
                if period is not None:
                    by_period.setdefault(period, []).append(name)
            if by_period.keys() - {column.period}:
                read = ", ".join(
                    f"{period} ms with {' and '.join(names)}"
                    for period, names in sorted(by_period.items())
                )
                yield (
                    f"the period of {column.name} in table {table.name} is {column.period} ms"
                    f" here, {read}"
                )

    def differences(self, peer: str) -> Iterator[str]:
        """What the output of a peer has otherwise than ours, in words, as far as the peer has
        defined it.

        :param peer: its name.
        """
        output = self._service.find_table(self._rules.output)
        known = self._service.peers.get(peer)
        theirs = {} if known is None else known.columns_of(self._rules.output)
        if output is None or known is None or not theirs:
            return
        for column in output.layout.columns:
            there = theirs.get(column.name)
            if there is None:
                # A peerproto has not defined it yet, but may have it.
                if not known.is_peerproto:
                    yield f"its table {output.name} has no {column.name}"
            elif there.period not in (None, column.period):
                yield (
                    f"its table {output.name} has {column.name} with a period of"
                    f" {there.period} ms, here it is {column.period} ms"
                )
            elif (there.elements or 1) < (column.elements or 1):
                number = self._rules.stamped and column.name == "gpt"
                last = ", the last of which is the number of its session" if number else ""
                yield (
                    f"its table {output.name} has {there.elements} elements of {column.name},"
                    f" here there are {column.elements}{last}"
                )
