"""Faults that the package had once, to be put in again: the simulation has to find them.

Each is a context in which the package behaves as it did before the mend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, cast
from unittest.mock import patch
from weakref import WeakSet

from peerproto.connections import clock
from peerproto.connections import dialing as calling
from peerproto.peering import adoption, node, resync
from peerproto.peering.memory import PeerMemory
from peerproto.peering.session import Session
from peerproto.peering.states import SessionState
from peerproto.tables import rowstore as table
from peerproto.tables.changes import Cause, Changes
from peerproto.tables.log import ChangeLog
from peerproto.tables.partitions import Sweep
from peerproto.tables.room import make_room
from peerproto.tables.store import TableStore
from peerproto.updates.lesson import LessonRequest
from peerproto.updates.rows import Rows

Fault = Callable[[], AbstractContextManager[Any]]


@contextmanager
def everywhere(function: Callable[..., Any], instead: Callable[..., Any]) -> Iterator[None]:
    """Put a function in another one's place in all modules that have it."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if not name.startswith("peerproto."):
                continue
            if vars(module).get(function.__name__) is function:
                stack.enter_context(patch.object(module, function.__name__, instead))
        yield


def lessons_overwrite() -> AbstractContextManager[Any]:
    """What was set here while the node learns is overwritten by the lesson's older values."""
    return patch.object(
        ChangeLog, "later", lambda self, keys, number, overwritten=False, peer=None: {}
    )


@contextmanager
def partial_counts() -> Iterator[None]:
    """The wait for a teacher whose lesson broke off is as long as the wait to call it again."""
    with (
        patch.object(resync, "DEBT_TIMEOUT", resync.RESYNC_TIMEOUT),
        patch.object(calling.Dialer, "call_soon", lambda self: None),
    ):
        yield


@contextmanager
def finished_if_up_to_date_at_the_end() -> Iterator[None]:
    """A lesson is of what there was when it began, but ends as things are at its end."""
    at_the_end = resync.Resync.can_finish

    def can_finish(self: resync.Resync, pupil: Session) -> bool:
        return pupil.state is SessionState.TEACHING or at_the_end(self, pupil)

    begin = Rows.__init__

    def begin_rows(self: Rows, sweep: Sweep, plain: bool = False) -> None:
        begin(self, Sweep(sweep.parts, sweep.parts.sizes(), 0), plain)

    nothing_left_out = property(lambda self: False, lambda self, left_out: None)

    with (
        patch.object(resync.Resync, "can_finish", can_finish),
        patch.object(Rows, "__init__", begin_rows),
        patch.object(LessonRequest, "left_out", nothing_left_out, create=True),
    ):
        yield


class _ByName(dict[Any, int]):
    """What a peer has acked, by the names of tables."""

    @staticmethod
    def _name(log: ChangeLog) -> str:
        return next(
            one.name for one in TableStore.all if isinstance(one, TableStore) and one.log is log
        )

    def get(self, log: ChangeLog, default: Any = None) -> Any:
        return super().get(self._name(log), default)

    def __setitem__(self, log: ChangeLog, number: int) -> None:
        super().__setitem__(self._name(log), number)


def acks_by_name() -> AbstractContextManager[Any]:
    """A table that begins anew under its name is taken to be acked as far as the one before."""

    def peer(*about: Any) -> PeerMemory:
        made = PeerMemory(*about)
        made.acked = cast(Any, _ByName())
        return made

    return patch.object(node, "PeerMemory", peer)


def not_shared_anew() -> AbstractContextManager[Any]:
    """Sessions do not look again when a table is added or declared anew."""
    return patch.object(Session, "look_again", lambda self, added, now, adopt=False: [])


def adopted_for_ever() -> AbstractContextManager[Any]:
    """An adopted table does not begin anew when its keys change where it came from."""
    return patch.object(adoption.Adoption, "_begins_anew", lambda *args: False)


@contextmanager
def cleared_while_converted() -> Iterator[None]:
    """A table that is cleared while it is converted fails an assertion from then on."""
    cleared: WeakSet[TableStore] = WeakSet()
    clear, convert = TableStore.clear, TableStore.convert

    def clear_it(self: TableStore) -> int:
        if self.converting and self.used:
            cleared.add(self)
        return clear(self)

    def convert_it(self: TableStore, **limit: int) -> None:
        assert self not in cleared
        convert(self, **limit)

    with (
        patch.object(TableStore, "clear", clear_it),
        patch.object(TableStore, "convert", convert_it),
    ):
        yield


@contextmanager
def told_out_of_order() -> Iterator[None]:
    """Observers hear of what was stored before they hear of what made room for it."""
    put = TableStore.put

    def put_them(self: TableStore, *args: Any, **more: Any) -> list[Changes]:
        return sorted(put(self, *args, **more), key=lambda batch: batch.cause is Cause.TRASHED)

    with patch.object(TableStore, "put", put_them):
        yield


def times_of_the_wall_clock() -> AbstractContextManager[Any]:
    """Lives, ages and sessions go by the wall clock."""
    return everywhere(clock.milliseconds, lambda reactor: int(vars(clock)["time"].time() * 1000))


def too_little_room() -> AbstractContextManager[Any]:
    """A table that was made smaller takes nothing new until it has shrunk."""

    def little_room(full: TableStore, wanted: int, now: int) -> tuple[int, list[Changes]]:
        size = full.declaration.size
        if size is None or full.used <= size or full.declaration.nopurge:
            return make_room(full, wanted, now)
        return 0, []

    return patch.object(table, "make_room", little_room)


FAULTS: Final[Mapping[str, Fault]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        lessons_overwrite,
        partial_counts,
        finished_if_up_to_date_at_the_end,
        acks_by_name,
        not_shared_anew,
        adopted_for_ever,
        cleared_while_converted,
        told_out_of_order,
        times_of_the_wall_clock,
        too_little_room,
    )
}
"""By the name that ``--fault`` takes."""
