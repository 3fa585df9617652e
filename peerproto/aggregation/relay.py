"""A relay: HAProxies that are connected with hubs, and not with each other."""

from __future__ import annotations

import attrs

from peerproto import LocalProtocolError, StickTableService


@attrs.frozen
class Relay:
    """Passes on what one peer says to the others, for some tables.

    What comes from a hub goes to peers that are no hubs: hubs know each other.
    """

    tables: tuple[str, ...] = ()
    hubs: frozenset[str] = frozenset()
    """The names of those peers that are hubs, too."""

    def __call__(self, source: str, target: str) -> bool:
        """Whether what the first peer says goes to the second, by their names."""
        return not (source in self.hubs and target in self.hubs)

    def begin(self, service: StickTableService, before: Relay) -> None:
        """Relay from now on, in place of the one before. No session is touched.

        :raises LocalProtocolError: a table is shared otherwise.
        """
        problems = []
        for name in {*before.tables, *self.tables}:
            try:
                service.share(name, relay=self if name in self.tables else False)
            except LocalProtocolError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
