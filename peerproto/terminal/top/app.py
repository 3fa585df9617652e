"""The screen: it asks the node in a thread of its own, and shows the latest answer."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar, Final, Optional

import attrs
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Input, Static

from peerproto.terminal.node import Node, NodeError, Unreachable
from peerproto.terminal.text import visible
from peerproto.terminal.top.blocking import Done, Write, do, settable, undo
from peerproto.terminal.top.dialogs import Block, Help
from peerproto.terminal.top.finding import selection_of
from peerproto.terminal.top.head import head_of
from peerproto.terminal.top.looking import REST, Picture, Question, look
from peerproto.terminal.top.panels import (
    AggregatesPanel,
    EntriesPanel,
    Panel,
    PeersPanel,
    TablesPanel,
)
from peerproto.terminal.top.style import STYLE
from peerproto.terminal.top.trend import Trends

INTERVAL: Final = 1.0
"""Seconds from one look to the next."""

PLACEHOLDER: Final = "gpc0 > 0 and http_req_rate > 9"

LATE: Final = 3.0
"""Seconds after which it is said that the node has not answered yet."""

LOW: Final = 12
"""Lines up to which the head has one."""

WIDE: Final = 130
"""Columns from which on all panels are shown at once."""


class Top(App[None]):
    """See the module."""

    TITLE = "peerproto top"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"),
        (WIDE, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [
        (0, "-low"),
        (LOW, "-high"),
    ]
    CSS = STYLE
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "panel(0)", "Tables", show=False),
        Binding("2", "panel(1)", "Entries", show=False),
        Binding("3", "panel(2)", "Peers", show=False),
        Binding("4", "panel(3)", "Aggregates", show=False),
        Binding("less_than_sign", "sort(-1)", "Sort", key_display="< >"),
        Binding("greater_than_sign", "sort(1)", "Sort", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("b", "block", "Block"),
        Binding("u", "undo", "Undo"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
        Binding("escape", "clear", "Clear the filter", show=False),
    ]

    def __init__(self, node: Node, table: Optional[str] = None, interval: float = INTERVAL) -> None:
        """
        :param table: the name of the table that is shown first.
        :param interval: seconds from one look at the node to the next, at least.
        """
        super().__init__()
        self._node = node
        self._interval = interval
        self._question = Question(table)
        self._picture = Picture(self._question)
        self._trends = Trends()
        self._done: list[Done] = []
        self._last_name: Optional[str] = None
        """The value that was set last."""
        self._wake = threading.Event()
        self._over = False
        self._answered_at: Optional[float] = None
        self._asked_at: Optional[float] = None
        """When the node was asked what it has not answered yet."""
        self._head = Static(Text(f"Asking {node.place} …"), id="head")
        self._tabs = Static("", id="tabs")
        self._side, self._main = Vertical(id="side"), Vertical(id="main")
        self._tables, self._entries = TablesPanel(), EntriesPanel()
        self._peers, self._aggregates = PeersPanel(), AggregatesPanel()
        self._panels: tuple[Panel, ...] = (
            self._tables,
            self._entries,
            self._peers,
            self._aggregates,
        )
        self._found = Static("", id="found")
        self._filtering = Horizontal(id="filtering")
        self._filter = Input(placeholder=PLACEHOLDER, id="filter")

    # -- the screen --------------------------------------------------------

    def compose(self) -> ComposeResult:
        """See textual."""
        yield self._head
        yield self._tabs
        with Horizontal(id="panels"):
            with self._side:
                yield self._tables
                yield self._peers
                yield self._aggregates
            with self._main:
                yield self._entries
        yield self._found
        with self._filtering:
            yield Static(Text("Filter:", "bold"), id="label")
            yield self._filter
            yield Static(Text("Enter: keep it  Esc: clear it", "dim"), id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """See textual."""
        self.theme = "textual-dark"
        for panel in self._panels:
            panel.border_title = panel.name_in_tabs
        self.action_panel(1)
        # Not by a worker: the program's end would wait for its answer.
        threading.Thread(target=self._look, daemon=True).start()
        self.set_interval(min(1.0, self._interval), self._see_whether_late)

    def on_unmount(self) -> None:
        """See textual."""
        self._over = True
        self._wake.set()

    def on_resize(self) -> None:
        """The terminal has another size."""
        self.call_after_refresh(self._arrange)

    @property
    def _wide(self) -> bool:
        return self.size.width >= WIDE

    def _arrange(self) -> None:
        """Show the panels that there is room for."""
        active = self._active
        narrow = not self._wide
        # Where one panel is shown alone, it has the whole width.
        side, main = self._side, self._main
        entries = isinstance(active, EntriesPanel)
        side.styles.width = "1fr" if narrow else 64
        side.styles.display = "none" if narrow and entries else "block"
        main.styles.display = "none" if narrow and not entries else "block"
        tabs = Text()
        for number, panel in enumerate(self._panels, 1):
            here = panel is active
            tabs.append(f" {number} {panel.name_in_tabs} ", "reverse bold" if here else "")
            tabs.append(" ")
        self._tabs.update(tabs)

    @property
    def _active(self) -> Panel:
        active = [one for one in self._panels if one.has_class("-active")]
        return active[0] if active else self._entries

    def action_panel(self, number: int) -> None:
        """Go to a panel."""
        chosen = self._panels[number]
        for panel in self._panels:
            panel.set_class(panel is chosen, "-active")
        self._arrange()
        chosen.rows.focus()

    # -- asking ------------------------------------------------------------

    def _look(self) -> None:
        """Ask again and again, until the program ends."""
        try:
            while not self._over:
                self._asked_at = began = time.monotonic()
                picture = look(self._node, self._question)
                self._asked_at = None
                took = time.monotonic() - began
                if self._over:
                    return
                self.call_from_thread(self._show, picture)
                self._wake.wait(max(self._interval, REST * took))
                if self._wake.is_set():
                    self._wake.clear()
        except Exception as problem:
            if not self._over:
                self.call_later(self._fail, problem)

    def _fail(self, problem: Exception) -> None:
        """End with what is no trouble of the node."""
        raise problem

    def _see_whether_late(self) -> None:
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at >= LATE:
            self._show_head(int(time.monotonic() - asked_at))

    def _ask(self, **changes: Any) -> None:
        """Ask for something else, at once."""
        self._question = attrs.evolve(self._question, **changes)
        self._wake.set()

    def _show(self, picture: Picture) -> None:
        if self._over or not self._entries.is_attached:
            return  # the program ends
        if picture.question is not self._question and picture.question != self._question:
            return  # an answer to what was asked before
        if not picture.reached:
            self._picture = attrs.evolve(
                self._picture, trouble=picture.trouble, reached=False, question=picture.question
            )
            self._show_head()
            return
        self._answered_at = time.monotonic()
        had_none = self._picture.table is None
        self._picture = picture
        if self._question.table is None and picture.table is not None:
            # What is first may be another one later.
            self._question = attrs.evolve(self._question, table=picture.table.name)
        if picture.table is not None and picture.by is not None:
            self._trends.add(picture.table.name, picture.by, picture.entries)
        self._show_head()
        self._tables.show(picture)
        entries = self._entries
        entries.show(picture, self._trends)
        entries.border_title = self._entries_title(picture)
        self._peers.show(picture)
        self._aggregates.show(picture)
        if had_none:
            # What was typed meanwhile was not read.
            self._read_filter()

    def _entries_title(self, picture: Picture) -> Text:
        if picture.table is None:
            return Text("Entries")
        return Text(f"Entries of {visible(picture.table.name)}")

    def _show_head(self, late: int = 0) -> None:
        ago = int(time.monotonic() - (self._answered_at or time.monotonic()))
        low = self.size.height < LOW
        self._head.update(head_of(self._picture, ago, not self._wide, late, low))

    # -- what is asked for -------------------------------------------------

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter was pressed on a row: that of a table has its entries shown."""
        panel = self._tables
        if event.data_table is panel.rows and panel.table is not None:
            self._clear_filter()
            self._ask(table=panel.table, by=None, selection=Question().selection)
            self.action_panel(1)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """The head of a column was clicked: entries are sorted by it."""
        name = event.label.plain.split(" ")[0]
        table = self._picture.table
        if event.data_table is self._entries.rows and table is not None:
            if name == self._picture.by:
                self.action_reverse()
            elif name in table.numbers:
                self._ask(by=name)

    def action_sort(self, step: int) -> None:
        """Sort by the next value that is a number."""
        table, by = self._picture.table, self._picture.by
        if table is not None and by in table.numbers:
            names = table.numbers
            self._ask(by=names[(names.index(by) + step) % len(names)])

    def action_reverse(self) -> None:
        """The lowest first, or the highest."""
        self._ask(lowest=not self._question.lowest)

    # -- filtering ---------------------------------------------------------

    def action_filter(self) -> None:
        """Let somebody type a filter."""
        self.action_panel(1)
        self._filtering.add_class("-open")
        self._filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A letter more, or less."""
        if event.input.id == "filter":
            self._read_filter()

    def _read_filter(self) -> None:
        table, found = self._picture.table, self._found
        if table is None:
            return
        try:
            selection = selection_of(table, self._filter.value)
        except NodeError as problem:
            why = str(problem).removeprefix("--filter: ")
            found.update(Text(f"not a filter yet: {visible(why)}", "yellow"))
            found.add_class("-said")
            return
        found.remove_class("-said")
        if selection != self._question.selection:
            self._ask(selection=selection)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter was pressed: the filter stays."""
        if event.input.id == "filter":
            self._found.remove_class("-said")
            self._filtering.set_class(bool(event.value.strip()), "-open")
            self.action_panel(1)

    def action_clear(self) -> None:
        """Esc was pressed: no filter any more."""
        self._clear_filter()
        self._ask(selection=Question().selection)
        self.action_panel(1)

    def _clear_filter(self) -> None:
        self._filter.value = ""
        self._filtering.remove_class("-open")
        self._found.remove_class("-said")

    # -- blocking ----------------------------------------------------------

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def action_block(self) -> None:
        """Ask whether the entry is to be blocked."""
        table, entry = self._picture.table, self._entries.entry
        if table is None or entry is None:
            self._say("There is no entry to block", "warning")
        elif table.written_by is not None:
            self._say("The node itself writes this table: block in another one", "warning")
        elif not settable(table):
            self._say("This table stores no gpc and no gpt: nothing to block by", "warning")
        else:
            asked = Block(table, entry.key, entry.peer, self._last_name)
            self.push_screen(asked, self._block)

    def _block(self, write: Optional[Write]) -> None:
        if write is not None:
            self._last_name = write.name
            self._write(write)

    @work(thread=True, group="write")
    def _write(self, write: Write) -> None:
        what = f"{visible(write.key)}: {write.name}={write.number}"
        try:
            done = do(self._node, write)
        except NodeError as problem:
            self.call_from_thread(self._say, f"{what}: {problem}", "error")
            return
        self._done.append(done)
        self.call_from_thread(self._say, f"{what} on all HAProxies. u undoes it")
        self._wake.set()

    def action_undo(self) -> None:
        """Set the last value back."""
        if self._done:
            self._undo(self._done.pop())
        else:
            self._say("Nothing to undo", "warning")

    @work(thread=True, group="write")
    def _undo(self, done: Done) -> None:
        what = f"{visible(done.write.key)}: {done.write.name}"
        try:
            undo(self._node, done)
        except NodeError as problem:
            if isinstance(problem, Unreachable):
                # Once more, when it is there again.
                self._done.append(done)
            self.call_from_thread(self._say, f"{what}: {problem}", "error")
            return
        self.call_from_thread(self._say, f"{what}={done.before} again")
        self._wake.set()

    def _say(self, text: str, severity: Any = "information") -> None:
        self.notify(visible(text), severity=severity, markup=False, timeout=6)
