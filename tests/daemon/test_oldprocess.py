from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from peerproto.daemon.oldprocess import OldProcess, OldProcessError
from tests.folders import FolderTestCase

CHILD = """
import os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: print("told", flush=True))
if "WAITS" in os.environ:
    os.close(int(os.environ["WAITS"]))
    os.wait()
    sys.exit()
tcp = socket.create_server(("127.0.0.1", 0))
six = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
unix = socket.socket(socket.AF_UNIX)
unix.bind("s.1.tmp"); unix.listen(); os.rename("s.1.tmp", "s")
deaf = socket.socket(socket.AF_UNIX)
deaf.bind("deaf")
if "worker" in sys.argv:
    ready, waits = os.pipe()
    if os.fork():
        for one in (tcp, six, unix, deaf):
            one.close()
        os.set_inheritable(waits, True)
        os.environ["WAITS"] = str(waits)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[-1], "worker", sys.argv[-1]])
    os.close(waits)
    os.read(ready, 1)
print(tcp.getsockname()[1], six.getsockname()[1], flush=True)
while sys.stdin.readline():
    pass
"""
"""Listens; or, as a HAProxy master, has a worker that does, and runs its program anew."""


class OldProcessTests(FolderTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.process = self.start()

    def start(self, *arguments: str, program: str = CHILD) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        self.tcp, self.six = map(int, self.line(process).split())
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        if process.stdin is not None and not process.stdin.closed:
            process.communicate()

    def line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def old(self, pid: int) -> OldProcess:
        old = OldProcess(pid)
        self.addCleanup(old.close)
        return old

    def refused(self, pid: int) -> str:
        return str(self.assertRaises(OldProcessError, OldProcess, pid))

    def test_listens(self) -> None:
        """A process that listens at an address, exactly or at all of the machine's, is one to
        take over from, and is told so by SIGUSR1."""
        old = self.old(self.process.pid)
        old.check(("127.0.0.1", self.tcp))
        old.check(("0.0.0.0", self.tcp))
        old.check(("", self.tcp))
        for host in ("::1", "127.0.0.1", "::ffff:127.0.0.1", "fe80::1%lo"):
            old.check((host, self.six))
        old.check("s")
        old.check(os.path.abspath("s"))
        old.stop_softly()
        self.assertEqual(self.line(self.process), "told\n")

    def test_does_not_listen(self) -> None:
        """A process that listens elsewhere, or not at all, is not."""
        old = self.old(self.process.pid)
        with socket.create_server(("127.0.0.1", 0)) as ours:
            for address, where in (
                (ours.getsockname(), "127.0.0.1:"),
                (("192.0.2.1", self.tcp), "192.0.2.1:"),
                (("::1", self.tcp), "::1:"),
                (("127.0.0.1", 9), "127.0.0.1:9"),
                ("t", "t"),
                ("deaf", "deaf"),
            ):
                with self.assertRaises(OldProcessError) as caught:
                    old.check(address)
                said = str(caught.exception)
                self.assertIn(f"process {self.process.pid} does not listen at {where}", said)
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.addCleanup(other.communicate)
        self.assertRaises(OldProcessError, self.old(other.pid).check, ("127.0.0.1", self.tcp))

    def test_master(self) -> None:
        """A process whose worker listens, as HAProxy's master has them, is one as well; after a
        reload, too, when the worker was started with more options than the master has."""
        self.end(self.process)
        for more in ((), ("-sf", "12", "13", "-x", "sockpair@3"), ("-x", "s", "-st", "12")):
            for path in ("s", "deaf"):
                os.unlink(path)
            master = self.start("worker", *more, CHILD)
            self.old(master.pid).check(("127.0.0.1", self.tcp))
            self.end(master)

    def test_no_master(self) -> None:
        """A process whose child listens, but is another program, is not: it would not pass the
        signal on."""
        self.end(self.process)
        for path in ("s", "deaf"):
            os.unlink(path)
        program = "import subprocess, sys; subprocess.run(sys.argv[1:])"
        parent = self.start(sys.executable, "-c", CHILD, program=program)
        with self.assertRaises(OldProcessError):
            self.old(parent.pid).check(("127.0.0.1", self.tcp))

    def test_no_such_ids(self) -> None:
        """Groups of processes, all of them, and ourselves: refused, and nobody is signalled."""
        for pid in (0, -1, -os.getpgrp(), -self.process.pid, os.getpid()):
            said = f"--soft-finish: read '{pid}', expected the id of another process"
            self.assertEqual(self.refused(pid), said)

    def test_no_such_process(self) -> None:
        """A process that has ended is named, with the reason."""
        self.end(self.process)
        self.assertEqual(
            self.refused(self.process.pid), f"process {self.process.pid}: No such process"
        )

    def test_ends_meanwhile(self) -> None:
        """A process that ended since it was looked at is not mistaken for another one."""
        old = self.old(self.process.pid)
        self.end(self.process)
        self.assertRaises(OldProcessError, old.stop_softly)
        self.assertRaises(OldProcessError, old.check, ("127.0.0.1", self.tcp))

    def test_one_at_a_time(self) -> None:
        """While one process takes over, another one cannot."""
        code = (
            "import sys; from peerproto.daemon.oldprocess import OldProcess\n"
            "old = OldProcess(int(sys.argv[1])); print('taken', flush=True); input()"
        )
        root = str(Path(sys.modules["peerproto"].__file__ or "").parent.parent)
        first = subprocess.Popen(
            [sys.executable, "-c", code, str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        self.addCleanup(self.end, first)
        self.assertEqual(self.line(first), "taken\n")
        self.assertEqual(
            self.refused(self.process.pid),
            f"process {self.process.pid}: another process is taking over from it already",
        )
        first.communicate("\n")
        self.old(self.process.pid)
