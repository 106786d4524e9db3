"""envoy.extensions.filters.http.jwt_authn.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, config_route_v3, type_matcher_v3


class JwksAsyncFetch(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwksAsyncFetch"
    fast_listener: bool = False
    failed_refetch_duration: timedelta | None = None


class JwtAuthentication(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    providers: dict[str, JwtProvider] = {}
    rules: list[RequirementRule] = []
    bypass_cors_preflight: bool = False
    requirement_map: dict[str, JwtRequirement] = {}
    strip_failure_response: bool = False
    stat_prefix: str = ''


class JwtCacheConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtCacheConfig"
    jwt_cache_size: int = 0
    jwt_max_token_size: int = 0


class JwtHeader(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtHeader"
    name: str = ''
    value_prefix: str = ''


class JwtProvider(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider"
    issuer: str = ''
    audiences: list[str] = []
    subjects: type_matcher_v3.StringMatcher | None = None
    require_expiration: bool = False
    max_lifetime: timedelta | None = None
    remote_jwks: RemoteJwks | None = None
    local_jwks: config_core_v3.DataSource | None = None
    forward: bool = False
    from_headers: list[JwtHeader] = []
    from_params: list[str] = []
    from_cookies: list[str] = []
    forward_payload_header: str = ''
    pad_forward_payload_header: bool = False
    payload_in_metadata: str = ''
    normalize_payload_in_metadata: JwtProviderNormalizePayload | None = None
    header_in_metadata: str = ''
    failed_status_in_metadata: str = ''
    clock_skew_seconds: int = 0
    jwt_cache_config: JwtCacheConfig | None = None
    clear_route_cache: bool = False


class JwtProviderNormalizePayload(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider.NormalizePayload"
    space_delimited_claims: list[str] = []


class JwtRequirement(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement"
    provider_name: str | None = None
    requires_any: JwtRequirementOrList | None = None


class JwtRequirementOrList(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementOrList"
    requirements: list[JwtRequirement] = []


class PerRouteConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig"
    disabled: bool | None = None
    requirement_name: str | None = None


class RemoteJwks(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.RemoteJwks"
    http_uri: config_core_v3.HttpUri | None = None
    cache_duration: timedelta | None = None
    async_fetch: JwksAsyncFetch | None = None
    retry_policy: config_core_v3.RetryPolicy | None = None


class RequirementRule(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.jwt_authn.v3.RequirementRule"
    match: config_route_v3.RouteMatch | None = None
    requires: JwtRequirement | None = None
    requirement_name: str | None = None
