"""TLS from Envoy to servers and workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import Server, UpstreamTls
from mcp_extproc.config.tls import TlsVersion, is_ip, san_type, system_ca_file
from mcp_extproc.envoy._api.config_core_v3 import DataSource, TransportSocket
from mcp_extproc.envoy._api.transport_sockets_tls_v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from mcp_extproc.envoy._api.type_matcher_v3 import StringMatcher
from mcp_extproc.envoy.layout import Layout
from mcp_extproc.envoy.render import own_certificates
from mcp_extproc.envoy.render.typed import any_of


def to_server(name: str, server: Server, secrets: Path | None) -> TransportSocket:
    """TLS to the replicas of an MCP server. ``secrets``: folder of files with them."""
    tls = server.tls or UpstreamTls()
    sni = tls.sni or server.addresses[0][0]
    context = CommonTlsContext(
        validation_context=(
            None if tls.insecure_skip_verify else _validation(_authorities(tls), tls.subject_alt_names or [sni])
        ),
        alpn_protocols=["h2" if server.http2 else "http/1.1"],
        tls_params=_parameters(tls),
    )
    own_certificates.present(context, tls, own_certificates.of_server(name), secrets)
    return _socket(sni, context)


def _parameters(tls: UpstreamTls) -> TlsParameters:
    return TlsParameters(
        tls_minimum_protocol_version=_version(tls.min_version),
        tls_maximum_protocol_version=_version(tls.max_version or "1.3"),
        cipher_suites=list(tls.ciphers),
        ecdh_curves=list(tls.ecdh_curves),
        signature_algorithms=list(tls.signature_algorithms),
    )


def _version(text: TlsVersion | None) -> TlsParametersTlsProtocol:
    return TlsParametersTlsProtocol("TLS_AUTO" if text is None else f"TLSv{text.replace('.', '_')}")


def _authorities(tls: UpstreamTls) -> DataSource:
    return DataSource(inline_string=tls.ca_inline) if tls.ca_inline is not None else _file(tls.ca or system_ca_file())


def _file(path: str) -> DataSource:
    return DataSource(filename=path)


def to_authority(host: str, alpn: str, ca: str | None = None) -> TransportSocket:
    """TLS to a host whose certificate is of one of these authorities, by default the system's. ``alpn``: the protocol on top
    (RFC 7301)."""
    context = CommonTlsContext(
        validation_context=_validation(_file(ca or system_ca_file()), [host]), alpn_protocols=[alpn]
    )
    return _socket(host, context)


def to_workers(layout: Layout) -> TransportSocket | None:
    """TLS to the ext_proc workers; ``None`` for plaintext."""
    tls = layout.extproc_tls
    if tls is None:
        return None
    hosts = [worker.host for worker in layout.extproc if isinstance(worker, TcpAddress)]
    # A cluster sends one SNI; with several workers, each certificate has to match one of the hosts.
    names = [tls.name] if tls.name is not None else list(dict.fromkeys(hosts))
    context = CommonTlsContext(validation_context=_validation(_file(tls.ca), names), alpn_protocols=["h2"])
    if tls.certificate is not None:
        chain, key = DataSource(filename=tls.certificate), DataSource(filename=tls.key)
        context.tls_certificates = [TlsCertificate(certificate_chain=chain, private_key=key)]
    return _socket(names[0] if len(names) == 1 else "", context)


def _socket(sni: str, common: CommonTlsContext) -> TransportSocket:
    # Envoy's own maximum is 1.2 where it connects, and some servers take 1.3 only.
    common.tls_params = common.tls_params or _parameters(UpstreamTls())
    # RFC 6066 section 3: no literal addresses.
    context = UpstreamTlsContext(sni="" if is_ip(sni) else sni, common_tls_context=common)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(context))


def _validation(ca: DataSource, names: Sequence[str]) -> CertificateValidationContext:
    return CertificateValidationContext(trusted_ca=ca, match_typed_subject_alt_names=[_san(name) for name in names])


def _san(name: str) -> SubjectAltNameMatcher:
    kind = SubjectAltNameMatcherSanType(san_type(name))
    return SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
