"""The panels: tables, entries, peers and aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Optional, Union

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from peerproto.terminal.text import life, visible
from peerproto.terminal.top.looking import Picture
from peerproto.terminal.top.trend import LENGTH, Trends
from peerproto.terminal.values import EntryInfo

Cell = Union[str, Text]

STATES = {"in step": "green", "away": "red"}


def cut(text: str, most: int) -> str:
    """A text that is not longer than a column."""
    return text if len(text) <= most else text[: most - 1] + "…"


class Rows(DataTable[Text]):
    """A table whose rows are chosen, and not its cells."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", "First row", show=False),
        Binding("end", "scroll_bottom", "Last row", show=False),
    ]


class Panel(Vertical):
    """A table with a title, and words below it about the row that the cursor is on."""

    name_in_tabs: ClassVar[str] = ""
    empty = ""
    """What is said where there is no row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows(cursor_type="row", cursor_foreground_priority="renderable")
        """The table."""
        self.words = Static("", classes="words")
        """What is said below it."""
        self.words.display = False
        self._heads: Optional[list[str]] = None
        self._keys: list[object] = []
        self._words: list[Text] = []

    def compose(self) -> ComposeResult:
        """See textual."""
        yield self.rows
        yield self.words

    @property
    def chosen(self) -> Optional[int]:
        """The number of the row that the cursor is on."""
        row = self.rows.cursor_row
        return row if 0 <= row < len(self._keys) else None

    def fill(
        self,
        heads: Sequence[Cell],
        right: frozenset[int],
        rows: Sequence[tuple[object, Sequence[Cell]]],
        words: Sequence[Text] = (),
    ) -> None:
        """Show rows, each of which has a key; the cursor stays on its own.

        :param right: the columns that stand to the right.
        :param words: for each row what is said of it below.
        """
        table = self.rows
        chosen = self.chosen
        key = None if chosen is None else self._keys[chosen]
        offset = table.scroll_offset
        names = [str(one) for one in heads]
        columns = self._heads != names
        table.clear(columns=columns)
        if columns:
            self._heads = names
            for number, head in enumerate(heads):
                text = head if isinstance(head, Text) else Text(head)
                text.justify = "right" if number in right else "left"
                table.add_column(text)
        for _, cells in rows:
            table.add_row(
                *[
                    _cell(one, "right" if number in right else "left")
                    for number, one in enumerate(cells)
                ]
            )
        self._keys, self._words = [one for one, _ in rows], list(words)
        if key in self._keys:
            table.move_cursor(row=self._keys.index(key), animate=False, scroll=False)
        elif chosen is not None and rows:
            table.move_cursor(row=min(chosen, len(rows) - 1), animate=False, scroll=False)
        table.scroll_to(offset.x, offset.y, animate=False, force=True)
        self.say()

    def say(self) -> None:
        """Say what there is to say of the row that the cursor is on, or that there is none."""
        text = Text()
        if not self._keys:
            text = Text(self.empty, "dim")
        elif self.chosen is not None and self.chosen < len(self._words):
            text = self._words[self.chosen]
        self.words.display = bool(text.plain)
        self.words.update(text)

    def on_data_table_row_highlighted(self) -> None:
        """The cursor has moved."""
        self.say()


def _cell(value: Cell, justify: str) -> Text:
    text = value.copy() if isinstance(value, Text) else Text(value)
    text.justify = "right" if justify == "right" else "left"
    return text


class TablesPanel(Panel):
    """All tables."""

    name_in_tabs = "Tables"
    empty = (
        "No table yet. A line under [tables] in peers.ini declares one; with `learn-tables = yes`"
        " those of the peers come by themselves."
    )

    def show(self, picture: Picture) -> None:
        """Show what a node has said."""
        rows: list[tuple[object, Sequence[Cell]]] = []
        for one in picture.tables:
            here = picture.table is not None and one.name == picture.table.name
            size = "" if one.size is None else f"{100 * one.used / one.size:.0f}%"
            name = Text(
                ("▸ " if here else "  ") + cut(visible(one.name), 30), "bold" if here else ""
            )
            rows.append((one.name, [name, one.type, f"{one.used:,}", size, life(one.expire)]))
        first = self.chosen is None
        self.fill(["  table", "type", "entries", "full", "expire"], frozenset({2, 3, 4}), rows)
        if first and picture.table is not None:
            names = [one.name for one in picture.tables]
            self.rows.move_cursor(row=names.index(picture.table.name), animate=False)

    @property
    def table(self) -> Optional[str]:
        """The name of the table that the cursor is on."""
        chosen = self.chosen
        return None if chosen is None else str(self._keys[chosen])


class EntriesPanel(Panel):
    """The entries of the chosen table with the highest values."""

    name_in_tabs = "Entries"

    def show(self, picture: Picture, trends: Trends) -> None:
        """Show what a node has said."""
        self._entries = picture.entries
        table, by = picture.table, picture.by
        if table is None:
            self.empty = TablesPanel.empty
            if picture.tables:
                self.empty = "This table is not there at present. 1 shows which there are."
            self.fill(["key"], frozenset(), [])
            return
        self.empty = "This table has no entries."
        if not picture.question.selection.everything:
            self.empty = "No entry fits the filter. Esc shows all of them."
        arrow = "▲" if picture.question.lowest else "▼"
        others = [one.name for one in table.columns if one.name != by]
        heads: list[Cell] = ["key"]
        if table.per_peer:
            heads.append("peer")
        if by is not None:
            heads += [Text(f"{by} {arrow}", "bold"), "trend".ljust(LENGTH)]
        heads += ["expires", *others]
        first = 1 + table.per_peer
        trend = first + 1
        right = frozenset(number for number in range(first, len(heads)) if number != trend)
        longest = 45 if self.app.size.width >= 120 else 32
        rows: list[tuple[object, Sequence[Cell]]] = []
        for one in picture.entries:
            cells: list[Cell] = [cut(visible(one.key), longest)]
            if table.per_peer:
                cells.append(cut(visible(one.peer or ""), 20))
            if by is not None:
                cells += [Text(_shown(one, by), "bold"), Text(trends.of(one), "cyan")]
            cells.append(life(one.expires_in))
            for name in others:
                value = _shown(one, name)
                cells.append(Text(value, "dim") if value in ("0", "-") else value)
            rows.append((one.place, cells))
        self.fill(heads, right, rows)

    @property
    def entry(self) -> Optional[EntryInfo]:
        """The entry that the cursor is on."""
        chosen = self.chosen
        return None if chosen is None else self._entries[chosen]


def _shown(entry: EntryInfo, name: str) -> str:
    value = entry.values.get(name)
    return "-" if value is None else visible(str(value))


class PeersPanel(Panel):
    """All peers."""

    name_in_tabs = "Peers"
    empty = (
        "No peer yet. A line under [peers] in peers.ini names one, and a line `peer` in its"
        " haproxy.cfg names this node."
    )

    def show(self, picture: Picture) -> None:
        """Show what a node has said."""
        rows: list[tuple[object, Sequence[Cell]]] = []
        words = []
        for one in picture.peers:
            rows.append(
                (
                    one.name,
                    [
                        cut(visible(one.name), 24),
                        Text(one.state, STATES.get(one.state, "yellow")),
                        life(one.handshake_ago) if one.connected else "-",
                        f"{one.lag:,}",
                        cut(visible(one.address), 40),
                    ],
                )
            )
            why = "; ".join([*one.reasons, *one.notes])
            words.append(Text(f"{visible(one.name)}: {visible(why)}" if why else ""))
        heads = ["peer", "state", "since", "lag", "address"]
        self.fill(heads, frozenset({2, 3}), rows, words)


class AggregatesPanel(Panel):
    """All tables that are added up."""

    name_in_tabs = "Aggregates"
    empty = "Nothing is added up. A section [aggregate <table>] in peers.ini does that."

    def show(self, picture: Picture) -> None:
        """Show what a node has said."""
        rows: list[tuple[object, Sequence[Cell]]] = []
        words = []
        for one in picture.aggregates:
            inside = sum(state == "in" for state in one.sources.values())
            rows.append(
                (
                    one.name,
                    [
                        cut(visible(one.name), 24),
                        cut(visible(one.to), 24),
                        Text("yes", "green") if one.authority else Text("no", "red"),
                        f"{inside} of {len(one.sources)}",
                        f"{one.keys:,}",
                        life(one.lag) if one.lag else "-",
                    ],
                )
            )
            why = f"No authority: {visible(one.why_not or '')}. " if not one.authority else ""
            sources = [f"{visible(name)} {visible(state)}" for name, state in one.sources.items()]
            words.append(Text(f"{why}Sources: {', '.join(sources) or 'none'}"))
        heads = ["table", "sums in", "authority", "in", "keys", "lag"]
        self.fill(heads, frozenset({4, 5}), rows, words)
