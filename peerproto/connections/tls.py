"""TLS as HAProxy's ``peer … ssl`` speaks it: who we are to peers, and whom we believe.

All of it is Twisted's and pyOpenSSL's, and names are checked by service-identity;
here is only what to ask of them. The packages come with ``peerproto[tls]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Optional, cast
from weakref import WeakKeyDictionary, ref

import attrs
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from peerproto.wire.errors import LocalProtocolError

_WHY: Final = {
    7: "its signature is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself",
    19: "its authority is not in our ca-file",
    20: "its authority is not in our ca-file",
    21: "its authority is not in our ca-file",
    24: "its authority may not sign certificates",
    26: "it is not for this use",
}
"""What OpenSSL's verification errors (``X509_V_ERR_…``) mean to who reads a log."""


_disbelieved: WeakKeyDictionary[object, str] = WeakKeyDictionary()
"""By the transport of a connection: what is wrong with the certificate on the other side."""


@attrs.frozen
class Credentials:
    """A certificate with its key, and the authorities whose certificates we believe.

    `load` reads them from files.
    """

    options: CertificateOptions
    verify_name: bool
    authorities: tuple[crypto.X509, ...] = ()

    @classmethod
    def load(
        cls,
        certificate: str,
        key: Optional[str] = None,
        ca_file: Optional[str] = None,
        *,
        verify: bool = True,
        verify_name: bool = False,
    ) -> Credentials:
        """Read PEM files.

        :param certificate: path of our certificate, and of what is between it and
            its authority; of its key too, if ``key`` is not given.
        :param ca_file: path of the authorities' certificates. With ``verify``
            it is needed.
        :param verify: whether peers must have a certificate of these authorities,
            those that call as well as those that we call.
        :param verify_name: whether a peer's name must be in its certificate, as a
            ``subjectAltName`` of type DNS.
        :raises LocalProtocolError: a file cannot be read, or has not what it should.
        """
        if verify and ca_file is None:
            raise LocalProtocolError("ca-file", None, "a file, since peers are verified")
        if verify_name and not verify:
            raise LocalProtocolError("verify-name", "yes", "verify = required with it")
        chain = _certificates("certificate", certificate)
        private_key = _private_key(key or certificate)
        authorities = _certificates("ca-file", ca_file) if verify and ca_file is not None else []
        trusted = [Certificate(one) for one in authorities]
        options = CertificateOptions(
            privateKey=private_key,
            certificate=chain[0],
            extraCertChain=chain[1:],
            trustRoot=trustRootFromCertificates(trusted) if trusted else None,
        )
        try:
            options.getContext()
        except SSL.Error as problem:
            raise LocalProtocolError(
                "key", key or certificate, f"the key of {certificate} ({_openssl_words(problem)})"
            ) from problem
        return cls(options, verify_name, tuple(authorities))

    def check_own(self, name: str) -> None:
        """Whether a peer of our own name, with the same files, would believe us.

        The old and the new process of a hand-over are such peers, and so are most others.

        :raises LocalProtocolError: it would not.
        """
        if not self.verify:
            return
        store = crypto.X509Store()
        for authority in self.authorities:
            store.add_cert(authority)
        ours = self.options.certificate
        assert ours is not None, "`load` gives one"
        subject = ours.to_cryptography().subject.rfc4514_string()
        try:
            crypto.X509StoreContext(store, ours, self.options.extraCertChain).verify_certificate()
        except crypto.X509StoreContextError as problem:
            why = _WHY.get(problem.errors[0], f"OpenSSL's verification error {problem.errors[0]}")
            expected = f"a certificate that verify = required believes ({why})"
            raise LocalProtocolError("certificate", subject, expected) from problem
        if self.verify_name and not _is_for(ours, name):
            expected = f"a certificate for the DNS name {name}, with verify-name = yes"
            raise LocalProtocolError("certificate", subject, expected)

    @property
    def verify(self) -> bool:
        """Whether peers must have a certificate that we believe."""
        return bool(self.options.verify)

    def disbelief(self, transport: Any, name: str) -> Optional[str]:
        """Why whoever is behind this transport is not the peer of this name, in words."""
        if not self.verify_name or not isinstance(transport, TLSMemoryBIOProtocol):
            return None
        try:
            verify_hostname(transport.getHandle(), name)
        except (VerificationError, ValueError):
            return f"TLS: its certificate is not for the name {name}"
        return None

    def trouble(self, transport: Any, reason: Optional[BaseException]) -> Optional[str]:
        """Why a connection ended in its TLS handshake, in words; ``None`` if it did not."""
        if not isinstance(reason, SSL.Error):
            return None
        return "TLS: " + (_disbelieved.get(transport) or _openssl_words(reason))


def _is_for(certificate: crypto.X509, name: str) -> bool:
    """Whether a certificate has a DNS name, itself or by a ``*`` for its first part."""
    extensions = certificate.to_cryptography().extensions
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    names = {one.lower() for one in found.get_values_for_type(x509.DNSName)}
    return name.lower() in names or f"*.{name.partition('.')[2]}".lower() in names


def _openssl_words(problem: SSL.Error) -> str:
    errors = problem.args[0] if problem.args else []
    return ", ".join(str(error[-1]) for error in errors) or "the connection was broken"


def _read(what: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise LocalProtocolError(
            what, path, f"a file that can be read ({problem.strerror})"
        ) from problem


def _certificates(what: str, path: str) -> list[crypto.X509]:
    text = _read(what, path)
    try:
        found = x509.load_pem_x509_certificates(text)
    except ValueError as problem:
        raise LocalProtocolError(what, path, "a file with certificates in PEM") from problem
    return [crypto.X509.from_cryptography(one) for one in found]


def _private_key(path: str) -> crypto.PKey:
    text = _read("key", path)
    try:
        # An empty pass phrase: OpenSSL would ask for one on the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, text, b"")
    except crypto.Error as problem:
        raise LocalProtocolError(
            "key", path, "a file with a private key in PEM, without a pass phrase"
        ) from problem


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
@attrs.frozen
class _Connections:
    """Makes connections with the credentials of the moment, which a reload may change."""

    credentials: Callable[[], Credentials]

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return self._connection(tlsProtocol)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return self._connection(tlsProtocol)

    def _connection(self, transport: object) -> SSL.Connection:
        context = self.credentials().options.getContext()
        connection = SSL.Connection(context, None)
        connection.set_verify(context.get_verify_mode(), partial(_verified, ref(transport)))
        return connection


def _verified(
    transport: ref[object],
    _: SSL.Connection,
    certificate: crypto.X509,
    error: int,
    depth: int,
    good: int,
) -> bool:
    """Leave OpenSSL's verdict on a certificate as it is, but remember it for the log."""
    whose = transport()
    if not good and whose is not None:
        subject = certificate.to_cryptography().subject.rfc4514_string()
        why = _WHY.get(error, f"OpenSSL's verification error {error}")
        _disbelieved[whose] = f"its certificate '{subject}' is not believed: {why}"
    return bool(good)


class TLSFactory(Factory):
    """Puts TLS under the protocols of another factory, but for UNIX sockets: they are local."""

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        credentials: Callable[[], Credentials],
        clock: IReactorTime,
        calling: bool = False,
    ) -> None:
        """``calling`` is whether the connections are made by us."""
        self._plain = factory
        self._secure = TLSMemoryBIOFactory(_Connections(credentials), calling, factory, clock=clock)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        plain = self._plain.buildProtocol(cast(IAddress, addr))
        if plain is None or isinstance(addr, UNIXAddress):
            return plain
        return TLSMemoryBIOProtocol(self._secure, plain)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class TLSClientEndpoint:
    """Makes connections with TLS to where another endpoint leads."""

    endpoint: IStreamClientEndpoint
    credentials: Callable[[], Credentials]
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = TLSFactory(protocolFactory, self.credentials, self.clock, calling=True)
        connecting = self.endpoint.connect(factory)
        return connecting.addCallback(lambda made: getattr(made, "wrappedProtocol", made))
