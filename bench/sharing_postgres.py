"""What a PostgreSQL server takes to keep the tables of several nodes, beside a SQLite file:
``python -m bench.sharing_postgres [entries] [nodes]``.

The stores are driven as the writer thread of a node drives them, each in a process of its own,
with transactions of 20,000 keys. Both sync what they write. The server is one of this machine, so
that it and the nodes have the same cores. At last there are as many real peerprotos in a mesh, all
of which hear the same changes, as those of a HAProxy, and write them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.keeping_up import BEFORE, print_kept, watched
from bench.learning import places
from bench.lesson import LINES, TABLE
from bench.turns import timed
from peerproto import Declaration, Frequency, Record, Snapshot
from peerproto.storage.config import StorageSettings
from peerproto.storage.database import Database
from peerproto.storage.follower import TRANSACTION
from peerproto.storage.postgres.store import PostgresStore
from peerproto.storage.store import Store
from peerproto.storage.transaction import Declared, Moment, Transaction
from testbed import Peerproto, wait
from testbed.postgres import Postgres

DECLARATION = Declaration.parse("t", "type ip size 10m expire 1h store gpc0,gpc1,http_req_rate(1m)")
_LIFE = 3_600_000

Open = Callable[[str], Store]


def _transactions(entries: int, first: int, now: int, arrived: int) -> Iterator[Transaction]:
    """All entries, in pieces: they are made before the time is taken."""
    places = {one.name: place for place, one in enumerate(DECLARATION.layout.columns)}
    for begin in range(first, first + entries, TRANSACTION):
        made = []
        for key in range(begin, min(begin + TRANSACTION, first + entries)):
            values: list[Any] = list(DECLARATION.layout.codec.blank())
            values[places["gpc0"]] = key & 0xFFFF
            values[places["http_req_rate"]] = Frequency(7, 5, 3)
            # Scattered, as addresses are.
            raw_key = (key * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big")
            made.append(Record.made(DECLARATION, raw_key, arrived, arrived + _LIFE, tuple(values)))
        keys = [one.raw_key for one in made]
        snapshot = Snapshot(DECLARATION, None, keys, None, made, 0, 0, 0)
        yield Transaction(Moment(now, now), snapshots=(("t", snapshot),))


def _write(store: Store, entries: int, first: int, now: int, arrived: int) -> float:
    """Seconds that it takes to write entries."""
    ready = list(_transactions(entries, first, now, arrived))
    began = time.perf_counter()
    for one in ready:
        store.write(one)
    return time.perf_counter() - began


def _read(store: Store, entries: int, now: int) -> float:
    """Seconds that it takes to read them."""
    began = time.perf_counter()
    after, count = None, 0
    while True:
        part = store.read("t", after, 2000, now, 0)
        count += len(list(part))
        after = part.after
        if after is None:
            break
    assert count == entries, count
    return time.perf_counter() - began


def _opened(store: Store, declare: bool = True) -> int:
    """Open a store that is to have the table: its time."""
    now = store.open(round(time.time() * 1000)).node
    if declare:
        store.write(Transaction(Moment(now, now), declared=(Declared(DECLARATION, False, False),)))
    return now


def _node(
    url: str, name: str, entries: int, first: int, start: Any, answers: Any, pause: float
) -> None:
    """One node of several: with a pause it writes its entries 10 times, that many seconds apart."""
    store = PostgresStore(StorageSettings(url=url), name)
    now = _opened(store)
    rounds = 10 if pause else 1
    ready = [list(_transactions(entries, first, now, now + turn)) for turn in range(rounds)]
    start.wait()
    began, latest = time.perf_counter(), 0.0
    for turn, transactions in enumerate(ready):
        time.sleep(max(0.0, began + turn * pause - time.perf_counter()))
        due = began + turn * pause
        for one in transactions:
            store.write(one)
        latest = max(latest, time.perf_counter() - due)
    answers.put((time.perf_counter() - began, latest))
    store.close()


def _cpu(server: Postgres) -> float:
    """Seconds of the processor that a server and its connections have had."""
    total = 0
    for pid in server.processes():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Those of connections that have ended count with the first process.
        total += sum(map(int, fields[11:15] if pid == server.processes()[0] else fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def _nodes(
    server: Postgres, nodes: int, entries: int, same: bool, pause: float = 0
) -> tuple[float, float, float]:
    """Seconds until all nodes have written, the longest that one was late, and the seconds of the
    processor that the server took."""
    server.ask("DROP SCHEMA IF EXISTS peerproto CASCADE")
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(nodes + 1), context.Queue()
    running = [
        context.Process(
            target=_node,
            args=(
                server.url(),
                f"n{one}",
                entries,
                0 if same else one * entries,
                start,
                answers,
                pause,
            ),
        )
        for one in range(nodes)
    ]
    for process in running:
        process.start()
    start.wait()
    before = _cpu(server)
    found = [answers.get() for _ in running]
    for process in running:
        process.join()
    return max(one for one, _ in found), max(late for _, late in found), _cpu(server) - before


def print_sharing(entries: int = 200_000, nodes: int = 10) -> None:
    """Measure, and print tables."""
    with tempfile.TemporaryDirectory(prefix="pb") as folder:
        server = Postgres(settings={"fsync": "on", "max_wal_size": "4GB"})
        try:
            server.start()
            _beside(Path(folder), server, entries)
            _together(server, entries, nodes)
            _mesh(server, nodes, Path(folder))
        finally:
            server.remove()


def _mesh(server: Postgres, nodes: int, folder: Path, rate: int = 1000) -> None:
    """Real peerprotos in a mesh with one that sends changes, which all of them write."""
    server.ask("DROP SCHEMA IF EXISTS peerproto CASCADE")
    mesh = places(folder, *(f"n{number}" for number in range(nodes)), "feeder")
    running = []
    try:
        for name in mesh.keys() - {"feeder"}:
            node = timed("pure", mesh[name], LINES[TABLE.name])
            assert isinstance(node, Peerproto)
            node.more = f"[storage]\nurl = {server.url()}\n"
            running.append(node)
            node.start(list(mesh.values()))
        wait(lambda: all(node.runtime.exists() for node in running))
        wait(lambda: all("state=keeps" in node.ask_now("show storage") for node in running))
        time.sleep(6)  # by then they count themselves up to date, or have learnt from each other
        before, seconds = _cpu(server), 20.0
        kept = watched(running, seconds, rate)
        cores = (_cpu(server) - before) / (seconds + BEFORE)
        ((rows,),) = server.ask(f"SELECT count(*) FROM peerproto.{TABLE.name}")
    finally:
        for node in running:
            node.kill()
    print(f"\n| {nodes} peerprotos in a mesh, which hear {rate:,} changes a second | | |")
    print("| --- | --- | --- |")
    print_kept([kept])
    print(
        f"| rows of the server | | {rows:,} |\n| the server's cores | | {cores:.2f} |", flush=True
    )


def _beside(folder: Path, server: Postgres, entries: int) -> None:
    file = Database(str(folder / "tables.db"))
    shared = PostgresStore(StorageSettings(url=server.url()), "a")
    figures: list[list[float]] = []
    for store in (file, shared):
        now = _opened(store)
        rates = [
            entries / _write(store, entries, 0, now, now),
            entries / _write(store, entries, 0, now, now + 1000),
            entries / _read(store, entries, now),
        ]
        size = store.write(Transaction(Moment(now, now))).size
        store.close()
        figures.append([*rates, size / entries])
    ((size,),) = server.ask("SELECT pg_total_relation_size('peerproto.t')")
    figures[1][3] = size / entries
    print(f"| {entries:,} entries, one node | | SQLite | PostgreSQL | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for what, unit, one, other in zip(
        ("written", "written again", "read", "on disk"),
        ("rows/s", "rows/s", "rows/s", "bytes a row"),
        *figures,
    ):
        print(f"| {what} | {unit} | {one:,.0f} | {other:,.0f} | {other / one:.2f} |", flush=True)


def _together(server: Postgres, entries: int, nodes: int) -> None:
    each = entries // nodes
    print(f"\n| {nodes} nodes, {nodes} connections | rows/s of all | late | the server's cores |")
    print("| --- | --- | --- | --- |")
    for what, count, same, pause in (
        ("as fast as they can, keys of their own", each, False, 0.0),
        ("as fast as they can, all the same keys", each, True, 0.0),
        ("1,000 changes a second each, keys of their own", 1000, False, 1.0),
        ("1,000 changes a second each, all the same keys", 1000, True, 1.0),
    ):
        took, late, used = _nodes(server, nodes, count, same, pause)
        rows = nodes * count * (10 if pause else 1)
        said = f"{late:.2f} s" if pause else ""
        print(f"| {what} | {rows / took:,.0f} | {said} | {used / took:.2f} |", flush=True)


if __name__ == "__main__":
    print_sharing(*map(int, sys.argv[1:]))
