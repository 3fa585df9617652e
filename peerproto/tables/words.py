"""The words of a configuration line, as HAProxy splits it: quotes, backslashes, comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Optional

from peerproto.wire.errors import LocalProtocolError

_ESCAPED: Final = frozenset(" \\#\"'")
"""Characters that a backslash takes the meaning from; it stays before all others."""


Variables = Callable[[str], Optional[str]]
"""By its name, the value of a variable of HAProxy's environment; ``None`` if it is not known."""


def split_words(line: str, what: str, variables: Optional[Variables] = None) -> list[str]:
    """The words of ``line``; ``what`` names it in errors.

    HAProxy puts variables of its environment into double quotes: ``"$NAME"``, ``"${NAME}"``, and
    ``"${NAME-text}"`` with what stands for one that is not set. ``variables`` knows them;
    without it, nobody does.

    :raises LocalProtocolError: a quote is not closed, or a variable is not known.
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
            if variables is None:
                expected = "no variable: HAProxy's environment is not ours"
                raise LocalProtocolError(what, line, expected)
            rest = "".join(characters)
            value, behind = _value_of(rest, what, variables)
            word = (word or "") + value
            return words + _joined(word, split_words(f'"{behind}', what, variables))
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


def _joined(word: str, words: list[str]) -> list[str]:
    """The words of the rest of a line, the first of which goes on with ``word``."""
    return [word + words[0], *words[1:]]


def _value_of(rest: str, what: str, variables: Variables) -> tuple[str, str]:
    """The value of the variable that is named behind a ``$``, and what stands behind its name."""
    match = _VARIABLE.match(rest)
    if match is None:
        raise LocalProtocolError(what, f"${rest}", "the name of a variable: ${NAME}")
    value = variables(match["braced"] or match["bare"])
    if value is None:
        value = match["default"]
    if value is None:
        raise LocalProtocolError(what, f"${match[0]}", "a variable whose value is known")
    return value, rest[match.end() :]


_VARIABLE: Final = re.compile(
    r"\{(?P<braced>\.?\w+)(?:\[\*\])?(?:-(?P<default>[^}]*))?\}|(?P<bare>[A-Za-z_]\w*)", re.ASCII
)


def _escaped(following: Iterator[str]) -> str:
    one = next(following, "")
    return one if one in _ESCAPED else "\\" + one
