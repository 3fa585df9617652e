"""The lines above the panels: the node, the chosen table, and what is wrong."""

from __future__ import annotations

from rich.text import Text

from peerproto.terminal.text import life, many, visible
from peerproto.terminal.top.looking import Picture


def head_of(picture: Picture, ago: int, with_table: bool) -> Text:
    """What they say.

    :param ago: seconds since the node answered.
    :param with_table: whether the table is not shown elsewhere.
    """
    node = picture.node
    head = Text()
    if node is not None:
        head.append(visible(node.localpeer), "bold")
        head.append(f"  up {life(node.uptime)}  ")
        head.append(f"{node.connected} of {node.peers} peers  {many(node.entries)}  ")
        if not picture.reached:
            head.append(f"as it was {ago} s ago", "bold red")
        elif node.not_ready:
            head.append("not ready: ", "bold red")
            head.append(visible("; ".join(node.not_ready)))
        else:
            head.append("ready", "bold green")
    if picture.table is not None and with_table:
        head.append(f"\ntable {visible(picture.table.name)}", "bold")
        head.append(f"  {picture.table.type}  {many(picture.table.used)}")
        if picture.by is not None:
            order = "lowest" if picture.question.lowest else "highest"
            head.append(f"  the {order} {picture.by}")
    if picture.trouble is not None:
        head.append(f"\n{visible(picture.trouble)}", "red")
        if not picture.reached:
            head.append("  Asking again …", "dim")
    return head
