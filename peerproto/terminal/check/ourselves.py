"""Which peer of a peers section is the node of peerproto."""

from __future__ import annotations

import socket
from typing import Final, Optional

import attrs

from peerproto.terminal.check.haproxy import HaproxyConfig, PeersSection

USUAL: Final = "peerproto"
"""What a node is called where nothing says it."""


@attrs.frozen
class Ourselves:
    """A name, and why it is this one."""

    name: str
    why: str
    is_guess: bool = False


def who_we_are(
    config: HaproxyConfig, section: PeersSection, asked: Optional[str] = None
) -> Ourselves:
    """The name of our node in a section; ``asked`` is what ``--localpeer`` says."""
    if asked is not None:
        return Ourselves(asked, "--localpeer says so")
    local = config.local_in(section)
    others = [name for name in section.peers if name != local]
    named = [name for name in others if USUAL in name.lower()]
    if len(named) == 1:
        return Ourselves(named[0], f"{USUAL} is in its name")
    host = socket.gethostname()
    if host in others:
        return Ourselves(host, "this machine is called so")
    if local is not None and len(others) == 1:
        why = f"it is the only peer beside {local}, which is this HAProxy"
        return Ourselves(others[0], why, True)
    return Ourselves(USUAL, "none of the peers tells by its name that it is a peerproto", True)
