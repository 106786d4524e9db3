"""Objects of Kubernetes itself and of its Gateway API, as far as they are read.

Source: kubernetes-sigs/gateway-api ``apis/v1`` (Gateway, BackendTLSPolicy), Kubernetes' core/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from mcp_extproc.config.config_error import PlacedError
from mcp_extproc.config.kubernetes.objects import Items, Metadata, Name, Object, Port, Section

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"


class LocalReference(Section):
    """A reference to an object of the same namespace."""

    name: Name
    group: str = ""
    kind: str


class Reference(LocalReference):
    """A reference to an object of the same namespace, or of another one."""

    namespace: Name | None = None


class SecretReference(Reference):
    """To a Secret."""

    kind: str = "Secret"

    @model_validator(mode="after")
    def _is_secret(self) -> SecretReference:
        if (self.group, self.kind) != ("", "Secret"):
            raise PlacedError(("kind",), "expected a Secret")
        return self


class Tls(Section):
    """Of a listener."""

    mode: str | None = None
    certificate_refs: Items[SecretReference] = ()
    frontend_validation: Any = None
    options: Mapping[str, str] | None = None


class Listener(Section):
    """Of a Gateway."""

    name: Name
    hostname: str | None = Field(default=None, min_length=1, max_length=253)
    port: Port
    protocol: str
    tls: Tls | None = None
    allowed_routes: Any = None


class Address(Section):
    """Of a Gateway."""

    type: str = "IPAddress"
    value: str = ""


class GatewaySpec(Section):
    """Of a Gateway."""

    gateway_class_name: str
    listeners: tuple[Listener, ...] = Field(min_length=1, max_length=64)
    addresses: Items[Address] = ()
    infrastructure: Any = None
    allowed_listeners: Any = None
    backend_tls: Any = Field(default=None, alias="backendTLS")
    tls: Any = None
    default_scope: Any = None


class Gateway(Object[GatewaySpec]):
    """Where clients connect."""


class TargetReference(Section):
    """What a policy is about."""

    group: str
    kind: str
    name: Name
    section_name: str | None = None


class SubjectAltName(Section):
    """A name that a certificate may have."""

    type: Literal["Hostname", "URI"]
    hostname: str | None = None
    uri: str | None = None

    @model_validator(mode="after")
    def _one(self) -> SubjectAltName:
        given = self.hostname if self.type == "Hostname" else self.uri
        other = self.uri if self.type == "Hostname" else self.hostname
        if not given or other:
            raise ValueError(f"expected {'hostname' if self.type == 'Hostname' else 'uri'}, which type says")
        return self

    @property
    def text(self) -> str:
        """The name."""
        return self.hostname or self.uri or ""


class Validation(Section):
    """Which certificates are accepted."""

    hostname: Name
    ca_certificate_refs: Items[LocalReference] = Field(default=(), max_length=8)
    well_known_ca_certificates: Literal["System"] | None = Field(default=None, alias="wellKnownCACertificates")
    subject_alt_names: Items[SubjectAltName] = Field(default=(), max_length=5)

    @model_validator(mode="after")
    def _one(self) -> Validation:
        if bool(self.ca_certificate_refs) == (self.well_known_ca_certificates is not None):
            raise ValueError("give either caCertificateRefs or wellKnownCACertificates")
        return self


class BackendTlsPolicySpec(Section):
    """Of a BackendTLSPolicy."""

    target_refs: tuple[TargetReference, ...] = Field(min_length=1, max_length=16)
    validation: Validation
    options: Mapping[str, str] | None = None


class BackendTlsPolicy(Object[BackendTlsPolicySpec]):
    """TLS to backends."""


class DataObject(Section):
    """An object with data instead of a ``spec``."""

    api_version: str
    kind: str
    metadata: Metadata
    immutable: bool | None = None
    data: Mapping[str, str] | None = None


class Secret(DataObject):
    """Credentials. Values are in Base64."""

    string_data: Mapping[str, str] | None = None
    type: str | None = None


class ConfigMap(DataObject):
    """Data."""

    binary_data: Mapping[str, str] | None = None


class ServicePort(Section):
    """Of a Service."""

    meaningless = frozenset({"nodePort", "protocol", "targetPort"})

    port: Port
    name: str | None = None
    app_protocol: str | None = None


_OF_CLUSTERS: Final = frozenset({
    "allocateLoadBalancerNodePorts", "clusterIP", "clusterIPs", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort",
    "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges",
    "publishNotReadyAddresses", "selector", "sessionAffinity", "sessionAffinityConfig", "trafficDistribution",
})  # fmt: skip


class ServiceSpec(Section):
    """Of a Service. What it says about pods and how a cluster reaches them has no meaning here."""

    meaningless = _OF_CLUSTERS

    type: str = "ClusterIP"
    external_name: str | None = None
    ports: Items[ServicePort] = ()

    @model_validator(mode="after")
    def _named(self) -> ServiceSpec:
        if self.type == "ExternalName" and not self.external_name:
            raise PlacedError(("externalName",), "required by type ExternalName")
        return self


class Service(Object[ServiceSpec]):
    """A name for pods, or for a host elsewhere."""
