"""Parts: what they offer, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from twisted.trial.unittest import SynchronousTestCase

from peerproto.runtime.protocol import runtime_commands
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.part import Detail, Metric, Part, Plain
from peerproto.testing import MemoryNetwork
from peerproto.wire.errors import LocalProtocolError


class Bell(Part):
    """Rings when it is told to."""

    def __init__(self) -> None:
        self.rung = 0
        self.ready = True

    def status(self) -> Mapping[str, Plain]:
        return {"rung": self.rung, "quiet": not self.rung}

    def commands(self) -> Iterable[Command]:
        return [Command(("ring",), "<times>", "ring the bell", self._ring, changes=True)]

    def _ring(self, arguments: list[str]) -> Answer:
        if not arguments:
            raise CommandError("How often is missing")
        self.rung += int(arguments[0])
        yield "rung\n"

    def details(self) -> Iterable[Detail]:
        yield Detail("clapper", values={"weight": 3})

    def metrics(self) -> Iterable[Metric]:
        return [Metric("bell_rung", "How often it was rung", self.rung, counter=True)]

    def not_ready(self) -> Optional[str]:
        return None if self.ready else "it has no clapper"


class Broken(Part):
    """Fails in whatever it is asked."""

    def status(self) -> Mapping[str, Plain]:
        raise ZeroDivisionError

    def details(self) -> Iterable[Detail]:
        yield Detail("half")
        raise ZeroDivisionError

    def metrics(self) -> Iterable[Metric]:
        yield Metric("half", "", 1)
        raise ZeroDivisionError

    def not_ready(self) -> Optional[str]:
        raise ZeroDivisionError

    def writes(self) -> Iterable[str]:
        raise ZeroDivisionError


class PartsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.addCleanup(self.network.stop)
        self.service = self.network.peer("here", {"t": "type integer size 1k store gpc0"})
        self.commands = runtime_commands(self.service)
        self.bell = Bell()

    def ask(self, *words: str) -> str:
        return "".join(self.commands.answer(list(words)))

    def test_commands(self) -> None:
        """Its commands are there as long as it is a part, and are listed with all others."""
        self.assertIn("Unknown command: 'ring 3'", self.ask("ring", "3"))
        self.service.add_part("bell", self.bell)
        self.assertEqual(self.ask("ring", "3"), "rung\n")
        self.assertEqual(self.ask("ring"), "How often is missing\nUsage: ring <times>\n")
        self.assertIn("ring <times>", self.ask("help"))
        self.assertTrue(self.commands.changes(["ring", "1"]))
        self.service.remove_part("bell")
        self.assertIn("Unknown command", self.ask("ring", "3"))
        self.assertEqual(self.bell.rung, 3)

    def test_status(self) -> None:
        """Its status is part of the node's, and shown on the runtime socket."""
        self.service.add_part("bell", self.bell)
        self.service.add_part("other", Part())
        self.assertEqual(
            self.service.status().parts, {"bell": {"rung": 0, "quiet": True}, "other": {}}
        )
        self.assertEqual(
            self.ask("show", "parts"), "# part: bell\nrung: 0\nquiet: True\n# part: other\n"
        )
        self.assertEqual(self.ask("show", "parts", "other"), "# part: other\n")
        self.assertIn("There are: bell, other", self.ask("show", "parts", "none"))
        self.assertEqual([one.value for one in self.service.parts.metrics()], [0])

    def test_writers(self) -> None:
        """It is known which part alone writes a table; one that fails to say so writes none."""

        class Scribe(Part):
            def writes(self) -> Iterable[str]:
                return ["t", "other"]

        self.service.add_part("bell", self.bell)
        self.service.add_part("scribe", Scribe())
        self.service.add_part("broken", Broken())
        self.assertEqual(self.service.parts.writers(), {"t": "scribe", "other": "scribe"})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_readiness_of_each(self) -> None:
        """Each part says why it is not ready, also one that fails to say it."""
        self.service.add_part("bell", self.bell)
        self.service.add_part("broken", Broken())
        self.bell.ready = False
        readiness = self.service.parts.readiness()
        self.assertEqual(readiness["bell"], "it has no clapper")
        self.assertIn("failed", readiness["broken"] or "")
        self.bell.ready = True
        self.assertIsNone(self.service.parts.readiness()["bell"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_names(self) -> None:
        """Two parts have neither a name nor the words of a command in common."""
        self.service.add_part("bell", self.bell)
        for name in ("bell", "another"):
            self.assertRaises(LocalProtocolError, self.service.add_part, name, Bell())
        self.assertEqual(list(self.service.parts), ["bell"])
        self.assertRaises(KeyError, self.service.remove_part, "another")

    def test_most_words(self) -> None:
        """Of several commands that fit, the one with the most words is meant; the node's own stay
        what they are."""

        class Greedy(Part):
            def commands(self) -> Iterable[Command]:
                for words in (("show",), ("show", "info"), ("ring", "twice")):
                    yield Command(words, "", "greedy", lambda _: iter(["greedy\n"]))

        self.service.add_part("greedy", Greedy())
        self.service.add_part("bell", self.bell)
        self.assertIn("Name: peerproto", self.ask("show", "info"))
        self.assertEqual(self.ask("show", "nothing"), "greedy\n")
        self.assertEqual(self.ask("ring", "twice"), "greedy\n")
        self.assertEqual(self.ask("ring", "2"), "rung\n")
        self.assertEqual(self.ask("help", "show").count("show info"), 1)

    def test_wrong_words(self) -> None:
        """A command has words, each without blanks; what is no command is none of a part."""
        for words in ((), "ring", ["ring"], ("ring it",), ("",), (1,)):
            wrong: Any = words
            self.assertRaises(LocalProtocolError, Command, wrong, "", "", lambda _: iter(()))

        class Odd(Part):
            offered: tuple[str, ...] = ()

            def commands(self) -> Any:
                return self.offered

        odd = Odd()
        self.service.add_part("bell", self.bell)
        self.service.add_part("odd", odd)
        odd.offered = ("ring",)
        self.assertRaises(LocalProtocolError, self.service.add_part, "another", odd)
        self.assertEqual(self.ask("ring", "1"), "rung\n")
        self.assertGreater(len(self.flushLoggedErrors(LocalProtocolError)), 0)

    def test_removes_itself(self) -> None:
        """A part may remove itself in whatever it is asked."""

        class Leaving(Part):
            def not_ready(leaving) -> Optional[str]:  # noqa: N805 (the test is ``self``)
                self.service.remove_part("leaving")
                return "it leaves"

        self.service.add_part("leaving", Leaving())
        self.service.add_part("bell", self.bell)
        self.network.start()
        self.network.advance(6)
        self.assertEqual(self.service.not_ready(), ["leaving: it leaves"])
        self.assertEqual(self.service.not_ready(), [])

    def test_readiness(self) -> None:
        """The node is ready when it is up to date, and all of its parts are ready."""
        self.service.add_part("bell", self.bell)
        self.bell.ready = False
        self.network.start()
        learning, clapper = self.service.not_ready()
        self.assertIn("waiting", learning)
        self.assertEqual(clapper, "bell: it has no clapper")
        self.network.advance(6)
        self.assertEqual(self.service.not_ready(), ["bell: it has no clapper"])
        self.bell.ready = True
        self.assertEqual(self.service.not_ready(), [])

    def test_fails(self) -> None:
        """One that fails is logged, and hides nothing of the others."""
        self.network.start()
        self.service.add_part("broken", Broken())
        self.service.add_part("bell", self.bell)
        status = self.service.status().parts
        self.assertEqual(status["broken"], {"failed": True})
        self.assertEqual(status["bell"], {"rung": 0, "quiet": True})
        self.assertEqual([one.name for one in self.service.parts.metrics()], ["bell_rung"])
        self.assertIn("broken: it failed to say", str(self.service.not_ready()))
        details = {"broken": [], "bell": [Detail("clapper", values={"weight": 3})]}
        self.assertEqual(self.service.parts.details(), details)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
