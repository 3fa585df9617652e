"""``[storage]`` of a ``peers.ini``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.config import Config
from peerproto.service.section import ConfigError
from peerproto.storage.config import StorageSettings


class ConfigTests(SynchronousTestCase):
    def read(self, *lines: str) -> StorageSettings:
        settings = Config.parse("peers.ini", "\n".join(["[storage]", *lines])).storage
        assert settings is not None
        return settings

    def test_defaults(self) -> None:
        """A path is enough: all tables are kept, a second apart."""
        settings = self.read("path = /tmp/x.db")
        self.assertEqual(settings, StorageSettings("/tmp/x.db", 1000, ("*",)))
        self.assertTrue(settings.keeps("anything"))

    def test_none(self) -> None:
        """Without the section nothing is kept."""
        self.assertIsNone(Config.parse("peers.ini", "").storage)

    def test_all(self) -> None:
        """Tables are named one by one, with wildcards where wanted."""
        settings = self.read("path = x", "interval = 200ms", "tables = rates, st_* b?")
        self.assertEqual(settings.interval, 200)
        kept = [name for name in ("rates", "st_x", "b1", "b12", "rate") if settings.keeps(name)]
        self.assertEqual(kept, ["rates", "st_x", "b1"])

    def test_errors(self) -> None:
        """What is wrong is said with its line."""
        for lines, line, expected in (
            (["interval = 1s"], 1, "path = <file>"),
            (["path = x", "interval = soon"], 3, "a number"),
            (["path = x", "interval = 1ms"], 3, "from 10ms to 1h"),
            (["path = x", "interval = 2h"], 3, "from 10ms to 1h"),
            (["path = x", "table = y"], 3, "one of path, url, schema, interval, tables"),
            (["path = x", "schema = y"], 3, "goes with url"),
            (["url = postgresql://h/d", "path = x"], 1, "one of them"),
            (["url = postgresql://h/d", "schema = a-b"], 3, "letters, digits"),
            (["url = postgresql://h/d", "schema = pg_x"], 3, "begins with no pg_"),
        ):
            with self.subTest(lines=lines):
                problem = self.assertRaises(ConfigError, self.read, *lines)
                assert isinstance(problem, ConfigError)
                self.assertEqual(problem.line, line)
                self.assertIn(expected, problem.expected)

    def test_url(self) -> None:
        """A PostgreSQL server is named without its password, whoever asks."""
        for url, place in (
            ("postgresql://", "postgresql://"),
            ("postgres://h", "postgresql://h"),
            ("postgresql://u:s%2Fcret@h:5433/d?sslmode=require", "postgresql://u@h:5433/d"),
            ("postgresql://:scret@a,b:1/d?password=scret", "postgresql://a,b:1/d"),
            ("postgresql://u@[::1]:1/d", "postgresql://u@[::1]:1/d"),
            ("postgresql:///d?host=/run/postgresql", "postgresql:///d"),
        ):
            with self.subTest(url=url):
                settings = self.read(f"url = {url}")
                self.assertEqual((settings.url, settings.place), (url, place))
                self.assertEqual((settings.path, settings.schema), ("", "peerproto"))
                self.assertNotIn("cret", repr(settings) + settings.place)

    def test_no_url(self) -> None:
        """What is no URL is refused with its line; what may be a password is not said."""
        for url in (
            "mysql://u:scret@h/d",
            "postgresql://u:scret@h@/d",
            "postgresql://u:s/cret@h/d",
            "postgresql://u:s%cret@h/d",
            "postgresql://u:scret%@h/d",
            "postgresql://u:s:cret@h/d",
            "postgresql://u:s#cret@h/d",
            "postgresql://u:s?cret@h/d",
            "postgresql://u:s?options=cret@h/d",
            "postgresql://u:scret/d",
            "postgresql://u:s cret@h/d",
            "postgresql://h/d?passwort=scret",
            "postgresql://h/d?scret",
            "host=h password=scret",
            "scret",
            "postgresql://u:scret@h/d\nurl = postgresql://u:s@cret@h/d",
            "postgresql://u:scret@h/d\nurl = postgresql://h/d?user=u&sslpassword=scret",
            "postgresql://h/d\nulr = postgresql://u:s@cret@h/d",
        ):
            with self.subTest(url=url):
                problem = self.assertRaises(ConfigError, self.read, f"url = {url}")
                assert isinstance(problem, ConfigError)
                self.assertEqual(problem.line, 2 + url.count("\n"))
                self.assertNotIn("cret", str(problem))
