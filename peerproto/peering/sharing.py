"""How a table is shared with peers, where that is not simply with all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import attrs

from peerproto.wire.errors import LocalProtocolError

Passes = Callable[[str, str], bool]
"""Whether what the first peer says is passed on to the second, by their names."""


@attrs.frozen
class Sharing:
    """The rules of one table."""

    learn: bool = True
    """Whether what peers send is stored."""
    teach: bool = True
    """Whether peers are sent what is stored."""
    per_peer: bool = False
    """Whether each peer has a store of its own, to learn into and to be taught from."""
    relay: Optional[Passes] = None
    """Whom what one peer says is passed on to; ``None`` for nobody."""
    after: Optional[str] = None
    """The table of which nothing may wait for a peer when this one is sent to it."""
    stamp: Optional[int] = None
    """The element of ``gpt`` (-1 for the last) in which a peer is sent the number of its session:
    see `peerproto.updates.stamping`. What it got under another number is sent again."""

    def __attrs_post_init__(self) -> None:
        """:raises LocalProtocolError: rules that cannot hold together."""
        if self.per_peer and self.relay is not None:
            raise LocalProtocolError(
                "sharing of a table", "per_peer and relay", "one of them: a share is one peer's"
            )


EVENLY = Sharing()
"""With all peers, as HAProxy does."""


@attrs.frozen(eq=False)
class Relayed:
    """A change that one peer has said: it is for those to whom that is passed on."""

    source: str
    passes: Passes

    def spares(self, peer: object) -> bool:
        """Whether a peer is not to get it: at least the one that has said it."""
        name: str = getattr(peer, "name", "")
        return name == self.source or not self.passes(self.source, name)
