"""Tables that outlive all processes, with real HAProxies and real files."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

import attrs
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from peerproto import Frequency, Key, StickTableService
from testbed import TWIST, Mesh, Peerproto, ended, endlessly, pause, reactor, until

from .kept import Kept, come_back
from .test_haproxy import TABLES, at, fill

KILLS = int(os.environ.get("KILLS", "5"))
"""How often a process is killed."""

ENTRIES = int(os.environ.get("KEPT", "20000"))
"""Entries of the fleet that is down."""

PERIOD = 600_000
"""That of a rate, in ms."""

EVENTS = 300
"""Events of a period: a rate sinks by one in 2 s, which is what a remaining time may differ by."""

BULK = f"type integer size 1m expire 1h store gpc0,gpc1,http_req_rate({PERIOD}ms)"
BULK_TABLE = f"backend bulk\n    stick-table {BULK} peers mesh\n"


def with_storage(peer: Peerproto, more: str = "", path: str = "tables.db") -> Path:
    """Have a peerproto keep its tables: where."""
    file = peer.folder / path
    peer.more = f"[storage]\npath = {file}\n{more}\n"
    return file


def rows(file: Path, statement: str) -> list[Any]:
    """What SQLite answers."""
    connection = sqlite3.connect(file, timeout=10)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def storage(peer: Peerproto) -> dict[str, str]:
    """What ``show storage`` says."""
    answer = await peer.ask("show storage")
    found = re.findall(r"^(path|state|trouble|set_aside)=(.*)$", answer, re.M)
    return dict([*re.findall(r"(\w+)=(\S+)", answer), *found])


async def written(peer: Peerproto) -> None:
    """Wait until all is written."""

    async def is_written() -> bool:
        found = await storage(peer)
        return found["state"] == "keeps" and found["unwritten_ms"] == "0"

    await until(is_written, "all is written")


@ensureDeferred
async def test_fleet(mesh: Mesh) -> None:
    """All processes stop. peerproto starts first, then two HAProxies: both have every entry, with
    its values, rates and remaining time; and a client goes to the same server."""
    mesh.tables += BULK_TABLE
    names = ("lb1", "lb2")
    haproxies = [mesh.haproxy(name) for name in names]
    first, _ = haproxies
    peer = mesh.peerproto()
    filler = Peerproto("filler", mesh.folder)
    mesh.nodes.append(filler)
    file = with_storage(peer)
    mesh.start(*haproxies, peer)
    for one in haproxies:
        await one.up()
    await peer.in_step(*names)
    await fill(first)
    service = StickTableService(
        "filler",
        {one.name: f"tcp:127.0.0.1:{one.port}" for one in (*haproxies, peer)},
        {"bulk": BULK},
        reactor=reactor,
    )
    chance = random.Random(5)
    bulk: dict[Key, dict[str, Any]] = {
        key: {
            "gpc0": key,
            "gpc1": key % 7,
            "http_req_rate": Frequency(
                chance.randrange(PERIOD), chance.randrange(EVENTS), chance.randrange(EVENTS)
            ),
        }
        for key in range(ENTRIES)
    }
    service.table("bulk").update(bulk)
    service.startService()
    tables = [*TABLES, "bulk"]

    async def all_there() -> bool:
        for table in tables:
            counts = [len(await one.table(at(one, table))) for one in (*haproxies, peer)]
            assert len(set(counts)) == 1, (table, counts)
        return len(await peer.table("bulk")) == ENTRIES

    await until(all_there, "all have all", 120)
    await service.stopService()
    # What was sent live has its lives anew where it arrives.
    await pause(1)
    await written(peer)
    kept = {table: await Kept.of(peer, table) for table in tables}
    sinking = kept["bulk"].sinking
    assert sinking > ENTRIES // 3
    for one in haproxies:
        await one.stop()
    await peer.stop()
    names_kept = {name for (name,) in rows(file, "select name from peerproto_tables")}
    assert names_kept >= set(tables)
    await pause(3)
    peer.start(mesh.nodes)
    await peer.up()
    for table in kept.values():
        await table.is_had(peer)
    await come_back(mesh, kept, peer, haproxies)
    print(
        f"counted: a fleet of {len(tables)} tables learnt {ENTRIES} entries back from a file,"
        f" {sinking} rates among them that sink"
    )


@attrs.define
class Load:
    """Changes, and when each was made."""

    peer: Peerproto
    made: dict[str, list[tuple[float, int]]] = attrs.Factory(dict)
    """By key: when a value was acknowledged, and which."""
    tried: dict[str, int] = attrs.Factory(dict)

    async def change(self, number: int) -> None:
        key = str(number % 97)
        self.tried[key] = number
        try:
            await self.peer.do(f"set table t key {key} data.gpc0 {number}")
        except Exception:
            return  # it was killed just now
        self.made.setdefault(key, []).append((time.monotonic(), number))


@ensureDeferred
async def test_killed(mesh: Mesh) -> None:
    """Killed at any moment under load, a process lacks no change that is older than the interval
    and a second, has none that was not made, and finds its file whole."""
    peer = mesh.peerproto()
    peer.declared = "t = type integer size 1m expire 1h store gpc0"
    file = with_storage(peer, "interval = 500ms")
    chance = random.Random(16)
    load = Load(peer)
    number = 0
    for _ in range(KILLS):
        mesh.start()
        await peer.up()
        stop: list[bool] = []

        async def change(count: int, begin: int = number) -> None:
            await load.change(begin + count + 1)

        changing = Deferred.fromCoroutine(endlessly(change, stop, every=0.001))
        await pause(2 + 2 * chance.random())
        killed = time.monotonic()
        await peer.stop(signal.SIGKILL)
        stop.append(True)
        number += await changing + 1
        peer.runtime.unlink(missing_ok=True)
        mesh.start()
        await peer.up()
        found = await peer.table("t")
        assert "damaged" not in peer.log.read_text().replace("0 were damaged", "")
        for key, changes in load.made.items():
            safe = [value for when, value in changes if when < killed - 1.5]
            if safe:
                value = found[key]["gpc0"]
                assert isinstance(value, int)
                assert safe[-1] <= value <= load.tried[key], (key, safe[-1], value)
        await peer.stop()
        peer.runtime.unlink(missing_ok=True)
    connection = sqlite3.connect(file)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()
    print(f"counted: {KILLS} times killed, {number} changes")


@ensureDeferred
async def test_killed_under_load(mesh: Mesh) -> None:
    """While thousands of changes a second come from a peer, a process that is killed lacks none
    that is older than ``show storage`` had said a moment before."""
    peer, filler = mesh.peerproto(), Peerproto("filler", mesh.folder)
    mesh.nodes.append(filler)
    peer.declared = f"t = type integer size 1m expire 1h store gpc0\n    bulk = {BULK}"
    with_storage(peer)
    mesh.start(peer)
    await peer.up()
    service = StickTableService(
        "filler", {peer.name: f"tcp:127.0.0.1:{peer.port}"}, {"bulk": BULK}, reactor=reactor
    )
    service.startService()
    bulk, load = service.table("bulk"), Load(peer)
    ages: list[int] = []
    stop: list[bool] = []

    async def fill_it(count: int) -> None:
        bulk.update({(100 * count + key) % ENTRIES: {"gpc0": count} for key in range(100)})

    async def change(count: int) -> None:
        await load.change(count + 1)
        if count % 10 == 0:
            ages.append(int((await storage(peer))["unwritten_ms"]))

    running = [
        Deferred.fromCoroutine(endlessly(fill_it, stop, every=0.02)),
        Deferred.fromCoroutine(endlessly(change, stop, every=0.005)),
    ]
    await pause(5 + random.Random().random())
    stop.append(True)
    filled, _ = [await one for one in running]
    asked = time.monotonic()
    age = int((await storage(peer))["unwritten_ms"])
    await peer.stop(signal.SIGKILL)
    await service.stopService()
    peer.runtime.unlink(missing_ok=True)
    mesh.start(peer)
    await peer.up()
    found = await peer.table("t")
    for key, changes in load.made.items():
        safe = [value for when, value in changes if when < asked - age / 1000]
        if safe:
            value = found[key]["gpc0"]
            assert isinstance(value, int) and safe[-1] <= value <= load.tried[key], (key, value)
    assert len(await peer.table("bulk")) > 0
    ages.sort()
    print(
        f"counted: {100 * filled} changes of a peer; the oldest one that was not written, at"
        f" {len(ages)} looks: median {ages[len(ages) // 2]} ms, longest {ages[-1]} ms"
    )


@attrs.define(eq=False)
class SmallDisk:
    """A small file system that one process alone sees."""

    peer: Peerproto
    folder: Path

    @classmethod
    def of(cls, peer: Peerproto, size: str) -> SmallDisk:
        """Have a process, that is yet to start, keep its tables there."""
        folder = peer.folder / "disk"
        folder.mkdir()
        with_storage(peer, "interval = 200ms", "disk/tables.db")
        mount = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
        peer.program = ("unshare", "-rm", "sh", "-c", mount, str(folder), TWIST)
        return cls(peer, folder)

    @property
    def inside(self) -> Path:
        """The folder as the process sees it."""
        return Path(f"/proc/{self.peer.pid}/root{self.folder}")


async def in_trouble(peer: Peerproto) -> str:
    """Wait until it cannot write: why."""

    async def why() -> Optional[str]:
        return (await storage(peer)).get("trouble")

    found = await until(why, "it cannot write")
    assert isinstance(found, str)
    return found


async def serves(peer: Peerproto, key: int) -> None:
    """See that it serves."""
    await peer.do(f"set table t key {key} data.gpc0 {key}")
    assert (await peer.table("t"))[str(key)]["gpc0"] == key


@ensureDeferred
async def test_full_disk(mesh: Mesh) -> None:
    """A disk that is full is one line of the log; serving goes on, and what has changed meanwhile
    is written when there is room."""
    peer = mesh.peerproto()
    peer.declared = "t = type integer size 1m expire 1h store gpc0"
    disk = SmallDisk.of(peer, "2m")
    mesh.start()
    await peer.up()
    await serves(peer, 1)
    await written(peer)
    filling = disk.inside / "fill"
    descriptor = os.open(filling, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError as problem:
        assert problem.errno == errno.ENOSPC
    os.close(descriptor)
    for key in range(2, 200):
        await serves(peer, key)
    assert "full" in await in_trouble(peer)
    await serves(peer, 1000)
    await pause(2.5)
    assert int((await storage(peer))["unwritten_ms"]) > 1000
    filling.unlink()
    await written(peer)
    query = ("sqlite3", str(disk.folder / "tables.db"), "select count(*) from t")
    namespaces = ("nsenter", "-t", str(peer.pid), "-U", "-m", "--preserve-credentials")
    counted = subprocess.run((*namespaces, *query), check=True, stdout=subprocess.PIPE, text=True)
    assert counted.stdout == "200\n"
    log = peer.log.read_text()
    assert log.count("cannot be written") == 1 and log.count("is written again") == 1, log
    await peer.stop()


@attrs.define(eq=False)
class Ext4Disk:
    """A file system in a file, that one process alone sees, and that can turn read-only under it:
    no other way is there to that while files are open to be written."""

    peer: Peerproto
    folder: Path
    image: Path

    @classmethod
    def of(cls, peer: Peerproto) -> Ext4Disk:
        """Have a process, that is yet to start, keep its tables there."""
        if os.geteuid():
            pytest.skip("NOT TRIED: a file system that turns read-only: it takes root to mount one")
        folder, image = peer.folder / "disk", peer.folder / "image"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(("mkfs.ext4", "-q", "-F", str(image)), check=True)
        with_storage(peer, "interval = 200ms", "disk/tables.db")
        disk = cls(peer, folder, image)
        disk.mount_at_start("rw")
        tried = (*disk.peer.program[:-1], "true")
        done = subprocess.run(tried, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            pytest.skip(f"NOT TRIED: a file system that turns read-only: {done.stderr}")
        return disk

    def mount_at_start(self, options: str) -> None:
        """How it is mounted for the next process."""
        mount = f'mount -o loop,errors=remount-ro {self.image} "$0"'
        mount += f' && mount -o remount,{options} "$0" && exec "$@"'
        self.peer.program = ("unshare", "-m", "sh", "-c", mount, str(self.folder), TWIST)

    async def repair(self) -> None:
        """Make it good again, once nobody has it."""

        async def is_free() -> bool:
            command = ("losetup", "--noheadings", "--associated", str(self.image))
            return not subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

        await until(is_free, "nobody has the file system")
        done = subprocess.run(
            ("e2fsck", "-fy", str(self.image)), check=False, stdout=subprocess.PIPE
        )
        assert done.returncode in (0, 1), done.stdout

    def remount(self, options: str) -> None:
        """Mount it otherwise, under a process that runs."""
        command = ("nsenter", "-t", str(self.peer.pid), "-m", "mount", "-o", f"remount,{options}")
        subprocess.run((*command, str(self.folder)), check=True)


@ensureDeferred
async def test_read_only(mesh: Mesh) -> None:
    """The same for a file system that turns read-only, as on a disk that fails. What is left is
    tried to the end, which comes in time. A process that starts on one serves, too, and loads when
    it can be written."""
    peer = mesh.peerproto()
    peer.declared = "t = type integer size 1m expire 1h store gpc0"
    disk = Ext4Disk.of(peer)
    mesh.start()
    await peer.up()
    await serves(peer, 1)
    await written(peer)
    disk.remount("abort")
    await serves(peer, 2)
    assert re.search("readonly|read-only|I/O error", await in_trouble(peer))
    await serves(peer, 3)
    began = time.monotonic()
    await peer.stop()
    assert time.monotonic() - began < 20
    log = peer.log.read_text()
    assert log.count("cannot be written") == 1, log
    assert "not written: the process ends without them" in log, log
    await disk.repair()
    disk.mount_at_start("ro")
    peer.start(mesh.nodes)
    await peer.up()
    assert re.search("[Rr]ead-?only", await in_trouble(peer))
    await serves(peer, 4)
    disk.remount("rw")
    await written(peer)
    assert (await peer.table("t")).keys() == {"1", "4"}
    await peer.stop()


@ensureDeferred
async def test_limited(mesh: Mesh) -> None:
    """The same for a file that may not grow."""
    peer = mesh.peerproto()
    peer.declared = "t = type integer size 1m expire 1h store gpc0"
    file = with_storage(peer, "interval = 200ms")
    mesh.start()
    await peer.up()
    await serves(peer, 1)
    await written(peer)
    subprocess.run(("prlimit", "--pid", str(peer.pid), "--fsize=4096:"), check=True)
    await serves(peer, 2)
    await in_trouble(peer)
    await serves(peer, 3)
    subprocess.run(("prlimit", "--pid", str(peer.pid), "--fsize=unlimited:"), check=True)
    await written(peer)
    assert rows(file, "select count(*) from t") == [(3,)]


@ensureDeferred
async def test_locked(mesh: Mesh) -> None:
    """The same for a file that another program locks."""
    peer = mesh.peerproto()
    peer.declared = "t = type integer size 1m expire 1h store gpc0"
    file = with_storage(peer, "interval = 200ms")
    mesh.start()
    await peer.up()
    await written(peer)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await serves(peer, 2)
    assert "locked" in await in_trouble(peer)
    await serves(peer, 3)
    other.close()
    await written(peer)
    assert rows(file, "select count(*) from t") == [(2,)]


@ensureDeferred
async def test_refused(mesh: Mesh) -> None:
    """A file that another node has ends the start with one line; one that is newer is left as it
    is, and the node is not ready."""
    peer, other = mesh.peerproto(), mesh.peerproto("other")
    file = with_storage(peer)
    other.more = peer.more
    mesh.start(peer)
    await peer.up()
    mesh.start(other)
    assert other.process is not None

    async def has_ended() -> bool:
        assert other.process is not None
        return other.process.poll() is not None

    await until(has_ended, "the second node ends")
    assert other.process.returncode == 1
    (line,) = [one for one in other.log.read_text().splitlines() if "[storage]" in one]
    assert line.startswith(f"peerproto: path in [storage]: {file}: "), line
    await peer.stop()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA user_version = 9")
    connection.execute("UPDATE peerproto_file SET value = 9 WHERE name = 'schema'")
    connection.close()
    mesh.start(peer)
    await peer.up()
    assert "schema version 9" in (await storage(peer))["trouble"]
    await peer.stop()


@ensureDeferred
async def test_reload(mesh: Mesh) -> None:
    """SIGHUP changes which tables are kept, and how often; not the path. Meanwhile the program
    ``sqlite3`` reads the file."""
    peer = mesh.peerproto()
    peer.declared = "\n".join(
        f"{name} = type string size 1m expire 1h store gpc0" for name in ("rates", "other")
    )
    file = with_storage(peer, "tables = rates")
    mesh.start()
    await peer.up()
    for number in range(20):
        await peer.do(f"set table rates key k{number} data.gpc0 {number}")
    await peer.do("set table other key o data.gpc0 1")
    await written(peer)
    query = "select key_text, gpc0 from rates order by gpc0 desc limit 2"
    shown = subprocess.run(
        ("sqlite3", str(file), query), check=True, stdout=subprocess.PIPE, text=True
    )
    assert shown.stdout == "k19|19\nk18|18\n"
    with_storage(peer, "tables = oth*\ninterval = 100ms", "elsewhere.db")
    peer.configure(mesh.nodes)
    peer.send_signal(signal.SIGHUP)

    async def changed() -> bool:
        return rows(file, "select name from peerproto_tables") == [("other",)]

    await until(changed, "the other table is kept")
    assert f"[storage] stays at {file} until a restart" in peer.log.read_text()
    assert "interval=100 tables=oth*" in await peer.ask("show storage")
    assert rows(file, "select key_text, gpc0 from other") == [("o", 1)]


@ensureDeferred
async def test_soft_finish(mesh: Mesh) -> None:
    """In a hand-over, the new process writes on where the old one has let go."""

    async def is_up_to_date() -> bool:
        return "resync=up_to_date" in await peer.ask("show peers")

    peer = mesh.peerproto()
    peer.declared = f"t = {BULK}"
    file = with_storage(peer, "interval = 200ms")
    mesh.start()
    await peer.up()
    for key in range(200):
        await peer.do(f"set table t key {key} data.gpc0 {key}")
    await until(is_up_to_date, "it counts itself up to date")
    assert await peer.replace(mesh.nodes) == 0
    await peer.do("set table t key 1000 data.gpc0 1000")
    await peer.do("clear table t key 7")
    await written(peer)
    assert rows(file, "select count(*), max(gpc0) from t where gpc0 != 7") == [(200, 1000)]
    assert rows(file, "select count(*) from t where gpc0 = 7") == [(0,)]
    before = await peer.table("t")
    await peer.stop()
    mesh.start(peer)
    await peer.up()
    assert (await peer.table("t")).keys() == before.keys()


@ensureDeferred
async def test_old_one_dies(mesh: Mesh) -> None:
    """If the old process dies before it has taught, the new one loads what it had written."""
    peer = mesh.peerproto()
    peer.declared = f"t = {BULK}"
    with_storage(peer, "interval = 200ms")
    mesh.start()
    await peer.up()
    for key in range(200):
        await peer.do(f"set table t key {key} data.gpc0 {key}")
    await written(peer)
    old = peer.process
    assert old is not None
    # It cannot act on the signal that tells it to hand over.
    old.send_signal(signal.SIGSTOP)
    peer.start(mesh.nodes, "--soft-finish", str(old.pid))

    async def waits() -> bool:
        # Before that, the runtime socket is that of the old process, which does not answer.
        assert peer.log.read_text().count("Starting reactor") == 2
        return (await storage(peer))["state"].startswith("waits for the old process")

    await until(waits, "the new process waits")
    assert not await peer.table("t")
    old.kill()
    old.wait()
    await written(peer)
    assert len(await peer.table("t")) == 200


@ensureDeferred
async def test_where_it_listens(mesh: Mesh) -> None:
    """A UNIX socket is where it is to be once tables are loaded; where another one listens already,
    the process ends with status 1 and says so."""
    peer, other = mesh.peerproto(), mesh.peerproto("other")
    with_storage(peer)
    peer.place = str(mesh.folder / "peers.sock")
    with_storage(other, path="other.db")
    other.place = peer.place
    mesh.start(peer)
    await peer.up()

    async def listens() -> bool:
        return Path(peer.place).is_socket()

    await until(listens, "the socket is in its place")
    mesh.start(other)
    process = other.process
    assert process is not None
    assert await ended(process, "the other one") == 1
    assert "peerproto: " in other.log.read_text()
    await peer.stop()
    assert not Path(peer.place).exists()
