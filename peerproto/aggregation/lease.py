"""The lease: an entry by which a HAProxy sees for itself whether a sum is kept up.

It has an absolute time of the wall clock: one that was held up on its way is over when it arrives,
where a life that is reckoned from its arrival would prove nothing. It is sent behind the sums that
it vouches for. doc/aggregation.md, "Freshness", has its format, and the rules that read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Optional

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerproto import (
    UNSTAMPED,
    Declaration,
    LocalProtocolError,
    NodeTime,
    StickTable,
    StickTableService,
)

FORMAT: Final = 1
"""What the first value says of the others."""

LINE: Final = "type ipv6 size 16 expire 2s store gpt(4)"
"""The table, unless ``[tables]`` has it."""

KEY: Final = "::"

LENGTH: Final = 1000
"""Time in ms for which a lease holds."""

RENEWED: Final = 250
"""Time in ms after which it is renewed."""

RENEWED_BEHIND: Final = 100
"""The same for one that holds no longer than those of its sources. Each level takes so much of what
is left, and HAProxies are to have some left when a process has to wait for the processor."""

LONGEST_LAG: Final = 250
"""Age in ms of a change that is not published, from which on the sums are not vouched for."""

_LATE: Final = 100
"""Time in ms by which a renewal is late after the process stood still: it was stopped, or the
machine had no time for it."""

_READING: Final = 100
"""Time in ms in which a process that stood still reads what has come meanwhile."""

_AGAIN: Final = 10
"""Time in ms after which it is looked at again whether all is published."""

_LONGEST_LIFE: Final = 2000
_ELEMENTS: Final = 4
_NUMBER_AT: Final = 2
"""The value that has the number of the session, as each entry of the output has it."""

_AHEAD: Final = 1500
"""Time in ms by which the end of a lease may be ahead: clocks of two hosts differ a little."""


@attrs.frozen
class Vouch:
    """What a lease says."""

    sources: int
    """How many sources are in the sums."""
    left: int = LENGTH
    """For how many ms from now on they are vouched for."""

    def and_(self, other: Vouch) -> Vouch:
        """What both say together."""
        return Vouch(self.sources + other.sources, min(self.left, other.left))


def read_lease(table: StickTable, time: NodeTime) -> Optional[Vouch]:
    """What the lease in a table says now; ``None`` if it is over, or there is none.

    :raises LocalProtocolError: the table is gone, or cannot have a lease.
    """
    check_lease(table.declaration)
    entry = table.get(KEY)
    if entry is None or entry["gpt[0]"] != FORMAT:
        return None
    left = (entry.number("gpt[1]") - time.now() - time.step()) & 0xFFFFFFFF
    return Vouch(entry.number("gpt[3]"), min(left, LENGTH)) if 0 < left <= _AHEAD else None


def lease_table(service: StickTableService, name: str) -> StickTable:
    """The table of this name; it is added if there is none."""
    table = service.find_table(name)
    return service.add_table(Declaration.parse(name, LINE)) if table is None else table


def check_lease(declaration: Declaration) -> None:
    """See whether a table can have a lease.

    :raises LocalProtocolError: it cannot.
    """
    if declaration.layout.key_type.word != "ipv6":
        raise LocalProtocolError("type of keys", declaration.layout.key_type.word, "ipv6")
    elements = sum(one.elements or 0 for one in declaration.layout.columns if one.name == "gpt")
    if elements < _ELEMENTS:
        raise LocalProtocolError("store", f"gpt({elements})", f"gpt({_ELEMENTS})")
    if not 0 < declaration.expire <= _LONGEST_LIFE:
        raise LocalProtocolError("expire", f"{declaration.expire} ms", "2s at most")


class Lease:
    """Renews one lease, as long as somebody vouches for the sums."""

    _log = Logger()

    def __init__(
        self,
        service: StickTableService,
        name: str,
        output: str,
        clock: IReactorTime,
        vouch: Callable[[], Optional[Vouch]],
        published: Callable[[int], bool],
        renewed: int = RENEWED,
    ) -> None:
        """
        :param name: that of the table.
        :param output: the table with the sums.
        :param vouch: tells what the sums are vouched for; ``None`` if they are not.
        :param published: tells whether all is published that was known at a time (in ms).
        :param renewed: time in ms after which it is renewed.
        """
        self._service = service
        self._name = name
        self._output = output
        self._clock = clock
        self._vouch = vouch
        self._published = published
        self._renewed = renewed
        self._waits_for: Optional[int] = None
        """A time (in ms): all that was known then is to be published before the next renewal."""
        self._vouched: Optional[int] = None
        """Of how many sources the lease tells; ``None`` if it is over."""
        self._next: Optional[IDelayedCall] = None
        self._due: Optional[int] = None
        """When (in ms) the next renewal is due."""

    def check(self) -> None:
        """See whether it can be kept.

        :raises LocalProtocolError: see `check_lease`.
        """
        table = self._service.find_table(self._name)
        if table is not None:
            check_lease(table.declaration)

    def start(self) -> None:
        """Begin to renew it.

        :raises LocalProtocolError: the tables are to be sent in a circle.
        """
        self._service.share(self._name, learn=False, after=self._output, stamp=_NUMBER_AT)
        self._renew()

    @property
    def holds(self) -> bool:
        """Whether it was renewed and is not ended since."""
        return self._vouched is not None

    def look(self) -> None:
        """Something has happened: say so at once, if it changes whether the sums are vouched
        for, or of whom they are."""
        vouch = self._vouch()
        if self._next is not None and (vouch and vouch.sources) != self._vouched:
            self._renew()

    def wait(self) -> None:
        """Renew it once all is published that is known now: the sums may lack what is older than
        it looks. What was said before holds until its own end."""
        self._waits_for = self._service.now()

    def stop(self) -> None:
        """Vouch for nothing any more."""
        if self._next is not None:
            if self._next.active():
                self._next.cancel()
            self._next = None
            if self._service.find_table(self._name) is not None:
                self._write(None)

    def _renew(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        vouch, now = self._vouch(), self._service.now()
        if vouch is None:
            self._waits_for = None
        elif self._due is not None and now > self._due + _LATE:
            # What came meanwhile is not even read yet.
            self._waits_for = now + _READING
        elif self._waits_for is None and (self._vouched is None or vouch.sources > self._vouched):
            # What had to wait elsewhere, for however long, is known only now.
            self.wait()
        if self._waits_for is not None and self._published(self._waits_for):
            self._waits_for = None
        delay = self._renewed if self._waits_for is None else _AGAIN
        self._due = now + delay
        self._next = self._clock.callLater(delay / 1000, self._renew)
        if self._waits_for is None:
            self._write(vouch)

    def _write(self, vouch: Optional[Vouch]) -> None:
        was, self._vouched = self._vouched, None if vouch is None else vouch.sources
        if vouch is None:
            if was is None:
                return
            vouch = Vouch(0, 0)
        time = self._service.time
        deadline = time.now() + time.step() + vouch.left
        values = (FORMAT, deadline & 0xFFFFFFFF, UNSTAMPED, vouch.sources)
        table = lease_table(self._service, self._name)
        try:
            table.set(KEY, {f"gpt[{place}]": value for place, value in enumerate(values)})
        except LocalProtocolError as problem:
            self._log.error("the lease in table {name}: {why}", name=self._name, why=problem)
