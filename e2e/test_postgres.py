"""Tables on a real PostgreSQL server, which several nodes share."""

from __future__ import annotations

import re
import signal
import time

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from testbed import Mesh, Peerproto, ended, endlessly, pause, until
from testbed.postgres import PASSWORD

from .kept import Kept, come_back
from .postgres import Shared, server, shared
from .test_haproxy import TABLES, at, fill
from .test_storage import KILLS, Load, in_trouble, serves, storage, written

__all__ = ["server", "shared"]

INTEGERS = "t = type integer size 1m expire 1h store gpc0"


@ensureDeferred
async def test_fleet(mesh: Mesh, shared: Shared) -> None:
    """All processes stop. Of a pair of peerprotos, the second one starts first, on what both have
    kept, then two HAProxies: both have every entry, with its values, rates and remaining time; and
    a client goes to the same server."""
    names = ("lb1", "lb2")
    haproxies = [mesh.haproxy(name) for name in names]
    first, _ = haproxies
    pair = [mesh.peerproto(name) for name in ("one", "other")]
    for peer in pair:
        shared.keep(peer)
    mesh.start()
    for one in haproxies:
        await one.up()
    for peer in pair:
        await peer.in_step(*names)
    await fill(first)

    async def all_there() -> bool:
        for table in TABLES:
            counts = [len(await one.table(at(one, table))) for one in (*haproxies, *pair)]
            assert len(set(counts)) == 1 and counts[0], (table, counts)
        return True

    await until(all_there, "all have all")
    # What was sent live has its lives anew where it arrives.
    await pause(1)
    for peer in pair:
        await written(peer)
    kept = {table: await Kept.of(pair[1], table) for table in TABLES}
    for node in (*haproxies, *pair):
        await node.stop()
    assert shared.count("peerproto_nodes") == 2
    await pause(2)
    third = mesh.peerproto("third")
    shared.keep(third)
    for peer in (pair[1], third):
        mesh.start(peer)
        await peer.up()
        for table in kept.values():
            await table.is_had(peer)
    await come_back(mesh, kept, pair[1], haproxies)
    for peer in (*pair, third):
        assert PASSWORD not in peer.log.read_text() + await pair[1].ask("show storage")


@ensureDeferred
async def test_newer_stays(mesh: Mesh, shared: Shared) -> None:
    """Of two nodes that write one key, the newer change stays, whoever writes last; the one that
    is removed later is gone, though the other node writes an older change after that."""
    slow, quick = mesh.peerproto("slow"), mesh.peerproto("quick")
    for peer, interval in ((slow, "5s"), (quick, "50ms")):
        peer.declared = INTEGERS
        shared.keep(peer, f"interval = {interval}")
    # They do not know each other: what one has the other has from the server alone.
    slow.start([slow])
    await slow.up()
    quick.start([quick])
    await quick.up()
    await written(slow)
    for key in range(20):
        await slow.do(f"set table t key {key} data.gpc0 1")
    changed = time.time()

    async def is_clearly_later() -> bool:
        return time.time() - changed > 0.5

    # Each knows the server's clock by half of what it took to ask for it.
    await until(is_clearly_later, "the other change is newer by both clocks")
    for key in range(20):
        await quick.do(f"set table t key {key} data.gpc0 2")
    await quick.do("clear table t key 7")
    await written(quick)
    assert shared.count("t") == 19
    await written(slow)
    assert shared.count("t") == shared.count("t", "gpc0 = 2") == 19
    await slow.do("set table t key 7 data.gpc0 3")
    await slow.do("clear table t key 8")
    await slow.stop()
    assert shared.count("t", "gpc0 = 3") == 1 and shared.count("t") == 19
    slow.start([slow])
    await slow.up()
    found = await slow.table("t")
    assert {key: entry["gpc0"] for key, entry in found.items()} == {
        str(key): 3 if key == 7 else 2 for key in range(20) if key != 8
    }


@ensureDeferred
async def test_server_killed(mesh: Mesh, shared: Shared) -> None:
    """A server that is killed and started again under load loses nothing: one line of the log says
    that it is gone, serving goes on, and what has changed meanwhile is written then."""
    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer)
    mesh.start(peer)
    await peer.up()
    await written(peer)
    load = Load(peer)
    stop: list[bool] = []
    changing = Deferred.fromCoroutine(endlessly(load.change, stop, every=0.001))
    for _ in range(3):
        await pause(1)
        shared.server.kill()
        await in_trouble(peer)
        await serves(peer, 1000)
        shared.server.start()
        await written_again(peer)
    stop.append(True)
    await changing
    await written(peer)
    found = await peer.table("t")
    kept = shared.server.ask(f"SELECT key_text, gpc0::int FROM {shared.schema}.t")
    assert dict(kept) == {key: entry["gpc0"] for key, entry in found.items()}
    log = peer.log.read_text()
    assert log.count("cannot be written") == 3 == log.count("is written again"), log
    assert PASSWORD not in log
    await peer.stop()


async def written_again(peer: Peerproto) -> None:
    """Wait until it has no trouble."""

    async def works() -> bool:
        return "trouble" not in await storage(peer)

    await until(works, "it is written again")


@ensureDeferred
async def test_server_hangs(mesh: Mesh, shared: Shared) -> None:
    """A server that does not answer does not keep a process from ending in time."""
    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer)
    mesh.start(peer)
    await peer.up()
    await written(peer)
    shared.server.signal_all(signal.SIGSTOP)
    try:
        await serves(peer, 1)
        process = peer.process
        assert process is not None
        began = time.monotonic()
        peer.send_signal(signal.SIGTERM)
        await ended(process, "it ends")
        assert time.monotonic() - began < 20
        assert "not written: the process ends without them" in peer.log.read_text()
    finally:
        shared.server.signal_all(signal.SIGCONT)


@ensureDeferred
async def test_no_server(mesh: Mesh, shared: Shared) -> None:
    """Without a server at the start a node serves; when there is one, it loads beside that."""
    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer)
    mesh.start(peer)
    await peer.up()
    await serves(peer, 1)
    await written(peer)
    await peer.stop()
    shared.server.kill(signal.SIGINT)
    mesh.start(peer)
    await peer.up()
    await in_trouble(peer)
    await serves(peer, 2)
    shared.server.start()
    await written(peer)
    assert len(await peer.table("t")) == shared.count("t") == 2


@ensureDeferred
async def test_killed(mesh: Mesh, shared: Shared) -> None:
    """Killed under load, a node lacks no change that is older than the interval and a second."""
    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer, "interval = 500ms")
    load = Load(peer)
    number = 0
    for _ in range(max(3, KILLS // 5)):
        mesh.start(peer)
        await peer.up()
        stop: list[bool] = []

        async def change(count: int, begin: int = number) -> None:
            await load.change(begin + count + 1)

        changing = Deferred.fromCoroutine(endlessly(change, stop, every=0.001))
        await pause(3)
        killed = time.monotonic()
        await peer.stop(signal.SIGKILL)
        stop.append(True)
        number += await changing + 1
        peer.runtime.unlink(missing_ok=True)
        mesh.start(peer)
        await peer.up()
        await written(peer)
        found = await peer.table("t")
        for key, changes in load.made.items():
            safe = [value for when, value in changes if when < killed - 1.5]
            if safe:
                value = found[key]["gpc0"]
                assert isinstance(value, int)
                assert safe[-1] <= value <= load.tried[key], (key, safe[-1], value)
        await peer.stop()
        peer.runtime.unlink(missing_ok=True)


@ensureDeferred
async def test_soft_finish(mesh: Mesh, shared: Shared) -> None:
    """In a hand-over, the new process writes on where the old one has let go."""

    async def is_up_to_date() -> bool:
        return "resync=up_to_date" in await peer.ask("show peers")

    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer)
    mesh.start(peer)
    await peer.up()
    for key in range(200):
        await peer.do(f"set table t key {key} data.gpc0 {key}")
    await until(is_up_to_date, "it counts itself up to date")
    assert await peer.replace(mesh.nodes) == 0
    await peer.do("set table t key 1000 data.gpc0 1000")
    await peer.do("clear table t key 7")
    await written(peer)
    assert shared.count("t") == 200
    assert shared.count("t", "gpc0 = 7") == 0
    assert "mistake" not in peer.log.read_text()


@ensureDeferred
async def test_two_of_one_name(mesh: Mesh, shared: Shared) -> None:
    """A second node of one name writes nothing and says why, until the first one has ended; then
    it loads what that one had."""
    peer, other = mesh.peerproto("same"), mesh.peerproto("elsewhere")
    for one in (peer, other):
        one.declared = INTEGERS
        shared.keep(one)
    mesh.start(peer)
    await peer.up()
    await serves(peer, 1)
    await written(peer)
    other.configure([other])
    text = re.sub("^elsewhere =", "same =", other.file.read_text(), flags=re.M)
    other.file.write_text(text.replace("localpeer = elsewhere", "localpeer = same"))
    other.spawn(*other.program, "--log-format=text", "peers", "--config", str(other.file))
    await other.up()
    trouble = await in_trouble(other)
    assert "writes there as 'same'" in trouble and "a second node of this name" in trouble
    assert "127.0.0.1" in trouble, trouble
    await serves(other, 2)
    assert shared.count("t") == 1
    await peer.stop()
    await written(other)
    assert shared.count("t") == len(await other.table("t")) == 2
    assert other.log.read_text().count("cannot be written") == 1


@ensureDeferred
async def test_reload(mesh: Mesh, shared: Shared) -> None:
    """SIGHUP changes which tables are kept; not the server, nor the schema. A table that the node
    does not keep any more stays as long as another node does."""
    peer, other = mesh.peerproto(), mesh.peerproto("other")
    for one in (peer, other):
        one.declared = f"{INTEGERS}\n{INTEGERS.replace('t =', 'u =')}"
        shared.keep(one)
    mesh.start(peer, other)
    for one in (peer, other):
        await one.up()
        await serves(one, 1)
        await written(one)
    Shared(shared.server, "elsewhere").keep(peer, "tables = u\ninterval = 100ms")
    peer.configure(mesh.nodes)
    peer.send_signal(signal.SIGHUP)
    uses = f"SELECT count(*) FROM {shared.schema}.peerproto_uses WHERE node = 'peerproto'"

    async def changed() -> bool:
        return shared.server.ask(uses) == [(1,)]

    await until(changed, "one table is kept")
    log = peer.log.read_text()
    place = f"postgresql://node@127.0.0.1:{shared.server.port}/node"
    assert f"[storage] stays at {place} until a restart" in log and PASSWORD not in log
    assert "interval=100 tables=u" in await peer.ask("show storage")
    assert shared.count("t") == 1


@ensureDeferred
async def test_dropped(mesh: Mesh, shared: Shared) -> None:
    """If somebody drops the schema, all that a node has is written anew, not only what changes."""
    peer = mesh.peerproto()
    peer.declared = INTEGERS
    shared.keep(peer)
    mesh.start(peer)
    await peer.up()
    for key in range(100):
        await peer.do(f"set table t key {key} data.gpc0 {key}")
    await written(peer)
    shared.server.ask(f"DROP SCHEMA {shared.schema} CASCADE")
    await serves(peer, 200)

    async def all_there() -> bool:
        there = shared.server.ask("SELECT to_regclass(%s)::text", [f"{shared.schema}.t"])
        return there != [(None,)] and shared.count("t") == 101

    await until(all_there, "all is there again")
    await written_again(peer)
