"""Names of SQL tables for stick tables."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

OWN: Final = "peerproto_"
"""How the names of tables begin that are no stick tables."""

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_.:/-]")
_RESERVED: Final = ("sqlite_", OWN)


def sql_name(name: str, taken: Container[str]) -> str:
    """The name of the SQL table for a stick table: its own, wherever that can be.

    Other bytes than letters, digits and ``_ . : / -`` are written as ``%`` and two hexadecimal
    digits. SQLite does not tell capital letters from small ones: of two names that differ in
    nothing else, the second one has ``%2`` behind it.

    :param taken: names that there are, in small letters.
    """
    raw = name.encode("utf-8", "surrogateescape")
    wanted = "".join(chr(byte) if _PLAIN.match(bytes((byte,))) else f"%{byte:02X}" for byte in raw)
    if wanted.lower().startswith(_RESERVED):
        wanted = f"%{wanted}"
    found, number = wanted, 1
    while found.lower() in taken:
        number += 1
        found = f"{wanted}%{number}"
    return found


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
