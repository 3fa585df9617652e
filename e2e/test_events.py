"""The stream of events of a real node between real HAProxies."""

from __future__ import annotations

import signal
import statistics
import time

from pytest_twisted import ensureDeferred

from testbed import EventStream, HAProxy, Mesh, Peerproto, endlessly, free_port, get, until

ROUNDS = 10
"""Requests at each HAProxy."""


async def streaming(mesh: Mesh) -> tuple[Peerproto, int, list[HAProxy]]:
    """A node that serves HTTP, its port, and two HAProxies, all in step."""
    peer = mesh.peerproto(declared="ids = type integer size 1m store gpc0")
    port = free_port()
    peer.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\n"
    haproxies = [mesh.haproxy("lb1"), mesh.haproxy("lb2")]
    mesh.start()
    for one in haproxies:
        await one.up()
    await peer.in_step("lb1", "lb2")
    return peer, port, haproxies


@ensureDeferred
async def test_live(mesh: Mesh) -> None:
    """A request at either HAProxy shows in the stream at once. A client that takes nothing gets the
    latest of each key; one that comes back gets what it missed, or is told that nobody knows."""
    peer, port, haproxies = await streaming(mesh)
    stream = await EventStream.open(port, "?table=t_arr&kind=entry")
    took: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for one in haproxies:
            path = f"/{one.name}-{number}"
            began = time.perf_counter()
            assert await get(one.web, path) == 200
            told = await stream.entry(path)
            assert told.data["origin"] == one.name and told.data["entry"]["values"]["gpc0"] == 1
            took.setdefault(one.name, []).append(1000 * (told.at - began))
    for name, times in took.items():
        median = statistics.median(times)
        print(
            f"counted: {ROUNDS} requests at {name} were in the stream after {median:.1f} ms"
            f" (median), {max(times):.1f} ms at most"
        )
        assert median <= 100, times
    await folds(peer, port)
    await goes_on(peer, port, haproxies)


async def folds(peer: Peerproto, port: int) -> None:
    """Change many keys while one client takes nothing, until more waits than buffers hold."""
    query = "?table=ids&kind=entry"
    stuck, quick = await EventStream.open(port, query), await EventStream.open(port, query)
    stuck.stop_reading()
    stop: list[bool] = []
    keys = 200

    async def change(number: int) -> None:
        line = ";".join(f"set table ids key {key} data.gpc0 {number}" for key in range(keys))
        await peer.ask(line)
        # Buffers of the system hold some MB.
        if number >= 100:
            stop.append(True)

    changes = await endlessly(change, stop) * keys
    last = changes // keys - 1

    async def has_all(stream: EventStream) -> bool:
        found = {entry["values"]["gpc0"] for entry in stream.entries().values()}
        return len(stream.entries()) == keys and found == {last}

    await until(lambda: has_all(quick), "the quick client has it all")
    before = len(stuck.events)
    stuck.start_reading()
    await until(lambda: has_all(stuck), "the stuck client has the latest of all")

    async def counted() -> tuple[int, int]:
        # A key may be told once more with what it had when it was told before.
        merged = sum(one.data["merged"] for one in stuck.events if one.name == "merged")
        told = sum(one.name == "entry" for one in stuck.events)
        assert merged + told == changes, (merged, told, changes)
        return merged, told

    merged, told = await until(counted, "each change was told or folded")
    assert not [one for one in stuck.events if one.name == "reset"]
    print(
        f"counted: of {changes} changes a client that took nothing was told {told}"
        f" ({before} before it stopped), {merged} were folded"
    )
    stuck.hang_up()
    quick.hang_up()


async def goes_on(peer: Peerproto, port: int, haproxies: list[HAProxy]) -> None:
    """Break off, and come back: with the same process, and with another one."""
    query = "?table=t_arr"
    stream = await EventStream.open(port, query)
    assert await get(haproxies[0].web, "/seen") == 200
    await stream.entry("/seen")
    stream.hang_up()
    assert await get(haproxies[1].web, "/missed") == 200

    async def is_there() -> bool:
        return "/missed" in await peer.table("t_arr")

    await until(is_there, "the node has it")
    again = await EventStream.open(port, query, stream.place)
    assert again.events[0].data["resumed"] is True
    await again.entry("/missed")
    assert "/seen" not in again.entries()
    await haproxies[1].stop(signal.SIGKILL)
    gone = await again.named("peer", lambda data: data["name"] == "lb2" and not data["connected"])
    assert gone.data["in_step"] is False
    await peer.stop()
    assert again.events[-1].name == "end", again.events[-1]
    peer.start([peer, *haproxies])

    async def has_table() -> bool:
        # It has it from the HAProxy: before that, there is none to follow.
        return "# table: t_arr," in await peer.ask("show table")

    await until(has_table, "the node has adopted the table again")
    after = await EventStream.open(port, query, again.place)
    assert after.events[0].data["resumed"] is False
    reset = await after.named("reset")
    assert reset.data["tables"] == ["t_arr"]
