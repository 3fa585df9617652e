"""Real HAProxies and peerprotos to try things on: what `e2e` and `bench` share."""

from peerproto.testing.entries import Text, Update
from testbed.authority import Authority
from testbed.browser import Browser, Window
from testbed.conversation import Conversation, closed, converse, fields, get
from testbed.haproxy import HAProxy
from testbed.link import BUFFER, Link
from testbed.mesh import Mesh
from testbed.node import Entry, Node, ended, parse_table
from testbed.peerproto import TWIST, Peerproto
from testbed.ports import free_port
from testbed.programs import Program, default, missing, programs
from testbed.prometheus import Prometheus, promtool
from testbed.rawpeer import Acks, RawListener, RawPeer
from testbed.rest import Rest, write_token
from testbed.stream import Event, EventStream
from testbed.waiting import PATIENCE, endlessly, pause, reactor, until, wait

__all__ = [
    "BUFFER",
    "PATIENCE",
    "TWIST",
    "Acks",
    "Authority",
    "Browser",
    "Conversation",
    "Entry",
    "Event",
    "EventStream",
    "HAProxy",
    "Link",
    "Mesh",
    "Node",
    "Peerproto",
    "Program",
    "Prometheus",
    "RawListener",
    "RawPeer",
    "Rest",
    "Text",
    "Update",
    "Window",
    "closed",
    "converse",
    "default",
    "ended",
    "endlessly",
    "fields",
    "free_port",
    "get",
    "missing",
    "parse_table",
    "pause",
    "programs",
    "promtool",
    "reactor",
    "until",
    "wait",
    "write_token",
]
