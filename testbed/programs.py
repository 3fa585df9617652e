"""The HAProxies of this machine: Debian's, those that `make programs` fetches, and further ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import attrs

FETCHED = Path(__file__).parent.parent / ".haproxy"
"""Where ``.ci/fetch-haproxies`` puts what it fetches."""


WANTED = {
    "2.6": None,
    "2.8": "wheel",
    "3.0": "trixie",
    "3.2": "sid",
}
"""The branches that people run, and the folder in `FETCHED` for each that is fetched."""


@attrs.frozen
class Program:
    """A HAProxy that can be run."""

    version: str
    """As it says itself, say ``2.6.12-1+deb12u4``."""
    command: tuple[str, ...]

    @property
    def branch(self) -> str:
        """The first two numbers of the version, say ``2.6``."""
        return ".".join(self.version.split(".")[:2]).partition("-")[0]


def _candidates() -> list[Path]:
    """``haproxy``, ``haproxy-<version>`` on PATH, and what was fetched, in this order."""
    found = []
    plain = shutil.which("haproxy")
    if plain is not None:
        found.append(Path(plain))
    for folder in os.get_exec_path():
        found += sorted(Path(folder).glob("haproxy-[0-9]*"))
    return [*found, *sorted(FETCHED.glob("*/haproxy-[0-9]*"))]


@cache
def programs() -> dict[str, Program]:
    """By branch, the oldest one first; of two of one branch the first that is found."""
    found: dict[str, Program] = {}
    for path in _candidates():
        done = subprocess.run([str(path), "-v"], capture_output=True, text=True, check=False)
        match = re.match(r"HAProxy version (\S+)", done.stdout)
        if match:
            program = Program(match[1], (str(path),))
            found.setdefault(program.branch, program)
    return dict(sorted(found.items(), key=lambda one: [int(part) for part in one[0].split(".")]))


def missing() -> dict[str, str]:
    """Why there is none of a branch, for those of `WANTED` that are missing."""
    found = programs()
    return {branch: _why(folder) for branch, folder in WANTED.items() if branch not in found}


def _why(folder: str | None) -> str:
    if folder is None:
        return "no haproxy and no haproxy-<version> on PATH is of this branch"
    try:
        return (FETCHED / folder / "missing").read_text().strip()
    except FileNotFoundError:
        there = sorted(FETCHED.glob(f"{folder}/haproxy-*"))
        return f"{folder} has {there[0].name} now" if there else "`make programs` fetches it"


def default() -> Program:
    """The one for what is tried with one version alone: ``haproxy`` on PATH, or else the oldest.

    :raises RuntimeError: there is none.
    """
    found = programs()
    if not found:
        raise RuntimeError("there is no HAProxy; `make programs` installs it where it may")
    plain = shutil.which("haproxy")
    return next(
        (one for one in found.values() if one.command == (plain,)), next(iter(found.values()))
    )
