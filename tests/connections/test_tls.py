from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Optional

import trustme
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from peerproto.daemon.config import Config, ConfigError
from peerproto.service.service import StickTableService
from peerproto.testing import MemoryNetwork
from peerproto.testing.network import MemoryTransport
from peerproto.tls import Credentials
from peerproto.wire.errors import LocalProtocolError
from tests.scripted import Scripted

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
RATES = {"rates": "type ip size 1k expire 1m store gpc0"}


class TLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = trustme.CA()
        self.ca_file = self.write("ca", self.authority.cert_pem.bytes())

    def write(self, name: str, text: bytes) -> str:
        path = self.folder / f"{name}.pem"
        path.write_bytes(text)
        return str(path)

    def certificate(self, name: str, authority: Optional[trustme.CA] = None, **options: Any) -> str:
        """A file with a certificate for a name, and its key."""
        issued = (authority or self.authority).issue_cert(name, **options)
        return self.write(name, issued.private_key_and_cert_chain_pem.bytes())

    def credentials(self, certificate: str, **options: Any) -> Credentials:
        return Credentials.load(certificate, ca_file=self.ca_file, **options)


class MeshTests(TLSTestCase):
    """Two peers in memory, with real TLS between them: lb1 is called, app calls."""

    def setUp(self) -> None:
        super().setUp()
        self.network = MemoryNetwork()

    def meet(self, lb1: Optional[Credentials], app: Optional[Credentials]) -> None:
        self.lb1 = self.peer("lb1", {}, lb1)
        self.app = self.peer("app", {"lb1": self.network.client("lb1")}, app)
        self.network.start()
        self.network.advance(1)
        self.addCleanup(self.network.stop)

    def peer(
        self, name: str, peers: dict[str, Any], credentials: Optional[Credentials]
    ) -> StickTableService:
        return self.network.add(
            StickTableService(
                name,
                peers,
                RATES,
                self.network.server(name),
                credentials=credentials,
                reactor=self.network.clock,
                chance=self.network.chance,
            )
        )

    def in_session(self) -> bool:
        return self.app.peers["lb1"].session is not None

    def test_mutual(self) -> None:
        """Peers that believe each other share their tables, both ways."""
        self.meet(
            self.credentials(self.certificate("lb1"), verify_name=True),
            self.credentials(self.certificate("app"), verify_name=True),
        )
        self.assertTrue(self.in_session())
        self.app.table("rates").set("192.0.2.7", gpc0=3)
        self.lb1.table("rates").set("192.0.2.8", gpc0=4)
        self.network.advance(0.1)
        self.assertEqual(self.lb1.table("rates")["192.0.2.7"]["gpc0"], 3)
        self.assertEqual(self.app.table("rates")["192.0.2.8"]["gpc0"], 4)

    def test_long_lesson(self) -> None:
        """A lesson longer than all buffers arrives whole."""
        ours = self.credentials(self.certificate("lb1"))
        self.lb1 = self.peer("lb1", {}, ours)
        for number in range(1000):
            self.lb1.table("rates").set(f"10.0.{number // 256}.{number % 256}", gpc0=number)
        self.app = self.peer("app", {"lb1": self.network.client("lb1")}, ours)
        self.network.start()
        self.network.advance(10)
        self.addCleanup(self.network.stop)
        self.assertEqual(len(self.app.table("rates")), 1000)

    def test_called_no_more_in_mid_handshake(self) -> None:
        """A peer that is removed, or called elsewhere, has no session on the call that its
        answer is to: TLS delivers that answer though we have hung up."""
        ours = self.credentials(self.certificate("lb1"))
        for elsewhere in (False, True):
            network = self.network = MemoryNetwork()
            self.lb1 = self.peer("lb1", {}, ours)
            self.app = self.peer("app", {"lb1": network.client("lb1")}, ours)
            self.addCleanup(network.stop)
            for service in (self.lb1, self.app):
                service.startService()
            while not self.lb1.peers["app"].connected:
                network.turn()
            self.assertFalse(self.in_session())
            if elsewhere:
                self.app.add_peer("lb1", network.client("nowhere"))
            else:
                self.app.remove_peer("lb1")
            network.settle()
            self.assertFalse(self.app.node.sessions)
            network.advance(5)
            self.assertEqual(self.app.resync.reason, "no peer to learn from within 5 s")

    def refused(self, lb1: Credentials, app: Credentials, *said: str) -> None:
        self.meet(lb1, app)
        self.assertFalse(self.in_session())
        text = str(self.app.peers["lb1"].trouble)
        self.assertTrue(any(one in text for one in said), text)

    def test_callers_certificate(self) -> None:
        """A caller whose certificate has expired, or is of another authority, is refused."""
        good = self.credentials(self.certificate("lb1"))
        self.refused(
            good, self.credentials(self.certificate("app", not_after=PAST)), "certificate expired"
        )
        self.network = MemoryNetwork()
        self.refused(good, self.credentials(self.certificate("app", trustme.CA())), "unknown ca")

    def test_certificate_of_the_called(self) -> None:
        """One that we call is not believed with such certificates either."""
        good = self.credentials(self.certificate("app"))
        self.refused(
            self.credentials(self.certificate("lb1", not_after=PAST)), good, "it has expired"
        )
        self.network = MemoryNetwork()
        self.refused(
            self.credentials(self.certificate("lb1", trustme.CA())),
            good,
            "its authority is not in our ca-file",
        )

    def test_name_of_the_caller(self) -> None:
        """With verify-name, a caller is the peer that its certificate names, or nobody."""
        self.refused(
            self.credentials(self.certificate("lb1"), verify_name=True),
            self.credentials(self.certificate("mallory")),
            "the connection ended",
        )
        self.network = MemoryNetwork()
        self.meet(
            self.credentials(self.certificate("lb1")),
            self.credentials(self.certificate("mallory")),
        )
        self.assertTrue(self.in_session())

    def test_name_of_the_called(self) -> None:
        """With verify-name, the one at a peer's address must have the peer's name."""
        self.refused(
            self.credentials(self.certificate("mallory")),
            self.credentials(self.certificate("app"), verify_name=True),
            "TLS: its certificate is not for the name lb1",
        )

    def test_no_verification(self) -> None:
        """With verify = none, whoever speaks TLS is believed."""
        self.meet(
            Credentials.load(self.certificate("lb1"), verify=False),
            Credentials.load(self.certificate("app", trustme.CA()), verify=False),
        )
        self.assertTrue(self.in_session())

    def test_plain_caller(self) -> None:
        """Whoever does not speak TLS gets no session."""
        self.meet(self.credentials(self.certificate("lb1")), None)
        self.assertFalse(self.in_session())

    def test_soft_stop(self) -> None:
        """Who stops softly closes what still waits to be accepted, with TLS as without."""
        good = self.credentials(self.certificate("app"))
        self.meet(good, good)
        self.lb1.stop_softly(self.network.client("lb1"))
        caller = Scripted(b"")
        self.network.connect("lb1", Factory.forProtocol(caller.itself))
        self.network.settle()
        transport = caller.transport
        assert isinstance(transport, MemoryTransport)
        self.assertTrue(transport.closed)
        self.assertEqual(caller.received, b"")

    def test_new_certificate(self) -> None:
        """Credentials can be replaced: sessions stay, the next connection has the new ones."""
        good = self.credentials(self.certificate("app"))
        self.meet(good, good)
        session = self.app.peers["lb1"].session
        self.lb1.use_credentials(self.credentials(self.certificate("lb1", not_after=PAST)))
        self.network.advance(3)
        self.assertIs(self.app.peers["lb1"].session, session)
        self.network.cut()
        self.network.advance(7)
        self.assertFalse(self.in_session())
        self.lb1.use_credentials(good)
        self.network.advance(7)
        self.assertTrue(self.in_session())


class CredentialsTests(TLSTestCase):
    def test_chain(self) -> None:
        """What is between our certificate and its authority is sent with it."""
        between = self.authority.create_child_ca()
        loaded = self.credentials(self.certificate("lb1", between))
        self.assertEqual(len(loaded.options.extraCertChain), 1)

    def test_mistakes(self) -> None:
        """Each file that is not what it should be is named, with what should be in it."""
        good = self.certificate("lb1")
        other = self.certificate("other")
        empty = self.write("empty", b"")
        missing = str(self.folder / "missing.pem")
        for what, certificate, key, ca_file, expected in (
            ("certificate", missing, None, self.ca_file, "can be read (No such file"),
            ("certificate", empty, None, self.ca_file, "certificates in PEM"),
            ("key", good, missing, self.ca_file, "can be read"),
            ("key", good, empty, self.ca_file, "a private key in PEM"),
            ("key", good, other, self.ca_file, f"the key of {good}"),
            ("ca-file", good, None, None, "a file, since peers are verified"),
            ("ca-file", good, None, empty, "certificates in PEM"),
        ):
            with self.assertRaises(LocalProtocolError) as caught:
                Credentials.load(certificate, key, ca_file)
            self.assertEqual(caught.exception.what, what)
            self.assertIn(expected, caught.exception.expected)

    def test_section(self) -> None:
        """[tls] has the settings by their names; what is missing or wrong is named."""
        good = self.certificate("lb1")
        whole = f"[tls]\ncertificate = {good}\nkey = {good}\nca-file = {self.ca_file}\n"
        config = Config.parse(
            "x", whole + "verify = required\nverify-name = yes\n[node]\nlocalpeer = lb1\n"
        )
        assert config.credentials is not None
        self.assertTrue(config.credentials.verify)
        self.assertTrue(config.credentials.verify_name)
        open_to_all = Config.parse("x", f"[tls]\ncertificate = {good}\nverify = none").credentials
        assert open_to_all is not None
        self.assertFalse(open_to_all.verify)
        for text, line, read, expected in (
            ("[tls]\n", 1, "[tls]", "certificate = <file>"),
            (f"[tls]\nca-file = {good}\n", 1, "[tls]", "certificate = <file>"),
            ("[tls]\ncert = x\n", 2, "cert = x", "one of certificate, key, ca-file"),
            (whole + "verify = maybe\n", 5, "verify = maybe", "required or none"),
            (whole + "verify = none\nverify-name = yes\n", 6, "verify-name = yes", "required"),
            (f"[tls]\ncertificate = {good}\n", 1, "[tls] without ca-file", "a file"),
            (f"[node]\nbind = ssl:1:privateKey={good}\n" + whole, 2, "bind = ssl:1", "[tls] adds"),
        ):
            with self.assertRaises(ConfigError) as caught:
                Config.parse("x", text)
            self.assertEqual(caught.exception.line, line, text)
            self.assertIn(read, caught.exception.read)
            self.assertIn(expected, caught.exception.expected)

    def test_own_certificate(self) -> None:
        """A certificate of ours that nobody with the same files would believe is no good, but
        where peers are not verified."""
        future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=9)
        child = self.authority.create_child_ca()
        other = {
            "it has expired": self.certificate("expired", not_after=PAST),
            "it is not valid yet": self.certificate("future", not_before=future),
            "its authority is not in our ca-file": self.certificate("stranger", trustme.CA()),
        }
        for name in ("app", "*.mesh.example"):
            good = self.certificate(name, child)
            for node in ("app", "app.mesh.example", "x.app.mesh.example", "mesh.example"):
                text = (
                    f"[node]\nlocalpeer = {node}\n[tls]\ncertificate = {good}\n"
                    f"ca-file = {self.ca_file}\nverify-name = "
                )
                Config.parse("x", text + "no\n")
                if node == name or (node, name) == ("app.mesh.example", "*.mesh.example"):
                    Config.parse("x", text + "yes\n")
                    continue
                with self.assertRaises(ConfigError) as caught:
                    Config.parse("x", text + "yes\n")
                self.assertEqual(caught.exception.line, 4)
                self.assertIn(f"for the DNS name {node}", caught.exception.expected)
        for why, path in other.items():
            text = f"[tls]\ncertificate = {path}\nca-file = {self.ca_file}\n"
            with self.assertRaises(ConfigError) as caught:
                Config.parse("x", text)
            self.assertEqual(caught.exception.line, 2)
            self.assertIn(why, caught.exception.expected)
            Config.parse("x", text + "verify = none\n")
