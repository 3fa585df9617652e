from __future__ import annotations

import os
import sys

from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon import shortage


class ShortageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[bytes] = []
        self.ended: list[int] = []
        self.patch(sys, "excepthook", sys.excepthook)
        self.patch(sys, "__excepthook__", lambda *_: None)
        added: list[ILogObserver] = []
        patched = self.patch(globalLogPublisher, "addObserver", added.append)
        shortage.end_without_memory()
        patched.restore()
        for observer in added:
            globalLogPublisher.addObserver(observer)
            self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.patch(os, "write", self.write)
        self.patch(os, "_exit", self.ended.append)

    def write(self, _: int, text: bytes) -> None:
        self.said.append(text)

    def assert_ended(self) -> None:
        self.assertEqual(self.ended, [shortage.STATUS])
        (said,) = self.said
        self.assertIn(b"there is not enough memory", said)
        self.assertEqual(said.count(b"\n"), 1)

    def test_logged(self) -> None:
        """A MemoryError that is logged, as of a session, ends the process with one line."""
        Logger().failure("it fails", Failure(MemoryError()))
        self.flushLoggedErrors(MemoryError)
        self.assert_ended()

    def test_in_the_reactor(self) -> None:
        """So does one that Twisted logs in its older way."""
        log.err(Failure(MemoryError()))
        self.flushLoggedErrors(MemoryError)
        self.assert_ended()

    def test_uncaught(self) -> None:
        """So does one that nobody catches."""
        sys.excepthook(MemoryError, MemoryError(), None)
        self.assert_ended()

    def test_others(self) -> None:
        """No other error does."""
        Logger().failure("it fails", Failure(ValueError()))
        sys.excepthook(ValueError, ValueError(), None)
        self.flushLoggedErrors(ValueError)
        self.assertEqual((self.said, self.ended), ([], []))
