"""``[http]`` of a ``peers.ini``."""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

import trustme
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.config import Config, ConfigError
from peerproto.http.config import HttpSettings, Place, place_of
from peerproto.http.tokens import LONGEST
from peerproto.http.top import Top


class HttpConfigTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.token = self.file("token", b"  secret-of-writers\n")
        self.reader = self.file("reader", b"secret-of-readers")

    def file(self, name: str, content: bytes, mode: int = 0o600) -> str:
        path = os.path.join(self.mktemp(), name)
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def read(self, *lines: str) -> Optional[HttpSettings]:
        return Config.parse("f", "\n".join(("[node]", "localpeer = a", "[http]", *lines))).http

    def settings(self, *lines: str) -> HttpSettings:
        settings = self.read(*lines)
        assert settings is not None
        return settings

    def wrong(self, number: int, expected: str, *lines: str) -> None:
        """An error at a line of [http], the first of which is 1."""
        problem = self.assertRaises(ConfigError, self.read, *lines)
        self.assertEqual(problem.line, number + 3, str(problem))
        self.assertIn(expected, str(problem))

    def test_nothing(self) -> None:
        """Without the section there is no HTTP; with an empty one it is for this machine."""
        self.assertIsNone(Config.parse("f", "[node]\nlocalpeer = a\n").http)
        settings = self.settings()
        self.assertEqual(settings.bind, "tcp:8404:interface=127.0.0.1")
        self.assertEqual(settings.place, Place.LOOPBACK)
        self.assertFalse(settings.allow_writes)
        self.assertTrue(settings.reads_freely)

    def test_all(self) -> None:
        """All keys are read; a token is stripped, and no text of the settings has it."""
        settings = self.settings(
            "bind = :8404",
            "plain = yes",
            f"token-file = {self.token}",
            f"read-token-file = {self.reader}",
            "allow-writes = yes",
            "hosts = Tables.Example.net, b.example.net. [2001:db8::1]",
        )
        assert settings.writers is not None and settings.readers is not None
        self.assertTrue(settings.writers.is_it(b"secret-of-writers"))
        self.assertFalse(settings.writers.is_it(b"secret-of-writers\n"))
        self.assertTrue(settings.readers.is_it(b"secret-of-readers"))
        self.assertEqual(settings.hosts, {"tables.example.net", "b.example.net", "[2001:db8::1]"})
        self.assertNotIn("secret", repr(settings))
        self.assertEqual(settings.warnings, ())

    def test_off_loopback(self) -> None:
        """Where other machines can connect, it takes TLS or a proxy that does it, and a token."""
        token = f"token-file = {self.token}"
        for bind in ("0.0.0.0:8404", ":8404", "tcp:8404", "[2001:db8::1]:8404", "192.0.2.1:8404"):
            self.wrong(1, "ssl:", f"bind = {bind}", token)
            self.wrong(1, "token-file or read-token-file", f"bind = {bind}", "plain = yes")
            self.settings(f"bind = {bind}", "plain = yes", token)
        path = self.file("http.pem", b"")
        pem = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem
        pem.write_to_path(path)
        files = f"privateKey={path}:certKey={path}"
        for bind in (f"ssl:8404:{files}", f"ssl:8404:interface=192.0.2.1:{files}"):
            for more in ("plain = no", "plain = yes"):
                self.wrong(1, "token-file or read-token-file", f"bind = {bind}", more)
            self.settings(f"bind = {bind}", token)
        self.settings("bind = :8404", "plain = yes", f"read-token-file = {self.reader}")

    def test_places(self) -> None:
        """Who can connect is told by the address."""
        for bind, place in (
            ("tcp:8404:interface=127.0.0.1", Place.LOOPBACK),
            ("tcp:8404:interface=127.9.9.9", Place.LOOPBACK),
            ("tcp6:8404:interface=\\:\\:1", Place.LOOPBACK),
            ("tcp:8404:interface=localhost", Place.LOOPBACK),
            ("ssl:8404:interface=127.0.0.1:privateKey=k", Place.LOOPBACK),
            ("tcp:8404:interface=0.0.0.0", Place.ELSEWHERE),
            ("tcp6:8404:interface=\\:\\:", Place.ELSEWHERE),
            ("ssl:8404:privateKey=k", Place.ELSEWHERE),
            ("haproxy:tcp:8404:interface=127.0.0.1", Place.ELSEWHERE),
            ("systemd:domain=INET:index=0", Place.ELSEWHERE),
            ("unix:/run/p.sock", Place.UNIX),
            ("unix:/run/p.sock:mode=666", Place.UNIX),
            ("unix:/run/p.sock:mode=602", Place.UNIX),
            ("unix:/run/p.sock:mode=660", Place.GUARDED),
            ("unix:address=/run/p.sock:mode=600", Place.GUARDED),
        ):
            self.assertEqual(place_of(bind), place, bind)

    def test_writers(self) -> None:
        """Writing is allowed only where there is a token of writers, or a guarded UNIX socket."""
        self.wrong(1, "token-file in [http]", "allow-writes = yes")
        self.wrong(2, "token-file in [http]", "bind = /run/p.sock", "allow-writes = yes")
        self.settings("bind = unix:/run/p.sock:mode=600", "allow-writes = yes")
        self.settings(f"token-file = {self.token}", "allow-writes = yes")

    def test_same_tokens(self) -> None:
        """Readers have another token than writers."""
        again = self.file("again", b"secret-of-writers")
        lines = f"token-file = {self.token}", f"read-token-file = {again}"
        self.wrong(2, "another token", *lines)

    def test_bad_tokens(self) -> None:
        """A file without a token, or with something else, is refused at its line."""
        for content, expected in (
            (b"", "it is empty"),
            (b" \n\n", "it is empty"),
            (b"two words", "one token"),
            (b"caf\xc3\xa9", "one token"),
            (b"x" * (LONGEST + 1), "one token"),
        ):
            path = self.file("bad", content)
            self.wrong(1, expected, f"token-file = {path}")
        self.wrong(1, "No such file", "token-file = /nowhere/token")

    def test_readable_by_all(self) -> None:
        """A warning names a token that everybody on this machine can read."""
        path = self.file("open", b"secret", 0o644)
        (warning,) = self.settings(f"token-file = {path}").warnings
        self.assertEqual(warning, f"f:4: everybody on this machine can read {path}: chmod o-r")
        config = Config.parse("f", f"[node]\nlocalpeer = a\n[http]\ntoken-file = {path}\n")
        self.assertEqual(config.warnings, (warning,))

    def test_wrong_lines(self) -> None:
        """What cannot be read is named with its line."""
        self.wrong(1, "one of bind, token-file", "port = 8404")
        self.wrong(1, "yes or no", "allow-writes = maybe")
        self.wrong(1, "names of hosts", "hosts = a.example:80")
        self.wrong(1, "a Twisted server endpoint", "bind = nonsense")

    def test_watching(self) -> None:
        """Entries that are metrics, and how many may follow the events, can be said."""
        settings = self.settings("metrics-top = rates:gpc0:5", "event-clients = 20")
        self.assertEqual(settings.metrics_top, (Top("rates", "gpc0", 5),))
        self.assertEqual(settings.event_clients, 20)
        self.assertEqual((self.settings().metrics_top, self.settings().event_clients), ((), 100))
        for value in ("151", "-1", "many", "99999"):
            self.wrong(1, "a whole number up to 150", f"event-clients = {value}")
        self.wrong(1, "<table>:<value>:<count>", "metrics-top = rates")

    def test_address_of_the_node(self) -> None:
        """HTTP listens elsewhere than peers and the runtime socket."""
        text = "[node]\nlocalpeer = a\nruntime = tcp:8404:interface=127.0.0.1\n[http]\n"
        problem = self.assertRaises(ConfigError, Config.parse, "f", text)
        self.assertEqual(problem.line, 4)
        self.assertIn("another address", str(problem))
        text += "bind = 127.0.0.1:8404\n"
        self.assertEqual(self.assertRaises(ConfigError, Config.parse, "f", text).line, 5)

    def test_without_packages(self) -> None:
        """Without the packages of the extra, the section is an error that names it; all else
        works."""
        klein: Any = sys.modules["klein"]
        missing: Any = None
        sys.modules["klein"] = missing
        self.addCleanup(sys.modules.__setitem__, "klein", klein)
        self.wrong(0, "the packages of peerproto[http]")
        self.assertIsNone(Config.parse("f", "[node]\nlocalpeer = a\n").http)
