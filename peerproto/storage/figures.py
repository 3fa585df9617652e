"""How the storage stands, in figures."""

from __future__ import annotations

from typing import Optional

import attrs


@attrs.define
class Figures:
    """How the storage stands."""

    state: str = "not started"
    """In words."""
    refused: Optional[str] = None
    """Why the file is not used, in words."""
    trouble: Optional[str] = None
    """Why it cannot be written now, in words."""
    failures: int = 0
    transactions: int = 0
    keys: int = 0
    """Keys that were written, or removed."""
    size: int = 0
    """Bytes of the file, as of the last transaction."""
    rows: dict[str, int] = attrs.Factory(dict)
    """By table, as of the last count."""
    bad: int = 0
    """Rows whose checksum was wrong."""
    aside: Optional[str] = None
    """The name of the last file that was set aside."""
