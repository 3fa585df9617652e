"""``metrics-top``: the entries with the highest values, as metrics, for those who ask for it."""

from __future__ import annotations

import re
from typing import Final, Optional

import attrs
from prometheus_client.core import GaugeMetricFamily
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from peerproto import Entry, LocalProtocolError, StickTableService
from peerproto.http.printable import printable
from peerproto.service.section import Line
from peerproto.service.text import format_key

MOST_ENTRIES: Final = 100
"""Entries of one `Top`."""

MOST_TOPS: Final = 10
"""How many of them there may be."""

NAME: Final = "peerproto_top"

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


class TopEntries:
    """Finds the entries, in turns with other work."""

    _log = Logger()

    def __init__(self, service: StickTableService, tops: tuple[Top, ...]) -> None:
        self._service = service
        self._tops = tops
        self._told: dict[Top, str] = {}
        """What was logged of those that failed."""

    async def family(self) -> Optional[GaugeMetricFamily]:
        """All that is found; ``None`` if nothing was asked for. A table that is not there has no
        entries.

        :raises CancelledError: the service stops.
        """
        if not self._tops:
            return None
        family = GaugeMetricFamily(
            NAME,
            "Entries with the highest values, as metrics-top asks for them",
            labels=("table", "value", "key", "peer"),
        )
        for top in self._tops:
            for entry in await self._find(top):
                key = format_key(entry.raw_key, entry.layout.key_type)
                labels = (printable(top.table), top.by, key, printable(entry.peer or ""))
                family.add_metric(labels, entry.number(top.by))
        return family

    async def _find(self, top: Top) -> list[Entry]:
        table = self._service.find_table(top.table)
        try:
            found = [] if table is None else await table.top_in_turns(top.count, top.by)
        except CancelledError:
            raise
        except LocalProtocolError as problem:
            if self._told.get(top) != str(problem):
                self._told[top] = str(problem)
                self._log.warn(
                    "metrics-top {table}:{by}: {problem}",
                    table=top.table,
                    by=top.by,
                    problem=problem,
                )
            return []
        return found
