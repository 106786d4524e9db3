"""MCPRoute of Envoy AI Gateway, with its defaults and rules, those in CEL included.

Source: envoyproxy/ai-gateway ``api/v1beta1/mcp_route.go``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.kubernetes.envoy_gateway import (
    Action,
    ApiKeyAuth,
    ClaimToHeader,
    ExtAuth,
    JwtClaim,
    LocalJwks,
    RemoteJwks,
)
from mcp_extproc.config.kubernetes.gateway_api import GATEWAY_GROUP, SecretReference
from mcp_extproc.config.kubernetes.objects import Items, Name, Object, Port, Section


class ParentReference(Section):
    """A Gateway that the route is attached to."""

    group: str = GATEWAY_GROUP
    kind: str = "Gateway"
    namespace: Name | None = None
    name: Name
    section_name: str | None = None
    port: Port | None = None


class HeaderMatch(Section):
    """A header by which the route is chosen."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: Name
    value: str = Field(min_length=1, max_length=4096)


class ToolFilter(Section):
    """Which tools are offered."""

    include: Items[str] = Field(default=(), max_length=32)
    include_regex: Items[str] = Field(default=(), max_length=32)
    exclude: Items[str] = Field(default=(), max_length=32)
    exclude_regex: Items[str] = Field(default=(), max_length=32)

    @model_validator(mode="after")
    def _fit(self) -> ToolFilter:
        given = self.model_fields_set
        if {"include", "include_regex"} <= given:
            raise ValueError("include and includeRegex are mutually exclusive")
        if {"exclude", "exclude_regex"} <= given:
            raise ValueError("exclude and excludeRegex are mutually exclusive")
        if not given:
            raise ValueError("at least one of include, includeRegex, exclude, or excludeRegex must be specified")
        return self


class BackendApiKey(Section):
    """A credential for a server."""

    secret_ref: SecretReference | None = None
    inline: str | None = None
    header: str | None = Field(default=None, min_length=1)
    query_param: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> BackendApiKey:
        if (self.secret_ref is None) == (self.inline is None):
            raise ValueError("exactly one of secretRef or inline must be set")
        if self.header is not None and self.query_param is not None:
            raise ValueError("only one of header or queryParam can be set")
        return self


class BackendSecurityPolicy(Section):
    """Credentials for a server."""

    api_key: BackendApiKey | None = None


class ForwardHeader(Section):
    """A header of the client that the server gets."""

    name: str = Field(min_length=1)
    backend_header: str | None = Field(default=None, min_length=1)


class BackendRef(Section):
    """A server behind the route. Its name is the prefix of its tools."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "headers": "a credential goes into securityPolicy.apiKey, headers of callers into forwardHeaders",
        "credentials": "a credential goes into securityPolicy.apiKey, headers of callers into forwardHeaders",
        "url": "where the server is says a Backend, or a Service",
    }

    group: str = ""
    kind: str = "Service"
    name: Name
    namespace: Name | None = None
    port: Port | None = None
    path: str = Field(default="/mcp", max_length=1024)
    tool_selector: ToolFilter | None = None
    security_policy: BackendSecurityPolicy | None = None
    forward_headers: Items[ForwardHeader] = Field(default=(), max_length=32)

    @model_validator(mode="after")
    def _port(self) -> BackendRef:
        if (self.group, self.kind) == ("", "Service") and self.port is None:
            raise PlacedError(("port",), "Must have port for Service reference")
        return self


class Jwks(Section):
    """The issuer's keys."""

    remote_jwks: RemoteJwks | None = Field(default=None, alias="remoteJWKS")
    local_jwks: LocalJwks | None = Field(default=None, alias="localJWKS")

    @model_validator(mode="after")
    def _one(self) -> Jwks:
        if self.remote_jwks is None and self.local_jwks is None:
            raise ValueError("either remoteJWKS or localJWKS must be specified")
        if self.remote_jwks is not None and self.local_jwks is not None:
            raise ValueError("remoteJWKS and localJWKS cannot both be specified")
        return self


class ProtectedResourceMetadata(Section):
    """What clients are told (RFC 9728)."""

    resource: str = Field(min_length=1)
    resource_name: str | None = Field(default=None, max_length=256)
    scopes_supported: Items[str] = Field(default=(), max_length=32)
    resource_signing_alg_values_supported: Items[str] = Field(default=(), min_length=1, max_length=16)
    resource_documentation: str | None = None
    resource_policy_uri: str | None = None


class OAuth(Section):
    """Access tokens."""

    issuer: str = Field(min_length=1)
    audiences: Items[str] = Field(default=(), max_length=32)
    jwks: Jwks | None = None
    protected_resource_metadata: ProtectedResourceMetadata
    claim_to_headers: Items[ClaimToHeader] = Field(default=(), max_length=16)


class JwtSource(Section):
    """Tokens that a rule is about."""

    scopes: Items[str] = Field(default=(), max_length=16)
    claims: Items[JwtClaim] = Field(default=(), max_length=16)

    @field_validator("claims")
    @classmethod
    def _no_scope(cls, value: tuple[JwtClaim, ...]) -> tuple[JwtClaim, ...]:
        if any(claim.name == "scope" for claim in value):
            raise ValueError("'scope' claim name is reserved for OAuth scopes")
        return value

    @model_validator(mode="after")
    def _some(self) -> JwtSource:
        if not self.scopes and not self.claims:
            raise ValueError("either scopes or claims must be specified")
        return self


class Source(Section):
    """Callers that a rule is about."""

    jwt: JwtSource


class ToolCall(Section):
    """A tool of a server."""

    backend: str
    tool: str


class Target(Section):
    """Tools that a rule is about."""

    tools: tuple[ToolCall, ...] = Field(min_length=1, max_length=16)


class AuthorizationRule(Section):
    """A rule."""

    source: Source | None = None
    target: Target | None = None
    cel: str | None = Field(default=None, max_length=4096)
    action: Action = "Allow"


class RouteAuthorization(Section):
    """Who may call which tool."""

    default_action: Action = "Deny"
    rules: Items[AuthorizationRule] = Field(default=(), max_length=32)


class RouteSecurityPolicy(Section):
    """Who may call."""

    oauth: OAuth | None = None
    api_key_auth: ApiKeyAuth | None = None
    ext_auth: ExtAuth | None = None
    authorization: RouteAuthorization | None = None

    @model_validator(mode="after")
    def _tokens(self) -> RouteSecurityPolicy:
        rules = self.authorization.rules if self.authorization is not None else ()
        if self.oauth is None and any(rule.source is not None for rule in rules):
            raise ValueError("oauth must be configured when any authorization rule uses a jwt source")
        return self


class SelectorRule(Section):
    """A rule for servers."""

    cel: str | None = Field(default=None, max_length=4096)
    action: Action = "Allow"


class BackendSelector(Section):
    """Which servers a session has."""

    default_action: Action = "Deny"
    rules: Items[SelectorRule] = Field(default=(), max_length=32)


class McpRouteSpec(Section):
    """Of an MCPRoute."""

    parent_refs: tuple[ParentReference, ...] = Field(min_length=1, max_length=16)
    path: str = Field(default="/mcp", max_length=1024)
    headers: Items[HeaderMatch] = Field(default=(), max_length=16)
    hostnames: Items[str] = Field(default=(), max_length=16)
    backend_refs: tuple[BackendRef, ...] = Field(min_length=1, max_length=256)
    security_policy: RouteSecurityPolicy | None = None
    backend_selector: BackendSelector | None = None

    @field_validator("parent_refs")
    @classmethod
    def _gateways(cls, value: tuple[ParentReference, ...]) -> tuple[ParentReference, ...]:
        if any(one.kind != "Gateway" for one in value):
            raise ValueError("only Gateway is supported")
        return value

    @field_validator("backend_refs")
    @classmethod
    def _unique(cls, value: tuple[BackendRef, ...]) -> tuple[BackendRef, ...]:
        if len({one.name for one in value}) != len(value):
            raise ValueError("all backendRefs names must be unique")
        return value

    @field_validator("headers")
    @classmethod
    def _once(cls, value: tuple[HeaderMatch, ...]) -> tuple[HeaderMatch, ...]:
        if len({one.name.lower() for one in value}) != len(value):
            raise ValueError("a header is listed twice")
        return value


class McpRoute(Object[McpRouteSpec]):
    """An MCP endpoint with its servers."""
