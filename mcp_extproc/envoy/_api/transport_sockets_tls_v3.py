"""envoy.extensions.transport_sockets.tls.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, type_matcher_v3


class SubjectAltNameMatcherSanType(StrEnum):
    SAN_TYPE_UNSPECIFIED = "SAN_TYPE_UNSPECIFIED"
    EMAIL = "EMAIL"
    DNS = "DNS"
    URI = "URI"
    IP_ADDRESS = "IP_ADDRESS"
    OTHER_NAME = "OTHER_NAME"


class TlsParametersTlsProtocol(StrEnum):
    TLS_AUTO = "TLS_AUTO"
    TLSv1_0 = "TLSv1_0"
    TLSv1_1 = "TLSv1_1"
    TLSv1_2 = "TLSv1_2"
    TLSv1_3 = "TLSv1_3"


class CertificateValidationContext(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext"
    trusted_ca: config_core_v3.DataSource | None = None
    verify_certificate_spki: list[str] = []
    verify_certificate_hash: list[str] = []
    match_typed_subject_alt_names: list[SubjectAltNameMatcher] = []
    match_subject_alt_names: list[type_matcher_v3.StringMatcher] = []
    require_signed_certificate_timestamp: bool | None = None
    crl: config_core_v3.DataSource | None = None
    allow_expired_certificate: bool = False
    custom_validator_config: config_core_v3.TypedExtensionConfig | None = None
    only_verify_leaf_cert_crl: bool = False
    max_verify_depth: int | None = None
    suppress_client_ca_list: bool = False


class CommonTlsContext(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext"
    tls_params: TlsParameters | None = None
    tls_certificates: list[TlsCertificate] = []
    tls_certificate_sds_secret_configs: list[SdsSecretConfig] = []
    custom_tls_certificate_selector: config_core_v3.TypedExtensionConfig | None = None
    validation_context: CertificateValidationContext | None = None
    validation_context_sds_secret_config: SdsSecretConfig | None = None
    alpn_protocols: list[str] = []
    custom_handshaker: config_core_v3.TypedExtensionConfig | None = None


class DownstreamTlsContext(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common_tls_context: CommonTlsContext | None = None
    require_client_certificate: bool | None = None
    require_sni: bool | None = None
    session_ticket_keys_sds_secret_config: SdsSecretConfig | None = None
    disable_stateless_session_resumption: bool | None = None
    disable_stateful_session_resumption: bool = False
    session_timeout: timedelta | None = None
    full_scan_certs_on_sni_mismatch: bool | None = None
    prefer_client_ciphers: bool = False


class SdsSecretConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"
    name: str = ''
    sds_config: config_core_v3.ConfigSource | None = None


class SubjectAltNameMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher"
    san_type: SubjectAltNameMatcherSanType = SubjectAltNameMatcherSanType.SAN_TYPE_UNSPECIFIED
    matcher: type_matcher_v3.StringMatcher | None = None
    oid: str = ''


class TlsCertificate(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate"
    certificate_chain: config_core_v3.DataSource | None = None
    private_key: config_core_v3.DataSource | None = None
    pkcs12: config_core_v3.DataSource | None = None
    password: config_core_v3.DataSource | None = None
    ocsp_staple: config_core_v3.DataSource | None = None
    signed_certificate_timestamp: list[config_core_v3.DataSource] = []


class TlsParameters(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.TlsParameters"
    tls_minimum_protocol_version: TlsParametersTlsProtocol = TlsParametersTlsProtocol.TLS_AUTO
    tls_maximum_protocol_version: TlsParametersTlsProtocol = TlsParametersTlsProtocol.TLS_AUTO
    cipher_suites: list[str] = []
    ecdh_curves: list[str] = []
    signature_algorithms: list[str] = []


class UpstreamTlsContext(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    common_tls_context: CommonTlsContext | None = None
    sni: str = ''
    auto_host_sni: bool = False
    auto_sni_san_validation: bool = False
    allow_renegotiation: bool = False
    max_session_keys: int | None = None
    enforce_rsa_key_usage: bool | None = None
