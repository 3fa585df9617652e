"""Mirrors that are made of the stream of events alone have in the end what the table has."""

from __future__ import annotations

import random
from typing import Optional

from tests.http.test_events import Client, EventsTestCase, events_in

STEPS = 150
KEYS = 300
"""More than are told in one step."""


class Mirror:
    """One that follows a table, takes nothing at times, breaks off and comes back."""

    def __init__(self, query: str, least: int = 0) -> None:
        self.query = query
        self.least = least
        """Entries with less than that are not meant."""
        self.client: Optional[Client] = None
        self.since: Optional[str] = None
        self.entries: dict[str, int] = {}
        self.resets = self.resumed = 0
        self._read = 0

    def read(self, table: dict[str, int]) -> None:
        """Take over all events that have come; after a reset, the table."""
        assert self.client is not None
        text = self.client.text
        # A client that breaks off may have read a part of an event.
        whole = text.rfind("\n\n") + 2
        for event in events_in(text[:whole])[self._read :]:
            self._read += 1
            self.since = event.id
            if event.name == "hello":
                self.resumed += event.data["resumed"]
            elif event.name == "reset":
                self.resets += 1
                self.entries = {key: one for key, one in table.items() if one >= self.least}
            elif event.name == "entry":
                key, entry = event.data["key"], event.data["entry"]
                if entry is None or not event.data.get("matches", True):
                    self.entries.pop(key, None)
                else:
                    self.entries[key] = entry["values"]["gpc0"]

    def gone(self) -> None:
        """The connection has ended."""
        self.client = None
        self._read = 0


class MirrorTests(EventsTestCase):
    def table(self) -> dict[str, int]:
        """What the table has."""
        return {str(one.key): one.number("gpc0") for one in self.ids}

    def step(self, chance: random.Random, mirrors: list[Mirror]) -> None:
        what = chance.choice("ssssssrrwwppccggx")
        if what == "s":
            for _ in range(chance.choice((1, 200))):
                self.ids.set(chance.randrange(KEYS), gpc0=chance.randrange(10))
        elif what == "r":
            self.ids.remove(chance.randrange(KEYS))
        elif what == "w":
            self.turn(chance.choice((0.001, 0.2, 2)))
        elif what == "x":
            self.ids.clear()
        mirror = chance.choice(mirrors)
        if mirror.client is None:
            mirror.client = self.follow(mirror.query, mirror.since)
        elif what == "p":
            mirror.client.pause()
        elif what == "c":
            mirror.client.resume()
        elif what == "g":
            mirror.read(self.table())
            mirror.client.go()
            mirror.gone()

    def test_mirrors(self) -> None:
        """Whatever is changed, and whoever pauses, breaks off and comes back."""
        resumed = 0
        for seed in range(4):
            chance = random.Random(seed)
            mirrors = [
                Mirror("?table=ids&kind=entry"),
                Mirror("?table=ids"),
                Mirror("?table=ids&kind=entry&interval=500"),
                Mirror("?table=ids&kind=entry&filter=data.gpc0+ge+5", least=5),
            ]
            self.ids.clear()
            self.turn(5)
            for _ in range(STEPS):
                self.cost = chance.choice((0.0001, 0.004))
                self.step(chance, mirrors)
            for mirror in mirrors:
                if mirror.client is None:
                    mirror.client = self.follow(mirror.query, mirror.since)
                mirror.client.resume()
            self.cost = 0.0001
            self.turn(20)
            table = self.table()
            for mirror in mirrors:
                mirror.read(table)
                expected = {key: one for key, one in table.items() if one >= mirror.least}
                if mirror.least:
                    # What a listing had is not told of when it matches no longer.
                    mirror.entries = {key: mirror.entries.get(key, -1) for key in expected}
                self.assertEqual(mirror.entries, expected, (seed, mirror.query, mirror.resets))
                resumed += mirror.resumed
                assert mirror.client is not None
                mirror.client.go()
            self.turn(1)
        self.assertGreater(resumed, 20)
