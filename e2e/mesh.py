"""Processes of HAProxy and of ``twist peers``, and how tests talk to them."""

from __future__ import annotations

import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Optional, Union

import attrs
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

reactor: Any = installed_reactor

PATIENCE = 30.0
"""Seconds after which a condition counts as never met."""


def _first_ephemeral() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


_ports = iter(random.sample(range(15_000, _first_ephemeral()), 10_000))


def free_port() -> int:
    """A loopback port that nobody uses now, and that no outgoing connection will get.

    Processes are killed and started again on their ports: among the ephemeral ones
    that the system picks, a connection may have taken theirs meanwhile.
    """
    for port in _ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("all ports were given out")


async def pause(seconds: float) -> None:
    """Let other things happen."""
    await deferLater(reactor, seconds)


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE
) -> Any:
    """Wait until ``condition`` gives something true: that.

    An error in it counts as not true, since processes come and go.
    """
    deadline = reactor.seconds() + patience
    result: Any = None
    while reactor.seconds() < deadline:
        try:
            result = await condition()
        except (OSError, AssertionError, KeyError, ConnectionError) as problem:
            result = problem
        except Exception as problem:
            if not type(problem).__module__.startswith("twisted.internet.error"):
                raise
            result = problem
        if result and not isinstance(result, Exception):
            return result
        await pause(0.05)
    raise AssertionError(f"{what}: not within {patience} s; the last result was {result!r}")


async def endlessly(
    what: Callable[[int], Awaitable[None]], stop: list[bool], every: float = 0.002
) -> int:
    """Do something again and again until ``stop`` has something in it: how often."""
    times = 0
    while not stop:
        await what(times)
        times += 1
        await pause(every)
    return times


class Conversation(Protocol):
    """A connection that a test speaks on, byte for byte."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def stop_reading(self) -> None:
        """Leave everything that comes in the kernel's buffers."""
        transport: Any = self.transport
        transport.pauseProducing()

    def hang_up(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


async def converse(port: int) -> Conversation:
    """Connect to a port."""
    conversation: Conversation = await connectProtocol(
        TCP4ClientEndpoint(reactor, "127.0.0.1", port), Conversation()
    )
    return conversation


async def get(port: int, path: str = "/") -> int:
    """The status of a request to a HAProxy."""
    conversation = await converse(port)
    conversation.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    await conversation.closed
    return int(conversation.received.split(b" ")[1])


Entry = dict[str, Union[int, str]]

_VALUE = re.compile(r"(\w+)(?:\(\d+\))?=(\S*)")


def parse_table(text: str) -> dict[str, Entry]:
    """The entries that a ``show table`` prints, by key."""
    entries: dict[str, Entry] = {}
    for line in text.splitlines():
        match = re.match(r"0x[0-9a-f]+: key=((?:\\.|[^\s\\])*) (.*)", line)
        if match:
            entries[match[1]] = {
                name: int(value) if re.fullmatch(r"-?\d+", value) else value
                for name, value in _VALUE.findall(match[2])
                if name not in ("use", "shard")
            }
    return entries


async def ended(process: subprocess.Popen[bytes], name: str) -> int:
    """Wait for the end of a process: its exit status."""

    async def is_over() -> bool:
        return process.poll() is not None

    await until(is_over, f"{name} ends")
    return process.returncode


@attrs.define(eq=False)
class Node:
    """What HAProxy and peerproto have in common: a peer with a runtime socket."""

    name: str
    folder: Path
    port: int = attrs.Factory(free_port)
    process: Optional[subprocess.Popen[bytes]] = None

    alias: str = attrs.Factory(lambda self: self.name, takes_self=True)
    """What its files are called."""

    place: str = ""
    """Where peers reach it, if not at its port: host and port, or the path of a UNIX socket."""

    @property
    def address(self) -> str:
        """Where peers reach it."""
        return self.place or f"127.0.0.1:{self.port}"

    @property
    def runtime(self) -> Path:
        return self.folder / f"{self.alias}.sock"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.alias}.log"

    def spawn(self, *command: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process: its exit status."""
        process = self.process
        assert process is not None
        process.send_signal(how)
        status = await ended(process, self.name)
        self.process = None
        return status

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def ask(self, command: str) -> str:
        """The answer to a runtime command."""
        conversation: Conversation = await connectProtocol(
            UNIXClientEndpoint(reactor, str(self.runtime)), Conversation()
        )
        conversation.send(command.encode() + b"\n")
        await conversation.closed
        return conversation.received.decode()

    async def do(self, command: str) -> None:
        """A runtime command that has nothing to say if it goes well."""
        answer = await self.ask(command)
        assert not answer.strip(), answer

    async def table(self, name: str) -> dict[str, Entry]:
        return parse_table(await self.ask(f"show table {name}"))


@attrs.define(eq=False)
class HAProxy(Node):
    """A HAProxy with a web frontend."""

    tables: str = ""
    frontend: str = ""
    web: int = attrs.Factory(free_port)
    origin: int = attrs.Factory(free_port)
    tls: str = ""
    """What follows ``ssl`` where it listens, if peers speak TLS."""
    calling_tls: str = ""
    """What follows it where this calls, if that differs."""

    def start(self, peers: list[Node]) -> None:
        path = self.folder / f"{self.alias}.cfg"
        path.write_text(self.configuration(peers))
        executable = shutil.which("haproxy")
        assert executable, "these tests need HAProxy; `make test` installs it where it may"
        self.spawn(executable, "-db", "-f", str(path))

    def configuration(self, peers: list[Node]) -> str:
        return f"""\
global
    localpeer {self.name}
    stats socket {self.runtime} mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
peers mesh
{self.peer_lines(peers)}
    table inpeers type integer size 1k expire 1h store gpt0,gpc0,gpc1
{self.tables.format(origin=self.origin)}
frontend web
    bind 127.0.0.1:{self.web}
{self.frontend}
frontend origin
    bind 127.0.0.1:{self.origin}
    http-request return status 200
"""

    def peer_lines(self, peers: list[Node]) -> str:
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

    async def up(self) -> None:
        """Wait until it answers."""

        process = self.process
        assert process is not None

        async def answers() -> str:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log.read_text()}")
            return await self.ask("show info")

        await until(answers, f"{self.name} starts")


@attrs.define(eq=False)
class Peerproto(Node):
    """``twist peers``."""

    settings: str = ""
    """More lines for [node]."""
    declared: str = ""
    """Lines for [tables]."""
    more: str = ""
    """Further sections."""

    def start(self, peers: list[Node], *options: str) -> None:
        self.configure(peers)
        self.spawn(
            str(Path(sys.executable).parent / "twist"),
            "--log-format=text",
            "peers",
            "--config",
            str(self.file),
            *options,
        )

    @property
    def file(self) -> Path:
        return self.folder / f"{self.alias}.ini"

    def configure(self, peers: list[Node]) -> None:
        """Write the configuration file."""
        lines = "\n".join(f"{peer.name} = {peer.address}" for peer in peers)
        self.file.write_text(f"""\
[node]
localpeer = {self.name}
bind = {self.address}
runtime = unix:{self.runtime}:mode=600
{self.settings}
[peers]
{lines}
[tables]
{self.declared}
{self.more}
""")

    async def in_step(self, *names: str) -> None:
        """Wait until it has sessions with these peers, and nothing to learn or to teach."""

        async def is_in_step() -> bool:
            answer = await self.ask("show peers")
            return "resync=up_to_date" in answer and all(
                re.search(rf"id={name}\((?:.*\n){{1,5}}?.*in_step=yes", answer) for name in names
            )

        await until(is_in_step, f"{self.name} is in step with {names}")
