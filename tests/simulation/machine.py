"""The steps of a simulation, from which hypothesis makes runs, and shrinks those that fail."""

from __future__ import annotations

from itertools import combinations
from typing import Final

from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableFull
from peerproto.testing.network import MemoryConnection
from tests.simulation.fleet import Fleet, Member, small_slices
from tests.simulation.promise import COLUMNS, Broken, contents, identity, key_of, stored, value_of

LINES: Final = {
    "t": (
        "type integer size 10k expire 1h store gpc0,gpc1",
        "type string len 12 size 10k expire 1h store gpc0,gpc1",
        "type integer size 10k expire 1h store gpc0",
        "type integer size 10k expire 1h store gpt0,gpc0,gpc1",
        "type integer size 10k store gpc0,gpc1",
        "type integer size 10k expire 20s store gpc0,gpc1",
        "type integer size 70 expire 1h store gpc0,gpc1",
        "type integer size 5 expire 1h store gpc0,gpc1",
    ),
    "s": (
        "type string len 16 size 10k expire 1h store gpc0,http_req_rate(1d),server_key",
        "type string len 20 size 10k expire 1h store gpc0,http_req_rate(1d),server_key",
        "type string len 16 size 10k expire 1h store gpc0,server_key",
    ),
}
"""By table, how it may be declared: first as all nodes do at the beginning."""

KINDS: Final = ("same", "key", "columns", "columns", "expire", "expire", "size", "size")
"""What the variants of a table differ in: each can be switched off as ``declare-…``."""

ENTRIES: Final = {"t": 60, "s": 12}
"""How many each has at the beginning."""

ROLL: Final = range(2000, 2006)
"""Keys of which each node sets its columns at the end."""

QUIET: Final = 30.0
"""Seconds after which everything must have come to rest."""

members = st.integers(0, 5)
numbers = st.integers(0, 9) | st.integers(0, 59)
tables = st.sampled_from(sorted(LINES, reverse=True))
variants = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7))
times = st.sampled_from((1, 5, 20, 100, 200, 500, 2500, 5000, 7000))
bytes_of_a_connection = st.sampled_from((0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))


class Simulation(RuleBasedStateMachine):
    """Nodes that change, learn, teach, end and begin again, and what must hold then."""

    OFF: frozenset[str] = frozenset()
    """Names of steps that are not taken; with ``columns``, each key has one owner."""

    def __init__(self) -> None:
        super().__init__()
        self._small = small_slices()
        self._small.__enter__()
        self.fleet: Fleet

    @initialize(
        seed=st.integers(0, 99),
        count=st.sampled_from((3, 3, 3, 4, 5, 6)),
        adopter=st.booleans(),
        pace=st.sampled_from((20, 5, 100, 1000)),
    )
    def begin(self, seed: int, count: int, adopter: bool, pace: int) -> None:
        self.fleet = fleet = Fleet(
            seed, {name: lines[0] for name, lines in LINES.items()}, count, adopter
        )
        for member in fleet.members:
            fleet.begin(member)
        fleet.advance(6)
        for name, entries in ENTRIES.items():
            for number in range(entries):
                for member in fleet.members:
                    self._set(member, name, number)
        fleet.advance(1)
        fleet.look_at_tables()
        fleet.promise.changed.clear()
        self._look()
        fleet.pace = pace

    # -- changes ---------------------------------------------------------

    @rule(at=members, table=tables, some=st.lists(numbers, min_size=1, max_size=5))
    def set(self, at: int, table: str, some: list[int]) -> None:
        """A node sets its columns of some keys."""
        member = self._member(at)
        changed = {number: self._set(member, table, number) for number in some}
        self._after(f"{member.name} sets {table}: {changed}")

    @precondition(lambda self: "fill" not in self.OFF)
    @rule(at=members, table=tables, first=st.integers(100, 999), count=st.integers(5, 60))
    def fill(self, at: int, table: str, first: int, count: int) -> None:
        """A node sets many new keys, more than some tables take."""
        member = self._member(at)
        for number in range(first, first + count):
            self._set(member, table, number)
        self._after(f"{member.name} sets {count} new keys of {table}")

    @precondition(lambda self: "remove" not in self.OFF)
    @rule(at=members, table=tables, number=numbers, again=st.booleans())
    def remove(self, at: int, table: str, number: int, again: bool) -> None:
        """A node removes an entry, here only, and perhaps sets it again."""
        member = self._member(at)
        if member.process is not None:
            kind = identity(member.process.service, table)
            if kind is not None:
                there = member.process.service.table(table).remove(key_of(kind, number))
                stays = there or "remove-absent" not in self.OFF
                self.fleet.removed(member.process, table, number, stays)
                if again:
                    self._set(member, table, number)
        self._after(f"{member.name} removes {number} from {table}")

    @precondition(lambda self: "clear" not in self.OFF)
    @rule(at=members, table=tables)
    def clear(self, at: int, table: str) -> None:
        """A node clears a table, here only."""
        member = self._member(at)
        if member.process is not None:
            kind = identity(member.process.service, table)
            if kind is not None:
                member.process.service.table(table).clear()
                self.fleet.removed(member.process, table)
        self._after(f"{member.name} clears {table}")

    # -- time, and the network -------------------------------------------

    @rule(ms=times)
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.fleet.advance(ms / 1000)
        self._after(f"{ms} ms have passed")

    @precondition(lambda self: "clock" not in self.OFF)
    @rule(minutes=st.sampled_from((-300, -60, -11, 11, 60, 300)))
    def set_clock(self, minutes: int) -> None:
        """The wall clock is set, which is nothing to the nodes."""
        self.fleet.times.ahead += minutes * 60
        self._after(f"the wall clock goes by {minutes} minutes")

    @precondition(lambda self: "cut" not in self.OFF)
    @rule(pair=st.integers(0, 14), after=bytes_of_a_connection, first=st.booleans())
    def cut(self, pair: int, after: int, first: bool) -> None:
        """A connection breaks after so many bytes of one side."""
        one, other = self._pair(pair)
        for connection in self.fleet.between(one, other)[-1:]:
            self.fleet.shake(connection)
            connection.cut(after, connection.names[first])
        self._after(f"between {one} and {other} there is a cut after {after} bytes")

    @precondition(lambda self: "stall" not in self.OFF)
    @rule(pair=st.integers(0, 14), back=st.booleans())
    def stall(self, pair: int, back: bool) -> None:
        """Nothing gets through from one node to another, until it flows, on one connection."""
        sender, receiver = self._pair(pair)[:: -1 if back else 1]
        for connection in self.fleet.between(sender, receiver)[-1:]:
            connection.stall(sender)
            self.fleet.hinder(sender, receiver)
        self._after(f"from {sender} to {receiver} nothing flows")

    @precondition(lambda self: "stall" not in self.OFF)
    @rule(pair=st.integers(0, 14))
    def flow(self, pair: int) -> None:
        """What is between two nodes flows again."""
        one, other = self._pair(pair)
        self._flow(self.fleet.between(one, other))
        self._after(f"between {one} and {other} all flows")

    @precondition(lambda self: "part" not in self.OFF)
    @rule(pair=st.integers(0, 14))
    def part(self, pair: int) -> None:
        """Two nodes cannot reach each other any more."""
        one, other = self._pair(pair)
        self.fleet.part(one, other)
        self.fleet.hinder(one, other)
        self._after(f"{one} and {other} are parted")

    @precondition(lambda self: "part" not in self.OFF)
    @rule(pair=st.integers(0, 14))
    def heal(self, pair: int) -> None:
        """Two nodes can reach each other again."""
        one, other = self._pair(pair)
        self.fleet.hindered(one, other)
        self.fleet.heal(one, other)
        self._after(f"{one} and {other} can reach each other")

    # -- lessons ---------------------------------------------------------

    @precondition(lambda self: "ask" not in self.OFF)
    @rule(pair=st.integers(0, 14), back=st.booleans())
    def ask(self, pair: int, back: bool) -> None:
        """A node asks another one for a lesson, whatever goes on between them."""
        pupil, teacher = self._pair(pair)[:: -1 if back else 1]
        process = self.fleet.by_name[pupil].process
        peer = process and process.service.peers.get(teacher)
        if process and peer and peer.session is not None:
            process.service.resync.ask(peer.session)
            process.service.mesh.flush_soon()
            self.fleet.look_at_lessons()
        self._after(f"{pupil} asks {teacher} for a lesson")

    @precondition(lambda self: "ask" not in self.OFF)
    @rule(at=members)
    def learn_again(self, at: int) -> None:
        """A node has something to learn that it had not before."""
        member = self._member(at)
        if member.process is not None:
            service = member.process.service
            service.resync.learn_again("told to", service.now())
            service.mesh.resync_moved()
            self.fleet.look_at_lessons()
        self._after(f"{member.name} learns again")

    # -- lives -----------------------------------------------------------

    @precondition(lambda self: "kill" not in self.OFF)
    @rule(at=members, start=st.booleans())
    def kill(self, at: int, start: bool) -> None:
        """A process crashes, and perhaps a new one starts at once."""
        member = self._member(at)
        crashes = member.old is None or "crash-in-hand-over" not in self.OFF
        if member.process is not None and crashes:
            self.fleet.kill(member)
            for other in self.fleet.members:
                if not start and other is not member:
                    self.fleet.hinder(member.name, other.name)
            if start:
                self.fleet.begin(member)
        self._after(f"{member.name} crashes" + (" and starts again" if start else ""))

    @precondition(lambda self: len(self.fleet.running) < len(self.fleet.members))
    @rule(at=members)
    def start(self, at: int) -> None:
        """A node starts that does not run."""
        member = self._member(at)
        if member.process is None:
            self.fleet.begin(member)
        self._after(f"{member.name} starts")

    @precondition(lambda self: "hand_over" not in self.OFF)
    @rule(at=members)
    def hand_over(self, at: int) -> None:
        """A new process of a node takes over from the old one."""
        member = self._member(at)
        if member.process is not None and member.old is None:
            self.fleet.hand_over(member)
        self._after(f"a new {member.name} takes over")

    @precondition(lambda self: "crash-in-hand-over" not in self.OFF)
    @precondition(lambda self: any(member.old for member in self.fleet.members))
    @rule(at=members)
    def kill_old(self, at: int) -> None:
        """An old process crashes while it hands over."""
        member = self._member(at)
        if member.old is not None:
            self.fleet.kill_old(member)
        self._after(f"the old {member.name} crashes")

    # -- SIGHUP ----------------------------------------------------------

    @precondition(lambda self: "declare" not in self.OFF)
    @rule(at=members, table=tables, variant=variants)
    def declare(self, at: int, table: str, variant: int) -> None:
        """A node declares a table anew."""
        member = self._member(at)
        self._declare(member, table, variant)
        self._end_turn()
        self._after(f"{member.name} declares {table} as {member.lines.get(table)}")

    @precondition(lambda self: "declare" not in self.OFF)
    @rule(table=tables, variant=variants, ms=st.sampled_from((0, 100)))
    def declare_everywhere(self, table: str, variant: int, ms: int) -> None:
        """One node after the other declares a table anew."""
        for member in self.fleet.members:
            self._declare(member, table, variant)
            self.fleet.advance(ms / 1000)
        self._after(f"all declare {table} as {self.fleet.members[0].lines.get(table)}")

    @precondition(lambda self: "undeclare" not in self.OFF)
    @rule(at=members, table=tables, again=st.booleans())
    def undeclare(self, at: int, table: str, again: bool) -> None:
        """A node no longer has a table, or has it again at once."""
        member = self._member(at)
        line = member.lines.pop(table, None)
        if line is not None:
            if member.process is not None:
                member.process.service.remove_table(table)
                self.fleet.look_at_tables()
                if again:
                    member.process.service.declare_table(Declaration.parse(table, line))
                    self.fleet.look_at_tables()
            if again:
                member.lines[table] = line
        self._end_turn()
        self._after(f"{member.name} removes table {table}" + (" and adds it" if again else ""))

    @precondition(lambda self: "peers" not in self.OFF)
    @rule(at=members, pair=members)
    def forget_peer(self, at: int, pair: int) -> None:
        """A node takes another one for no peer of its any more."""
        member, other = self._member(at), self._member(pair)
        if other.name in member.knows:
            member.knows.discard(other.name)
            self.fleet.hinder(member.name, other.name)
            if member.process is not None:
                member.process.service.remove_peer(other.name)
        self._after(f"{member.name} has no peer {other.name} any more")

    @precondition(lambda self: "peers" not in self.OFF)
    @rule(at=members, pair=members)
    def know_peer(self, at: int, pair: int) -> None:
        """And takes it for one again."""
        member, other = self._member(at), self._member(pair)
        self._know(member, other)
        self._after(f"{member.name} has a peer {other.name}")

    # -- the end ---------------------------------------------------------

    def teardown(self) -> None:
        """The quiet end: all must agree, and nothing may stay behind."""
        try:
            fleet = getattr(self, "fleet", None)
            if fleet is not None and not fleet.broken:
                self._rest(fleet)
                self._look()
                self._check_agree(fleet)
                self._call_roll(fleet)
                self._look()
                self._check_agree(fleet)
                for member in fleet.members:
                    if member.adopts:
                        self._check_follows(fleet, member)
                self._stop(fleet)
        finally:
            self.leave()

    def leave(self) -> None:
        """Leave everything as it was before the simulation, and show its history."""
        fleet = getattr(self, "fleet", None)
        if fleet is not None:
            fleet.leave()
            if currently_in_test_context():
                for line in fleet.history:
                    note(line)
        self._small.__exit__(None, None, None)

    def _rest(self, fleet: Fleet) -> None:
        fleet.note("the quiet end begins")
        for one, other in combinations(fleet.by_name, 2):
            if fleet.hindered(one, other):
                fleet.hinder(one, other)
            fleet.heal(one, other)
        self._flow(fleet.connections)
        for connection in fleet.connections:
            connection.caller.cut_after = connection.called.cut_after = None
        for member in fleet.members:
            if member.process is None:
                fleet.begin(member)
            for peer in fleet.members:
                self._know(member, peer)
        fleet.pace = 1000
        fleet.advance(QUIET)
        fleet.look_at_tables()
        fleet.note("the quiet end is over")

    def _call_roll(self, fleet: Fleet) -> None:
        """Have each node change something in each of its tables."""
        for member in fleet.members:
            for table in LINES:
                for number in ROLL:
                    self._set(member, table, number)
        fleet.advance(3)
        fleet.look_at_tables()
        fleet.note("all have changed something")

    def _check_agree(self, fleet: Fleet) -> None:
        services = [member.process.service for member in fleet.running if member.process]
        for service in services:
            if not service.resync.up_to_date:
                raise Broken(f"{service.localpeer} is not up to date: {service.resync.reason}")
            fleet.promise.check_has(service, fleet.promise.cells, "at the quiet end")
            for shared in service.tables:
                kind = identity(service, shared.name)
                assert kind is not None
                what = contents(service, shared.name)
                fleet.promise.check_known(service.localpeer, shared.name, kind, what)
                fleet.promise.check_lives(service.localpeer, shared.name, what)
        for member in fleet.running:
            assert member.process is not None
            service = member.process.service
            if member.old is not None:
                raise Broken(f"the old {member.name} has not ended")
            alike = all(
                identity(other, name) == identity(service, name)
                for other in services
                for name in LINES
            )
            for peer in service.peers.values():
                if alike and peer.out_of_step():
                    raise Broken(f"{member.name} and {peer.name}: {peer.out_of_step()}")
            for shared in service.tables:
                internal = service.node.tables[shared.name]
                mirrored = set(member.process.mirror.tables.get(shared, ()))
                there = {key for key, _ in internal.scan()}
                if mirrored != there:
                    raise Broken(
                        f"an observer of {shared.name} at {member.name} lacks"
                        f" {sorted(there - mirrored)} and has {sorted(mirrored - there)}"
                    )

    def _check_follows(self, fleet: Fleet, adopter: Member) -> None:
        """What a node has adopted is as it is now where it came from."""
        assert adopter.process is not None
        for shared in adopter.process.service.tables:
            origin = fleet.by_name.get(shared.declaration.adopted_from or "")
            if origin is None or origin.process is None:
                continue
            theirs = identity(origin.process.service, shared.name)
            ours = identity(adopter.process.service, shared.name)
            if theirs is not None and ours != theirs:
                raise Broken(f"{adopter.name} has {shared.name} as {ours}, {origin.name} {theirs}")

    def _stop(self, fleet: Fleet) -> None:
        fleet.stop()
        fleet.advance(2)
        if fleet.clock.calls:
            raise Broken(f"left on the clock: {[str(call) for call in fleet.clock.calls]}")
        if fleet.broken:
            raise Broken(fleet.broken[0])

    # -- what steps have in common ---------------------------------------

    def _member(self, at: int) -> Member:
        return self.fleet.members[at % len(self.fleet.members)]

    def _pair(self, number: int) -> tuple[str, str]:
        pairs = list(combinations(self.fleet.by_name, 2))
        return pairs[number % len(pairs)]

    def _set(self, member: Member, table: str, number: int) -> dict[str, int]:
        """Set the columns of a key that are the member's: the numbers of the changes."""
        if member.process is None:
            return {}
        service = member.process.service
        kind = identity(service, table)
        if kind is None:
            return {}
        columns = stored(service, table)
        values = {}
        for place, column in enumerate(COLUMNS):
            if column in columns and self._owner(number, place) is member:
                values[column] = self.fleet.promise.change(
                    (table, kind, number, column), member.name
                )
        if values:
            key = key_of(kind, number)
            try:
                entry = service.table(table).set(
                    key, {column: value_of(column, value) for column, value in values.items()}
                )
            except TableFull as why:
                raise Broken(f"{member.name}: {why}") from why
            assert all(column in entry for column in values)
            if service.table(table).get(key) is None:
                raise Broken(f"{member.name} has set {number} in {table}, and has it not")
        return values

    def _owner(self, number: int, place: int) -> Member:
        """Who sets a column of a key."""
        return self._member(number + (0 if "columns" in self.OFF else place))

    def _declare(self, member: Member, table: str, variant: int) -> None:
        if member.adopts:
            return
        variant %= len(LINES[table])
        if f"declare-{KINDS[variant]}" in self.OFF:
            variant = 0
        line = LINES[table][variant]
        declaration = Declaration.parse(table, line)
        member.lines[table] = line
        self.fleet.promise.declared(table, declaration.expire)
        if member.process is not None:
            service = member.process.service
            had = stored(service, table) if identity(service, table) is not None else set()
            service.declare_table(declaration)
            for column in had ^ stored(service, table):
                self.fleet.promise.open_column(table, column)
            self.fleet.look_at_tables()

    def _end_turn(self) -> None:
        """Sessions and the resync hear in the next turn that other tables are shared."""
        self.fleet.advance(0)

    def _know(self, member: Member, other: Member) -> None:
        if other is not member and other.name not in member.knows:
            self.fleet.hinder(member.name, other.name)
            member.knows.add(other.name)
            if member.process is not None:
                member.process.service.add_peer(
                    other.name, self.fleet.client(other.name, member.name)
                )

    def _flow(self, connections: list[MemoryConnection]) -> None:
        for connection in connections:
            for name in set(connection.names):
                if connection.end(name).stalled:
                    connection.flow(name)
                    if connection.caller.name != connection.called.name:
                        self.fleet.hinder(*connection.names)

    def _after(self, what: str) -> None:
        self.fleet.note(what)
        self.fleet.look_at_tables()
        self._look()

    def _look(self) -> None:
        """What must hold at any time."""
        fleet = self.fleet
        if fleet.broken:
            raise Broken(fleet.broken[0])
        fleet.look_at_lives()
        for one, other in combinations(fleet.running, 2):
            assert one.process is not None and other.process is not None
            here, there = one.process.service, other.process.service
            if (
                here.resync.up_to_date
                and there.resync.up_to_date
                and fleet.in_session(one.name, other.name)
                and not any(c.on_the_way for c in fleet.between(one.name, other.name))
                and not here.peers[other.name].out_of_step()
                and not there.peers[one.name].out_of_step()
            ):
                changed = fleet.promise.changed
                fleet.promise.check_has(here, changed, f"in step with {other.name}", other.name)
                fleet.promise.check_has(there, changed, f"in step with {one.name}", one.name)
