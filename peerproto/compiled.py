"""Whether the hot modules run as mypyc has compiled them."""

from __future__ import annotations

from typing import Final

from peerproto.tables import parts, updates
from peerproto.wire import dictionary, runs, varint

COMPILED: Final = not any(
    str(module.__file__).endswith(".py") for module in (dictionary, runs, varint, parts, updates)
)

SPEED: Final = "compiled" if COMPILED else "pure Python"
"""The same in words."""
