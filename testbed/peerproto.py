"""peerprotos as nodes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from testbed.node import Node, ended
from testbed.waiting import until

TWIST = str(Path(sys.executable).parent / "twist")


@attrs.define(eq=False)
class Peerproto(Node):
    """``twist peers``."""

    settings: str = ""
    """More lines for [node]."""
    declared: str = ""
    """Lines for [tables]."""
    more: str = ""
    """Further sections."""
    program: tuple[str, ...] = (TWIST,)
    """What runs ``twist``."""

    def start(self, peers: Sequence[Node], *options: str) -> None:
        """Start a process that knows these peers."""
        self.configure(peers)
        self.spawn(
            *self.program, "--log-format=text", "peers", "--config", str(self.file), *options
        )

    async def replace(self, peers: Sequence[Node]) -> int:
        """Start a process that takes over from the one there is: the old one's exit status.

        When this returns, the new process has been taught by the old one.
        """
        old = self.process
        assert old is not None
        self.start(peers, "--soft-finish", str(old.pid))
        status = await ended(old, f"the old process of {self.name}")

        async def has_it_all() -> bool:
            return f"resync=up_to_date (finished by {self.name})" in await self.ask("show peers")

        await until(has_it_all, f"the new process of {self.name} has learnt from the old one")
        return status

    @property
    def file(self) -> Path:
        """Its peers.ini."""
        return self.folder / f"{self.alias}.ini"

    def configure(self, peers: Sequence[Node]) -> None:
        """Write the configuration file."""
        lines = "\n".join(f"{peer.name} = {peer.address}" for peer in peers)
        self.file.write_text(f"""\
[node]
localpeer = {self.name}
bind = {self.address}
runtime = unix:{self.runtime}:mode=600
{self.settings}
[peers]
{lines}
[tables]
{self.declared}
{self.more}
""")

    async def in_step(self, *names: str) -> None:
        """Wait until it has sessions with these peers, and nothing to learn or to teach."""

        async def is_in_step() -> bool:
            answer = await self.ask("show peers")
            assert "resync=up_to_date" in answer, answer
            for name in names:
                assert re.search(rf"id={name}\((?:.*\n){{1,5}}?.*in_step=yes", answer), answer
            return True

        await until(is_in_step, f"{self.name} is in step with {names}")
