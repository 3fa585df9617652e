"""A node in memory, and both ways to it: what the program says is what it says to people."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any, Optional, Union

import attrs
import httpx
from click.testing import CliRunner, Result
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport

from peerproto.runtime.protocol import RuntimeProtocol, runtime_commands
from peerproto.terminal.http import HttpNode
from peerproto.terminal.node import Node
from peerproto.terminal.program import program
from peerproto.terminal.runtime import RuntimeNode
from tests.http.client import WRITER, HttpTestCase, is_whole, parse


@attrs.frozen
class _Connection:
    """A connection to the runtime socket of a test's node."""

    case: TerminalTestCase
    protocol: RuntimeProtocol
    transport: StringTransport

    def sendall(self, data: bytes) -> None:
        with self.case.lock:
            self.protocol.dataReceived(data)
            self.case.wait(lambda: bool(self.transport.disconnecting))

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.transport.value())

    def close(self) -> None:
        pass


@attrs.frozen
class Requests(httpx.BaseTransport):
    """Carries requests to the HTTP of a test's node."""

    case: TerminalTestCase

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx``."""
        content = request.read()
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        first = f"{request.method} {request.url.raw_path.decode('ascii')} HTTP/1.1"
        head = "\r\n".join([first, *lines, "", ""])
        channel, transport = self.case.connect()
        channel.dataReceived(head.encode("ascii") + content)
        self.case.wait(lambda: is_whole(transport.value()))
        channel.connectionLost(connectionDone)
        reply, _ = parse(transport.value())
        headers = {k: v for k, v in reply.headers.items() if k != "transfer-encoding"}
        return httpx.Response(reply.status, headers=headers, content=reply.body)


class TerminalTestCase(HttpTestCase):
    """Has a node, and the ways to it by their names."""

    def setUp(self) -> None:
        super().setUp()
        self.lock = threading.RLock()
        """Held while the node is asked: the screen does so in threads."""
        self.ways: Mapping[str, Node] = {"runtime": self.by_runtime(), "http": self.by_http()}

    def by_runtime(self) -> RuntimeNode:
        """The node by its runtime socket."""
        return RuntimeNode("/run/node.sock", connect=self.connection)

    def by_http(self, token: Optional[str] = WRITER) -> HttpNode:
        """The node by HTTP."""
        where = "http://localhost:8404"
        return HttpNode(where, where, token, transport=Requests(self))

    def connection(self, path: str, patience: float) -> Any:
        commands = runtime_commands(self.service)
        protocol = RuntimeProtocol(commands, self.clock, self.service.mesh.turns)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return _Connection(self, protocol, transport)

    def run_program(
        self, *words: str, way: str = "runtime", answers: Union[str, bytes] = ""
    ) -> Result:
        """Run a command of the program."""
        return CliRunner().invoke(program, words, obj=self.ways[way], input=answers)

    def says(self, *words: str) -> str:
        """What a command prints, which is the same by each way to the node."""
        results = [self.run_program(*words, way=way) for way in self.ways]
        for one in results:
            self.assertEqual((one.exit_code, one.stderr), (0, ""), one.output)
        self.assertEqual(results[0].stdout, results[1].stdout)
        return results[0].stdout

    def fails(self, *words: str, status: int = 1) -> str:
        """What a command says that cannot be done, by each way to the node."""
        results = [self.run_program(*words, way=way) for way in self.ways]
        for one in results:
            self.assertEqual((one.exit_code, one.stdout), (status, ""), one.output)
        self.assertEqual(results[0].stderr, results[1].stderr)
        return results[0].stderr
