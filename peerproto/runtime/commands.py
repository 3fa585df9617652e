"""The runtime commands, by HAProxy's words; an answer is text, produced as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

import attrs

from peerproto import LocalProtocolError
from peerproto.runtime.words import CommandError

Answer = Iterator[str]
"""Pieces of text. An empty one means that there was work, but nothing to say yet."""


@attrs.frozen
class Command:
    """One command: the words that it begins with, and what it does with the rest."""

    words: tuple[str, ...]
    usage: str
    """What follows the words."""
    summary: str
    run: Callable[[list[str]], Answer]
    changes: bool = False
    """Whether it does something that holds even if nobody reads the answer."""

    @property
    def line(self) -> str:
        """Its line in ``help``."""
        return f"  {' '.join(self.words)} {self.usage}".ljust(42) + f": {self.summary}\n"


class Commands:
    """What a runtime socket understands."""

    def __init__(self, commands: list[Command]) -> None:
        self._commands = sorted(
            [
                *commands,
                Command(("help",), "[<command>]", "list matching or all commands", self._help),
            ],
            key=lambda command: command.words,
        )

    def answer(self, words: list[str]) -> Answer:
        """Run a command: its answer, or how it is to be called."""
        if not words:
            return iter(())
        command = self._find(words)
        if command is None:
            return iter([f"Unknown command: '{' '.join(words)}'. ", *self._listing(words)])
        return self._guarded(command, words[len(command.words) :])

    def changes(self, words: list[str]) -> bool:
        """Whether these words are a command that changes something."""
        command = self._find(words)
        return command is not None and command.changes

    def _find(self, words: list[str]) -> Optional[Command]:
        for command in self._commands:
            if tuple(words[: len(command.words)]) == command.words:
                return command
        return None

    def _guarded(self, command: Command, arguments: list[str]) -> Answer:
        """The answer; what is wrong with the command, if anything, is said in it."""
        try:
            yield from command.run(arguments)
        except CommandError as problem:
            yield f"{problem}\nUsage: {' '.join(command.words)} {command.usage}".rstrip() + "\n"
        except LocalProtocolError as problem:
            # What the command is about has gone meanwhile.
            yield f"{problem}\n"

    def _help(self, arguments: list[str]) -> Answer:
        yield from self._listing(arguments)

    def _listing(self, words: list[str]) -> Answer:
        """The commands that share their first word with these, or all."""
        alike = [one for one in self._commands if one.words[0] == (words or [""])[0]]
        yield "The following commands are valid:\n"
        yield from (command.line for command in alike or self._commands)
        yield f"{'  prompt':<42}: toggle interactive mode with prompt\n"
        yield f"{'  quit':<42}: disconnect\n"
