"""The output of an aggregate: a table that ``[tables]`` has, or one by what the source is."""

from __future__ import annotations

from typing import Optional

import attrs

from peerproto import Declaration, StickTable, StickTableService
from peerproto.aggregation.rules import Rules
from peerproto.service.sums import summed


class Output:
    """Finds or declares the table that sums go to."""

    def __init__(self, service: StickTableService, rules: Rules, own: set[str]) -> None:
        """``own`` are the outputs that aggregates have declared themselves."""
        self._service = service
        self._rules = rules
        self._own = own

    def table_for(self, source: StickTable) -> StickTable:
        """The table as it is now; if it is our own, it is declared so that it fits the source.

        :raises LocalProtocolError: it cannot be declared.
        """
        name = self._rules.output
        output = self._service.find_table(name)
        if output is None or (name in self._own and not self._fits(output, source)):
            self._own.add(name)
            self._service.declare_table(
                attrs.evolve(
                    self._widened(source.declaration),
                    name=name,
                    size=self._size(source),
                    adopted_from=None,
                    learnt=(),
                )
            )
            output = self._service.table(name)
        return output

    def _widened(self, source: Declaration) -> Declaration:
        """The source, with an element for the number of a session if there is to be one."""
        return summed(source, self._rules.stamped, self._rules.source_lease is not None)

    def _fits(self, output: StickTable, source: StickTable) -> bool:
        """Whether it has all columns of its source, its life, and room."""
        mine, theirs = output.declaration, self._widened(source.declaration)
        same = theirs.layout.within(mine.layout) and mine.expire == theirs.expire
        return same and mine.size == self._size(source)

    def _size(self, source: StickTable) -> Optional[int]:
        """The size of the output: each source may have keys of its own."""
        size = source.declaration.size
        return None if size is None else size * max(1, len(self._rules.words(self._service.peers)))
