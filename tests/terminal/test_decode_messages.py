"""What breaks the protocol, and what is odd: each with its place, what was read and expected."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from io import BytesIO

from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.terminal.decode.recording import heard
from peerproto.terminal.decode.source import Source
from peerproto.testing import entries
from peerproto.testing.entries import Text
from peerproto.wire import varint
from peerproto.wire.frames import DEFINITION, MAX_PAYLOAD, STICK_TABLE, UPDATE, Frame
from peerproto.wire.messages import Ack, Control, ErrorMessage, Mark, RelayedTable, TableSwitch
from tests.terminal.recordings import HELLO, REMARKS, TABLE, lesson, run, told_of, update

DEFINED = TABLE.definition(1).encode()
BACK = b"200\n" + DEFINED
BEAT = Control.HEARTBEAT.encode()


class RemarkTests(SynchronousTestCase):
    def remarks(self, data: bytes) -> list[tuple[int | None, str, str]]:
        return [(one.offset, one.kind, one.text) for one in told_of(data) if one.kind in REMARKS]

    def only(self, more: bytes, kind: str, words: str, before: bytes = BACK) -> None:
        """Behind what was good there is one remark, at the place of these bytes, and what is behind
        them is read on."""
        at = len(before)
        found = self.remarks(before + more + BEAT)
        self.assertEqual([one[:2] for one in found], [(at, kind)], found)
        self.assertIn(words, found[0][2])
        self.assertEqual(told_of(before + more + BEAT)[-1].kind, "heartbeat")

    def test_good(self) -> None:
        """Nothing is said of a good lesson."""
        self.assertEqual(self.remarks(b"200\n" + lesson(["a", "b"])), [])

    def test_malformed_payloads(self) -> None:
        """A payload that ends too early breaks the protocol; the next message is read."""
        for payload, words in (
            (b"\x00\x00\x01", "update: read 00 00 01, expected at least 4 bytes"),
            (b"\x00\x00\x00\x01\x05abc", "string key at byte 4: read 05 61 62 63, expected 2 more"),
            (b"\x00\x00\x00\x01\x01a\x05\x01\x02", "expected more values"),
            (
                b"\x00\x00\x00\x01\x01a\x05\x01\x02\x03\x01\x81",
                "dictionary id at byte 11: read 129",
            ),
            (b"\x00\x00\x00\x01\x01a\x05\x01\x02\x03\x01\x00", "dictionary id at byte 11: read 0"),
            (b"\x00\x00\x00\x01\x01a\x05\x01\x02\x03\x09\x01", "expected 9 bytes in the message"),
            (b"\x00\x00\x00\x01\x01a" + b"\xff" * 12, "expected at most 10 bytes"),
        ):
            frame = Frame(STICK_TABLE, UPDATE, payload).encode()
            self.only(frame, "breaks", words)
            self.only(frame, "breaks", "payload of a message (update): ")
        self.only(Frame(STICK_TABLE, 0x84, b"\x01\x00").encode(), "breaks", "4 bytes of update id")
        self.only(Frame(STICK_TABLE, DEFINITION, b"\x01\x00").encode(), "breaks", "a name of 1")
        self.assertEqual(run(BACK + b"\x0a\x80\x01\x00").exit_code, 1)

    def test_heads(self) -> None:
        """Behind a head that cannot be read, nothing is."""
        for head, words in (
            (b"\xff\x00", "message class: read 255, expected 0 to 254"),
            (b"\x0a\x80\xff\xff\xff\x7f", "length of a message of class 10, type 0x80: read "),
            (b"\x0a\x80" + b"\xff" * 12, "at most 10 bytes"),
        ):
            found = self.remarks(BACK + head + b"more")
            self.assertEqual(
                [one[:2] for one in found], [(len(BACK), "breaks"), (len(BACK), "unread")]
            )
            self.assertIn(words, found[0][2])
            self.assertIn(f"{len(head) + 4} bytes from here on are not read", found[1][2])

    def test_bufsize(self) -> None:
        """How long a message may be can be said."""
        frame = Frame(STICK_TABLE, 0x90, bytes(20_000)).encode()
        self.assertEqual(run(BACK + frame).exit_code, 1)
        result = run(BACK + frame, "--bufsize", "32768")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("class 10, type 0x90 with 20000 bytes", result.output)

    def test_hello(self) -> None:
        """A hello that no peer takes says with which status it is answered."""
        for hello, offset, words in (
            (
                b"HAProxyS 3.0\nlb1\nus 1 1\n",
                0,
                "read 3.0, expected 2.0 to 2.1 (answered with 502)",
            ),
            (b"HAProxyS2.1\nlb1\nus 1 1\n", 0, "(answered with 501)"),
            (b"HAProxyS 2.1\nlb1\nus\n", 17, "third line of the hello: read us, expected"),
            (b"HAProxyS " + b"x" * 2000, 0, "more than 1024 bytes without a line feed"),
        ):
            found = self.remarks(hello)
            self.assertEqual(found[0][:2], (offset, "breaks"))
            self.assertIn(words, found[0][2])

    def test_cut_greetings(self) -> None:
        """A hello or a status that was cut at any byte says what is missing."""
        for whole in (HELLO, b"200\r\n"):
            for cut in range(1, len(whole)):
                told = told_of(whole[:cut])
                self.assertEqual(told[-1].kind, "cut", whole[:cut])
                self.assertEqual(
                    [one.kind for one in told[:-1]], ["hello"] * whole[:cut].count(b"\n")
                )

    def test_after_status(self) -> None:
        """Behind a refusal nothing is read."""
        found = self.remarks(b"503\n\x00\x04")
        self.assertEqual(found[0][:2], (4, "unread"))
        self.assertIn("2 bytes from here on are not read: after any status but 200", found[0][2])

    def test_tables(self) -> None:
        """Updates that nobody can read are told with their ids, and why."""
        at_first = told_of(b"200\n" + update("a", 1, 7) + DEFINED + update("a", 1, 8))
        self.assertIn(
            "id=7 before any definition: a peer skips it; 7 bytes: 01 61", at_first[1].text
        )
        self.assertEqual(at_first[3].fields["key"], "a")
        self.only(
            TableSwitch(9).encode(), "odd", "table id of a switch: read 9, expected the id of"
        )
        switched = told_of(
            BACK + Declaration.parse("o", "type ip size 1").definition(2).encode()
            + TableSwitch(1).encode() + update("b", 2, 3)
        )  # fmt: skip
        self.assertEqual(switched[-2].text, "to table rates id 1")
        self.assertEqual(switched[-1].fields["table"], "rates")
        any_key = b"\x03" + b"\x01t" + b"\x00\x04\x00\x00"
        refused = told_of(
            BACK + Frame(STICK_TABLE, DEFINITION, any_key).encode() + update("c", 1, 9)
        )
        self.assertIn("key type any, expected integer", refused[-2].text)
        self.assertIn(
            "of table t, which no table can be made of: a peer skips it", refused[-1].text
        )

    def test_update_ids(self) -> None:
        """Ids that are left out are counted; at the begin of a table one is needed."""
        told = told_of(BACK + update("a", 1, 2**32 - 1) + update("b") + DEFINED + update("c", 1, 5))
        self.assertEqual([one.fields.get("update_id") for one in told[2:]], [2**32 - 1, 0, None, 5])
        self.only(update("a"), "odd", "update id: read none, expected an id: the first update")

    def test_odd_updates(self) -> None:
        """What HAProxy takes badly, or should not have come, is told."""
        raw = b"\x00\x00\x00\x01\x03a\x00b" + b"\x01\x00\x00\x00\x00"
        self.only(Frame(STICK_TABLE, UPDATE, raw).encode(), "odd", "key: read a NUL in it")
        late = entries.write(TABLE.layout, "a", {}, 1, 3_600_001)
        self.only(late, "odd", "expiry: read 3600001 ms, expected 3600000 ms at most")
        timed = entries.write(TABLE.layout, "a", {}, 1, 5)
        self.assertEqual(self.remarks(BACK + timed), [])
        old = HELLO.replace(b"2.1", b"2.0") + DEFINED
        self.only(timed, "odd", "expected an untimed update: the session speaks 2.0", old)

    def test_after_error(self) -> None:
        """An error message ends a session: what comes behind it is odd."""
        found = self.remarks(BACK + ErrorMessage.SIZE_LIMIT.encode() + BEAT + BEAT)
        self.assertEqual([one[:2] for one in found], [(len(BACK) + 2, "odd")])

    def test_messages(self) -> None:
        """Every kind of message is told in words."""
        data = b"200\n" + b"".join(one.encode() for one in (*Control, Mark.TIES, Ack(3, 9)))
        data += RelayedTable("t").encode() + RelayedTable("t", is_relayed=False).encode()
        told = told_of(data + Frame(10, 0x87, b"\x1b[31m").encode() + b"\x07\x07")
        self.assertEqual(
            [one.kind for one in told],
            [
                "status",
                *("resync-request", "resync-finished", "resync-partial", "resync-confirm"),
                *("heartbeat", "peerproto", "ack", "peerproto", "peerproto", "unknown", "unknown"),
            ],
        )
        self.assertIn("1b 5b 33 31 6d; a peer skips", told[-2].text)


class TextTests(SynchronousTestCase):
    def values(self, *said: object) -> list[str]:
        data = BACK + b"".join(update(f"k{at}", 1, at, one) for at, one in enumerate(said))
        return [
            one.text.partition("server_key=")[2]
            for one in told_of(data)
            if one.kind.endswith("update")
        ]

    def test_texts(self) -> None:
        """A text is resolved by its id, as of its place; what is not said is told as that."""
        found = self.values(
            Text(1, b"s 1"), Text(1), None, Text(2), Text(1, b"\x1b\xff"), Text(1), Text(128, b""),
            Text(3, b"x" * 2000), Text(3), Text(4, b"y" * 40), Text(4),
        )  # fmt: skip
        self.assertEqual(
            found,
            [
                "s\\x201[text 1]",
                "s\\x201[again text 1]",
                "-[nothing said]",
                "?[text 2, which was not sent before]",
                "\\x1B\\xFF[text 1]",
                "\\x1B\\xFF[again text 1]",
                "[text 128]",
                "?[text 3, which is too long to be taken]",
                "?[text 3, which was not sent before]",
                "y" * 40 + "[text 4]",
                "y" * 40 + "[again text 4]",
            ],
        )

    def test_odd_names(self) -> None:
        """Names and keys with any byte in them are escaped, as show table does it."""
        table = Declaration("t\x1b \udcff\u202e", TABLE.layout)
        raw = b"\x00\x00\x00\x01\x05\x1b\n \xff=" + b"\x01\x00\x00\x00\x00"
        data = b"200\n" + table.definition(1).encode() + Frame(STICK_TABLE, UPDATE, raw).encode()
        for options in ((), ("--json",)):
            output = run(data, *options).output
            for line in output.splitlines():
                self.assertTrue(line.isprintable(), repr(line))
        self.assertIn(
            "t\\x1B\\x20\\xFF\\xE2\\x80\\xAE id=1 key=\\e\\n\\ \\xFF\\= gpc0=1", run(data).output
        )
        line = json.loads(run(data, "--json").output.splitlines()[-1])
        self.assertEqual(line["key"], "\\e\\n\\ \\xFF\\=")
        self.assertEqual(line["values"]["gpc0"], 1)
        self.assertEqual(
            line["values"]["http_req_rate"],
            {"rate": 0, "period_ms": 10000, "current": 0, "previous": 0, "age_ms": 0},
        )

    def test_old_peers(self) -> None:
        """A definition without periods has rates that nobody can work out."""
        payload = b"\x01\x01t\x04\x04" + varint.encode(1 << 3)
        update_of = b"\x00\x00\x00\x01\x7f\x00\x00\x01\x05\x03\x04"
        told = told_of(
            b"200\n" + Frame(STICK_TABLE, DEFINITION, payload).encode()
            + Frame(STICK_TABLE, UPDATE, update_of).encode()
        )  # fmt: skip
        self.assertEqual(told[-1].text, "t id=1 key=127.0.0.1 gpc0_rate=?[3 for 5ms, 4 before]")


class _Endless(io.RawIOBase):
    """A long file that is made as it is read."""

    def __init__(self, head: bytes, body: bytes, times: int) -> None:
        self._pieces = iter([head, *[body] * times])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        piece = next(self._pieces, b"")
        view = memoryview(buffer)  # type: ignore[arg-type]
        view[: len(piece)] = piece
        return len(piece)


class StreamTests(SynchronousTestCase):
    def test_memory(self) -> None:
        """A file of 40 MB takes no more memory than a message or two."""
        big = Declaration.parse("t", "type binary len 8000 size 1k store gpc0")
        entry = entries.write(big.layout, bytes(8000), {}, 1)
        file = io.BufferedReader(_Endless(b"200\n" + big.definition(1).encode(), entry, 5000))
        count = 0
        tracemalloc.start()
        try:
            for one in heard(Source(file), MAX_PAYLOAD):
                count += one.told.kind == "update"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual(count, 5000)
        self.assertLess(peak, 2_000_000)

    def test_junk_is_dropped(self) -> None:
        """Neither does one in which no message begins."""
        file = io.BufferedReader(_Endless(b"\x30", os.urandom(1) + b"\xee" * 8000, 2000))
        tracemalloc.start()
        try:
            told = [one.told for one in heard(Source(file), MAX_PAYLOAD)]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual([one.kind for one in told], ["odd", "skipped"])
        self.assertEqual(told[1].fields, {"skipped": 1 + 2000 * 8001})
        self.assertLess(peak, 2_000_000)

    def test_found_behind_junk(self) -> None:
        """Messages behind much junk are found, with their place in the file."""
        junk = b"\xee" * 300_000
        told = [one.told for one in heard(Source(BytesIO(junk + lesson(["a"]))), MAX_PAYLOAD)]
        self.assertEqual([one.kind for one in told[1:4]], ["skipped", "definition", "update"])
        self.assertEqual(told[2].offset, 300_000)
