"""The log of writes: a line for each, with who and what, and nothing that could do harm."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from peerproto.http.config import HttpSettings
from peerproto.http.tokens import Token
from peerproto.http.writelog import KEYS_LENGTH, MOST_IN_FULL, MOST_REFUSED, PERIOD
from peerproto.tables.declaration import Declaration
from tests.http.client import READER, WRITER, HttpTestCase, Reply

ENTRIES = "/v1/tables/rates/entries"
ENTRY = f"{ENTRIES}/192.0.2.7"
BODY = {"values": {"gpc0": 1}}
WHO = "writer at 192.0.2.9:4711:"


class WriteLogTests(HttpTestCase):
    settings = HttpSettings(
        writers=Token(WRITER.encode()), readers=Token(READER.encode()), allow_writes=True
    )

    def said(self, *words: str) -> list[str]:
        """The lines with one of some words."""
        lines = [one for one in self.lines if any(word in one for word in words)]
        self.assertTrue(all(one.isprintable() for one in lines), lines)
        return lines

    def test_line(self) -> None:
        """Each write is one line: who, where from, what, and what became of it; without anything
        that could end the line or move the cursor of a terminal."""
        self.write("PUT", ENTRY, BODY)
        odd = {"values": {"x\x1b[2J\n\x7f": 1}}
        self.ask("PATCH", ENTRY + "?peer=a%0A%1B[2J", odd, WRITER)
        first, second = self.said(WHO)
        self.assertEqual(first, f'{WHO} PUT {ENTRY}  {{"values":{{"gpc0":1}}}}: 201')
        self.assertTrue(second.startswith(f"{WHO} PATCH {ENTRY} peer=a%0A%1B[2J "))
        self.assertTrue(second.endswith(": 422"))
        self.assertFalse(any(WRITER in one for one in self.lines))

    def test_dataplane(self) -> None:
        """So is one of a client of the Data Plane API."""
        password = base64.b64encode(f"admin:{WRITER}".encode()).decode()
        path = "/v3/services/haproxy/runtime/stick_tables/rates/entries"
        body = {"key": "192.0.2.7", "data_type": {"gpc0": 5}}
        self.ask("POST", path, body, headers={"Authorization": f"Basic {password}"})
        said = '{"key":"192.0.2.7","data_type":{"gpc0":5}}: 204'
        self.assertEqual(self.said(WHO), [f"{WHO} POST {path}  {said}"])

    def test_long(self) -> None:
        """What was done stands in full, however long it is; what was not is cut."""
        line = "type integer size 1k store gpc(100),gpt(100)"
        self.service.add_table(Declaration.parse("wide", line))
        values = {f"{name}[{at}]": 4_000_000_000 for name in ("gpc", "gpt") for at in range(100)}
        self.assertEqual(
            self.write("PUT", "/v1/tables/wide/entries/1", {"values": values}).status, 201
        )
        (line,) = self.said("wide")
        self.assertTrue(all(f'"{name}":4000000000' in line for name in values))
        self.write("PUT", ENTRY, {"values": {"x" * 5000: 1}})
        (line,) = self.said(ENTRY)
        self.assertLess(len(line), 700)
        self.assertIn("…: 422", line)

    def test_several(self) -> None:
        """Each of several changes has a line: what is to be done, where, with which values, and
        what became of it; the call has one that does not repeat them."""
        keys = [f"10.0.0.{at}" for at in range(MOST_IN_FULL - 5)]
        self.assertEqual(self.call(keys).status, 200)
        *lines, call = self.said(WHO)
        self.assertEqual(call, f"{WHO} POST {ENTRIES}  : 200")
        self.assertEqual(len(lines), MOST_IN_FULL)
        self.see_in_full(lines, keys)
        self.assertEqual([one for one in self.details if WHO in one], [])

    def call(self, keys: list[str]) -> Reply:
        """The answer to a call that sets entries of these keys, and makes five more changes, of
        which the last three cannot be made."""
        changes: list[Any] = [
            {"do": "set", "key": key, "values": {"gpc0": at}} for at, key in enumerate(keys)
        ]
        changes += [
            {"do": "count", "key": keys[0], "events": {"http_req_rate": 2}},
            {"do": "forget", "key": keys[1]},
            {"do": "set", "key": "no\n\x1b", "values": {}},
            {"do": "set", "key": keys[2], "values": {"x" * 2000: 1}},
            5,
        ]
        return self.write("POST", ENTRIES, {"changes": changes})

    def see_in_full(self, lines: list[str], keys: list[str]) -> None:
        """See that there is a line for each change of such a call."""
        self.assertEqual(len(lines), len(keys) + 5)
        for at, key in enumerate(keys):
            change = f'{{"do":"set","key":"{key}","values":{{"gpc0":{at}}}}}'
            self.assertEqual(lines[at], f"{WHO} table rates: changes[{at}] {change}: 201")
        count, forget, odd, long, none = lines[len(keys) :]
        self.assertIn('{"do":"count","key":"10.0.0.0","events":{"http_req_rate":2}}: 200', count)
        self.assertIn('{"do":"forget","key":"10.0.0.1"}: 200', forget)
        self.assertIn('"no\\n\\u001b","values":{}}: 422', odd)
        self.assertTrue(long.endswith("…: 422") and len(long) < 700)
        self.assertTrue(none.endswith(f"changes[{len(keys) + 4}] 5: 400"), none)

    def test_many(self) -> None:
        """Of many changes those that were made alike share lines, and each key stands in one; what
        was not made has its own line, too; all stand in full at level debug, or above."""
        keys = [f"10.0.{at >> 8}.{at & 255}" for at in range(900)]
        self.assertEqual(self.call(keys).status, 200)
        lines = self.said(WHO)
        refused = [one for one in lines if "changes[" in one]
        self.assertEqual(len(refused), 3)
        lines = [one for one in lines if one not in refused]
        self.assertLess(len(lines), 12)
        self.assertLess(max(map(len, lines)), KEYS_LENGTH + 200)
        found: list[str] = []
        for one in lines:
            if (
                match := re.fullmatch(rf"{WHO} table rates: set (\d+): (.*): 201", one)
            ) is not None:
                some = match[2].split(" ")
                self.assertEqual(int(match[1]), len(some))
                found += map(json.loads, some)
        self.assertEqual(found, keys)
        for said in (
            'count 1: "10.0.0.0": 200',
            'forget 1: "10.0.0.1": 200',
            'set 2: "no\\n\\u001b" "10.0.0.2": 422',
            "? 1: 5: 400",
        ):
            self.assertIn(f"{WHO} table rates: {said}", lines)
        self.assertEqual(lines[-1], f"{WHO} POST {ENTRIES}  : 200")
        self.see_in_full([*(one for one in self.details if WHO in one), *refused], keys)

    def test_bounded(self) -> None:
        """However odd the changes of a call are, and however many cannot be made, what is written
        has a bound; nothing of what was made is cut."""
        path = "/v1/tables/paths/entries"
        changes: list[Any] = [
            {"do": "set", "key": f"{at:03}" + "x" * 600, "peer": f"p{at}"} for at in range(300)
        ]
        changes += [{"do": "x" * 700 + str(at), "key": [at]} for at in range(300)]
        self.assertEqual(self.write("POST", path, {"changes": changes}).status, 200)
        lines = self.said(WHO)
        self.assertEqual(len([one for one in lines if "changes[" in one]), MOST_IN_FULL)
        self.assertLess(sum(map(len, lines)), 600 * 1300)
        self.assertLess(max(map(len, lines)), KEYS_LENGTH + 1300)

    def test_stops_meanwhile(self) -> None:
        """Of changes that were made when the node stops in their midst, each key is written."""
        self.service.startService()
        changes = [{"do": "set", "key": f"10.0.0.{at}"} for at in range(200)]
        body = json.dumps({"changes": changes}).encode()
        head = f"POST {ENTRIES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {WRITER}\r\nContent-Length: {len(body)}\r\n\r\n"

        def stop() -> Iterator[None]:
            """Stop the node when its other work has made three steps or so."""
            yield from (None, None, None)
            self.service.stopService()

        channel, _ = self.connect()
        channel.dataReceived(head.encode() + body)
        self.service.turns.cooperate(stop())
        self.clock.advance(0)
        made = len(self.service.table("rates"))
        self.assertTrue(0 < made < 200, made)
        (line,) = self.said("set ")
        self.assertTrue(line.startswith(f'{WHO} table rates: set {made}: "10.0.0.0" '), line)
        channel.connectionLost(Failure(ConnectionDone()))

    def test_many_refused(self) -> None:
        """A call of which no change was looked at is one line."""
        self.write("POST", ENTRIES, {"changes": []})
        (line,) = self.said(WHO)
        self.assertEqual(line, f'{WHO} POST {ENTRIES}  {{"changes": []}}: 400')

    def refusals(self) -> list[str]:
        return self.said("a write is refused")

    def test_refused(self) -> None:
        """A write that is refused is a line, with where from, what, and why; a read is none."""
        path = ENTRY + "?token=secret"
        self.ask("PUT", path, BODY)
        self.ask("PUT", path, BODY, token="nonsense")
        self.ask("DELETE", path, token=READER)
        self.ask("PUT", path, BODY, WRITER, {"Origin": "https://evil.example\x1b[2J"})
        self.ask("PUT", path, BODY, WRITER, {"Content-Type": "text/plain"})
        self.access.settings = attrs.evolve(self.settings, allow_writes=False)
        self.ask("PUT", ENTRY, BODY, WRITER)
        self.get("/v1/node", token="nonsense")
        self.get("/v1/node", headers={"Host": "evil.example"})
        lines = self.refusals()
        begin = "a write is refused: 192.0.2.9:4711: "
        for line, (method, status, why) in zip(
            lines,
            (
                ("PUT", 401, "no token"),
                ("PUT", 401, "a token that is not the right one"),
                ("DELETE", 403, "readers may not write"),
                ("PUT", 403, r"https://evil.example\x1B[2J"),
                ("PUT", 400, "query.token"),
                ("PUT", 403, "allow-writes = no"),
            ),
        ):
            self.assertTrue(line.startswith(f"{begin}{method} {ENTRY}: {status}: "), line)
            self.assertIn(why, line)
        self.assertEqual(len(lines), 6)
        self.assertFalse(any("secret" in one or "nonsense" in one for one in lines))
        self.assertEqual(len(self.service.table("rates")), 0)

    def test_flood(self) -> None:
        """Of many that are refused some are told, and how many more there were, so that nobody
        fills a disk with what he may not do."""
        for number in range(MOST_REFUSED + 30):
            self.ask("PUT", f"{ENTRIES}/{'%0A' * 3000}{number}", BODY)
        self.assertEqual(len(self.refusals()), MOST_REFUSED)
        self.assertLess(max(map(len, self.refusals())), 1200)
        self.assertEqual(self.said("more writes"), [])
        self.clock.advance(PERIOD)
        self.assertEqual(self.said("more writes"), ["30 more writes were refused within 60 s"])
        self.ask("PUT", ENTRY, BODY)
        self.assertEqual(len(self.refusals()), MOST_REFUSED + 1)
        self.clock.advance(PERIOD)
        self.assertEqual(len(self.said("more writes")), 1)

    def test_stop(self) -> None:
        """When the service stops, what was left out is told, and nothing is left to be done."""
        for _ in range(MOST_REFUSED + 1):
            self.ask("PUT", ENTRY, BODY)
        self.log.stop()
        self.log.stop()
        self.assertEqual(self.said("more writes"), ["1 more writes were refused within 60 s"])
