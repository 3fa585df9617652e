"""What HAProxy and peerproto have in common: a process that is a peer, with a runtime socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Optional, Union

import attrs
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

from testbed.conversation import Conversation
from testbed.ports import free_port
from testbed.waiting import ENDLESS, reactor, until

Entry = dict[str, Union[int, str]]
"""The values of an entry, by the names that ``show table`` prints."""

_VALUE = re.compile(r"(\w+)(?:\(\d+\))?=(\S*)")


def parse_table(text: str) -> dict[str, Entry]:
    """The entries that a ``show table`` prints, by key."""
    entries: dict[str, Entry] = {}
    for line in text.splitlines():
        match = re.match(r"0x[0-9a-f]+: key=((?:\\.|[^\s\\])*) (.*)", line)
        if match:
            entries[match[1]] = {
                name: int(value) if re.fullmatch(r"-?\d+", value) else value
                for name, value in _VALUE.findall(match[2])
                if name not in ("use", "shard")
            }
    return entries


async def ended(process: subprocess.Popen[bytes], name: str) -> int:
    """Wait for the end of a process: its exit status."""

    async def is_over() -> bool:
        return process.poll() is not None

    await until(is_over, f"{name} ends")
    return process.returncode


@attrs.define(eq=False)
class Node:
    """A peer with a runtime socket; one that is never started is a name and an address."""

    name: str
    folder: Path
    port: int = attrs.Factory(free_port)
    process: Optional[subprocess.Popen[bytes]] = None

    alias: str = attrs.Factory(lambda self: self.name, takes_self=True)
    """What its files are called."""

    place: str = ""
    """Where peers reach it, if not at its port: host and port, or the path of a UNIX socket."""

    environment: dict[str, str] = attrs.Factory(dict)
    """Variables that its processes have beside ours."""

    _spawned: list[subprocess.Popen[bytes]] = attrs.Factory(list)

    @property
    def address(self) -> str:
        """Where peers reach it."""
        return self.place or f"127.0.0.1:{self.port}"

    @property
    def runtime(self) -> Path:
        """Its runtime socket."""
        return self.folder / f"{self.alias}.sock"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / f"{self.alias}.log"

    def spawn(self, *command: str) -> None:
        """Run a command as this node's process."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
        self._spawned.append(self.process)

    @property
    def pid(self) -> int:
        """The id of its process, which must have been started."""
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    def send_signal(self, which: signal.Signals) -> None:
        """Send a signal to its process."""
        assert self.process is not None, f"{self.name} was not started"
        self.process.send_signal(which)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process: its exit status."""
        process = self.process
        assert process is not None
        process.send_signal(how)
        status = await ended(process, self.name)
        self.process = None
        return status

    def kill(self) -> None:
        """End all processes that were ever started for it."""
        for process in self._spawned:
            process.kill()
            process.wait()
        self._spawned.clear()
        self.process = None
        self.runtime.unlink(missing_ok=True)

    async def ask(self, command: str) -> str:
        """The answer to a runtime command.

        :raises ConnectionError: it has no end.
        """
        return self._whole(command, await self.tell(command))

    async def tell(self, command: str) -> bytes:
        """Say a runtime command, and wait for the end of the connection: what came."""
        conversation: Conversation = await connectProtocol(
            UNIXClientEndpoint(reactor, str(self.runtime)), Conversation()
        )
        conversation.send(command.encode() + b"\n")
        await conversation.closed.addTimeout(ENDLESS, reactor)
        return conversation.received

    def ask_now(self, command: str) -> str:
        """The same without a reactor: nothing else happens meanwhile."""
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(str(self.runtime))
            runtime.sendall(command.encode() + b"\n")
            pieces = list(iter(lambda: runtime.recv(65536), b""))
        return self._whole(command, b"".join(pieces))

    def _whole(self, command: str, answer: bytes) -> str:
        """An answer that ends with an empty line, as it does unless it was cut off."""
        if answer != b"\n" and not answer.endswith(b"\n\n"):
            raise ConnectionError(
                f"{self.alias}: the answer to {command!r} ends with {answer[-80:]!r}"
            )
        return answer.decode()

    async def do(self, command: str) -> None:
        """A runtime command that has nothing to say if it goes well."""
        answer = await self.ask(command)
        assert not answer.strip(), answer

    async def table(self, name: str) -> dict[str, Entry]:
        """The entries of a table, by key."""
        return parse_table(await self.ask(f"show table {name}"))

    async def up(self) -> None:
        """Wait until it answers.

        :raises RuntimeError: it ended instead.
        """
        process = self.process
        assert process is not None

        async def answers() -> str:
            if process.poll() is not None:
                raise RuntimeError(f"{self.alias} ended: {self.log.read_text()}")
            return await self.ask("show info")

        await until(answers, f"{self.alias} starts")

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of memory that its process has, or has had at most (``VmHWM``)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) * 1024

    def forget_peak(self) -> None:
        """Have ``VmHWM`` begin anew, from what its process has now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def processor(self) -> float:
        """Seconds of processor time that its process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
