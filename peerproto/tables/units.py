"""Times and sizes as HAProxy writes them: ``10s``, ``1m``, ``100k``."""

from __future__ import annotations

import re

from peerproto.wire.errors import LocalProtocolError

_TIME_UNITS = {"ms": 1, "": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

MAX_TIME = 0x7FFFFFFF
"""Longest time in ms: HAProxy's clock wraps after twice that (about 24 days)."""


def milliseconds(text: str, what: str = "time") -> int:
    """A time in ms; without a unit it is ms already.

    :raises LocalProtocolError: it is not one, or longer than `MAX_TIME`.
    """
    match = re.fullmatch(r"(\d+)(us|ms|s|m|h|d|)", text, re.ASCII)
    if match is None:
        raise LocalProtocolError(what, text, "a number and us, ms, s, m, h or d")
    number = int(match[1])
    # HAProxy rounds a part of a ms up, so that a short time is not none.
    value = -(-number // 1000) if match[2] == "us" else number * _TIME_UNITS[match[2]]
    if value > MAX_TIME:
        raise LocalProtocolError(what, text, "at most 24 days")
    return value


def entries(text: str, what: str = "size") -> int:
    """A number with ``k``, ``m`` or ``g`` for powers of 1024.

    :raises LocalProtocolError: it is not one, or 0.
    """
    match = re.fullmatch(r"(\d+)([kmg]?)", text.lower(), re.ASCII)
    if match is None or int(match[1]) == 0:
        raise LocalProtocolError(what, text, "a number above 0, with k, m or g for 1024 each")
    return int(match[1]) * _SIZE_UNITS[match[2]]
