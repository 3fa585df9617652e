"""A process of a HAProxy in memory, as far as its peers go: it counts, learns, teaches and ends.

It does as doc/protocol.md, "Resync", "Hand-over" and "Live updates", says of HAProxy, and knows
nothing of the package but how messages are written. So it counts from 0 until it was taught, and
what it is sent takes the place of what it has, in lessons and outside of them, whoever sends it: a
node, or its own old process. It sends what it has counted itself alone, always as it is by then,
and not while it teaches.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Optional

import attrs
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from peerproto.tables.declaration import Declaration
from peerproto.testing import MemoryNetwork, RawPeer
from peerproto.testing.entries import Update, Values
from peerproto.testing.rawpeer import Acks
from peerproto.wire.messages import Ack, Control
from tests.simulation.frequency import FrequencyCounter

COUNTED: Final = "t"
"""The table in which it counts; peers are sent what changes in it."""

RATE: Final = "gpc0_rate"
"""The rate that it counts with ``gpc0``."""

RESYNC: Final = 5.0
"""Seconds that it waits for its old process, and then for somebody to learn from."""

DEAD: Final = 5.0
"""Seconds in which it has to hear something on a connection."""

AGAIN: Final = 5.0
"""Seconds until it calls again where nobody has answered."""


class Learns(enum.Enum):
    """From whom a process has still to learn."""

    OLD = "its old process"
    NODES = "a node"
    NOBODY = "nobody: it counts itself up to date"


@attrs.frozen
class Held:
    """An entry."""

    values: Values
    """All but the rate."""
    rate: FrequencyCounter
    until: float
    """When its life is over, by the clock of the network."""
    from_old: bool
    """Whether the old process has taught it."""
    received: int
    """How many updates were received before."""

    def sent(self, now: int) -> Values:
        """What is sent of it, as of a time in ms."""
        return {**self.values, RATE: self.rate.sent(now)}


class Line(RawPeer):
    """A connection of a process with a node, or with the process before or after it."""

    def __init__(self, process: Process, called: str = "") -> None:
        """``called`` is whom it calls, empty if it is called."""
        super().__init__(process.name, called, process.network.clock)
        self.replies, self.confirms, self.acks = None, False, process.acks
        self.other = ""
        """The name of the other side, once there is a session."""
        self.learning = self.teaching = self.in_vain = False
        self.sent = self.origin = 0
        """The latest change that was sent, and that was made when the lesson to it began."""
        self.began = 0.0
        """When the session began, by the clock of the network."""
        self.first: dict[Any, int] = {}
        """What the process had to say then, if it counted itself up to date."""
        self.hears = True
        """Whether anything has come since it was looked at last."""
        self._process = process

    def connectionMade(self) -> None:
        super().connectionMade()
        self._process.opened(self)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.hears = True
        self._process.heard(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._process.lost(self)

    def greeted(self) -> Optional[str]:
        """The name of the other side, if the handshake has just been made."""
        if self.other:
            return None
        if self.called:
            return self.called if self.lines[:1] == ["200"] else None
        return self.lines[2].split()[0] if len(self.lines) == 3 else None


class Process:
    """One life of a HAProxy."""

    def __init__(
        self,
        name: str,
        process: int,
        network: MemoryNetwork,
        nodes: list[str],
        tables: Mapping[str, str],
        calls: bool,
        acks: Acks = Acks.RIGHT,
    ) -> None:
        """
        :param process: its id.
        :param nodes: the peers that it has, but for itself.
        :param tables: by name, how they are declared.
        :param calls: whether it calls the nodes; if not, they call it.
        """
        self.name = name
        self.id = process
        self.network = network
        self.acks = acks
        self.tables = {one: Declaration.parse(one, line) for one, line in tables.items()}
        self.held: dict[str, dict[Any, Held]] = {one: {} for one in tables}
        self.lines: dict[str, Line] = {}
        """Its sessions, by the other side."""
        self.learns = Learns.NOBODY
        self.taught_by: Optional[str] = None
        """Who has taught it everything; ``None`` if nobody has."""
        self.version = 0
        """Another one whenever something that it counts changes."""
        self.received = 0
        """How many updates were received."""
        self.updates = 0
        """The same without those of tables with a short life."""
        self.frozen = False
        self.overwritten: Callable[[Any, int], None] = lambda key, value: None
        """Told of each count that is overwritten, and of the lesser of the two values."""
        self.finished: Callable[[], None] = lambda: None
        """Told when it counts itself up to date."""
        self._nodes = nodes
        self._calls = calls
        self._head = 0
        self._changed: dict[Any, int] = {}
        """By key, the number of the latest change of ours."""
        self._unsaid: dict[Any, int] = {}
        """What it had of keys of which it was taught something since it counts itself up to date:
        that is for no peer, until it counts one of them again."""
        self._acked: dict[str, int] = {}
        self._open: set[Line] = set()
        self._ends = self._running = False
        self._port: Any = None
        self._deadline = 0.0

    # -- lives -----------------------------------------------------------

    def start(self, learns: Learns = Learns.NODES) -> None:
        """Begin, with something to learn."""
        self._running = True
        self._port = self.network.listen(self.name, Factory.forProtocol(lambda: Line(self)))
        self._learn_from(learns)
        if self._calls:
            for node in self._nodes:
                self._later(0, partial(self._call, node))

    def kill(self) -> None:
        """End at once."""
        self._running = False
        self._port.stopListening()
        for line in list(self._open):
            line.hang_up()

    @property
    def up_to_date(self) -> bool:
        """Whether it runs, and learns from nobody any more."""
        return self._running and self.learns is Learns.NOBODY

    def freeze(self) -> None:
        """Do nothing until `thaw`."""
        self.frozen = True
        for line in self._open:
            line.beats = False
            line.stop_reading()

    def thaw(self) -> None:
        self.frozen = False
        for line in list(self._open):
            line.beats = True
            line.read_on()

    def stop_softly(self) -> None:
        """Teach the new process, and end."""
        self._ends = True
        for line in list(self._open):
            line.hang_up()
        self._later(0, lambda: self._call(self.name))
        self._later(RESYNC, lambda: None if self.name in self.lines else self.kill())

    def _later(self, seconds: float, what: Callable[[], Any]) -> None:
        """Do something after some time, if it still runs."""

        def do() -> None:
            if self._running:
                # One that is stopped does it when it goes on.
                self._later(0.1, what) if self.frozen else what()

        self.network.clock.callLater(seconds, do)

    # -- what it counts --------------------------------------------------

    def count(self, key: Any, events: int = 1) -> None:
        """Something has happened, so often."""
        expire = self.tables[COUNTED].expire / 1000
        until = self.network.clock.seconds() + expire
        values = {"gpc0": self.value(key) + events}
        rate = self.rate(key).counted(self.now(), events)
        self.held[COUNTED][key] = Held(values, rate, until, False, self.received)
        self._head += 1
        self._unsaid.pop(key, None)
        self._changed.pop(key, None)
        self._changed[key] = self._head
        self.version += 1
        self._push_all()

    def value(self, key: Any) -> int:
        """What it has counted, as far as it knows."""
        held = self.held[COUNTED].get(key)
        number = 0 if held is None or not self.lives(held) else held.values["gpc0"]
        assert isinstance(number, int)
        return number

    def rate(self, key: Any) -> FrequencyCounter:
        """How often it has counted that of late, as far as it knows."""
        held = self.held[COUNTED].get(key)
        return FrequencyCounter() if held is None or not self.lives(held) else held.rate

    def now(self) -> int:
        """The time in ms by which rates go."""
        return int(self.network.clock.seconds() * 1000)

    def values(self) -> dict[Any, int]:
        """The same of all keys that it knows, but for what it will not tell peers."""
        held = self.held[COUNTED].items()
        every = {key: self.value(key) for key, one in held if self.lives(one)}
        unsaid = self._unsaid.items()
        return every | {key: min(before, every[key]) for key, before in unsaid if key in every}

    def lives(self, held: Held) -> bool:
        """Whether the life of an entry is not over."""
        return held.until > self.network.clock.seconds()

    def ends(self) -> dict[Any, float]:
        """When the lives of what it has counted are over."""
        return {key: held.until for key, held in self.held[COUNTED].items()}

    def _push_all(self) -> None:
        for line in list(self.lines.values()):
            self._push(line)

    def _push(self, line: Line) -> None:
        """Send what has changed, unless the other side is being taught."""
        if line.teaching or line.sent >= self._head or line.other == self.name:
            return
        line.define(self.tables[COUNTED])
        for key, number in self._changed.items():
            if number > line.sent and self.lives(self.held[COUNTED][key]):
                line.update(key, self.held[COUNTED][key].sent(self.now()), number)
        line.sent = self._head

    # -- connections -----------------------------------------------------

    def _call(self, other: str) -> None:
        if other in self.lines or (self._ends and other != self.name):
            return
        line = Line(self, other)
        try:
            self.network.connect(other, Factory.forProtocol(lambda: line), self.name)
        except ConnectError:
            self._later(0.5 if self._ends else AGAIN, lambda: self._call(other))
        else:
            line.greet(process=self.id)

    def opened(self, line: Line) -> None:
        """A connection was made."""
        self._open.add(line)
        self._watch(line)

    def _watch(self, line: Line) -> None:
        """End a connection on which nothing comes; the old and the new process say nothing."""
        if line in self._open:
            if not (line.hears or line.other == self.name):
                line.hang_up()
            line.hears = False
            self._later(DEAD, lambda: self._watch(line))

    def lost(self, line: Line) -> None:
        """A connection is over."""
        self._open.discard(line)
        other = line.other or line.called
        if self.lines.get(other) is line:
            del self.lines[other]
        if not self._running:
            return
        if line.learning:
            self._learn_from(self.learns)
        if self._ends and other == self.name:
            self.kill()
        elif line.called and not self._ends:
            self._later(self.network.chance.uniform(0.05, 2.05), lambda: self._call(other))

    def heard(self, line: Line) -> None:
        """Something was received."""
        other = line.greeted()
        if other is not None:
            self._greeted(line, other)
        messages, line.heard = line.heard, []
        for message in messages:
            if isinstance(message, Update):
                self._store(line, message)
            elif isinstance(message, Ack):
                if message.table_id == 1 and message.update_id <= line.sent and not line.teaching:
                    before = self._acked.get(line.other, 0)
                    self._acked[line.other] = max(before, message.update_id)
            elif message is Control.RESYNC_REQUEST:
                self._teach(line)
            elif message is Control.RESYNC_CONFIRM:
                self._confirmed(line)
            elif message in (Control.RESYNC_FINISHED, Control.RESYNC_PARTIAL):
                line.say(Control.RESYNC_CONFIRM)
                self._learnt(line, message is Control.RESYNC_FINISHED)

    def _greeted(self, line: Line, other: str) -> None:
        line.other, line.began = other, self.network.clock.seconds()
        if self.up_to_date:
            line.first = self.values()
        before = self.lines.get(other)
        self.lines[other] = line
        if before is not None:
            before.hang_up()
        if other != self.name:
            line.sent = self._acked.get(other, 0)
            self._push(line)
            self._ask_someone()
        elif line.called:
            self._teach(line)
        elif self.learns is Learns.OLD and not self._is_taught:
            line.learning = True

    # -- lessons ---------------------------------------------------------

    @property
    def _is_taught(self) -> bool:
        return any(line.learning for line in self.lines.values())

    def _learn_from(self, whom: Learns) -> None:
        """Wait for somebody to learn from."""
        self.learns = whom
        if whom is Learns.NOBODY:
            self.finished()
            return
        deadline = self._deadline = self.network.clock.seconds() + RESYNC
        self._later(RESYNC, lambda: self._nobody_came(deadline))
        self._ask_someone()

    def _nobody_came(self, deadline: float) -> None:
        if deadline == self._deadline and not self._is_taught:
            if self.learns is Learns.OLD:
                self._learn_from(Learns.NODES)
            elif self.learns is Learns.NODES:
                self._learn_from(Learns.NOBODY)

    def _ask_someone(self) -> None:
        if self.learns is not Learns.NODES or self._is_taught:
            return
        able = [one for one in self.lines.values() if one.other != self.name and not one.in_vain]
        if able:
            line = self.network.chance.choice(able)
            line.learning = True
            line.say(Control.RESYNC_REQUEST)

    def _learnt(self, line: Line, finished: bool) -> None:
        if not line.learning:
            return
        line.learning, line.in_vain = False, not finished
        if finished:
            self.taught_by = line.other
            self._learn_from(Learns.NOBODY)
        else:
            self._learn_from(Learns.NODES)

    def _store(self, line: Line, update: Update) -> None:
        declaration = self.tables.get(update.table)
        if declaration is None:
            return
        held = self.held[update.table]
        before, now = self.value(update.key), update.values.get("gpc0", 0)
        assert isinstance(now, int)
        life = declaration.expire if update.expiry is None else update.expiry
        if update.table == COUNTED:
            self.version += 1
        from_old = line.other == self.name
        until = self.network.clock.seconds() + life / 1000
        values = dict(update.values)
        counter: Any = values.pop(RATE, None)
        rate = FrequencyCounter.received(self.now(), counter) if counter else FrequencyCounter()
        held[update.key] = Held(values, rate, until, from_old, self.received)
        if update.table == COUNTED and now != before:
            if self.up_to_date:
                self._unsaid.setdefault(update.key, before)
            self.overwritten(update.key, min(now, before))
        self.received += 1
        self.updates += declaration.expire > 2_000

    def _teach(self, line: Line) -> None:
        """Send everything."""
        line.teaching, line.origin = True, self._head
        now = self.network.clock.seconds()
        for number, (name, held) in enumerate(self.held.items(), 1):
            line.define(self.tables[name], number)
            for key, entry in held.items():
                left = round((entry.until - now) * 1000)
                if left > 0:
                    line.update(key, entry.sent(self.now()), self._head, left)
        is_finished = self.learns is Learns.NOBODY
        line.say(Control.RESYNC_FINISHED if is_finished else Control.RESYNC_PARTIAL)

    def _confirmed(self, line: Line) -> None:
        if not line.teaching:
            return
        line.teaching = False
        line.sent = max(line.origin, line.sent)
        if self._ends:
            self.kill()
        else:
            self._push(line)
