"""The parts of a service, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Optional, TypeVar

from twisted.logger import Logger

from peerproto.service.command import Command
from peerproto.service.part import Detail, IPart, Metric, Plain
from peerproto.wire.errors import LocalProtocolError

T = TypeVar("T")


class Parts(Mapping[str, IPart]):
    """What they all offer. What fails in one of them is logged, and touches no other."""

    _log = Logger()

    def __init__(self) -> None:
        self._parts: dict[str, IPart] = {}

    def __getitem__(self, name: str) -> IPart:
        """:raises KeyError: there is no part of this name."""
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, name: str, part: IPart) -> None:
        """Have one more part.

        :raises LocalProtocolError: there is one of this name, or a command of it has the same words
            as one of another part. What its ``commands`` raises is raised, too.
        """
        if name in self._parts:
            raise LocalProtocolError("name of a part", name, "one that is not taken")
        taken = {command.words for command in self.commands()}
        for command in _commands_of(part):
            if command.words in taken:
                words = " ".join(command.words)
                raise LocalProtocolError(f"part {name}", f"command {words}", "one that is new")
        self._parts[name] = part

    def remove(self, name: str) -> None:
        """:raises KeyError: there is no part of this name."""
        del self._parts[name]

    def status(self) -> dict[str, Mapping[str, Plain]]:
        """How each stands, by its name."""
        failed: Mapping[str, Plain] = {"failed": True}
        return {
            name: self._ask(name, partial(_status, part), failed)
            for name, part in list(self._parts.items())
        }

    def details(self) -> dict[str, list[Detail]]:
        """What each does, by its name."""
        nothing: list[Detail] = []
        return {
            name: self._ask(name, partial(_listed, _details, part), nothing)
            for name, part in list(self._parts.items())
        }

    def commands(self) -> list[Command]:
        """All commands."""
        return self._all(_commands_of)

    def metrics(self) -> list[Metric]:
        """All that is measured."""
        return self._all(lambda part: part.metrics())

    def not_ready(self) -> list[str]:
        """Why parts are not ready, in words, each with its name."""
        return [f"{name}: {why}" for name, why in self.readiness().items() if why is not None]

    def readiness(self) -> dict[str, Optional[str]]:
        """By the names of all parts, why each is not ready, in words; ``None`` if it is."""
        unknown: Optional[str] = "it failed to say whether it is ready"
        return {
            name: self._ask(name, part.not_ready, unknown)
            for name, part in list(self._parts.items())
        }

    def writers(self) -> dict[str, str]:
        """By the names of tables that a part alone writes, the name of that part."""
        nothing: list[str] = []
        return {
            table: name
            for name, part in list(self._parts.items())
            for table in self._ask(name, partial(_listed, _writes, part), nothing)
        }

    def _all(self, what: Callable[[IPart], Iterable[T]]) -> list[T]:
        nothing: list[T] = []
        found: list[T] = []
        for name, part in list(self._parts.items()):
            found += self._ask(name, partial(_listed, what, part), nothing)
        return found

    def _ask(self, name: str, what: Callable[[], T], otherwise: T) -> T:
        try:
            return what()
        except Exception:
            self._log.failure("part {name} failed", name=name)
            return otherwise


def _status(part: IPart) -> Mapping[str, Plain]:
    return dict(part.status())


def _details(part: IPart) -> Iterable[Detail]:
    return part.details()


def _writes(part: IPart) -> Iterable[str]:
    return part.writes()


def _listed(what: Callable[[IPart], Iterable[T]], part: IPart) -> list[T]:
    return list(what(part))


def _commands_of(part: IPart) -> list[Command]:
    commands = list(part.commands())
    for command in commands:
        if not isinstance(command, Command):
            raise LocalProtocolError("command of a part", command, "a Command")
    return commands
