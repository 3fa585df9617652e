"""Long texts of dictionary values, each kept once.

A peer sends a text once and refers to it with two bytes from then on; in a
record, a long one would take its whole length each time. So a *token* stands in
a record for a text of more than `SHORT` bytes: records stay small, whatever a
peer refers to. Tokens mean something in this process alone, and none is ever
given out again for another text.

Records are dropped without a word. So what no record uses any more is found by
a look at all of them, now and then (`peerproto.tables.unused`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Optional
from weakref import ref

SHORT: Final = 32
"""Bytes of a text at most that stands in records itself."""

LIMIT: Final = 64 << 20
"""Bytes of all long texts at most."""

_MARK: Final = b"\xff\xfe"
"""How tokens begin. No text in UTF-8 does, and any other that does gets a token, too."""

_TOKEN: Final = 8
"""Bytes of a token."""

_OVERHEAD: Final = 256
"""Bytes that a text takes beside itself, or a few less."""

_FIRST: Final = 1 << 20
"""Bytes of texts that are not looked after."""


class Texts:
    """Long texts by their tokens, and tokens by their texts."""

    def __init__(self, limit: int = LIMIT) -> None:
        """``limit`` is in bytes."""
        self.limit = limit
        self.size = 0
        """Bytes that they take, or a few more."""
        self.refused = 0
        """Texts that there was no room for so far."""
        self._texts: dict[bytes, bytes] = {}
        self._tokens: dict[bytes, bytes] = {}
        self._next = 0
        self._used: Optional[set[bytes]] = None
        """While it is looked for what is used: the tokens that are."""
        self._known: dict[int, ref[Known]] = {}
        self.due_at = _FIRST
        """The size from which on it is time to look which are used."""

    def __len__(self) -> int:
        return len(self._texts)

    def keep(self, text: bytes) -> Optional[bytes]:
        """What stands for a text in records: itself or a token; ``None`` if there is no room."""
        if len(text) <= SHORT and not text.startswith(_MARK):
            return text
        token = self._tokens.get(text)
        if token is None:
            size = len(text) + _OVERHEAD
            if self.size + size > self.limit:
                self.refused += 1
                return None
            self.size += size
            token = _MARK + self._next.to_bytes(_TOKEN - len(_MARK), "big")
            self._next += 1
            self._texts[token] = text
            self._tokens[text] = token
        if self._used is not None:
            self._used.add(token)
        return token

    def text(self, kept: bytes) -> bytes:
        """The text that something in a record stands for."""
        return self._texts[kept] if kept.startswith(_MARK) else kept

    def known(self, places: int) -> Known:
        """A list of what is known to stand for texts, which are not forgotten while it lives."""
        known = Known([b""] * places)
        number = id(known)
        self._known[number] = ref(known, lambda _: self._known.pop(number, None))
        return known

    def forget_unused(self, records: Iterable[Iterable[bytes]]) -> Iterator[None]:
        """Forget what no record uses, step by step: one for each of the groups of records.

        Records may come, change and go meanwhile.
        """
        if self._used is not None:
            return
        used: set[bytes] = set()
        self._used = used
        try:
            for one in list(self._known.values()):
                known = one()
                if known is not None:
                    self._use(known)
            for group in records:
                self._use(group)
                yield
            for token in self._texts.keys() - used:
                text = self._texts.pop(token)
                del self._tokens[text]
                self.size -= len(text) + _OVERHEAD
            self.due_at = min(max(_FIRST, 2 * self.size), self.limit // 2)
        finally:
            self._used = None

    def _use(self, records: Iterable[bytes]) -> None:
        """Note which tokens are in records. What only looks like one does no harm."""
        assert self._used is not None
        texts, use = self._texts, self._used.add
        for record in records:
            at = record.find(_MARK)
            while at >= 0:
                token = record[at : at + _TOKEN]
                if token in texts:
                    use(token)
                at = record.find(_MARK, at + 1)


class Known(list[bytes]):
    """A list that can be referred to weakly."""


TEXTS: Final = Texts()
"""Those of this process."""
