"""envoy.extensions.filters.http.cors.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, type_matcher_v3


class Cors(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.cors.v3.Cors"


class CorsPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.cors.v3.CorsPolicy"
    allow_origin_string_match: list[type_matcher_v3.StringMatcher] = []
    allow_methods: str = ''
    allow_headers: str = ''
    expose_headers: str = ''
    max_age: str = ''
    allow_credentials: bool | None = None
    filter_enabled: config_core_v3.RuntimeFractionalPercent | None = None
    shadow_enabled: config_core_v3.RuntimeFractionalPercent | None = None
    allow_private_network_access: bool | None = None
    forward_not_matching_preflights: bool | None = None
