"""What a table is declared as: by a ``stick-table`` line, or by a peer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

import attrs

from peerproto.tables.columns import beyond, can_be_stored, united
from peerproto.tables.line import read_line
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Column, Layout, column
from peerproto.wire.messages import TableDefinition
from peerproto.wire.sizes import LONGEST_NAME


def _name_fits(_: Declaration, __: object, name: str) -> None:
    if not 1 <= len(name.encode("utf-8", "surrogateescape")) <= LONGEST_NAME:
        raise LocalProtocolError("table name", name, f"1 to {LONGEST_NAME} bytes")


@attrs.frozen
class Declaration:
    """A table's name, layout and limits.

    ``expire`` is in ms, 0 for never. ``size`` is the number of entries that it
    holds, ``None`` for any number. A full table trashes its oldest entries,
    or, with ``nopurge``, refuses new ones. With ``recv_only``, data types that
    are local to each peer are learnt too.
    """

    name: str = attrs.field(validator=_name_fits)
    layout: Layout = attrs.field()
    expire: int = 0
    size: Optional[int] = None
    nopurge: bool = False
    recv_only: bool = False
    brates_factor: int = 1
    adopted_from: Optional[str] = None
    """Name of the peer whose definition this is; ``None`` if it was declared here."""
    learnt: tuple[Column, ...] = ()
    """Those of the columns that peers store and the line has not, or has with fewer elements."""
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False)
    """What HAProxy reads in another way than it is written, in words."""

    @classmethod
    def parse(cls, name: str, line: str) -> Declaration:
        """Read what follows ``stick-table`` in a haproxy.cfg.

        ``peers <section>``, ``srvkey <what>`` and ``write-to <table>`` mean
        nothing here and may stay.

        :raises LocalProtocolError: an unknown word, or a value that is none.
        """
        read = read_line(name, line)
        return cls(
            name,
            read.layout,
            read.expire,
            read.size,
            read.nopurge,
            read.recv_only,
            read.brates_factor,
            warnings=read.warnings,
        )

    @classmethod
    def adopted(
        cls, definition: TableDefinition, peer: str, size: Optional[int] = None
    ) -> Declaration:
        """The declaration of a table that only ``peer`` has defined; it tells no size.

        :raises LocalProtocolError: the definition leaves out periods.
        """
        for one in definition.layout.columns:
            if not can_be_stored(one):
                raise LocalProtocolError(f"period of {one.name}", one.period, "a period in ms")
        return cls(
            definition.name, definition.layout, definition.expire or 0, size, adopted_from=peer
        )

    def plain(self) -> dict[str, Any]:
        """The declaration in values that JSON has: what `of_plain` reads."""
        layout = self.layout
        return {
            "name": self.name,
            "type": layout.key_type.word,
            "length": layout.key_length,
            "columns": [[one.name, one.elements, one.period] for one in layout.columns],
            "expire": self.expire,
            "size": self.size,
            "nopurge": self.nopurge,
            "recv_only": self.recv_only,
            "brates_factor": self.brates_factor,
            "adopted_from": self.adopted_from,
            "learnt": [one.name for one in self.learnt],
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Declaration:
        """The declaration that `plain` was made of, but for its warnings.

        :raises LocalProtocolError: it is none.
        """
        try:
            columns = tuple(
                column(name, elements=elements, period=period)
                for name, elements, period in plain["columns"]
            )
            key_type = next(one for one in KeyType if one.word == plain["type"])
            return cls(
                plain["name"],
                Layout(key_type, plain["length"], columns),
                plain["expire"],
                plain["size"],
                plain["nopurge"],
                plain["recv_only"],
                plain["brates_factor"],
                plain["adopted_from"],
                tuple(one for one in columns if one.name in plain["learnt"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as problem:
            raise LocalProtocolError("declaration", plain, "what plain() gives") from problem

    def with_columns(self, columns: Iterable[Column]) -> Declaration:
        """The same, and what peers store by these columns."""
        more = [one for one in beyond(columns, self.layout) if can_be_stored(one)]
        if not more:
            return self
        layout = united(self.layout, more)
        names = {one.data_type for one in (*self.learnt, *more)}
        learnt = tuple(one for one in layout.columns if one.data_type in names)
        return attrs.evolve(self, layout=layout, learnt=learnt)

    def following(self, definition: TableDefinition) -> Declaration:
        """The same with what a later definition of the peer it was adopted from says."""
        later = [one for one in definition.layout.columns if can_be_stored(one)]
        layout = united(attrs.evolve(self.layout, columns=tuple(later)), self.layout.columns)
        expire = self.expire if definition.expire is None else definition.expire
        return attrs.evolve(self, layout=layout, expire=expire)

    def definition(self, table_id: int) -> TableDefinition:
        """The message that announces this table under ``table_id``."""
        return TableDefinition(table_id, self.name, self.layout, self.expire)
