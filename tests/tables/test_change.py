from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerproto.tables.declaration import Declaration
from peerproto.tables.store import TableStore
from peerproto.wire.errors import LocalProtocolError


class TextTests(SynchronousTestCase):
    def test_longest(self) -> None:
        """A text that no HAProxy could teach is refused, with the range in the message."""
        table = TableStore(Declaration.parse("t", "type integer size 9 store server_key"))
        table.set(b"aaaa", {"server_key": "é" * 512}, 0)
        for bad in ("é" * 512 + "x", "a\x00b"):
            with self.assertRaises(LocalProtocolError) as caught:
                table.set(b"aaaa", {"server_key": bad}, 0)
            self.assertIn("a text of at most 1024 bytes, no NUL", str(caught.exception))
        entry = table.get(b"aaaa", 0)
        assert entry is not None
        self.assertEqual(entry["server_key"], "é" * 512)
