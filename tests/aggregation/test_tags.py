"""Tags of which the sum has the one that was changed last."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Optional
from unittest.mock import patch

from peerproto import StickTableService
from peerproto.service.feed import Feed
from tests.aggregation.fleet import AggregateTestCase

KEYS = 9


class TagTests(AggregateTestCase):
    """A hub whose sources have different tags of some keys: first one, then the other."""

    line = "type integer size 1m expire 1m store gpc0,gpt(1)"

    def setUp(self) -> None:
        feed = StickTableService.feed

        def small(service: StickTableService, tables: Optional[Collection[str]] = None) -> Feed:
            return feed(service, tables, most=KEYS - 1)

        with patch.object(StickTableService, "feed", small):
            super().setUp()
        self.begin()
        for one, tag in ((self.a, 1), (self.b, 2)):
            for key in range(KEYS):
                one.table("t").set(key, {"gpt[0]": tag})
                self.network.advance(0.01)
        self.network.advance(0.1)

    def tags(self) -> set[Any]:
        return {entry["gpt[0]"] for entry in self.hub.table("t.sum")}

    def known(self) -> int:
        """Of how many keys it is known who has changed what."""
        last_said = self.aggregation.aggregates["t"].publisher.last_said
        return 0 if last_said is None else len(last_said)

    def test_a_peer_comes(self) -> None:
        """Who has changed what stays known when there is one more peer, as after SIGHUP."""
        self.assertEqual((self.tags(), self.known()), ({2}, KEYS))
        for key in range(KEYS):
            self.a.table("t").count(key, gpc0=1)
            self.network.advance(0.01)
        self.hub.expect_peer("c")
        self.network.advance(1)
        self.assertEqual((self.tags(), self.known()), ({2}, KEYS))

    def test_cleared(self) -> None:
        """Nothing is known of keys that are gone, however many go at once, the sums too."""
        for share in self.hub.table("t").contributions().values():
            share.clear()
        self.hub.table("t.sum").clear()
        self.network.advance(1)
        self.assertEqual((self.tags(), self.known()), (set(), 0))

    def test_expired(self) -> None:
        """Nothing is known of keys that have expired."""
        self.network.advance(90)
        self.assertEqual((self.tags(), self.known()), (set(), 0))

    def test_a_peer_goes(self) -> None:
        """Nothing is known of keys of which one peer alone says something, the other being none any
        more."""
        self.hub.remove_peer("b")
        self.network.advance(1)
        self.assertEqual((self.tags(), self.known()), ({1}, 0))
