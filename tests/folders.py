"""Tests in a folder of their own."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase


class FolderTestCase(SynchronousTestCase):
    """Runs each test in a folder that is empty: paths of UNIX sockets are short, and trial's
    folders are not."""

    def setUp(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        before = os.getcwd()
        os.chdir(folder)
        self.addCleanup(os.chdir, before)
