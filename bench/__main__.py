"""``python -m bench [entries [rounds]]``: all measurements, each round in fresh processes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from statistics import median

from bench.measure import MEASUREMENTS

LINES = (
    ("learn", "per_second", "learnt by a session, from memory", "entries/s"),
    ("learn-socket", "per_second", "learnt by the service, over loopback TCP", "entries/s"),
    ("teach", "per_second", "taught by a session, to a sink", "entries/s"),
    ("teach", "longest_slice_ms", "longest slice of that lesson", "ms"),
    ("learn", "bytes_per_entry", "resident memory of what was learnt", "bytes/entry"),
    ("teach", "bytes_per_update", "size of an update on the wire", "bytes"),
)


def measure(what: str, entries: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.measure", what, str(entries)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main(entries: int = 1_000_000, rounds: int = 3) -> None:
    taken: dict[str, list[dict[str, float]]] = {what: [] for what in MEASUREMENTS}
    for number in range(rounds):
        for what, results in taken.items():
            print(f"round {number + 1} of {rounds}: {what}", file=sys.stderr)
            results.append(measure(what, entries))
    print(f"{entries:,} entries, IPv4 key, 3 counters and a rate; median of {rounds} rounds")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for what, figure, description, unit in LINES:
        value = median(result[figure] for result in taken[what])
        print(f"  {description:<42}{value:>12,.0f} {unit}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
