"""Names and texts of the wire as text that any screen and any format can take."""

from __future__ import annotations

import re
from typing import Final

_ORDINARY: Final = re.compile(r"[ -\[\]-~]*")


def printable(text: str) -> str:
    r"""The text with everything escaped that cannot be printed, and the backslash.

    Control characters and bytes that are no UTF-8, which are surrogates here, become ``\x1B``,
    byte by byte. Two texts that differ still do so.
    """
    if _ORDINARY.fullmatch(text):
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02X}" for byte in _bytes(character))


def _bytes(character: str) -> bytes:
    try:
        return character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that stands for no byte.
        return character.encode("utf-8", "surrogatepass")
