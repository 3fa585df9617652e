"""How many bytes a peer can make resident with each that it sends.

``python -m bench.amplification`` measures each kind of message in a process of its
own. What is bounded otherwise, as the number of tables
that a peer brings, is not here.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

from bench.lesson import scattered
from bench.measure import READ, resident
from bench.peering import begin, make_node, receive
from peerproto.tables.declaration import Declaration
from peerproto.wire import varint
from peerproto.wire.dictionary import LONGEST_TEXT
from peerproto.wire.frames import INCREMENTAL_UPDATE, STICK_TABLE, Frame
from peerproto.wire.texts import SHORT

_UPDATES = 200_000


def _update(payload: bytes) -> bytes:
    return Frame(STICK_TABLE, INCREMENTAL_UPDATE, payload).encode()


def _said(text: bytes) -> bytes:
    """A dictionary value that says a text."""
    value = b"\x01" + varint.encode(len(text)) + text
    return varint.encode(len(value)) + value


def _entries(record: bytes, first: bytes = b"") -> Iterator[bytes]:
    """The shortest updates, each of another key; ``first`` is what the first of them has more."""
    for number in range(_UPDATES):
        yield _update(
            scattered(number).to_bytes(4, "big") + (record if number else first or record)
        )


def _texts(size: int, keys: int) -> Iterator[bytes]:
    """Updates that say texts, each another one."""
    for number in range(_UPDATES // 4):
        key = scattered(number % keys).to_bytes(4, "big")
        yield _update(key + _said(b"%d" % number + bytes((120,)) * (size - 6)))


KINDS = {
    "entries without values": ("type integer size 4m", lambda: _entries(b"")),
    "entries with a counter": ("type integer size 4m store gpc0", lambda: _entries(b"\x01")),
    f"entries that refer to a text of {SHORT} bytes": (
        "type integer size 4m store server_key",
        lambda: _entries(b"\x01\x01", _said(b"x" * SHORT)),
    ),
    f"entries that refer to a text of {LONGEST_TEXT} bytes": (
        "type integer size 4m store server_key",
        lambda: _entries(b"\x01\x01", _said(b"x" * LONGEST_TEXT)),
    ),
    f"entries with other texts of {LONGEST_TEXT} bytes": (
        "type integer size 4m store server_key",
        lambda: _texts(LONGEST_TEXT, _UPDATES),
    ),
    f"one entry with one text of {SHORT + 8} bytes after the other": (
        "type integer size 4m store server_key",
        lambda: _texts(SHORT + 8, 1),
    ),
}


def amplification(kind: str) -> float:
    """Bytes resident for each byte received."""
    line, messages = KINDS[kind]
    session = begin(make_node())
    receive(session, Declaration.parse("t", line).definition(1).encode())
    stream = b"".join(messages())
    gc.collect()
    before = resident()
    for start in range(0, len(stream), READ):
        receive(session, stream[start : start + READ])
    gc.collect()
    assert not session.over, session.ended_by
    return (resident() - before) / len(stream)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(f"| {sys.argv[1]} | {amplification(sys.argv[1]):.1f} |")
    else:
        for each in KINDS:
            subprocess.run([sys.executable, "-m", "bench.amplification", each], check=True)
