"""Events that an application counts, beside events that a real HAProxy counts."""

from __future__ import annotations

import random

from pytest_twisted import ensureDeferred

from peerproto import StickTableService
from testbed import PATIENCE, Mesh, get, reactor, until

from .conftest import every_haproxy

PERIOD = 2
"""Seconds."""

SAMPLES = 200
APART = 2 * PERIOD / SAMPLES
"""Seconds between two samples."""

TABLES = f"""\
backend counted
    stick-table type string len 32 size 1k expire 1m store gpc0,gpc0_rate({PERIOD}s) peers mesh
"""
RULES = """\
    http-request track-sc0 str(haproxy) table counted
    http-request sc-inc-gpc0(0)
    http-request return status 200
"""


@every_haproxy
@ensureDeferred
async def test_same_rates(mesh: Mesh) -> None:
    """An application that counts what HAProxy counts has the same rate as that, for two periods
    with events at random, and so has HAProxy of what the application counts."""
    haproxy = mesh.haproxy("lb1", tables=TABLES, frontend=RULES)
    service = StickTableService(
        "app", {"lb1": haproxy.address}, {}, learn_tables=True, reactor=reactor
    )
    mesh.peerproto("app")
    mesh.start(haproxy)
    await haproxy.up()
    service.startService()
    try:

        async def has_the_table() -> bool:
            return any(table.name == "counted" for table in service.tables)

        await until(has_the_table, "the application has the table")
        table = service.table("counted")
        chance = random.Random(1)
        began = reactor.seconds()
        compared = 0
        arrived = True

        def here(name: str) -> int:
            entry = table.get(name)
            value = 0 if entry is None else entry["gpc0_rate"]
            assert isinstance(value, int)
            return value

        while compared < SAMPLES:
            assert reactor.seconds() < began + PATIENCE
            if arrived and chance.random() < 0.2:
                assert await get(haproxy.web) == 200
                table.count("app", gpc0=1, gpc0_rate=1)
            before = here("app")
            shown = await haproxy.table("counted")
            after = here("app")
            arrived = {"haproxy", "app"} <= shown.keys()
            if not arrived:
                arrived = not shown
                continue
            counted = int(shown["haproxy"]["gpc0"])
            arrived = shown["app"]["gpc0"] == counted
            if not arrived:
                continue
            compared += 1
            # HAProxy had counted its own some ms before, and reads the clock between ours.
            for name in ("haproxy", "app"):
                rate = int(shown[name]["gpc0_rate"])
                assert min(before, after) - 1 <= rate <= max(before, after) + 1, (name, compared)
            await until_next(began + compared * APART)
        assert counted > 10
        assert table["app"]["gpc0"] == counted
    finally:
        await service.stopService()


async def until_next(moment: float) -> None:
    """Wait until a moment of the reactor's clock."""

    async def has_come() -> bool:
        return bool(reactor.seconds() >= moment)

    await until(has_come, "the next sample")
