"""What stays on a real PostgreSQL server when several nodes write, without their processes."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Optional

import attrs
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerproto import Declaration, Record, Snapshot, StickTableService
from peerproto.storage.config import StorageSettings
from peerproto.storage.errors import HeldElsewhere, StorageError, Unavailable
from peerproto.storage.keeper import StorageKeeper
from peerproto.storage.postgres.store import LONGEST_KEY, PostgresStore
from peerproto.storage.store import Written
from peerproto.storage.transaction import Declared, Moment, Transaction
from peerproto.testing import MemoryNetwork
from testbed.postgres import PASSWORD, Postgres
from tests.storage.stored import AtOnce
from tests.storage.test_columns import records
from tests.strategies import layouts

from .postgres import Shared, server, shared

__all__ = ["server", "shared"]

INTEGERS = Declaration.parse("t", "type integer size 1m store gpc0")

_numbers = itertools.count()


@attrs.define(eq=False)
class Writer:
    """A node, as its store sees it."""

    store: PostgresStore
    now: int
    """The time of the store when it was opened."""

    def write(
        self,
        kept: Iterable[Record] = (),
        *,
        gone: Iterable[bytes] = (),
        cleared: Optional[Mapping[bytes, int]] = None,
        declared: Optional[Declaration] = None,
        dropped: tuple[str, ...] = (),
        anew: bool = True,
        per_peer: bool = False,
        of: Declaration = INTEGERS,
    ) -> Written:
        """Write records and removals of one table, at once."""
        kept, cleared = list(kept), dict(cleared or {})
        keys = [*(one.raw_key for one in kept), *gone, *cleared]
        peer = kept[0].peer if kept else None
        of = kept[0].declaration if kept else of
        snapshots = ((of.name, Snapshot(of, peer, keys, None, kept, 0, 0, 0)),) if keys else ()
        news = () if declared is None else (Declared(declared, per_peer, anew),)
        moment = Moment(self.now, self.now)
        return self.store.write(
            Transaction(moment, 0, dropped, news, snapshots, {(of.name, peer): cleared})
        )

    def read(self, name: str = "t") -> dict[bytes, Record]:
        """What there is, slice by slice."""
        found: dict[bytes, Record] = {}
        after = None
        while True:
            part = self.store.read(name, after, 100, self.now, 0)
            assert not part.bad
            found.update((one.raw_key, one) for one in part)
            after = part.after
            if after is None:
                return found


@contextmanager
def writers(shared: Shared, *names: str, url: str = "") -> Iterator[list[Writer]]:
    """Nodes that have opened their stores."""
    with ExitStack() as stack:
        found = []
        for name in names:
            store = PostgresStore(
                StorageSettings(url=url or shared.server.url(), schema=shared.schema), name
            )
            stack.callback(store.close)
            found.append(Writer(store, store.open(0).node))
        yield found


def entry(key: int, arrived: int, value: int, declaration: Declaration = INTEGERS) -> Record:
    return Record.made(declaration, key.to_bytes(4, "big"), arrived, None, (value,))


def values(found: Mapping[bytes, Record], name: str = "gpc0") -> dict[int, int]:
    return {
        int.from_bytes(key, "big"): one.entry(one.arrived).number(name)
        for key, one in found.items()
    }


events = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["set", "set", "clear", "write"]),
        st.integers(0, 2),
    ),
    max_size=30,
)


def test_newest_stays(shared: Shared) -> None:
    """Whatever three nodes set and clear, and whenever each of them writes that: of each key the
    newest change stays."""
    with writers(shared, "a", "b", "c") as nodes:
        for one in nodes:
            one.write(declared=INTEGERS)

        @given(events)
        @settings(max_examples=60, deadline=None)
        def check(steps: list[tuple[int, str, int]]) -> None:
            first = 3 * next(_numbers)
            waiting: list[dict[int, tuple[int, bool]]] = [{}, {}, {}]
            newest: dict[int, tuple[int, bool]] = {}

            def write(node: int) -> None:
                some, waiting[node] = waiting[node], {}
                nodes[node].write(
                    [entry(key, at, at % (1 << 32)) for key, (at, there) in some.items() if there],
                    cleared={
                        key.to_bytes(4, "big"): at for key, (at, there) in some.items() if not there
                    },
                )

            begin = nodes[0].now
            for at, (node, what, key) in enumerate(steps, begin):
                if what == "write":
                    write(node)
                else:
                    waiting[node][first + key] = newest[first + key] = at, what == "set"
            for node in range(3):
                write(node)
            found = values(nodes[0].read())
            for key, (at, there) in newest.items():
                assert found.get(key) == (at % (1 << 32) if there else None), (key, at, there)

        check()


def test_removed_by_others(shared: Shared) -> None:
    """What expired or made room at one node is not taken from another node that wrote it, unless
    its time has come there, too."""
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        now = a.now
        soon = Record.made(INTEGERS, b"soon", now, now - 1, (1,))
        b.write([entry(1, now, 1), entry(2, now, 1), soon])
        a.write(gone=[entry(1, 0, 0).raw_key, b"soon"])
        assert shared.count("t") == 2
        b.write(gone=[entry(1, 0, 0).raw_key])
        assert list(values(a.read())) == [2]


def test_own_clock(shared: Shared) -> None:
    """A node whose clock goes back writes what it has; a tie of two nodes is the same whoever
    writes first."""
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        a.write([entry(1, 2000, 1)])
        a.write([entry(1, 1000, 2)])
        assert values(a.read()) == {1: 2}
        for first, second, key in ((a, b, 2), (b, a, 3)):
            first.write([entry(key, 5, 1 + (first is b))])
            second.write([entry(key, 5, 1 + (second is b))])
        assert values(a.read()) == {1: 2, 2: 2, 3: 2}


def test_clock_of_server(shared: Shared) -> None:
    """Times are by the clock of the server, whatever that of the node does."""
    stood = [0.0]
    store = PostgresStore(
        StorageSettings(url=shared.server.url(), schema=shared.schema),
        "a",
        lambda: time.monotonic() - stood[0],
    )
    node = Writer(store, store.open(7).node)
    try:
        assert abs(node.now - 1000 * time.time()) < 1000
        node.write(declared=INTEGERS)
        # The system was suspended for 100 s: its monotonic clock stood still.
        stood[0] = 100
        node.write([entry(1, node.now, 1)])
        ((arrived,),) = shared.server.ask(f"SELECT arrived FROM {shared.schema}.t")
        assert abs(arrived - node.now - 100_000) < 1000
        (found,) = node.read().values()
        assert found.arrived == node.now
    finally:
        store.close()


@given(st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip(shared: Shared, data: st.DataObject) -> None:
    """Whatever an entry has, odd bytes of names and texts and numbers of 64 bits included, comes
    back from the server."""
    layout = data.draw(layouts())
    some = data.draw(st.lists(records(layout), min_size=1, max_size=5))
    declaration = Declaration(f"t{next(_numbers)}\udcff %\"'\\A", layout)
    peer = some[0].peer
    kept = {
        one.raw_key: attrs.evolve(one, declaration=declaration, peer=peer, expires=None)
        for one in some
        if len(one.raw_key) <= 1000
    }
    with writers(shared, "node \udcff%") as (node,):
        node.write(kept.values(), declared=declaration, per_peer=peer is not None)
        found = node.read(declaration.name)
        assert found.keys() == kept.keys()
        for key, one in kept.items():
            again = found[key]
            assert (again.arrived, again.expires, again.peer) == (one.arrived, None, one.peer)
            assert again.entry(one.arrived).decoded == one.entry(one.arrived).decoded


def test_columns_come_and_go(shared: Shared) -> None:
    """A table that one node declares anew keeps its rows; another node that has it as before goes
    on to write, and all rows can be loaded."""
    wider = Declaration.parse("t", "type integer size 1m store gpc0,conn_cnt,server_key")
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        b.write(entry(key, 1000, key) for key in range(5000))
        a.write(declared=wider, anew=False)
        b.write(entry(key, 2000, key) for key in range(4000, 6000))
        said = {"gpc0": 7, "conn_cnt": 8, "server_key": "x"}
        row = tuple(said[one.name] for one in wider.layout.columns)
        a.write([Record.made(wider, bytes(4), 3000, None, row)])
        found = a.read()
        assert {one.declaration for one in found.values()} == {wider}
        assert values(found) == {**{key: key for key in range(6000)}, 0: 7}
        assert values(found, "conn_cnt") == {**dict.fromkeys(range(6000), 0), 0: 8}
        # Those that b wrote are still its own.
        b.write(gone=[entry(3, 0, 0).raw_key])
        assert len(a.read()) == 5999
        with writers(shared, "c") as (c,):
            assert len(c.read()) == 5999


def test_other_keys(shared: Shared) -> None:
    """Tables of one name with other keys stand beside each other; one that no node keeps any more
    goes, and one that another node keeps stays."""
    other = Declaration.parse("t", "type ip size 1m store gpc0")
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        a.write([entry(1, 1000, 1)])
        b.write(declared=other)
        b.write([entry(2, 1000, 2, other)])
        assert values(a.read()) == {1: 1} and values(b.read()) == {2: 2}
        a.write(dropped=("t",))
        assert shared.server.ask(f"SELECT sql_name FROM {shared.schema}.peerproto_tables") == [
            ("t%2",)
        ]
        with writers(shared, "c") as (c,):
            c.write(declared=other)
            assert values(c.read()) == {2: 2}
            b.write(dropped=("t",))
            assert values(c.read()) == {2: 2}


def test_dropped(shared: Shared) -> None:
    """If somebody drops the schema, or brings an older database back, it is made anew, and all
    tables are to be written whole."""
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        a.write([entry(1, 1000, 1)])
        shared.server.ask(f"DROP SCHEMA {shared.schema} CASCADE")
        with pytest.raises(Unavailable, match="does not exist"):
            a.write([entry(2, 1000, 1)])
        assert a.write([entry(2, 1000, 1)]).lost
        assert not a.write([entry(1, 1000, 1)]).lost
        shared.server.ask(f"DROP TABLE {shared.schema}.t")
        with pytest.raises(Unavailable, match="does not exist"):
            a.write([entry(3, 1000, 1)])
        assert a.write([entry(3, 1000, 1)]).lost
        assert values(a.read()) == {3: 1}


def test_ended_by_server(shared: Shared) -> None:
    """A connection that the server ends is made anew, with the lock of the node."""
    with writers(shared, "a") as (node,):
        node.write(declared=INTEGERS)
        shared.server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
            " AND application_name = 'peerproto a' AND usename = 'node'"
        )
        with pytest.raises(Unavailable):
            node.write([entry(1, 1000, 1)])
        assert not node.write([entry(1, 1000, 1)]).lost
        with pytest.raises(HeldElsewhere, match="writes there as 'a'"), writers(shared, "a"):
            pass


def test_few_rights(shared: Shared) -> None:
    """A role needs no more than a schema to make tables in, and temporary tables; what it lacks is
    said."""
    server, role = shared.server, f"few_{shared.schema}"
    server.ask(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", superuser=True)
    url = server.url(user=role)
    with (
        pytest.raises(Unavailable, match="permission denied for database"),
        writers(shared, "a", url=url),
    ):
        pass
    server.ask(f"CREATE SCHEMA {shared.schema}")
    server.ask(f"GRANT USAGE, CREATE ON SCHEMA {shared.schema} TO {role}")
    with writers(shared, "a", url=url) as (node,):
        node.write([entry(1, 1000, 1)], declared=INTEGERS)
        assert values(node.read()) == {1: 1} and node.store.count() == {"t": 1}


def test_two_at_once(shared: Shared) -> None:
    """Two nodes that change the same keys at once do not fail."""
    with writers(shared, "a", "b") as nodes:
        for one in nodes:
            one.write(declared=INTEGERS)
        problems: list[Exception] = []

        def go(node: Writer, at: int) -> None:
            try:
                for turn in range(20):
                    keys = range(500) if (turn + at) % 2 else range(499, -1, -1)
                    half = 250 if turn % 3 else 100
                    node.write(
                        [entry(key, at + 2 * turn, turn) for key in list(keys)[:half]],
                        gone=[entry(key, 0, 0).raw_key for key in list(keys)[half:]],
                    )
            except Exception as problem:
                problems.append(problem)

        threads = [threading.Thread(target=go, args=(one, at)) for at, one in enumerate(nodes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems


def test_hangs(shared: Shared) -> None:
    """A server that does not answer is given up, and used again when it does."""
    store = PostgresStore(
        StorageSettings(url=shared.server.url(), schema=shared.schema), "a", patience=1
    )
    node = Writer(store, store.open(0).node)
    node.write(declared=INTEGERS)
    shared.server.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="has not answered for 1 s"):
            node.write([entry(1, 1000, 1)])
    finally:
        shared.server.signal_all(signal.SIGCONT)
    for _ in range(20):
        try:
            node.write([entry(1, 1000, 1)])
            break
        except HeldElsewhere:
            pass  # The server has yet to see that we have hung up.
    assert values(node.read()) == {1: 1}
    store.close()


def test_not_kept(shared: Shared) -> None:
    """A key that PostgreSQL has no room for in an index is left out, and nothing else."""
    long = Declaration.parse("t", "type string len 9000 size 1m store gpc0")
    some = [b"a", b"b" * LONGEST_KEY, bytes(range(256)) * 20]
    with writers(shared, "a") as (node,):
        node.write((Record.made(long, one, 1000, None, (1,)) for one in some), declared=long)
        assert list(node.read()) == some[:2]


def test_sweeps(shared: Shared) -> None:
    """What has expired is removed whoever wrote it; what was written before a transaction, if this
    node wrote it."""
    with writers(shared, "a", "b") as (a, b):
        for one in (a, b):
            one.write(declared=INTEGERS)
        a.write(entry(key, 1000, 1) for key in range(10))
        b.write(entry(key, 1000, 1) for key in range(10, 20))
        b.write([Record.made(INTEGERS, b"gone", 1000, 2000, (1,))])
        number = a.write([entry(5, 2000, 2)]).number
        after = None
        while (after := a.store.prune("t", after, 7, expired=a.now, older=number)) is not None:
            pass
        assert sorted(values(a.read())) == [5, *range(10, 20)]
        assert a.store.count() == {"t": 11}


def test_each_hour(shared: Shared) -> None:
    """Rows of a node that is gone are removed by others when their time has come."""
    network = MemoryNetwork()
    keeper = StorageKeeper(
        StorageSettings(url=shared.server.url(), schema=shared.schema),
        network.clock,
        executor=AtOnce(),
    )
    service = StickTableService(
        "here",
        {},
        {"t": "type integer size 1m expire 1d store gpc0"},
        network.server("here"),
        keeper=keeper,
        reactor=network.clock,
        wall_clock=network.wall_clock,
    )
    with writers(shared, "gone") as (gone,):
        gone.write(declared=Declaration.parse("t", "type integer size 1m expire 1d store gpc0"))
        declaration = gone.store.tables["t"].shape.declaration
        lives = {1: 600_000, 2: 90_000_000}
        gone.write(
            Record.made(declaration, key.to_bytes(4, "big"), gone.now, gone.now + life, (key,))
            for key, life in lives.items()
        )
    network.add(service)
    service.startService()
    network.settle()
    assert len(service.table("t")) == 2
    # The node has not these: nothing that happens to its entries removes them.
    with writers(shared, "gone") as (gone,):
        gone.write(
            Record.made(declaration, key.to_bytes(4, "big"), gone.now, gone.now + life, (key,))
            for key, life in {3: 600_000, 4: 90_000_000}.items()
        )
    assert shared.count("t") == 4
    network.advance(4200)
    assert shared.count("t") == shared.count("t", "gpc0 in (2, 4)") == 2
    stopping = service.stopService()
    network.settle()
    network.advance(0.1)
    assert stopping.called
    network.stop()


def test_changed_by_hand(shared: Shared) -> None:
    """A row that somebody has changed in what is loaded is left out, and counted."""
    with writers(shared, "a") as (node,):
        node.write((entry(key, 1000, key) for key in range(3)), declared=INTEGERS)
        for value, gpc0 in (("set_byte(stored, 0, 7)", 1), ("'x'", 2)):
            statement = f"UPDATE {shared.schema}.t SET stored = {value} WHERE gpc0 = {gpc0}"
            shared.server.ask(statement)
        part = node.store.read("t", None, 100, node.now, 0)
        assert (len(list(part)), part.bad) == (1, 2)


def test_refused(shared: Shared) -> None:
    """What is not to be used is said, and left as it is; no error has a password in it."""
    url = shared.server.url(password="wr0ng-secret")
    with (
        pytest.raises(Unavailable, match="authentication failed") as told,
        writers(shared, "a", url=url),
    ):
        pass
    assert "secret" not in str(told.value)
    with writers(shared, "a"):
        pass
    shared.server.ask(f"UPDATE {shared.schema}.peerproto_store SET value = 9 WHERE name = 'schema'")
    with pytest.raises(StorageError, match="schema version 9"), writers(shared, "a"):
        pass
    shared.server.ask(
        "CREATE DATABASE latin OWNER node ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        superuser=True,
    )
    with (
        pytest.raises(StorageError, match="LATIN1"),
        writers(shared, "a", url=shared.server.url(database="latin")),
    ):
        pass


def test_passfile(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may stand in a file of libpq's, and all in a service file."""
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:*:*:node:{PASSWORD}\n")
    passfile.chmod(0o600)
    place = f"postgresql://node@127.0.0.1:{shared.server.port}/node"
    with writers(shared, "a", url=f"{place}?passfile={passfile}"):
        pass
    services = tmp_path / "services"
    services.write_text(
        f"[store]\nhost=127.0.0.1\nport={shared.server.port}\ndbname=node\nuser=node\n"
        f"passfile={passfile}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with writers(shared, "a", url="postgresql://?service=store"):
        pass


def test_tls(tmp_path: Path) -> None:
    """TLS is what the parameters of the URL say; a certificate of another authority is refused."""
    authority, other = trustme.CA(), trustme.CA()
    made = Postgres()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = made.folder / "server.pem", made.folder / "server.key"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    made.own(chain, key)
    for one, name in ((authority, "right.pem"), (other, "wrong.pem")):
        one.cert_pem.write_to_path(tmp_path / name)
    made.settings = {"ssl": "on", "ssl_cert_file": str(chain), "ssl_key_file": str(key)}
    try:
        made.start()
        shared = Shared(made, "tls")
        place = f"{made.url()}?sslmode=verify-full&sslrootcert={tmp_path}"
        with writers(shared, "a", url=f"{place}/right.pem"):
            assert made.ask(
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE application_name = 'peerproto a'"
            ) == [(True,)]
        with (
            pytest.raises(Unavailable, match="certificate verify failed"),
            writers(shared, "a", url=f"{place}/wrong.pem"),
        ):
            pass
    finally:
        made.remove()
