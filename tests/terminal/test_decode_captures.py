"""What real HAProxies sent, decoded: whole, and cut at each byte."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerproto.terminal.decode.told import Told
from peerproto.wire.frames import FrameBuffer
from tests.terminal.recordings import REMARKS, run, told_of

CAPTURES = Path(__file__).parent.parent / "captures"
FILES = sorted(CAPTURES.glob("*.bin"))


def messages(told: list[Told]) -> list[Told]:
    return [one for one in told if one.kind not in REMARKS]


class CaptureTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Each message of each capture is told, with its place, and nothing is wrong with it."""
        self.assertEqual(len(FILES), 6)
        for path in FILES:
            data = path.read_bytes()
            told = told_of(data)
            offsets, at = [], 0
            for frame in FrameBuffer().feed(data):
                offsets.append(at)
                at += len(frame.encode())
            self.assertEqual([one.offset for one in messages(told)], offsets, path.name)
            remarks = [one.text for one in told if one.kind in REMARKS]
            self.assertEqual(len(remarks), 1, path.name)
            self.assertIn("no hello and no status", remarks[0])

    def test_contents(self) -> None:
        """Keys and values are those that the HAProxy itself has shown."""
        expected = json.loads((CAPTURES / "haproxy-3.0-expected.json").read_text())
        found = run((CAPTURES / "haproxy-3.0-resync-2.1.bin").read_bytes(), "--json")
        self.assertEqual(found.exit_code, 0, found.output)
        seen = 0
        for line in map(json.loads, found.output.splitlines()):
            if not line["message"].endswith("update"):
                continue
            name = "px/inpeers" if line["table"] == "/inpeers" else line["table"]
            entry = expected[name]["entries"][line["key"]]
            for column, value in line["values"].items():
                if isinstance(value, dict) and "text" in value:
                    self.assertEqual(value["text"], entry[column], line)
                elif column in entry:
                    self.assertEqual(value, entry[column], line)
                seen += column in entry
        self.assertGreater(seen, 50)

    def test_cut_at_each_byte(self) -> None:
        """A capture that was cut gives every message before the cut, and says where it was cut."""
        for path in FILES:
            data = path.read_bytes()
            whole = messages(told_of(data))
            ends = [one.offset or 0 for one in whole[1:]] + [len(data)]
            for cut in range(1, len(data)):
                told = told_of(data[:cut])
                before = sum(end <= cut for end in ends)
                self.assertEqual(messages(told), whole[:before], f"{path.name} cut at {cut}")
                last = told[-1]
                if cut in ends:
                    self.assertNotEqual(last.kind, "cut", f"{path.name} cut at {cut}")
                else:
                    self.assertEqual(last.kind, "cut", f"{path.name} cut at {cut}")
                    self.assertEqual(last.offset, ([0, *ends])[before])

    def test_begun_at_each_byte(self) -> None:
        """A capture that begins anywhere is told of from a place where messages begin."""
        for path in FILES:
            data = path.read_bytes()
            offsets = {one.offset for one in messages(told_of(data))}
            definitions = {one.offset for one in told_of(data) if one.kind == "definition"}
            for begin in range(1, len(data), 7):
                found = messages(told_of(data[begin:]))
                begun = [begin + (one.offset or 0) for one in found]
                later = {at for at in definitions if at is not None and at >= begin}
                if begin in offsets:
                    self.assertEqual(begun[0], begin)
                else:
                    self.assertTrue(later <= set(begun), f"{path.name} from {begin}")
