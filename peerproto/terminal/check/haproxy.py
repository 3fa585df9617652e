"""What a haproxy.cfg says about peers and their tables.

Sources: HAProxy's ``src/cfgparse-peers.c``, ``src/stick_table.c`` and ``src/proxy.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.terminal.check.addresses import Address, from_haproxy
from peerproto.terminal.check.finding import Finding, Place
from peerproto.terminal.check.lines import PROXIES, Line, Lines
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.layout import column

_TRACK: Final = re.compile(r"track-sc\d*")
_RULES: Final = frozenset(("http-request", "http-response", "tcp-request", "tcp-response"))


@attrs.frozen
class PeerLine:
    """A ``peer`` or ``server`` line."""

    name: str
    place: Place
    text: str
    address: Optional[Address]
    """``None`` if it has none, or one that nobody can call."""
    tls: bool
    shard: str = ""
    text_of_address: str = ""
    """What stands where an address does."""


@attrs.define
class Table:
    """A table, and what rules make of it."""

    wire_name: str
    """As it is called on the wire."""
    name: str
    """As rules call it."""
    place: Place
    line: str
    """What follows ``stick-table``, or the name in a peers section."""
    peers: str
    """The section by which it is shared; empty if it is not."""
    declaration: Optional[Declaration] = None
    """``None`` if the line cannot be read."""
    sticking: list[Place] = attrs.Factory(list)
    """The ``stick`` rules: for them HAProxy stores ``server_id`` and ``server_key``, too."""


@attrs.define
class PeersSection:
    """A ``peers`` section."""

    name: str
    place: Place
    peers: dict[str, PeerLine] = attrs.Factory(dict)
    bind: Optional[Line] = None
    default_bind: Optional[Line] = None
    default_server: Optional[Line] = None
    disabled: Optional[Place] = None
    shards: Optional[Place] = None
    tls_words: dict[str, str] = attrs.Factory(dict)
    """``crt``, ``ca-file`` and ``verify`` where they were named first."""

    @property
    def bound(self) -> Optional[Address]:
        """Where HAProxy listens, if a ``bind`` line says so."""
        return None if self.bind is None else from_haproxy(self.bind.word(1))

    @property
    def listens_with_tls(self) -> bool:
        """Whether HAProxy takes connections with TLS alone."""
        binds = (self.bind, self.default_bind)
        return any("ssl" in one.words for one in binds if one is not None)

    @property
    def listens_at(self) -> Place:
        """The line that says how HAProxy listens; without one, the heading."""
        for line in (self.bind, self.default_bind):
            if line is not None:
                return line.place
        return self.place


def _quoted(word: str) -> str:
    """A word so that it is read as one again."""
    if word and not re.search(r"[\s\\\"'#;]", word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


class HaproxyConfig:
    """All files of a HAProxy, read."""

    def __init__(self, files: Iterable[tuple[str, str]], variables: Mapping[str, str] = {}) -> None:
        """``files`` are paths and texts; ``variables`` those of its environment that are known."""
        self._lines = Lines(variables)
        self.findings = self._lines.findings
        self.localpeer: Optional[tuple[str, Place]] = None
        """What the global section calls this HAProxy."""
        self.sections: dict[str, PeersSection] = {}
        self.tables: dict[str, Table] = {}
        """By the names by which rules call them."""
        self._rules: list[tuple[Line, str, bool]] = []
        """Lines that name a table, that name, and whether they stick."""
        for path, text in files:
            for line in self._lines.read(path, text):
                self._take(line)
        self._resolve()

    def shared_by(self, section: PeersSection) -> dict[str, Table]:
        """The tables that a section shares, by their names on the wire."""
        return {one.wire_name: one for one in self.tables.values() if one.peers == section.name}

    def local_in(self, section: PeersSection) -> Optional[str]:
        """The name of this HAProxy in a section, if the files tell."""
        if self.localpeer is not None:
            return self.localpeer[0] if self.localpeer[0] in section.peers else None
        if section.bind is not None:
            alone = [one.name for one in section.peers.values() if one.address is None]
            return alone[0] if len(alone) == 1 else None
        return None

    # -- lines ---------------------------------------------------------------

    def _take(self, line: Line) -> None:
        section = line.section
        if section is None:
            return
        if section.kind == "global":
            if line.words[0] == "localpeer" and line.word(1):
                self.localpeer = line.word(1), line.place
        elif section.kind == "peers":
            if line.words[0] == "peers":
                self._begin(line)
            elif section.name in self.sections:
                self._take_in_peers(line, self.sections[section.name])
        elif section.kind in PROXIES:
            self._take_in_proxy(line, section.name)

    def _begin(self, line: Line) -> None:
        name = line.word(1)
        if name in self.sections:
            first = self.sections[name].place
            expected = f"another name: {first} is called so"
            self._find(line.place, line.text, expected, "rename one of them")
        else:
            self.sections[name] = PeersSection(name, line.place)

    def _take_in_peers(self, line: Line, section: PeersSection) -> None:
        word = line.words[0]
        if word in ("peer", "server"):
            self._take_peer(line, section)
        elif word == "bind":
            section.bind = line
        elif word == "default-bind":
            section.default_bind = line
        elif word == "default-server":
            section.default_server = line
        elif word == "table" and line.word(1):
            # Its name on the wire has no section in it, but the slash.
            name = f"{section.name}/{line.word(1)}"
            self._add(line, f"/{line.word(1)}", name, line.words[2:], section.name)
        elif word == "disabled":
            section.disabled = line.place
        elif word == "enabled":
            section.disabled = None
        elif word == "shards":
            section.shards = line.place
        if word in ("peer", "server", "bind", "default-server", "default-bind"):
            for one in ("crt", "ca-file", "verify"):
                if line.after(one):
                    section.tls_words.setdefault(one, line.after(one))

    def _take_peer(self, line: Line, section: PeersSection) -> None:
        name, text = line.word(1), line.word(2)
        address = from_haproxy(text)
        if "@" not in text and ":" not in text and "/" not in text:
            text = ""
        if address is None and text:
            expected = "an address and a port, or the path of a UNIX socket"
            self._find(line.place, line.text, expected, f"give {name} one that peers can call")
        if name in section.peers:
            expected = f"one line for each peer: {section.peers[name].place} has it too"
            self._find(line.place, line.text, expected, "take one of them out")
            return
        default = section.default_server
        tls = "ssl" in line.words or (
            default is not None and "ssl" in default.words and "no-ssl" not in line.words
        )
        section.peers[name] = PeerLine(
            name, line.place, line.text, address, tls, line.after("shard"), text
        )

    def _take_in_proxy(self, line: Line, name: str) -> None:
        word = line.words[0]
        if word == "stick-table":
            self._add(line, name, name, line.words[1:], line.after("peers"))
        elif word == "stick":
            self._rules.append((line, line.after("table") or name, True))
        elif word in _RULES and any(_TRACK.fullmatch(one) for one in line.words):
            self._rules.append((line, line.after("table") or name, False))

    def _add(self, line: Line, wire_name: str, name: str, words: list[str], peers: str) -> None:
        before = self.tables.get(name)
        if before is not None:
            expected = f"one table of the name {name}: {before.place} has one"
            change = "rename its proxy, or take it out"
            self._find(line.place, line.text, expected, change)
            return
        text = " ".join(map(_quoted, words))
        table = Table(wire_name, name, line.place, text, peers)
        self.tables[name] = table
        try:
            table.declaration = Declaration.parse(wire_name, text)
        except LocalProtocolError as problem:
            change = "mend it; what only a newer HAProxy knows cannot be declared in peers.ini"
            self._find(line.place, f"{problem.read} in {line.text}", problem.expected, change)
            return
        for warning in table.declaration.warnings:
            self._find(line.place, warning, "what is meant", "write it so", is_note=True)

    # -- what lines make of each other -------------------------------------------

    def _resolve(self) -> None:
        for line, name, sticks in self._rules:
            table = self.tables.get(name)
            if table is None:
                change = f"declare a table {name}, or name one that is there"
                self._find(line.place, line.text, "the name of a table", change)
            elif sticks:
                table.sticking.append(line.place)
        for table in self.tables.values():
            if table.sticking and table.declaration is not None:
                layout = [column("server_id"), column("server_key")]
                stored = {one.name for one in table.declaration.layout.columns}
                more = [one for one in layout if one.name not in stored]
                table.declaration = attrs.evolve(
                    table.declaration.with_columns(more), learnt=(), warnings=()
                )
                if more:
                    table.line += f" store {','.join(one.name for one in more)}"
            if table.peers and table.peers not in self.sections:
                read = f"peers {table.peers} in the line of table {table.name}"
                change = f"add a section peers {table.peers}, or name one that is there"
                self._find(table.place, read, "the name of a peers section", change)

    def _find(
        self, place: Place, read: str, expected: str, change: str, is_note: bool = False
    ) -> None:
        self.findings.append(Finding(place, read, expected, change, is_note))
