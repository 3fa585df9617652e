"""Numbers, times and sizes as HAProxy writes and reads them: ``10s``, ``1m``, ``100k``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from peerproto.wire.errors import LocalProtocolError

_TIME_UNITS: Final = {"ms": 1, "": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

MAX_TIME: Final = 0x7FFFFFFF
"""Longest time in ms: HAProxy's clock wraps after twice that (about 24 days)."""

MAX_SIZE: Final = 0xFFFFFFFF
"""Largest size: HAProxy keeps it in 32 bits."""

Warn = Callable[[str], None]
"""Takes a warning: what was read, and what was made of it."""


def _silent(warning: str) -> None:
    pass


def milliseconds(text: str, what: str = "time", warn: Warn = _silent) -> int:
    """A time in ms; without a unit it is ms already.

    HAProxy reads ``1h30m`` as ``1h`` and warns: so does this.

    :raises LocalProtocolError: it is not one, or longer than `MAX_TIME`.
    """
    match = re.match(r"(\d+)(us|ms|s|m|h|d|\Z)", text, re.ASCII)
    if match is None:
        raise LocalProtocolError(what, text, "a number and us, ms, s, m, h or d")
    number = _whole(match[1])
    # HAProxy rounds a part of a ms up, so that a short time is not none.
    value = -(-number // 1000) if match[2] == "us" else number * _TIME_UNITS[match[2]]
    if value > MAX_TIME:
        raise LocalProtocolError(what, text, "at most 24 days")
    _warn_of_rest(text, match.end(), what, warn)
    return value


def number(text: str, what: str, warn: Warn = _silent) -> int:
    """A whole number without a unit, which may have a sign.

    HAProxy reads what stands behind the digits over: so does this, with a warning.

    :raises LocalProtocolError: it does not begin with one.
    """
    match = re.match(r"[+-]?0*\d{1,18}(?!\d)", text, re.ASCII)
    if match is None:
        raise LocalProtocolError(what, text, "a whole number")
    _warn_of_rest(text, match.end(), what, warn)
    return int(match[0])


def _whole(digits: str) -> int:
    """The number, or one that is too large all the same: Python reads no 5,000 digits."""
    return int(digits.lstrip("0")[:40] or "0")


def _warn_of_rest(text: str, end: int, what: str, warn: Warn) -> None:
    if end < len(text):
        warn(f"{what}: read '{text}' as '{text[:end]}', as HAProxy does")


def size(text: str, what: str = "size") -> int:
    """A number with ``k``, ``m`` or ``g`` for powers of 1024.

    :raises LocalProtocolError: it is not one, or above `MAX_SIZE`.
    """
    match = re.fullmatch(r"(\d+)([kmg]?)", text.lower(), re.ASCII)
    value = None if match is None else _whole(match[1]) * _SIZE_UNITS[match[2]]
    if value is None or value > MAX_SIZE:
        raise LocalProtocolError(
            what, text, f"a number up to {MAX_SIZE}, with k, m or g for 1024 each"
        )
    return value


def entries(text: str, what: str = "size") -> int:
    """A size that is not 0.

    :raises LocalProtocolError: see `size`, or it is 0.
    """
    value = size(text, what)
    if not value:
        raise LocalProtocolError(what, text, "a number above 0, with k, m or g for 1024 each")
    return value
