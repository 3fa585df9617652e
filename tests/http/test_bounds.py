"""What the documents say of bounds is so."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import tests
from peerproto.http import config, entries, events, follower, many, routes, site, writelog

DOC = Path(tests.__file__).parent.parent / "doc"


def text_of(name: str) -> str:
    return (DOC / name).read_text()


def rows_of(name: str) -> dict[str, str]:
    """The table under the heading "Bounds"."""
    _, _, section = text_of(name).partition("\n## Bounds\n")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return dict(rows[2:])


class BoundsTests(SynchronousTestCase):
    maxDiff = None

    def test_http(self) -> None:
        """Those of http.md."""
        self.assertEqual(
            rows_of("http.md"),
            {
                "body of a request": f"{site.LONGEST_BODY >> 20} MiB (413)",
                "request line and headers": (
                    f"{site.LONGEST_HEAD >> 10} KiB, {site.MOST_HEADERS} headers"
                ),
                "parameters of a query, filters": (
                    f"{routes.MOST_PARAMETERS}, {entries.MOST_FILTERS}"
                ),
                "connections": (
                    f"{site.MOST_CONNECTIONS} (503, for which others stay {site.LEAVING:g} s)"
                ),
                "clients of the stream of events": (
                    f"{config.DEFAULT_EVENT_CLIENTS}, or `event-clients` (503)"
                ),
                "silence of a client": f"{site.IDLE_TIME:g} s",
                "a whole request, however it trickles": f"{site.REQUEST_TIME:g} s (408)",
                "time until a client has taken what waits for it": (
                    f"{site.STALLED:g} s, then it is dropped"
                ),
                "lines in the log of writes that are refused": (
                    f"{writelog.MOST_REFUSED} in {writelog.PERIOD:g} s,"
                    f" of {writelog.LONGEST} characters a word"
                ),
                "lines in the log of changes in one call": (
                    f"one each of up to {writelog.MOST_IN_FULL}; of more, one for some"
                    f" {writelog.KEYS_LENGTH:,} characters of keys, and {writelog.MOST_IN_FULL} for"
                    " those that were not made"
                ),
            },
        )
        text = " ".join(text_of("http.md").split())
        for said in (
            f"`limit` ({entries.ENTRIES}, and {entries.MOST_ENTRIES} at most)",
            f"once {entries.LOOKS:,} keys were looked at",
            f"`key`, up to {entries.MOST_KEYS} times",
            f"Many changes in one call, {many.MOST_CHANGES:,} at most",
        ):
            self.assertIn(said, text)

    def test_events(self) -> None:
        """Those of events.md."""
        self.assertEqual(
            rows_of("events.md"),
            {
                "clients": (
                    f"{config.DEFAULT_EVENT_CLIENTS}, or `event-clients` in `[http]`, up to"
                    f" {config.MOST_EVENT_CLIENTS}; others get 503"
                ),
                "keys that wait for a client": (
                    f"{follower.MOST_WAITING:,}: some MB for a client that reads nothing"
                ),
                "silence of the node": f"{events.HEARTBEAT:g} s, then a comment comes",
                "time in which a client takes nothing": f"{site.STALLED:g} s, then it is dropped",
            },
        )
