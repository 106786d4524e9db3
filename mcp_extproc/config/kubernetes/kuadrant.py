"""Objects of Kuadrant's MCP gateway, with their defaults and rules, those in CEL included.

Source: Kuadrant/mcp-gateway ``api/v1/types.go`` and ``api/v1/mcpgatewayextension_types.go``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mcp_extproc.config.kubernetes.gateway_api import GATEWAY_GROUP
from mcp_extproc.config.kubernetes.objects import Items, Name, Object, Section

Switch = Literal["Enabled", "Disabled"]

_PREFIX = re.compile(r"[a-z0-9][a-z0-9_]*")

Word = Annotated[str, Field(min_length=1, max_length=128)]


class RouteReference(Section):
    """The HTTPRoute that leads to a server."""

    group: Literal["gateway.networking.k8s.io"] = GATEWAY_GROUP
    kind: Literal["HTTPRoute"] = "HTTPRoute"
    name: Name
    namespace: Name | None = None


class CredentialReference(Section):
    """A credential in a Secret."""

    name: Name
    key: str = Field(default="token", min_length=1)


class CaReference(Section):
    """An authority's certificate in a Secret."""

    name: Name
    key: str = Field(default="ca.crt", min_length=1)


class TokenUrlElicitation(Section):
    """Users are asked for tokens of their own."""

    url: str | None = None


class RegistrationSpec(Section):
    """Of an MCPServerRegistration."""

    target_ref: RouteReference
    prefix: str = Field(default="", max_length=48)
    path: str = "/mcp"
    credential_ref: CredentialReference | None = None
    ca_cert_secret_ref: CaReference | None = None
    state: Switch = "Enabled"
    user_specific_list: Switch = "Disabled"
    token_url_elicitation: TokenUrlElicitation | None = Field(default=None, alias="tokenURLElicitation")
    category: Items[Word] = Field(default=(), max_length=3)
    hint: str | None = Field(default=None, max_length=256)
    tags: Items[Word] = Field(default=(), max_length=10)

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        # One that is empty is absent, as there.
        if value and not _PREFIX.fullmatch(value):
            raise ValueError("expected lower-case letters, digits and _, beginning with a letter or digit")
        return value

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("expected a path that begins with /")
        return value

    @model_validator(mode="after")
    def _own_names(self) -> RegistrationSpec:
        if self.user_specific_list == "Enabled" and not self.prefix:
            raise ValueError("prefix is required when userSpecificList is Enabled")
        return self


class Registration(Object[RegistrationSpec]):
    """A server."""


class VirtualServerSpec(Section):
    """Of an MCPVirtualServer."""

    description: str | None = None
    tools: tuple[str, ...] = Field(min_length=1)
    prompts: tuple[str, ...] | None = None


class VirtualServerObject(Object[VirtualServerSpec]):
    """A selection of tools."""


class ListenerReference(Section):
    """The listener of a Gateway where clients connect."""

    group: Literal["gateway.networking.k8s.io"] = GATEWAY_GROUP
    kind: Literal["Gateway"] = "Gateway"
    name: Name
    namespace: Name | None = None
    section_name: Name


class GatewayExtensionSpec(Section):
    """Of an MCPGatewayExtension."""

    target_ref: ListenerReference
    public_host: str | None = None
    private_host: str | None = None
    backend_ping_interval_seconds: int | None = Field(default=None, ge=10, le=7200)
    trusted_headers_key: Any = None
    http_route_management: Switch = "Enabled"
    log_level: Literal["debug", "info", "warn", "error"] | None = None
    session_store: Any = None
    url_elicitation: Switch = "Disabled"
    oauth_protected_resource: Any = None
    ca_cert_bundle_ref: CaReference | None = None
    max_body_bytes: int | None = None


class GatewayExtension(Object[GatewayExtensionSpec]):
    """Where clients connect."""
