"""envoy.extensions.filters.http.ext_proc.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message, Struct

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_common_mutation_rules_v3, config_core_v3, type_matcher_v3, type_v3


class ProcessingModeBodySendMode(StrEnum):
    NONE = "NONE"
    STREAMED = "STREAMED"
    BUFFERED = "BUFFERED"
    BUFFERED_PARTIAL = "BUFFERED_PARTIAL"
    FULL_DUPLEX_STREAMED = "FULL_DUPLEX_STREAMED"
    GRPC = "GRPC"


class ProcessingModeHeaderSendMode(StrEnum):
    DEFAULT = "DEFAULT"
    SEND = "SEND"
    SKIP = "SKIP"


class ExtProcOverrides(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.ExtProcOverrides"
    processing_mode: ProcessingMode | None = None
    async_mode: bool = False
    request_attributes: list[str] = []
    response_attributes: list[str] = []
    grpc_service: config_core_v3.GrpcService | None = None
    metadata_options: MetadataOptions | None = None
    grpc_initial_metadata: list[config_core_v3.HeaderValue] = []
    failure_mode_allow: bool | None = None
    processing_request_modifier: config_core_v3.TypedExtensionConfig | None = None


class ExtProcPerRoute(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
    disabled: bool | None = None
    overrides: ExtProcOverrides | None = None


class ExternalProcessor(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
    grpc_service: config_core_v3.GrpcService | None = None
    failure_mode_allow: bool = False
    processing_mode: ProcessingMode | None = None
    request_attributes: list[str] = []
    response_attributes: list[str] = []
    message_timeout: timedelta | None = None
    stat_prefix: str = ''
    mutation_rules: config_common_mutation_rules_v3.HeaderMutationRules | None = None
    max_message_timeout: timedelta | None = None
    forward_rules: HeaderForwardingRules | None = None
    filter_metadata: Struct | None = None
    allow_mode_override: bool = False
    disable_immediate_response: bool = False
    metadata_options: MetadataOptions | None = None
    observability_mode: bool = False
    disable_clear_route_cache: bool = False
    deferred_close_timeout: timedelta | None = None
    send_body_without_waiting_for_header_response: bool = False
    allowed_override_modes: list[ProcessingMode] = []
    processing_request_modifier: config_core_v3.TypedExtensionConfig | None = None
    on_processing_response: config_core_v3.TypedExtensionConfig | None = None
    status_on_error: type_v3.HttpStatus | None = None
    allow_content_length_header: bool = False


class HeaderForwardingRules(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.HeaderForwardingRules"
    allowed_headers: type_matcher_v3.ListStringMatcher | None = None
    disallowed_headers: type_matcher_v3.ListStringMatcher | None = None


class MetadataOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.MetadataOptions"
    forwarding_namespaces: MetadataOptionsMetadataNamespaces | None = None
    receiving_namespaces: MetadataOptionsMetadataNamespaces | None = None
    cluster_metadata_forwarding_namespaces: MetadataOptionsMetadataNamespaces | None = None


class MetadataOptionsMetadataNamespaces(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.MetadataOptions.MetadataNamespaces"
    untyped: list[str] = []
    typed: list[str] = []


class ProcessingMode(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ext_proc.v3.ProcessingMode"
    request_header_mode: ProcessingModeHeaderSendMode = ProcessingModeHeaderSendMode.DEFAULT
    response_header_mode: ProcessingModeHeaderSendMode = ProcessingModeHeaderSendMode.DEFAULT
    request_body_mode: ProcessingModeBodySendMode = ProcessingModeBodySendMode.NONE
    response_body_mode: ProcessingModeBodySendMode = ProcessingModeBodySendMode.NONE
    request_trailer_mode: ProcessingModeHeaderSendMode = ProcessingModeHeaderSendMode.DEFAULT
    response_trailer_mode: ProcessingModeHeaderSendMode = ProcessingModeHeaderSendMode.DEFAULT
