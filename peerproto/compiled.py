"""Whether the hot modules run as mypyc has compiled them."""

from __future__ import annotations

from typing import Final

from peerproto.tables import parts, updates
from peerproto.wire import runs

COMPILED: Final = runs.COMPILED and parts.COMPILED and updates.COMPILED

SPEED: Final = "compiled" if COMPILED else "pure Python"
"""The same in words."""
