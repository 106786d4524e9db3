"""envoy.config.accesslog.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Any, Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, type_matcher_v3, type_v3


class ComparisonFilterOp(StrEnum):
    EQ = "EQ"
    GE = "GE"
    LE = "LE"
    NE = "NE"


class AccessLog(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.AccessLog"
    name: str = ''
    filter: AccessLogFilter | None = None
    typed_config: Any | None = None


class AccessLogFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.AccessLogFilter"
    status_code_filter: StatusCodeFilter | None = None
    runtime_filter: RuntimeFilter | None = None
    and_filter: AndFilter | None = None
    or_filter: OrFilter | None = None
    response_flag_filter: ResponseFlagFilter | None = None
    extension_filter: ExtensionFilter | None = None
    metadata_filter: MetadataFilter | None = None


class AndFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.AndFilter"
    filters: list[AccessLogFilter] = []


class ComparisonFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.ComparisonFilter"
    op: ComparisonFilterOp = ComparisonFilterOp.EQ
    value: config_core_v3.RuntimeUInt32 | None = None


class ExtensionFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.ExtensionFilter"
    name: str = ''
    typed_config: Any | None = None


class MetadataFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.MetadataFilter"
    matcher: type_matcher_v3.MetadataMatcher | None = None
    match_if_key_not_found: bool | None = None


class OrFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.OrFilter"
    filters: list[AccessLogFilter] = []


class ResponseFlagFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.ResponseFlagFilter"
    flags: list[str] = []


class RuntimeFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.RuntimeFilter"
    runtime_key: str = ''
    percent_sampled: type_v3.FractionalPercent | None = None
    use_independent_randomness: bool = False


class StatusCodeFilter(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.accesslog.v3.StatusCodeFilter"
    comparison: ComparisonFilter | None = None
