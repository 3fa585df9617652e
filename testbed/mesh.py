"""A mesh: peers that all know each other."""

from __future__ import annotations

from pathlib import Path

import attrs

from testbed.haproxy import HAProxy
from testbed.node import Node
from testbed.peerproto import Peerproto
from testbed.programs import Program, default


@attrs.define
class Mesh:
    """Makes peers, and ends them all."""

    folder: Path
    nodes: list[Node] = attrs.Factory(list)
    program: Program = attrs.Factory(default)
    """What its HAProxies are, unless another is named."""
    tables: str = ""
    """Backends of its HAProxies, unless others are named."""
    rules: str = ""
    """The same for the rules of their frontends."""

    def haproxy(
        self,
        name: str,
        tables: str | None = None,
        frontend: str | None = None,
        program: Program | None = None,
    ) -> HAProxy:
        """Add a HAProxy."""
        node = HAProxy(
            name,
            self.folder,
            tables=self.tables if tables is None else tables,
            frontend=self.rules if frontend is None else frontend,
            program=program or self.program,
        )
        self.nodes.append(node)
        return node

    def peerproto(self, name: str = "peerproto", declared: str = "") -> Peerproto:
        """Add a peerproto."""
        node = Peerproto(name, self.folder, declared=declared)
        self.nodes.append(node)
        return node

    def start(self, *nodes: Node) -> None:
        """Start nodes; all nodes know each other."""
        for node in nodes or self.nodes:
            assert isinstance(node, (HAProxy, Peerproto))
            node.start(self.nodes)

    async def pair(self, peer: Peerproto, tables: str, frontend: str) -> tuple[HAProxy, HAProxy]:
        """Two HAProxies, lb1 and lb2: all nodes are started, and in step with a peerproto."""
        a, b = (self.haproxy(name, tables, frontend) for name in ("lb1", "lb2"))
        self.start()
        for haproxy in (a, b):
            await haproxy.up()
        await peer.in_step(a.name, b.name)
        return a, b

    def end(self) -> None:
        """End all processes of all nodes, and print what they logged."""
        for node in self.nodes:
            node.kill()
            if node.log.exists():
                print(f"--- {node.alias}\n{node.log.read_text()}")
