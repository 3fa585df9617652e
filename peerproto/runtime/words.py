"""A line of the runtime socket to commands and words, as HAProxy splits it."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"(?:\\.|[^;\\]|\\$)+", re.DOTALL)
_WORD = re.compile(r"(?:\\.|[^\s\\]|\\$)+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split_commands(line: str) -> list[list[str]]:
    """The commands between semicolons, each as its words.

    A backslash takes away what the next character means.
    """
    return [
        [_ESCAPED.sub(r"\1", word) for word in _WORD.findall(command)]
        for command in _COMMAND.findall(line)
    ]
