"""``show aggregate``: how the sums stand, and of what one of them is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from peerproto import CommandError, Detail, LocalProtocolError, Member, StickTableService
from peerproto.service.command import Answer
from peerproto.service.text import format_entry, parse_key

if TYPE_CHECKING:
    from peerproto.aggregation.aggregate import Aggregate


def one_table(aggregate: Aggregate, service: StickTableService) -> Answer:
    """An aggregate, and its sources with a line for each."""
    rules, now = aggregate.rules, service.now()
    why = aggregate.why_not()
    yield (
        f"# aggregate: {rules.source}, to: {rules.output}, authority: "
        f"{'yes' if why is None else f'no ({why})'},"
        f" for: {(now - aggregate.stands_since) // 1000} s, keys: {aggregate.keys()},"
        f" waiting: {aggregate.waiting}, lag: {aggregate.lag()} ms,"
        f" published: {aggregate.published.total} ({aggregate.published.per_second(now)}/s)\n"
    )
    for one in members(aggregate, service):
        expected = "yes" if rules.expects(one.name) else "no"
        notes = "".join(f"; {note}" for note in one.notes)
        entries = one.values["entries"]
        yield f"  {one.name}: {one.state}, expected={expected}, entries={entries}{notes}\n"


def members(aggregate: Aggregate, service: StickTableService) -> Iterator[Member]:
    """The sources of an aggregate, with what stands in the way of each."""
    rules = aggregate.rules
    source = service.find_table(rules.source)
    shares = {} if source is None else source.contributions()
    now = service.now()
    aggregate.sources.look(now)
    for name in rules.names(service.peers):
        since = aggregate.sources.in_since(name)
        if since is None:
            state = aggregate.sources.why_out(name) or "has just come"
        else:
            state = f"in for {(now - since) // 1000} s"
        entries = len(shares[name]) if name in shares else 0
        values = {"expected": rules.expects(name), "entries": entries}
        yield Member(
            name, since is not None, state, values, tuple(aggregate.comparison.differences(name))
        )


def detail(aggregate: Aggregate, service: StickTableService) -> Detail:
    """An aggregate with its sources."""
    rules, now = aggregate.rules, service.now()
    values = {
        "keys": aggregate.keys(),
        "waiting": aggregate.waiting,
        "lag_ms": aggregate.lag(),
        "published": aggregate.published.total,
        "published_per_s": aggregate.published.per_second(now),
        "lease": rules.lease,
    }
    return Detail(
        rules.source,
        rules.source,
        rules.output,
        aggregate.why_not(),
        values,
        tuple(members(aggregate, service)),
    )


def one_key(aggregate: Aggregate, service: StickTableService, text: str) -> Answer:
    """What each source has of a key, and the sum.

    :raises CommandError: there is no such table yet, or the key is none of it.
    """
    rules = aggregate.rules
    if aggregate.trouble is not None:
        raise CommandError(f"Aggregate {rules.source}: {aggregate.trouble}")
    source, output = service.table(rules.source), service.table(rules.output)
    try:
        raw_key = parse_key(text, source.layout)
    except LocalProtocolError as problem:
        raise CommandError(str(problem)) from problem
    sources = set(aggregate.sources.names())
    for entry in source.entries_of(raw_key):
        if entry.peer in sources:
            yield f"{format_entry(entry)}\n"
    total = output.get_raw(raw_key)
    yield "no sum\n" if total is None else f"{format_entry(total)} sum\n"
