"""Listening at an endpoint, with every failure told: at once by raising, later in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


def listen(
    endpoint: IStreamServerEndpoint,
    factory: IProtocolFactory,
    listening: Callable[[IListeningPort], object],
    what: str,
    failed_later: Callable[[Failure], object] = lambda reason: None,
) -> None:
    """Listen, and give the port to ``listening``.

    :param what: what is to be reached there, for the log.
    :param failed_later: called with what the endpoint fails with later, which is logged.
    :raises Exception: what the endpoint fails with at once, most often
        ``CannotListenError``.
    """
    at_once: list[Failure] = []

    def failed(reason: Failure) -> None:
        if waiting:
            at_once.append(reason)
        else:
            _log.failure("{what}: nobody can connect, as listening failed", reason, what=what)
            failed_later(reason)

    waiting = True
    endpoint.listen(factory).addCallback(listening).addErrback(failed)
    waiting = False
    if at_once:
        at_once[0].raiseException()


class ListeningService(Service):
    """Listens at an endpoint as long as it runs."""

    def __init__(
        self, endpoint: IStreamServerEndpoint, factory: IProtocolFactory, what: str
    ) -> None:
        """``what`` is to be reached there, for the log."""
        self._endpoint = endpoint
        self._factory = factory
        self._what = what
        self._port: Optional[IListeningPort] = None

    def startService(self) -> None:
        """Listen.

        :raises CannotListenError: the address is taken.
        """
        super().startService()
        listen(self._endpoint, self._factory, self._listening, self._what)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        if not self.running:
            self.stopService()

    def stopService(self) -> Deferred[object]:
        """Listen no more; fires when that is so."""
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)
