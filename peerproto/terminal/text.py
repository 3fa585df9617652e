"""Texts of a node on a screen: nothing in them is obeyed."""

from __future__ import annotations

import re
from typing import Final, Optional

_ORDINARY: Final = re.compile(r"[ -~]*")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    r"""A text of the node with each byte of what cannot be printed as ``\xHH``.

    Where the text is a name or a key, whoever types what is shown means the same one.
    """
    if _ORDINARY.fullmatch(text):
        return text
    return "".join(one if one.isprintable() else _bytes(one) for one in text)


def _bytes(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape" if _is_byte(character) else "surrogatepass")
    return "".join(f"\\x{byte:02X}" for byte in raw)


def _is_byte(character: str) -> bool:
    return "\udc80" <= character <= "\udcff"


def typed(text: str) -> str:
    r"""An argument of the program as a text of the node: a byte that is no UTF-8 is ``\xHH``."""
    return _SURROGATE.sub(lambda found: _bytes(found[0]), text)


def life(ms: Optional[int]) -> str:
    """A time as HAProxy writes it, by its two largest units; ``-`` for none."""
    if ms is None:
        return "-"
    if 0 < ms < 1000:
        return f"{ms}ms"
    parts: list[str] = []
    seconds = ms // 1000
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if parts or number:
            parts.append(f"{number}{unit}")
    return "".join(one for one in parts[:2] if not one.startswith("0")) or "0s"


def many(entries: int) -> str:
    """How many entries: ``1 entry``, ``1,000 entries``."""
    return "1 entry" if entries == 1 else f"{entries:,} entries"


def listed(names: list[str]) -> str:
    """Names as a list, or that there are none."""
    return ", ".join(map(visible, names)) or "none"
