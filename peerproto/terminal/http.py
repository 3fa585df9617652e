"""A node by its HTTP API, ``/v1``: over TCP, TLS, or a UNIX socket."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Optional, Union
from urllib.parse import quote

import httpx

from peerproto.terminal.node import PATIENCE, Brought, NodeError, Selection, Unreachable
from peerproto.terminal.parts import in_parts
from peerproto.terminal.text import visible
from peerproto.terminal.values import (
    AggregateInfo,
    Change,
    EntryInfo,
    Json,
    Lost,
    NodeInfo,
    PeerInfo,
    TableInfo,
    Value,
)

PAGE: Final = 1000
"""Entries of a page, and changes of a call: as many as a node takes."""

LONGEST: Final = 900_000
"""Bytes of the entries of a call: a node takes a body of 1 MiB."""

AGAIN: Final = 1.0
"""Seconds after which a stream that has ended is asked for again."""

SILENCE: Final = 40.0
"""Seconds after which a stream counts as broken: the node says something each 15 s."""

_OF_THIS_WAY: Final = ("allow_writes", "may_write")
"""What ``/v1/node`` says of HTTP, and of who asks."""

Parameters = list[tuple[str, Union[str, int, float, bool, None]]]


class HttpNode:
    """See the module."""

    def __init__(
        self,
        place: str,
        base: str,
        token: Optional[str] = None,
        socket: Optional[str] = None,
        patience: float = PATIENCE,
        transport: Optional[httpx.BaseTransport] = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        :param place: where the node is, for people.
        :param base: the URL below which its paths are.
        :param token: of a reader or a writer.
        :param socket: the path of the UNIX socket where it listens.
        :param patience: seconds in which the node has to say something.
        :param transport: what carries requests, in tests.
        :param pause: waits so many seconds.
        """
        self.place = place
        self._pause = pause
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if transport is None:
            # OpenSSL itself reads SSL_CERT_FILE.
            transport = httpx.HTTPTransport(uds=socket, verify=ssl.create_default_context())
        # Neither a proxy nor a .netrc of the environment: a node is near, and has its own token.
        self._client = httpx.Client(
            base_url=base, headers=headers, timeout=patience, transport=transport, trust_env=False
        )

    def close(self) -> None:
        """See `Node`."""
        self._client.close()

    # -- asking ------------------------------------------------------------

    def _ask(
        self, method: str, path: str, params: Optional[Parameters] = None, content: Any = None
    ) -> Json:
        try:
            reply = self._client.request(
                method, path, params=params or None, json=content if content is not None else None
            )
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None
        if reply.is_success:
            return self._read(reply)
        raise self._problem(reply)

    def _read(self, reply: httpx.Response) -> Json:
        try:
            value: Json = reply.json()
        except ValueError:
            raise Unreachable(f"{self.place}: the answer is no JSON. Is it a peerproto?") from None
        return value

    def _problem(self, reply: httpx.Response) -> NodeError:
        """What an answer says that is a problem."""
        try:
            detail = str(reply.json()["detail"])
        except (ValueError, KeyError, TypeError):
            return Unreachable(f"{self.place}: HTTP {reply.status_code}. Is it a peerproto?")
        hint = {
            401: ". --token-file names a file with the node's token",
            403: ". Writing needs `allow-writes = yes` in peers.ini, and the token of writers",
            410: ". The table began anew: ask once more",
            421: ". `hosts` in peers.ini names what the node is called",
        }.get(reply.status_code, "")
        return NodeError(visible(f"{detail}{hint}"))

    def _unreachable(self, problem: httpx.HTTPError) -> Unreachable:
        said = str(problem) or type(problem).__name__
        hint = ""
        if isinstance(problem, httpx.TimeoutException):
            said = "no answer in time. Is the node busy or stopped?"
        elif isinstance(problem, httpx.ConnectError):
            hint = ". Does the node run, and has its peers.ini an [http] section?"
        elif isinstance(problem, httpx.RemoteProtocolError):
            hint = ". If this is a runtime socket, --node is its path alone"
        return Unreachable(f"{self.place}: {said}{hint}")

    # -- what a node can be asked ------------------------------------------

    def tables(self) -> list[TableInfo]:
        """See `Node`."""
        return [TableInfo.of(one) for one in self._ask("GET", "/v1/tables")["tables"]]

    def entries(self, table: TableInfo, selection: Selection) -> Iterator[EntryInfo]:
        """See `Node`."""
        if selection.key is not None:
            for share in _shares(table, selection):
                found = self._entry(table, selection.key, share)
                if found is not None:
                    yield found
            return
        for page in self._pages(table, selection):
            yield from page

    def _entry(self, table: TableInfo, key: str, share: Parameters) -> Optional[EntryInfo]:
        try:
            reply = self._client.get(_entry_path(table, key), params=share or None)
        except httpx.HTTPError as problem:
            raise self._unreachable(problem) from None
        if reply.status_code == 404:
            return None
        if not reply.is_success:
            raise self._problem(reply)
        return EntryInfo.of(self._read(reply))

    def _pages(self, table: TableInfo, selection: Selection) -> Iterator[list[EntryInfo]]:
        """Entries, some at a time: they may be forgotten before the next are asked for."""
        params = _conditions(selection)
        if selection.peer is not None:
            params.append(("peer", selection.peer))
        if selection.by is not None:
            by = selection.by
            params.append(("sort", by[1:] if by.startswith("-") else f"-{by}"))
        left, cursor = selection.top, None
        while left is None or left > 0:
            limit = PAGE if left is None else min(left, PAGE)
            more: Parameters = [("limit", limit)]
            if cursor is not None:
                more.append(("cursor", cursor))
            page = self._ask("GET", f"{_path(table)}/entries", params + more)
            entries = [EntryInfo.of(one) for one in page["entries"]]
            yield entries
            cursor = page["next"]
            if cursor is None:
                return
            if left is not None:
                left -= len(entries)

    def raw_entries(self, table: TableInfo, selection: Selection) -> Iterator[Json]:
        """See `Node`."""
        params = [*_conditions(selection), ("raw", "yes"), ("limit", PAGE)]
        if selection.peer is not None:
            params.append(("peer", selection.peer))
        cursor: Parameters = []
        while True:
            page = self._ask("GET", f"{_path(table)}/entries", params + cursor)
            yield from page["entries"]
            if page["next"] is None:
                return
            cursor = [("cursor", page["next"])]

    def bring(self, table: TableInfo, entries: Sequence[Json]) -> Iterator[Brought]:
        """See `Node`."""
        path = f"{_path(table)}/entries"
        for some in in_parts(entries, PAGE, LONGEST):
            changes = [{"do": "import", **one} for one in some]
            for one in self._ask("POST", path, None, {"changes": changes})["results"]:
                yield _brought(one)

    def peers(self) -> list[PeerInfo]:
        """See `Node`."""
        return [PeerInfo.of(one) for one in self._ask("GET", "/v1/peers")["peers"]]

    def aggregates(self) -> list[AggregateInfo]:
        """See `Node`."""
        return list(AggregateInfo.all_of(self._ask("GET", "/v1/parts")))

    def node(self) -> NodeInfo:
        """See `Node`. What this way to it allows is left out."""
        said: Json = self._ask("GET", "/v1/node")
        return NodeInfo.of({name: said[name] for name in said if name not in _OF_THIS_WAY})

    def set(
        self, table: TableInfo, key: str, values: Mapping[str, Value], peer: Optional[str]
    ) -> EntryInfo:
        """See `Node`."""
        share: Parameters = [] if peer is None else [("peer", peer)]
        content = {"values": dict(values)}
        return EntryInfo.of(self._ask("PATCH", _entry_path(table, key), share, content))

    def count(
        self, table: TableInfo, key: str, events: Mapping[str, int], peer: Optional[str]
    ) -> EntryInfo:
        """See `Node`."""
        share: Parameters = [] if peer is None else [("peer", peer)]
        content = {"events": dict(events)}
        path = f"{_entry_path(table, key)}/count"
        return EntryInfo.of(self._ask("POST", path, share, content))

    def forget(self, table: TableInfo, selection: Selection) -> int:
        """See `Node`."""
        if selection.key is not None:
            path = _entry_path(table, selection.key)
            return sum(
                self._ask("DELETE", path, share)["was_here"] for share in _shares(table, selection)
            )
        count = 0
        for page in self._pages(table, selection):
            changes = [
                {"do": "forget", "key": one.key} | ({} if one.peer is None else {"peer": one.peer})
                for one in page
            ]
            if changes:
                done = self._ask("POST", f"{_path(table)}/entries", None, {"changes": changes})
                for one in done["results"]:
                    if "problem" in one:
                        raise NodeError(visible(one["problem"]["detail"]))
                    count += one["forgotten"]["was_here"]
        return count

    def watch(
        self, table: TableInfo, selection: Selection, interval: Optional[float]
    ) -> Iterator[Union[Change, Lost]]:
        """Follow the node's stream of events. When it ends, it is asked for again from there on."""
        params: Parameters = [("table", table.name), ("kind", "entry")]
        params += _conditions(selection)
        if interval is not None:
            params.append(("interval", str(int(1000 * interval))))
        place: Optional[str] = None
        came = False
        while True:
            headers = {} if place is None else {"Last-Event-ID": place}
            try:
                with self._client.stream(
                    "GET", "/v1/events", params=params, headers=headers, timeout=SILENCE
                ) as reply:
                    if not reply.is_success:
                        reply.read()
                        raise self._problem(reply)
                    came = True
                    for reached, name, data in _events(reply.iter_lines(), place):
                        place = reached
                        change = _change(name, data, selection)
                        if change is not None:
                            yield change
            except httpx.HTTPError as problem:
                if not came:
                    raise self._unreachable(problem) from None
                yield Lost(f"{self._unreachable(problem)}")
            except NodeError as problem:
                # A node that was started anew may not have the table yet.
                if not came:
                    raise
                yield Lost(str(problem))
            self._pause(AGAIN)


def _brought(result: Json) -> Brought:
    """What a result says."""
    problem = result.get("problem")
    if problem is None:
        return Brought(True)
    fields = [one["field"] for one in problem.get("errors", ())]
    expired = any(one.endswith(".expires") for one in fields)
    return Brought(False, expired, None if expired else visible(problem["detail"]))


def _change(name: str, data: Json, selection: Selection) -> Optional[Union[Change, Lost]]:
    """What an event says to who watches."""
    if name == "entry":
        peer = data.get("peer")
        if selection.peer not in (None, peer):
            return None
        entry = None if data["entry"] is None else EntryInfo.of(data["entry"])
        matches = data.get("matches", True)
        key = data["key"]
        return Change(data["table"], key, peer, entry, data["cause"], data["origin"], matches)
    if name == "reset":
        return Lost(f"some changes were not told: {data['why']}")
    if name == "end":
        return Lost(f"the node ends the stream: {data.get('why', '')}")
    return None


def _events(
    lines: Iterator[str], place: Optional[str]
) -> Iterator[tuple[Optional[str], str, Json]]:
    """The events of a stream, each with the place that is reached with it."""
    name, data = "", ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "id":
            place = value
        elif field == "event":
            name = value
        elif field == "data":
            data = value
        elif not line and data:
            yield place, name, json.loads(data)
            name, data = "", ""


def _path(table: TableInfo) -> str:
    return f"/v1/tables/{_quoted(table.name)}"


def _entry_path(table: TableInfo, key: str) -> str:
    return f"{_path(table)}/entries/{_quoted(key)}"


def _quoted(text: str) -> str:
    """A text as one segment of a path, which ``.`` and ``..`` are not as they stand."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def _conditions(selection: Selection) -> Parameters:
    params: Parameters = [("filter", str(one)) for one in selection.comparisons]
    if selection.prefix is not None:
        params.append(("prefix", selection.prefix))
    if selection.network is not None:
        params.append(("cidr", selection.network))
    return params


def _shares(table: TableInfo, selection: Selection) -> list[Parameters]:
    """For each share that is meant, the parameters that say so."""
    if selection.peer is not None:
        return [[("peer", selection.peer)]]
    return [[("peer", one)] for one in table.shares] if table.per_peer else [[]]
