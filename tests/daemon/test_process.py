from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import trustme
from twisted.logger import capturedLogs

import peerproto.daemon.process
from peerproto.daemon.config import Config
from peerproto.daemon.oldprocess import OldProcessError
from peerproto.daemon.process import Daemon
from peerproto.daemon.sharing import Address, SharingReactor
from peerproto.daemon.steady import WHILE
from peerproto.http.config import HttpSettings
from peerproto.tables.declaration import Declaration
from peerproto.wire.errors import LocalProtocolError
from tests.daemon.test_sharing import Listeners, SharingTestCase
from tests.support import begin, take

FILE = """\
[node]
localpeer = us
bind = /{folder}/bind
runtime = unix:/{folder}/runtime:mode=600
{more}
[peers]
us = /{folder}/bind
lb1 = /nowhere/lb1
lb2 = /nowhere/lb2
[tables]
one = type integer size 1k store gpc0
two = type integer size 1k store gpc0
"""


class Process(Listeners):
    """The reactor of a daemon."""

    def callFromThread(self, do: Callable[[], object]) -> None:
        do()


class Old:
    """An old process that notes what it is asked and told."""

    listens = True
    told: Optional[Callable[[], object]] = None

    def __init__(self, pid: int) -> None:
        if pid == 404:
            raise OldProcessError("process 404: No such process")
        self.checked: list[Address] = []

    def check(self, address: Address) -> None:
        self.checked.append(address)
        if not self.listens:
            raise OldProcessError("it does not listen there")

    def stop_softly(self) -> None:
        assert Old.told is not None, "nobody is to be told"
        Old.told()

    def close(self) -> None:
        """Left to others."""


class DaemonTestCase(SharingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor: Process = Process()
        self.reactor.hasStopped = False  # earlier versions of Twisted begin otherwise
        for number in (signal.SIGUSR1, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.patch(peerproto.daemon.process, "OldProcess", Old)
        self.patch(Old, "told", None)
        # Short enough for the path of a socket.
        self.root = f"proc/self/fd/{os.open('.', os.O_RDONLY)}"
        self.addCleanup(os.close, int(self.root.rpartition("/")[2]))
        self.file = Path("peers.ini")
        self.write(self.text())

    def text(self, more: str = "") -> str:
        return FILE.format(folder=self.root, more=more)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def daemon(self, old: Optional[int] = None, pid_file: Optional[str] = "pid") -> Daemon:
        return Daemon("peers.ini", Config.read("peers.ini"), self.reactor, old, pid_file)

    def started(self, **more: Any) -> Daemon:
        daemon = self.daemon(**more)
        daemon.startService()
        self.addCleanup(self.stop, daemon)
        return daemon

    def stop(self, daemon: Daemon) -> None:
        if daemon.running:
            daemon.stopService()
        self.reactor.advance(0)

    def not_started(self, **more: Any) -> str:
        """What is said when it does not start; nothing is left of the attempt."""
        before = {path: path.stat().st_ino for path in Path().iterdir()}
        with self.assertRaises(SystemExit) as caught:
            self.daemon(**more).startService()
        self.reactor.advance(0)
        self.assertEqual({path: path.stat().st_ino for path in Path().iterdir()}, before)
        said = caught.exception.code
        assert isinstance(said, str)
        self.assertNotIn("\n", said)
        return said

    def listener(self, path: str) -> None:
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen()

    def names(self) -> set[str]:
        return {path.name for path in Path().iterdir()} - {"peers.ini"}


class StartTests(DaemonTestCase):
    def test_whole(self) -> None:
        """It listens at both addresses, and has its pid file; in the end nothing is left."""
        daemon = self.started()
        self.assertEqual(self.names(), {"bind", "runtime", "pid"})
        self.assertEqual(Path("pid").read_text(), f"{os.getpid()}\n")
        self.assertEqual(Path("runtime").stat().st_mode & 0o777, 0o600)
        self.stop(daemon)
        self.assertEqual(self.names(), set())

    def test_taken(self) -> None:
        """An address that somebody has ends the start: either of them."""
        for path in ("bind", "runtime"):
            self.listener(path)
            self.assertIn(f"{path}: somebody listens there", self.not_started())
            os.unlink(path)

    def test_taken_meanwhile(self) -> None:
        """A process that was quicker keeps its address and its pid file."""
        place = SharingReactor.place

        def quicker(sharing: SharingReactor) -> None:
            if not Path("runtime").exists():
                self.listener("runtime")
                Path("pid").write_text("")
            place(sharing)

        self.patch(SharingReactor, "place", quicker)
        with self.assertRaises(SystemExit) as caught:
            self.daemon().startService()
        self.reactor.advance(0)
        self.assertIn("runtime: somebody listens there", str(caught.exception.code))
        self.assertEqual(self.names(), {"runtime", "pid"})

    def test_no_old_process(self) -> None:
        """Without an old process, or one that listens elsewhere, nothing is taken over."""
        for path in ("bind", "runtime"):
            self.listener(path)
        self.assertEqual(self.not_started(old=404), "peerproto: process 404: No such process")
        self.patch(Old, "listens", False)
        self.assertEqual(self.not_started(old=7), "peerproto: it does not listen there")

    def test_pid_file_cannot_be_written(self) -> None:
        """Then the old process is told nothing, and keeps its addresses."""
        for path in ("bind", "runtime"):
            self.listener(path)
        said = self.not_started(old=7, pid_file="/nowhere/pid")
        self.assertEqual(said, "peerproto: pid file /nowhere/pid: No such file or directory")

    def test_runtime_cannot_be_bound(self) -> None:
        """Then the old process is told nothing, and keeps its addresses and its pid file."""
        self.write(self.text().replace("/runtime:", "/nowhere/runtime:"))
        self.listener("bind")
        Path("pid").write_text("7\n")
        self.assertIn("No such file or directory", self.not_started(old=7))
        self.assertEqual(Path("pid").read_text(), "7\n")

    def test_old_process_has_ended(self) -> None:
        """An old process that ends in the last moment: the start ends, and leaves nothing."""

        def told() -> None:
            raise OldProcessError("process 7: No such process")

        self.patch(Old, "told", staticmethod(told))
        Path("pid").write_text("7\n")
        with self.assertRaises(SystemExit) as caught:
            self.daemon(old=7).startService()
        self.reactor.advance(0)
        self.assertEqual(caught.exception.code, "peerproto: process 7: No such process")
        self.assertEqual(Path("pid").read_text(), "7\n")
        self.assertEqual(self.names(), {"pid"})

    def test_old_process_is_told_last(self) -> None:
        """When it is told, all is in place; its runtime socket may be elsewhere."""
        self.listener("bind")
        seen: list[object] = []

        def told() -> None:
            seen.append(Path("pid").read_text())
            seen.append(self.names())
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("bind")

        self.patch(Old, "told", staticmethod(told))
        checked: list[Address] = []
        self.patch(Old, "check", lambda _, address: checked.append(address))
        self.started(old=7)
        self.assertEqual(seen, [f"{os.getpid()}\n", {"bind", "runtime", "pid"}])
        self.assertEqual(checked, [f"/{self.root}/bind"])


class SignalTests(DaemonTestCase):
    def test_sigusr1(self) -> None:
        """It hands over; a second time, and SIGHUP then, do nothing, to the last moment."""
        daemon = self.started()
        signal.raise_signal(signal.SIGUSR1)
        self.assertNotIn("runtime", self.names())
        calls = len(self.reactor.getDelayedCalls())
        for number in (signal.SIGUSR1, signal.SIGHUP):
            signal.raise_signal(number)
            self.assertEqual(signal.getsignal(number), signal.SIG_IGN)
        daemon.stop_softly()
        daemon.reload()
        self.assertEqual(len(self.reactor.getDelayedCalls()), calls)
        self.assertEqual(list(daemon.stick_tables.peers), ["lb1", "lb2"])

    def test_nobody_takes_over(self) -> None:
        """After 5 s it stops, with a status that says so."""
        self.started()
        signal.raise_signal(signal.SIGUSR1)
        self.reactor.pump([0.5] * 11)
        self.assertTrue(self.reactor.hasStopped)
        ((status, _, _),) = self.reactor.triggers["after"]["shutdown"]
        self.assertEqual(status.__name__, "_exit_with_failure")

    def test_stopped_in_between(self) -> None:
        """SIGTERM in a hand-over stops it, and the hand-over stops nothing a second time."""
        daemon = self.started()
        signal.raise_signal(signal.SIGUSR1)
        self.stop(daemon)
        self.reactor.pump([0.5] * 11)
        self.assertFalse(self.reactor.hasStopped)

    def test_signals_at_the_end(self) -> None:
        """Once it stops, no signal ends the process before its time."""
        self.stop(self.started())
        for number in (signal.SIGUSR1, signal.SIGHUP):
            self.assertEqual(signal.getsignal(number), signal.SIG_IGN)


class ReloadTestCase(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.running = self.started()
        self.service = self.running.stick_tables

    def reload(self, text: str) -> str:
        """The errors and warnings that the daemon logs."""
        self.write(text)
        return self.signal()

    def signal(self) -> str:
        """The same where the file is left as it is."""
        with capturedLogs() as logs:
            signal.raise_signal(signal.SIGHUP)
            self.reactor.advance(WHILE)
        return "\n".join(
            event["log_format"].format(**event)
            for event in logs
            if event["log_namespace"].startswith("peerproto.daemon.process")
            and event["log_level"].name in ("warn", "error")
        )

    def state(self) -> object:
        return (
            {name: peer.address for name, peer in self.service.peers.items()},
            {table.name: table.declaration for table in self.service.tables},
        )


class ReloadTests(ReloadTestCase):
    def test_peers(self) -> None:
        """Peers come, go, and move; one that stays is the same as before."""
        before = self.service.peers["lb2"]
        link = self.service.mesh.link(self.service.node.peers["lb2"])
        dialer = link.dialer
        self.reload(
            self.text().replace("lb1 = /nowhere/lb1", "lb3 = /nowhere/lb3\nlb4 = /nowhere/lb4")
        )
        self.assertEqual(list(self.service.peers), ["lb2", "lb3", "lb4"])
        self.assertIs(self.service.peers["lb2"], before)
        self.assertIs(link.dialer, dialer)
        self.reload(self.text().replace("/nowhere/lb2", "/elsewhere/lb2"))
        self.assertEqual(self.service.peers["lb2"].address, "unix:/elsewhere/lb2")
        self.assertIsNot(link.dialer, dialer)
        self.assertEqual(list(self.service.peers), ["lb2", "lb1"])

    def test_tables(self) -> None:
        """Tables come, go, and are declared anew; one that stays keeps its entries."""
        for name in ("one", "two"):
            self.service.table(name).set(1, gpc0=7)
        self.reload(
            self.text()
            .replace("one = type integer size 1k", "one = type integer size 2k")
            .replace("two = type", "three = type")
        )
        tables = {table.name: table for table in self.service.tables}
        self.assertEqual(list(tables), ["one", "three"])
        self.assertEqual(tables["one"].declaration.size, 2048)
        self.assertEqual(tables["one"][1]["gpc0"], 7)

    def test_nothing_new(self) -> None:
        """The same file changes nothing, and warns of nothing."""
        before = self.state()
        self.assertEqual(self.reload(self.text()), "")
        self.assertEqual(self.state(), before)

    def test_bad_file(self) -> None:
        """A file that is bad, or gone, is logged, and changes nothing."""
        before = self.state()
        self.assertIn("peers.ini:2: read 'x'", self.reload("[node]\nx\n"))
        self.file.unlink()
        self.assertIn("nothing is changed: [Errno 2]", self.signal())
        self.assertEqual(self.state(), before)

    def test_cut_file(self) -> None:
        """A file that is empty, or was cut, and so takes away all peers or all tables, changes
        nothing, and the log names the way out; with that, it does."""
        before = self.state()
        text = self.text()
        peers, tables = text.index("[peers]"), text.index("[tables]")
        lb1 = text.index("lb1 =")
        for cut, lost in (
            ("", "peers and tables"),
            (text[:peers], "peers and tables"),
            (text[:lb1], "peers and tables"),
            (text[:tables], "tables"),
            (text[:lb1] + text[tables:], "peers"),
        ):
            said = self.reload(cut)
            self.assertIn(f"takes away all {lost}; if that is meant, write allow-empty = yes", said)
            self.assertEqual(self.state(), before)
        more = self.text("allow-empty = yes")
        self.assertEqual(self.reload(more[: more.index("lb1 =")]), "")
        self.assertEqual(self.state(), ({}, {}))
        self.assertEqual(self.reload(more), "")
        self.assertEqual(self.state(), before)

    def test_cut_line(self) -> None:
        """A file that ends within a line changes nothing, whatever is left of it."""
        before = self.state()
        text = self.text("allow-empty = yes")
        for cut in (
            text[: text.index("/lb2")],
            text[: text.index("two = ")] + "two = type integer size 1",
            text.removesuffix("\n"),
        ):
            said = self.reload(cut)
            self.assertIn("expected a line feed at the end of the last line", said)
            self.assertEqual(self.state(), before)

    def test_being_written(self) -> None:
        """A file that is written meanwhile is read once it is whole, whichever lines it had at
        other times; a signal in between begins nothing anew."""
        before = self.state()
        lines = self.text().splitlines(keepends=True)
        signal.raise_signal(signal.SIGHUP)
        for end in range(len(lines)):
            self.write("".join(lines[:end]))
            self.reactor.advance(WHILE)
            signal.raise_signal(signal.SIGHUP)
            self.assertEqual(self.state(), before)
        self.assertEqual(self.reload("".join([*lines[:-1], "new = type ip size 1\n"])), "")
        self.assertEqual(self.state(), before)
        self.reactor.advance(WHILE)
        self.assertEqual([table.name for table in self.service.tables], ["one", "new"])

    def test_stopped_meanwhile(self) -> None:
        """A process that stops reads no file any more."""
        before = self.state()
        self.write(self.text().replace("lb2 =", "lb3 ="))
        signal.raise_signal(signal.SIGHUP)
        self.stop(self.running)
        self.reactor.advance(WHILE)
        self.assertEqual(self.state(), before)

    def test_what_stays(self) -> None:
        """What changes with a restart only is logged, and stays; our own old name is no peer,
        and what goes by a restart is warned of each time."""
        before = self.state()
        text = (
            self.text()
            .replace("localpeer = us", "localpeer = other")
            .replace("/bind\nruntime", "/elsewhere\nruntime")
            .replace("/runtime:", "/elsewhere:")
        ) + "[limits]\nhandshakes = 3\n"
        for _ in range(2):
            said = self.reload(text)
            for name in ("localpeer", "bind", "runtime", "limits"):
                self.assertIn(f"{name} changes with a restart only: it stays", said)
            self.assertEqual(self.state(), before)
        self.assertEqual(self.service.node.limits.handshakes, 200)

    def test_what_fails_in_between(self) -> None:
        """A change that cannot be made is told in words, and holds up neither the others nor
        those of later files, which try it again."""
        problems: list[Exception] = [
            LocalProtocolError("table one", "a change", "none"),
            RuntimeError("of ours"),
        ]
        declare = self.service.declare_table

        def fail_first(declaration: Declaration) -> None:
            if problems and declaration.name == "one":
                raise problems.pop(0)
            declare(declaration)

        self.patch(self.service, "declare_table", fail_first)
        text = self.text().replace("lb1 =", "lb3 =").replace("type integer", "type string")
        said = self.reload(text)
        self.assertEqual(
            said, "table one is not changed: table one: read 'a change', expected none"
        )
        self.assertEqual(list(self.service.peers), ["lb2", "lb3"])
        self.assertEqual(
            [(one.name, one.key_type.word) for one in self.service.tables],
            [("one", "integer"), ("two", "string")],
        )
        self.assertEqual(self.reload(text), "")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.reload(text), "")
        self.assertEqual({one.key_type.word for one in self.service.tables}, {"string"})

    def test_columns_that_were_learnt(self) -> None:
        """A table with columns of peers beyond its line is as the file has it, until the file
        says that it keeps to the line."""
        table = self.service.node.tables["one"]
        more = Declaration.parse("one", "type integer size 1k store gpc0,gpt0").layout.columns
        table.redeclare(table.declaration.with_columns(more))
        before = table.declaration
        self.reload(self.text())
        self.assertIs(table.declaration, before)
        self.reload(self.text("learn-columns = no"))
        self.assertEqual([one.name for one in table.layout.columns], ["gpc0"])

    def test_tables_that_were_adopted(self) -> None:
        """A table that came from a peer is none of the file's."""
        definition = Declaration.parse("three", "type ip size 1k store gpc0").definition(1)
        take(self.service.node, begin(self.service.node, "lb1"), definition.encode())
        self.reload(self.text().replace("two =", "four ="))
        self.assertEqual([one.name for one in self.service.tables], ["one", "three", "four"])

    def test_learn_tables(self) -> None:
        """Whether tables are adopted changes."""
        self.assertTrue(self.service.node.adoption.learn_tables)
        self.reload(self.text("learn-tables = no"))
        self.assertFalse(self.service.node.adoption.learn_tables)


class TLSReloadTests(ReloadTestCase):
    def section(self, name: str) -> str:
        """[tls] with a new certificate."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{name}-ca.pem")
        authority.issue_cert("us").private_key_and_cert_chain_pem.write_to_path(f"{name}.pem")
        return f"[tls]\ncertificate = {name}.pem\nca-file = {name}-ca.pem\n"

    def test_comes(self) -> None:
        """TLS comes with a restart only, and what else is new in the file holds."""
        text = self.text("learn-tables = no") + self.section("first")
        self.assertIn("[tls] comes and goes with a restart only", self.reload(text))
        self.assertIsNone(self.service.mesh.credentials)
        self.assertFalse(self.service.node.adoption.learn_tables)

    def test_certificates(self) -> None:
        """Certificates are read again; bad ones change nothing; TLS does not go."""
        self.stop(self.running)
        self.write(self.text() + self.section("first"))
        self.running = self.started()
        self.service = self.running.stick_tables
        first = self.service.mesh.credentials
        second = self.section("second")
        self.assertEqual(self.reload(self.text() + second), "")
        credentials = self.service.mesh.credentials
        self.assertIsNotNone(credentials)
        self.assertIsNot(credentials, first)
        Path("second.pem").write_text("no certificate")
        self.assertIn("nothing is changed", self.reload(self.text() + second))
        self.assertIn("[tls] comes and goes", self.reload(self.text()))
        self.assertIs(self.service.mesh.credentials, credentials)


class HttpReloadTests(ReloadTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.token = Path("token")
        self.set_token("first")
        self.stop(self.running)
        self.write(self.text() + self.section())
        self.running = self.started()
        self.service = self.running.stick_tables

    def set_token(self, token: str, mode: int = 0o600) -> None:
        self.token.write_text(token)
        self.token.chmod(mode)

    def section(self, more: str = "") -> str:
        """[http] at a UNIX socket."""
        return f"[http]\nbind = unix:/{self.root}/http:mode=600\ntoken-file = token\n{more}"

    def settings(self) -> HttpSettings:
        """The settings that hold."""
        assert self.running.http is not None
        return self.running.http.access.settings

    def test_tokens(self) -> None:
        """Tokens are read again; a file without one changes nothing."""
        self.set_token("second")
        self.assertEqual(self.reload(self.text() + self.section("allow-writes = yes\n")), "")
        settings = self.settings()
        assert settings.writers is not None
        self.assertTrue(settings.writers.is_it(b"second"))
        self.assertTrue(settings.allow_writes)
        self.set_token("")
        self.assertIn("nothing is changed", self.reload(self.text() + self.section()))
        self.assertIs(self.settings(), settings)

    def test_where(self) -> None:
        """It listens where it does until a restart; it neither comes nor goes; all else holds."""
        text = self.text() + self.section("hosts = a.example\n")
        said = self.reload(text.replace("/http:mode=600", "/elsewhere:mode=600"))
        self.assertIn("[http] stays at unix:", said)
        self.assertEqual(self.settings().hosts, {"a.example"})
        self.assertNotIn("elsewhere", self.settings().bind)
        self.assertIn("[http] comes and goes with a restart only", self.reload(self.text()))
        self.assertEqual(self.settings().hosts, {"a.example"})

    def test_comes(self) -> None:
        """HTTP comes with a restart only."""
        self.stop(self.running)
        self.write(self.text())
        self.running = self.started()
        self.service = self.running.stick_tables
        self.assertIn("[http] comes and goes", self.reload(self.text() + self.section()))
        self.assertIsNone(self.running.http)

    def test_readable_by_all(self) -> None:
        """A token that everybody can read is warned of, once."""
        self.set_token("second", 0o644)
        said = self.reload(self.text() + self.section())
        self.assertIn("everybody on this machine can read token", said)
        self.assertEqual(self.reload(self.text() + self.section()), "")

    def test_hand_over(self) -> None:
        """An old process answers no HTTP any more once it hands over."""
        http = self.running.http
        assert http is not None
        self.running.stop_softly()
        self.assertFalse(http.running)
