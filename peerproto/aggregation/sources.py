"""The sources of an aggregate: whose shares are added up, and what each vouches for.

A source is a peer, or one of several that say the same: of these, one that vouches for what it
says. A source that is an aggregate itself, on another node, does so by a lease of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Optional

from twisted.logger import Logger

from peerproto import LocalProtocolError, StickTableService
from peerproto.aggregation.lease import Vouch, read_lease
from peerproto.aggregation.rules import Rules, alternatives
from peerproto.service.peer import Peer

SETTLING: Final = 500
"""Time in ms after which a peer that has come has said what it counted before: it does so at once,
but nothing tells where that ends."""


class Sources:
    """Knows who is in the sum."""

    _log = Logger()

    def __init__(self, service: StickTableService, rules: Rules) -> None:
        self._service = service
        self._rules = rules
        self._chosen: dict[str, str] = {}
        """By the word for several peers, the one whose share is added up."""

    def has_just_come(self, peer: Peer) -> bool:
        """Whether a peer may have yet to say what it counted before its session began."""
        came = peer.established_at
        return came is not None and self._service.now() - came < SETTLING

    def names(self) -> list[str]:
        """The names of the peers whose shares are added up."""
        return [self._choice(word, names) for word, names in self._groups()]

    def _choice(self, word: str, names: list[str]) -> str:
        """The one of these peers that is added up; the chosen one may be no peer any more."""
        chosen = self._chosen.get(word)
        return chosen if chosen in names else names[0]

    def choose(self) -> bool:
        """Of several peers that say the same, choose one that vouches for it: whether another one
        was chosen. One that is chosen stays so as long as it does."""
        moved = False
        for word, names in self._groups():
            now = self._choice(word, names)
            if not self.is_in(now):
                better = next((name for name in names if self.is_in(name)), now)
                if better != now:
                    self._chosen[word] = better
                    self._log.info("{word}: {name} is added up now", word=word, name=better)
                    moved = True
        return moved

    def _groups(self) -> Iterator[tuple[str, list[str]]]:
        """Those of the sources that are peers of this node, by the word for them."""
        peers = self._service.peers
        for word in self._rules.words(peers):
            names = [one for one in alternatives(word) if one in peers]
            if names:
                yield word, names

    def is_in(self, word: str) -> bool:
        """Whether one of the peers of this word is connected, has taught what it has, and vouches
        for it."""
        return any(self.vouched(name) is not None for name in alternatives(word))

    def vouched(self, name: str) -> Optional[Vouch]:
        """What a peer vouches for; ``None`` if it is not in."""
        peer = self._service.peers.get(name)
        if peer is None or self.has_just_come(peer):
            return None
        return self._has_vouched(peer)

    def _has_vouched(self, peer: Peer) -> Optional[Vouch]:
        """The same of a peer that may have just come."""
        if not peer.connected or not peer.has_taught(self._rules.source):
            return None
        if self._rules.source_lease is None:
            return Vouch(1)
        table = self._service.find_table(self._rules.source_lease)
        share = None if table is None else table.contributions().get(peer.name)
        try:
            return None if share is None else read_lease(share, self._service.time)
        except LocalProtocolError as problem:
            self._log.debug("the lease of {name}: {why}", name=peer.name, why=problem)
            return None

    def vouch(self) -> Optional[Vouch]:
        """What all that are in vouch for together; ``None`` if the sum may be behind.

        It may be if a source was not heard for long, or has yet to get back what it had.
        """
        together = Vouch(0)
        for name in self.names():
            peer = self._service.peers[name]
            one = self._has_vouched(peer)
            if one is not None:
                if peer.shares_wait or peer.is_silent:
                    return None
                if not self.has_just_come(peer):
                    together = together.and_(one)
        return together
