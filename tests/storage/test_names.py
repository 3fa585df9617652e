"""Names of SQL tables."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.storage.names import quoted, sql_name

_NAMES = st.lists(
    st.binary(min_size=1, max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.sampled_from(["a", "A", "a%2", "sqlite_x", "peerproto_file", "é", "É", 'x"y', "/in"]),
    unique=True,
    max_size=12,
)


class NameTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """A name that HAProxy takes is that of the SQL table."""
        for name in ("rates", "mesh/in-peers", "a.b:c_d"):
            self.assertEqual(sql_name(name, ()), name)

    def test_others(self) -> None:
        """Other bytes are escaped, and names of others are left to them."""
        self.assertEqual(sql_name('x"\udcff é', ()), "x%22%FF%20%C3%A9")
        self.assertEqual(sql_name("sqlite_x", ()), "%sqlite_x")
        self.assertEqual(sql_name("Peerproto_file", ()), "%Peerproto_file")
        self.assertEqual(sql_name("Rates", {"rates", "rates%2"}), "Rates%3")

    @given(_NAMES)
    def test_apart(self, names: list[str]) -> None:
        """Whatever the names are, SQLite has a table for each."""
        connection = sqlite3.connect(":memory:")
        taken: set[str] = set()
        for name in names:
            found = sql_name(name, taken)
            taken.add(found.lower())
            connection.execute(f"CREATE TABLE {quoted(found)} (x)")
        connection.close()
        self.assertEqual(len(taken), len(names))
