"""`watch`: by looking again and again, and by the stream of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from peerproto.terminal.http import HttpNode
from peerproto.terminal.runtime import IDLE, INTERVAL, RuntimeNode
from tests.terminal.case import Requests, TerminalTestCase


class LookTests(TerminalTestCase):
    """Over the runtime socket."""

    def watch(self, *steps: Callable[[], object], options: tuple[str, ...] = ()) -> list[str]:
        """The lines that are printed while something happens between two looks, up to Ctrl-C."""
        self.paused: list[float] = []
        left = list(steps)

        def pause(seconds: float) -> None:
            self.paused.append(seconds)
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        self.ways = {"runtime": RuntimeNode("/run/x", connect=self.reach, pause=pause)}
        done = self.run_program("watch", "rates", *options)
        self.assertEqual(done.exit_code, 130, done.output)
        self.said = done.stderr
        return done.stdout.splitlines()

    def test_changes(self) -> None:
        """An entry that comes, changes or goes is a line; one that is as it was is none."""
        table = self.service.table("rates")
        table.set("192.0.2.1", gpc0=1)
        lines = self.watch(
            lambda: table.set("192.0.2.7", gpc0=1),
            lambda: table.set("192.0.2.7", gpc0=2),
            lambda: table.set("192.0.2.7", gpc0=2),
            lambda: table.forget("192.0.2.7"),
        )
        words = [line.split()[1:] for line in lines]
        rest = "http_req_rate=0"
        self.assertEqual(
            words,
            [
                ["192.0.2.7", "changed", "gpc0=1", rest],
                ["192.0.2.7", "changed", "gpc0=2", rest],
                ["192.0.2.7", "gone"],
            ],
        )

    def test_json(self) -> None:
        """A program gets an object for each; of some entries alone, if it wants so."""
        table = self.service.table("rates")

        def change() -> None:
            table.set("192.0.2.7", gpc0=1)
            table.set("192.0.2.8", gpc0=9)

        (line,) = self.watch(change, options=("--json", "--filter", "gpc0 > 5"))
        change_told = json.loads(line)
        self.assertEqual((change_told["key"], change_told["cause"]), ("192.0.2.8", None))
        self.assertEqual(change_told["entry"]["values"]["gpc0"], 9)

    def test_pace(self) -> None:
        """It is looked each second, or each interval; less often if a look takes long."""
        self.watch(lambda: None)
        self.assertTrue(all(one >= INTERVAL for one in self.paused), self.paused)
        self.watch(lambda: None, options=("--interval", "30"))
        self.assertTrue(all(one >= 30 for one in self.paused), self.paused)
        self.assertGreaterEqual(IDLE, 9)

    def test_away(self) -> None:
        """A node that goes is waited for, which is said once; what it has anew then is told."""
        table = self.service.table("rates")

        def go() -> None:
            self.away = True

        def come() -> None:
            self.away = False
            table.set("192.0.2.7", gpc0=1)

        self.assertEqual(len(self.watch(go, lambda: None, come)), 1)
        self.assertEqual(self.said.count("no node listens"), 1)

    away = False
    """Whether nobody listens."""

    def reach(self, path: str, patience: float) -> Any:
        if self.away:
            raise ConnectionRefusedError(111, "Connection refused")
        return self.connection(path, patience)


def events(*told: tuple[str, Any]) -> str:
    """The text of a stream."""
    return "retry: 1000\n" + "".join(
        f"id: ab-{number}\nevent: {name}\ndata: {json.dumps(data)}\n\n:\n\n"
        for number, (name, data) in enumerate(told)
    )


NO_MORE = ("one", "of", "the", "chosen", "any", "more)")


def entry(key: str, gpc0: int, **more: Any) -> tuple[str, Any]:
    """An event of an entry."""
    values = {"gpc0": gpc0, "http_req_rate": 0}
    now = {"key": key, "expires_in": 1000, "values": values}
    said = {"table": "rates", "key": key, "cause": "learnt", "origin": "lb1", "entry": now}
    return "entry", {**said, **more}


class StreamTests(TerminalTestCase):
    """Over HTTP."""

    def watch(self, *answers: Any, options: tuple[str, ...] = ()) -> list[str]:
        """The lines that are printed of streams, each of which ends, up to Ctrl-C."""
        left = list(answers)
        self.requests: list[httpx.Request] = []
        others = Requests(self)

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/v1/events":
                return others.handle_request(request)
            self.requests.append(request)
            given = left.pop(0)
            if isinstance(given, httpx.Response):
                return given
            if isinstance(given, Exception):
                raise given
            return httpx.Response(200, text=given)

        def pause(seconds: float) -> None:
            if not left:
                raise KeyboardInterrupt

        where = "http://localhost:8404"
        node = HttpNode(where, where, transport=httpx.MockTransport(answer), pause=pause)
        self.ways = {"http": node}
        done = self.run_program("watch", "rates", *options, way="http")
        self.said, self.status = done.stderr, done.exit_code
        return done.stdout.splitlines()

    def test_changes(self) -> None:
        """Each change is a line with its cause."""
        gone = entry("192.0.2.7", 0, cause="expired", origin=None, entry=None)
        no_more = entry("192.0.2.8", 1, matches=False)
        lines = self.watch(events(("hello", {}), entry("192.0.2.7", 1), gone, no_more))
        rest = "http_req_rate=0"
        self.assertEqual(
            [line.split()[1:] for line in lines],
            [
                ["192.0.2.7", "learnt", "from", "lb1", "gpc0=1", rest],
                ["192.0.2.7", "expired"],
                ["192.0.2.8", "learnt", "from", "lb1", "gpc0=1", rest, "(not", *NO_MORE],
            ],
        )

    def test_asked_for(self) -> None:
        """What is chosen is the node's to choose; a stream goes on behind the last event."""
        self.watch(
            events(entry("192.0.2.7", 1), entry("192.0.2.7", 2)),
            events(),
            options=("--filter", "gpc0 > 0", "--network", "192.0.2.0/24", "--interval", "0.5"),
        )
        first, second = self.requests
        self.assertEqual(
            list(first.url.params.multi_items()),
            [
                ("table", "rates"),
                ("kind", "entry"),
                ("filter", "data.gpc0 gt 0"),
                ("cidr", "192.0.2.0/24"),
                ("interval", "500"),
            ],
        )
        self.assertNotIn("Last-Event-ID", first.headers)
        self.assertEqual(second.headers["Last-Event-ID"], "ab-1")

    def test_goes_on(self) -> None:
        """A stream that ends or breaks is asked for again; what was lost is said."""
        lines = self.watch(
            events(entry("192.0.2.7", 1), ("end", {"why": "the node stops"})),
            httpx.ConnectError("refused"),
            httpx.ConnectError("refused"),
            httpx.Response(404, json={"detail": "no table rates"}),
            events(("reset", {"tables": ["rates"], "why": "another process"}), entry("x", 2)),
        )
        self.assertEqual(len(lines), 2)
        said = self.said.splitlines()
        self.assertIn("the node stops", said[0])
        self.assertEqual(self.said.count("refused"), 1)
        self.assertIn("no table rates", self.said)
        self.assertIn("some changes were not told: another process", self.said)

    def test_refused(self) -> None:
        """A stream that is refused at first ends it."""
        self.watch(httpx.Response(503, json={"detail": "too many clients"}))
        self.assertEqual((self.status, self.said), (1, "peerproto: too many clients\n"))
