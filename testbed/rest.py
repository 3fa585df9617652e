"""Requests to a peerproto's HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import attrs
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

from testbed.conversation import Conversation, converse
from testbed.waiting import reactor


def write_token(path: Path, token: str) -> Path:
    """A file with a token, which nobody else may read."""
    path.write_text(token)
    path.chmod(0o600)
    return path


@attrs.frozen
class Reply:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@attrs.define
class Rest:
    """Asks a node, with a connection for each request."""

    place: int | Path
    """A port of the loopback, or the path of a UNIX socket."""
    token: Optional[str] = None

    async def ask(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] = {}
    ) -> Reply:
        """The answer to a request; ``content`` is sent as JSON."""
        lines = {"Host": "localhost", "Connection": "close"}
        if self.token is not None:
            lines["Authorization"] = f"Bearer {self.token}"
        body = b""
        if content is not None:
            body = json.dumps(content).encode()
            lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **headers}.items())
        conversation = await self._connect()
        conversation.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await conversation.closed
        return read(conversation.received)

    async def get(self, path: str) -> Any:
        """What a path has, read.

        :raises AssertionError: the status is another one than 200.
        """
        reply = await self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.json

    async def _connect(self) -> Conversation:
        if isinstance(self.place, int):
            return await converse(self.place)
        endpoint = UNIXClientEndpoint(reactor, str(self.place))
        conversation: Conversation = await connectProtocol(endpoint, Conversation())
        return conversation


def read(data: bytes) -> Reply:
    """An answer, all of which has come.

    :raises AssertionError: it has not.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    assert end, data
    first, *lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while True:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            assert len(body) >= length + 2, "an answer that breaks off"
            whole += body[:length]
            body = body[length + 2 :]
            if not length:
                break
        body = whole
    else:
        assert len(body) == int(headers.get("content-length", "0")), "an answer that breaks off"
    return Reply(int(first.split()[1]), headers, body)
