"""``show aggregate``: how the sums stand, and of what one of them is made."""

from __future__ import annotations

from peerproto import CommandError, LocalProtocolError, StickTableService
from peerproto.aggregation.aggregate import Aggregate
from peerproto.service.command import Answer
from peerproto.service.text import format_entry, parse_key


def one_table(aggregate: Aggregate, service: StickTableService) -> Answer:
    """An aggregate, and its sources with a line for each."""
    rules, now = aggregate.rules, service.now()
    why = aggregate.why_not()
    yield (
        f"# aggregate: {rules.source}, to: {rules.output}, authority: "
        f"{'yes' if why is None else f'no ({why})'}, keys: {aggregate.keys()},"
        f" waiting: {aggregate.waiting}, lag: {aggregate.lag()} ms,"
        f" published: {aggregate.published.total} ({aggregate.published.per_second(now)}/s)\n"
    )
    source = service.find_table(rules.source)
    shares = {} if source is None else source.contributions()
    added_up = aggregate.sources.names()
    for name in rules.names(service.peers):
        peer = service.peers.get(name)
        if peer is None:
            state = "no peer of this node"
        elif not peer.connected:
            state = "not connected"
        elif not peer.has_taught(rules.source):
            state = "has not taught yet"
        elif peer.shares_wait:
            state = "may have yet to get back what it had"
        elif aggregate.sources.has_just_come(peer):
            state = "has just come"
        elif aggregate.sources.vouched(name) is None:
            state = "vouches for nothing"
        elif name not in added_up:
            state = "in reserve"
        else:
            ago = peer.status().handshake_ago or 0
            state = f"in for {ago // 1000} s"
        expected = "yes" if rules.expects(name) else "no"
        entries = len(shares[name]) if name in shares else 0
        notes = "".join(f"; {one}" for one in aggregate.comparison.differences(name))
        yield f"  {name}: {state}, expected={expected}, entries={entries}{notes}\n"


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
