"""What opens above the screen: help, and the question before something is blocked."""

from __future__ import annotations

from typing import ClassVar, Final, Optional

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from peerproto.terminal.text import typed, visible
from peerproto.terminal.top.blocking import Write, settable
from peerproto.terminal.values import TableInfo

HELP: Final = """\
1 2 3 4   tables, entries, peers, aggregates
Tab       the next panel, where there are several
↑ ↓       the row above and below; PgUp PgDn Home End
← →       columns that do not fit
Enter     show the entries of the table
< >       sort by the column to the left, to the right
r         lowest first, or highest first again
/         filter while you type; Enter keeps it, Esc clears it
          gpc0 > 0 and http_req_rate > 100    what is stored
          192.0.2.0/24   192.0.               addresses
          /api                                beginnings of keys
b         block: set a gpc or a gpt of the entry on all
          HAProxies; you are asked first
u         undo the last block
?         this help                           q  quit

The node is asked for its highest 100 entries each second, less
often if it takes long. Bars show how the value by which you
sort went since the entry came into sight.
"""


class Help(ModalScreen[None]):
    """Which key does what."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,question_mark,q,enter", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """See textual."""
        with VerticalScroll(id="help"):
            yield Static(Text(HELP.rstrip()))
            yield Static(Text("Esc closes this.", "dim"))


class Block(ModalScreen[Optional[Write]]):
    """Asks which value of an entry is to be set, and to what."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "no", "Do nothing")]

    def __init__(
        self, table: TableInfo, key: str, peer: Optional[str], name: Optional[str] = None
    ) -> None:
        """``name`` is the value that was set last, if one was."""
        super().__init__()
        self._table = table
        self._key = key
        self._peer = peer
        names = settable(table)
        self._name = name if name in names else next(iter(names), "gpc0")

    def compose(self) -> ComposeResult:
        """See textual."""
        share = "" if self._peer is None else f" (share of {visible(self._peer)})"
        with Vertical(id="block"):
            yield Static(
                Text.assemble(
                    ("Set a value on all HAProxies?\n", "bold"),
                    f"Table {visible(self._table.name)}{share}. It stores"
                    f" {', '.join(settable(self._table))}.",
                )
            )
            yield Static("Key", classes="label")
            yield Input(visible(self._key), id="key")
            yield Static("Set", classes="label")
            yield Input(f"{self._name}=1", id="value")
            yield Static("", id="wrong")
            yield Static(Text("Enter: set it    Tab: next field    Esc: do nothing", "dim"))

    def on_mount(self) -> None:
        """See textual."""
        self.query_one("#value", Input).focus()

    def on_input_submitted(self) -> None:
        """Enter was pressed."""
        name, _, number = self.query_one("#value", Input).value.partition("=")
        name, number = name.strip(), number.strip()
        names = settable(self._table)
        if name not in names or not (number.isascii() and number.isdecimal()):
            wrong = f"Expected {' or '.join(f'{one}=1' for one in names[:3])}: a value and a number"
            self.query_one("#wrong", Static).update(Text(wrong, "red"))
            return
        key = typed(self.query_one("#key", Input).value)
        self.dismiss(Write(self._table, key, self._peer, name, int(number)))

    def action_no(self) -> None:
        """Esc was pressed."""
        self.dismiss(None)
