"""What storage costs a node that learns, and how fast it loads: ``python -m bench.storing``.

A peerproto with storage and one without learn the same entries of a HAProxy, in turns; a ratio is
that of one round. The one with storage then loads what it has kept.
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import attrs

from bench.learning import COMPILED_TREE, KINDS, fill, places, rival, used
from bench.lesson import LINES, TABLE, lesson
from bench.turns import Turns, timed, turns_of
from testbed import Node, Peerproto, wait


@attrs.frozen
class Stored:
    """What one kind of peerproto needs."""

    without: list[float]
    """Entries a second that are learnt without storage, by rounds."""
    with_it: list[float]
    """The same with it."""
    written_after: list[float]
    """Seconds from the last entry learnt until all are written."""
    loaded: list[float]
    """Entries a second that are loaded."""
    turns: Turns
    """Those of the reactor, while it learns and writes."""
    turns_loading: Turns
    bytes_an_entry: float


def _learn(learner: Peerproto, peers: list[Node], entries: int) -> float:
    """Entries a second, from the first that is visible to the last."""
    learner.start(peers)
    wait(learner.runtime.exists)
    first, began = 0, 0.0
    while (count := used(learner, TABLE.name)) < entries:
        if count and not first:
            first, began = count, time.perf_counter()
        time.sleep(0.01)
    return (entries - first) / (time.perf_counter() - began)


def _until_written(node: Peerproto) -> float:
    """Wait until all is written: the seconds that takes."""
    began = time.perf_counter()
    while "unwritten_ms=0" not in node.ask_now("show storage"):
        time.sleep(0.1)
    return time.perf_counter() - began


def _until_loaded(node: Peerproto, entries: int) -> float:
    """Wait until all is loaded: the seconds that it took, as the log says."""
    said = re.compile(r"(\d+) entries were loaded in ([\d.]+) s")
    wait(lambda: said.search(node.log.read_text()) is not None)
    found = said.search(node.log.read_text())
    assert found is not None and int(found[1]) == entries, found
    return float(found[2])


def _end(node: Peerproto) -> None:
    assert node.process is not None
    node.send_signal(signal.SIGTERM)
    node.process.wait()
    node.kill()


def _without(kind: str, place: Node, peers: list[Node], entries: int) -> float:
    """Entries a second that one without storage learns."""
    plain = timed(kind, place, LINES[TABLE.name])
    assert isinstance(plain, Peerproto)
    try:
        return _learn(plain, peers, entries)
    finally:
        plain.kill()


def storing(kind: str, entries: int, rounds: int, folder: Path) -> Stored:
    """Measure one of `KINDS`."""
    mesh = places(folder, "teacher", "learner", "feeder")
    peers = list(mesh.values())
    teacher = rival("haproxy", mesh["teacher"], TABLE.name)
    file = folder / "tables.db"
    without: list[float] = []
    with_it: list[float] = []
    written: list[float] = []
    loaded: list[float] = []
    size = 0.0
    try:
        teacher.start(peers)
        fill(teacher, TABLE.name, b"".join(lesson(entries)), entries)
        time.sleep(6)  # by then it counts itself up to date, with nobody to ask
        for number in range(rounds):
            if number % 2 == 0:
                without.append(_without(kind, mesh["learner"], peers, entries))
            for old in folder.glob("tables.db*"):
                old.unlink()
            keeping = timed(kind, mesh["learner"], LINES[TABLE.name])
            assert isinstance(keeping, Peerproto)
            keeping.more = f"[storage]\npath = {file}\n"
            with_it.append(_learn(keeping, peers, entries))
            written.append(_until_written(keeping))
            turns = turns_of(keeping)
            _end(keeping)
            size = file.stat().st_size / entries
            keeping.log.unlink()
            keeping.start([mesh["learner"]])
            loaded.append(entries / _until_loaded(keeping, entries))
            turns_loading = turns_of(keeping)
            _end(keeping)
            if number % 2:
                without.append(_without(kind, mesh["learner"], peers, entries))
            figures = (
                f"{without[-1]:,.0f} without, {with_it[-1]:,.0f} with, {loaded[-1]:,.0f} loaded"
            )
            print(f"round {number + 1}: {figures}", file=sys.stderr)
    finally:
        teacher.kill()
    return Stored(without, with_it, written, loaded, turns, turns_loading, size)


def print_storing(entries: int, rounds: int) -> None:
    """A table of each kind that there is."""
    print(f"| storage, {entries:,} entries | | pure | compiled |\n| --- | --- | --- | --- |")
    kinds = [kind for kind in KINDS[1:] if kind == "pure" or COMPILED_TREE.exists()]
    found = []
    for kind in kinds:
        print(f"storing, {kind}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            found.append(storing(kind, entries, rounds, Path(folder)))
    for what, unit, figures in (
        ("learns without", "entries/s", [f"{median(one.without):,.0f}" for one in found]),
        ("learns with it", "entries/s", [f"{median(one.with_it):,.0f}" for one in found]),
        (
            "ratio of a round",
            "",
            [f"{median(b / a for a, b in zip(one.without, one.with_it)):.2f}" for one in found],
        ),
        ("all written after that", "s", [f"{median(one.written_after):.1f}" for one in found]),
        ("loads", "entries/s", [f"{median(one.loaded):,.0f}" for one in found]),
        (
            "turns while it learns and writes, 99.9 %",
            "ms",
            [f"{x.turns.p999_ms:.1f}" for x in found],
        ),
        ("the longest", "ms", [f"{one.turns.longest_ms:.1f}" for one in found]),
        ("turns while it loads, 99.9 %", "ms", [f"{x.turns_loading.p999_ms:.1f}" for x in found]),
        ("the longest", "ms", [f"{one.turns_loading.longest_ms:.1f}" for one in found]),
        ("on disk", "bytes an entry", [f"{one.bytes_an_entry:.0f}" for one in found]),
    ):
        print(f"| {what} | {unit} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    print_storing(*(map(int, sys.argv[1:]) if sys.argv[1:] else (1_000_000, 3)))
