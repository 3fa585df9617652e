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
        self._in_since: dict[str, int] = {}
        """Since when (in ms) those are in the sum that are, as of the last look."""
        self._silent: dict[str, Optional[int]] = {}
        """Those that were silent when it was last asked what they vouch for, and when (in ms) the
        session began on which they were."""
        self._heard_again: dict[str, int] = {}
        """When (in ms) those were heard again that had been silent."""

    def has_just_come(self, peer: Peer) -> bool:
        """Whether a peer may have yet to say what it counted before its session began."""
        came = peer.established_at
        return came is not None and self._service.now() - came < SETTLING

    def names(self) -> list[str]:
        """The names of the peers whose shares are added up."""
        return list(self.words())

    def words(self) -> dict[str, str]:
        """By the names of the peers whose shares are added up, the words that they stand for."""
        return {self._choice(word, names): word for word, names in self._groups()}

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

    def look(self, now: int) -> None:
        """See who is in the sum, as of ``now`` (ms)."""
        names = self._rules.names(self._service.peers)
        inside = [name for name in names if self.why_out(name) is None]
        self._in_since = {name: self._in_since.get(name, now) for name in inside}

    def in_since(self, name: str) -> Optional[int]:
        """Since when (in ms) a peer is in the sum; ``None`` if it was not at the last look."""
        return self._in_since.get(name)

    @property
    def may_come_in(self) -> bool:
        """Whether a peer that is connected was not in at the last look: it may be soon, though
        nothing happens."""
        peers = self._service.peers
        return any(
            name in peers and peers[name].connected and name not in self._in_since
            for name in self._rules.names(peers)
        )

    def why_out(self, name: str) -> Optional[str]:
        """Why a peer is not in the sum, or not with all that it has, in words; ``None`` if it
        is."""
        peer = self._service.peers.get(name)
        if peer is None:
            return "no peer of this node"
        if not peer.connected:
            return "not connected"
        if not peer.has_taught(self._rules.source):
            return "has not taught yet"
        if peer.shares_wait:
            return "may have yet to get back what it had"
        if self.has_just_come(peer):
            return "has just come"
        if self.vouched(name) is None:
            return "vouches for nothing"
        return None if name in self.names() else "in reserve"

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

        It may be if a source was not heard for long, or has just been heard again, or has yet to
        get back what it had.
        """
        together, is_behind = Vouch(0), False
        for name in self.names():
            peer = self._service.peers[name]
            one = self._has_vouched(peer)
            if one is not None:
                is_behind |= self._was_silent(peer) or peer.shares_wait
                if not self.has_just_come(peer):
                    together = together.and_(one)
        return None if is_behind else together

    def _was_silent(self, peer: Peer) -> bool:
        """Whether a peer is silent, or was a moment ago: what it has counted may be on its way."""
        now = self._service.now()
        if peer.is_silent:
            self._silent[peer.name] = peer.established_at
            return True
        # One that comes back on another session is out until it has settled.
        if self._silent.pop(peer.name, None) == peer.established_at:
            self._heard_again[peer.name] = now
        heard_at = self._heard_again.get(peer.name)
        if heard_at is not None and now - heard_at >= SETTLING:
            del self._heard_again[peer.name]
        return peer.name in self._heard_again
