"""``--node``: where a node is, and which way leads to it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Optional
from urllib.parse import urlsplit

from peerproto.terminal.http import HttpNode
from peerproto.terminal.node import PATIENCE, Node, NodeError, Unreachable
from peerproto.terminal.runtime import RuntimeNode

DEFAULTS: Final = ("/run/peerproto/peerproto.sock", "/run/peerproto.sock")
"""Runtime sockets that are tried where no node is named, in this order."""

_UNIX: Final = "http+unix:"


def node_at(
    place: Optional[str], token_file: Optional[str] = None, patience: float = PATIENCE
) -> Node:
    """The node at a place.

    :param place: the path of a runtime socket, ``http://…``, ``https://…`` or
        ``http+unix:/path``; ``None`` for the first of `DEFAULTS` that there is.
    :param token_file: file with the token for HTTP.
    :param patience: seconds in which the node has to say something.
    :raises NodeError: it is no place, or the token cannot be read.
    """
    if not place:
        found = next((one for one in DEFAULTS if Path(one).exists()), None)
        if found is None:
            raise Unreachable(
                f"no node: neither {' nor '.join(DEFAULTS)} is there. --node or PEERPROTO_NODE"
                " names one: the path of its runtime socket, or http://host:port"
            )
        return RuntimeNode(found, patience)
    if place.startswith(_UNIX):
        path = "/" + place.removeprefix(_UNIX).lstrip("/")
        return HttpNode(place, "http://localhost", _token(token_file), path, patience)
    parts = urlsplit(place)
    if parts.scheme in ("http", "https") and parts.hostname:
        return HttpNode(place, place.rstrip("/"), _token(token_file), None, patience)
    if "://" in place:
        raise NodeError(
            f"--node: read '{place}', expected the path of a runtime socket, http://host:port,"
            " https://host:port or http+unix:/path"
        )
    return RuntimeNode(place.removeprefix("unix:"), patience)


def _token(file: Optional[str]) -> Optional[str]:
    if not file:
        return None
    try:
        token = Path(file).read_text("ascii").strip()
    except OSError as problem:
        raise NodeError(f"--token-file {file}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise NodeError(f"--token-file {file}: read what is no ASCII, expected a token") from None
    if not token or len(token.split()) > 1:
        raise NodeError(f"--token-file {file}: expected one token, and nothing else")
    return token
