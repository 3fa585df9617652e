"""Power cuts, replayed: what a program wrote is recorded once, and then a disk is made as it may
be found after a cut at any moment.

A disk keeps what was synced. Of the rest it may have any part: writes are lost, torn within a
block, or come before others; files whose folder was not synced may be missing, or be there still.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Optional

import attrs

BLOCK: Final = 512
"""Bytes that a disk writes as a whole."""

_WHOLE: Final = str(1 << 24)
"""Bytes of a text that strace writes; more than any write has."""

_CALLS: Final = "openat,pwrite64,write,ftruncate,fsync,fdatasync,unlink,rename"


@attrs.frozen
class Call:
    """A system call that changes a file, or syncs it."""

    name: str
    path: str
    """The file; of a rename its old name."""
    data: bytes = b""
    at: int = 0
    """The offset of a write, or the new length."""
    to: str = ""
    """The new name of a renamed file."""
    when: float = 0.0
    """Seconds since the epoch, when it began, or was over if others came meanwhile."""


def recorded(trace: Path) -> tuple[str, ...]:
    """What runs a program so that `calls` can read in a file what it did. The process is the
    program's own; strace is another one.

    :raises AssertionError: there is no strace.
    """
    strace = shutil.which("strace")
    assert strace, "strace is needed; `make test` installs it where it may"
    calls = f"trace={_CALLS}"
    return (strace, "-D", "-f", "-ttt", "-y", "-xx", "-s", _WHOLE, "-e", calls, "-o", str(trace))


_LINE: Final = re.compile(r"(\d+) +([\d.]+) (\w+)\((.*)\) += (-?\d+)")
_BROKEN: Final = re.compile(r"(\d+) +[\d.]+ (.*) <unfinished \.\.\.>$")
_RESUMED: Final = re.compile(r"(\d+) +([\d.]+) <\.\.\. \w+ resumed>(.*)$")
_FILE: Final = re.compile(r"\d+<([^>]*)>")


def is_over(trace: Path) -> bool:
    """Whether all that the program did is recorded, and it has ended."""
    begun, ended = set(), set()
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            process = line.partition(" ")[0]
            begun.add(process)
            if "+++ exited" in line or "+++ killed" in line:
                ended.add(process)
    return bool(begun) and begun == ended


def calls(trace: Path, folder: Path) -> list[Call]:
    """What a program did to the files of a folder, in order: each call that was successful, when
    it was over."""
    with trace.open(encoding="ascii") as lines:
        return [
            one for one in _all_calls(lines) if folder in (Path(one.path), Path(one.path).parent)
        ]


def _all_calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[str, str] = {}
    written: dict[str, int] = {}
    for line in lines:
        if broken := _BROKEN.match(line):
            begun[broken[1]] = broken[2]
            continue
        if resumed := _RESUMED.match(line):
            process, when, rest = resumed.groups()
            line = f"{process} {when} {begun.pop(process)}{rest}"  # noqa: PLW2901
        match = _LINE.match(line)
        if match is None or int(match[5]) < 0:
            continue
        call = _call(match[3], match[4], int(match[5]), written)
        if call is not None:
            yield attrs.evolve(call, when=float(match[2]))


def _call(name: str, words: str, result: int, written: dict[str, int]) -> Optional[Call]:
    texts = [_bytes(one) for one in re.findall(r'"([^"]*)"', words)]
    found = _FILE.search(words)
    path = _bytes(found[1]).decode("utf-8", "surrogateescape") if found else ""
    if name == "openat":
        path = texts[0].decode("utf-8", "surrogateescape")
        return Call("create", path) if "O_CREAT" in words else None
    if name in ("unlink", "rename"):
        old, *new = (one.decode("utf-8", "surrogateescape") for one in texts)
        return Call(name, old, to=new[0] if new else "")
    if name == "pwrite64":
        return Call("write", path, texts[0][:result], int(words.rpartition(",")[2]))
    if name == "write":
        at = written.get(path, 0)
        written[path] = at + result
        return Call("write", path, texts[0][:result], at)
    if name == "ftruncate":
        return Call("truncate", path, at=int(words.rpartition(",")[2]))
    return Call("sync", path)


def _bytes(text: str) -> bytes:
    """Text of strace, each byte of which is written as ``\\xHH``."""
    return bytes.fromhex(text.replace("\\x", ""))


@attrs.define
class _File:
    """A file: what is on the disk for certain, and what may be."""

    synced: bytes = b""
    waiting: list[Call] = attrs.Factory(list)

    def sync(self) -> None:
        content = bytearray(self.synced)
        for call in self.waiting:
            _apply(content, call)
        self.synced = bytes(content)
        self.waiting.clear()

    def found(self, chance: random.Random) -> bytes:
        """What may be found of it after a cut."""
        content = bytearray(self.synced)
        waiting = list(self.waiting)
        if chance.random() < 0.3:
            # A disk does first what is near.
            chance.shuffle(waiting)
        keep = chance.choice((0.0, 0.5, 0.9, 1.0))
        for call in waiting:
            if chance.random() < keep:
                _apply(content, call)
            elif call.name == "write" and chance.random() < 0.5:
                for torn in _torn(call, chance):
                    _apply(content, torn)
        return bytes(content)


def _apply(content: bytearray, call: Call) -> None:
    if call.name == "truncate":
        del content[call.at :]
        content.extend(bytes(call.at - len(content)))
        return
    end = call.at + len(call.data)
    content.extend(bytes(max(0, end - len(content))))
    content[call.at : end] = call.data


def _torn(call: Call, chance: random.Random) -> Iterator[Call]:
    """Some blocks of a write."""
    end = call.at + len(call.data)
    starts = [call.at, *range(call.at // BLOCK * BLOCK + BLOCK, end, BLOCK)]
    for start, stop in zip(starts, [*starts[1:], end]):
        if chance.random() < 0.5:
            yield attrs.evolve(call, data=call.data[start - call.at : stop - call.at], at=start)


@attrs.define
class Disk:
    """The files of a folder while calls are replayed."""

    _files: dict[str, _File] = attrs.Factory(dict)
    """By the names that programs see."""
    _named: dict[str, _File] = attrs.Factory(dict)
    """By the names that are on the disk for certain."""

    def do(self, call: Call) -> None:
        """Replay a call."""
        files = self._files
        if call.name == "create":
            files.setdefault(call.path, _File())
        elif call.name == "unlink":
            files.pop(call.path, None)
        elif call.name == "rename":
            files[call.to] = files.pop(call.path)
        elif call.name == "sync":
            if call.path in files:
                files[call.path].sync()
            else:
                # It is the folder.
                inside = {name for name in (*files, *self._named) if _folder(name) == call.path}
                for name in inside:
                    self._named.pop(name, None)
                    if name in files:
                        self._named[name] = files[name]
        else:
            files.setdefault(call.path, _File()).waiting.append(call)

    def found(self, chance: random.Random) -> dict[str, bytes]:
        """What may be found after a cut at this moment: the files by their names."""
        names = {
            name: file
            for name, file in self._named.items()
            if self._files.get(name) is file or chance.random() < 0.5
        }
        for name, file in self._files.items():
            if self._named.get(name) is not file and chance.random() < 0.5:
                names[name] = file
        return {name: file.found(chance) for name, file in names.items()}


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
