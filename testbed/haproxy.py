"""HAProxies as nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import attrs

from testbed.node import Node, ended
from testbed.ports import free_port
from testbed.programs import Program, default
from testbed.waiting import until


@attrs.define(eq=False)
class HAProxy(Node):
    """A HAProxy, with a web frontend unless told otherwise."""

    tables: str = ""
    """Backends and their tables; ``{origin}`` in them is the port of a web server."""
    frontend: str = ""
    """Rules of the frontend."""
    section: str = "    table inpeers type integer size 1k expire 1h store gpt0,gpc0,gpc1"
    """More lines of the peers section."""
    serves: bool = True
    """Whether it has the frontend, and the web server behind it."""
    web: int = attrs.Factory(free_port)
    origin: int = attrs.Factory(free_port)
    tls: str = ""
    """What follows ``ssl`` where it listens, if peers speak TLS."""
    calling_tls: str = ""
    """What follows it where this calls, if that differs."""
    send_buffer: Optional[int] = None
    """Bytes that the system takes from it for each connection before it has to wait; ``None`` for
    as many as the system likes, which may be a whole lesson of some MB."""
    program: Program = attrs.Factory(default)
    mode: tuple[str, ...] = ("-db",)
    """Options that say how its processes run: in the foreground, and one of them."""

    def start(self, peers: Sequence[Node], *options: str) -> None:
        """Start a process that knows these peers, itself among them."""
        self.configure(peers)
        self.spawn(*self.program.command, *self.mode, "-f", str(self.file), *options)

    async def reload(self, peers: Sequence[Node]) -> int:
        """Start a process that takes over from the one there is: the old one's exit status.

        As people reload it: ``-sf`` tells the old process to finish and to teach the new one.
        """
        old = self.process
        assert old is not None
        self.start(peers, "-sf", str(old.pid))
        return await ended(old, f"the old process of {self.name}")

    @property
    def file(self) -> Path:
        """Its haproxy.cfg."""
        return self.folder / f"{self.alias}.cfg"

    def configure(self, peers: Sequence[Node]) -> None:
        """Write the configuration file."""
        self.file.write_text(self.configuration(peers))

    def configuration(self, peers: Sequence[Node]) -> str:
        """The text of haproxy.cfg."""
        text = f"""\
global
    localpeer {self.name}
    stats socket {self.runtime} mode 600 level admin
{self.tuning}
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
peers mesh
{self.peer_lines(peers)}
{self.section}
{self.tables.format(origin=self.origin)}
"""
        if not self.serves:
            return text
        return f"""\
{text}
frontend web
    bind 127.0.0.1:{self.web}
{self.frontend}
frontend origin
    bind 127.0.0.1:{self.origin}
    http-request return status 200
"""

    @property
    def tuning(self) -> str:
        """More lines of the global section."""
        if self.send_buffer is None:
            return ""
        ways = ("client", "server")
        return "\n".join(f"    tune.sndbuf.{way} {self.send_buffer}" for way in ways)

    def peer_lines(self, peers: Sequence[Node]) -> str:
        """How the peers are reached, this one included."""
        if not self.tls:
            return "\n".join(f"    peer {peer.name} {peer.address}" for peer in peers)
        remote = [peer for peer in peers if peer.name != self.name]
        return "\n".join(
            [
                f"    bind {self.address} ssl {self.tls}",
                f"    default-server ssl {self.calling_tls or self.tls}",
                f"    server {self.name}",
                *(f"    server {peer.name} {peer.address}" for peer in remote),
            ]
        )

    async def counts_itself_up_to_date(self) -> bool:
        """Whether it waits for nobody to teach it."""
        found = re.search(r"flags=0x\w*[37bf] resync_timeout=<PAST>", await self.ask("show peers"))
        return bool(found)

    async def settled(self, *names: str) -> None:
        """Wait until it waits for nobody to teach it, and has sessions with these peers."""

        async def is_settled() -> bool:
            answer = await self.ask("show peers")
            for name in names:
                assert re.search(rf"id={name}\(remote,active\).* last_status=ESTA", answer), answer
            return await self.counts_itself_up_to_date()

        await until(is_settled, f"{self.name} has settled with {names}")

    async def sent_all(self) -> bool:
        """True, where each peer with a session was sent all changes.

        :raises AssertionError: it was not.
        """
        for peer in re.split(r"\n  (?=0x)", await self.ask("show peers"))[1:]:
            if "(remote,active)" in peer:
                sent = re.findall(r"last_pushed=(\d+) ", peer)
                made = re.findall(r" localupdate=(\d+) ", peer)
                assert made and sent == made, peer
        return True
