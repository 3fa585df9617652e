from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.wire.errors import MalformedMessage, OversizedMessage, RemoteProtocolError
from peerproto.wire.frames import MAX_PAYLOAD, Frame, FrameBuffer
from tests.strategies import pieces

frames = st.builds(
    Frame,
    st.integers(0, 254),
    st.integers(128, 255),
    st.binary(max_size=20) | st.binary(min_size=230, max_size=260),
) | st.builds(Frame, st.integers(0, 254), st.integers(0, 127), st.just(b""))


class FrameBufferTests(SynchronousTestCase):
    @given(st.lists(frames, max_size=6), st.data())
    def test_any_pieces(self, sent: list[Frame], data: st.DataObject) -> None:
        """Frames come out as they went in, however the stream is cut."""
        stream = b"".join(frame.encode() for frame in sent)
        for cut in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
            self.assertEqual(self.read(cut), sent)
        self.assertEqual(self.read(data.draw(pieces(stream))), sent)

    def read(self, cut: list[bytes]) -> list[Frame]:
        buffer = FrameBuffer()
        result = [frame for piece in cut for frame in buffer.feed(piece)]
        self.assertEqual(len(buffer), 0)
        return result

    @given(frames, st.data())
    def test_left_over(self, frame: Frame, data: st.DataObject) -> None:
        """An unfinished frame waits for the rest of it, and is all that is kept."""
        stream = frame.encode()
        length = data.draw(st.integers(0, len(stream) - 1))
        buffer = FrameBuffer()
        self.assertEqual(list(buffer.feed(b"\x00\x04" + stream[:length])), [Frame(0, 4)])
        self.assertEqual(len(buffer), length)
        self.assertEqual(list(buffer.feed(stream[length:])), [frame])

    @given(st.lists(st.binary(max_size=300), max_size=5))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Any bytes give frames, a wait, or a RemoteProtocolError; memory is bounded."""
        buffer = FrameBuffer()
        try:
            for chunk in chunks:
                for frame in buffer.feed(chunk):
                    self.assertLessEqual(len(frame.payload), MAX_PAYLOAD)
                self.assertLessEqual(len(buffer), MAX_PAYLOAD + 12)
        except RemoteProtocolError as problem:
            self.assertIn(problem.code, (0, 1))

    def test_size_limit(self) -> None:
        """A payload of 16384 bytes is taken; one more is refused as soon as it is announced."""
        frame = Frame(10, 0x80, b"x" * MAX_PAYLOAD)
        self.assertEqual(list(FrameBuffer().feed(frame.encode())), [frame])
        announced = Frame(10, 0x80, b"x" * (MAX_PAYLOAD + 1)).encode()[:6]
        with self.assertRaises(OversizedMessage) as caught:
            list(FrameBuffer().feed(announced))
        self.assertEqual(caught.exception.code, 1)
        self.assertIn("16385", str(caught.exception))

    def test_reserved_class(self) -> None:
        """Class 255 is a protocol error, after the frames before it."""
        buffer = FrameBuffer().feed(b"\x00\x04\xff\x00")
        self.assertEqual(next(buffer), Frame(0, 4))
        self.assertRaises(MalformedMessage, next, buffer)

    def test_length_without_end(self) -> None:
        """A length of over 10 bytes is malformed, and is not waited for."""
        buffer = FrameBuffer()
        self.assertEqual(list(buffer.feed(b"\x0a\x80\xff" + b"\xff" * 8)), [])
        self.assertRaises(MalformedMessage, list, buffer.feed(b"\xff"))
