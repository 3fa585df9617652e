"""Draws the state machines of the code, from the tables in their docstrings.

Writes doc/states.md, or with ``--check`` says (status 1) that it is not current::

    python doc/draw_states.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from peerproto.peering import resync, session

PAGE = Path(__file__).parent / "states.md"

MACHINES = {
    "The resync of the node": resync.__doc__,
    "A session, toward its peer": session.__doc__,
}


def transitions(docstring: str) -> list[tuple[str, str, str, str]]:
    """State, input, next state and action of each row of the table in a docstring."""
    lines = docstring.splitlines()
    rulers = [number for number, line in enumerate(lines) if line.startswith("====")]
    columns = [match.span() for match in re.finditer("=+", lines[rulers[0]])]
    ends = [start for start, _ in columns[1:]] + [None]
    rows = []
    for line in lines[rulers[1] + 1 : rulers[2]]:
        cells = [line[start:end].strip() for (start, _), end in zip(columns, ends)]
        state, on, to, action = (cell.strip("`") for cell in cells)
        rows.append((state, on, to, action))
    return rows


def diagram(docstring: str) -> str:
    """The table as a Mermaid diagram."""
    drawn = ["```mermaid", "stateDiagram-v2"]
    for state, on, to, action in transitions(docstring):
        label = f"{on} / {action}" if action else on
        drawn.append(f"    {state} --> {to}: {label}")
    return "\n".join([*drawn, "```"])


def page() -> str:
    """The whole page."""
    parts = ["# States", "Drawn by `python doc/draw_states.py` from the code's own tables."]
    for title, docstring in MACHINES.items():
        assert docstring is not None
        parts += [f"## {title}", diagram(docstring)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(None if PAGE.read_text() == page() else f"{PAGE} is not current")
    PAGE.write_text(page())
