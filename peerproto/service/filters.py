"""Filters: which entries of a table are meant, by what they store or by their keys."""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable
from typing import Final, Union

import attrs

from peerproto.tables.entry import Entry
from peerproto.wire.errors import LocalProtocolError
from peerproto.wire.keys import KeyType
from peerproto.wire.layout import Cell, Layout

OPERATORS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "le": operator.le,
    "ge": operator.ge,
    "lt": operator.lt,
    "gt": operator.gt,
}
"""HAProxy's words for comparisons."""

_MAPPED: Final = 96
"""Bits before an IPv4 address in an IPv6 address that stands for it, ``::ffff:192.0.2.1``:
HAProxy stores it so in a table of type ``ipv6``."""


@attrs.frozen
class Filter:
    """``data.<type> <operator> <value>``: holds for entries whose value compares so."""

    name: str
    """Of the value that is compared: one of `StickTable.cells`."""
    word: str = attrs.field(validator=attrs.validators.in_(OPERATORS))
    """One of `OPERATORS`."""
    value: int

    def check(self, layout: Layout) -> None:
        """Check that a table with this layout can be asked for it.

        :raises LocalProtocolError: the table stores no such value, or one that is no number.
        """
        self._cell(layout)

    def _cell(self, layout: Layout) -> Cell:
        cell = layout.cells.get(self.name)
        if cell is None:
            raise LocalProtocolError("filter", f"data.{self.name}", "a data type that is stored")
        if cell.is_text:
            raise LocalProtocolError("filter", f"data.{self.name}", "a data type that is a number")
        return cell

    def __call__(self, entry: Entry) -> bool:
        """Whether it holds for an entry.

        :raises LocalProtocolError: see `check`: the table may have been declared anew since.
        """
        value = entry.value(self._cell(entry.layout))
        return isinstance(value, int) and OPERATORS[self.word](value, self.value)


@attrs.frozen
class Prefix:
    """Holds for entries whose key, which is a string, begins so."""

    text: str

    def for_keys(self, layout: Layout) -> Callable[[bytes], bool]:
        """What tells of a raw key whether it holds, in a table with this layout.

        :raises LocalProtocolError: its keys are no strings.
        """
        if layout.key_type is not KeyType.STRING:
            raise LocalProtocolError(
                "prefix of keys", self.text, f"none: keys of type {layout.key_type.word} have none"
            )
        first = self.text.encode("utf-8", "surrogateescape")
        return lambda raw_key: raw_key.startswith(first)


Addresses = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def _network(text: Union[str, Addresses]) -> Addresses:
    try:
        return ipaddress.ip_network(text)
    except ValueError as problem:
        raise LocalProtocolError(
            "network", str(text), f"a network such as 192.0.2.0/24 ({problem})"
        ) from problem


@attrs.frozen
class Network:
    """Holds for entries whose key is an address of this network: ``Network("192.0.2.0/24")``.

    In a table of type ``ipv6`` an IPv4 network means the addresses that stand for its own.

    :raises LocalProtocolError: the text is no network, or has bits beyond its length.
    """

    network: Addresses = attrs.field(converter=_network)

    def for_keys(self, layout: Layout) -> Callable[[bytes], bool]:
        """What tells of a raw key whether it holds, in a table with this layout.

        :raises LocalProtocolError: its keys are no addresses, or shorter ones.
        """
        wanted = (KeyType.IPV6,) if self.network.version == 6 else (KeyType.IPV4, KeyType.IPV6)
        if layout.key_type not in wanted:
            words = " or ".join(one.word for one in wanted)
            raise LocalProtocolError(
                "network",
                str(self.network),
                f"a table of type {words}: this one is of type {layout.key_type.word}",
            )
        first, length = self.network.network_address.packed, self.network.prefixlen
        if layout.key_length > len(first):
            first, length = bytes(10) + b"\xff\xff" + first, length + _MAPPED
        rest = 8 * layout.key_length - length
        own = int.from_bytes(first, "big") >> rest
        return lambda raw_key: int.from_bytes(raw_key, "big") >> rest == own


Condition = Union[Filter, Prefix, Network]
"""What entries can be chosen by."""

__all__ = ["OPERATORS", "Cell", "Condition", "Filter", "Network", "Prefix"]
