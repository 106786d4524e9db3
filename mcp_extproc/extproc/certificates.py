"""The worker's certificate and the clients' CA, from files that are read again when they change.

Each new connection checks whether the files have changed, and uses their current content; open connections keep theirs. So
certificates can be replaced without a signal.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mcp_extproc.pem import Newest, TlsError, load_authorities, load_pair
from mcp_extproc.telemetry import log

_LOG = log.logger("tls")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM (RFC 7468)."""

    certificate: Path
    """The server's certificate and its intermediate certificates."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """CAs of clients. If given, clients need a certificate."""

    def __iter__(self) -> Iterator[Path]:
        return (file for file in (self.certificate, self.key, self.client_ca) if file is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Content of the files at one time, verified to match."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """The newest valid content of the files. Thread-safe.

    Args:
        files: their paths.

    Raises:
        TlsError: they can't be used. Later errors are logged, and the previous content stays in use.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._newest = Newest(files, lambda: _read(files), self._tell)

    @property
    def asks_clients(self) -> bool:
        """Whether clients need a certificate."""
        return self._files.client_ca is not None

    def current(self) -> Identity:
        """The context for a new connection."""
        return self._newest.current()

    def context(self) -> ssl.SSLContext:
        """For a listener: each of its connections gets the context of :meth:`current`."""
        return _Newest(self)

    def _tell(self, problem: TlsError | None) -> None:
        if problem is not None:
            log.event(_LOG, logging.ERROR, "tls_files_refused", {
                "why": str(problem),
                "effect": "new connections use the previous content",
            })  # fmt: skip
        else:
            log.event(_LOG, logging.INFO, "tls_files_renewed", {"certificate": str(self._files.certificate)})


class _Newest(ssl.SSLContext):
    """Event loops call :meth:`wrap_bio` once for each connection; there the newest context is used.

    One context can't be changed in place: OpenSSL can't remove CAs from it, and would use a certificate before detecting
    that its key does not match.
    """

    _certificates: Certificates

    def __new__(cls, certificates: Certificates) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._certificates = certificates
        return self

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """The TLS side of a new connection."""
        return self._certificates.current().context.wrap_bio(*args, **kwargs)


class _Handshake(ssl.SSLObject):
    """Logs why a handshake failed, which event loops don't report."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or "the peer closed the connection"
            log.event(_LOG, logging.WARNING, "tls_refused", {"why": why})
            raise


def _read(files: TlsFiles) -> Identity:
    try:
        certificate, key, client_ca = (
            None if file is None else file.read_bytes() for file in (files.certificate, files.key, files.client_ca)
        )
    except OSError as error:
        raise TlsError((Path(error.filename),), f"can't be read: {error.strerror}") from None
    assert certificate is not None
    assert key is not None
    return Identity(certificate, key, client_ca, _context(files))


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113 section 9.2.
    context.set_alpn_protocols(["h2"])
    context.sslobject_class = _Handshake
    load_pair(context, files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        load_authorities(context, files.client_ca)
    return context
