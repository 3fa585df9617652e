"""Draws the state machines, from the tables that the code goes by.

Writes doc/states.md, or with ``--check`` says (status 1) that it is not current::

    python doc/draw_states.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peerproto.peering.states import RESYNC, SESSION, Step

PAGE = Path(__file__).parent / "states.md"

Machine = Mapping[Any, Step[Any]]

MACHINES: dict[str, Machine] = {
    "The resync of the node": RESYNC,
    "A session, toward its peer": SESSION,
}


def diagram(machine: Machine) -> str:
    """A machine as a Mermaid diagram: what leads from every state to the same one is drawn once."""
    states = {state for state, _ in machine}
    drawn: dict[str, None] = {}
    for (state, on), step in machine.items():
        everywhere = all(machine.get((one, on)) == step for one in states)
        label = f"{on.value} / {step.action}" if step.action else on.value
        drawn[f"    {'any' if everywhere else state.name} --> {step.to.name}: {label}"] = None
    return "\n".join(["```mermaid", "stateDiagram-v2", *drawn, "```"])


def page() -> str:
    """The whole page."""
    parts = ["# States", "Drawn by `python doc/draw_states.py` from `peerproto/peering/states.py`."]
    for title, machine in MACHINES.items():
        parts += [f"## {title}", diagram(machine)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(None if PAGE.read_text() == page() else f"{PAGE} is not current")
    PAGE.write_text(page())
