"""haproxy.cfg to peers.ini, and what does not fit: on configurations as the manual has them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import trustme
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from peerproto.daemon.config import Config
from peerproto.tables.words import split_words
from peerproto.terminal.checking import check
from peerproto.wire.errors import LocalProtocolError
from tests.folders import FolderTestCase

CONFIGS = Path(__file__).parent / "configs"
FILES = sorted(CONFIGS.glob("*.cfg"))

EXAMPLE = """\
global
    localpeer lb1
peers mesh
    peer lb1 192.0.2.1:10000
    peer peerproto 192.0.2.9:10000
    table inpeers type integer size 1k expire 1h store gpc0
backend rates
    stick-table type ip size 1m expire 10m store gpt0,http_req_rate(10s),gpc(3) peers mesh
backend alone
    stick-table type ip size 1k
"""

FITS = """\
[node]
localpeer = peerproto
bind = 192.0.2.9:10000
[peers]
lb1 = 192.0.2.1:10000
[tables]
/inpeers = type integer size 1k expire 1h store gpc0
rates = type ip size 1m expire 10m store gpt0,http_req_rate(10s),gpc(3)
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check, list(arguments))


class CheckTestCase(FolderTestCase):
    def compare(self, haproxy: str, ini: str) -> tuple[int, list[str]]:
        """The status, and what is found."""
        Path("haproxy.cfg").write_text(haproxy)
        Path("peers.ini").write_text(ini)
        result = run("haproxy.cfg", "--peers-ini", "peers.ini")
        self.assertIn(result.exit_code, (0, 1, 2), result.exception)
        self.assertEqual(result.stdout, "")
        return result.exit_code, result.stderr.splitlines()


class WritingTests(CheckTestCase):
    def test_configs(self) -> None:
        """Each configuration gives the peers.ini and the findings that stand beside it."""
        self.assertGreaterEqual(len(FILES), 10)
        for path in FILES:
            os.chdir(CONFIGS)
            result = run(path.name)
            wanted = path.with_suffix(".expected").read_text()
            found = f"{result.stdout}---- status {result.exit_code}\n{result.stderr}"
            self.assertEqual(found, wanted, path.name)

    def test_written_fits(self) -> None:
        """What was printed for a configuration can be read, and fits it, but for what was said."""
        for path in FILES:
            result = run(str(path))
            for text in result.stdout.split("# ---- another file ----"):
                ini = re.sub(r"\[tls\][^\[]*", "", text)
                Config.parse("peers.ini", ini)
                Path("peers.ini").write_text(ini)
                section = re.search(r"for the section peers (\w+) of", text)
                assert section is not None
                again = run(str(path), "--peers-ini", "peers.ini", "--section", section[1])
                if result.exit_code == 0:
                    self.assertEqual(again.exit_code, 0, again.stderr)

    def test_environment(self) -> None:
        """Variables may be given; what stands behind a dash is for those that are not."""
        path = str(CONFIGS / "variables.cfg")
        result = run(path, "--env", "LB3_HOST=192.0.2.3", "--env", "SIZE=2k")
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertIn("lb3 = 192.0.2.3:10003\n", result.stdout)
        self.assertIn("b2 = type string len 5 size 2k store gpc0,gpc1\n", result.stdout)
        self.assertEqual(run(path, "--env", "SIZE").exit_code, 2)

    def test_who_we_are(self) -> None:
        """--localpeer names our node, also one that HAProxy does not know."""
        path = str(CONFIGS / "two_sections.cfg")
        result = run(path, "--section", "west", "--localpeer", "lb2")
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertIn("localpeer = lb2\nbind = 127.0.0.1:10004\n", result.stdout)
        self.assertNotIn("east", result.stdout)
        result = run(path, "--section", "west", "--localpeer", "us")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("two_sections.cfg:8: read no peer us", result.stderr)

    def test_several_files(self) -> None:
        """All files of a HAProxy, or a folder of them, are read as one."""
        os.mkdir("conf.d")
        head, _, tail = EXAMPLE.partition("backend rates")
        Path("conf.d/1.cfg").write_text(head)
        Path("conf.d/2.cfg").write_text("backend rates" + tail)
        for arguments in (["conf.d"], ["conf.d/1.cfg", "conf.d/2.cfg"]):
            result = run(*arguments)
            self.assertEqual(result.exit_code, 0, result.stderr)
            self.assertIn("# conf.d/2.cfg:2\nrates = type ip", result.stdout)

    def test_not_readable(self) -> None:
        """A file that is not there, or has no peers, ends with status 2 and says so."""
        Path("none.cfg").write_text("global\n")
        for arguments, words in (
            (["gone.cfg"], "gone.cfg: No such file"),
            (["none.cfg"], "there is no peers section in it"),
            ([str(FILES[0]), "--section", "x"], "read no section peers x, expected mypeers"),
            ([str(FILES[0]), "--peers-ini", "gone.ini"], "gone.ini: No such file"),
        ):
            result = run(*arguments)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(words, result.stderr)
        Path("bad.ini").write_text("[nodes]\n")
        result = run(str(FILES[0]), "--peers-ini", "bad.ini")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("bad.ini:1: read '[nodes]', expected one of", result.stderr)

    def test_odd_bytes(self) -> None:
        """Names with anything in them are escaped, and stand in comments alone."""
        odd = b"peers m\xff\n peer lb\x1b[31m 192.0.2.1:1\n peer a=b 192.0.2.1:2\n"
        odd += b" table t\x9b\xe2\x80\xae type ip size 1k\n table u,v type ip size 1k\n"
        Path("odd.cfg").write_bytes(odd)
        result = run("odd.cfg")
        self.assertEqual(result.exit_code, 1)
        for line in result.output.splitlines():
            self.assertTrue(line.isprintable(), repr(line))
        self.assertIn("\n# lb\\x1B[31m = 192.0.2.1:1\n", result.stdout)
        self.assertIn("\n# a=b = 192.0.2.1:2\n", result.stdout)
        self.assertIn("# /u,v = type ip size 1k\n", result.stdout)
        Config.parse("peers.ini", result.stdout)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_anything(self, data: st.DataObject) -> None:
        """Whatever stands in a configuration, there is no traceback, and nothing unprintable."""
        text = EXAMPLE
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(text)))
            junk = data.draw(
                st.text(max_size=8)
                | st.sampled_from(
                    [".if x\n", "\n", '"', "'", "\\", "${A}", '"${', "peer ", "peers "]
                )
            )
            end = at + data.draw(st.integers(0, 12))
            text = text[:at] + junk + text[end:]
        Path("any.cfg").write_text(text, errors="surrogatepass", newline="\n")
        Path("fits.ini").write_text(FITS)
        for more in ((), ("--peers-ini", "fits.ini")):
            result = run("any.cfg", *more)
            self.assertIn(result.exit_code, (0, 1, 2), result.exception)
            for line in result.output.splitlines():
                self.assertTrue(line.isprintable(), repr(line))
            if not more and result.exit_code < 2:
                for one in result.stdout.split("# ---- another file ----"):
                    Config.parse("peers.ini", re.sub(r"\[tls\][^\[]*", "", one))


class ComparingTests(CheckTestCase):
    def test_fits(self) -> None:
        """Nothing is found where both say the same."""
        self.assertEqual(self.compare(EXAMPLE, FITS), (0, []))

    def found(self, haproxy: tuple[str, str], ini: tuple[str, str], words: str) -> None:
        """With these replacements, there is just one finding, with these words in it."""
        self.assertIn(haproxy[0], EXAMPLE)
        self.assertIn(ini[0], FITS)
        status, lines = self.compare(EXAMPLE.replace(*haproxy), FITS.replace(*ini))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn(words, lines[0])
        self.assertEqual(status, 0 if ": note: " in lines[0] else 1)

    def test_each_difference(self) -> None:
        """Each difference is found, with the place, what was read, what was expected, and what to
        change; what works all the same is a note."""
        same = ("", "")
        line = "rates = type ip size 1m expire 10m store gpt0,http_req_rate(10s),gpc(3)\n"
        off = "[node]\nlearn-tables = no\nlearn-columns = no\n"
        cases: list[tuple[tuple[str, str], tuple[str, str], str]] = [
            (
                same,
                ("lb1 = 192.0.2.1:10000\n", ""),
                "peers.ini:4: read no peer lb1, expected lb1 = 192.0.2.1:10000, as in"
                " haproxy.cfg:4; add it",
            ),
            (
                same,
                ("192.0.2.1:10000", "192.0.2.2:10000"),
                "peers.ini:5: read lb1 = 192.0.2.2:10000, expected 192.0.2.1:10000, as in",
            ),
            (same, ("192.0.2.1:10000", "tcp:192.0.2.1:10001"), "read lb1 = 192.0.2.1:10001"),
            (same, ("bind = 192.0.2.9:10000", "bind = :9999"), "peers.ini:3: read bind = :9999"),
            (same, ("bind = 192.0.2.9:", "bind = 127.0.0.1:"), "expected 192.0.2.9:10000, where"),
            (same, ("[tables]", "lb2 = 192.0.2.2:1\n[tables]"), "peers.ini:6: read lb2, which"),
            (
                ("    peer peerproto 192.0.2.9:10000\n", ""),
                same,
                "haproxy.cfg:3: read no peer peerproto (localpeer, peers.ini:2), expected a line:"
                " peer peerproto 192.0.2.9:10000; add it at every HAProxy",
            ),
            (same, (line, ""), "peers.ini:6: note: read no table rates"),
            (same, ("type ip size", "type ipv6 size"), "table rates of type ipv6"),
            (("type ip size 1m", "type string size 1m"), same, "expected type string"),
            (same, ("expire 10m", "expire 5m"), "expire 5m, expected expire 10m, as in"),
            (same, ("expire 10m ", ""), "with expire 0 (never), expected expire 10m"),
            (same, ("size 1m", "size 1k"), "of size 1024, expected size 1048576, as in"),
            (same, ("size 1m", "size 2m"), "note: read table rates of size 2097152"),
            (same, ("size 1m", "size 1m nopurge"), "note: read table rates with nopurge"),
            (same, ("size 1m", "size 1m recv-only"), "note: read table rates with recv-only"),
            (same, ("size 1m", "size 1m brates-factor 4"), "with brates-factor 4, expected 1"),
            (same, ("gpt0,", ""), "note: read table rates without gpt0"),
            (same, (",gpc(3)", ",gpc(2)"), "note: read table rates without gpc of 3 elements"),
            (same, ("gpt0,", "gpt0,conn_cnt,"), "note: read table rates with conn_cnt"),
            (same, ("(10s)", "(1m)"), "with http_req_rate over 1m, expected 10s"),
            (
                same,
                ("[tables]", "[tables]\nalone = type ip size 1k"),
                "expected peers mesh in haproxy.cfg:10, where no peers stands",
            ),
            (same, ("[tables]", "[tables]\nz = type ip size 1k"), "expected a table of that name"),
            (
                ("peer peerproto 192.0.2.9:10000", "peer peerproto 192.0.2.9:10000 ssl"),
                same,
                "peers.ini:1: read no section [tls], expected [tls] with a certificate",
            ),
            (
                ("peers mesh\n", "peers mesh\n    default-bind ssl crt lb1.pem\n"),
                same,
                "[tls] with a certificate: haproxy.cfg:4 takes TLS alone",
            ),
            (("9:10000", "9:10000 shard 2"), same, "haproxy.cfg:5: read shard 2, expected none"),
            (("peers mesh\n", "peers mesh\n    disabled\n"), same, "haproxy.cfg:4: read disabled"),
        ]  # fmt: skip
        for haproxy, ini, words in cases:
            self.found(haproxy, ini, words)
        status, lines = self.compare(
            EXAMPLE, FITS.replace("[node]\n", off).replace("gpt0,", "").replace("\n/inp", "\n;")
        )
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 2, lines)
        self.assertIn("add it, or set learn-tables = yes", lines[0])
        self.assertIn("add it to store, or set learn-columns = yes", lines[1])

    def test_name_without_slash(self) -> None:
        """A table of a peers section has a slash before its name, which is said where it is not."""
        status, lines = self.compare(EXAMPLE, FITS.replace("\n/inpeers", "\ninpeers"))
        self.assertEqual(status, 1)
        expected = "expected /inpeers: so a table of a peers section is called; rename it"
        self.assertIn(expected, lines[1])

    def test_tls(self) -> None:
        """[tls] fits a section with ssl where HAProxy calls and listens, and no other."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path("ca.pem")
        issued = authority.issue_cert("peerproto")
        issued.private_key_and_cert_chain_pem.write_to_path("us.pem")
        ini = f"{FITS}[tls]\ncertificate = us.pem\nca-file = ca.pem\n"
        status, lines = self.compare(EXAMPLE, ini)
        self.assertEqual(status, 1)
        self.assertIn("haproxy.cfg:5: read peer peerproto 192.0.2.9:10000, expected ssl", lines[0])
        calls = EXAMPLE.replace("9:10000", "9:10000 ssl verify none")
        status, lines = self.compare(calls, ini)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("haproxy.cfg:3: read no ssl, expected ssl in bind or default-bind", lines[0])
        both = calls.replace("peers mesh\n", "peers mesh\n    default-bind ssl crt lb1.pem\n", 1)
        self.assertEqual(self.compare(both, ini), (0, []))

    def test_same_name(self) -> None:
        """A node cannot have the name of the HAProxy."""
        _, lines = self.compare(EXAMPLE, FITS.replace("localpeer = peerproto", "localpeer = lb1"))
        self.assertIn("expected another name than that of this HAProxy", "\n".join(lines))

    def test_section_is_found(self) -> None:
        """Of several sections, the one with our name in it is meant."""
        east = "[node]\nlocalpeer = east-peerproto\nbind = :10002\n[peers]\nlb1 = localhost:10001\n"
        Path("east.ini").write_text(east)
        result = run(str(CONFIGS / "two_sections.cfg"), "--peers-ini", "east.ini")
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertIn("east.ini:1: note: read no table /t", result.stderr)


class WordTests(FolderTestCase):
    def test_variables(self) -> None:
        """Variables are those of double quotes, and of nothing else."""
        known = {"A": "x y", "B1": ""}.get
        for line, words in (
            ('"$A"z', ["x yz"]),
            ('"a${A}b" c', ["ax yb", "c"]),
            ("'$A' $A", ["$A", "$A"]),
            ('"${B1}" "${C-d e}" "$A$A"', ["", "d e", "x yx y"]),
            ('"${A[*]}"', ["x y"]),
            ('"\\"$A#" #"$C"', ['"x y#']),
        ):
            self.assertEqual(split_words(line, "line", known), words, line)
        for line in ('"$C"', '"$"', '"${"', '"$A'):
            self.assertRaises(LocalProtocolError, split_words, line, "line", known)
