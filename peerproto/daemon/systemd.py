"""What systemd is told of this process, by sd_notify(3): ready, stopping, and how it stands."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final, Optional

from twisted.application.service import Service
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerproto.service.service import StickTableService

STATUS_INTERVAL: Final = 1.0
"""Seconds between two looks whether the status text is another one."""


class Notifier:
    """Sends notices to the socket that systemd named in ``$NOTIFY_SOCKET``; nowhere without."""

    _log = Logger()

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET")
        if address is not None and address.startswith("@"):
            address = "\0" + address[1:]
        self._address: Optional[str] = address

    @property
    def listening(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def tell(self, **notices: object) -> None:
        """Send ``READY=1`` and the like. What goes wrong is logged: the node goes on."""
        if self._address is None:
            return
        text = "\n".join(f"{name}={value}" for name, value in notices.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices_socket:
                notices_socket.setblocking(False)
                notices_socket.sendto(text.encode(), self._address)
        except OSError as problem:
            self._log.warn("systemd cannot be told {text!r}: {why}", text=text, why=problem)


class Readiness(Service):
    """Tells systemd when a `StickTableService` is ready, what it does, and when it stops."""

    _log = Logger()

    def __init__(
        self, stick_tables: StickTableService, clock: IReactorTime, notifier: Notifier
    ) -> None:
        self._stick_tables = stick_tables
        self._notifier = notifier
        self._status = ""
        self._up_to_date = self._told = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Ready is who listens, which a service does once it started, and is up to date."""
        super().startService()
        if self._notifier.listening:
            self._looking.start(STATUS_INTERVAL).addErrback(self._failed)
            waiting = self._stick_tables.when_up_to_date().addCallback(self._ready)
            waiting.addErrback(lambda reason: reason.trap(CancelledError) and None)

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
            self._notifier.tell(STOPPING=1, STATUS="stopping")

    def take_over(self) -> None:
        """From now on this process is the service's main one, not the one that it replaces."""
        self._notifier.tell(MAINPID=os.getpid())

    def hand_over(self) -> None:
        """Another process is the main one by now: say nothing of the end of this one."""
        if self._looking.running:
            self._looking.stop()

    def _ready(self, _reason: str) -> None:
        self._up_to_date = True
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Say it once, when all parts of the node are ready, too."""
        waits = self._up_to_date and not self._told and self._looking.running
        if waits and not self._stick_tables.not_ready():
            self._told = True
            self._notifier.tell(READY=1)

    def _failed(self, reason: Failure) -> None:
        self._log.failure("systemd is told of no status any more", reason)

    def _look(self) -> None:
        self._tell_ready()
        status = self.status()
        if status != self._status:
            self._status = status
            self._notifier.tell(STATUS=status)

    def status(self) -> str:
        """How the node stands, in one line for ``systemctl status``."""
        service = self._stick_tables
        peers = service.peers.values()
        connected = sum(peer.connected for peer in peers)
        return (
            f"{service.resync.state.value}; {connected} of {len(peers)} peers connected,"
            f" {len(service.tables)} tables"
        )
