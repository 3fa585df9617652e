"""The errors of peerproto, in one tree.

::

    PeerError
    ├── LocalProtocolError       the caller erred: nothing was sent
    └── RemoteProtocolError      the peer erred: the session ends
        ├── MalformedMessage     error message 1/0 goes on the wire
        ├── OversizedMessage     error message 1/1 goes on the wire
        └── RefusedHello         a status 501 to 504 goes on the wire
"""

from __future__ import annotations

from typing import ClassVar

import attrs


@attrs.define(auto_exc=True, str=False)
class PeerError(Exception):
    """Anything that goes wrong between two peers."""


@attrs.define(auto_exc=True, str=False)
class LocalProtocolError(PeerError, ValueError):
    """This side asked for something that cannot be said or stored.

    ``what`` names the place, ``read`` is what was given, ``expected`` is what
    would have been right.
    """

    what: str
    read: object
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: read {self.read!r}, expected {self.expected}"


@attrs.define(auto_exc=True, str=False)
class RemoteProtocolError(PeerError):
    """The peer sent something that is against the protocol.

    ``code`` is the type of the error message (class 1) that answers it.
    """

    code: ClassVar[int] = 0

    what: str
    read: object
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: read {self.read!r}, expected {self.expected}"


@attrs.define(auto_exc=True, str=False)
class MalformedMessage(RemoteProtocolError):
    """A message that cannot be read: answered with error 1/0."""

    code: ClassVar[int] = 0


@attrs.define(auto_exc=True, str=False)
class OversizedMessage(RemoteProtocolError):
    """A message longer than the receiver's buffer: answered with error 1/1."""

    code: ClassVar[int] = 1


@attrs.define(auto_exc=True, str=False)
class RefusedHello(RemoteProtocolError):
    """A hello that is answered with ``status``, one of 501 to 504."""

    status: int
