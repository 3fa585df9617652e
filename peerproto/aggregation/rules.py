"""The rules of one aggregate: what is added up, of whom, and where the sum goes."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, Optional

import attrs

from peerproto import LocalProtocolError

LONGEST_INTERVAL: Final = 100
"""Time in ms that a change may wait for its interval where the sums are vouched for."""

OR: Final = "|"
"""Between the names of peers that say the same."""

_WILD: Final = frozenset("*?[")


def is_pattern(word: str) -> bool:
    """Whether a word may stand for several names."""
    return not _WILD.isdisjoint(word)


def alternatives(word: str) -> list[str]:
    """The names of the peers that a word stands for, of which one is added up."""
    return word.split(OR)


@attrs.frozen
class Rules:
    """What a ``peers.ini`` says of one aggregate; times are in ms."""

    source: str
    """The table that each peer has a share of."""
    output: str
    """The table that the sums go to."""
    sources: tuple[str, ...] = ("*",)
    """Names of peers, and patterns of names, whose shares are added up; of ``a|b`` one of both."""
    expect: tuple[str, ...] = ()
    """Those of these words that must be in the sum before it has authority."""
    interval: int = 20
    """A key is published at once, and then once in this time."""
    grace: int = 10_000
    """How long a departed peer's current connections count, and how long the sum has no authority
    without a peer that is expected."""
    expect_timeout: int = 10_000
    """How long the node waits for peers that are expected, when it starts."""
    tags: str = "last"
    """How tags of several sources become one: see `peerproto.service.sums.TAG_RULES`."""

    lease: Optional[str] = None
    """The table with the lease; ``None`` for no lease."""
    source_lease: Optional[str] = None
    """The table by which sources vouch for what they say, if they are aggregates themselves."""

    def __attrs_post_init__(self) -> None:
        """
        :raises LocalProtocolError: the output is the source, or changes would wait for longer
            than a lease may say.
        """
        if self.source == self.output:
            raise LocalProtocolError("to", self.output, "another table than its source")
        if self.lease is not None and self.interval > LONGEST_INTERVAL:
            raise LocalProtocolError(
                "interval", f"{self.interval} ms", f"{LONGEST_INTERVAL} ms at most with a lease"
            )

    @property
    def stamped(self) -> bool:
        """Whether entries of the output tell on which session they were sent, as the lease does."""
        return self.lease is not None

    @property
    def made(self) -> tuple[str, ...]:
        """The tables that this aggregate writes."""
        return (self.output,) if self.lease is None else (self.output, self.lease)

    @property
    def shared(self) -> tuple[str, ...]:
        """The tables that peers have shares of."""
        return (self.source,) if self.source_lease is None else (self.source, self.source_lease)

    def of(self, peers: Iterable[str]) -> list[str]:
        """The ones of ``peers`` that are sources."""
        return [
            one
            for one in peers
            if any(fnmatchcase(one, name) for word in self.sources for name in alternatives(word))
        ]

    def names(self, peers: Iterable[str]) -> list[str]:
        """The names of all sources, those that are no peers included."""
        names = [name for word in self.words(peers) for name in alternatives(word)]
        expected = [name for word in self.expect for name in alternatives(word)]
        return list(dict.fromkeys((*names, *expected)))

    def expects(self, name: str) -> bool:
        """Whether a peer is expected, itself or one of several."""
        return any(name in alternatives(word) for word in self.expect)

    def words(self, peers: Iterable[str]) -> list[str]:
        """The words for all sources, with names in place of patterns."""
        several = [word for word in self.sources if OR in word]
        among = {name for word in several for name in alternatives(word)}
        return several + [one for one in self.of(peers) if one not in among]


def check_no_circle(every: Iterable[Rules]) -> None:
    """See that no table comes to depend on itself, and that no two aggregates share one.

    :raises LocalProtocolError: it is not so; ``what`` names the source of the aggregate.
    """
    every = list(every)
    output_of: dict[str, str] = {}
    taken: set[str] = set()
    sources = {table for rules in every for table in rules.shared}
    for rules in every:
        for table in rules.made:
            if table in taken or (table != rules.output and table in sources):
                raise LocalProtocolError(rules.source, table, "a table of its own")
            taken.add(table)
        output_of[rules.source] = rules.output
        seen = [rules.source, rules.output]
        while seen[-1] in output_of:
            if seen[-1] == rules.source:
                way = " to ".join(seen)
                raise LocalProtocolError(rules.source, rules.output, f"no circle: {way}")
            seen.append(output_of[seen[-1]])
