"""envoy.extensions.filters.http.ext_authz.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy._api import config_core_v3
from mcp_extproc.envoy.message import Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_common_mutation_rules_v3, type_matcher_v3, type_v3


class AuthorizationResponse(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_authz.v3.AuthorizationResponse"
    allowed_upstream_headers: type_matcher_v3.ListStringMatcher | None = None
    allowed_upstream_headers_to_append: type_matcher_v3.ListStringMatcher | None = None
    allowed_client_headers: type_matcher_v3.ListStringMatcher | None = None
    allowed_client_headers_on_success: type_matcher_v3.ListStringMatcher | None = None
    dynamic_metadata_from_headers: type_matcher_v3.ListStringMatcher | None = None


class ExtAuthz(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
    grpc_service: config_core_v3.GrpcService | None = None
    http_service: HttpService | None = None
    transport_api_version: config_core_v3.ApiVersion = config_core_v3.ApiVersion.AUTO
    failure_mode_allow: bool = False
    failure_mode_allow_header_add: bool = False
    clear_route_cache: bool = False
    status_on_error: type_v3.HttpStatus | None = None
    validate_mutations: bool = False
    metadata_context_namespaces: list[str] = []
    typed_metadata_context_namespaces: list[str] = []
    route_metadata_context_namespaces: list[str] = []
    route_typed_metadata_context_namespaces: list[str] = []
    filter_enabled: config_core_v3.RuntimeFractionalPercent | None = None
    filter_enabled_metadata: type_matcher_v3.MetadataMatcher | None = None
    include_peer_certificate: bool = False
    stat_prefix: str = ''
    bootstrap_metadata_labels_key: str = ''
    allowed_headers: type_matcher_v3.ListStringMatcher | None = None
    disallowed_headers: type_matcher_v3.ListStringMatcher | None = None
    include_tls_session: bool = False
    charge_cluster_response_stats: bool | None = None
    encode_raw_headers: bool = False
    decoder_header_mutation_rules: config_common_mutation_rules_v3.HeaderMutationRules | None = None
    enable_dynamic_metadata_ingestion: bool | None = None
    filter_metadata: Struct | None = None
    emit_filter_state_stats: bool = False
    max_denied_response_body_bytes: int = 0
    enforce_response_header_limits: bool = False
    shadow_mode: bool = False


class HttpService(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_authz.v3.HttpService"
    server_uri: config_core_v3.HttpUri | None = None
    path_prefix: str = ''
    path_override: str = ''
    authorization_response: AuthorizationResponse | None = None
    retry_policy: config_core_v3.RetryPolicy | None = None
