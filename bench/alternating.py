"""Changes in alternating directions: one at a node, the next one at its peer once that shows it.

Each side answers what has just come from the other with what it has to say itself: that is
where small writes wait, if they do. The lag of a change is the time from the runtime command
that makes it to the first answer of the other node's runtime socket that shows it.
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from bench.learning import places, rival
from bench.lesson import TABLE
from testbed import Node, wait
from testbed.waiting import ENDLESS

CHANGES = 200
"""In a round, half of them in each direction."""

_BETWEEN = 0.00005
"""Seconds between two looks, in which the others may have the processor."""


class Prompt:
    """A runtime connection that stays, so that asking costs a node little."""

    _END = b"\n> "

    def __init__(self, node: Node) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(node.runtime))
        self._name = node.name
        self.ask("prompt")

    def ask(self, command: str) -> str:
        """The answer to a command."""
        self._socket.sendall(command.encode() + b"\n")
        answer = b""
        while not answer.endswith(self._END):
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError(f"{self._name} hung up")
            answer += piece
        return answer[: -len(self._END)].decode()

    def close(self) -> None:
        self._socket.close()


def alternating(kind: str, folder: Path, changes: int) -> list[float]:
    """Lags in ms between a HAProxy and a node of this kind (of `KINDS`)."""
    mesh = places(folder, "first", "second")
    peers = list(mesh.values())
    nodes = [rival("haproxy", mesh["first"], TABLE.name), rival(kind, mesh["second"], TABLE.name)]
    try:
        for node in nodes:
            node.start(peers)
            wait(node.runtime.exists)
        time.sleep(8)  # by then they are connected, and up to date
        prompts = [Prompt(node) for node in nodes]
        lags = []
        for number in range(-10, changes):  # the first ones do not count
            here, there = prompts if number % 2 else prompts[::-1]
            lag = _lag(here, there, f"192.0.2.{1 + number % 2}", number + 11)
            if number >= 0:
                lags.append(1000 * lag)
        for prompt in prompts:
            prompt.close()
        return lags
    finally:
        for node in nodes:
            node.kill()


def _lag(here: Prompt, there: Prompt, key: str, value: int) -> float:
    """Seconds that a change needs."""
    shown = re.compile(rf"gpc0={value}\b")
    began = time.perf_counter()
    answer = here.ask(f"set table {TABLE.name} key {key} data.gpc0 {value}")
    assert not answer.strip(), answer
    while not shown.search(there.ask(f"show table {TABLE.name} key {key}")):
        if time.perf_counter() > began + ENDLESS:
            raise TimeoutError(f"a change of {key} never shows")
        time.sleep(_BETWEEN)
    return time.perf_counter() - began
