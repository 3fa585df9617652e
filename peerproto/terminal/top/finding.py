"""The filter that somebody types, as far as it has come."""

from __future__ import annotations

import ipaddress
import re
from typing import Optional

from peerproto.terminal.node import NodeError, Selection
from peerproto.terminal.text import typed
from peerproto.terminal.values import TableInfo
from peerproto.terminal.wanted import comparison_of

_COMPARES = re.compile(r"[=<>!]|\s(?:eq|ne|le|ge|lt|gt)\s")
_OCTETS = re.compile(r"(?:\d{1,3}\.){1,3}\d{0,3}", re.ASCII)


def selection_of(table: TableInfo, text: str) -> Selection:
    """What is meant: comparisons with ``and`` between them, a network, the beginning of a key, or a
    whole one.

    :raises NodeError: it cannot be read (yet).
    """
    text = text.strip()
    if not text:
        return Selection()
    if _COMPARES.search(text):
        parts = re.split(r"\s+and\s+|\s*,\s*", text)
        return Selection(comparisons=tuple(comparison_of(table, one) for one in parts if one))
    if table.type == "string":
        return Selection(prefix=typed(text))
    if table.type in ("ip", "ipv6"):
        return Selection(network=_network(text))
    if table.type == "integer" and not re.fullmatch(r"-?\d{1,10}", text, re.ASCII):
        raise NodeError(f"read '{typed(text)}', expected a whole number, or a filter: gpc0 > 1")
    return Selection(key=typed(text))


def _network(text: str) -> str:
    """An address, a network, or the first octets of addresses: ``192.0.`` is 192.0.0.0/16."""
    address = text
    if _OCTETS.fullmatch(text) and text.count(".") < 4:
        octets = [one for one in text.split(".") if one]
        if text.endswith(".") or len(octets) < 4:
            # The last one may go on: without its dot it is not looked at.
            whole = octets if text.endswith(".") else octets[:-1]
            if not whole:
                raise NodeError(f"read '{text}', expected at least '{text}.'")
            address = f"{'.'.join([*whole, *['0'] * (4 - len(whole))])}/{8 * len(whole)}"
    network: Optional[str] = None
    try:
        network = str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        pass
    if network is None:
        raise NodeError(
            f"read '{typed(text)}', expected an address, a network, or a filter: gpc0 > 1"
        )
    return network
