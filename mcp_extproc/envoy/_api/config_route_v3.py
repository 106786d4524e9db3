"""envoy.config.route.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy._api import config_core_v3
from mcp_extproc.envoy.message import Any, Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import type_matcher_v3, type_metadata_v3, type_v3, xds_type_matcher_v3


class RateLimitActionMetaDataSource(StrEnum):
    DYNAMIC = "DYNAMIC"
    ROUTE_ENTRY = "ROUTE_ENTRY"
    CLUSTER_ENTRY = "CLUSTER_ENTRY"
    CLUSTER_LOCALITY_ENTRY = "CLUSTER_LOCALITY_ENTRY"


class DirectResponseAction(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.DirectResponseAction"
    status: int = 0
    body: config_core_v3.DataSource | None = None
    body_format: config_core_v3.SubstitutionFormatString | None = None


class FilterConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.FilterConfig"
    config: Any | None = None
    is_optional: bool = False
    disabled: bool = False


class HeaderMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.HeaderMatcher"
    name: str = ''
    exact_match: str | None = None
    safe_regex_match: type_matcher_v3.RegexMatcher | None = None
    range_match: type_v3.Int64Range | None = None
    present_match: bool | None = None
    prefix_match: str | None = None
    suffix_match: str | None = None
    contains_match: str | None = None
    string_match: type_matcher_v3.StringMatcher | None = None
    invert_match: bool = False
    treat_missing_header_as_empty: bool = False


class RateLimit(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit"
    stage: int | None = None
    disable_key: str = ''
    actions: list[RateLimitAction] = []
    limit: RateLimitOverride | None = None
    apply_on_stream_done: bool = False


class RateLimitAction(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Action"
    request_headers: RateLimitActionRequestHeaders | None = None
    generic_key: RateLimitActionGenericKey | None = None
    header_value_match: RateLimitActionHeaderValueMatch | None = None
    metadata: RateLimitActionMetaData | None = None
    extension: config_core_v3.TypedExtensionConfig | None = None


class RateLimitActionGenericKey(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Action.GenericKey"
    descriptor_value: str = ''
    default_value: str = ''
    descriptor_key: str = ''


class RateLimitActionHeaderValueMatch(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch"
    descriptor_value: str = ''
    default_value: str = ''
    descriptor_key: str = ''
    expect_match: bool | None = None
    headers: list[HeaderMatcher] = []


class RateLimitActionMetaData(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Action.MetaData"
    descriptor_key: str = ''
    metadata_key: type_metadata_v3.MetadataKey | None = None
    default_value: str = ''
    source: RateLimitActionMetaDataSource = RateLimitActionMetaDataSource.DYNAMIC
    skip_if_absent: bool = False


class RateLimitActionRequestHeaders(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Action.RequestHeaders"
    header_name: str = ''
    descriptor_key: str = ''
    skip_if_absent: bool = False


class RateLimitOverride(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Override"
    dynamic_metadata: RateLimitOverrideDynamicMetadata | None = None


class RateLimitOverrideDynamicMetadata(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RateLimit.Override.DynamicMetadata"
    metadata_key: type_metadata_v3.MetadataKey | None = None


class RetryPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RetryPolicy"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'host_selection_retry_max_attempts'})
    retry_on: str = ''
    num_retries: int | None = None
    per_try_timeout: timedelta | None = None
    per_try_idle_timeout: timedelta | None = None
    retry_priority: RetryPolicyRetryPriority | None = None
    retry_host_predicate: list[RetryPolicyRetryHostPredicate] = []
    retry_options_predicates: list[config_core_v3.TypedExtensionConfig] = []
    host_selection_retry_max_attempts: int = 0
    retriable_status_codes: list[int] = []
    retry_back_off: RetryPolicyRetryBackOff | None = None
    retriable_headers: list[HeaderMatcher] = []
    retriable_request_headers: list[HeaderMatcher] = []
    refresh_cluster_on_retry: bool = False


class RetryPolicyRetryBackOff(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RetryPolicy.RetryBackOff"
    base_interval: timedelta | None = None
    max_interval: timedelta | None = None


class RetryPolicyRetryHostPredicate(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RetryPolicy.RetryHostPredicate"
    name: str = ''
    typed_config: Any | None = None


class RetryPolicyRetryPriority(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RetryPolicy.RetryPriority"
    name: str = ''
    typed_config: Any | None = None


class Route(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.Route"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'request_body_buffer_limit'})
    name: str = ''
    match: RouteMatch | None = None
    route: RouteAction | None = None
    direct_response: DirectResponseAction | None = None
    metadata: config_core_v3.Metadata | None = None
    typed_per_filter_config: dict[str, Any] = {}
    request_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    request_headers_to_remove: list[str] = []
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    response_headers_to_remove: list[str] = []
    per_request_buffer_limit_bytes: int | None = None
    stat_prefix: str = ''
    request_body_buffer_limit: int | None = None


class RouteAction(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RouteAction"
    cluster: str | None = None
    cluster_header: str | None = None
    cluster_specifier_plugin: str | None = None
    metadata_match: config_core_v3.Metadata | None = None
    prefix_rewrite: str = ''
    path_rewrite_policy: config_core_v3.TypedExtensionConfig | None = None
    path_rewrite: str = ''
    host_rewrite_literal: str | None = None
    auto_host_rewrite: bool | None = None
    host_rewrite_header: str | None = None
    host_rewrite: str | None = None
    append_x_forwarded_host: bool = False
    timeout: timedelta | None = None
    idle_timeout: timedelta | None = None
    flush_timeout: timedelta | None = None
    early_data_policy: config_core_v3.TypedExtensionConfig | None = None
    retry_policy: RetryPolicy | None = None
    retry_policy_typed_config: Any | None = None
    priority: config_core_v3.RoutingPriority = config_core_v3.RoutingPriority.DEFAULT
    rate_limits: list[RateLimit] = []
    include_vh_rate_limits: bool | None = None
    hash_policy: list[RouteActionHashPolicy] = []
    max_grpc_timeout: timedelta | None = None
    grpc_timeout_offset: timedelta | None = None
    max_internal_redirects: int | None = None


class RouteActionHashPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RouteAction.HashPolicy"
    header: RouteActionHashPolicyHeader | None = None
    terminal: bool = False


class RouteActionHashPolicyHeader(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RouteAction.HashPolicy.Header"
    header_name: str = ''


class RouteConfiguration(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RouteConfiguration"
    name: str = ''
    virtual_hosts: list[VirtualHost] = []
    internal_only_headers: list[str] = []
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    response_headers_to_remove: list[str] = []
    request_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    request_headers_to_remove: list[str] = []
    most_specific_header_mutations_wins: bool = False
    validate_clusters: bool | None = None
    max_direct_response_body_size_bytes: int | None = None
    ignore_port_in_host_matching: bool = False
    vhost_header: str = ''
    ignore_path_parameters_in_path_matching: bool = False
    typed_per_filter_config: dict[str, Any] = {}
    metadata: config_core_v3.Metadata | None = None


class RouteMatch(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.RouteMatch"
    prefix: str | None = None
    path: str | None = None
    safe_regex: type_matcher_v3.RegexMatcher | None = None
    path_separated_prefix: str | None = None
    path_match_policy: config_core_v3.TypedExtensionConfig | None = None
    case_sensitive: bool | None = None
    runtime_fraction: config_core_v3.RuntimeFractionalPercent | None = None
    headers: list[HeaderMatcher] = []
    dynamic_metadata: list[type_matcher_v3.MetadataMatcher] = []


class VirtualHost(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.route.v3.VirtualHost"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'request_body_buffer_limit'})
    name: str = ''
    domains: list[str] = []
    routes: list[Route] = []
    matcher: xds_type_matcher_v3.Matcher | None = None
    rate_limits: list[RateLimit] = []
    request_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    request_headers_to_remove: list[str] = []
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    response_headers_to_remove: list[str] = []
    typed_per_filter_config: dict[str, Any] = {}
    include_request_attempt_count: bool = False
    include_attempt_count_in_response: bool = False
    retry_policy: RetryPolicy | None = None
    retry_policy_typed_config: Any | None = None
    include_is_timeout_retry_header: bool = False
    per_request_buffer_limit_bytes: int | None = None
    request_body_buffer_limit: int | None = None
    metadata: config_core_v3.Metadata | None = None
