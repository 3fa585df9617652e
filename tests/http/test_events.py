"""The stream of events: who is told what, at which pace, and how to go on after a break."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, Optional

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from peerproto import Batch, Cause, Declaration, Part
from peerproto.http.channel import FLOOD_PAUSE, MOST_HELD, MOST_PAUSES
from peerproto.http.config import HttpSettings
from peerproto.http.events import HEARTBEAT, LINGER
from peerproto.http.follower import MOST_WAITING
from peerproto.http.service import HttpService
from peerproto.http.site import STALLED
from peerproto.http.sse import Place
from peerproto.http.tokens import Token
from peerproto.testing import MemoryNetwork
from tests.http.client import READER, TABLES, WRITER, HttpTestCase, Reply, parse


@attrs.frozen
class Event:
    """An event as a client reads it."""

    name: str
    data: Any
    id: str
    """The place after it, which may be that of an earlier one."""


def events_in(text: str) -> list[Event]:
    """What a browser makes of a stream."""
    found = []
    place = ""
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        place = fields.get("id", place)
        if "event" in fields:
            found.append(Event(fields["event"], json.loads(fields["data"]), place))
    return found


class Client:
    """One that follows the stream."""

    def __init__(self, channel: Any, transport: StringTransport) -> None:
        self.channel = channel
        self.transport = transport

    @property
    def reply(self) -> Reply:
        """The head of the answer."""
        return parse(self.transport.value())[0]

    @property
    def text(self) -> str:
        """The body so far: its pieces, without their lengths."""
        _, _, rest = self.transport.value().partition(b"\r\n\r\n")
        text = b""
        while rest:
            length, _, rest = rest.partition(b"\r\n")
            size = int(length, 16)
            text += rest[:size]
            rest = rest[size + 2 :]
        return text.decode("ascii")

    @property
    def events(self) -> list[Event]:
        """All events so far."""
        return events_in(self.text)

    def named(self, *names: str) -> list[Event]:
        """Those with one of some names."""
        return [one for one in self.events if one.name in names]

    @property
    def entries(self) -> list[tuple[str, Optional[int]]]:
        """By key, ``gpc0`` of the entries that were told of, in order; ``None`` if one was gone."""
        return [
            (one.data["key"], one.data["entry"] and one.data["entry"]["values"]["gpc0"])
            for one in self.named("entry")
        ]

    @property
    def _producer(self) -> Any:
        return self.transport.producer

    def pause(self) -> None:
        """Take nothing more."""
        self._producer.pauseProducing()

    def resume(self) -> None:
        """Take what waits."""
        self._producer.resumeProducing()

    def go(self) -> None:
        """Leave."""
        self.channel.connectionLost(Failure(ConnectionDone()))


class EventsTestCase(HttpTestCase):
    def begin(self, settings: Optional[HttpSettings] = None) -> None:
        self.cost = 0.0001
        self.spent = 0.0
        super().begin(settings)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.ids = self.service.table("ids")

    def timer(self) -> float:
        """Lets each step of work cost the same."""
        self.spent += self.cost
        return self.spent

    def follow(self, query: str = "", since: Optional[str] = None, turns: int = 1) -> Client:
        """A client that has been greeted, and what happens in some turns after that."""
        channel, transport = self.connect()
        last = "" if since is None else f"Last-Event-ID: {since}\r\n"
        request = f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        channel.dataReceived(request.encode("latin-1"))
        for _ in range(turns):
            self.turn()
        return Client(channel, transport)

    def turn(self, seconds: float = 0.2) -> None:
        """Let happen what is due."""
        for _ in range(20):
            self.clock.advance(seconds / 20)

    def change(self, *keys: int, value: int = 1) -> None:
        """Change entries, each by itself."""
        for key in keys:
            self.ids.set(key, gpc0=value)


class FollowTests(EventsTestCase):
    def test_hello(self) -> None:
        """A client is greeted, told how all stands, and of each change with its reason."""
        self.service.expect_peer("lb1")
        client = self.follow("?table=ids")
        self.assertEqual(client.reply.status, 200)
        self.assertEqual(client.reply.headers["content-type"], "text/event-stream")
        self.assertEqual(client.reply.headers["cache-control"], "no-store")
        self.assertTrue(client.text.startswith("retry: 1000\nid: "))
        self.assertEqual([one.name for one in client.events], ["hello", "resync", "peer", "table"])
        hello, resync, peer, table = (one.data for one in client.events)
        self.assertEqual((hello["node"], hello["resumed"]), ("app", False))
        self.assertEqual((resync["state"], resync["up_to_date"]), ("waiting", False))
        self.assertEqual((peer["name"], peer["in_step"]), ("lb1", False))
        self.assertEqual(peer["reasons"], ["not_connected"])
        self.assertEqual((table["name"], table["type"]), ("ids", "integer"))
        self.ids.set(7, gpc0=3)
        self.turn()
        (told,) = client.named("entry")
        self.assertEqual(
            told.data,
            {
                "table": "ids",
                "key": "7",
                "cause": "set",
                "origin": None,
                "entry": {
                    "key": "7",
                    "expires_in": None,
                    "values": {"gpc0": 3, "bytes_out_cnt": 0},
                },
            },
        )
        self.ids.remove(7)
        self.turn()
        last = client.named("entry")[-1].data
        self.assertEqual((last["cause"], last["entry"]), ("cleared", None))

    def test_learnt(self) -> None:
        """What a peer has sent names it."""
        client = self.follow("?table=ids&kind=entry")
        store = self.service.node.tables["ids"]
        changes = store.store([((5).to_bytes(4, "big"), 5000, b"\x01\x02")], 0)
        self.service.changed([attrs.evolve(one, origin="lb1") for one in changes])
        self.turn()
        (told,) = client.named("entry")
        self.assertEqual((told.data["cause"], told.data["origin"]), ("learnt", "lb1"))

    def test_choice(self) -> None:
        """A client gets the tables and kinds that it has asked for, also a table that comes later
        under one of these names, or any if it named none."""
        chosen, all_of_them = self.follow("?table=ids&kind=entry"), self.follow()
        self.service.table("small").set(1, gpc0=9)
        self.change(2)
        self.turn()
        declaration = self.ids.declaration
        self.service.remove_table("ids")
        self.turn()
        self.service.add_table(declaration)
        self.turn()
        self.ids = self.service.table("ids")
        self.change(3)
        self.turn()
        self.assertEqual(chosen.entries, [("2", 1), ("2", None), ("3", 1)])
        self.assertEqual({one.name for one in chosen.events}, {"hello", "entry"})
        told = [(one.data["table"], one.data["key"]) for one in all_of_them.named("entry")]
        self.assertEqual(sorted(told), [("ids", "2"), ("ids", "2"), ("ids", "3"), ("small", "1")])
        tables = [one.data for one in all_of_them.named("table") if one.data["name"] == "ids"]
        self.assertEqual([one.get("removed", False) for one in tables], [False, True, False])

    def test_comes_with_entries(self) -> None:
        """Entries that change in the turn in which their table comes are told: of a new table, and
        of one that comes back after it was forgotten."""
        all_of_them, chosen = self.follow(), self.follow("?table=ids&kind=entry")
        declaration = self.ids.declaration
        self.service.remove_table("ids")
        self.turn(2 * LINGER)
        for name in ("ids", "new"):
            table = self.service.add_table(attrs.evolve(declaration, name=name))
            table.set(4, gpc0=5)
            self.turn()
        told = [(one.data["table"], one.data["key"]) for one in all_of_them.named("entry")]
        self.assertEqual(told, [("ids", "4"), ("new", "4")])
        self.assertEqual(chosen.entries, [("4", 5)])

    def test_comes_with_a_lesson(self) -> None:
        """So are those that a peer sends with the definition of a table that is adopted then."""
        network = MemoryNetwork()
        self.addCleanup(network.stop)
        self.clock = network.clock
        self.service = network.peer("app", {"ids": TABLES["ids"]}, learn_tables=True)
        self.begin()
        client = self.follow("?kind=entry")
        peer = network.raw_peer("lb1", "app")
        network.advance(0)
        peer.define(Declaration.parse("theirs", TABLES["ids"]))
        peer.update(7, {"gpc0": 3})
        network.advance(1)
        self.assertEqual(client.entries, [("7", 3)])
        client.go()

    def test_wrong(self) -> None:
        """What cannot be read is named, and so is a table that there is not."""
        for query, status, field in (
            ("?table=none", 404, "query.table"),
            ("?table=a%5C", 404, "query.table"),
            ("?kind=entries", 400, "query.kind"),
            ("?table=ids&interval=-1", 400, "query.interval"),
            ("?table=ids&interval=60001", 400, "query.interval"),
            ("?table=ids&filter=gpc0", 400, "query.filter"),
            ("?table=ids&filter=data.gpc0%20is%201", 400, "query.filter"),
            ("?table=ids&filter=data.gpc1%20gt%201", 422, "query.filter"),
            ("?table=ids&prefix=1", 422, "query.prefix"),
            ("?table=paths&prefix=%5C", 422, "query.prefix"),
            ("?table=ids&cidr=10.0.0.0/8", 422, "query.cidr"),
            ("?table=ids&cidr=ten", 422, "query.cidr"),
            ("?filter=data.gpc0%20gt%201", 422, "query.table"),
            ("?token=x", 400, "query.token"),
        ):
            reply = self.get(f"/v1/events{query}")
            self.assertEqual((reply.status, query), (status, query))
            self.assertEqual(reply.json["errors"][0]["field"], field)

    def test_who_may(self) -> None:
        """Where reading takes a token, the stream does."""
        self.watching.stop()
        self.begin(HttpSettings(readers=Token(READER.encode()), writers=Token(WRITER.encode())))
        self.assertEqual(self.get("/v1/events").status, 401)
        self.assertEqual(self.get("/metrics").status, 401)
        self.assertEqual(self.get("/metrics", token=READER).status, 200)

    def test_head(self) -> None:
        """``HEAD`` does not follow anything."""
        reply = self.ask("HEAD", "/v1/events")
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "text/event-stream"))

    def test_too_many(self) -> None:
        """Beyond the bound clients are turned away, until another one leaves."""
        self.watching.stop()
        self.begin(HttpSettings(event_clients=2))
        clients = [self.follow(), self.follow()]
        reply = self.get("/v1/events")
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "5"))
        clients[0].go()
        self.turn()
        self.assertEqual(self.follow().reply.status, 200)
        figures = {one.name: one.value for one in self.watching.events.metrics()}
        self.assertEqual(figures["peerproto_events_clients"], 2)
        self.assertEqual(figures["peerproto_events_clients_limit"], 2)
        self.assertEqual(figures["peerproto_events_refused_total"], 1)
        self.assertGreater(figures["peerproto_events_sent_total"], 2)

    def test_odd_bytes(self) -> None:
        """Whatever a key is, its event is one line of ASCII that ends nothing and opens nothing."""
        client = self.follow("?table=paths&kind=entry")
        odd = '\r\n\n</b>"\x1b[1m\udcffé\\'
        self.service.table("paths").set(odd, {"server_key": "\udcfe\nevent: x"})
        self.turn()
        (told,) = client.named("entry")
        self.assertEqual(told.data["key"], '\r\n\n</b>"\x1b[1m\\xFFé\\\\')
        self.assertEqual(told.data["entry"]["values"]["server_key"], "\\xFE\nevent: x")
        (line,) = [one for one in client.text.split("\n") if '"key"' in one]
        self.assertTrue(line.isascii() and line.isprintable() and "<" not in line)

    def test_shares(self) -> None:
        """Of a table that is shared per peer, an event says whose share it is about."""
        self.service.expect_peer("lb1")
        self.service.share("ids", per_peer=True)
        client = self.follow("?table=ids&kind=entry")
        self.service.table("ids").set(4, gpc0=2, peer="lb1")
        self.turn()
        (told,) = client.named("entry")
        self.assertEqual((told.data["peer"], client.entries), ("lb1", [("4", 2)]))

    def test_stop(self) -> None:
        """When the node stops, clients are told, and the stream ends."""
        client = self.follow()
        client.pause()
        stuck, client = client, self.follow()
        self.watching.stop()
        self.assertEqual(client.events[-1].name, "end")
        self.assertEqual(client.events[-1].data, {"why": "the node stops"})
        self.assertTrue(client.transport.value().endswith(b"0\r\n\r\n"))
        self.assertTrue(stuck.transport.disconnecting or stuck.transport.disconnected)

    def test_tokens_change(self) -> None:
        """When the tokens change, clients are let go: those that still may come back and go on."""
        endpoint: Any = None
        http = HttpService(self.service, endpoint, HttpSettings(), self.clock)
        self.watching.stop()
        self.access, self.site, self.watching = http.access, http.site, http.watching
        self.addCleanup(http.watching.stop)
        client = self.follow("?table=ids")
        http.take(HttpSettings(hosts=frozenset({"a.example"})))
        self.assertEqual(client.events[-1].name, "table")
        http.take(HttpSettings(readers=Token(READER.encode())))
        self.assertEqual(client.events[-1].data, {"why": "the tokens have changed"})
        self.assertEqual(self.get("/v1/events").status, 401)
        http.take(HttpSettings())
        again = self.follow("?table=ids", client.events[-2].id)
        self.assertTrue(again.events[0].data["resumed"])

    def test_nobody_follows(self) -> None:
        """Without clients nothing is looked at, and after a minute nothing is held."""
        client = self.follow()
        before = len(self.service.dispatcher.feeds)
        client.go()
        self.turn(LINGER - 1)
        self.assertEqual(len(self.service.dispatcher.feeds), before)
        self.turn(4)
        self.turn(4)
        self.assertEqual(self.service.dispatcher.feeds, [])
        self.assertEqual(self.service.dispatcher.observers, [])


class StandingTests(EventsTestCase):
    def test_peers_and_resync(self) -> None:
        """Peers that come and go, and each step of the resync, are told."""
        client = self.follow("?kind=peer&kind=resync")
        self.service.expect_peer("lb2")
        self.turn(8)
        self.service.remove_peer("lb2")
        self.turn()
        peers = [one.data for one in client.named("peer")]
        self.assertEqual((peers[0]["name"], peers[0]["connected"]), ("lb2", False))
        self.assertEqual(peers[-1], {"name": "lb2", "removed": True})
        self.assertEqual(client.named("resync")[-1].data["state"], "up_to_date")
        self.assertEqual({one.name for one in client.events}, {"hello", "peer", "resync"})

    def test_parts(self) -> None:
        """How parts stand is told within a second."""

        class Bell(Part):
            why: Optional[str] = None

            def status(self) -> dict[str, Any]:
                return {"bell\udcff": "a\n", "rung": 3}

            def not_ready(self) -> Optional[str]:
                return self.why

        bell = Bell()
        self.service.add_part("bell", bell)
        client = self.follow("?kind=part")
        bell.why = "no clapper"
        self.turn(2)
        told = [one.data for one in client.named("part")]
        self.assertEqual([one["ready"] for one in told], [True, False])
        self.assertEqual(told[1]["reason"], "no clapper")
        self.assertEqual(told[1]["status"], {"bell\\xFF": "a\n", "rung": 3})

    def test_latest_alone(self) -> None:
        """A client that takes nothing gets the latest of each peer."""
        client = self.follow("?kind=resync")
        client.pause()
        self.turn(10)
        self.assertEqual(len(client.named("resync")), 1)
        client.resume()
        self.turn()
        self.assertEqual(
            [one.data["state"] for one in client.named("resync")], ["waiting", "up_to_date"]
        )

    def test_heartbeat(self) -> None:
        """A client that is told nothing else gets a comment now and then."""
        client = self.follow("?kind=part")
        before = client.text
        self.turn(2 * HEARTBEAT + 4)
        self.assertEqual(client.text.removeprefix(before), ":\n\n")
        self.turn(HEARTBEAT)
        self.assertEqual(client.text.removeprefix(before), ":\n\n:\n\n")


class PaceTests(EventsTestCase):
    def test_slow(self) -> None:
        """A client that takes nothing for a while gets the latest change of each key, in the order
        in which they changed first, and the number of those that were folded."""
        client = self.follow("?table=ids&kind=entry")
        client.pause()
        for value in range(1, 6):
            self.change(1, 2, value=value)
            self.turn()
        self.change(3)
        self.turn()
        self.assertEqual(client.entries, [])
        client.resume()
        self.turn()
        self.assertEqual(client.entries, [("1", 5), ("2", 5), ("3", 1)])
        (merged,) = client.named("merged")
        self.assertEqual(merged.data, {"merged": 8})
        self.assertEqual(client.events[-4].name, "merged")
        self.change(4)
        self.turn()
        self.assertEqual(client.entries[3:], [("4", 1)])
        self.assertEqual(len(client.named("merged")), 1)

    def test_in_one_turn(self) -> None:
        """Changes of a key in one turn are one event, and are counted."""
        client = self.follow("?table=ids&kind=entry")
        for value in range(4):
            self.change(1, value=value)
        self.turn()
        self.assertEqual(client.entries, [("1", 3)])
        self.assertEqual([one.data["merged"] for one in client.named("merged")], [3])

    def test_others_wait_for_nobody(self) -> None:
        """A client that takes nothing keeps no other from what happens."""
        stuck, quick = self.follow("?table=ids"), self.follow("?table=ids")
        stuck.pause()
        for value in range(100):
            self.change(*range(5), value=value)
            self.turn()
        self.assertEqual(len(quick.entries), 500)
        self.assertEqual(quick.named("merged"), [])
        self.assertEqual(stuck.entries, [])

    def test_interval(self) -> None:
        """No key comes twice in an interval, and the latest comes in the end."""
        client = self.follow("?table=ids&kind=entry&interval=1000")
        times: dict[str, list[float]] = {}
        seen = 0
        for value in range(100):
            self.change(1, value=value)
            if value % 7 == 0:
                self.change(2, value=value)
            self.clock.advance(0.05)
            for key, _ in client.entries[seen:]:
                times.setdefault(key, []).append(self.clock.seconds())
            seen = len(client.entries)
        self.turn(2)
        self.assertEqual(dict(client.entries), {"1": 99, "2": 98})
        self.assertEqual(len(times["1"]), 5)
        for moments in times.values():
            self.assertTrue(all(b - a >= 1 for a, b in pairwise(moments)), moments)

    def test_first_at_once(self) -> None:
        """A change after an interval without any is told at once."""
        client = self.follow("?table=ids&kind=entry&interval=5000")
        self.turn(6)
        self.change(1)
        self.turn(0.1)
        self.assertEqual(client.entries, [("1", 1)])

    def test_hot_key(self) -> None:
        """A key that changes all the time keeps no other waiting, and comes itself."""
        client = self.follow("?table=ids&kind=entry")
        client.pause()
        self.change(*range(1000))
        self.turn(5)
        for value in range(2, 100):
            self.change(7, value=value)
            client.resume()
            self.clock.advance(0.001)
            client.pause()
            self.clock.advance(0.001)
        client.resume()
        self.turn(5)
        latest = dict(client.entries)
        self.assertEqual(len(latest), 1000)
        self.assertEqual(latest["7"], 99)

    def test_too_many_wait(self) -> None:
        """A client for which too many keys wait is told to read the table anew, once, and gets what
        changes after that."""
        client = self.follow("?table=ids&table=rates&kind=entry")
        client.pause()
        self.service.table("rates").set("192.0.2.1", gpc0=1)
        self.turn()
        for start in range(0, MOST_WAITING + 100, 1000):
            self.ids_many(start, 1000)
            self.turn(3)
        self.turn(30)
        client.resume()
        self.turn()
        (reset,) = client.named("reset")
        self.assertEqual(sorted(reset.data["tables"]), ["ids", "rates"])
        self.assertIn("20000", reset.data["why"])
        self.assertEqual(client.entries, [])
        self.change(20_500, value=6)
        self.turn()
        self.assertEqual(client.entries, [("20500", 6)])

    def ids_many(self, start: int, count: int) -> None:
        """Tell of keys of a table that are not there."""
        keys = [key.to_bytes(4, "big") for key in range(start, start + count)]
        store = self.service.node.tables["ids"]
        self.service.changed(store.store([(key, 5000, b"\x01\x02") for key in keys], 0))

    def test_flood(self) -> None:
        """When more keys change than are held, all clients are told so once it is over."""
        client = self.follow("?table=ids&kind=entry")
        feed = self.service.dispatcher.feeds[0]
        self.flood()
        self.turn(FLOOD_PAUSE / 2)
        self.assertEqual(client.named("reset"), [])
        self.assertEqual(len(feed), 0)
        self.turn(FLOOD_PAUSE)
        (reset,) = client.named("reset")
        self.assertEqual(reset.data["tables"], ["ids"])
        self.change(1, value=7)
        self.turn()
        self.assertEqual(client.entries, [("1", 7)])

    def test_endless_flood(self) -> None:
        """A flood that does not end is told of all the same."""
        client = self.follow("?table=ids&kind=entry")
        began = self.clock.seconds()
        while not client.named("reset"):
            self.flood()
            self.turn(FLOOD_PAUSE / 3)
        took = self.clock.seconds() - began
        self.assertTrue(MOST_PAUSES * FLOOD_PAUSE <= took <= (MOST_PAUSES + 1) * FLOOD_PAUSE)

    def flood(self) -> None:
        """Tell feeds of more keys than they hold."""
        keys = [b"%07d" % key for key in range(MOST_HELD + 1)]
        for feed in self.service.dispatcher.feeds:
            feed.add(Batch(self.ids, Cause.LEARNT, keys, 0))

    def test_stalled(self) -> None:
        """A client that takes nothing for two minutes is dropped."""
        client = self.follow()
        client.pause()
        self.turn(STALLED - 5)
        self.assertFalse(client.transport.disconnecting)
        for _ in range(10):
            self.turn(1)
        self.assertTrue(client.transport.disconnecting or client.transport.disconnected)


class FilterTests(EventsTestCase):
    def test_values(self) -> None:
        """Entries come when they match, and once more when they match no longer, or are gone."""
        client = self.follow("?table=ids&kind=entry&filter=data.gpc0%20ge%205")
        for key, value in ((1, 4), (2, 5), (2, 6), (1, 3), (2, 1), (2, 0)):
            self.change(key, value=value)
            self.turn()
        told = [(one.data["key"], one.data.get("matches", True)) for one in client.named("entry")]
        self.assertEqual(told, [("2", True), ("2", True), ("2", False)])
        self.change(3, value=9)
        self.turn()
        self.ids.remove(3)
        self.ids.remove(1)
        self.turn()
        self.assertEqual(client.entries[3:], [("3", 9), ("3", None)])

    def test_values_of_what_waits(self) -> None:
        """The same for what a client takes late."""
        client = self.follow("?table=ids&kind=entry&filter=data.gpc0%20ge%205")
        client.pause()
        self.change(1, value=9)
        self.change(2, value=9)
        self.turn()
        self.change(2, value=1)
        self.turn()
        client.resume()
        self.turn()
        self.assertEqual(client.entries, [("1", 9)])

    def test_keys(self) -> None:
        """Keys are chosen by a prefix or a network, also when their entries are gone."""
        paths = self.follow("?table=paths&kind=entry&prefix=/a%5C%5C")
        rates = self.follow("?table=rates&kind=entry&cidr=192.0.2.0/24")
        for key in ("/a\\b", "/ab"):
            self.service.table("paths").set(key)
            self.turn()
            self.service.table("paths").remove(key)
            self.turn()
        for key in ("192.0.2.9", "192.0.3.9"):
            self.service.table("rates").set(key)
        self.turn()
        self.assertEqual([one.data["key"] for one in paths.named("entry")], ["/a\\\\b"] * 2)
        self.assertEqual([one.data["key"] for one in rates.named("entry")], ["192.0.2.9"])

    def test_redeclared(self) -> None:
        """When a table stores no more what a filter is about, the stream ends and says so."""
        client = self.follow("?table=ids&kind=entry&filter=data.gpc0%20ge%205")
        self.change(1, value=9)
        self.turn()
        declaration = self.ids.declaration
        self.service.node.adoption.learn_columns = False
        self.service.declare_table(
            type(declaration).parse("ids", "type integer size 1k store bytes_out_cnt")
        )
        self.ids.set(1, bytes_out_cnt=4)
        self.turn()
        self.assertEqual(client.events[-1].name, "end")
        self.assertIn("gpc0", client.events[-1].data["why"])


class ResumeTests(EventsTestCase):
    def test_resumes(self) -> None:
        """A client that comes back gets what has changed meanwhile, and what it was not sent."""
        client = self.follow("?table=ids&kind=entry")
        self.change(1)
        self.turn()
        last = client.events[-1].id
        client.pause()
        self.change(2)
        self.turn()
        client.go()
        self.change(2, 3, value=5)
        self.turn()
        again = self.follow("?table=ids&kind=entry", last)
        self.turn()
        self.assertTrue(again.events[0].data["resumed"])
        self.assertEqual(again.entries, [("2", 5), ("3", 5)])
        self.assertEqual(again.named("reset"), [])

    def test_place_of_what_waits(self) -> None:
        """The place of an event is one before all that still waits: whoever breaks off there, and
        comes back, gets everything."""
        client = self.follow("?table=ids&kind=entry")
        client.pause()
        for key in range(300):
            self.change(key)
            self.turn(0.02)
        self.cost = 0.003
        client.resume()
        while len(client.entries) < 60:
            self.clock.advance(0.001)
        client.pause()
        seen = dict(client.entries)
        self.assertLess(len(seen), 300)
        last = client.events[-1].id
        client.go()
        again = self.follow("?table=ids&kind=entry", last)
        self.turn(5)
        self.assertEqual({**seen, **dict(again.entries)}.keys(), {str(key) for key in range(300)})
        self.assertLess(len(again.entries), 300)

    def test_breaks_off_at_once(self) -> None:
        """Whoever breaks off right after the greeting, and comes back, has missed nothing; nor is
        forgotten that it is to read the table anew."""
        client = self.follow("?table=ids&kind=entry")
        self.change(1)
        self.turn()
        last = client.events[-1].id
        client.go()
        self.change(2)
        self.turn()
        for _ in range(2):
            again = self.follow("?table=ids&kind=entry", last, turns=0)
            self.assertEqual([one.name for one in again.events], ["hello"])
            last = again.events[-1].id
            again.go()
        again = self.follow("?table=ids&kind=entry", last)
        self.assertEqual(again.entries, [("2", 1)])
        again.go()
        lost = self.follow("?table=ids&kind=entry", "abc-1", turns=0)
        self.assertEqual([(one.name, one.id) for one in lost.events], [("hello", "")])

    def test_cannot(self) -> None:
        """A place of another process, one that is none, and one that is too long ago lead to a
        reset of the tables that were asked for."""
        client = self.follow("?table=ids&kind=entry")
        place = Place.parse(client.events[0].id)
        assert place is not None
        wrong = [
            str(attrs.evolve(place, epoch="abc")),
            str(attrs.evolve(place, number=place.number + 1000)),
            "x",
            "\xff\xfe",
        ]
        for since in wrong:
            again = self.follow("?table=ids&kind=entry", since)
            self.assertFalse(again.events[0].data["resumed"])
            (reset,) = again.named("reset")
            self.assertEqual(reset.data["tables"], ["ids"])
            again.go()

    def test_forgotten(self) -> None:
        """What is not remembered any more, or of another table, is not known."""
        client = self.follow("?table=ids&kind=entry")
        self.change(1)
        self.turn()
        last = client.events[-1].id
        for start in range(0, 25_000, 5000):
            keys = [key.to_bytes(4, "big") for key in range(start, start + 5000)]
            store = self.service.node.tables["ids"]
            self.service.changed(store.store([(key, 5000, b"\x01\x02") for key in keys], 0))
            self.turn(20)
        client.go()
        again = self.follow("?table=ids&table=rates&kind=entry", last)
        (reset,) = again.named("reset")
        self.assertEqual(sorted(reset.data["tables"]), ["ids", "rates"])

    def test_only_standing(self) -> None:
        """A client that follows no entries can always go on."""
        client = self.follow("?kind=peer")
        last = client.events[-1].id
        client.go()
        again = self.follow("?kind=peer", last)
        self.assertTrue(again.events[0].data["resumed"])
