"""A connection with a PostgreSQL server, which either answers in time or is given up."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from threading import Timer
from typing import Any, Final, Optional

import psycopg
from psycopg.conninfo import conninfo_to_dict

from peerproto.storage.errors import HeldElsewhere, Unavailable

CONNECT_TIMEOUT: Final = 5
"""Seconds for which a connection is waited for, of each address, unless the URL says otherwise."""

STATEMENT_TIMEOUT: Final = 20
"""Seconds after which the server gives a statement up."""

ANSWER_TIMEOUT: Final = 30.0
"""Seconds after which we give the server up."""

LOCK_TIMEOUT: Final = 2.0
"""Seconds for which the lock of a node is waited for at a time."""

_SETTINGS: Final = {
    "statement_timeout": f"{STATEMENT_TIMEOUT}s",
    # A process that stands still holds nobody up for long; one whose host is gone has no lock.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",
}

_OURS: Final = {
    "connect_timeout": str(CONNECT_TIMEOUT),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""What libpq is told unless the URL, or its environment, says otherwise."""

_ENVIRONMENT: Final = {"connect_timeout": "PGCONNECT_TIMEOUT"}


def lock_key(schema: str, name: str) -> int:
    """The number of an advisory lock, which servers know by a number of 64 bits alone."""
    digest = blake2b(f"peerproto {schema}\0".encode(), digest_size=8)
    digest.update(name.encode("utf-8", "surrogateescape"))
    return int.from_bytes(digest.digest(), "big", signed=True)


class GivenUp(Unavailable):
    """The server has given a transaction up for that of another node: it may be tried again."""


class Undefined(Unavailable):
    """Something is not there that we have made: somebody has dropped it."""


class Connection:
    """One connection; every error of it that may pass is an `Unavailable`."""

    def __init__(self, url: str, name: str, patience: float = ANSWER_TIMEOUT) -> None:
        """Connect.

        :param url: as libpq takes it.
        :param name: what the server calls us in its own views.
        :param patience: seconds after which a server that does not answer is given up.
        :raises Unavailable: it cannot be reached, or does not let us in.
        """
        self._patience = patience
        given = conninfo_to_dict(url)
        more: dict[str, Any] = {
            key: value
            for key, value in _OURS.items()
            if key not in given and _ENVIRONMENT.get(key, "") not in os.environ
        }
        if "application_name" not in given and "PGAPPNAME" not in os.environ:
            # A server shows no others than ASCII.
            shown = name.encode("ascii", "backslashreplace").decode()
            more["application_name"] = f"peerproto {shown}"
        with _unavailable():
            self._connection = psycopg.connect(url, autocommit=True, **more)
        try:
            with self.answering() as cursor:
                for key, value in _SETTINGS.items():
                    cursor.execute("SELECT set_config(%s, %s, false)", (key, value))
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it is neither closed nor broken, as far as we know."""
        return not self._connection.closed

    @property
    def encoding(self) -> str:
        """How the database has its texts."""
        return self._connection.info.parameter_status("server_encoding") or "?"

    def close(self) -> None:
        """Close it; the server ends what was under way."""
        self._connection.close()

    @contextmanager
    def answering(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor. The connection is closed if what is done with it takes too long.

        :raises Unavailable: what was done cannot be done now.
        """
        late: list[bool] = []

        def hang_up() -> None:
            late.append(True)
            try:
                # What waits for an answer is told that there will be none.
                with socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
                    ours.shutdown(socket.SHUT_RDWR)
            except (OSError, psycopg.Error):
                pass  # It is closed by now.

        timer = Timer(self._patience, hang_up)
        timer.daemon = True
        timer.start()
        try:
            with _unavailable(late, self._patience), self._connection.cursor(binary=True) as cursor:
                yield cursor
        finally:
            timer.cancel()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """The same in a transaction: rolled back if something is raised."""
        with self.answering() as cursor, self._connection.transaction():
            yield cursor

    def take_lock(self, schema: str, name: str) -> None:
        """Take the lock of a node, which this connection has until it ends.

        :raises HeldElsewhere: another one has it.
        """
        key = lock_key(schema, name)
        with self.answering() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_TIMEOUT}s",))
            try:
                cursor.execute("SELECT pg_advisory_lock(%s::int8)", (key,))
            except psycopg.errors.LockNotAvailable:
                raise HeldElsewhere(
                    f"{_holder(cursor, key)} writes there as {name!r}: one that has not ended, or"
                    " a second node of this name, which is a mistake"
                ) from None
            cursor.execute("SELECT set_config('lock_timeout', '10s', false)")


def run(
    cursor: psycopg.Cursor[Any], statement: str, values: Optional[dict[str, Any]] = None
) -> Any:
    """Run a statement that we have put together of names that are quoted."""
    return cursor.execute(statement.encode(), values or {})


def _holder(cursor: psycopg.Cursor[Any], key: int) -> str:
    """Who has a lock, for people."""
    cursor.execute(
        "SELECT coalesce(host(client_addr), 'a UNIX socket'), client_port, backend_start::text,"
        " locks.pid FROM pg_locks AS locks LEFT JOIN pg_stat_activity AS held"
        " ON held.pid = locks.pid WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::int8 = %s AND objid::int8 = %s",
        ((key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF),
    )
    found = cursor.fetchone()
    if found is None:
        return "another process"
    address, port, since, pid = found
    where = address if port in (None, -1) else f"{address}, port {port}"
    return f"a process (from {where}, since {since}; pid {pid} of the server)"


@contextmanager
def _unavailable(late: Optional[list[bool]] = None, patience: float = 0) -> Iterator[None]:
    """What psycopg raises as `Unavailable`, in one line."""
    try:
        yield
    except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as problem:
        raise GivenUp(_one_line(problem)) from None
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InvalidSchemaName,
    ) as problem:
        raise Undefined(_one_line(problem)) from None
    except psycopg.Error as problem:
        if late:
            raise Unavailable(f"the server has not answered for {patience:.0f} s") from None
        raise Unavailable(_one_line(problem)) from None


def _one_line(problem: psycopg.Error) -> str:
    text = " ".join(str(problem).split())
    return text or type(problem).__name__
