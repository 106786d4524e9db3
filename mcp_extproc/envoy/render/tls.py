"""TLS from Envoy to servers and workers."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import Server, UpstreamTls
from mcp_extproc.envoy._api.config_core_v3 import DataSource, TransportSocket
from mcp_extproc.envoy._api.transport_sockets_tls_v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from mcp_extproc.envoy._api.type_matcher_v3 import StringMatcher
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render.typed import any_of

_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/cert.pem",  # macOS, BSD
)


def to_server(server: Server) -> TransportSocket:
    """TLS to the replicas of an MCP server."""
    tls = server.tls
    host = server.addresses[0][0]
    name = tls.sni if tls is not None and tls.sni is not None else host
    verify = tls is None or not tls.insecure_skip_verify
    names = [name] if tls is None or not tls.subject_alt_names else tls.subject_alt_names
    return _socket(
        name,
        _validation(_authorities(tls), names) if verify else None,
        _own(tls.client_certificate, tls.client_key) if tls is not None else [],
        "h2" if server.http2 else "http/1.1",
    )


def _authorities(tls: UpstreamTls | None) -> DataSource:
    if tls is not None and tls.ca_inline is not None:
        return DataSource(inline_string=tls.ca_inline)
    return _file(tls.ca if tls is not None and tls.ca is not None else system_ca_file())


def _file(path: str) -> DataSource:
    return DataSource(filename=path)


def to_authority(host: str, alpn: str, ca: str | None = None) -> TransportSocket:
    """TLS to a host whose certificate is of one of these authorities, by default the system's. ``alpn``: the protocol on top
    (RFC 7301)."""
    return _socket(host, _validation(_file(ca or system_ca_file()), [host]), [], alpn)


def to_workers(layout: Layout) -> TransportSocket | None:
    """TLS to the ext_proc workers; ``None`` for plaintext."""
    tls = layout.extproc_tls
    if tls is None:
        return None
    hosts = [worker.host for worker in layout.extproc if isinstance(worker, TcpAddress)]
    # A cluster sends one SNI; with several workers, each certificate has to match one of the hosts.
    names = [tls.name] if tls.name is not None else list(dict.fromkeys(hosts))
    return _socket(
        names[0] if len(names) == 1 else "", _validation(_file(tls.ca), names), _own(tls.certificate, tls.key), "h2"
    )


def _socket(
    sni: str, validation: CertificateValidationContext | None, own: list[TlsCertificate], alpn: str
) -> TransportSocket:
    context = UpstreamTlsContext(
        sni="" if is_ip(sni) else sni,  # RFC 6066 section 3: no literal addresses.
        common_tls_context=CommonTlsContext(tls_certificates=own, validation_context=validation, alpn_protocols=[alpn]),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(context))


def _validation(ca: DataSource, names: Sequence[str]) -> CertificateValidationContext:
    return CertificateValidationContext(trusted_ca=ca, match_typed_subject_alt_names=[_san(name) for name in names])


def _san(name: str) -> SubjectAltNameMatcher:
    kind = SubjectAltNameMatcherSanType.IP_ADDRESS if is_ip(name) else SubjectAltNameMatcherSanType.DNS
    if "://" in name:
        kind = SubjectAltNameMatcherSanType.URI
    return SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))


def _own(certificate: str | None, key: str | None) -> list[TlsCertificate]:
    if certificate is None:
        return []
    return [TlsCertificate(certificate_chain=DataSource(filename=certificate), private_key=DataSource(filename=key))]


def system_ca_file() -> str:
    """The file with the system's certificate authorities."""
    known = ssl.get_default_verify_paths().cafile
    candidates = (*_SYSTEM_CA_FILES, known) if known else _SYSTEM_CA_FILES
    return next((path for path in candidates if Path(path).is_file()), _SYSTEM_CA_FILES[0])


def is_ip(host: str) -> bool:
    """Whether a host is a literal address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
