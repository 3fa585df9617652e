"""The lines of a haproxy.cfg: words, sections, variables and conditions.

Source: HAProxy's configuration manual, "Configuration file format". Conditions (``.if``) are not
evaluated, but for the numbers 0 and 1: what stands in them is read as if it held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Optional

import attrs

from peerproto.tables.words import split_words
from peerproto.terminal.check.finding import Finding, Place
from peerproto.wire.errors import LocalProtocolError

PROXIES: Final = frozenset(("frontend", "backend", "listen"))

SECTIONS: Final = PROXIES | {
    "acme",
    "cache",
    "crt-list",
    "crt-store",
    "defaults",
    "fcgi-app",
    "global",
    "healthcheck",
    "http-errors",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
}

_SET: Final = {"setenv": True, "presetenv": False}
"""Words of the global section that set a variable, and whether they do if it is set already."""

_READ: Final = {
    "bind",
    "default-bind",
    "default-server",
    "disabled",
    "enabled",
    "localpeer",
    "peer",
    "presetenv",
    "server",
    "setenv",
    "shards",
    "stick",
    "stick-table",
    "table",
    "unsetenv",
}
"""Words with which lines begin that mean something here."""


@attrs.frozen
class Section:
    """The heading that a line stands below."""

    kind: str
    name: str
    place: Place


@attrs.frozen
class Line:
    """A line with words in it."""

    place: Place
    words: list[str]
    section: Optional[Section]
    """``None`` before the first one."""
    condition: str = ""
    """The ``.if`` that it stands in, if that was not evaluated."""

    @property
    def text(self) -> str:
        """Its words."""
        return " ".join(self.words)

    def word(self, at: int) -> str:
        """A word; an empty one behind the last."""
        return self.words[at] if at < len(self.words) else ""

    def after(self, keyword: str) -> str:
        """The word behind another one, wherever that is; empty if it is not there."""
        return self.word(self.words.index(keyword) + 1) if keyword in self.words else ""


@attrs.define
class _Condition:
    text: str
    holds: Optional[bool]
    """``None`` if nobody knows."""


class Lines:
    """Reads files, and notes what cannot be read in them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """``variables`` are those of HAProxy's environment that are known."""
        self.findings: list[Finding] = []
        self._variables = dict(variables)
        self._section: Optional[Section] = None
        self._conditions: list[_Condition] = []

    def read(self, path: str, text: str) -> Iterator[Line]:
        """The lines of a file that mean something, in their order."""
        self._section = None
        self._conditions = []
        for number, raw in enumerate(text.split("\n"), 1):
            place = Place(path, number)
            if raw.lstrip().startswith("."):
                self._directive(place, raw.split("#")[0].split())
                continue
            if any(one.holds is False for one in self._conditions):
                continue
            words = self._words(place, raw)
            if not words:
                continue
            if words[0] in SECTIONS:
                self._section = Section(words[0], "".join(words[1:2]), place)
            if self._section is not None and self._section.kind == "global":
                self._set(words)
            condition = next((one.text for one in self._conditions if one.holds is None), "")
            yield Line(place, words, self._section, condition)
        for one in self._conditions:
            self._note(
                Place(path, number), f"the end of the file in {one.text}", ".endif", "add it"
            )

    def _words(self, place: Place, raw: str) -> list[str]:
        first = raw.split(None, 1)[:1]
        try:
            words = split_words(raw, "line", self._variables.get)
        except LocalProtocolError as problem:
            if first and (first[0] in _READ or first[0] in SECTIONS):
                change = "close it"
                if "variable" in problem.expected:
                    change = "give it with --env NAME=VALUE, as HAProxy's environment has it"
                self._note(place, str(problem.read).strip(), problem.expected, change)
            return []
        if words and words[-1].endswith("\\") and raw.rstrip("\r\n").endswith("\\"):
            self._note(
                place,
                "a backslash at the end of the line",
                "the whole line: HAProxy does not go on with a line in the next one",
                "put both into one line",
            )
            words[-1:] = [words[-1][:-1]] if words[-1] != "\\" else []
        return words

    def _set(self, words: list[str]) -> None:
        keyword, *rest = words
        if keyword in _SET and len(rest) == 2:
            if _SET[keyword] or rest[0] not in self._variables:
                self._variables[rest[0]] = rest[1]
        elif keyword == "unsetenv":
            for name in rest:
                self._variables.pop(name, None)
        elif keyword == "localpeer" and rest:
            self._variables["HAPROXY_LOCALPEER"] = rest[0]

    def _directive(self, place: Place, words: list[str]) -> None:
        word, text = words[0], " ".join(words)
        if word == ".if":
            self._conditions.append(_Condition(text, self._holds(place, text, words[1:])))
        elif word in (".elif", ".else", ".endif"):
            if not self._conditions:
                self._note(place, word, "an .if before it", "take it out")
                return
            before = self._conditions.pop()
            if word == ".endif":
                return
            if before.holds:
                holds: Optional[bool] = False
            elif word == ".else":
                holds = None if before.holds is None else True
            else:
                holds = self._holds(place, text, words[1:])
                # What is known of this one says nothing, if one before it may hold.
                holds = holds if before.holds is False or holds is False else None
            self._conditions.append(_Condition(text, holds))

    def _holds(self, place: Place, text: str, condition: list[str]) -> Optional[bool]:
        if not condition:
            return False
        if len(condition) == 1 and condition[0].isdecimal():
            return int(condition[0]) != 0
        self._note(
            place,
            text,
            "0 or 1: other conditions are not evaluated, and what stands in them is read",
            "see whether it holds",
            is_note=True,
        )
        return None

    def _note(
        self, place: Place, read: str, expected: str, change: str, is_note: bool = False
    ) -> None:
        self.findings.append(Finding(place, read, expected, change, is_note))
