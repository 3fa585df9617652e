"""A PostgreSQL server for the tests of a module, and a schema for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import pytest

from testbed import Peerproto
from testbed.postgres import Postgres

_numbers = itertools.count()


@attrs.frozen
class Shared:
    """A schema of its own on a server."""

    server: Postgres
    schema: str

    def keep(self, peer: Peerproto, more: str = "interval = 200ms") -> None:
        """Have a peerproto keep its tables there."""
        peer.more = f"[storage]\nurl = {self.server.url()}\nschema = {self.schema}\n{more}\n"

    def count(self, table: str, where: str = "true") -> int:
        """How many rows a table has."""
        ((count,),) = self.server.ask(
            f'SELECT count(*) FROM "{self.schema}"."{table}" WHERE {where}'
        )
        assert isinstance(count, int)
        return count


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    made = Postgres()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def shared(server: Postgres) -> Shared:
    """What is left of an earlier test is in another schema."""
    return Shared(server, f"s{next(_numbers)}")
