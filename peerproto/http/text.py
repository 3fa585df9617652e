"""Keys and names as text in JSON, see `peerproto.service.spelling`, and in paths."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from peerproto.service.spelling import EMPTY, key_text, raw_key, read, shown, written

__all__ = ["EMPTY", "key_text", "quoted", "raw_key", "read", "shown", "unquoted", "written"]


def unquoted(segment: str) -> str:
    """The text of a segment of a path, in which ``%HH`` stands for a byte."""
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="")
