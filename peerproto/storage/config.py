"""``[storage]`` of a ``peers.ini``, with every error at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, Optional

import attrs

from peerproto.service.section import Line, Section, milliseconds, text

DEFAULT_INTERVAL: Final = 1000
"""Time in ms between two writes, unless the file says something else."""

DEFAULT_SCHEMA: Final = "peerproto"
"""The schema of a PostgreSQL database that has the tables, unless the file names another one."""

_HOST: Final = r"(?:\[[0-9A-Fa-f:.]*\]|[^:,@/?#\[\]\s]*)(?::[0-9]*)?"
_URL: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://"
    r"(?:(?P<user>[^:@/?#\[\]\s]*)(?P<password>:[^:@/?#\[\]\s]*)?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?P<database>/[^@/?#\s]*)?(?:\?(?P<query>[^@#\s]*))?"
)
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_SHORTEST: Final = 10
_LONGEST: Final = 3_600_000


@attrs.frozen
class StorageSettings:
    """What ``[storage]`` says."""

    path: str = ""
    """The SQLite file; empty if a PostgreSQL server keeps the tables."""
    interval: int = DEFAULT_INTERVAL
    """Time in ms within which changes are written: so much is lost to a crash."""
    tables: tuple[str, ...] = ("*",)
    """Names of the tables to keep; ``*`` and ``?`` in them stand for any characters, or for one."""
    url: str = attrs.field(default="", repr=False)
    """Where a PostgreSQL server is, as libpq takes it; it may have a password in it."""
    schema: str = DEFAULT_SCHEMA
    """The schema there."""

    @property
    def place(self) -> str:
        """Where tables are kept, for people: without a password."""
        if not self.url:
            return self.path
        return shown_url(self.url)

    def keeps(self, name: str) -> bool:
        """Whether the table of this name is to be kept."""
        return any(fnmatchcase(name, pattern) for pattern in self.tables)


def _interval(line: Line) -> int:
    interval = milliseconds(line)
    if not _SHORTEST <= interval <= _LONGEST:
        raise line.wrong("a time from 10ms to 1h")
    return interval


def _tables(line: Line) -> tuple[str, ...]:
    return tuple(line.value.replace(",", " ").split())


def shown_url(url: str) -> str:
    """A URL of a PostgreSQL server without a password, and without parameters."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return "postgresql://…"
    user = f"{parts['user']}@" if parts["user"] else ""
    return f"postgresql://{user}{parts['hosts']}{parts['database'] or ''}"


def _url(line: Line) -> str:
    # What was read may have a password in it: no error has it.
    parts = _URL.fullmatch(line.value)
    if parts is None or _PERCENT.search(line.value):
        raise line.wrong(
            "postgresql://[user[:password]@][host[:port]][/database][?parameters], with other"
            " characters than letters, digits and - . _ ~ of a name or password as % and two"
            " hexadecimal digits",
            f"{line.key} = …",
        )
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise line.wrong(
            "psycopg for it: pip install 'peerproto[postgres]'", f"{line.key} = …"
        ) from None
    try:
        conninfo_to_dict(line.value)
    except ProgrammingError:
        raise line.wrong("a URL that libpq takes, with its parameters", f"{line.key} = …") from None
    return line.value


def _schema(line: Line) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", line.value) or line.value.startswith("pg_"):
        raise line.wrong("a name of letters, digits and _, 63 at most, that begins with no pg_")
    return line.value


_KEYS: Final[dict[str, Callable[[Line], Any]]] = {
    "path": text,
    "url": _url,
    "schema": _schema,
    "interval": _interval,
    "tables": _tables,
}


def read_storage(section: Section) -> Optional[StorageSettings]:
    """What a file says of storage; ``None`` if it has no such section.

    :raises ConfigError: something in it is wrong.
    """
    if not section.number:
        return None
    values = section.values(_KEYS)
    if ("path" in values) == ("url" in values):
        raise section.wrong("path = <file> or url = postgresql://… in it, one of them")
    if "schema" in values and "url" not in values:
        raise section.lines["schema"].wrong("no schema, which goes with url")
    return StorageSettings(**values)
