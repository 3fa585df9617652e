"""What the log has of writes: who, what, and what became of it.

What was done stands in full. Of a call that makes more than `MOST_IN_FULL` changes, the lines say
which keys were changed how, many in one line, and each change stands in full at level *debug*.
What was refused is cut, and so many lines of it are written a minute at most, so that nobody fills
a disk with what he may not do.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Optional

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.web.server import Request

from peerproto.http.access import Caller, place_of
from peerproto.http.answers import as_json
from peerproto.service.printable import printable

MOST_REFUSED: Final = 20
"""Lines of writes that were refused, in `PERIOD`."""

PERIOD: Final = 60.0
"""Seconds."""

LONGEST: Final = 500
"""Characters of each word of a write that was not done."""

MOST_IN_FULL: Final = 20
"""Changes of a call that each have a line of their own; of a call with more, changes that were not
made."""

KEYS_LENGTH: Final = 4000
"""Characters of the keys in a line after which the next ones get another line."""

_MOST_KINDS: Final = 100
"""Kinds of changes that wait for their line."""


class WriteLog:
    """Writes the lines."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._refused = 0
        """In this period."""
        self._period: Optional[IDelayedCall] = None

    def request(self, caller: Caller, request: Request, content: Any, status: int) -> None:
        """A request of somebody who may write; ``content`` is what its body says."""
        path, _, query = request.uri.partition(b"?")
        body = ""
        if content is not None:
            body = _json(content) if status < 400 else _start_of(request)
        self._log.info(
            "{who}: {method} {path} {query} {body}: {status}",
            who=str(caller),
            method=_word(request.method),
            path=_word(path),
            query=_word(query),
            body=body,
            status=status,
        )

    def changes(self, caller: Caller, table: str, count: int) -> ChangeLines:
        """Where the changes of a request are noted, of which there are ``count``."""
        return ChangeLines(self._log, str(caller), printable(table), count > MOST_IN_FULL)

    def refused(self, request: Request, status: int, why: str) -> None:
        """A request of somebody who may not write, or not so, or not this."""
        self._refused += 1
        if self._period is None:
            self._period = self._clock.callLater(PERIOD, self._end_period)
        if self._refused <= MOST_REFUSED:
            self._log.warn(
                "a write is refused: {place}: {method} {path}: {status}: {why}",
                place=place_of(request.getClientAddress(), request.transport),
                method=_cut(_word(request.method)),
                # Without its query, which may hold what is to be secret.
                path=_cut(_word(request.uri.partition(b"?")[0])),
                status=status,
                why=_cut(printable(why)),
            )

    def stop(self) -> None:
        """Say what is still to be said."""
        if self._period is not None:
            self._period.cancel()
            self._end_period()

    def _end_period(self) -> None:
        self._period = None
        left_out, self._refused = self._refused - MOST_REFUSED, 0
        if left_out > 0:
            self._log.warn(
                "{count} more writes were refused within {seconds:g} s",
                count=left_out,
                seconds=PERIOD,
            )


class ChangeLines:
    """Writes the lines of a request that makes many changes."""

    def __init__(self, log: Logger, who: str, table: str, together: bool) -> None:
        """``together`` tells whether keys that were changed alike share a line."""
        self._log = log
        self._who = who
        self._table = table
        self._together = together
        self._refused = 0
        self._keys: dict[tuple[str, int], list[str]] = {}
        """By what was to be done, and the status, the keys that are still to be written."""
        self._lengths: Counter[tuple[str, int]] = Counter()

    def note(self, number: int, change: Any, status: int) -> None:
        """One of the changes, which was made or not, as ``status`` says."""
        is_refused = status >= 400
        self._refused += is_refused
        in_full = not self._together or (is_refused and self._refused <= MOST_IN_FULL)
        self._log.emit(
            LogLevel.info if in_full else LogLevel.debug,
            "{who}: table {table}: changes[{number}] {change}: {status}",
            who=self._who,
            table=self._table,
            number=number,
            change=_Written(change, is_refused),
            status=status,
        )
        if self._together:
            self._collect(change, status)

    def _collect(self, change: Any, status: int) -> None:
        do, key = _what(change)
        if status >= 400:
            do, key = _cut(do), _cut(key)
        kind = do, status
        self._keys.setdefault(kind, []).append(key)
        self._lengths[kind] += len(key) + 1
        if self._lengths[kind] > KEYS_LENGTH:
            self._write(kind)
        elif len(self._keys) > _MOST_KINDS:
            self.end()

    def _write(self, kind: tuple[str, int]) -> None:
        do, status = kind
        keys = self._keys.pop(kind)
        del self._lengths[kind]
        self._log.info(
            "{who}: table {table}: {do} {count}: {keys}: {status}",
            who=self._who,
            table=self._table,
            do=do,
            count=len(keys),
            keys=" ".join(keys),
            status=status,
        )

    def end(self) -> None:
        """Write what is still to be written."""
        for kind in list(self._keys):
            self._write(kind)


@attrs.frozen
class _Written:
    """A change as JSON; it is not written before somebody reads the line."""

    change: Any
    cut: bool

    def __str__(self) -> str:
        text = _json(self.change)
        return _cut(text) if self.cut else text


def _what(change: Any) -> tuple[str, str]:
    """What a change says is to be done, for which peer's share, and its key, as JSON."""
    if not isinstance(change, dict):
        return "?", _json(change)
    do = change.get("do")
    words = [printable(do) if isinstance(do, str) else _json(do)]
    if change.get("peer") is not None:
        words.append(f"of {_json(change['peer'])}")
    return " ".join(words), _json(change.get("key"))


def _word(data: bytes) -> str:
    return printable(data.decode("utf-8", "surrogateescape"))


def _json(value: Any) -> str:
    try:
        return as_json(value).decode("ascii")
    except (ValueError, RecursionError):
        return "what cannot be written as JSON"


def _start_of(request: Request) -> str:
    body: Any = request.content
    body.seek(0)
    return _cut(_word(body.read(LONGEST + 1)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
