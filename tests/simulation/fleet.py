"""The nodes of a simulation: their lives, what they say, and the network between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any, Final, Optional, cast
from unittest.mock import patch

import attrs
from twisted.logger import ILogObserver, globalLogPublisher

from peerproto.connections import clock, protocol
from peerproto.peering.session import Session
from peerproto.service.batch import Batch
from peerproto.service.observers import Observer
from peerproto.service.service import StickTableService
from peerproto.tables.changes import Cause
from peerproto.tables.declaration import Declaration
from peerproto.tables.entry import Entry
from peerproto.tables.store import TableStore
from peerproto.testing import MemoryNetwork
from peerproto.testing.network import MemoryConnection
from peerproto.updates import lesson
from peerproto.wire.keys import to_raw
from tests.simulation.promise import (
    Broken,
    Contents,
    Identity,
    Promise,
    contents,
    identity,
    key_of,
    number_of,
    numbers,
)

NAMES: Final = ("a", "b", "c", "d", "e", "f")

WINDOW: Final = 10.0
"""Seconds after an obstacle in which two nodes need not have found each other again."""

ROOM: Final = 100
"""Bytes that wait in a connection: little, so that lessons take many turns."""

SMALL: Final = 8
"""Entries that are converted, expired or discarded at once."""


@contextmanager
def small_slices() -> Iterator[None]:
    """Have so little done at once that a table of some dozen entries takes many turns."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(clock, "TURN", 0.0))
        stack.enter_context(patch.object(protocol, "SLICE", ROOM // 2))
        stack.enter_context(patch.object(lesson, "CHUNK", ROOM // 2))
        for name in ("convert", "expire", "discard"):
            stack.enter_context(patch.object(TableStore, name, _few(getattr(TableStore, name))))
        yield


def _few(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a table with a small limit, unless it is given."""

    def limited(self: TableStore, *args: Any, limit: int = SMALL) -> Any:
        return method(self, *args, limit=limit)

    return limited


@attrs.define(eq=False)
class Times:
    """What the module ``time`` is to the nodes: a monotonic clock, and a wall clock that is set."""

    monotonic: Callable[[], float]
    ahead: float = 0.0
    """Seconds by which the wall clock is ahead of the other one."""
    time: Callable[[], float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Always the same function: that tells a reactor which goes by the wall clock.
        self.time = lambda: self.monotonic() + self.ahead


class Mirror(Observer):
    """An observer that keeps the keys of all tables, as an application may."""

    def __init__(
        self,
        came: Callable[[Batch], None],
        goes: Callable[[Batch, dict[bytes, int]], None],
    ) -> None:
        """``came`` is told of what was learnt, ``goes`` of what goes away, with the last change
        of each key."""
        self.tables: dict[Any, dict[bytes, int]] = {}
        self._came, self._goes = came, goes

    def table_changed(self, batch: Batch) -> None:
        mirrored = self.tables.setdefault(batch.table, {})
        if batch.cause in (Cause.LEARNT, Cause.SET):
            self._came(batch)
            mirrored.update(dict.fromkeys(batch.raw_keys, 0))
            mirrored.update((entry.raw_key, _latest(entry)) for entry in batch.entries())
        else:
            self._goes(batch, mirrored)
            for key in batch.raw_keys:
                mirrored.pop(key, None)


def _latest(entry: Entry) -> int:
    return max((number for _, number in numbers(entry)), default=0)


@attrs.define(eq=False)
class Process:
    """One life of a node."""

    service: StickTableService
    mirror: Mirror
    taught_by: Optional[str] = None
    had: dict[str, tuple[Identity, Contents]] = attrs.Factory(dict)
    """By table, what the teacher had when it was asked."""
    reason: str = ""
    """Why its resync is in its state, when it was looked at last."""
    asked: set[str] = attrs.Factory(set)
    """Peers that it has asked for a lesson."""
    broken_off: set[str] = attrs.Factory(set)
    """Those whose lesson had no end."""
    lessons: dict[str, Session] = attrs.Factory(dict)
    """By peer, the session on which it has a lesson before it."""
    kinds: dict[str, Optional[Identity]] = attrs.Factory(dict)
    """By table, what it was when it was looked at last."""
    shortest: dict[str, float] = attrs.Factory(dict)
    """By table, the shortest life in s that it, or whoever taught it, gives to entries."""
    removed: set[tuple[str, Optional[int]]] = attrs.Factory(set)
    """Tables, and numbers of keys or ``None`` for all, that were removed while the old process
    had yet to teach."""

    def lacks(self, table: str, number: Optional[int]) -> None:
        """Expect of a lesson no entry, or none of a table, that goes away here meanwhile."""
        if table in self.had:
            kind, had = self.had[table]
            kept = {place: had[place] for place in had if number not in (None, place[0])}
            self.had[table] = kind, kept


@attrs.define(eq=False)
class Member:
    """A node, from one process to the next."""

    name: str
    adopts: bool
    """Whether it learns tables that it does not declare."""
    lines: dict[str, str]
    """What it declares."""
    knows: set[str]
    process: Optional[Process] = None
    old: Optional[Process] = None
    """The process that hands over to this one."""


class Fleet(MemoryNetwork):
    """Members, the promises that they make, and what was seen to break them."""

    def __init__(self, seed: int, lines: dict[str, str], count: int, adopter: bool) -> None:
        """The last of so many members is an ``adopter``: it declares no tables."""
        super().__init__(seed, room=ROOM)
        self.times = Times(self.clock.seconds)
        self._patches = ExitStack()
        self._patches.enter_context(patch.object(clock, "time", self.times))
        # As a reactor is when the daemon starts.
        reactor: Any = self.clock
        reactor.seconds = self.times.time
        clock.make_monotonic(reactor)
        self.promise = Promise(self.clock.seconds)
        self.broken: list[str] = []
        names = NAMES[:count]
        self.members = [
            Member(
                name,
                adopter and name == names[-1],
                {} if adopter and name == names[-1] else dict(lines),
                set(names) - {name},
            )
            for name in names
        ]
        self.by_name = {member.name: member for member in self.members}
        self.history: list[str] = []
        self._obstacles: dict[frozenset[str], float] = {}
        self._shaky: list[MemoryConnection] = []
        """Connections that will break, perhaps before there is a session on them."""
        globalLogPublisher.addObserver(cast(ILogObserver, self._logged))
        for name, line in lines.items():
            self.promise.declared(name, Declaration.parse(name, line).expire)

    def leave(self) -> None:
        """Hear no more of what is logged, and give the real time back."""
        globalLogPublisher.removeObserver(cast(ILogObserver, self._logged))
        self._patches.close()

    def note(self, what: str) -> None:
        """Write down a step, or what it led to."""
        self.history.append(f"{self.clock.seconds():9.3f}  {what}")

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.process is not None]

    def services_but(self, name: str) -> list[StickTableService]:
        """Those of all other members that run and are up to date: the others have to learn.

        Where a new process takes over, what it will have is what the old one has.
        """
        services = []
        for one in self.members:
            process = one.old or one.process
            if process and one.name != name and (one.old or process.service.resync.up_to_date):
                services.append(process.service)
        return services

    # -- lives -----------------------------------------------------------

    def begin(self, member: Member, expect_old: bool = False) -> None:
        """Start a new process of a member."""
        mirror = Mirror(
            lambda batch: self._came(process, batch),
            lambda batch, keys: self._goes(process, batch, keys),
        )
        service = StickTableService(
            member.name,
            {other: self.client(other, member.name) for other in sorted(member.knows)},
            member.lines,
            self.server(member.name),
            learn_tables=member.adopts,
            expect_old=expect_old,
            observers=[mirror],
            reactor=self.clock,
            chance=self.chance,
        )
        member.process = process = Process(service, mirror)
        self.services[member.name] = service
        service.startService()
        self.look_at_tables()

    def kill(self, member: Member) -> None:
        """End the processes of a member as a crash does: what was not carried is lost."""
        for connection in self.connections:
            if member.name in connection.names:
                connection.cut()
        for process in (member.old, member.process):
            if process is not None:
                process.service.stopService()
        member.old = member.process = None
        self.services.pop(member.name, None)
        self.turn()
        self.forget(member)

    def forget(self, member: Member, name: Optional[str] = None) -> None:
        """What a member knew of its tables, or of one, is lost."""
        others = self.services_but(member.name)
        for one in {place[0] for place in self.promise.cells} if name is None else {name}:
            self.promise.open_unless_known(others, one)

    def hand_over(self, member: Member) -> None:
        """Start a new process, and stop the old one softly."""
        old = member.process
        assert old is not None
        others = self.services_but(member.name)
        for name in {place[0] for place in self.promise.cells}:
            self.promise.open_unless_known(others, name, member.name)
        member.old = old
        self.begin(member, expect_old=True)
        done = old.service.stop_softly(self.client(member.name, member.name))
        done.addCallback(lambda taught: self._handed_over(member, old, taught))

    def _handed_over(self, member: Member, old: Process, taught: bool) -> None:
        self.note(f"{member.name} has handed over: {taught}")
        if member.old is old:
            member.old = None
            old.service.stopService()
            if not taught:
                self.forget(member)

    def kill_old(self, member: Member) -> None:
        """End the process that is handing over, as a crash does."""
        old, member.old = member.old, None
        assert old is not None
        for connection in self.between(member.name, member.name):
            connection.cut()
        self.turn()
        old.service.stopService()
        self.turn()
        self.forget(member)

    # -- obstacles -------------------------------------------------------

    def hinder(self, one: str, other: str) -> None:
        """There is, or was until now, something between two nodes."""
        self._obstacles[frozenset((one, other))] = self.clock.seconds()

    def shake(self, connection: MemoryConnection) -> None:
        """A connection is to be cut: it counts as an obstacle if that may be in a handshake."""
        one, other = connection.names
        if not self.in_session(one, other):
            self._shaky.append(connection)
            self.hinder(one, other)

    def in_session(self, one: str, other: str) -> bool:
        """Whether both have a session with the other."""
        for here, there in ((one, other), (other, one)):
            process = self.by_name[here].process
            peer = process and process.service.peers.get(there)
            if not peer or not peer.connected:
                return False
        return True

    def hindered(self, one: str, other: str) -> bool:
        """Whether something is, or was just before, between two nodes."""
        pair = frozenset((one, other))
        here, there = self.by_name[one], self.by_name[other]
        now = self.clock.seconds()
        self._shaky = [connection for connection in self._shaky if connection in self.connections]
        if (
            pair in self._parted
            or there.process is None
            or here.process is None
            or one not in there.knows
            or other not in here.knows
            or any(
                connection.caller.stalled or connection.called.stalled or connection in self._shaky
                for connection in self.between(one, other)
            )
        ):
            self._obstacles[pair] = now
        return now - self._obstacles.get(pair, -WINDOW) < WINDOW

    def turn(self) -> bool:
        for one, other in combinations(NAMES[: len(self.members)], 2):
            if self._obstacles.get(frozenset((one, other))) is not None:
                self.hindered(one, other)
        happened = super().turn()
        for member in self.members:
            if member.process is not None:
                self._look_at_resync(member, member.process)
        self.look_at_lessons()
        return happened

    # -- what is seen ----------------------------------------------------

    def _breaks(self, why: str) -> None:
        self.note(f"BROKEN: {why}")
        self.broken.append(why)

    def _logged(self, event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self._breaks(f"an exception was logged: {failure.getTraceback()}")

    def _look_at_resync(self, member: Member, process: Process) -> None:
        """The resync of a node may have gone to another state in this turn."""
        reason = process.service.resync.reason
        if reason is process.reason:
            return
        process.reason = reason
        self.note(f"{member.name}: {reason}")
        asked = re.match(r"asked (\w+)", reason)
        finished = re.fullmatch(r"finished by (\w+)", reason)
        ended = re.match(r"the session with (\w+) ended in mid-lesson", reason)
        teacher: Optional[Process] = None
        if asked:
            process.taught_by = asked[1]
            process.asked.add(asked[1])
            process.broken_off.discard(asked[1])
            teacher = self.by_name[asked[1]].process
        elif reason == "it called us":
            process.taught_by = member.name
            teacher = member.old
        elif ended:
            process.broken_off.add(ended[1])
        elif finished and process.taught_by == finished[1]:
            for name, (of, had) in process.had.items():
                try:
                    self.promise.check_taught(process.service, finished[1], name, of, had)
                except Broken as why:
                    self._breaks(str(why))
            taught = self.by_name[finished[1]].process
            if taught is not None:
                self.promise.open_untaught(process.service, taught.service)
        elif process.service.resync.up_to_date and not finished:
            self._unschooled(member, process)
        if teacher is not None:
            for name, life in teacher.shortest.items():
                process.shortest[name] = min(process.shortest.get(name, life), life)
            process.had = {}
            for one in teacher.service.tables:
                kind = identity(teacher.service, one.name)
                assert kind is not None
                process.had[one.name] = kind, contents(teacher.service, one.name)
                for gone in process.removed if teacher is member.old else ():
                    process.lacks(*gone)

    def look_at_lessons(self) -> None:
        """Nodes may have a lesson ahead that they had not before."""
        for member in self.running:
            process = member.process
            assert process is not None
            for name, peer in process.service.peers.items():
                session = peer.session
                if session is None or not session.lesson_ahead:
                    process.lessons.pop(name, None)
                elif process.lessons.get(name) is not session:
                    process.lessons[name] = session
                    teacher = self.by_name[name].process
                    if teacher is not None:
                        self.promise.open_overwritten(process.service, teacher.service)

    def _unschooled(self, member: Member, process: Process) -> None:
        """A node counts itself up to date, since nobody was there."""
        for other in self.members:
            if (
                other is not member
                and other.name not in process.asked - process.broken_off
                and not self.hindered(member.name, other.name)
            ):
                self._breaks(
                    f"{member.name} counts itself up to date without {other.name}:"
                    f" {process.service.resync.reason}"
                )
        for name in {place[0] for place in self.promise.cells}:
            self.promise.open_unless_known([process.service], name)

    def _came(self, process: Process, batch: Batch) -> None:
        name, node = batch.table.name, process.service.localpeer
        if batch.origin == node:
            back = [
                number_of(key)
                for key in batch.keys()
                if not process.removed.isdisjoint({(name, None), (name, number_of(key))})
            ]
            if back:
                self._breaks(f"the old {node} brings {back} back into {name}")

    def removed(
        self, process: Process, table: str, number: Optional[int] = None, stays: bool = True
    ) -> None:
        """An entry, or all of a table, is removed at a node, and ``stays`` so whatever an old
        process teaches."""
        kind = identity(process.service, table)
        for name, of, key, _ in self.promise.cells:
            if (name, of) == (table, kind) and number in (None, key):
                self.promise.open_key(table, of, key)
        process.lacks(table, number)
        if stays and process.service.resync.taking_over:
            process.removed.add((table, number))

    def _goes(self, process: Process, batch: Batch, keys: dict[bytes, int]) -> None:
        layout = batch.table.layout
        kind = layout.key_type.word, layout.key_length
        for key, raw in zip(batch.keys(), batch.raw_keys):
            number = number_of(key)
            self.promise.open_key(batch.table.name, kind, number)
            process.lacks(batch.table.name, number)
            if batch.cause is Cause.EXPIRED and keys.get(raw):
                # A table that was adopted may have followed another definition just now.
                expire = batch.table.declaration.expire
                life = expire / 1000 if expire else float("inf")
                shortest = min(process.shortest.get(batch.table.name, 0.0), life)
                try:
                    self.promise.check_expired(
                        process.service.localpeer,
                        batch.table.name,
                        number,
                        keys[raw],
                        shortest,
                    )
                except Broken as why:
                    self._breaks(str(why))

    def look_at_lives(self) -> None:
        """What an observer was not told to be gone can be read, unless its time has come.

        What is cleared is told in slices: a table is not looked at until all of it is.
        """
        for member in self.running:
            process = member.process
            assert process is not None
            for table, kind, number, _ in self.promise.changed:
                if process.kinds.get(table) != kind:
                    continue
                shared = process.service.table(table)
                stick_table = process.service.node.tables[table]
                if stick_table.discarding:
                    continue
                entry = shared.get(key_of(kind, number))
                mirrored = process.mirror.tables.get(shared, {})
                raw = to_raw(key_of(kind, number), shared.layout.key_type, kind[1])
                if entry is None and mirrored.get(raw):
                    self.promise.check_expired(
                        member.name, table, number, mirrored[raw], process.shortest[table]
                    )

    def look_at_tables(self) -> None:
        """A table may have begun anew: then its node has lost it, and has to learn it."""
        for member in self.running:
            process = member.process
            assert process is not None
            names = {one.name for one in process.service.tables} | process.kinds.keys()
            for name in sorted(names):
                kind = identity(process.service, name)
                if kind != process.kinds.get(name):
                    process.kinds[name] = kind
                    process.removed = {one for one in process.removed if one[0] != name}
                    self.forget(member, name)
                    self._not_to_be_taught(process, name)
                if kind is not None:
                    expire = process.service.table(name).declaration.expire
                    life = expire / 1000 if expire else float("inf")
                    process.shortest[name] = min(process.shortest.get(name, life), life)

    def _not_to_be_taught(self, teacher: Process, name: str) -> None:
        """A node has lost a table: it is not in lessons that were asked for and did not begin."""
        for pupil in self.running:
            assert pupil.process is not None
            peer = teacher.service.peers.get(pupil.name)
            session = peer and peer.session
            taught_by = pupil.process.taught_by
            if taught_by == teacher.service.localpeer and not (session and session.teaching):
                pupil.process.lacks(name, None)
