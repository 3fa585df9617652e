"""The commands of a runtime socket: found by their words, as HAProxy does, and guarded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Optional

from peerproto import Command, CommandError, LocalProtocolError
from peerproto.service.command import Answer


class Commands:
    """What a runtime socket understands."""

    def __init__(
        self, commands: list[Command], more: Callable[[], Iterable[Command]] = lambda: ()
    ) -> None:
        """``more`` gives those that come and go: where words are the same, ``commands`` hold."""
        self._own = [
            *commands,
            Command(("help",), "[<command>]", "list matching or all commands", self._help),
        ]
        self._more = more

    @property
    def _commands(self) -> list[Command]:
        """Those that there are now; none that another one hides."""
        by_words = {command.words: command for command in (*self._more(), *self._own)}
        return [by_words[words] for words in sorted(by_words)]

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
        """The command with the most of these words; of several, one of the node's own."""
        found: Optional[Command] = None
        for command in (*self._own, *self._more()):
            fits = tuple(words[: len(command.words)]) == command.words
            if fits and (found is None or len(command.words) > len(found.words)):
                found = command
        return found

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
        commands = self._commands
        alike = [one for one in commands if one.words[0] == (words or [""])[0]]
        yield "The following commands are valid:\n"
        yield from (command.line for command in alike or commands)
        yield f"{'  prompt':<42}: toggle interactive mode with prompt\n"
        yield f"{'  quit':<42}: disconnect\n"
