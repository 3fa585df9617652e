"""``metrics-top``: which entries with the highest values are metrics, for those who ask for it."""

from __future__ import annotations

import re
from typing import Final

import attrs

from peerproto.service.section import Line

MOST_ENTRIES: Final = 100
"""Entries of one `Top`."""

MOST_TOPS: Final = 10
"""How many of them there may be."""

_WORDS: Final = re.compile(r"(?P<table>\S+):(?P<by>[a-z0-9_\[\]]+):(?P<count>\d{1,3})")


@attrs.frozen
class Top:
    """The entries of a table with the highest values of one name."""

    table: str
    by: str
    count: int


def read_tops(line: Line) -> tuple[Top, ...]:
    """The value of ``metrics-top``: ``rates:http_req_rate:20``, or several with blanks between.

    :raises ConfigError: it is something else, or more than there may be.
    """
    tops = []
    for word in line.value.split():
        found = _WORDS.fullmatch(word)
        if found is None or not 1 <= int(found["count"]) <= MOST_ENTRIES:
            raise line.wrong(
                f"<table>:<value>:<count>, such as rates:http_req_rate:20, with a count from 1 to"
                f" {MOST_ENTRIES}",
                word,
            )
        tops.append(Top(found["table"], found["by"], int(found["count"])))
    if not 1 <= len(tops) <= MOST_TOPS:
        raise line.wrong(f"1 to {MOST_TOPS} times <table>:<value>:<count>")
    if len({(one.table, one.by) for one in tops}) < len(tops):
        raise line.wrong("each table and value once")
    return tuple(tops)
