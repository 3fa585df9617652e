"""The process that a new one takes over from: looked at before it is told anything."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, Union

from peerproto.daemon.sharing import Address

_LISTENING: Final = "0A"
"""``TCP_LISTEN`` in /proc/net/tcp."""

_ACCEPTING: Final = 0x10000
"""``__SO_ACCEPTCON`` in /proc/net/unix."""


class OldProcessError(Exception):
    """There is no process to take over from; its text says why."""


class OldProcess:
    """A process that listens at our address, whatever program it is; nobody else takes over
    from it while this object lives."""

    def __init__(self, pid: int) -> None:
        """:raises OldProcessError: it cannot be taken over from."""
        if pid <= 0 or pid == os.getpid():
            raise OldProcessError(
                f"--soft-finish: read '{pid}', expected the id of another process"
            )
        self._pid = pid
        try:
            self._process = os.pidfd_open(pid)
            self._descriptors = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as problem:
            raise OldProcessError(f"process {pid}: {problem.strerror}") from problem
        try:
            # Whoever takes over from this process holds the lock, until it ends itself.
            fcntl.flock(self._descriptors, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise OldProcessError(
                f"process {pid}: another process is taking over from it already"
            ) from problem

    def check(self, address: Address) -> None:
        """Make sure that the process listens at this address.

        :raises OldProcessError: it does not, or it cannot be looked at.
        """
        try:
            listening = set(self._listening_at(address))
            held = any(listening & _sockets(folder) for folder in self._folders())
        except OSError as problem:
            raise OldProcessError(f"process {self._pid}: {problem.strerror}") from problem
        if not held:
            where = address if isinstance(address, str) else "{}:{}".format(*address)
            raise OldProcessError(
                f"process {self._pid} does not listen at {where}: nothing is taken over from it"
            )

    def stop_softly(self) -> None:
        """Tell it to hand over.

        :raises OldProcessError: it has ended, or is another user's.
        """
        try:
            signal.pidfd_send_signal(self._process, signal.SIGUSR1)
        except OSError as problem:
            raise OldProcessError(f"process {self._pid}: {problem.strerror}") from problem

    def close(self) -> None:
        """Leave it to others."""
        os.close(self._process)
        os.close(self._descriptors)

    def _listening_at(self, address: Address) -> Iterator[str]:
        if isinstance(address, str):
            return _listening_at_path(address, os.readlink(f"/proc/{self._pid}/cwd"))
        return _listening_at_port(*address)

    def _folders(self) -> Iterator[Union[int, str]]:
        """Where its descriptors are listed, and those of the processes that it forked: in
        HAProxy, workers listen and the master passes the signal on."""
        yield self._descriptors
        own = _command(self._pid)
        for path in Path(f"/proc/{self._pid}/task").glob("*/children"):
            for child in _read(path).decode().split():
                if _command(child) == own:
                    yield f"/proc/{child}/fd"


def _command(pid: Union[int, str]) -> list[bytes]:
    """The program and its arguments, without those that a HAProxy master adds and takes away.

    After a reload, workers have the ids and the socket of those before them (``-sf``, ``-st`` and
    ``-x``); the master itself has them no longer.
    """
    command: list[bytes] = []
    arguments = iter(_read(Path(f"/proc/{pid}/cmdline")).split(b"\0"))
    old = False
    for argument in arguments:
        old = argument in (b"-sf", b"-st") or (old and argument.isdigit())
        if argument == b"-x":
            next(arguments, None)
        elif not old:
            command.append(argument)
    return command


def _read(path: Path) -> bytes:
    """What /proc says of a process or a thread; nothing if it has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _sockets(folder: Union[int, str]) -> set[str]:
    """The inodes of the sockets among the descriptors in a folder of /proc."""
    found: set[str] = set()
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return found
    for name in names:
        try:
            link = (
                os.readlink(name, dir_fd=folder)
                if isinstance(folder, int)
                else os.readlink(os.path.join(folder, name))
            )
        except FileNotFoundError:
            continue
        if link.startswith("socket:["):
            found.add(link[8:-1])
    return found


def _listening_at_port(text: str, wanted: int) -> Iterator[str]:
    """The inodes of the TCP sockets that listen at an address, or at all of the machine's."""
    host = _host(text or "0.0.0.0")
    for name in ("tcp", "tcp6"):
        for line in _table(name):
            fields = line.split()
            if fields[3] != _LISTENING:
                continue
            words, port = fields[1].split(":")
            if int(port, 16) == wanted and _overlap(host, _unpack(words)):
                yield fields[9]


def _listening_at_path(path: str, folder: str) -> Iterator[str]:
    """The inodes of the UNIX sockets that listen at a path, by a process in ``folder``.

    A socket goes by the name that it was bound to, before it was renamed into place: HAProxy
    and peerproto put something behind the path.
    """
    name = re.compile(re.escape(os.path.abspath(path)) + r"(?:\.[0-9a-f]+(?:\.tmp)?)?")
    for line in _table("unix"):
        fields = line.rstrip("\n").split(None, 7)
        if len(fields) < 8 or not int(fields[3], 16) & _ACCEPTING:
            continue
        if name.fullmatch(os.path.join(folder, fields[7])):
            yield fields[6]


def _table(name: str) -> list[str]:
    try:
        return Path(f"/proc/net/{name}").read_text(errors="surrogateescape").splitlines()[1:]
    except FileNotFoundError:  # there is no IPv6
        return []


def _unpack(words: str) -> Union[IPv4Address, IPv6Address]:
    """An address as /proc/net/tcp has it: words of 32 bits in the machine's order."""
    raw = bytes.fromhex(words)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return _host(str(ip_address(raw)))


def _host(text: str) -> Union[IPv4Address, IPv6Address]:
    """An IPv4 address in an IPv6 one is that IPv4 address."""
    host = ip_address(text.partition("%")[0])
    return getattr(host, "ipv4_mapped", None) or host


def _overlap(one: Union[IPv4Address, IPv6Address], other: Union[IPv4Address, IPv6Address]) -> bool:
    return one == other or one.is_unspecified or other.is_unspecified
