"""``python -m bench [entries [rounds]]``: all measurements, one table of each kind.

What can be compared with HAProxy is: pure, compiled and HAProxy take turns, and a
ratio is the median over the rounds of the ratios within a round.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from bench.aggregating import LOADS, aggregating
from bench.alternating import CHANGES as TO_AND_FRO
from bench.alternating import alternating
from bench.growth import KEEPS_MEMORY, SIZES, Cost, middle, plot
from bench.idling import print_idling
from bench.keeping_up import print_keeping_up
from bench.learning import COMPILED_TREE, KINDS, ROOT, Learnt, lessons, python_path
from bench.live import CHANGES, PEERS, live
from bench.measure import MEASUREMENTS
from bench.reaching import print_reaching
from bench.restarting import print_restarting
from bench.sharing_postgres import print_sharing
from bench.storing import print_storing
from bench.streaming import UPDATES as STREAMED
from bench.streaming import print_streaming
from bench.turns import turns
from testbed import default

ALONE = (
    ("learn", "per_second", "learnt by a session, from memory", "entries/s"),
    ("observe", "per_second", "the same, with an observer of whole batches", "entries/s"),
    ("observe", "decoded_per_second", "the same, and one value read of each change", "entries/s"),
    ("feeding", "unread", "what 3 feeds add to learning, that nobody reads", "%"),
    ("feeding", "read", "the same, read every 100 ms", "%"),
    ("transcode", "per_second", "learnt where the peer stores other data types", "entries/s"),
    ("hostile", "ordinary", "an ordinary lesson, for a byte of input", "ns"),
    ("hostile", "plain", "the same frame by frame, which is the plain loop", "ns"),
    ("hostile", "separators", "a separator in each key, for a byte of input", "ns"),
    ("hostile", "bytes", "one byte at a time", "ns"),
    ("hostile", "switches", "another table for each update, for a byte of input", "ns"),
    ("definitions", "same_us", "the same definition of a table for each update of it", "us"),
    ("definitions", "known_us", "one of two definitions in turn for each", "us"),
    ("definitions", "new_us", "a new definition for each", "us"),
    ("teach", "per_second", "taught by a session, to a sink", "entries/s"),
    ("teach", "longest_slice_ms", "longest slice of that lesson", "ms"),
    ("teach", "bytes_per_entry", "memory that a lesson takes, for an entry", "bytes"),
    ("give", "one_us", "a change of ours, for each of 50 peers with 4 tables", "us"),
    ("give", "hundred_us", "100 changes of ours in one turn, for each of them", "us"),
    ("pauses", "learn_ms", "longest read of a lesson", "ms"),
    ("pauses", "convert_ms", "longest slice of a new declaration", "ms"),
    ("pauses", "expire_ms", "longest slice of expiry", "ms"),
    ("pauses", "clear_ms", "longest slice of clearing", "ms"),
    ("pauses", "refuse_ms", "one read of new entries to a full table with nopurge", "ms"),
    ("pauses", "cross_ms", "one read of entries with changes that are not acked", "ms"),
    ("learn", "bytes_per_entry", "resident memory of what was learnt", "bytes"),
    ("limits", "dict_per_second", "limit: storing ready keys and values in a dict", "entries/s"),
    ("limits", "loopback_per_second", "limit: reading the bytes from loopback TCP", "entries/s"),
    ("limits", "pages_per_second", "limit: getting the memory from the kernel", "entries/s"),
)

PLOT = ROOT / "doc" / "growth.svg"

COMPARED: tuple[tuple[str, str, Callable[[Learnt], float], str], ...] = (
    ("learner", "learns, entries a second", lambda one: one.per_second, "{:,.0f}"),
    ("learner", "resident bytes an entry", lambda one: one.bytes_per_entry, "{:,.0f}"),
    ("learner", "processor us an entry", lambda one: one.processor_us, "{:.2f}"),
    ("teacher", "taught by it, entries a second", lambda one: one.per_second, "{:,.0f}"),
)


def apart(
    kind: str, module: str, *words: object, environment: Mapping[str, str] = {}
) -> dict[str, float]:
    """One measurement in a process of its own: what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
        cwd=COMPILED_TREE if kind == "compiled" else ROOT,
        env={**os.environ, "PYTHONPATH": python_path(kind), **environment},
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def print_alone(entries: int, rounds: int) -> None:
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for what in MEASUREMENTS:
            for kind in KINDS[1:]:
                print(f"round {number + 1} of {rounds}: {what}, {kind}", file=sys.stderr)
                taken.setdefault((kind, what), []).append(
                    apart(kind, "bench.measure", what, entries)
                )
    print("| peerproto alone | | pure | compiled |\n| --- | --- | --- | --- |")
    for what, figure, description, unit in ALONE:
        cells = []
        for kind in KINDS[1:]:
            value = median(result[figure] for result in taken[kind, what])
            cells.append(f"{value:,.0f}" if value >= 100 else f"{value:,.1f}")
        print(f"| {description} | {unit} | {' | '.join(cells)} |", flush=True)


def print_compared(table: str, entries: int, rounds: int, ascending: bool = False) -> None:
    pairs = [("haproxy", kind) for kind in KINDS] + [(kind, "haproxy") for kind in KINDS[1:]]
    named = f"`{table}`, ascending keys" if ascending else f"`{table}`"
    print(f"{named}: each as learner and as teacher", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="pb") as folder:
        results = lessons(table, pairs, entries, rounds, Path(folder), ascending)
    print(f"| table {named} | HAProxy | pure | ratio | compiled | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side, description, figure, form in COMPARED:
        yardstick = [figure(one) for one in results["haproxy", "haproxy"]]
        cells = [form.format(median(yardstick))]
        for kind in KINDS[1:]:
            pair = ("haproxy", kind) if side == "learner" else (kind, "haproxy")
            values = [figure(one) for one in results[pair]]
            ratio = median(value / other for value, other in zip(values, yardstick))
            cells += [form.format(median(values)), f"{ratio:.2f}"]
        print(f"| {description} | {' | '.join(cells)} |", flush=True)


def print_live(seconds: float) -> None:
    """One peerproto and HAProxy after the other."""
    print(f"| {CHANGES:,} live changes a second from {PEERS} peers, {seconds:g} s | | ", end="")
    print(" | ".join(KINDS) + " |\n| --- | --- | --- | --- | --- |")
    lags = []
    for kind in KINDS:
        print(f"live, {kind}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            lags.append(live(kind, Path(folder), seconds))
    for description, unit, field in (
        ("lag until the ack, median", "ms", "median_ms"),
        ("lag until the ack, 99th percentile", "ms", "p99_ms"),
        ("longest lag until the ack", "ms", "longest_ms"),
        ("processor", "% of a core", "processor"),
    ):
        cells = " | ".join(f"{getattr(lag, field):.1f}" for lag in lags)
        print(f"| {description} | {unit} | {cells} |", flush=True)


def print_alternating(rounds: int) -> None:
    """HAProxy beside each kind, which take turns."""
    lags: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            print(f"round {number + 1} of {rounds}: alternating, {kind}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                lags[kind] += alternating(kind, Path(folder), TO_AND_FRO)
    count = len(lags["haproxy"])
    print(f"| {count:,} changes to and fro between HAProxy and | | {' | '.join(KINDS)} |")
    print("| --- | --- | --- | --- | --- |")
    for description, place in (
        ("until the other side shows it, median", count // 2),
        ("99th percentile", count * 99 // 100),
        ("longest", count - 1),
    ):
        cells = " | ".join(f"{sorted(lags[kind])[place]:.2f}" for kind in KINDS)
        print(f"| {description} | ms | {cells} |", flush=True)


def print_sums(seconds: float) -> None:
    print("| ms from a change at one peer to the sum at another | median | 95 % | 99 % | longest |")
    print("| --- | --- | --- | --- | --- |")
    for load in LOADS:
        for kind in KINDS[1:]:
            print(f"sums, {load} a second, {kind}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pb") as folder:
                lag = aggregating(kind, Path(folder), load, seconds)
            figures = lag.median, lag.p95, lag.p99, lag.longest
            cells = " | ".join(f"{figure:.1f}" for figure in figures)
            what = f"{load:,} changes a second, {kind} ({lag.processor:.0f} % of a core)"
            print(f"| {what} | {cells} |", flush=True)


def print_turns(entries: int) -> None:
    print("| turns of the reactor, ms | pure, 99.9 % | longest | compiled, 99.9 % | longest |")
    print("| --- | --- | --- | --- | --- |")
    results = []
    for kind in KINDS[1:]:
        print(f"turns, {kind}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            results.append(turns(kind, entries, Path(folder)))
    for work in results[0]:
        cells = " | ".join(
            f"{one[work].p999_ms:.1f} | {one[work].longest_ms:.1f}" for one in results
        )
        print(f"| {work} | {cells} |", flush=True)


def print_growth(rounds: int) -> None:
    """Measure growth, and draw it."""
    taken: dict[tuple[str, str, int], list[Cost]] = {}
    for number in range(rounds):
        for what, sizes in SIZES.items():
            for size in sizes:
                for kind in KINDS[1:]:
                    print(f"round {number + 1} of {rounds}: {size} {what}", file=sys.stderr)
                    found = apart(kind, "bench.growth", what, size, environment=KEEPS_MEMORY)
                    taken.setdefault((kind, what, size), []).append(Cost(**found))
    costs = {key: middle(found) for key, found in taken.items()}
    plot(costs, PLOT)
    print("| us an entry | pure: learn | teach | compiled: learn | teach | a dict alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, sizes in SIZES.items():
        for size in sizes:
            pure, compiled = costs["pure", what, size], costs["compiled", what, size]
            figures = pure.learn, pure.teach, compiled.learn, compiled.teach, pure.limit
            print(f"| {size:,} {what} | {' | '.join(f'{one:.2f}' for one in figures)} |")


def main(entries: int = 1_000_000, rounds: int = 5) -> None:
    version = default().version
    print(
        f"{entries:,} entries, {rounds} rounds; {platform.python_implementation()}"
        f" {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores,"
        f" HAProxy {version}"
    )
    for table, ascending in (("rates", False), ("mixed", False), ("rates", True)):
        print()
        print_compared(table, entries, rounds, ascending)
    print()
    print_alone(entries, rounds)
    print()
    print_live(30)
    print()
    print_alternating(rounds)
    print()
    print_sums(20)
    print()
    print_reaching(20)
    print()
    print_restarting()
    print()
    print_idling()
    print()
    print_streaming(STREAMED, rounds)
    print()
    print_storing(entries, rounds)
    print()
    print_keeping_up()
    print()
    print_sharing()
    print()
    print_turns(entries)
    print()
    print_growth(rounds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
