"""The wall clock of the node that adds up steps, or that of a HAProxy: by libfaketime.

A lease has a time of the wall clock. One that is an hour off is not fresh, in either direction; one
that is some seconds off is fresh for as much longer at most as the clocks differ, and 1.5 s.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred

from testbed import Mesh, pause, programs, until

from .conftest import oldest_and_newest
from .test_held_back import LOCAL
from .test_wall_clock import HOUR, faked, is_ahead, step
from .witnesses import BEHIND, WRAPS, Decision, Witnesses

fakeable = pytest.mark.parametrize(
    "program",
    [
        pytest.param(one, id=branch)
        for branch, one in programs().items()
        if not (script := Path(one.command[0]).read_bytes()).startswith(b"#!")
        or b"/ld-linux" not in script
    ],
)
"""Runs a test with each HAProxy that can be told another time: those that bring a C library of
their own cannot load libfaketime."""

STAYS = 1.5
"""Seconds for which a clock is off once local limits hold."""


HOURS = (HOUR, -HOUR)

SMALL = (0.5, -0.5, 2.0, -2.0)
"""Steps (in seconds) of which some leave a lease fresh that is over, or longer than it is."""

LIVES = 2.5
"""Seconds after which a lease is gone that is not renewed: its entry lives for 2 s."""

SKEWED = 1.0
"""Seconds for which a lease is fresh longer than it should be at most: it should be for 1 s, and is
gone after 2 s."""

LEADS = 10.0
"""Seconds before the number of a lease begins again from 0 to which clocks are set."""


@attrs.frozen
class Off:
    """A time (from and to, in seconds since the epoch) for which a clock was off."""

    seconds: float
    begin: float
    end: float


async def stepped(fleet: Witnesses, ahead: Path, places: list[int]) -> list[Off]:
    """Set a clock forward, right, back and right again: when it was off.

    :param places: the HAProxies that are to decide without a sum meanwhile.
    """
    periods = []
    for seconds in HOURS:
        begin = time.time()
        step(ahead, seconds)
        await fleet.decide(places, 0)
        await pause(STAYS)
        if len(places) > 1:

            async def node_sees_it(wanted: float = seconds) -> bool:
                return is_ahead(fleet.hub, int(wanted))

            await until(node_sees_it, "the node sees the step")
        periods.append(Off(seconds, begin, time.time()))
        step(ahead, 0)
        await fleet.all_by_sums()
    return periods


async def skewed(fleet: Witnesses, ahead: Path) -> list[Off]:
    """Set a clock a little off, and freeze the node: when it was off. Whoever reads the last lease
    by such a clock is to take it for fresh no longer than said."""
    periods = []
    for seconds in SMALL:
        begin = time.time()
        step(ahead, seconds)
        await pause(STAYS)
        fleet.hub.send_signal(signal.SIGSTOP)
        await pause(LIVES)
        await fleet.decide(range(len(fleet.haproxies)), 0)
        periods.append(Off(seconds, begin, time.time()))
        step(ahead, 0)
        fleet.hub.send_signal(signal.SIGCONT)
        await fleet.all_by_sums()
    return periods


def judge(
    fleet: Witnesses, whose: str, hours: list[Off], skews: list[Off], places: list[int]
) -> None:
    """See that nothing was decided by sums that are not fresh, nor by any while a clock was off by
    an hour."""

    def may_be(one: Decision) -> float:
        is_skewed = any(off.begin < one.answered and one.began < off.end for off in skews)
        return BEHIND + SKEWED if is_skewed else BEHIND

    decisions, most = fleet.check(may_be)
    meanwhile: list[Decision] = []
    for off in hours:
        meanwhile += fleet.of(*places, since=off.begin + LOCAL, until=off.end)
    assert meanwhile
    assert not [one for one in meanwhile if one.lacked is not None]
    skewed = [one.lacked or 0.0 for one in fleet.decisions if may_be(one) > BEHIND]
    fleet.show(
        f"steps of the clock of {whose}",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "and with 2 s": f"{max(skewed) * 1000:.0f} ms",
            "local decisions while it was an hour off": len(meanwhile),
        },
    )


@oldest_and_newest
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
        skews = await skewed(fleet, ahead)
    finally:
        await fleet.end()
    judge(fleet, "the node", periods, skews, places)


@fakeable
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
        skews = await skewed(fleet, ahead)
    finally:
        await fleet.end()
    for one in periods:
        off = [each.now - each.began for each in fleet.of(place, since=one.begin, until=one.end)]
        assert abs(off[-1] - one.seconds) < 60, off
        others = fleet.of(*fleet.without_link(), since=one.begin, until=one.end)
        assert not [each for each in others if each.lacked is None]
    judge(fleet, "a HAProxy", periods, skews, [place])


@fakeable
@ensureDeferred
async def test_wraps(mesh: Mesh) -> None:
    """The number of a lease begins again from 0: decisions by sums go on."""
    fleet = Witnesses(mesh)
    clocks = [faked(one) for one in (fleet.hub, *fleet.haproxies)]
    for ahead in clocks:
        step(ahead, 0)
    await fleet.start()
    try:
        began = wraps = 0.0
        while began > wraps - 1:
            wraps = time.time() + LEADS
            for ahead in clocks:
                step(ahead, (-round(wraps * 1000) % WRAPS) / 1000)
            await fleet.all_by_sums()
            began = time.time()
        await pause(wraps + 2 - began)
        await fleet.all_by_sums()
    finally:
        await fleet.end()
    decisions, most = fleet.check(lambda _: BEHIND)
    across = fleet.of(*range(len(fleet.haproxies)), since=began)
    numbers = [round(one.now * 1000) % WRAPS for one in across]
    before = sum(one > WRAPS // 2 for one in numbers)
    assert 0 < before < len(numbers)
    assert not [one for one in across if one.lacked is None]
    fleet.show(
        "the number of the lease begins again",
        {
            "decisions by sums": decisions,
            "that lacked nothing older than": f"{most:.0f} ms",
            "before and after": f"{before} and {len(numbers) - before}",
        },
    )
