"""Tables that real HAProxies have for themselves at peerproto, or through it from each other."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import clientFromString

from peerproto import StickTableService
from testbed import HAProxy, Mesh, Node, get, pause, reactor, until

from .conftest import every_haproxy

pytestmark = every_haproxy

LINE = "type string len 32 size 1k expire 10m store gpc0,http_req_cnt,http_req_rate(1m)"
TABLES = f"""\
backend counted
    stick-table {LINE} peers mesh
"""
RULES = """\
    http-request track-sc0 url_param(u) table counted
    http-request sc-inc-gpc0(0)
    http-request return status 200
"""

Said = dict[str, Any]
"""By keys, what counts of their entries."""


def application(mesh: Mesh, node: Node, haproxies: Iterable[HAProxy], **more: Any) -> Any:
    """A service at the address of a node that HAProxies know as ``app``."""
    service = StickTableService(
        "app",
        {one.name: one.address for one in haproxies},
        {"counted": LINE},
        node.address,
        reactor=reactor,
        **more,
    )
    mesh.nodes[:] = [one for one in mesh.nodes if one is not node]
    return service


async def up(haproxies: Iterable[HAProxy], app: Node) -> None:
    """Start HAProxies that know the application, and not each other."""
    for haproxy in haproxies:
        haproxy.start([haproxy, app])
        await haproxy.up()


async def counts(haproxy: HAProxy) -> Said:
    table = await haproxy.table("counted")
    return {key: entry["gpc0"] for key, entry in table.items()}


async def shows(what: dict[HAProxy, Said], why: str) -> None:
    """Wait until each HAProxy says this of its table."""

    async def all_of_them() -> bool:
        seen = [await counts(haproxy) for haproxy in what]
        assert seen == list(what.values()), seen
        return True

    await until(all_of_them, why)


async def connected(service: StickTableService) -> None:
    """Wait until the service is up to date, and in step with all peers."""

    async def is_so() -> bool:
        reasons = [reason for one in service.peers.values() for reason in one.out_of_step()]
        assert not reasons, reasons
        return service.status().up_to_date

    await until(is_so, "the application is up to date, and in step")


def shares(service: StickTableService) -> dict[tuple[object, object], object]:
    return {(one.key, one.peer): one["gpc0"] for one in service.table("counted")}


@ensureDeferred
async def test_each_its_own(mesh: Mesh) -> None:
    """Each HAProxy has its own counters back after a restart, and never sees the other's; so it
    is when the application was replaced meanwhile, also for one that was away then."""
    a, b = (mesh.haproxy(name, tables=TABLES, frontend=RULES) for name in ("lb1", "lb2"))
    node = mesh.peerproto("app")
    service = application(mesh, node, (a, b))
    service.share("counted", per_peer=True)
    await up((a, b), node)
    service.startService()
    new = None
    try:
        await connected(service)
        for haproxy, users in ((a, "ann ann bob"), (b, "ann eve")):
            for user in users.split():
                assert await get(haproxy.web, f"/?u={user}") == 200
        expected = {("ann", "lb1"): 2, ("bob", "lb1"): 1, ("ann", "lb2"): 1, ("eve", "lb2"): 1}

        async def has_all() -> bool:
            assert shares(service) == expected, shares(service)
            return True

        await until(has_all, "the application has what each has counted")
        of_a, of_b = {"ann": 2, "bob": 1}, {"ann": 1, "eve": 1}
        await shows({a: of_a, b: of_b}, "neither has the other's")
        await a.stop(signal.SIGKILL)
        await up([a], node)
        await shows({a: of_a, b: of_b}, "the one that was killed has its own again")
        # It says nothing more that would come after what is set here.
        await connected(service)
        service.table("counted").set("ann", gpc0=7, peer="lb1")
        of_a["ann"] = expected["ann", "lb1"] = 7
        await shows({a: of_a, b: of_b}, "what is set for one comes to that one")
        await b.stop(signal.SIGKILL)
        handed_over = service.stop_softly(clientFromString(reactor, f"tcp:{node.address}"))
        new = application(mesh, node, (a, b), expect_old=True)
        new.share("counted", per_peer=True)

        async def port_is_free() -> bool:
            # It has no address any more before its socket is closed.
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", node.port))
                except OSError:
                    return False
                return True

        await until(port_is_free, "the old application listens no more")
        new.startService()
        assert await handed_over
        await service.stopService()
        assert shares(new) == expected
        await up([b], node)
        await shows({a: of_a, b: of_b}, "the one that was away has its own")
        assert shares(new) == expected
    finally:
        for one in (service, new):
            if one is not None and one.running:
                await one.stopService()


@ensureDeferred
async def test_relay(mesh: Mesh) -> None:
    """HAProxies that know the application alone count on from each other; then all is quiet; and
    one that was away, or is new, has what the others have."""
    names = ("lb1", "lb2", "lb3")
    a, b, c = (mesh.haproxy(name, tables=TABLES, frontend=RULES) for name in names)
    node = mesh.peerproto("app")
    service = application(mesh, node, (a, b, c))
    service.share("counted", relay=True)
    await up((a, b, c), node)
    service.startService()
    try:
        await connected(service)
        expected: Said = {}
        for number in range(12):
            haproxy = (a, b, c)[number % 3]
            user = ("ann", "bob")[number % 2]
            assert await get(haproxy.web, f"/?u={user}") == 200
            expected[user] = expected.get(user, 0) + 1
            await shows(dict.fromkeys((a, b, c), expected), f"request {number} shows everywhere")
        await connected(service)

        async def at_rest() -> bool:
            before = [one.counters.tx_updates for one in service.peers.values()]
            await pause(1)
            return before == [one.counters.tx_updates for one in service.peers.values()]

        await until(at_rest, "the application sends nothing more")
        for peer in service.peers.values():
            # Each is sent what the two others have counted, and what they send again at most.
            assert peer.counters.tx_updates <= 4 * 12
        c.send_signal(signal.SIGSTOP)
        assert await get(a.web, "/?u=eve") == 200
        expected["eve"] = 1
        await shows({a: expected, b: expected}, "the others go on")

        async def is_away() -> bool:
            return not service.peers["lb3"].connected

        await until(is_away, "the frozen one has no session")
        c.send_signal(signal.SIGCONT)
        await shows({c: expected}, "the one that was frozen has it, too")
        await b.stop(signal.SIGKILL)
        await up([b], node)
        await shows(dict.fromkeys((a, b, c), expected), "the one that was killed learns it all")
        service.table("counted").forget("ann")
        expected["ann"] = 0

        async def forgotten() -> bool:
            seen = [(await counts(one)).get("ann", 0) for one in (a, b, c)]
            assert seen == [0, 0, 0], seen
            return True

        await until(forgotten, "what is forgotten is zero everywhere")
    finally:
        await service.stopService()
