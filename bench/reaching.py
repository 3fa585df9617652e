"""``python -m bench.reaching [seconds [load ...]]``: from a request here to the ACL there.

A client makes a request at the first HAProxy, which counts it, and then asks the second one again
and again on a connection that stays, until the sum by which that one decides has it. The lag is the
time from the sending of the request to the end of the answer that shows it: it has two requests of
the client in it, and some of the time between two looks.
"""

from __future__ import annotations

import multiprocessing
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from bench.aggregating import LINE, SOURCE
from bench.crowd import crowd
from bench.learning import KINDS, places, rival
from bench.live import PEERS
from testbed import HAProxy, Node, Peerproto, wait

LOADS = (0, 20_000)
"""Changes a second of other peers, beside the requests themselves."""

CLIENTS = 200
"""Keys that the requests are counted under, in turn."""

_BETWEEN: Final = {True: 0.0005, False: 0.00005}
"""Seconds between two looks, in which others have the processor: longer where they have much to
do."""

_GIVEN_UP = 10.0
"""Seconds after which a request is not waited for any more."""

_PAUSE = 0.01
"""Seconds between two requests that are counted, about."""

TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
backend counted.agg
    stick-table {LINE},gpt(1) peers mesh
backend counted.lease
    stick-table type ipv6 size 16 expire 2s store gpt(4) peers mesh
"""


def rules(table: str) -> str:
    """A frontend that counts ``u``, and says what a table has of ``w``."""
    return f"""\
    http-request track-sc0 url_param(u) table counted if {{ url_param(u) -m found }}
    http-request return status 200 hdr seen %[url_param(w),table_http_req_cnt({table})]
"""


@attrs.frozen
class Spread:
    """How some times are spread, in ms."""

    median: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """That of times in seconds."""
        ordered = sorted(1000 * one for one in seconds)
        count = len(ordered)
        return cls(
            ordered[count // 2], ordered[count * 95 // 100], ordered[count * 99 // 100], ordered[-1]
        )


@attrs.frozen
class Reached:
    """What one kind needed."""

    lag: Spread
    looks: Spread
    """How long one look takes, the pause behind it included."""
    echo: Spread
    """How long an echo took that was asked for between the requests."""
    count: int
    """How many requests were counted."""
    given_up: int
    """How many of them were given up, whose lag is longer than it says."""
    processor: float
    """Share of one core that the node took, in percent."""


class Client:
    """A connection that stays, and asks one thing after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str) -> bytes:
        """The header of the answer to a request.

        :raises ConnectionError: the other side hung up.
        """
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError("the other side hung up")
            answer += piece
        return answer

    def seen(self, key: str) -> int:
        """What the sum has of a key, as the answer says."""
        for line in self.ask(f"/?w={key}").split(b"\r\n"):
            if line.startswith(b"seen: "):
                return int(line[6:])
        raise ValueError("the answer has no field `seen`")

    def close(self) -> None:
        self._socket.close()


def _echo(listening: socket.socket) -> None:
    """Answer one connection with what it says."""
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        data = connection.recv(65536)
        if not data:
            return
        connection.sendall(data)


@contextmanager
def echo() -> Iterator[Client]:
    """A client of a process that answers with what it gets, over loopback TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        context: Any = multiprocessing.get_context("fork")
        process = context.Process(target=_echo, args=(listening,), daemon=True)
        process.start()
        client = Client(listening.getsockname()[1])
        try:
            yield client
        finally:
            client.close()
            process.kill()
            process.join()


def idle(seconds: float) -> Spread:
    """How long an echo takes while nothing else happens."""
    with echo() as echoes:
        return Spread.of([_timed(echoes) for _ in _turns(seconds)])


def _timed(echoes: Client) -> float:
    began = time.perf_counter()
    echoes.ask("/?w=192.0.2.1")
    return time.perf_counter() - began


def _turns(seconds: float) -> Iterator[int]:
    """Numbers, at times that do not keep step with anything."""
    chance, number, end = random.Random(3), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(_PAUSE * (0.5 + chance.random()))
        yield number
        number += 1


def reaching(kind: str, folder: Path, changes: int, seconds: float) -> Reached:
    """How long requests take from one HAProxy to another, through a node of one of `KINDS`; of
    ``haproxy`` there is none: they are peers of each other.

    :param changes: how many others make a second.
    """
    names = [f"feeder{number}" for number in range(PEERS)]
    mesh = places(folder, "hub", "first", "second", *names)
    table = "counted" if kind == "haproxy" else "counted.agg"
    first, second = (
        HAProxy(
            name,
            folder,
            mesh[name].port,
            tables=TABLES,
            frontend=rules(table),
            section="",
        )
        for name in ("first", "second")
    )
    nodes: list[Node] = [first, second]
    fed: list[Node] = [*nodes]
    if kind != "haproxy":
        hub = rival(kind, mesh["hub"], SOURCE.name, LINE)
        assert isinstance(hub, Peerproto)
        hub.more = f"[aggregate {SOURCE.name}]\nto = counted.agg\nlease = counted.lease\n"
        nodes, fed = [hub, first, second], [hub]
    feeders = [mesh[name] for name in names]
    try:
        for node in nodes:
            assert isinstance(node, (HAProxy, Peerproto))
            node.start([*nodes, *feeders] if node in fed else [node, nodes[0]])
            wait(node.runtime.exists)
        time.sleep(8)  # by then they are connected, and up to date
        with (
            crowd([Node(one.name, folder, one.port) for one in fed], names, changes),
            echo() as back,
        ):
            time.sleep(8)  # most entries are there, and all rates
            used, began = nodes[0].processor(), time.perf_counter()
            reached = _measure(first, second, back, seconds, _BETWEEN[changes > 0])
            used, took = nodes[0].processor() - used, time.perf_counter() - began
            return attrs.evolve(reached, processor=100 * used / took)
    finally:
        for node in nodes:
            node.kill()


def _measure(
    first: HAProxy, second: HAProxy, echoes: Client, seconds: float, between: float
) -> Reached:
    here, there = Client(first.web), Client(second.web)
    lags, looks, echoed = [], [], []
    made = [0] * CLIENTS
    given_up = 0
    for number in _turns(seconds):
        echoed.append(_timed(echoes))
        client = number % CLIENTS
        made[client] += 1
        key = f"10.0.0.{client}"
        began = time.perf_counter()
        here.ask(f"/?u={key}")
        looked = time.perf_counter()
        while there.seen(key) < made[client]:
            time.sleep(between)
            now = time.perf_counter()
            looks.append(now - looked)
            looked = now
            if now > began + _GIVEN_UP:
                given_up += 1
                break
        lags.append(time.perf_counter() - began)
    here.close()
    there.close()
    return Reached(
        Spread.of(lags), Spread.of(looks or [0.0]), Spread.of(echoed), len(lags), given_up, 0.0
    )


def print_reaching(seconds: float, loads: Sequence[int] = LOADS) -> None:
    """Print a table of all kinds and loads."""
    print(
        "| ms from a request at one HAProxy to the ACL at another | requests | median | 95 % |",
        end="",
    )
    print(" 99 % | longest | looked every | echo meanwhile: median | 99 % | processor |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    alone = idle(seconds)
    figures = alone.median, alone.p95, alone.p99, alone.longest
    cells = " | ".join(f"{one:.2f}" for one in figures)
    print(f"| a TCP echo, before all others | | {cells} | | | | |", flush=True)
    for changes in loads:
        load = f"and {changes:,} other changes a second" if changes else "and nothing else"
        for kind in KINDS:
            print(f"reaching, {changes} a second, {kind}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                one = reaching(kind, Path(folder), changes, seconds)
            figures = one.lag.median, one.lag.p95, one.lag.p99, one.lag.longest
            cells = " | ".join(f"{figure:.1f}" for figure in figures)
            rest = f"{one.looks.median:.2f} | {one.echo.median:.2f} | {one.echo.p99:.2f}"
            what = "as peers of each other" if kind == "haproxy" else f"by a sum, {kind}"
            count = f"{one.count}" + (f", {one.given_up} given up" if one.given_up else "")
            print(
                f"| {what}, {load} | {count} | {cells} | {rest} | {one.processor:.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    words = sys.argv[1:]
    print_reaching(float(words[0]) if words else 20, [int(one) for one in words[1:]] or LOADS)
