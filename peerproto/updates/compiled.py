"""Whether the hot modules run as mypyc has compiled them."""

from __future__ import annotations

from typing import Final

from peerproto.tables import partitions as parts
from peerproto.updates import adding, order, runs, stamping
from peerproto.updates import writer as updates
from peerproto.wire import dictionary, frames, varint

HOT: Final = (dictionary, frames, runs, varint, parts, updates, order, adding, stamping)

COMPILED: Final = not any(str(module.__file__).endswith(".py") for module in HOT)

SPEED: Final = "compiled" if COMPILED else "pure Python"
"""The same in words."""
