"""How long the turns of the reactor are while a whole process works on a large table."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import attrs

from bench.lesson import LINES, TABLE, lesson
from bench.rivals import Rival, free_port, wait


@attrs.frozen
class Turns:
    """Those of one kind of work."""

    count: int
    p999_ms: float
    longest_ms: float


class TimedRival(Rival):
    """A peerproto of which the turns are known."""

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.turns"

    def twist(self) -> list[str]:
        return ["bench.turning", str(self.file)]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.processes[-1].pid, number)

    def turns(self) -> Turns:
        """Those since the last call."""
        self.file.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        wait(self.file.exists)
        turns = sorted(1000 * float(one) for one in json.loads(self.file.read_text()))
        return Turns(len(turns), turns[len(turns) * 999 // 1000], turns[-1])


def turns(kind: str, entries: int, folder: Path) -> dict[str, Turns]:
    """By what it does: the turns of a process of this kind."""
    ports = {name: free_port() for name in ("source", "subject", "pupil", "feeder")}
    source = Rival("haproxy", "source", TABLE.name, folder, ports)
    subject = TimedRival(kind, "subject", TABLE.name, folder, ports)
    pupil = Rival("haproxy", "pupil", TABLE.name, folder, ports)
    line = LINES[TABLE.name].replace("expire 1h", "expire 10s")
    forgetful = TimedRival(kind, "subject", TABLE.name, folder, ports, line)
    result = {}
    try:
        source.start()
        source.fill(b"".join(lesson(entries)), entries)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        forgetful.start()
        wait(lambda: forgetful.used() == entries)
        forgetful.turns()
        wait(lambda: forgetful.used() == 0)
        result["expire"] = forgetful.turns()
        forgetful.stop()
        subject.start()
        wait(lambda: subject.used() == entries)
        result["learn"] = subject.turns()
        source.stop()
        pupil.start()
        wait(lambda: pupil.used() == entries)
        result["teach"] = subject.turns()
        assert subject.ask(f"show table {TABLE.name}").count("key=") == entries
        result["list"] = subject.turns()
        line = LINES[TABLE.name].replace("conn_cnt", "gpt0")
        attrs.evolve(subject, line=line).configure()
        subject.signal(signal.SIGHUP)
        time.sleep(6)  # entries are converted in slices
        result["declare anew"] = subject.turns()
        assert "gpt0=0" in subject.ask(f"show table {TABLE.name} data.gpt0 eq 0")
        subject.turns()
        subject.ask(f"clear table {TABLE.name} data.gpc0 lt 2")
        result["clear by value"] = subject.turns()
        assert 0 < subject.used() < entries
        subject.ask(f"clear table {TABLE.name}")
        time.sleep(3)  # what was cleared is given back in slices
        result["clear"] = subject.turns()
    finally:
        for rival in (source, subject, pupil, forgetful):
            rival.stop()
    return result
