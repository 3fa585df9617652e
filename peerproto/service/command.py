"""Commands that people type, on the runtime socket for one: what the node and its parts offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from peerproto.wire.errors import LocalProtocolError

Answer = Iterator[str]
"""Pieces of text. An empty one means that there was work, but nothing to say yet."""


class CommandError(Exception):
    """A command cannot be done; its text says why."""


def _are_words(_: object, __: object, words: object) -> None:
    if not isinstance(words, tuple) or not words or not all(map(_is_word, words)):
        raise LocalProtocolError("words of a command", words, "a tuple of words without blanks")


def _is_word(word: object) -> bool:
    return isinstance(word, str) and word.split() == [word]


@attrs.frozen
class Command:
    """One command: the words that it begins with, and what it does with the rest.

    :raises LocalProtocolError: there are no words, or they are none.
    """

    words: tuple[str, ...] = attrs.field(validator=_are_words)
    usage: str
    """What follows the words."""
    summary: str
    run: Callable[[list[str]], Answer]
    """Gives the answer to the words that follow.

    :raises CommandError: they are wrong, or it cannot be done; also while the answer is read.
    """
    changes: bool = False
    """Whether it does something that holds even if nobody reads the answer."""

    @property
    def line(self) -> str:
        """Its line in ``help``."""
        return f"  {' '.join(self.words)} {self.usage}".ljust(42) + f": {self.summary}\n"
