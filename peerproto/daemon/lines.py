"""The text of a ``peers.ini`` to its sections."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, Optional

from peerproto.service.section import ConfigError, Line, Section

_HEADING: Final = re.compile(r"\[\s*([^\]]*?)\s*\]")


def text_of(path: str) -> str:
    """The text of a configuration file.

    :raises OSError: it cannot be read.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        # An editor may have put a byte order mark in front.
        return file.read().removeprefix("\ufeff")


def check_whole(path: str, text: str) -> None:
    """See whether a file may have been cut.

    :raises ConfigError: its last line does not end. HAProxy does not take that either.
    """
    if text and not text.endswith("\n"):
        lines = text.split("\n")
        raise ConfigError(
            path,
            len(lines),
            lines[-1],
            "a line feed at the end of the last line: the file may have been cut",
        )


def sections_of(
    path: str, text: str, names: Iterable[str], kinds: Collection[str] = ()
) -> tuple[dict[str, Section], Optional[ConfigError]]:
    """The sections of a file by name, empty if it has not got them; up to what is wrong first: a
    line that is neither a heading nor ``key = value`` in a section.

    :param path: for error messages.
    :param names: the sections that it may have.
    :param kinds: words of which each may head several sections, each with a name behind it.
    """
    sections = {name: Section(name, path, 0) for name in names}
    try:
        _fill(sections, kinds, path, text)
    except ConfigError as problem:
        return sections, problem
    return sections, None


def _fill(sections: dict[str, Section], kinds: Collection[str], path: str, text: str) -> None:
    names = (*sections, *(f"{kind} <name>" for kind in kinds))
    headings = ", ".join(f"[{name}]" for name in names)
    section: Section | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = re.sub(r"(^|\s)[;#].*", "", raw).strip()
        if not line:
            continue
        heading = _HEADING.fullmatch(line)
        if heading:
            words = heading[1].split()
            name = " ".join(words)
            if len(words) == 2 and words[0] in kinds:
                sections.setdefault(name, Section(name, path, 0))
            section = sections.get(name)
            if section is None:
                raise ConfigError(path, number, line, f"one of {headings}")
            section.number = section.number or number
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if section is None:
            raise ConfigError(path, number, line, f"a section first, one of {headings}")
        if not equals or not key or not value:
            raise ConfigError(path, number, line, "<key> = <value>")
        section.add(Line(path, number, key, value))
