from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from peerproto.daemon.pathlock import alone_at
from peerproto.daemon.sharing import Address, SharingReactor
from tests.folders import FolderTestCase


class Listeners(MemoryReactorClock):
    """A reactor that adopts ports without looking at them."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[socket.socket] = []

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> Any:
        self.adopted.append(socket.socket(fileno=os.dup(fd)))
        return self.adopted[-1]

    def close(self) -> None:
        for one in self.adopted:
            one.close()


class Looking(Factory):
    """Looks at a folder in the moment in which somebody begins to listen."""

    protocol = Protocol

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: list[int] = []

    def doStart(self) -> None:
        self.seen += [mode(path) for path in self._folder.iterdir()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class SharingTestCase(FolderTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path()
        self.path = Path("s")
        self.reactor = Listeners()
        self.addCleanup(self.reactor.close)

    def sharing(self, beside_old: bool = False, **more: Any) -> SharingReactor:
        return SharingReactor(self.reactor, beside_old, **more)

    def listen(self, sharing: SharingReactor, where: str, place: bool = True) -> IListeningPort:
        """What an endpoint with this description gives."""
        listening = serverFromString(sharing, where).listen(Factory.forProtocol(Protocol))
        port: IListeningPort = self.successResultOf(listening)
        if place:
            sharing.place()
        self.addCleanup(self.close, port)
        return port

    def close(self, port: Any) -> None:
        if hasattr(port, "stopListening"):
            port.stopListening()
            self.reactor.advance(0)

    def refused(self, sharing: SharingReactor, where: str) -> str:
        listening = serverFromString(sharing, where).listen(Factory())
        return str(self.failureResultOf(listening, CannotListenError).value)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.path))
            except OSError:
                return False
            return True


class UNIXTests(SharingTestCase):
    def test_mode(self) -> None:
        """A socket has the mode that was asked for, whatever the umask, from the moment in
        which somebody listens, and keeps it."""
        for umask in (0, 0o022, 0o077):
            before = os.umask(umask)
            try:
                for wanted in (0o600, 0o660, 0o666):
                    sharing, factory = self.sharing(), Looking(self.folder)
                    endpoint = serverFromString(sharing, f"unix:s:mode={wanted:o}")
                    port = self.successResultOf(endpoint.listen(factory))
                    self.assertEqual(factory.seen, [wanted])
                    sharing.place()
                    self.assertEqual(mode(self.path), wanted)
                    self.close(port)
                    self.assertEqual(list(self.folder.iterdir()), [])
            finally:
                self.assertEqual(os.umask(before), umask)

    def test_bound_without_any_right(self) -> None:
        """Between bind and chmod nobody may connect."""
        seen: list[int] = []
        chmod = os.chmod

        def note(path: str, wanted: int) -> None:
            seen.append(mode(Path(path)))
            chmod(path, wanted)

        self.patch(os, "chmod", note)
        self.listen(self.sharing(), "unix:s:mode=600")
        self.assertEqual(seen, [0])

    def test_accepts(self) -> None:
        """Who connects gets a protocol; the address is the path, not the name before it."""
        port: Any = self.listen(self.sharing(), "unix:s")
        self.assertEqual(port.getHost().name, b"s")
        self.assertIn(port, self.reactor.readers)
        self.assertTrue(self.answers())
        made: list[object] = []
        self.patch(port.factory, "buildProtocol", made.append)
        port.doRead()
        self.assertEqual(len(made), 1)

    def test_taken(self) -> None:
        """A path where somebody listens is taken, unless that is the old process."""
        self.listen(self.sharing(), "unix:s")
        self.assertIn("somebody listens there", self.refused(self.sharing(), "unix:s"))
        inode = self.path.stat().st_ino
        self.listen(self.sharing(beside_old=True), "unix:s")
        self.assertNotEqual(self.path.stat().st_ino, inode)
        self.assertEqual(len(list(self.folder.iterdir())), 1)

    def test_not_before_it_is_placed(self) -> None:
        """An old process has the path until `place`: also if the new one ends before."""
        self.listen(self.sharing(), "unix:s")
        inode = self.path.stat().st_ino
        port = self.listen(self.sharing(beside_old=True), "unix:s", place=False)
        self.assertEqual(self.path.stat().st_ino, inode)
        self.close(port)
        self.assertEqual([path.stat().st_ino for path in self.folder.iterdir()], [inode])
        self.assertTrue(self.answers())

    def test_left_behind(self) -> None:
        """A socket that a dead process left behind is replaced."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind("s")
        self.assertFalse(self.answers())
        self.listen(self.sharing(), "unix:s")
        self.assertTrue(self.answers())

    def test_other_files(self) -> None:
        """A file that is no socket is not overwritten."""
        for make in (self.path.touch, self.path.mkdir):
            make()
            for beside_old in (False, True):
                said = self.refused(self.sharing(beside_old), "unix:s")
                self.assertIn("there is a file that is no socket", said)
            self.assertEqual(len(list(self.folder.iterdir())), 1)
            self.path.rmdir() if self.path.is_dir() else self.path.unlink()

    def test_no_folder(self) -> None:
        """A path in a folder that is not there is refused."""
        self.assertIn("No such file", self.refused(self.sharing(), "unix:nowhere/s"))

    def test_removes_its_path_alone(self) -> None:
        """When it stops listening, the path goes, unless the new process's socket is there;
        the socket is closed in either case."""
        old: Any = self.listen(self.sharing(), "unix:s")
        new: Any = self.listen(self.sharing(beside_old=True), "unix:s")
        self.close(old)
        self.assertFalse(old.connected)
        self.assertTrue(self.answers())
        self.close(new)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_two_at_once(self) -> None:
        """Of two that both found nobody at a path, or a socket that was left behind, the first
        has it, and the other ends and leaves it alone."""
        for left_behind in (False, True):
            if left_behind:
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.bind("s")
            one, other = self.sharing(), self.sharing()
            first, second = (self.listen(each, "unix:s", place=False) for each in (one, other))
            one.place()
            inode = self.path.stat().st_ino
            problem = self.assertRaises(CannotListenError, other.place)
            self.assertIn("somebody listens there", str(problem))
            self.close(second)
            self.assertEqual([path.stat().st_ino for path in self.folder.iterdir()], [inode])
            self.assertTrue(self.answers())
            self.close(first)
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_in_the_same_moment(self) -> None:
        """A path that another process is about to take, or to leave, is not taken, and is not
        removed either, as it may be that process's by then."""
        sharing = self.sharing()
        port = self.listen(sharing, "unix:s", place=False)
        with alone_at("s"):
            problem = self.assertRaises(CannotListenError, sharing.place)
            self.assertIn("another process begins to listen there", str(problem))
        self.assertFalse(self.path.exists())
        self.close(port)
        port = self.listen(self.sharing(), "unix:s")
        with alone_at("s"):
            self.close(port)
        self.assertEqual(list(self.folder.iterdir()), [self.path])
        self.assertFalse(self.answers())
        self.listen(self.sharing(), "unix:s")
        self.assertTrue(self.answers())

    def test_taken_while_it_is_left(self) -> None:
        """A new process's socket that comes between a last look and the removal stays."""
        old: Any = self.listen(self.sharing(), "unix:s")
        flock = fcntl.flock

        def taken(descriptor: int, operation: int) -> None:
            os.rename("t", "s")
            flock(descriptor, operation)

        with socket.socket(socket.AF_UNIX) as new:
            new.bind("t")
            new.listen()
            self.patch(fcntl, "flock", taken)
            self.close(old)
            self.assertTrue(self.answers())

    def test_many_wait(self) -> None:
        """A path is taken, too, where so many wait to be accepted that nobody else can."""
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind("s")
            busy.listen(0)
            with socket.socket(socket.AF_UNIX) as waits:
                waits.connect("s")
                self.assertIn("somebody listens there", self.refused(self.sharing(), "unix:s"))

    def test_check(self) -> None:
        """An address that the check does not like is not listened on."""
        asked: list[Address] = []

        def check(address: Address) -> None:
            asked.append(address)
            raise OSError("it is not to be")

        said = self.refused(self.sharing(True, check=check), "unix:s")
        self.assertIn("it is not to be", said)
        self.assertEqual(asked, ["s"])
        self.assertEqual(list(self.folder.iterdir()), [])


class SystemdTests(SharingTestCase):
    def test_mode_and_path_are_systemds(self) -> None:
        """A socket of systemd's keeps its mode, and its path when this process ends, and
        systemd's own descriptor listens on."""
        with socket.socket(socket.AF_UNIX) as theirs:
            theirs.bind("s")
            theirs.listen()
            theirs.setblocking(False)
            os.chmod("s", 0o620)
            checked: list[Address] = []
            sharing = self.sharing(check=checked.append)
            port: Any = sharing.adoptStreamPort(
                theirs.fileno(), socket.AF_UNIX, Factory.forProtocol(Protocol)
            )
            sharing.place()
            self.assertEqual(mode(self.path), 0o620)
            self.assertEqual(port.getHost().name, b"s")
            self.assertTrue(self.answers())
            port.doRead()
            self.close(port)
            self.assertEqual(mode(self.path), 0o620)
            self.assertTrue(self.answers())
            self.assertEqual(checked, ["s"])

    def test_tcp(self) -> None:
        """A TCP port of systemd's is the reactor's own affair."""
        with socket.socket() as theirs:
            theirs.bind(("127.0.0.1", 0))
            theirs.listen()
            checked: list[Address] = []
            sharing = self.sharing(check=checked.append)
            sharing.adoptStreamPort(theirs.fileno(), socket.AF_INET, Factory())
            self.assertEqual(checked, [theirs.getsockname()])
        self.assertEqual(len(self.reactor.adopted), 1)


class TCPTests(SharingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.listen(self.sharing(), "tcp:0:interface=127.0.0.1")
        self.first = self.reactor.adopted[0]
        self.where = f"tcp:{self.first.getsockname()[1]}:interface=127.0.0.1"

    def test_taken(self) -> None:
        """A port that somebody listens on is taken, unless that is the old process."""
        self.assertIn("in use", self.refused(self.sharing(), self.where))
        self.listen(self.sharing(beside_old=True), self.where)
        self.assertEqual(
            self.reactor.adopted[1].getsockname(), self.reactor.adopted[0].getsockname()
        )

    def test_two_at_once(self) -> None:
        """Of two that both could bind a port, one listens."""
        listening: list[IListeningPort] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = f"tcp:{free.getsockname()[1]}:interface=127.0.0.1"

        def other(_: Address) -> None:
            listening.append(self.listen(self.sharing(), where))

        self.assertIn("in use", self.refused(self.sharing(check=other), where))
        self.assertEqual(len(listening), 1)

    def test_new_connections(self) -> None:
        """All connections from then on are the new process's."""
        self.listen(self.sharing(beside_old=True), self.where)
        for _ in range(20):
            with socket.create_connection(self.first.getsockname()):
                self.reactor.adopted[1].accept()[0].close()
        self.assertRaises(BlockingIOError, self.reactor.adopted[0].accept)

    def test_check(self) -> None:
        """An address that the check does not like is not listened on."""
        asked: list[Address] = []

        def check(address: Address) -> None:
            asked.append(address)
            raise OSError("it is not to be")

        self.assertIn("it is not to be", self.refused(self.sharing(True, check=check), self.where))
        self.assertEqual(asked, [self.first.getsockname()])
        self.assertEqual(len(self.reactor.adopted), 1)

    def test_ipv6(self) -> None:
        """An IPv6 interface is one."""
        self.listen(self.sharing(), "tcp6:0:interface=\\:\\:1")
        self.assertEqual(self.reactor.adopted[1].family, socket.AF_INET6)

    def test_not_ours(self) -> None:
        """An address of another machine is refused."""
        self.assertIn("192.0.2.1", self.refused(self.sharing(), "tcp:0:interface=192.0.2.1"))
