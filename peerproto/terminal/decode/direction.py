"""One direction of a connection, from its bytes to what is told of them."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Final, Optional

from peerproto.terminal.decode.greeting import HELLO_LINES, Greeting
from peerproto.terminal.decode.messages import Messages
from peerproto.terminal.decode.seeking import may_be_messages, place_of_message
from peerproto.terminal.decode.told import BREAKS, ODD, Told, counted, remark
from peerproto.wire.handshake import MAX_LINE, PROTOCOL_WORD, Status
from peerproto.wire.printable import printable

_HELLO: Final = PROTOCOL_WORD.encode()
_TLS: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
_TLS_CUT: Final = re.compile(rb"[\x14-\x17]\x03?")
"""The records of TLS; no message that is known begins so."""

_STATUS: Final = re.compile(rb"[1-9][0-9]{2}\r?\n")
_STATUS_CUT: Final = re.compile(rb"[1-9]([0-9]([0-9]\r?)?)?")

_ENOUGH: Final = 32
"""Bytes that are waited for where a recording may begin anywhere."""

_LEAST_TO_SEEK: Final = 1 << 16
"""Bytes that are searched for the begin of a message before the first ones are dropped."""


class Phase(enum.Enum):
    """What the next bytes are."""

    BEGIN = "begin"
    GREETING = "greeting"
    MESSAGES = "messages"
    SEEKING = "seeking"
    OVER = "over"
    """Bytes that are not read; how many is told at the end."""


class Direction:
    """What one side has said."""

    def __init__(self, begins: Optional[bool], longest: int, is_caller: Optional[bool]) -> None:
        """``begins`` is whether the bytes are those of a connection from its first one on, and
        ``None`` if nobody knows; the same for ``is_caller``. ``longest`` is the most bytes of a
        payload."""
        self.begins = begins
        self.is_caller = is_caller
        self.heard_from: Optional[Direction] = None
        """The other direction, if it is known."""
        self._messages = Messages(longest)
        self._longest = longest
        self._phase = Phase.BEGIN
        self._offset = 0
        """How many bytes were taken before those in `_data`, or those of the other parts."""
        self._data = b""
        self._greeting = Greeting(0)
        self._why = ""
        """Why the rest is not read."""
        self._skipped = 0
        """Bytes in which no message was found to begin."""
        self._over_at = 0
        """The first byte that is not read."""
        self.other_waits = False
        """Whether bytes of the other direction have come that cannot be read yet."""

    @property
    def minor(self) -> Optional[int]:
        """The minor version that was said in its hello, if there was one."""
        return self._greeting.minor

    @property
    def messages(self) -> Messages:
        """What was said since the session began."""
        return self._messages

    def receive(self, data: bytes) -> Iterator[Told]:
        """Take bytes: what is told of them, and of those that have waited for them."""
        if self._phase is Phase.BEGIN:
            self._data += data
            yield from self._begin(False)
        elif self._phase is Phase.GREETING:
            yield from self._greet(data)
        elif self._phase is Phase.MESSAGES:
            yield from self._read(data)
        elif self._phase is Phase.SEEKING:
            self._data += data
            yield from self._seek(len(data))
        else:
            self._offset += len(data)

    def lost(self, count: int, exact: bool = True) -> Iterator[Told]:
        """Some bytes are not in the recording: go on behind them, where messages begin again."""
        yield from self._unfinished("bytes are missing")
        at = self._position()
        about = "" if exact else "about "
        text = f"{about}{counted(count, 'byte')} are not in the recording"
        yield Told(at, "missing", text, {"missing": count, "exact": exact})
        self._drop()
        self._offset = at + count
        if self._phase is not Phase.OVER:
            self._messages.forget()
            self._phase = Phase.SEEKING

    def finish(self) -> Iterator[Told]:
        """There is no more."""
        if self._phase is Phase.BEGIN and self._data:
            yield from self._begin(True)
        yield from self._unfinished("the recording ends")
        if self._phase is Phase.OVER and self._offset > self._over_at:
            count = self._offset - self._over_at
            text = f"{counted(count, 'byte')} from here on are not read: {self._why}"
            yield Told(self._over_at, "unread", text, {"unread": count, "why": self._why})

    # -- parts ---------------------------------------------------------------

    def _begin(self, is_all: bool) -> Iterator[Told]:
        """See what the first bytes are; ``is_all`` is whether no more come."""
        data = self._data
        if _TLS.match(data):
            yield Told(0, "tls", "this direction speaks TLS: what is said in it cannot be read")
            self._end_at(0, "TLS")
            self._offset = len(data)
        elif data.startswith(_HELLO):
            yield from self._begin_greeting(True)
        elif _STATUS.match(data) and self.begins is not False:
            yield from self._begin_greeting(False)
        elif not is_all and _TLS_CUT.fullmatch(data):
            return
        elif _HELLO.startswith(data) or _STATUS_CUT.fullmatch(data):
            if is_all:
                yield from self._begin_greeting(_HELLO.startswith(data))
        elif self.begins and self.is_caller is False and (len(data) > 4 or b"\n" in data or is_all):
            # Whatever it is, it stands where a status does.
            yield from self._begin_greeting(False)
        elif self.begins and self.is_caller:
            yield self._not_expected(f"{PROTOCOL_WORD} <version>")
            self._end_at(0, "it is not the peers protocol")
            self._offset = len(data)
        elif not self.begins and (len(data) >= _ENOUGH or is_all):
            yield from self._begin_anywhere()

    def _begin_greeting(self, is_hello: bool) -> Iterator[Told]:
        data, self._data = self._data, b""
        if self.is_caller is (not is_hello):
            self._data = data
            yield self._not_expected("a status" if is_hello else f"{PROTOCOL_WORD} <version>")
        self.is_caller = is_hello
        self._phase = Phase.GREETING
        self._greeting = Greeting(HELLO_LINES if is_hello else 1)
        self._data = b""
        yield from self._greet(data)

    def _begin_anywhere(self) -> Iterator[Told]:
        yield Told(
            0,
            ODD,
            "the begin of the session is not in the recording: no hello and no status; tables are "
            "not known before they are defined",
        )
        data = self._data
        if self.begins is None and may_be_messages(data, self._longest):
            self._data = b""
            self._start(0)
            yield from self._read(data)
        else:
            self._phase = Phase.SEEKING
            yield from self._seek(len(data))

    def _not_expected(self, expected: str) -> Told:
        side = "of the caller" if self.is_caller else "of the side that was called"
        read = printable(_text(self._data[:32]))
        return remark(BREAKS, 0, f"first bytes {side}", read, expected)

    def _greet(self, data: bytes) -> Iterator[Told]:
        greeting = self._greeting
        yield from greeting.receive(data)
        if greeting.broken:
            self._end_at(greeting.offset, f"a line has more than {MAX_LINE} bytes")
            self._offset = greeting.offset + len(greeting.take_rest())
        elif greeting.complete:
            rest = greeting.take_rest()
            if not self.is_caller and greeting.status != Status.SUCCEEDED:
                why = "after any status but 200 the connection is closed"
                if greeting.status is None:
                    why = "it is not the peers protocol"
                self._end_at(greeting.offset, why)
                self._offset += len(rest)
                return
            self._start(greeting.offset)
            yield from self._read(rest)

    def _start(self, offset: int) -> None:
        self._phase = Phase.MESSAGES
        self._messages.start(offset)

    def _read(self, data: bytes) -> Iterator[Told]:
        yield from self._messages.receive(data, self)
        if self._messages.over:
            self._end_at(self._messages.offset, self._messages.over)
            self._offset = self._messages.offset + len(self._messages.rest())
            self._messages.drop()

    def _seek(self, latest: int) -> Iterator[Told]:
        """Look for a message; so many bytes came last."""
        at = place_of_message(self._data, self._longest, latest)
        if at is None:
            keep = self._longest + 16
            if len(self._data) > max(_LEAST_TO_SEEK, 2 * keep):
                self._skipped += len(self._data) - keep
                self._offset += len(self._data) - keep
                self._data = self._data[-keep:]
            return
        skipped = self._skipped + at
        begin = self._offset - self._skipped
        if skipped:
            yield self._told_of_skipped(begin, skipped)
        self._skipped = 0
        rest = self._data[at:]
        self._offset += at
        self._data = b""
        self._start(self._offset)
        yield from self._read(rest)

    def _told_of_skipped(self, begin: int, count: int) -> Told:
        text = f"{counted(count, 'byte')} are skipped: no message was seen to begin in them"
        return Told(begin, "skipped", text, {"skipped": count})

    def _end_at(self, offset: int, why: str) -> None:
        self._phase = Phase.OVER
        self._over_at = self._offset = offset
        self._why = why
        self._data = b""

    def _position(self) -> int:
        """How many bytes have come."""
        if self._phase is Phase.GREETING:
            return self._greeting.offset + len(self._greeting.unfinished)
        if self._phase is Phase.MESSAGES:
            return self._messages.offset + len(self._messages.rest())
        return self._offset + len(self._data)

    def _drop(self) -> None:
        self._data = b""
        self._skipped = 0
        self._messages.drop()
        self._greeting.take_rest()

    def _unfinished(self, how: str) -> Iterator[Told]:
        """What is told of a message or a line of which only the begin is there."""
        if self._phase is Phase.BEGIN and self._data:
            read = printable(_text(self._data))
            yield self._cut(0, how, "the first bytes", read, "a hello, a status or messages")
        elif self._phase is Phase.GREETING:
            greeting = self._greeting
            what = "a hello" if self.is_caller else "a status"
            read = printable(_text(greeting.unfinished)) or "nothing"
            yield self._cut(greeting.offset, how, what, read, greeting.missing)
        elif self._phase is Phase.MESSAGES:
            cut = self._messages.unfinished()
            if cut is not None:
                what, read, expected = cut
                yield self._cut(self._messages.offset, how, what, read, expected)
        elif self._phase is Phase.SEEKING and (self._data or self._skipped):
            begin = self._offset - self._skipped
            yield self._told_of_skipped(begin, self._skipped + len(self._data))

    def _cut(self, offset: int, how: str, what: str, read: str, expected: str) -> Told:
        fields = {"what": what, "read": read, "expected": expected}
        text = f"{how} in the middle of {what}: read {read}, expected {expected}"
        return Told(offset, "cut", text, fields)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
