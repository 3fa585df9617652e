"""The lines above the panels: the node, the chosen table, and what is wrong."""

from __future__ import annotations

from rich.text import Text

from peerproto.terminal.text import life, many, visible
from peerproto.terminal.top.looking import Picture


def head_of(
    picture: Picture, ago: int, with_table: bool, late: int = 0, one_line: bool = False
) -> Text:
    """What they say.

    :param ago: seconds since the node answered.
    :param with_table: whether the table is not shown elsewhere.
    :param late: seconds for which an answer is waited for, if that is long.
    :param one_line: whether there is room for one alone: for what is wrong, if something is.
    """
    wrong = _wrong(picture, late)
    if one_line and wrong:
        return wrong
    head = _node(picture, ago, late)
    if picture.table is not None and with_table:
        head.append(f"\ntable {visible(picture.table.name)}", "bold")
        head.append(f"  {picture.table.type}  {many(picture.table.used)}")
        if picture.by is not None:
            order = "lowest" if picture.question.lowest else "highest"
            head.append(f"  the {order} {picture.by}")
    if wrong:
        head.append("\n").append_text(wrong)
    return head


def _node(picture: Picture, ago: int, late: int) -> Text:
    node = picture.node
    head = Text()
    if node is not None:
        head.append(visible(node.localpeer), "bold")
        head.append(f"  up {life(node.uptime)}  ")
        head.append(f"{node.connected} of {node.peers} peers  {many(node.entries)}  ")
        if late or not picture.reached:
            head.append(f"as it was {ago} s ago", "bold red")
        elif node.not_ready:
            head.append("not ready: ", "bold red")
            head.append(visible("; ".join(node.not_ready)))
        else:
            head.append("ready", "bold green")
    return head


def _wrong(picture: Picture, late: int) -> Text:
    wrong = Text()
    if late:
        wrong.append(f"No answer for {late} s yet", "red")
    elif picture.trouble is not None:
        wrong.append(visible(picture.trouble), "red")
        if not picture.reached:
            wrong.append("  Asking again …", "dim")
    return wrong
