"""The peers.ini that fits a peers section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Optional

from peerproto.daemon.config import DEFAULT_BIND, Config, ConfigError
from peerproto.terminal.check.addresses import Address
from peerproto.terminal.check.finding import Finding, Place
from peerproto.terminal.check.haproxy import HaproxyConfig, PeersSection, Table
from peerproto.terminal.check.ourselves import Ourselves
from peerproto.wire.printable import printable

_OUR_ADDRESS: Final = "<address of this machine>:10000"


class Written:
    """The text of a peers.ini, and what does not fit into one."""

    def __init__(self, config: HaproxyConfig, section: PeersSection, ourselves: Ourselves) -> None:
        self._config = config
        self._section = section
        self._ourselves = ourselves
        self._local = config.local_in(section)
        self.findings: list[Finding] = []
        self.text = "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        section, ourselves = self._section, self._ourselves
        yield f"# peers.ini for the section peers {printable(section.name)} of {section.place}"
        guess = " This is a guess: --localpeer NAME says another." if ourselves.is_guess else ""
        yield f"# We are {printable(ourselves.name)}: {printable(ourselves.why)}.{guess}"
        yield "[node]"
        place = section.peers[ourselves.name].place if ourselves.name in section.peers else None
        yield from self._entry("node", "localpeer", ourselves.name, place or section.place)
        yield from self._bind()
        yield ""
        yield "[peers]"
        for name in section.peers:
            if name != ourselves.name:
                yield from self._peer(name)
        yield ""
        yield "[tables]"
        shared = self._config.shared_by(section)
        if not shared:
            expected = f"tables with peers {section.name} in their line"
            self._find(
                "no table that is shared by it", expected, "add that to what is to be shared"
            )
        for table in shared.values():
            yield from self._table(table)
        local = [one.name for one in self._config.tables.values() if not one.peers]
        if local:
            yield f"# Not shared, since no peers are named: {printable(', '.join(local))}"
        called = [one for one in section.peers.values() if one.name != self._local]
        if any(one.tls for one in called) or section.listens_with_tls:
            yield ""
            yield from self._tls()

    def _bind(self) -> Iterator[str]:
        section, name = self._section, self._ourselves.name
        line = section.peers.get(name)
        if line is None:
            expected = f"a line: peer {name} {_OUR_ADDRESS}"
            change = "add it to the section at every HAProxy, or name another peer by --localpeer"
            self._find(f"no peer {name}", expected, change)
            yield f"# HAProxy needs a line: peer {printable(name)} {_OUR_ADDRESS}"
            yield "# Write here where peers reach us; this is for peers on this machine alone."
            yield f"bind = {DEFAULT_BIND}"
            return
        if line.shard:
            read, expected = f"shard {line.shard}", "none: we are sent a part of the keys alone"
            change = "take it out"
            self.findings.append(Finding(line.place, read, expected, change))
        if line.address is None:
            if not line.text_of_address:
                change = f"give {name} one"
                expected = "an address and a port"
                self.findings.append(Finding(line.place, line.text, expected, change))
            yield f"bind = {DEFAULT_BIND}"
            return
        address = line.address
        if not address.path and not address.is_ip:
            if address.host:
                where = f"{printable(str(address))} in {line.place}"
                yield f"# {where}; a name may have several addresses here"
            address = Address("", address.port)
        yield from self._entry("node", "bind", str(address), line.place)

    def _peer(self, name: str) -> Iterator[str]:
        section = self._section
        line = section.peers[name]
        address = line.address
        if address is None and name == self._local:
            address = section.bound
        if address is None or (not address.host and not address.path):
            if address is not None or not line.text_of_address:
                where = f"{name} listens at all addresses, {address}"
                read = line.text if address is None else where
                change = f"write where we reach it into [peers]: {name} = host:port"
                expected = "an address that we can call"
                self.findings.append(Finding(line.place, read, expected, change))
            port = address.port if address is not None else 10000
            yield f"# Where we reach {printable(name)} is not in {line.place}; fill it in:"
            yield f"# {printable(name)} = <host>:{port}"
            return
        if line.shard:
            shard = printable(line.shard)
            yield f"# {line.place}: HAProxies teach it the keys of shard {shard} alone"
        yield from self._entry("peers", name, str(address), line.place)

    def _table(self, table: Table) -> Iterator[str]:
        yield f"# {table.place}"
        if table.declaration is None:
            yield f"# {printable(table.wire_name)} = {printable(table.line)}"
            return
        if table.sticking:
            where = ", ".join(map(str, table.sticking))
            yield f"# server_id and server_key are stored for the stick rules in {where}"
        line = re.sub(r" peers \S+", "", table.line)
        yield from self._entry("tables", table.wire_name, line, table.place)

    def _entry(self, section: str, key: str, value: str, place: Place) -> Iterator[str]:
        """A line; it is a mere comment if peers.ini does not take it."""
        line = f"{key} = {value}"
        try:
            config = Config.parse("peers.ini", f"[{section}]\n{line}\n")
            ok = line.isprintable() and (section != "peers" or list(config.peers) == [key])
            expected = "letters, digits and signs that a line of peers.ini has"
        except ConfigError as problem:
            ok, expected = False, problem.expected
        if ok:
            yield line
            return
        change = "name it otherwise in haproxy.cfg"
        if section == "tables":
            change = f"{change}, or let it be adopted as the peer defines it (learn-tables = yes)"
        self.findings.append(Finding(place, line, expected, change))
        yield f"# {printable(line)}"

    def _tls(self) -> Iterator[str]:
        section = self._section
        words = section.tls_words
        yield "[tls]"
        where = f"; this HAProxy has {printable(words['crt'])}" if "crt" in words else ""
        yield f"# The certificate of this node, and its key{where}."
        yield "certificate = peerproto.pem"
        verify = words.get("verify", "required" if "ca-file" in words else "none")
        if "ca-file" in words:
            yield f"ca-file = {printable(words['ca-file'])}"
        yield f"verify = {'none' if verify in ('none', 'optional') else 'required'}"
        plain = [one for one in section.peers.values() if not one.tls and one.name != self._local]
        for line in plain:
            change = "add ssl to the line or to default-server: with [tls], all peers speak it"
            self.findings.append(Finding(line.place, line.text, "ssl", change))
        if not section.listens_with_tls:
            change = "add ssl to bind or default-bind: with [tls], we speak it whoever calls"
            read = f"peers {section.name} without ssl where it listens"
            self.findings.append(Finding(section.listens_at, read, "ssl", change))

    def _find(self, read: str, expected: str, change: str) -> None:
        self.findings.append(Finding(self._section.place, read, expected, change))


def written(
    config: HaproxyConfig, section: PeersSection, ourselves: Ourselves
) -> tuple[str, list[Finding]]:
    """A peers.ini for a node of this name, and what is missing for it."""
    made = Written(config, section, ourselves)
    return made.text, made.findings


def of_section(section: PeersSection) -> Optional[Finding]:
    """What is to be known of a section as such."""
    if section.disabled is not None:
        change = "take it out, if tables are to be shared"
        return Finding(section.disabled, "disabled", "a section that is enabled", change)
    return None
