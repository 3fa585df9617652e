from __future__ import annotations

import os
import socket

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.systemd import Notifier, Readiness
from peerproto.testing import MemoryNetwork


class ReadinessTests(SynchronousTestCase):
    """What arrives at the socket that systemd would read."""

    def setUp(self) -> None:
        address = "\0peerproto-" + self.mktemp()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": "@" + address[1:]}
        self.network = MemoryNetwork()
        self.node = self.network.peer("us", calls=())
        self.readiness = self.make(self.environment)

    def make(self, environment: dict[str, str]) -> Readiness:
        return Readiness(self.node, self.network.clock, Notifier(environment))

    def said(self) -> list[str]:
        notices = []
        while True:
            try:
                notices.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return notices

    def test_ready(self) -> None:
        """Ready once it is up to date, not before; the status says where it stands, and is
        told when it changes; stopping when it stops."""
        self.network.start()
        self.readiness.startService()
        waiting = "STATUS=waiting for a peer to learn from; 0 of 0 peers connected, 0 tables"
        self.network.advance(4)
        self.assertEqual(self.said(), [waiting])
        self.network.advance(2)
        self.assertEqual(
            self.said(), ["READY=1", "STATUS=up to date; 0 of 0 peers connected, 0 tables"]
        )
        self.network.advance(10)
        self.assertEqual(self.said(), [])
        self.readiness.stopService()
        self.network.stop()
        self.assertEqual(self.said(), ["STOPPING=1\nSTATUS=stopping"])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_handed_over(self) -> None:
        """A process that another one replaces says nothing of its own end."""
        self.network.start()
        self.readiness.startService()
        self.network.advance(6)
        self.said()
        self.readiness.hand_over()
        self.readiness.stopService()
        self.network.stop()
        self.assertEqual(self.said(), [])

    def test_taking_over(self) -> None:
        """A process that replaces another one says that it is the main one."""
        self.readiness.take_over()
        self.assertEqual(self.said(), [f"MAINPID={os.getpid()}"])

    def test_nobody_to_tell(self) -> None:
        """Without systemd nothing is looked at, and nothing is sent."""
        self.readiness = self.make({})
        self.network.start()
        calls = len(self.network.clock.getDelayedCalls())
        self.readiness.startService()
        self.assertEqual(len(self.network.clock.getDelayedCalls()), calls)
        self.readiness.stopService()
        self.network.stop()

    def test_nobody_listens(self) -> None:
        """A socket that nobody reads is logged, and hurts nothing."""
        with capturedLogs() as logs:
            Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).tell(READY=1)
        (event,) = logs
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertIn("No such file", str(event["why"]))
