"""What of a peers.ini does not fit a peers section, and the other way round."""

from __future__ import annotations

from typing import Final

from peerproto.daemon.config import Config, sections_in
from peerproto.tables.columns import beyond
from peerproto.tables.declaration import Declaration
from peerproto.terminal.check.addresses import Address, from_endpoint
from peerproto.terminal.check.finding import Finding, Place
from peerproto.terminal.check.haproxy import HaproxyConfig, PeersSection, Table
from peerproto.wire.datatypes import Kind

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Comparison:
    """One peers.ini and one peers section."""

    def __init__(
        self, config: HaproxyConfig, section: PeersSection, path: str, text: str, ini: Config
    ) -> None:
        """``ini`` is what the text of the file at ``path`` says."""
        self._config = config
        self._section = section
        self._ini = ini
        self._path = path
        self._ini_sections, _ = sections_in(path, text)
        self._local = config.local_in(section)
        self.findings: list[Finding] = []
        self._node()
        self._peers()
        self._tables()
        self._tls()

    # -- who we are, and who they are ----------------------------------------

    def _node(self) -> None:
        name, section = self._ini.localpeer, self._section
        place = self._place("node", "localpeer")
        if name == self._local:
            expected = "another name than that of this HAProxy"
            self._find(place, f"localpeer = {name}", expected, "give each peer a name of its own")
            return
        line = section.peers.get(name)
        bind = from_endpoint(self._ini.bind)
        if line is None:
            where = bind if bind is not None and bind.host else "<address of this node>:<port>"
            change = "add it at every HAProxy, or correct localpeer"
            read = f"no peer {name} (localpeer, {place})"
            self._find(section.place, read, f"a line: peer {name} {where}", change)
            return
        if line.shard:
            expected = "none: we are sent a part of the keys alone"
            self._find(line.place, f"shard {line.shard}", expected, "take it out")
        if line.address is None or bind is None:
            return
        if not self._reaches(bind, line.address):
            place = self._place("node", "bind")
            change = "correct one of them"
            read, expected = f"bind = {bind}", f"{line.address}, where {line.place} reaches us"
            self._find(place, read, expected, change)

    def _reaches(self, bind: Address, called: Address) -> bool:
        """Whether who calls an address finds us, as far as can be told."""
        if bind.host in _LOOPBACK and called.is_ip and called.host not in _LOOPBACK:
            return False
        return bind.may_be(called)

    def _peers(self) -> None:
        ours, theirs = self._ini.peers_but(self._ini.localpeer), self._section.peers
        for name, line in theirs.items():
            if name == self._ini.localpeer:
                continue
            address = line.address
            if address is None and name == self._local:
                address = self._section.bound
            if name not in ours:
                shown = address if address is not None else "<host>:<port>"
                change = "add it, or the peer gets 504 when it calls"
                expected = f"{name} = {shown}, as in {line.place}"
                self._find(self._place("peers"), f"no peer {name}", expected, change)
                continue
            called = from_endpoint(ours[name])
            if address is not None and called is not None and not called.may_be(address):
                place = self._place("peers", name)
                expected = f"{address}, as in {line.place}"
                self._find(place, f"{name} = {called}", expected, "correct one of them")
        for name in ours:
            if name not in theirs:
                change = f"add peer {name} to the section, or take the line out"
                expected = f"a peer of the section peers {self._section.name}"
                place = self._place("peers", name)
                read = f"{name}, which {self._section.place} does not have"
                self._find(place, read, expected, change)

    # -- tables ----------------------------------------------------------------

    def _tables(self) -> None:
        ours = {one.name: one for one in self._ini.tables}
        shared = self._config.shared_by(self._section)
        for name, table in shared.items():
            if name not in ours:
                self._missing(table)
            elif table.declaration is not None:
                self._compare(table, table.declaration, ours[name])
        for name in ours:
            if name not in shared:
                self._not_shared(name)

    def _missing(self, table: Table) -> None:
        learns = self._ini.learn_tables
        if learns:
            expected = "nothing else: it is adopted as its peer defines it"
            change = f"with a line of its own it is there from the start: {table.wire_name} = …"
        else:
            expected = f"{table.wire_name} = {table.line}, as in {table.place}"
            change = "add it, or set learn-tables = yes"
        read = f"no table {table.wire_name}"
        self._find(self._place("tables"), read, expected, change, is_note=learns)

    def _not_shared(self, name: str) -> None:
        place = self._place("tables", name)
        plain = self._config.tables.get(name)
        read = f"table {name}, which nobody shares by peers {self._section.name}"
        section_table = self._config.tables.get(f"{self._section.name}/{name.rpartition('/')[2]}")
        if section_table is not None and section_table.peers:
            expected = f"{section_table.wire_name}: so a table of a peers section is called"
            self._find(place, read, expected, f"rename it to {section_table.wire_name}")
        elif plain is not None:
            by = f"peers {plain.peers}" if plain.peers else "no peers"
            expected = f"peers {self._section.name} in {plain.place}, where {by} stands"
            self._find(place, read, expected, "add it there, or take the line out")
        else:
            expected = "a table of that name in haproxy.cfg"
            self._find(place, read, expected, "correct the name, or take the line out")

    def _compare(self, table: Table, theirs: Declaration, ours: Declaration) -> None:
        name = table.wire_name
        place = self._place("tables", name)
        key, other = _key(ours), _key(theirs)
        if key != other:
            expected = f"{other}, as in {table.place}: it is not shared"
            self._find(place, f"table {name} of {key}", expected, "make both the same")
        if ours.expire != theirs.expire:
            expected = f"expire {_time(theirs.expire)}, as in {table.place}"
            change = "make both the same: else entries live longer on one side"
            self._find(place, f"table {name} with expire {_time(ours.expire)}", expected, change)
        if ours.size is not None and theirs.size is not None and ours.size != theirs.size:
            smaller = ours.size < theirs.size
            change = "make it as large: else entries are trashed here that are kept there"
            if not smaller:
                change = "nothing: it holds all that HAProxy holds"
            expected = f"size {theirs.size}, as in {table.place}"
            self._find(
                place, f"table {name} of size {ours.size}", expected, change, is_note=not smaller
            )
        for word, mine, its in (
            ("nopurge", ours.nopurge, theirs.nopurge),
            ("recv-only", ours.recv_only, theirs.recv_only),
        ):
            if mine != its:
                read = f"table {name} {'with' if mine else 'without'} {word}"
                expected = f"{'with' if its else 'without'} it, as in {table.place}"
                self._find(place, read, expected, "make both the same, or leave it", is_note=True)
        if ours.brates_factor != theirs.brates_factor:
            expected = f"{theirs.brates_factor}, as in {table.place}"
            read = f"table {name} with brates-factor {ours.brates_factor}"
            self._find(place, read, expected, "make both the same: else byte rates are wrong")
        self._columns(table, theirs, ours, place)

    def _columns(self, table: Table, theirs: Declaration, ours: Declaration, place: Place) -> None:
        name, learns = table.wire_name, self._ini.learn_columns
        for one in beyond(theirs.layout.columns, ours.layout):
            shown = one.name if one.elements is None else f"{one.name} of {one.elements} elements"
            expected = f"{shown}, as in {table.place}"
            change = "nothing: it is stored as peers define it (learn-columns)"
            if not learns:
                change = "add it to store, or set learn-columns = yes"
            read = f"table {name} without {shown}"
            self._find(place, read, expected, change, is_note=learns)
        for one in beyond(ours.layout.columns, theirs.layout):
            expected = f"what HAProxy stores, in {table.place}"
            change = "add it there, if HAProxies are to have it: they drop what they do not store"
            self._find(place, f"table {name} with {one.name}", expected, change, is_note=True)
        their_periods = {one.data_type: one.period for one in theirs.layout.columns}
        for one in ours.layout.columns:
            period = their_periods.get(one.data_type, one.period)
            if one.data_type.kind is Kind.FREQUENCY and period != one.period:
                read = f"table {name} with {one.name} over {_time(one.period or 0)}"
                expected = f"{_time(period or 0)}, as in {table.place}"
                change = "make both the same: else the rates mean something else"
                self._find(place, read, expected, change)

    # -- TLS -----------------------------------------------------------------------

    def _tls(self) -> None:
        section, speaks = self._section, self._ini.credentials is not None
        place = self._place("tls") if speaks else Place(self._path, 1)
        line = section.peers.get(self._ini.localpeer)
        if line is not None and line.tls != speaks and not (line.address and line.address.path):
            if speaks:
                change = "add ssl to the line or to default-server, or take [tls] out"
                self._find(line.place, line.text, f"ssl, as {place} has [tls]", change)
            else:
                change = "add [tls], or take ssl out"
                expected = f"[tls] with a certificate: {line.place} calls us with ssl"
                self._find(place, "no section [tls]", expected, change)
        listens = section.listens_with_tls
        if listens != speaks and (line is None or line.tls == speaks):
            heading = section.listens_at
            if speaks:
                expected = f"ssl in bind or default-bind, as {place} has [tls]"
                self._find(heading, "no ssl", expected, "add it there, or take [tls] out")
            else:
                expected = f"[tls] with a certificate: {heading} takes TLS alone"
                self._find(place, "no section [tls]", expected, "add [tls], or take ssl out")

    # -- places ------------------------------------------------------------------------

    def _place(self, section: str, key: str = "") -> Place:
        found = self._ini_sections[section]
        line = found.lines.get(key)
        return Place(self._path, line.number if line is not None else max(found.number, 1))

    def _find(
        self, place: Place, read: str, expected: str, change: str, is_note: bool = False
    ) -> None:
        self.findings.append(Finding(place, read, expected, change, is_note))


def _key(declaration: Declaration) -> str:
    layout = declaration.layout
    return f"type {layout.key_type.word} (key length {layout.key_length} as announced)"


def _time(milliseconds: int) -> str:
    if not milliseconds:
        return "0 (never)"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
