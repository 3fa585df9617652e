"""The thread in which the file is read and written."""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from peerproto.storage.executor import WriterThread


class ThreadTests(TestCase):
    def test_order(self) -> Deferred[None]:
        """Work is done in the order in which it was given, in one thread that is not ours; what
        fails fails its own Deferred alone."""
        thread = WriterThread(reactor)
        done: list[tuple[int, int]] = []

        def work(number: int) -> int:
            done.append((number, threading.get_ident()))
            return 10 // (number - 3)

        results = [thread.do(work, number) for number in range(6)]
        failure = self.assertFailure(results.pop(3), ZeroDivisionError)
        thread.stop()

        def check(found: list[int]) -> None:
            self.assertEqual(found, [-4, -5, -10, 10, 5])
            self.assertEqual([number for number, _ in done], list(range(6)))
            self.assertEqual(len({ident for _, ident in done}), 1)
            self.assertNotEqual(done[0][1], threading.get_ident())

        checked = gatherResults(results).addCallback(check)
        return checked.addCallback(lambda _: failure).addCallback(lambda _: None)
