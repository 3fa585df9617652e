"""Keys and names as text in JSON, without a loss.

What is valid UTF-8 stays as it is, but for the backslash, which is written twice; other bytes are
written ``\\xHH``; a backslash alone is the empty key. So each key has one text, and each text is
that of one key.
"""

from __future__ import annotations

import re
from typing import Final

from peerproto.service.sticktable import StickTable
from peerproto.service.text import format_key, parse_key
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType

EMPTY: Final = "\\"
"""The text of an empty key: a segment of a path has at least one character."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ODD: Final = re.compile("[\ud800-\udfff\\\\]")
_ESCAPE: Final = re.compile(r"\\(\\|x[0-9A-Fa-f]{2})?")


def _escaped(match: re.Match[str]) -> str:
    one = match[0]
    return "\\\\" if one == "\\" else f"\\x{ord(one) & 0xFF:02X}"


def written(text: str) -> str:
    """The text of a name or of a key that is a string, in which bytes that are no UTF-8 are
    surrogates."""
    return _ODD.sub(_escaped, text)


def shown(text: str) -> str:
    """A text that is read by people alone: bytes that are no UTF-8 are ``\\xHH``, and nothing
    else is escaped."""
    return _SURROGATE.sub(_escaped, text)


def read(text: str) -> str:
    """The name or key whose text this is.

    :raises LocalProtocolError: a backslash stands before something else than another one or
        ``xHH``.
    """
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as problem:
        expected = r"no half of a pair of surrogates (\xHH is a byte that is no UTF-8)"
        raise LocalProtocolError("text", text, expected) from problem
    if "\\" not in text:
        return text
    raw = bytearray()
    at = 0
    for match in _ESCAPE.finditer(text):
        raw += text[at : match.start()].encode("utf-8", "surrogateescape")
        if match[1] is None:
            raise LocalProtocolError("text", text, r"\\ or \xHH (two hexadecimal digits) for \ ")
        raw += b"\\" if match[1] == "\\" else bytes.fromhex(match[1][1:])
        at = match.end()
    raw += text[at:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def key_text(raw_key: bytes, key_type: KeyType) -> str:
    """The text of a raw key: addresses and numbers as people write them, binary keys as hex."""
    if key_type is KeyType.STRING:
        return written(raw_key.decode("utf-8", "surrogateescape")) or EMPTY
    return format_key(raw_key, key_type)


def raw_key(text: str, table: StickTable) -> bytes:
    """The raw key whose text this is, in a table.

    :raises LocalProtocolError: it is none.
    """
    if table.key_type is KeyType.STRING:
        text = "" if text == EMPTY else read(text)
    return parse_key(text, table.layout)
