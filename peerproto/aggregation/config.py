"""``[aggregate <table>]`` and ``[relay]`` of a ``peers.ini``, each with every error at its line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

from peerproto import Declaration, LocalProtocolError
from peerproto.aggregation.lease import check_lease
from peerproto.aggregation.relay import Relay
from peerproto.aggregation.rules import Rules, alternatives, check_no_circle, is_pattern
from peerproto.service.section import Line, Section, milliseconds, text
from peerproto.service.sums import TAG_RULES, check, check_number

WORD: Final = "aggregate"
"""How the heading of an aggregate begins."""


def _words(line: Line) -> tuple[str, ...]:
    return tuple(line.value.split())


_KEYS: Final[dict[str, Callable[[Line], Any]]] = {
    "to": text,
    "from": _words,
    "expect": _words,
    "interval": milliseconds,
    "grace": milliseconds,
    "expect-timeout": milliseconds,
    "gpt": lambda line: line.choose(*TAG_RULES),
    "lease": text,
    "source-lease": text,
}

_NAMES: Final = {"to": "output", "from": "sources", "gpt": "tags"}
"""Keys that `Rules` knows by another name."""


def read_aggregates(
    sections: Iterable[Section], peers: Collection[str], tables: Iterable[Declaration]
) -> tuple[Rules, ...]:
    """The aggregates of a file.

    :param peers: the names of the remote peers.
    :param tables: the tables of ``[tables]``.
    :raises ConfigError: something in a section is wrong, or does not fit the rest of the file.
    """
    declared = {one.name: one for one in tables}
    read: dict[str, tuple[Rules, Section]] = {}
    for section in sections:
        rules = _read(section)
        _check_peers(rules, section, peers)
        _check_tables(rules, section, declared)
        read[rules.source] = (rules, section)
    try:
        check_no_circle(rules for rules, _ in read.values())
    except LocalProtocolError as problem:
        rules, section = read[problem.what]
        line = section.lines["lease" if problem.read == rules.lease else "to"]
        raise line.wrong(problem.expected) from problem
    return tuple(rules for rules, _ in read.values())


def _read(section: Section) -> Rules:
    source = section.name.partition(" ")[2]
    values = section.values(_KEYS)
    if "to" not in values:
        raise section.wrong("to = <table> in it")
    if "expect" not in values:
        values["expect"] = tuple(one for one in values.get("from", ()) if not is_pattern(one))
    named = {_NAMES.get(key, key.replace("-", "_")): value for key, value in values.items()}
    try:
        return Rules(source, **named)
    except LocalProtocolError as problem:
        raise section.lines[problem.what].wrong(problem.expected) from problem


def _check_peers(rules: Rules, section: Section, peers: Collection[str]) -> None:
    for key, words in (("from", rules.sources), ("expect", rules.expect)):
        line = section.lines.get(key) or section.lines.get("from")
        if line is not None:
            for word in words:
                _check_word(word, line, peers)
    strangers = [one for one in rules.expect if one not in rules.words(peers)]
    if strangers:
        line = section.lines["expect"]
        raise line.wrong(f"a source: from = {' '.join(rules.sources)}", strangers[0])


def _check_word(word: str, line: Line, peers: Collection[str]) -> None:
    names = alternatives(word)
    for name in names:
        if not is_pattern(name) and name not in peers:
            raise line.wrong(f"one of {', '.join(peers) or 'no peers'}", name)
        if is_pattern(name) and len(names) > 1:
            raise line.wrong("names alone", word)


def _check_tables(rules: Rules, section: Section, declared: Mapping[str, Declaration]) -> None:
    source, output = declared.get(rules.source), declared.get(rules.output)
    for key, lease in (("lease", rules.lease), ("source-lease", rules.source_lease)):
        if lease is not None and lease in declared:
            _fits(section.lines[key], partial(check_lease, declared[lease]))
    if output is None:
        return
    if source is not None:
        as_source = f", as table {source.name} has it"
        _fits(section.lines["to"], partial(check, source, output), as_source)
    if rules.stamped:
        layout = None if source is None else source.layout
        numbered = rules.source_lease is not None
        _fits(section.lines["to"], partial(check_number, output.layout, layout, numbered))


def _fits(line: Line, check: Callable[[], None], why: str = "") -> None:
    try:
        check()
    except LocalProtocolError as problem:
        raise line.wrong(f"{problem.expected}{why}", f"{problem.what} {problem.read}") from None


_RELAY_KEYS: Final[dict[str, Callable[[Line], Any]]] = {"tables": _words, "hubs": _words}


def read_relay(section: Section, peers: Collection[str], aggregates: Iterable[Rules]) -> Relay:
    """What a file says of a relay; of nothing, if there is no such section.

    :param peers: the names of the remote peers.
    :raises ConfigError: something in it is wrong, or does not fit the rest of the file.
    """
    if not section.number:
        return Relay()
    values = section.values(_RELAY_KEYS)
    if "tables" not in values:
        raise section.wrong("tables = <tables> in it")
    for word in values.get("hubs", ()):
        if word not in peers:
            raise section.lines["hubs"].wrong(f"one of {', '.join(peers) or 'no peers'}", word)
    for rules in aggregates:
        for table in (*rules.shared, *rules.made):
            if table in values["tables"]:
                expected = f"a table of no aggregate: there is [{WORD} {rules.source}]"
                raise section.lines["tables"].wrong(expected, table)
    return Relay(values["tables"], frozenset(values.get("hubs", ())))
