"""How rates fall when nobody counts any more: the quiet end of `tests.simulation.rates`.

Promised, once nothing is hindered:

1. What a HAProxy reads of a sum goes down with what all of them read, whenever the period of one
   ends; also while one is killed, starts again, and gets back what it had, with its age.
2. It is the same without any node until the period of the first one ends. From then on it never
   rises, and is 0 after two periods.
"""

from __future__ import annotations

from typing import Any, Final

from tests.simulation.frequency import PERIOD, FrequencyCounter
from tests.simulation.promise import Broken
from tests.simulation.rates import PART, events, is_right, off
from tests.simulation.site import Reads, Source
from tests.simulation.truth import Truth

STEP: Final = 0.15
"""Seconds between two looks."""

MOST: Final = 30
"""Events that a HAProxy counts at once."""

FALLEN: Final = 2 * PERIOD / 1000 + STEP
"""Seconds after which nothing is left of a rate."""


class Falling:
    """Lets HAProxies count, and stop."""

    def __init__(self, truth: Truth, keys: int) -> None:
        """``keys`` is how many there are."""
        self._truth = truth
        self._site = truth.site
        self._keys = range(keys)
        self._ghosts: dict[str, list[FrequencyCounter]] = {}
        """By HAProxy that is to get back what it had, what that was."""

    def with_nodes(self) -> None:
        """See how rates fall, and what a HAProxy has of them that is killed.

        :raises Broken: a reading is wrong.
        """
        self._count()
        killed = self._site.chance.choice(list(self._site.sources.values()))
        end = self._site.clock.seconds() + FALLEN
        self._follow(STEP * self._site.chance.randrange(3, 12))
        self._ghosts[killed.name] = [killed.process.rate(key) for key in self._keys]
        self._site.restart(killed, 0.0)
        self._follow(end - self._site.clock.seconds())
        self._ghosts.clear()

    def without_nodes(self) -> None:
        """See how rates fall once all nodes are gone.

        :raises Broken: a reading is wrong.
        """
        self._count()
        for node in self._site.nodes.values():
            node.stop()
        now, end = self._now(), self._site.clock.seconds() + FALLEN
        turns = [one.turns(now) for key in self._keys for one in self._own(key)]
        self._follow((min(one for one in turns if one > now) - now) / 1000 - STEP)
        before = self._sums()
        while self._site.clock.seconds() < end:
            self._site.advance(STEP)
            for (where, reads, key), total in self._sums().items():
                last = before[where, reads, key].exactly(self._now() - int(STEP * 1000))
                if total.exactly(self._now()) > last + 1 / PART:
                    raise Broken(f"{where} reads {key}={total} in {reads.sums}, and {last} before")
            before = self._sums()
        for (where, reads, key), total in before.items():
            if total.read(self._now()):
                raise Broken(f"{where} has {key}={total} in {reads.sums} at {self._now()} for good")

    def _now(self) -> int:
        return int(self._site.clock.seconds() * 1000)

    def _count(self) -> None:
        """Have all count, so that each has events of two periods, which end at other times."""
        chance = self._site.chance
        for wait in (PERIOD / 1000 - 0.5, 0.5):
            for source in self._site.sources.values():
                for key in self._keys:
                    self._truth.count(source, key, chance.randrange(1, MOST))
                self._site.advance(chance.uniform(0.0, 0.4))
            self._site.advance(wait)

    # -- reading -----------------------------------------------------------

    def _follow(self, seconds: float) -> None:
        """See for some time that sums are what all read."""
        end = self._site.clock.seconds() + seconds
        while self._site.clock.seconds() < end:
            self._site.advance(STEP)
            now = self._now()
            self._check_taught(now)
            for (where, reads, key), total in self._sums().items():
                own = self._own(key)
                if not self._has_sums(self._site.sources[where], reads):
                    continue
                if abs(off(total, own, now)) > len(own) + events(own, now) / PART:
                    raise Broken(
                        f"{where} reads {key}={total} in {reads.sums} at {now}, which is off by"
                        f" {off(total, own, now):.2f} of {own}"
                    )

    def _sums(self) -> dict[tuple[str, Reads, Any], FrequencyCounter]:
        """What each HAProxy has of each sum."""
        sums = {}
        for name, source in self._site.sources.items():
            for reads in self._site.layout.has_read(name):
                for key in self._keys:
                    held = source.process.held[reads.sums].get(key)
                    is_there = held is not None and source.process.lives(held)
                    rate = held.rate if held is not None and is_there else FrequencyCounter()
                    sums[name, reads, key] = rate
        return sums

    def _has_sums(self, source: Source, reads: Reads) -> bool:
        """Whether a HAProxy has the sums of all: one that was killed loses them, too."""
        return source.name not in self._ghosts or self._truth.relies(source, reads)

    def _own(self, key: Any) -> list[FrequencyCounter]:
        """What each HAProxy has of a rate, or is to get back."""
        return [
            self._ghosts[name][key]
            if name in self._ghosts and not source.process.up_to_date
            else source.process.rate(key)
            for name, source in self._site.sources.items()
        ]

    def _check_taught(self, now: int) -> None:
        for name, ghosts in self._ghosts.items():
            process = self._site.sources[name].process
            for key, ghost in enumerate(ghosts):
                if process.up_to_date and not is_right(process.rate(key), [ghost], now):
                    raise Broken(f"{name} has got back {key}={process.rate(key)} of {ghost}")
