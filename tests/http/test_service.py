"""The service: where it listens, and when it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from peerproto import StickTableService
from peerproto.http.config import HttpSettings
from peerproto.http.service import HttpService
from peerproto.http.tokens import Token


class Endpoint:
    """An endpoint that cannot be listened at."""

    def listen(self, factory: object) -> Any:
        raise CannotListenError("127.0.0.1", 8404, OSError("it is taken"))


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.tables = StickTableService("app", reactor=self.reactor)
        endpoint = serverFromString(self.reactor, "tcp:8404:interface=127.0.0.1")
        self.http = HttpService(self.tables, endpoint, HttpSettings(), self.reactor)

    def test_listens(self) -> None:
        """It answers where it listens, until it stops; connections end then."""
        self.http.startService()
        port, factory, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (8404, "127.0.0.1"))
        channel = factory.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b'{"alive":true}', transport.value())
        self.successResultOf(self.http.stopService())
        self.assertTrue(transport.disconnecting)
        self.successResultOf(self.http.stopService())

    def test_taken(self) -> None:
        """An address that is taken is told at once."""
        endpoint: Any = Endpoint()
        http = HttpService(self.tables, endpoint, HttpSettings(), self.reactor)
        self.assertRaises(CannotListenError, http.startService)

    def test_settings(self) -> None:
        """Other settings hold from the next request on."""
        self.assertTrue(self.http.access.settings.reads_freely)
        self.http.take(HttpSettings(readers=Token(b"r")))
        self.assertFalse(self.http.access.settings.reads_freely)
