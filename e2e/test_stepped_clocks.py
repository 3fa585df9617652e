"""The wall clock of the node that adds up steps by an hour, or that of a HAProxy: by libfaketime.

A lease has a time of the wall clock. One that is an hour off is not fresh, in either direction.
"""

from __future__ import annotations

import time
from pathlib import Path

import attrs
from pytest_twisted import ensureDeferred

from testbed import Mesh, pause, until

from .test_held_back import LOCAL
from .test_wall_clock import HOUR, faked, is_ahead, step
from .witnesses import BEHIND, Decision, Witnesses

STAYS = 1.5
"""Seconds for which a clock is off once local limits hold."""


@attrs.frozen
class Off:
    """A time (from and to, in seconds since the epoch) for which a clock was off."""

    seconds: int
    begin: float
    end: float


async def stepped(fleet: Witnesses, ahead: Path, places: list[int]) -> list[Off]:
    """Set a clock forward, right, back and right again: when it was off.

    :param places: the HAProxies that are to decide without a sum meanwhile.
    """
    periods = []
    for seconds in (HOUR, -HOUR):
        begin = time.time()
        step(ahead, seconds)
        await fleet.decide(places, 0)
        await pause(STAYS)
        if len(places) > 1:

            async def node_sees_it(wanted: int = seconds) -> bool:
                return is_ahead(fleet.hub, wanted)

            await until(node_sees_it, "the node sees the step")
        periods.append(Off(seconds, begin, time.time()))
        step(ahead, 0)
        await fleet.all_by_sums()
    return periods


def judge(fleet: Witnesses, whose: str, periods: list[Off], places: list[int]) -> None:
    """See that nothing was decided by sums that are not fresh, nor by any while a clock was off."""
    decisions, most = fleet.check(lambda _: BEHIND)
    meanwhile: list[Decision] = []
    for one in periods:
        meanwhile += fleet.of(*places, since=one.begin + LOCAL, until=one.end)
    assert meanwhile
    assert not [one for one in meanwhile if one.lacked is not None]
    fleet.show(
        f"an hour's steps of the clock of {whose}",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "local decisions while it was off": len(meanwhile),
        },
    )


@ensureDeferred
async def test_node(mesh: Mesh) -> None:
    """The node's clock is an hour ahead, and an hour behind: HAProxies decide by what they count,
    and by sums again once it is right."""
    fleet = Witnesses(mesh)
    ahead = faked(fleet.hub)
    step(ahead, 0)
    places = list(range(len(fleet.haproxies)))
    await fleet.start()
    try:
        periods = await stepped(fleet, ahead, places)
    finally:
        await fleet.end()
    judge(fleet, "the node", periods, places)


@ensureDeferred
async def test_haproxy(mesh: Mesh) -> None:
    """The same with the clock of one HAProxy: that one decides by what it counts, the others go on
    by sums."""
    fleet = Witnesses(mesh)
    place = fleet.last
    ahead = faked(fleet.haproxies[place])
    step(ahead, 0)
    await fleet.start()
    try:
        periods = await stepped(fleet, ahead, [place])
    finally:
        await fleet.end()
    for one in periods:
        off = [each.now - each.began for each in fleet.of(place, since=one.begin, until=one.end)]
        assert abs(off[-1] - one.seconds) < 60, off
        others = fleet.of(*fleet.without_link(), since=one.begin, until=one.end)
        assert not [each for each in others if each.lacked is None]
    judge(fleet, "a HAProxy", periods, [place])
