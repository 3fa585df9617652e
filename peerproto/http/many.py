"""Many changes in one call, each with a result of its own."""

from __future__ import annotations

from typing import Any, Final, Optional

import attrs

from peerproto import LocalProtocolError, StickTable, StickTableService, TableFull
from peerproto.http import writes
from peerproto.http.answers import Answer
from peerproto.http.bodies import structured
from peerproto.http.problems import UNFIT, Problem
from peerproto.http.routes import Call
from peerproto.http.showing import entry_shown
from peerproto.http.tables import check_free, key_of, share_of, table_of
from peerproto.http.text import shown
from peerproto.http.writelog import ChangeLines, WriteLog
from peerproto.service.portable import Portable, bring
from peerproto.service.query import Steps

MOST_CHANGES: Final = 1000
"""Changes in one call."""

_AT_ONCE: Final = 20
"""Changes that are made in one step: a few ms."""


@attrs.frozen
class Change:
    """One of the changes of a call."""

    do: str
    key: str
    peer: Optional[str] = None
    values: Optional[dict[str, Any]] = None
    expires_in: Optional[int] = None
    events: Optional[dict[str, Any]] = None
    expires: Optional[int] = None


@attrs.frozen
class ManyBody:
    """The body of a call."""

    changes: list[Any]


_MAY_HAVE: Final = {
    "replace": ("values", "expires_in"),
    "set": ("values", "expires_in"),
    "count": ("events",),
    "forget": (),
    "import": ("values", "expires"),
}
"""By what is to be done, the fields that say more of it."""


class ManyRoutes:
    """The route that makes many changes."""

    def __init__(self, service: StickTableService, log: WriteLog) -> None:
        self._service = service
        self._log = log

    async def change(self, call: Call) -> Answer:
        """Make all changes, in their order; one that cannot be made holds up no other."""
        table = table_of(self._service, call)
        check_free(self._service, table)
        changes = structured(call.content, ManyBody).changes
        if not 0 < len(changes) <= MOST_CHANGES:
            raise Problem.wrong("body.changes", f"{len(changes)} changes", f"1 to {MOST_CHANGES}")
        log = self._log.changes(call.caller, table.name, len(changes))
        try:
            results = await self._service.in_turns(self._steps(table, changes, log))
        finally:
            # Also of what was done when the node stops in the middle.
            log.end()
        return Answer({"results": results})

    def _steps(
        self, table: StickTable, changes: list[Any], log: ChangeLines
    ) -> Steps[list[dict[str, Any]]]:
        results = []
        for number, change in enumerate(changes):
            result = self._result(table, change, f"body.changes[{number}]")
            log.note(number, change, result["status"])
            results.append(result)
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
        return results

    def _result(self, table: StickTable, given: Any, field: str) -> dict[str, Any]:
        key = given.get("key") if isinstance(given, dict) else None
        result: dict[str, Any] = {"key": shown(key)} if isinstance(key, str) else {}
        try:
            result.update(self._done(table, structured(given, Change, field), field))
        except Problem as problem:
            return {**result, "status": problem.status, "problem": problem.document}
        except TableFull as problem:
            full = Problem.of("table", problem, 507)
            return {**result, "status": 507, "problem": full.document}
        except LocalProtocolError as problem:
            gone = Problem(409, str(problem))
            return {**result, "status": 409, "problem": gone.document}
        return result

    def _done(self, table: StickTable, change: Change, field: str) -> dict[str, Any]:
        may_have = _MAY_HAVE.get(change.do)
        if may_have is None:
            raise Problem.wrong(f"{field}.do", change.do, f"one of {', '.join(_MAY_HAVE)}")
        for name in ("values", "expires_in", "events", "expires"):
            if name not in may_have and getattr(change, name) is not None:
                raise Problem.unfit(f"{field}.{name}", name, f"none with {change.do}")
        if change.do == "import":
            return _imported(table, change, field)
        raw_key = key_of(table, change.key, f"{field}.key")
        share = share_of(table, change.peer, f"{field}.peer")
        if change.do == "forget":
            return {"status": 200, "forgotten": writes.forget(self._service, share, raw_key)}
        if change.do == "count":
            entry, is_new = writes.count(share, raw_key, change.events or {}, field)
        else:
            body = writes.SetBody(change.values or {}, change.expires_in)
            entry, is_new = writes.put(share, raw_key, body, change.do == "replace", field)
        return {"status": 201 if is_new else 200, "entry": entry_shown(entry)}


def _imported(table: StickTable, change: Change, field: str) -> dict[str, Any]:
    """Set an entry as it came from elsewhere: see `peerproto.service.portable`."""
    given = {
        "key": change.key,
        "peer": change.peer,
        "expires": change.expires,
        "values": change.values or {},
    }
    try:
        came = bring(table, Portable.read(given, table.layout))
    except TableFull:
        raise
    except LocalProtocolError as problem:
        raise Problem.of(field, problem, UNFIT) from problem
    if not came:
        raise Problem.unfit(f"{field}.expires", change.expires, "a time that is to come")
    return {"status": 200}
