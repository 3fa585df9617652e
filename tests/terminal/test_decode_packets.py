"""Captures: segments in any order, what is missing, every kind of packet."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any

import dpkt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.terminal.decode.lines import Apart
from peerproto.terminal.decode.recording import Heard
from peerproto.terminal.decode.told import Told
from tests.terminal.recordings import (
    CALLEE,
    CALLER,
    HELLO,
    REMARKS,
    SYN,
    Side,
    block,
    closing,
    ethernet,
    heard_in,
    lesson,
    opening,
    packet,
    pcap,
    pieces,
    run,
    said,
    told_of,
)

THERE, BACK = said(12)


def session(size: int, caller: Side = CALLER, callee: Side = CALLEE) -> list[Any]:
    """The packets of a whole session, cut after so many bytes each."""
    return [
        *opening(caller, callee),
        *pieces(callee, caller, BACK, size),
        *pieces(caller, callee, THERE, size),
        *closing((len(THERE), len(BACK)), caller, callee),
    ]


def texts(found: Iterable[Heard], from_caller: bool) -> list[tuple[int | None, str, str]]:
    """What one side has said, without what depends on the order of both sides."""
    return [
        (one.told.offset, one.told.kind, one.told.text)
        for one in found
        if one.from_caller is from_caller and one.told.kind != "odd"
    ]


WHOLE = heard_in(pcap(map(ethernet, session(1000))))


def check_whole(case: SynchronousTestCase, capture: bytes, number: int = 1) -> None:
    """A capture has all that was said in a session, under this number."""
    found = [one for one in heard_in(capture) if one.connection == number]
    for side in (True, False):
        # Acks name the table once it is known.
        said_here = [text.replace("table id 1", "rates (id 1)") for *_, text in texts(found, side)]
        case.assertEqual(said_here, [text for *_, text in texts(WHOLE, side)])


class ReassemblyTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A session is told from its hello to its end, each message with side, place and time."""
        told = [one.told for one in WHOLE]
        self.assertEqual([one for one in told if one.kind in REMARKS], [])
        self.assertEqual(told[0].kind, "connection")
        self.assertIn("192.0.2.1:40000 (>) to 192.0.2.2:10000 (<)", told[0].text)
        self.assertIn("2023-11-14T22:13:20.000000Z", told[0].text)
        kinds = [one.told.kind for one in WHOLE if one.from_caller]
        self.assertEqual(kinds[:4], ["hello", "hello", "hello", "resync-request"])
        back = [one for one in WHOLE if one.from_caller is False]
        self.assertEqual(back[0].told.text, "200: handshake succeeded")
        self.assertEqual(sum(one.told.kind == "update" for one in back), 12)
        self.assertIn(
            "rates id=3 key=key2 gpc0=3 http_req_rate(10000)=6[3 for 5ms, 4 before]",
            back[4].told.text,
        )
        self.assertEqual(round((back[0].time or 0) / 1000), 3000)
        self.assertEqual(told[-1].text, "closed by >, closed by <")

    @settings(max_examples=150, deadline=None)
    @given(st.data(), st.integers(1, 60))
    def test_any_order(self, data: st.DataObject, size: int) -> None:
        """Segments that are shuffled, sent again and overlap give the same."""
        packets = session(size)
        again = data.draw(st.lists(st.sampled_from(packets), max_size=10))
        more = data.draw(
            st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers(1, 200)), max_size=6)
        )
        for there, begin, length in more:
            source, target, stream = (CALLER, CALLEE, THERE) if there else (CALLEE, CALLER, BACK)
            piece = stream[begin : begin + length]
            if piece:
                again.append(packet(source, target, begin, piece))
        # The begin of a direction is waited for while 16 segments come.
        head = data.draw(st.permutations(packets[:8]))
        tail = data.draw(st.permutations([*packets[8:], *again]))
        check_whole(self, pcap(map(ethernet, [*head, *tail])))

    @settings(max_examples=150, deadline=None)
    @given(st.data(), st.integers(5, 80))
    def test_lost(self, data: st.DataObject, size: int) -> None:
        """Missing segments are told with their number of bytes and their place, and all messages
        before the first one of them are there."""
        parts = pieces(CALLEE, CALLER, BACK, size)
        lost = data.draw(st.sets(st.integers(0, len(parts) - 1), min_size=1, max_size=4))
        kept = [one for at, one in enumerate(parts) if at not in lost]
        order = data.draw(st.permutations(kept))
        ends = closing((0, len(BACK)))
        found = heard_in(pcap(map(ethernet, [*opening(), *order, *ends])))
        missing = [
            (one.told.offset, one.told.fields["missing"])
            for one in found
            if one.told.kind == "missing"
        ]
        spans = [(at * size, min(size, len(BACK) - at * size)) for at in sorted(lost)]
        joined: list[tuple[int, int]] = []
        for begin, length in spans:
            if joined and sum(joined[-1]) == begin:
                joined[-1] = joined[-1][0], joined[-1][1] + length
            else:
                joined.append((begin, length))
        self.assertEqual(missing, joined)
        first = joined[0][0]
        whole = [one.told for one in WHOLE if one.from_caller is False]
        ends_at = [one.offset or 0 for one in whole[1:]] + [len(BACK)]
        told = [one.told for one in found if one.from_caller is False]
        before = [one for one, end in zip(whole, ends_at) if end <= first]
        self.assertEqual(told[: len(before)], before)

    def test_late_begin(self) -> None:
        """What one side has said may come before the begin of the other side."""
        opened = opening()
        there, back = pieces(CALLER, CALLEE, THERE, 50), pieces(CALLEE, CALLER, BACK, 50)
        ends = closing((len(THERE), len(BACK)))
        check_whole(self, pcap(map(ethernet, [opened[0], *there, opened[1], *back, *ends])))
        check_whole(self, pcap(map(ethernet, [opened[1], *back, opened[0], *there, *ends])))

    def test_end_missing(self) -> None:
        """What the other side has acknowledged and the recording has not got is told."""
        packets = [*opening(), *pieces(CALLEE, CALLER, BACK[:100], 50)]
        packets.append(packet(CALLER, CALLEE, 0, acked=180))
        found = [one.told for one in heard_in(pcap(map(ethernet, packets)))]
        texts = [one.text for one in found if one.kind == "missing"]
        self.assertEqual(texts, ["about 80 bytes are not in the recording"])

    def test_begun_late(self) -> None:
        """A recording of the midst of a session begins with the next message that can be told."""
        begin = BACK.index(b"key5")
        packets = pieces(CALLEE, CALLER, BACK + lesson(["again"]), 1000, begin)
        found = heard_in(pcap(map(ethernet, packets)))
        kinds = [one.told.kind for one in found]
        self.assertEqual(
            kinds,
            ["connection", "odd", "skipped", "definition", "update", "resync-finished",
             "connection-over"],
        )  # fmt: skip
        self.assertEqual(found[2].told.fields, {"skipped": len(BACK) - begin})
        self.assertEqual(found[3].told.offset, len(BACK) - begin)

    def test_cut_by_snaplen(self) -> None:
        """Packets that were recorded in part say what is missing."""
        frames = [ethernet(one) for one in session(500)]
        found = heard_in(pcap(frame[:200] for frame in frames))
        missing = [one.told.fields["missing"] for one in found if one.told.kind == "missing"]
        self.assertTrue(missing)
        self.assertEqual(sum(missing), sum(max(0, len(one) - 200) for one in frames))

    def test_long_wait(self) -> None:
        """What is missing early is not waited for until the end, in a long session."""
        long = BACK + b"\x00\x04" * 2000
        packets = [*opening(), *pieces(CALLEE, CALLER, long, 4)]
        del packets[40]
        found = heard_in(pcap(map(ethernet, packets)))
        missing = next(one for one in found if one.told.kind == "missing")
        assert missing.time is not None
        self.assertLess(missing.time, 320_000_000)
        self.assertGreater(sum(one.told.kind == "heartbeat" for one in found), 1900)


class ConnectionTests(SynchronousTestCase):
    def test_apart(self) -> None:
        """Connections that went on at the same time are shown one after the other."""
        others = Side("192.0.2.3", 40001), Side("2001:db8::1", 40002, 5)
        both = (
            session(50),
            session(50, others[0]),
            session(50, others[1], Side("2001:db8::2", 10000)),
        )
        mixed = [one for three in zip(*both) for one in three]
        capture = pcap(map(ethernet, mixed))
        for number in (1, 2, 3):
            check_whole(self, capture, number)
        output = run(capture).output.splitlines()
        heads = [at for at, line in enumerate(output) if line.startswith("connection  ")]
        self.assertEqual(len(heads), 3)
        for at, number in zip(heads, (1, 2, 3)):
            self.assertIn(f" {number}: ", output[at])
        self.assertIn("[2001:db8::1]:40002 (>) to [2001:db8::2]:10000 (<)", output[heads[2]])
        sizes = {end - begin for begin, end in zip(heads, [*heads[1:], len(output)])}
        self.assertEqual(len(sizes), 1)
        interleaved = run(capture, "--interleaved").output.splitlines()
        self.assertEqual(len(interleaved), len(output))
        numbers = [line.lstrip()[:2] for line in interleaved]
        self.assertNotEqual(numbers, sorted(numbers))

    def test_same_ports(self) -> None:
        """A later connection with the same ports is another one."""
        later = Side(CALLER.address, CALLER.port, 123_456_789)
        broken = session(50)[:-4]
        found = heard_in(pcap(map(ethernet, [*broken, *session(50, later)])))
        self.assertEqual({one.connection for one in found}, {1, 2})
        check_whole(self, pcap(map(ethernet, [*broken, *session(50, later)])), 2)

    def test_many_kept(self) -> None:
        """Much that is said meanwhile comes out as it was said, when its turn comes."""
        others = Side("192.0.2.3", 40001)
        many = lesson(f"k{at}" for at in range(2000))
        packets = [
            *opening(),
            *opening(others),
            *pieces(CALLEE, others, b"200\n" + many, 1000),
            *pieces(CALLEE, CALLER, b"200\n" + lesson(["last"]), 1000),
        ]
        lines = run(pcap(map(ethernet, packets))).output.splitlines()
        keys = [line.split("key=")[1].split()[0] for line in lines if "key=" in line]
        self.assertEqual(keys, ["last", *(f"k{at}" for at in range(2000))])

    def test_many_connections(self) -> None:
        """However little is kept in memory, each connection's lines come together, in order."""
        numbers = range(1, 40)
        begun = [Heard(Told(None, "connection", ""), number) for number in numbers]
        said_ = [Heard(Told(at, "heartbeat", ""), number) for at in range(9) for number in numbers]
        over = [Heard(Told(None, "connection-over", ""), number) for number in numbers]
        about_all = Heard(Told(None, "recording", ""))
        for most in (1, 100, 1 << 20):
            lines: list[str] = []
            with Apart(lines.append, most) as apart:
                for one in (*begun, about_all, *said_, *over[::-1]):
                    apart.add(one, f"{one.connection} {one.told.kind} {one.told.offset}\n")
            found = "".join(lines).splitlines()
            wanted = [
                f"{number} {text}"
                for number in numbers
                for text in (
                    "connection None",
                    *(f"heartbeat {at}" for at in range(9)),
                    "connection-over None",
                )
            ]
            self.assertEqual(found, [*wanted, "0 recording None"])

    def test_another_protocol(self) -> None:
        """What is no session of peers is said so in a line for each side, whatever it is."""
        request = b"GET / HTTP/1.1\r\n\r\n\x1b[31m" + bytes(5000)
        packets = [
            *opening(),
            *pieces(CALLER, CALLEE, request, 900),
            *pieces(CALLEE, CALLER, b"HTTP/1.1 200 OK\r\n\r\n", 900),
        ]
        result = run(pcap(map(ethernet, packets)))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("first bytes of the caller: read GET / HTTP/1.1\\x0D", result.output)
        self.assertIn("status line: read HTTP/1.1 200 OK, expected three digits", result.output)
        self.assertEqual(result.output.count("not read: it is not the peers protocol"), 2)
        self.assertNotIn("\x1b", result.output)

    def test_tls(self) -> None:
        """TLS is told as that, for each side."""
        packets = [
            *opening(),
            *pieces(CALLER, CALLEE, b"\x16\x03\x01\x02\x00\x01" + bytes(300), 100),
            *pieces(CALLEE, CALLER, b"\x16\x03\x03" + bytes(300), 2),
        ]
        result = run(pcap(map(ethernet, packets)))
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(result.output.count("speaks TLS"), 2)
        self.assertIn("306 bytes from here on are not read: TLS", result.output)

    def test_tls_begun_late(self) -> None:
        """A recording of the midst of such a session says so, too."""
        packets = pieces(CALLER, CALLEE, b"\x17\x03\x03\x00\x20" + bytes(32), 100)
        self.assertIn("speaks TLS", run(pcap(map(ethernet, packets))).output)

    def test_refused(self) -> None:
        """A hello that is refused: both sides say so."""
        packets = [
            *opening(),
            *pieces(CALLER, CALLEE, HELLO, 9),
            *pieces(CALLEE, CALLER, b"504\n", 3),
            *closing((len(HELLO), 4)),
        ]
        output = run(pcap(map(ethernet, packets))).output
        self.assertIn("504: it does not know us by our name", output)

    def test_nobody_there(self) -> None:
        """A call that nobody takes is a connection in which nothing is said."""
        reset = packet(CALLEE, CALLER, 0, flags=dpkt.tcp.TH_RST)
        found = heard_in(pcap(map(ethernet, [packet(CALLER, CALLEE, -1, flags=SYN), reset])))
        self.assertEqual([one.told.kind for one in found], ["connection", "connection-over"])
        self.assertEqual(found[-1].told.text, "reset by <")

    def test_late_ack(self) -> None:
        """An ack of what was never sent is told, and so is one of a table that is not there."""
        there = HELLO + bytes.fromhex("0a84 05 01 00000063") + bytes.fromhex("0a84 05 09 00000001")
        packets = [
            *opening(),
            *pieces(CALLEE, CALLER, b"200\n" + lesson(["a", "b"]), 500),
            *pieces(CALLER, CALLEE, there, 500),
        ]
        output = run(pcap(map(ethernet, packets))).output
        self.assertIn("update id of an ack: read 99, expected 2 at most", output)
        self.assertIn("table id of an ack: read 9, expected the id of a table", output)


class LinkTests(SynchronousTestCase):
    """The same session below every kind of head."""

    def test_heads(self) -> None:
        """Link types and VLANs are looked through."""
        made = session(300)

        def vlan(one: Any, *kinds: int) -> bytes:
            frame = ethernet(one)
            tags = b"".join(struct.pack(">HH", kind, 100) for kind in kinds)
            return frame[:12] + tags + frame[12:]

        kinds: list[tuple[int, list[bytes]]] = [
            (1, [vlan(one, 0x8100) for one in made]),
            (1, [vlan(one, 0x88A8, 0x8100) for one in made]),
            (0, [struct.pack("=I", 2) + bytes(one) for one in made]),
            (108, [struct.pack(">I", 2) + bytes(one) for one in made]),
            (101, [bytes(one) for one in made]),
            (228, [bytes(one) for one in made]),
            (113, [bytes(dpkt.sll.SLL(ethtype=0x0800, data=one)) for one in made]),
            (276, [bytes(dpkt.sll2.SLL2(ethtype=0x0800, data=one)) for one in made]),
        ]
        for link, frames in kinds:
            with self.subTest(link=link):
                check_whole(self, pcap(frames, link))

    def test_ipv6(self) -> None:
        """IPv6 has extension headers before the segment, or none."""
        caller, callee = Side("2001:db8::1", 40000), Side("2001:db8::2", 10000)
        made = session(300, caller, callee)
        check_whole(self, pcap(map(ethernet, made)))
        extended = []
        for one in made:
            raw = bytes(one)
            size = int.from_bytes(raw[4:6], "big") + 16
            head = raw[:4] + size.to_bytes(2, "big") + b"\x00" + raw[7:40]
            extended.append(head + b"\x3c\x00" + bytes(6) + b"\x06\x00" + bytes(6) + raw[40:])
        check_whole(self, pcap(extended, 229))

    def test_padded(self) -> None:
        """What fills a short Ethernet frame is no data."""
        check_whole(self, pcap(ethernet(one).ljust(80, b"\x00") for one in session(20)))

    def test_others(self) -> None:
        """Fragments, unknown link types and other protocols are counted, and the rest is told."""
        part = packet(CALLER, CALLEE, 0, b"x")
        part.mf = 1
        udp = dpkt.ip.IP(src=bytes(4), dst=bytes(4), p=17, data=dpkt.udp.UDP(dport=53))
        udp.len = len(udp)
        arp = bytes(dpkt.ethernet.Ethernet(type=0x0806, data=b"\x00" * 28))
        frames = [ethernet(part), ethernet(udp), arp, b"short", *map(ethernet, session(300))]
        result = run(pcap(frames))
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("1 packet could not be read: an IP fragment", result.output)
        check_whole(self, pcap(frames))
        strange = run(pcap([b"x" * 80], 147))
        self.assertIn("of link type 147, expected Ethernet (1)", strange.output)
        self.assertIn("there is no TCP in 1 packet", strange.output)


class FileTests(SynchronousTestCase):
    def test_pcapng(self) -> None:
        """A pcapng by dpkt, and one with two sections and interfaces, in either byte order."""
        from io import BytesIO

        out = BytesIO()
        writer = dpkt.pcapng.Writer(out)
        for at, one in enumerate(session(300)):
            writer.writepkt(ethernet(one), ts=1_700_000_000 + at)
        check_whole(self, out.getvalue())
        data = b""
        made = session(300)
        for order, some in (("<", made[:5]), (">", made[5:])):
            data += block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
            data += block(1, struct.pack(order + "HHI", 101, 0, 0), order)
            resolution = struct.pack(order + "HHB3x", 9, 1, 9) + bytes(4)
            data += block(1, struct.pack(order + "HHI", 1, 0, 0) + resolution, order)
            data += block(0xBAD, b"skipped", order)
            for at, one in enumerate(some):
                interface = at % 2
                raw = ethernet(one) if interface else bytes(one)
                time = (1_700_000_000 + (at if order == "<" else 5 + at)) * 10 ** (
                    9 if interface else 6
                )
                head = struct.pack(
                    order + "IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(raw), len(raw)
                )
                data += block(6, head + raw, order)
        check_whole(self, data)
        times = [one.time for one in heard_in(data) if one.from_caller is not None]
        self.assertEqual(times[0], 3_000_000_000)

    def test_nanoseconds(self) -> None:
        """A pcap with ns has the same times."""
        found = heard_in(pcap(map(ethernet, session(1000)), nano=True))
        self.assertEqual(
            [round((one.time or 0) / 1e5) for one in found],
            [round((one.time or 0) / 1e5) for one in WHOLE],
        )

    def test_cut_at_each_byte(self) -> None:
        """A capture that was cut gives what was said before, and says that it was cut."""
        frames = [ethernet(one) for one in session(200)]
        capture = pcap(frames)
        ends, at = [], 24
        for frame in frames:
            at += 16 + len(frame)
            ends.append(at)
        whole = [one.told for one in WHOLE if one.told.kind not in REMARKS]
        for cut in range(24, len(capture)):
            found = [one.told for one in heard_in(capture[:cut])]
            if cut != 24 and cut not in ends:
                self.assertIn("the file ends too early", found[-1].text + found[-2].text)
            said_so_far = [one for one in found if one.offset is not None]
            if said_so_far:
                self.assertEqual(said_so_far[0], whole[1])
        for cut in range(1, 24):
            self.assertTrue(run(capture[:cut]).output)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """Bytes that were changed anywhere never end in a traceback, and nothing is unprintable."""
        capture = bytearray(pcap(map(ethernet, session(100))))
        for at, value in data.draw(
            st.lists(st.tuples(st.integers(4, len(capture) - 1), st.integers(0, 255)), max_size=20)
        ):
            capture[at] = value
        self.check_printable(bytes(capture))

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=300), st.integers(0, 400))
    def test_anything(self, junk: bytes, at: int) -> None:
        """The same for raw bytes with anything in the midst of them."""
        self.check_printable(BACK[:at] + junk + BACK[at:])
        self.check_printable(THERE[:at] + junk + THERE[at:])

    def check_printable(self, data: bytes) -> None:
        for options in ((), ("--json",)):
            result = run(data, *options)
            self.assertIn(result.exit_code, (0, 1, 2), result.exception)
            for line in result.output.splitlines():
                self.assertTrue(line.isprintable(), repr(line))
                if options and result.exit_code < 2:
                    json.loads(line)

    def test_damaged_blocks(self) -> None:
        """A pcapng that goes on with something else says at which byte, and what was there."""
        head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), "<")
        link = block(1, struct.pack("<HHI", 101, 0, 0), "<")
        simple = block(3, struct.pack("<I", 4) + b"\x45\x00\x00\x00", "<")
        for data, words in (
            (head[:8] + b"\x00" * 4 + head[12:], "byte 8 of the file: read 00 00 00 00"),
            (head + struct.pack("<II", 6, 7), "byte 32 of the file: read a block of 7 bytes"),
            (head + simple, "byte 28 of the file: read a block of type 3 with 8 bytes"),
            (head + link + block(6, bytes(8), "<"), "a block of type 6 with 8 bytes"),
        ):
            result = run(data)
            self.assertEqual(result.exit_code, 1, result.output)
            self.assertIn(words, result.output)
            self.assertIn("the file cannot be read on", result.output)
        result = run(head + link + simple)
        self.assertIn("1 packet could not be read: cut inside of its head", result.output)
        self.assertEqual(result.exit_code, 0)

    def test_no_recording(self) -> None:
        """An empty file, and one that is compressed, are refused with what to do."""
        for data, words in ((b"", "read an empty file"), (b"\x1f\x8b\x08", "zcat FILE")):
            result = run(data)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(words, result.output)

    def test_bytes_of_each_side(self) -> None:
        """Raw bytes begin with a hello or a status, if they are all of a side."""
        for data, first in ((THERE, "HAProxyS 2.1"), (BACK, "200: handshake succeeded")):
            told = told_of(data)
            self.assertEqual(told[0].text, first)
            self.assertFalse([one for one in told if one.kind in REMARKS])
