"""The words of a configuration line, as HAProxy splits it: quotes, backslashes, comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Optional

from peerproto.wire.errors import LocalProtocolError

_ESCAPED: Final = frozenset(" \\#\"'")
"""Characters that a backslash takes the meaning from; it stays before all others."""


def split_words(line: str, what: str) -> list[str]:
    """The words of ``line``; ``what`` names it in errors.

    HAProxy puts variables of its environment into double quotes: nobody knows
    them here.

    :raises LocalProtocolError: a quote is not closed, or a variable is asked for.
    """
    words: list[str] = []
    word: Optional[str] = None
    quote = ""
    characters = iter(line)
    for one in characters:
        if one == quote:
            quote = ""
        elif quote != "'" and one == "\\":
            word = (word or "") + _escaped(characters)
        elif quote == '"' and one == "$":
            raise LocalProtocolError(what, line, "no variable: HAProxy's environment is not ours")
        elif not quote and one in "\"'":
            quote = one
            word = word or ""
        elif not quote and one == "#":
            break
        elif not quote and one.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + one
    if quote:
        raise LocalProtocolError(what, line, f"a second {quote}")
    return words if word is None else [*words, word]


def _escaped(following: Iterator[str]) -> str:
    one = next(following, "")
    return one if one in _ESCAPED else "\\" + one
