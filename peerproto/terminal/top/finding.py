"""The filter that somebody types, as far as it has come."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Optional

from peerproto.terminal.node import NodeError, Selection
from peerproto.terminal.text import typed
from peerproto.terminal.values import TableInfo
from peerproto.terminal.wanted import comparison_of

_COMPARES = re.compile(r"[=<>!]|\s(?:eq|ne|le|ge|lt|gt)\s")
_COMPARED = re.compile(r"\s*(?:data\.)?([\w\[\]]+)(?:\s*[=<>!]|\s+(?:eq|ne|le|ge|lt|gt)\s)")
_SPELT = re.compile(r"(?:[^\\]|\\\\|\\x[0-9A-Fa-f]{2})*", re.DOTALL)
_OCTETS = re.compile(r"(?:\d{1,3}\.){1,3}\d{0,3}", re.ASCII)


def selection_of(table: TableInfo, text: str) -> Selection:
    """What is meant: comparisons with ``and`` between them, a network, the beginning of a key, or a
    whole one.

    :raises NodeError: it cannot be read (yet).
    """
    if not text.strip():
        return Selection()
    if _compares(table, text):
        parts = re.split(r"\s+and\s+|\s*,\s*", text.strip())
        return Selection(comparisons=tuple(comparison_of(table, one) for one in parts if one))
    if table.type == "string":
        # A blank at either end is part of it.
        return Selection(prefix=_spelt(text))
    text = text.strip()
    if table.type in ("ip", "ipv6"):
        return Selection(network=_network(text))
    if table.type == "integer" and not re.fullmatch(r"-?\d{1,10}", text, re.ASCII):
        raise NodeError(f"read '{typed(text)}', expected a whole number, or a filter: gpc0 > 1")
    return Selection(key=typed(text))


def _compares(table: TableInfo, text: str) -> bool:
    """Whether comparisons are meant. Keys that are texts may have their signs in them: there it
    takes the name of a value, or what is nearly one."""
    if table.type != "string":
        return _COMPARES.search(text) is not None
    found = _COMPARED.match(text)
    if found is None:
        return False
    name = re.sub(r"\[(\d+)\]", r"\1", found[1])
    names = [one.name for one in table.columns]
    return bool(difflib.get_close_matches(name, names, 1, 0.75))


def _spelt(text: str) -> str:
    """A text that is typed as keys are shown.

    :raises NodeError: a backslash in it escapes nothing (yet).
    """
    text = typed(text)
    if not _SPELT.fullmatch(text):
        raise NodeError(rf"read '{text}', expected \\ or \xHH for \ ")
    return text


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
