"""A node by its runtime socket: the commands that begin with ``json``."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final, Optional, Union

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

_SPECIAL: Final = re.compile(r"([^\w.:/\[\]-])", re.ASCII)

_SPLITS: Final = re.compile(r"([\\; ])")
"""What ends a word of a command, or escapes."""

LONGEST: Final = 16_300
"""Bytes of a command beside its first words: a node takes a line of 16384."""

PAGE: Final = 1000
"""Entries of a command at most."""

MOST_COMPARED: Final = 100_000
"""Entries that a watch compares each time, at most."""

INTERVAL: Final = 1.0
"""Seconds from one look of a watch to the next, if nothing is said."""

IDLE: Final = 9
"""How many times as long as a look takes there is none after it."""


def word(text: str) -> str:
    """A text as one word of a command. Characters that cannot be printed are ``\\xHH`` in it, which
    is what the node reads in names and keys."""
    return _SPECIAL.sub(r"\\\1", visible(text))


def _json_word(value: Json) -> str:
    """An object in JSON within one word of a command."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return _SPLITS.sub(r"\\\1", text)


def connected(path: str, patience: float) -> socket.socket:
    """A connection to a UNIX socket, which waits so many seconds for what it reads or writes."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(patience)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


class RuntimeNode:
    """See the module. Each question is a connection of its own."""

    def __init__(
        self,
        path: str,
        patience: float = PATIENCE,
        connect: Callable[[str, float], socket.socket] = connected,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        :param path: of the socket.
        :param patience: seconds in which the node has to say something.
        :param connect: connects to the path; in tests to something else.
        :param pause: waits so many seconds.
        """
        self.place = path
        self._patience = patience
        self._connect = connect
        self._pause = pause

    def close(self) -> None:
        """Do nothing: nothing is open between two questions."""

    # -- asking ------------------------------------------------------------

    def ask(self, *words: str) -> Iterator[Json]:
        """The objects of an answer, as they come.

        :raises Unreachable: there is no node, or the answer breaks off.
        :raises NodeError: the node says no.
        """
        try:
            with closing(self._connect(self.place, self._patience)) as connection:
                connection.sendall(" ".join(words).encode("utf-8") + b"\n")
                # Not by iteration: a line that was cut short by the end would pass for a whole one.
                with connection.makefile("rb") as lines:
                    while True:
                        line = lines.readline()
                        if not line.endswith(b"\n"):
                            raise Unreachable(f"{self.place}: the answer breaks off")
                        if line == b"\n":
                            return
                        if not line.startswith(b"{"):
                            raise self._said(line, lines.read(10_000))
                        yield json.loads(line)
        except TimeoutError:
            raise Unreachable(
                f"{self.place}: no answer within {self._patience:g} s. Is the node busy or stopped?"
            ) from None
        except (OSError, ValueError) as problem:
            raise Unreachable(self._why(problem)) from None

    def _said(self, line: bytes, rest: bytes) -> NodeError:
        """What a line that is no object says."""
        text = line.decode("utf-8", "replace").strip()
        if line.startswith(b"HTTP/"):
            return Unreachable(f"{self.place} speaks HTTP: try --node http+unix:{self.place}")
        if text.startswith("Unknown command") and (b"json" not in rest):
            return Unreachable(
                f"{self.place} is no runtime socket of this version of peerproto: it does not know"
                " the commands json. If it is HAProxy's own, ask the node that it has as a peer"
            )
        if text.startswith("Unknown command") or not text:
            text = f"{text} {rest.decode('utf-8', 'replace')}".strip()
        return NodeError(visible(text))

    def _why(self, problem: Exception) -> str:
        hint = ""
        if isinstance(problem, FileNotFoundError):
            hint = ". Does the node run? `runtime` in its peers.ini says where its socket is"
        elif isinstance(problem, ConnectionRefusedError):
            hint = ". The socket is there, but no node listens: does it run?"
        elif isinstance(problem, PermissionError):
            hint = ". Its mode says who may: try as root, or as the node's user"
        said = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        return f"{self.place}: {said}{hint}"

    def _one(self, *words: str) -> Json:
        answer = list(self.ask(*words))
        if len(answer) != 1:
            raise Unreachable(f"{self.place}: read {len(answer)} objects, expected one")
        return answer[0]

    # -- what a node can be asked ------------------------------------------

    def tables(self) -> list[TableInfo]:
        """See `Node`."""
        return [TableInfo.of(one) for one in self.ask("json tables")]

    def entries(self, table: TableInfo, selection: Selection) -> Iterator[EntryInfo]:
        """See `Node`."""
        words = _words(table, selection)
        return (EntryInfo.of(one) for one in self.ask("json entries", *words))

    def raw_entries(self, table: TableInfo, selection: Selection) -> Iterator[Json]:
        """See `Node`."""
        return self.ask("json entries", *_words(table, selection), "raw yes")

    def bring(self, table: TableInfo, entries: Sequence[Json]) -> Iterator[Brought]:
        """See `Node`."""
        name = word(table.name)
        room = LONGEST - len(name)
        for some in in_parts(entries, PAGE, room, _json_word):
            text = f"[{','.join(map(_json_word, some))}]"
            if len(text) > room:
                yield Brought(
                    False,
                    problem=f"read an entry of {len(text)} bytes, expected {room} at most on the"
                    " runtime socket: HTTP takes longer ones",
                )
                continue
            answers = list(self.ask("json import", text, name))
            if len(answers) != len(some):
                raise Unreachable(
                    f"{self.place}: read {len(answers)} objects, expected {len(some)}"
                )
            for one in answers:
                problem = one["problem"]
                said = None if problem is None else visible(problem)
                yield Brought(one["taken"], one["expired"], said)

    def peers(self) -> list[PeerInfo]:
        """See `Node`."""
        return [PeerInfo.of(one) for one in self.ask("json peers")]

    def aggregates(self) -> list[AggregateInfo]:
        """See `Node`."""
        return list(AggregateInfo.all_of(self._one("json parts")))

    def node(self) -> NodeInfo:
        """See `Node`."""
        return NodeInfo.of(self._one("json node"))

    def set(
        self, table: TableInfo, key: str, values: Mapping[str, Value], peer: Optional[str]
    ) -> EntryInfo:
        """See `Node`."""
        return self._changed("json set", table, key, values, peer)

    def count(
        self, table: TableInfo, key: str, events: Mapping[str, int], peer: Optional[str]
    ) -> EntryInfo:
        """See `Node`."""
        return self._changed("json count", table, key, events, peer)

    def _changed(
        self, command: str, table: TableInfo, key: str, values: Json, peer: Optional[str]
    ) -> EntryInfo:
        place = _words(table, Selection(key=key, peer=peer))
        return EntryInfo.of(self._one(command, word(json.dumps(values)), *place))

    def forget(self, table: TableInfo, selection: Selection) -> int:
        """See `Node`."""
        count: int = self._one("json forget", *_words(table, selection))["forgotten"]
        return count

    def watch(
        self, table: TableInfo, selection: Selection, interval: Optional[float]
    ) -> Iterator[Union[Change, Lost]]:
        """Ask again and again, and compare. What happens between two looks is not seen, nor why.

        However large the table, nine tenths of the time nothing is asked.
        """
        before: Optional[dict[tuple[Optional[str], str], EntryInfo]] = None
        while True:
            began = time.monotonic()
            try:
                now = {one.place: one for one in self._compared(table, selection)}
            except NodeError as problem:
                # A node that was started anew may not have the table yet.
                if before is None:
                    raise
                yield Lost(str(problem))
                self._pause(INTERVAL)
                continue
            for place, entry in now.items():
                if before is not None and (
                    place not in before or before[place].values != entry.values
                ):
                    yield Change(table.name, entry.key, entry.peer, entry)
            for place in [] if before is None else before:
                if place not in now:
                    yield Change(table.name, place[1], place[0], None)
            before = now
            took = time.monotonic() - began
            self._pause(max(INTERVAL if interval is None else interval, IDLE * took))

    def _compared(self, table: TableInfo, selection: Selection) -> Iterator[EntryInfo]:
        for number, entry in enumerate(self.entries(table, selection)):
            if number >= MOST_COMPARED:
                raise NodeError(
                    f"more than {MOST_COMPARED:,} entries would be compared each time: choose some"
                    " with --filter, or watch over HTTP"
                )
            yield entry


def _words(table: TableInfo, selection: Selection) -> list[str]:
    """The words that say which entries are meant."""
    words = [word(table.name)]
    for name, value in (
        ("key", selection.key),
        ("prefix", selection.prefix),
        ("cidr", selection.network),
        ("peer", selection.peer),
        ("top", selection.top),
        ("by", selection.by),
    ):
        if value is not None:
            words += [name, word(str(value))]
    words += [str(one) for one in selection.comparisons]
    return words
