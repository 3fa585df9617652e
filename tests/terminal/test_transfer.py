"""Export, import and copy: nothing is lost on the way, and what is wrong is named."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Union

from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto import Declaration, NodeTime, Portable, PortableTable, Record
from peerproto.storage.database import Database
from peerproto.storage.lock import FileLock
from peerproto.storage.transaction import Declared, Transaction
from peerproto.terminal.node import NodeError
from peerproto.terminal.program import program
from peerproto.terminal.transfer.csvlines import CsvFormat
from peerproto.terminal.transfer.jsonlines import JsonFormat
from peerproto.terminal.transfer.lines import Format
from peerproto.terminal.transfer.parquet import ParquetFormat
from tests.strategies import layouts, names, raw_keys, values
from tests.terminal.case import TerminalTestCase

NOW = 1_700_000_000_000
"""A time in ms since the epoch."""

PEERS = st.none() | names

EVERYTHING = {
    "all": "type string len 40 size 1m expire 10m store server_id,gpt0,gpc0,gpc0_rate(10s),"
    "conn_cnt,conn_rate(10s),conn_cur,sess_cnt,sess_rate(10s),http_req_cnt,http_req_rate(1m),http_err_cnt,"
    "http_err_rate(10s),bytes_in_cnt,bytes_in_rate(10s),bytes_out_cnt,bytes_out_rate(10s),gpc1,"
    "gpc1_rate(10s),server_key,http_fail_cnt,http_fail_rate(10s),glitch_cnt,glitch_rate(10s)",
    "arrays": "type ipv6 size 1m expire 10m store gpt(3),gpc(3),gpc_rate(2,10s)",
    "plain": "type string len 40 size 1m",
    "hex": "type binary len 4 size 1m expire 1h store gpc0",
    "ids": "type integer size 1m store bytes_out_cnt",
    "rates": "type ip size 1m expire 10m store gpc0,http_req_rate(10s)",
}
"""Tables with every data type and every type of keys."""


@st.composite
def tables(draw: st.DrawFn) -> tuple[PortableTable, list[Portable]]:
    """A table, and entries of it."""
    layout = draw(layouts())
    name = draw(names)
    declaration = Declaration(name, layout, draw(st.sampled_from((0, 600_000))), 1000)
    per_peer = draw(st.booleans())
    entries = []
    for raw_key in draw(st.lists(raw_keys(layout), unique=True, max_size=5)):
        peer = draw(names) if per_peer else None
        expires = draw(st.none() | st.integers(NOW, NOW + 600_000))
        record = Record.made(declaration, raw_key, NOW, expires, draw(values(layout)), peer)
        entries.append(Portable.of(record, NOW))
    return PortableTable(declaration, per_peer), entries


def written(form: Format, table: PortableTable, entries: list[Portable]) -> bytes:
    """What a format writes."""
    out = io.BytesIO()
    key_type = table.declaration.layout.key_type
    count = form.write(table, (one.json(key_type) for one in entries), out)
    assert count == len(entries)
    return out.getvalue()


class FormatTests(SynchronousTestCase):
    def check(self, form: Format, table: PortableTable, entries: list[Portable]) -> None:
        """What is written is read again, and written again is the same."""
        data = written(form, table, entries)
        reading = form.read(io.BytesIO(data))
        self.assertEqual(reading.table, table)
        lines = list(reading.lines(table.declaration.layout))
        self.assertEqual([one.problem for one in lines], [None] * len(entries))
        again = [Portable.read(one.entry, table.declaration.layout) for one in lines]
        self.assertEqual(again, entries)
        self.assertEqual(written(form, table, again), data)

    @given(tables())
    @settings(deadline=None)
    def test_json(self, drawn: tuple[PortableTable, list[Portable]]) -> None:
        """Nothing is lost in JSON, whatever bytes keys and texts have."""
        self.check(JsonFormat(), *drawn)

    @given(tables())
    @settings(deadline=None)
    def test_csv(self, drawn: tuple[PortableTable, list[Portable]]) -> None:
        """Nothing is lost in CSV."""
        self.check(CsvFormat(), *drawn)

    @given(tables())
    @settings(deadline=None)
    def test_parquet(self, drawn: tuple[PortableTable, list[Portable]]) -> None:
        """Nothing is lost in Parquet, whose columns have the types of the values."""
        self.check(ParquetFormat(), *drawn)

    def test_parquet_types(self) -> None:
        """Programs that analyse read numbers as numbers, and times as times."""
        import pyarrow.parquet

        stored = "server_id,gpc0,http_req_rate(10s),bytes_in_cnt,server_key"
        line = f"type ip size 1k expire 10m store {stored}"
        declaration = Declaration.parse("t", line)
        out = io.BytesIO(written(ParquetFormat(), PortableTable(declaration), []))
        schema = pyarrow.parquet.ParquetFile(out).schema_arrow
        self.assertEqual(
            {one.name: str(one.type) for one in schema},
            {
                "key": "string",
                "expires": "timestamp[ms, tz=UTC]",
                "server_id": "int32",
                "gpc0": "uint32",
                "http_req_rate_start": "timestamp[ms, tz=UTC]",
                "http_req_rate_current": "uint32",
                "http_req_rate_previous": "uint32",
                "bytes_in_cnt": "uint64",
                "server_key": "string",
            },
        )

    def test_no_parquet(self) -> None:
        """What is no Parquet, or is cut short, is told."""
        with self.assertRaisesRegex(NodeError, "no Parquet"):
            ParquetFormat().read(io.BytesIO(b"PAR1 and nothing else"))


def in_json(table: PortableTable, entries: list[Portable]) -> str:
    """An export of some entries."""
    return written(JsonFormat(), table, entries).decode("ascii")


class NodeTests(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        began, self.set_on = time.time(), 0.0
        wall = lambda: began + self.clock.seconds() + self.set_on  # noqa: E731
        self.service.time = NodeTime(self.clock, wall)
        for name, line in EVERYTHING.items():
            self.service.declare_table(Declaration.parse(name, line))

    def now(self) -> int:
        """The time in ms since the epoch."""
        return self.service.time.now()

    def bring(
        self, text: Union[str, bytes], *words: str, way: str = "runtime", status: int = 0
    ) -> Result:
        """Import a text."""
        result = self.run_program("import", *words, way=way, answers=text)
        self.assertEqual(result.exit_code, status, result.output)
        return result

    @given(st.data())
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    def test_round_trip(self, data: st.DataObject) -> None:
        """What was exported, imported and exported again is the same, by each way to the node and
        in each format that loses nothing: every data type, odd bytes, limits."""
        name = data.draw(st.sampled_from(sorted(EVERYTHING)))
        table = self.service.table(name)
        layout, declaration = table.layout, table.declaration
        drawn = data.draw(st.lists(raw_keys(layout), unique=True, max_size=4))
        entries = []
        for raw_key in drawn:
            expires = None
            if declaration.expire:
                expires = self.now() + data.draw(st.integers(1, declaration.expire))
            record = Record.made(
                declaration, raw_key, self.now(), expires, data.draw(values(layout))
            )
            entries.append(Portable.of(record, self.now()))
        entries.sort(key=lambda one: one.raw_key)
        text = in_json(PortableTable(declaration), entries)
        for way in self.ways:
            table.clear()
            taken = self.bring(text, way=way).stdout
            self.assertTrue(taken.startswith(f"{len(entries)} entr"), taken)
            self.assertEqual(self.says("export", name, "--sort"), text)
            for form in ("csv", "parquet"):
                words = ("export", name, "--sort", "--format", form)
                exported = self.run_program(*words).stdout_bytes
                table.clear()
                self.bring(exported, way=way)
                self.assertEqual(self.says("export", name, "--sort"), text, form)
                self.assertEqual(self.run_program(*words).stdout_bytes, exported, form)

    def test_parquet_in(self) -> None:
        """A node takes Parquet, and names rows that it cannot take."""
        import pyarrow
        import pyarrow.parquet

        rates = self.service.table("rates")
        rates.count("192.0.2.1", gpc0=7, http_req_rate=3)
        text = self.says("export", "rates")
        data = self.run_program("export", "rates", "--format", "parquet").stdout_bytes
        for way in self.ways:
            rates.clear()
            self.bring(data, way=way)
            self.assertEqual(self.says("export", "rates"), text)
        out = io.BytesIO()
        now = datetime(2026, 11, 29, tzinfo=timezone.utc)
        some = {"key": ["192.0.2.1", "x", None], "gpc0": [1, 2, 3], "expires": [None, now, now]}
        pyarrow.parquet.write_table(pyarrow.table(some), out)
        result = self.bring(out.getvalue(), "--table", "rates", status=1)
        self.assertEqual(
            [one.partition(", expected")[0] for one in result.stderr.splitlines()],
            ["row 2: key: read 'x'", "row 3: key: read 'null'"],
        )
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"key": [now]}), out)
        said = self.bring(out.getvalue(), "--table", "rates", status=1).stderr
        self.assertIn("row 1: key: read", said)

    def test_rates_are_aged(self) -> None:
        """A rate has its periods again, aged by the time that has passed, and not its reading
        alone."""
        rates = self.service.table("rates")
        rates.count("192.0.2.1", http_req_rate=100)
        self.clock.advance(12)
        rates.count("192.0.2.1", http_req_rate=40)
        text = self.says("export", "rates")
        self.clock.advance(3)
        before = rates["192.0.2.1"].counter("http_req_rate")
        for way in self.ways:
            rates.clear()
            self.bring(text, way=way)
            self.assertEqual(rates["192.0.2.1"].counter("http_req_rate"), before)
            self.assertEqual(rates["192.0.2.1"].expires_in, 597_000)

    def test_time_is_over(self) -> None:
        """An entry whose time is over is left out and counted; also without a change."""
        rates = self.service.table("rates")
        rates.set("192.0.2.1", gpc0=1, expires_in=1000)
        rates.set("192.0.2.2", gpc0=2)
        text = self.says("export", "rates")
        self.clock.advance(2)
        for way in self.ways:
            rates.clear()
            said = self.bring(text, way=way).stdout
            self.assertEqual(said, "1 entry taken, 1 left out whose time is over\n")
            self.assertEqual([str(one.key) for one in rates], ["192.0.2.2"])

    def test_stepped_clock(self) -> None:
        """Times are those of people's clocks, also where one was set while the node ran."""
        rates = self.service.table("rates")
        rates.set("192.0.2.1", gpc0=1)
        before = json.loads(self.says("export", "rates").splitlines()[1])
        self.set_on = 3600.0
        after = json.loads(self.says("export", "rates").splitlines()[1])
        self.assertEqual(before["expires"] + 3_600_000, after["expires"])
        text = self.says("export", "rates")
        rates.clear()
        self.bring(text)
        self.assertEqual(self.says("export", "rates"), text)

    def test_bad_lines(self) -> None:
        """Each line that cannot be taken is named, with what was read and what was expected; the
        others are taken, and the status says that some were not."""
        good = [f'{{"key":"192.0.2.{number}","values":{{"gpc0":{number}}}}}' for number in range(3)]
        bad = {
            "{": "expected an object in JSON",
            "[]": "read '[]', expected an object",
            '{"key":"192.0.2.300"}': "key: read '192.0.2.300', expected an IPv4 address",
            '{"key":7}': "key: read '7', expected a text",
            '{"keys":"192.0.2.1"}': "field: read 'keys', expected one of key, peer,",
            '{"key":"192.0.2.9","values":{"gpc0":4294967296}}': "gpc0: read '4294967296', expected"
            " a whole number from 0 to 4294967295",
            '{"key":"192.0.2.9","values":{"gpc0":1.5}}': "gpc0: read '1.5', expected",
            '{"key":"192.0.2.9","values":{"gpc9":1}}': "value: read 'gpc9', expected one of gpc0,"
            " http_req_rate",
            '{"key":"192.0.2.9","values":{"http_req_rate":[1,2]}}': "http_req_rate: read '[1, 2]',"
            " expected when the period began",
            '{"key":"192.0.2.9","expires":-1}': "expires: read '-1', expected ms since the epoch",
            '{"key":"192.0.2.9","peer":"lb1"}': "peer: read 'lb1', expected none",
            "\xff": "expected an object in JSON",
        }
        text = "\n".join([good[0], *bad, *good[1:]]) + "\n"
        for way in self.ways:
            self.service.table("rates").clear()
            result = self.bring(text, "--table", "rates", way=way, status=1)
            lines = result.stderr.splitlines()
            self.assertEqual(len(lines), len(bad), result.stderr)
            for number, (line, expected) in enumerate(zip(lines, bad.values()), 2):
                self.assertTrue(line.startswith(f"line {number}: "), line)
                self.assertIn(expected, line)
            self.assertEqual(result.stdout, f"3 entries taken, {len(bad)} not taken: see above\n")
            self.assertEqual(len(self.service.table("rates")), 3)

    def test_bad_rows(self) -> None:
        """Rows of CSV that cannot be taken are named by the line in which they begin."""
        text = (
            "key,gpc0,http_req_rate_current,http_req_rate_start,http_req_rate_previous\r\n"
            "192.0.2.1,1,,,\r\n192.0.2.2\r\n192.0.2.3,x,,,\r\n192.0.2.4,1,5,,\r\n"
            '"192\n.0.2.5",1,,,\r\n192.0.2.6,6,7,8,9\r\n"a"b,1,,,\r\n192.0.2.7,2,,,\r\n'
        )
        result = self.bring(text, "--table", "rates", status=1)
        starts = [one.partition(":")[0] for one in result.stderr.splitlines()]
        self.assertEqual(starts, ["line 3", "line 4", "line 5", "line 6", "line 9"])
        self.assertIn("line 3: read 1 fields, expected 5", result.stderr)
        self.assertIn("line 4: gpc0: read 'x', expected a whole number", result.stderr)
        keys = {str(one.key) for one in self.service.table("rates")}
        self.assertEqual(keys, {"192.0.2.1", "192.0.2.6", "192.0.2.7"})
        wrong = self.bring("key,gpc7\r\n1,2\r\n", "--table", "rates", status=1).stderr
        self.assertIn("line 1: read column 'gpc7', expected some of: key, peer, expires,", wrong)
        self.assertIn("expected the names of columns", self.bring("1,2\n", status=1).stderr)

    def test_node_refuses(self) -> None:
        """What only the node knows, it says: a table that is full."""
        lines = "".join(f'{{"key":"{number}","values":{{}}}}\n' for number in range(4))
        for way in self.ways:
            self.service.table("small").clear()
            result = self.bring(lines, "--table", "small", way=way, status=1)
            self.assertEqual(
                [one.partition(":")[0] for one in result.stderr.splitlines()], ["line 3", "line 4"]
            )
            self.assertIn("expected room", result.stderr)

    def test_dry_run(self) -> None:
        """Nothing is changed by a dry run, and all that is wrong is said."""
        text = '{"key":"192.0.2.1"}\n{"key":"192.0.2.2","expires":5}\n{"key":"x"}\n'
        result = self.bring(text, "--table", "rates", "--dry-run", status=1)
        self.assertIn("line 3: key: read 'x'", result.stderr)
        self.assertEqual(
            result.stdout, "1 entry taken, 1 left out whose time is over, 1 not taken: see above\n"
        )
        self.assertEqual(len(self.service.table("rates")), 0)

    def test_unfit(self) -> None:
        """A table with other keys takes nothing; columns that it lacks are told."""
        self.service.table("ids").set(7, bytes_out_cnt=(1 << 64) - 1)
        wrong = self.bring(self.says("export", "ids"), "--table", "rates", status=1)
        self.assertIn("read keys of type integer, expected ip", wrong.stderr)
        declaration = Declaration.parse("other", "type ip size 1k store gpc1,http_req_rate(20s)")
        self.service.add_table(declaration).set("192.0.2.1", gpc1=5, http_req_rate=3)
        self.service.table("rates").set("192.0.2.1", gpc0=9)
        result = self.bring(self.says("export", "other"), "--table", "rates")
        self.assertEqual(
            result.stderr.splitlines(),
            [
                "http_req_rate is left out: its period is 20000 ms, and 10000 ms there",
                "gpc1 is left out: the table does not store it",
                "not in what is read, so left as it is: gpc0",
            ],
        )
        self.assertEqual(self.service.table("rates")["192.0.2.1"]["gpc0"], 9)

    def test_versions(self) -> None:
        """A newer format is refused, and says so."""
        text = '{"peerproto":2,"table":{}}\n'
        self.assertIn(
            "read version '2' of the format, expected 1", self.bring(text, status=1).stderr
        )
        named = self.bring('{"key":"192.0.2.1"}', status=1)
        self.assertIn("--table does", named.stderr)

    def test_shares(self) -> None:
        """Each share has its entries again, and a share alone can be exported."""
        for peer in ("lb1", "lb\udcff2"):
            self.service.expect_peer(peer)
        self.service.share("rates", per_peer=True)
        rates = self.service.table("rates")
        for number, peer in enumerate(sorted(rates.contributions())):
            rates.set("192.0.2.1", gpc0=number, peer=peer)
        text = self.says("export", "rates", "--sort")
        for way in self.ways:
            for share in rates.contributions().values():
                share.clear()
            self.bring(text, way=way)
            self.assertEqual(self.says("export", "rates", "--sort"), text)
        peer = sorted(rates.contributions())[0]
        (_, line) = self.says("export", "rates", "--peer", peer).splitlines()
        self.assertEqual(json.loads(line)["peer"], peer)
        gone = text.replace(f'"peer":"{peer}"', '"peer":"nobody"')
        wrong = self.bring(gone, status=1).stderr
        self.assertIn("peer nobody", wrong)

    def test_haproxy(self) -> None:
        """Lines for HAProxy say what it takes; what it does not is told."""
        table = self.service.table("paths")
        table.set(
            "/a b;c\\\udcff'",
            {"gpc[0]": 1, "gpc[1]": 2, "gpt[1]": 3, "server_key": "s1", "server_id": 7},
        )
        table.set("a\nb", server_id=1)
        result = self.run_program("export", "paths", "--format", "haproxy")
        self.assertEqual(
            result.stdout_bytes,
            b"set table paths key /a\\ b\\;c\\\\\\\xff\\' data.server_id 7 data.gpt[0] 0"
            b" data.gpt[1] 3 data.gpc[0] 1 data.gpc[1] 2 data.gpc_rate[0] 0 data.gpc_rate[1] 0\n",
        )
        self.assertIn("1 entry left out, as that of key a\\x0Ab: their keys", result.stderr)
        self.assertIn("server_key: HAProxy's socket sets no texts", result.stderr)
        self.assertIn("HAProxy's socket sets no life", result.stderr)
        old = self.run_program("export", "paths", "--format", "haproxy", "--for", "2.6")
        self.assertIn(b"data.server_id 7 data.gpt 0 data.gpc 1 data.gpc_rate 0\n", old.stdout_bytes)
        self.assertIn("gpt1: HAProxy before 3.2 sets the first element", old.stderr)
        ids = self.service.table("ids")
        ids.set(1, bytes_out_cnt=(1 << 64) - 1)
        ids.set(2, bytes_out_cnt=(1 << 63) - 1)
        said = self.run_program("export", "ids", "--format", "haproxy", "--sort")
        self.assertEqual(
            said.stdout,
            "set table ids key 1\nset table ids key 2 data.bytes_out_cnt 9223372036854775807\n",
        )
        self.assertIn("reads no number above 9223372036854775807", said.stderr)
        binary = self.run_program("export", "hashes", "--format", "haproxy")
        self.assertEqual(binary.exit_code, 1)
        self.assertIn("has binary keys", binary.stderr)

    def test_haproxy_lines_in(self) -> None:
        """Such lines can be imported, too; those that say something else are named."""
        text = (
            "prompt\n# of an old script\nset table rates key 192.0.2.1 data.gpc0 3"
            " data.http_req_rate 9\n\nset table rates key 192.0.2.2 data.gpc7 3\nshow table\n"
            "set table rates key 192.0.2.3 data.gpc0 x\nset table ids key 1\n"
            "set table rates key 192.0.2.4 data.gpc0\n"
        )
        result = self.bring(text, status=1)
        starts = [one.partition(":")[0] for one in result.stderr.splitlines()]
        self.assertEqual(starts, [f"line {number}" for number in (5, 6, 7, 8, 9)])
        (entry,) = self.service.table("rates")
        self.assertEqual((entry["gpc0"], entry["http_req_rate"]), (3, 9))
        paths = self.service.table("paths")
        paths.set("/a b;c\\\udcff'", {"gpc[0]": 1, "gpc[1]": 2})
        lines = self.run_program("export", "paths", "--format", "haproxy").stdout_bytes
        paths.clear()
        self.bring(lines)
        self.assertEqual(paths["/a b;c\\\udcff'"]["gpc1"], 2)

    def test_output(self) -> None:
        """A file has its name when it is whole, and nothing is left of one that is not."""
        self.service.table("rates").set("192.0.2.1", gpc0=1)
        path = self.mktemp()
        self.says("export", "rates", "-o", path)
        self.assertEqual(Path(path).read_text(), self.says("export", "rates"))
        self.fails("export", "nothing", "-o", f"{path}.2")
        os.mkfifo(f"{path}.pipe")
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(Path(f"{path}.pipe").read_text)
            self.run_program("export", "rates", "-o", f"{path}.pipe")
            self.assertEqual(reading.result(60), Path(path).read_text())
        self.assertTrue(Path(f"{path}.pipe").is_fifo())
        os.symlink(Path(path).name, f"{path}.link")
        Path(path).write_text("old")
        self.says("export", "rates", "-o", f"{path}.link")
        self.assertTrue(Path(f"{path}.link").is_symlink())
        self.assertEqual(Path(path).read_text(), self.says("export", "rates"))
        self.assertIn("No such file", self.fails("export", "rates", "-o", "/no/such/folder/x"))
        self.assertFalse([one for one in os.listdir(Path(path).parent) if ".part" in one])


class FileTests(TerminalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()

    def fill(self, table: PortableTable, records: list[Record], wall: int = NOW) -> None:
        """Have a file that keeps some records, as a node writes it."""
        database = Database(self.path)
        moment = database.open(wall)
        declared = (Declared(table.declaration, table.per_peer, False),)
        database.write(Transaction(moment, declared=declared))
        stored = database.tables[table.declaration.name]
        database.insert(stored.sql_name, stored.shape, records)
        database.close()

    def says(self, *words: str, status: int = 0) -> str:
        """What a command says that asks no node."""
        result = CliRunner().invoke(program, words)
        self.assertEqual(result.exit_code, status, result.output)
        return result.stdout if not status else result.stderr

    @given(tables())
    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    def test_file_to_file(self, drawn: tuple[PortableTable, list[Portable]]) -> None:
        """Out of a file, into another one by `copy`, and out of that: the same. Every data type,
        every type of keys, odd names and shares."""
        table, entries = drawn
        now = round(time.time() * 1000)
        layout, expire = table.declaration.layout, table.declaration.expire
        expires = now + expire if expire else None
        self.path, other = self.mktemp(), self.mktemp()
        records = []
        for one in entries:
            values: list[object] = [None] * len(layout.columns)
            for place, column in enumerate(layout.columns):
                cells = [cell for cell in layout.printed if cell.place == place]
                each = one.changes(layout, NOW)
                found = [each[cell.name] for cell in cells]
                values[place] = found[0] if column.elements is None else tuple(found)
            record = Record.made(
                table.declaration, one.raw_key, now, expires, tuple(values), one.peer
            )
            records.append(record)
        self.fill(table, records, now)
        name = table.json["name"]
        first = self.says("export", "--file", self.path, "--", name)
        self.assertEqual(first.count("\n"), 1 + len(entries))
        self.says("copy", "--file", self.path, "--to-file", other, "--", name)
        self.assertEqual(self.says("export", "--file", other, "--", name), first)

    def test_same_as_the_node(self) -> None:
        """A file says the same of entries as the node that wrote it."""
        wall = round(time.time() * 1000)
        self.service.time = NodeTime(self.clock, lambda: wall / 1000 + self.clock.seconds())
        for name, line in EVERYTHING.items():
            self.service.declare_table(Declaration.parse(name, line))
            table = self.service.table(name)
            for raw_key in (b"\0" * 16, b"a" * 16, b"\xff" * 16):
                length = table.layout.fixed_key_length or 40
                key = raw_key[:length] if length < 40 else raw_key.replace(b"\0", b"x")
                events = {
                    cell.name: number
                    for number, cell in enumerate(table.layout.printed, 1)
                    if not cell.is_text and cell.name != "server_id"
                }
                table.count_raw(key, events)
            self.path = self.mktemp()
            self.fill(PortableTable(table.declaration), list(table.records()), wall)
            results = [
                self.run_program("export", name, "--sort"),
                CliRunner().invoke(program, ["export", name, "--file", self.path]),
            ]
            self.assertEqual(results[0].stdout, results[1].stdout)
            self.assertEqual(results[0].stdout.count("\n"), 4)

    def test_file_to_node(self) -> None:
        """What a file keeps goes into a node; entries whose time is over are not read."""
        now = round(time.time() * 1000)
        self.service.time = NodeTime(self.clock, lambda: now / 1000 + self.clock.seconds())
        declaration = Declaration.parse("rates", EVERYTHING["rates"])
        blank = declaration.layout.codec.blank()
        records = [
            Record.made(declaration, bytes((192, 0, 2, 1)), now, now + 600_000, blank),
            Record.made(declaration, bytes((192, 0, 2, 2)), now - 9, now - 1, blank),
        ]
        self.fill(PortableTable(declaration), records, now)
        path = self.mktemp()
        self.says("export", "rates", "--file", self.path, "-o", path)
        for way in self.ways:
            result = self.run_program("import", path, way=way)
            self.assertEqual((result.exit_code, result.stdout), (0, "1 entry taken\n"))

    def test_rows_that_are_wrong(self) -> None:
        """Rows that are not as they were written are told, and the export says that it lacks
        some."""
        declaration = Declaration.parse("rates", EVERYTHING["rates"])
        blank = declaration.layout.codec.blank()
        records = [
            Record.made(declaration, bytes((192, 0, 2, last)), NOW, None, blank)
            for last in range(3)
        ]
        self.fill(PortableTable(declaration), records)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(
                "UPDATE rates SET stored = zeroblob(30) WHERE key_text = '192.0.2.1'"
            )
            connection.commit()
        said = self.says("export", "rates", "--file", self.path, status=1)
        self.assertIn("1 row is not as written: left out", said)

    def test_no_file(self) -> None:
        """What is no such file is told in a line, and nothing is made."""
        self.assertIn("No such file", self.says("export", "t", "--file", "/no.db", status=1))
        self.assertFalse(os.path.exists("/no.db"))
        text = self.mktemp()
        Path(text).write_text("no database")
        self.assertIn(
            "expected one that keeps tables", self.says("export", "t", "--file", text, status=1)
        )
        other = self.mktemp()
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE t (x)")
        self.assertIn("another program", self.says("export", "t", "--file", other, status=1))
        declaration = Declaration.parse("rates", EVERYTHING["rates"])
        self.fill(PortableTable(declaration), [])
        said = self.says("export", "rate", "--file", self.path, status=1)
        self.assertIn("did you mean 'rates'?", said)
        words = ("export", "rates", "--file", self.path, "--prefix", "x")
        self.assertIn("not with --file", self.says(*words, status=2))

    def test_file_in_use(self) -> None:
        """A file that a node has open takes nothing, and a file is not copied onto itself."""
        declaration = Declaration.parse("rates", EVERYTHING["rates"])
        self.fill(PortableTable(declaration), [])
        other = self.mktemp()
        lock = FileLock(other)
        self.assertTrue(lock.take())
        words = ("copy", "rates", "--file", self.path, "--to-file")
        self.assertIn("that no node has open", self.says(*words, other, status=1))
        lock.release()
        self.assertIn("another file", self.says(*words, self.path, status=1))
        self.assertIn("one of them", self.says("copy", "rates", status=2))
