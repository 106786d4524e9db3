"""Objects of Envoy Gateway, as far as they are read.

Source: envoyproxy/gateway ``api/v1alpha1`` (Backend, APIKeyAuth, ExtAuth, JWT).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.kubernetes.gateway_api import LocalReference, Reference, SecretReference
from mcp_extproc.config.kubernetes.objects import Items, Name, Object, Port, Section
from mcp_extproc.config.tls import TlsVersion
from mcp_extproc.config.values import Seconds

GROUP = "gateway.envoyproxy.io"


class Fqdn(Section):
    """A host by its name."""

    hostname: Name
    port: Port


class Ip(Section):
    """A host by its address."""

    address: Name
    port: Port


class Unix(Section):
    """A Unix socket."""

    path: str = Field(min_length=1, max_length=108)


class Endpoint(Section):
    """A replica."""

    fqdn: Fqdn | None = None
    ip: Ip | None = None
    unix: Unix | None = None
    hostname: str | None = None
    zone: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Endpoint:
        if sum(one is not None for one in (self.fqdn, self.ip, self.unix)) != 1:
            raise ValueError("give exactly one of fqdn, ip and unix")
        return self


class BackendTls(Section):
    """TLS of a Backend."""

    ca_certificate_refs: Items[LocalReference] = Field(default=(), max_length=8)
    well_known_ca_certificates: Literal["System"] | None = Field(default=None, alias="wellKnownCACertificates")
    insecure_skip_verify: bool = False
    sni: str | None = Field(default=None, min_length=1)
    client_certificate_ref: SecretReference | None = None
    min_version: TlsVersion | Literal["Auto"] | None = None
    max_version: TlsVersion | Literal["Auto"] | None = None
    ciphers: Items[str] = ()
    ecdh_curves: Items[str] = ()
    signature_algorithms: Items[str] = ()
    alpn_protocols: Items[str] = ()

    @model_validator(mode="after")
    def _one(self) -> BackendTls:
        if self.ca_certificate_refs and self.well_known_ca_certificates is not None:
            raise ValueError("caCertificateRefs and wellKnownCACertificates exclude each other")
        if self.insecure_skip_verify and (self.ca_certificate_refs or self.well_known_ca_certificates is not None):
            raise ValueError("insecureSkipVerify excludes caCertificateRefs and wellKnownCACertificates")
        return self


class BackendSpec(Section):
    """Of a Backend."""

    type: Literal["Endpoints", "DynamicResolver"] = "Endpoints"
    endpoints: Items[Endpoint] = Field(default=(), max_length=256)
    app_protocols: Items[str] = ()
    fallback: bool = False
    tls: BackendTls | None = None

    @model_validator(mode="after")
    def _fit(self) -> BackendSpec:
        if self.type == "DynamicResolver" and self.endpoints:
            raise PlacedError(("endpoints",), "type DynamicResolver has no endpoints")
        if self.type == "Endpoints" and not self.endpoints:
            raise PlacedError(("endpoints",), "expected a list that is not empty")
        if len({endpoint.fqdn is not None for endpoint in self.endpoints}) > 1:
            raise PlacedError(("endpoints",), "fqdn can't be mixed with ip or unix")
        return self


class Backend(Object[BackendSpec]):
    """A server's replicas."""


class ClaimToHeader(Section):
    """A claim that servers get in a header."""

    claim: Name
    header: Name


class BackendReference(Reference):
    """A service that is asked, or has keys."""

    kind: str = "Service"
    port: Port | None = None
    weight: int | None = None
    fallback: bool | None = None


class RemoteJwks(Section):
    """Keys at a URL."""

    uri: str = Field(min_length=1, max_length=253)
    cache_duration: str = "300s"
    backend_refs: Items[BackendReference] = Field(default=(), max_length=16)
    backend_settings: Any = None
    backend_ref: Any = None


class LocalJwks(Section):
    """Keys in the file."""

    type: Literal["Inline", "ValueRef"] = "Inline"
    inline: str | None = None
    value_ref: LocalReference | None = None

    @model_validator(mode="after")
    def _given(self) -> LocalJwks:
        if (self.type == "Inline") != (self.inline is not None) or (self.type == "ValueRef") != (
            self.value_ref is not None
        ):
            raise ValueError(f"expected {'inline' if self.type == 'Inline' else 'valueRef'}, which type says")
        return self


class ExtractFrom(Section):
    """Where clients send a key."""

    headers: Items[str] = ()
    params: Items[str] = ()
    cookies: Items[str] = ()

    @model_validator(mode="after")
    def _one(self) -> ExtractFrom:
        if sum(map(bool, (self.headers, self.params, self.cookies))) != 1:
            raise ValueError("give exactly one of headers, params and cookies")
        return self


class ApiKeyAuth(Section):
    """API keys of clients."""

    credential_refs: tuple[SecretReference, ...] = Field(min_length=1)
    extract_from: tuple[ExtractFrom, ...] = Field(min_length=1)
    forward_client_id_header: str | None = Field(default=None, alias="forwardClientIDHeader")
    sanitize: bool | None = None


class GrpcExtAuth(Section):
    """A gRPC service that is asked."""

    backend_ref: BackendReference | None = None
    backend_refs: Items[BackendReference] = Field(default=(), max_length=16)
    backend_settings: Any = None


class HttpExtAuth(GrpcExtAuth):
    """An HTTP service that is asked."""

    path: str | None = None
    path_override: str | None = None
    headers_to_backend: Items[str] = ()

    @model_validator(mode="after")
    def _one_path(self) -> HttpExtAuth:
        if self.path is not None and self.path_override is not None:
            raise ValueError("only one of path or pathOverride can be specified")
        return self


class BodyToExtAuth(Section):
    """Whether it gets the body."""

    max_request_bytes: int = Field(ge=1)


class ValueReference(LocalReference):
    """A value of a ConfigMap or Secret."""

    key: str


class ContextExtension(Section):
    """A value that it gets with each question."""

    name: str
    type: Literal["Value", "ValueRef"] = "Value"
    value: str | None = None
    value_ref: ValueReference | None = None

    @model_validator(mode="after")
    def _one(self) -> ContextExtension:
        given = (self.value is not None, self.value_ref is not None)
        if given != (self.type == "Value", self.type == "ValueRef"):
            raise ValueError("Exactly one of value or valueRef must be set with correct type.")
        return self


_ERRORS: Final = frozenset(
    status.value for status in HTTPStatus if status.value >= HTTPStatus.BAD_REQUEST and status not in (418, 425, 451)
)
"""Those that Envoy Gateway takes."""


class ExtAuth(Section):
    """A service that decides."""

    grpc: GrpcExtAuth | None = None
    http: HttpExtAuth | None = None
    headers_to_ext_auth: Items[str] = ()
    body_to_ext_auth: BodyToExtAuth | None = None
    context_extensions: Items[ContextExtension] = ()
    fail_open: bool = False
    status_on_error: int | None = None
    """One that Envoy can answer, which are those of errors."""
    timeout: Seconds | None = None
    recompute_route: bool = False
    include_route_metadata: bool = False

    @field_validator("context_extensions")
    @classmethod
    def _once(cls, value: tuple[ContextExtension, ...]) -> tuple[ContextExtension, ...]:
        if len({one.name for one in value}) != len(value):
            raise ValueError("a name is listed twice")
        return value

    @field_validator("status_on_error")
    @classmethod
    def _of_an_error(cls, value: int | None) -> int | None:
        if value is not None and value not in _ERRORS:
            raise ValueError("expected the status of an error, such as 503")
        return value

    @model_validator(mode="after")
    def _one(self) -> ExtAuth:
        if (self.grpc is None) == (self.http is None):
            raise ValueError("one of grpc or http must be specified")
        return self


class JwtClaim(Section):
    """A claim that a token has to have."""

    name: Name
    value_type: Literal["String", "StringArray"] = "String"
    values: tuple[str, ...] = Field(min_length=1, max_length=128)


Action = Literal["Allow", "Deny"]
