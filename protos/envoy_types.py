"""Writes the messages of Envoy's API that the gateway renders into the package. envoy-data-plane has all of them.

    python -m protos.envoy_types

Importing and filling in the whole API's classes took most of a start, and most of the supervisor's memory. To use another
message, name it in `MESSAGES`. A field whose message is not named there is left out.
"""

from __future__ import annotations

import importlib
import re
import typing
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import betterproto2
from betterproto2 import FieldMetadata
from envoy_data_plane.google import protobuf as well_known
from envoy_data_plane.message_pool import default_message_pool

FOLDER = Path(__file__).resolve().parent.parent / "mcp_extproc" / "envoy" / "_api"

MESSAGES: dict[str, list[str]] = {
    "envoy.config.accesslog.v3": [
        "AccessLog",
        "AccessLogFilter",
        "AndFilter",
        "ComparisonFilter",
        "ComparisonFilterOp",
        "ExtensionFilter",
        "MetadataFilter",
        "OrFilter",
        "ResponseFlagFilter",
        "RuntimeFilter",
        "StatusCodeFilter",
    ],
    "envoy.config.bootstrap.v3": [
        "Admin",
        "Bootstrap",
        "BootstrapStaticResources",
        "LayeredRuntime",
        "RuntimeLayer",
        "RuntimeLayerAdminLayer",
    ],
    "envoy.config.cluster.v3": [
        "CircuitBreakers",
        "CircuitBreakersThresholds",
        "Cluster",
        "ClusterCommonLbConfig",
        "ClusterCustomClusterType",
        "ClusterDiscoveryType",
        "ClusterDnsLookupFamily",
        "ClusterLbPolicy",
        "ClusterTransportSocketMatch",
        "LoadBalancingPolicy",
        "LoadBalancingPolicyPolicy",
        "OutlierDetection",
        "UpstreamConnectionOptions",
    ],
    "envoy.config.common.mutation_rules.v3": ["HeaderMutation", "HeaderMutationRemoveOnMatch", "HeaderMutationRules"],
    "envoy.config.core.v3": [
        "Address",
        "ApiVersion",
        "BackoffStrategy",
        "ConfigSource",
        "DataSource",
        "GrpcService",
        "GrpcServiceEnvoyGrpc",
        "HeaderValue",
        "HeaderValueOption",
        "HeaderValueOptionHeaderAppendAction",
        "HealthCheck",
        "HealthCheckGrpcHealthCheck",
        "HealthCheckHttpHealthCheck",
        "HealthCheckTcpHealthCheck",
        "Http1ProtocolOptions",
        "Http2ProtocolOptions",
        "Http2ProtocolOptionsSettingsParameter",
        "HttpProtocolOptions",
        "HttpProtocolOptionsHeadersWithUnderscoresAction",
        "HttpUri",
        "KeepaliveSettings",
        "KeyValueMutation",
        "Metadata",
        "PathConfigSource",
        "Pipe",
        "RetryPolicy",
        "RetryPolicyRetryHostPredicate",
        "RoutingPriority",
        "RuntimeFractionalPercent",
        "RuntimeUInt32",
        "SocketAddress",
        "SocketOption",
        "SocketOptionSocketState",
        "SocketOptionsOverride",
        "SubstitutionFormatString",
        "TcpKeepalive",
        "TransportSocket",
        "TypedExtensionConfig",
    ],
    "envoy.config.endpoint.v3": [
        "ClusterLoadAssignment",
        "ClusterLoadAssignmentPolicy",
        "Endpoint",
        "EndpointAdditionalAddress",
        "EndpointHealthCheckConfig",
        "LbEndpoint",
        "LocalityLbEndpoints",
    ],
    "envoy.config.listener.v3": ["AdditionalAddress", "Filter", "FilterChain", "Listener"],
    "envoy.config.overload.v3": [
        "BufferFactoryConfig",
        "OverloadAction",
        "OverloadManager",
        "ResourceMonitor",
        "ScaledTrigger",
        "ThresholdTrigger",
        "Trigger",
    ],
    "envoy.config.ratelimit.v3": ["RateLimitServiceConfig"],
    "envoy.config.rbac.v3": [
        "MetadataSource",
        "Permission",
        "Policy",
        "Principal",
        "PrincipalSet",
        "Rbac",
        "RbacAction",
        "SourcedMetadata",
    ],
    "envoy.config.route.v3": [
        "DirectResponseAction",
        "FilterConfig",
        "HeaderMatcher",
        "RateLimit",
        "RateLimitAction",
        "RateLimitActionGenericKey",
        "RateLimitActionHeaderValueMatch",
        "RateLimitActionMetaData",
        "RateLimitActionMetaDataSource",
        "RateLimitActionRequestHeaders",
        "RateLimitOverride",
        "RateLimitOverrideDynamicMetadata",
        "RetryPolicy",
        "RetryPolicyRetryBackOff",
        "RetryPolicyRetryHostPredicate",
        "RetryPolicyRetryPriority",
        "Route",
        "RouteAction",
        "RouteActionHashPolicy",
        "RouteActionHashPolicyHeader",
        "RouteConfiguration",
        "RouteMatch",
        "VirtualHost",
    ],
    "envoy.extensions.access_loggers.file.v3": ["FileAccessLog"],
    "envoy.extensions.access_loggers.filters.cel.v3": ["ExpressionFilter"],
    "envoy.extensions.access_loggers.grpc.v3": ["CommonGrpcAccessLogConfig", "HttpGrpcAccessLogConfig"],
    "envoy.extensions.clusters.common.dns.v3": ["DnsLookupFamily"],
    "envoy.extensions.clusters.dns.v3": ["DnsCluster", "DnsClusterRefreshRate"],
    "envoy.extensions.common.matching.v3": ["ExtensionWithMatcher"],
    "envoy.extensions.common.ratelimit.v3": ["LocalRateLimitDescriptor", "RateLimitDescriptorEntry"],
    "envoy.extensions.filters.common.matcher.action.v3": ["SkipFilter"],
    "envoy.extensions.filters.http.api_key_auth.v3": [
        "ApiKeyAuth",
        "ApiKeyAuthPerRoute",
        "Credential",
        "Forwarding",
        "KeySource",
    ],
    "envoy.extensions.filters.http.buffer.v3": ["Buffer", "BufferPerRoute"],
    "envoy.extensions.filters.http.composite.v3": ["Composite", "ExecuteFilterAction"],
    "envoy.extensions.filters.http.cors.v3": ["Cors", "CorsPolicy"],
    "envoy.extensions.filters.http.credential_injector.v3": ["CredentialInjector"],
    "envoy.extensions.filters.http.custom_response.v3": ["CustomResponse"],
    "envoy.extensions.filters.http.ext_proc.v3": [
        "ExtProcOverrides",
        "ExtProcPerRoute",
        "ExternalProcessor",
        "HeaderForwardingRules",
        "MetadataOptions",
        "MetadataOptionsMetadataNamespaces",
        "ProcessingMode",
        "ProcessingModeBodySendMode",
        "ProcessingModeHeaderSendMode",
    ],
    "envoy.extensions.filters.http.ext_authz.v3": ["AuthorizationResponse", "ExtAuthz", "HttpService"],
    "envoy.extensions.filters.http.header_mutation.v3": ["HeaderMutation", "HeaderMutationPerRoute", "Mutations"],
    "envoy.extensions.filters.http.header_to_metadata.v3": ["Config", "ConfigKeyValuePair", "ConfigRule"],
    "envoy.extensions.filters.http.jwt_authn.v3": [
        "JwksAsyncFetch",
        "JwtAuthentication",
        "JwtCacheConfig",
        "JwtHeader",
        "JwtProvider",
        "JwtProviderNormalizePayload",
        "JwtRequirement",
        "JwtRequirementOrList",
        "PerRouteConfig",
        "RemoteJwks",
        "RequirementRule",
    ],
    "envoy.extensions.filters.http.local_ratelimit.v3": ["LocalRateLimit"],
    "envoy.extensions.filters.http.ratelimit.v3": ["RateLimit", "RateLimitXRateLimitHeadersRfcVersion"],
    "envoy.extensions.filters.http.rbac.v3": ["Rbac"],
    "envoy.extensions.filters.http.router.v3": ["Router"],
    "envoy.extensions.filters.http.set_metadata.v3": ["Config", "Metadata"],
    "envoy.extensions.filters.http.stateful_session.v3": ["StatefulSession", "StatefulSessionPerRoute"],
    "envoy.extensions.filters.http.upstream_codec.v3": ["UpstreamCodec"],
    "envoy.extensions.filters.network.http_connection_manager.v3": [
        "HttpConnectionManager",
        "HttpConnectionManagerPathWithEscapedSlashesAction",
        "HttpFilter",
        "LocalReplyConfig",
        "ResponseMapper",
    ],
    "envoy.extensions.http.custom_response.local_response_policy.v3": ["LocalResponsePolicy"],
    "envoy.extensions.http.early_header_mutation.header_mutation.v3": ["HeaderMutation"],
    "envoy.extensions.http.injected_credentials.oauth2.v3": [
        "OAuth2",
        "OAuth2AuthType",
        "OAuth2ClientCredentials",
        "OAuth2EndpointParameter",
    ],
    "envoy.extensions.http.stateful_session.envelope.v3": ["EnvelopeSessionState", "EnvelopeSessionStateHeader"],
    "envoy.extensions.load_balancing_policies.common.v3": ["ConsistentHashingLbConfig"],
    "envoy.extensions.load_balancing_policies.ring_hash.v3": ["RingHash"],
    "envoy.extensions.matching.common_inputs.network.v3": ["DynamicMetadataInput", "DynamicMetadataInputPathSegment"],
    "envoy.extensions.matching.input_matchers.metadata.v3": ["Metadata"],
    "envoy.extensions.resource_monitors.downstream_connections.v3": ["DownstreamConnectionsConfig"],
    "envoy.extensions.resource_monitors.fixed_heap.v3": ["FixedHeapConfig"],
    "envoy.extensions.retry.host.omit_host_metadata.v3": ["OmitHostMetadataConfig"],
    "envoy.extensions.retry.host.previous_hosts.v3": ["PreviousHostsPredicate"],
    "envoy.extensions.retry.priority.previous_priorities.v3": ["PreviousPrioritiesConfig"],
    "envoy.extensions.transport_sockets.raw_buffer.v3": ["RawBuffer"],
    "envoy.extensions.transport_sockets.tls.v3": [
        "CertificateValidationContext",
        "CommonTlsContext",
        "DownstreamTlsContext",
        "SdsSecretConfig",
        "SubjectAltNameMatcher",
        "SubjectAltNameMatcherSanType",
        "TlsCertificate",
        "TlsParameters",
        "TlsParametersTlsProtocol",
        "UpstreamTlsContext",
    ],
    "envoy.extensions.upstreams.http.v3": ["HttpProtocolOptions", "HttpProtocolOptionsExplicitHttpConfig"],
    "envoy.type.matcher.v3": [
        "HttpRequestHeaderMatchInput",
        "HttpRequestQueryParamMatchInput",
        "HttpResponseHeaderMatchInput",
        "HttpResponseLocalReplyMatchInput",
        "HttpResponseStatusCodeMatchInput",
        "ListMatcher",
        "ListStringMatcher",
        "MetadataMatcher",
        "MetadataMatcherPathSegment",
        "OrMatcher",
        "RegexMatcher",
        "StringMatcher",
        "ValueMatcher",
    ],
    "envoy.type.metadata.v3": ["MetadataKey", "MetadataKeyPathSegment"],
    "envoy.type.v3": [
        "CodecClientType",
        "FractionalPercent",
        "HttpStatus",
        "Int64Range",
        "Percent",
        "StatusCode",
        "TokenBucket",
    ],
    "xds.core.v3": ["TypedExtensionConfig"],
    "xds.type.matcher.v3": [
        "Matcher",
        "MatcherMatcherList",
        "MatcherMatcherListFieldMatcher",
        "MatcherMatcherListPredicate",
        "MatcherMatcherListPredicatePredicateList",
        "MatcherMatcherListPredicateSinglePredicate",
        "MatcherOnMatch",
        "RegexMatcher",
        "RegexMatcherGoogleRe2",
        "StringMatcher",
    ],
}
"""Messages and enumerations, by package."""

_SCALARS = {
    bool: "bool", int: "int", float: "float", str: "str", timedelta: "timedelta",
    well_known.Any: "Any", well_known.Struct: "Struct",
}  # fmt: skip
_LONG = {well_known.Int64Value, well_known.UInt64Value}


def module_of(package: str) -> str:
    """The module of a package.

    >>> module_of("envoy.config.core.v3")
    'config_core_v3'
    """
    return package.removeprefix("envoy.").removeprefix("extensions.").replace(".", "_")


class _Module:
    """The text of one module."""

    def __init__(self, package: str) -> None:
        theirs = importlib.import_module(f"envoy_data_plane.{package}")
        self._package = package
        self._elsewhere: dict[bool, set[str]] = {True: set(), False: set()}
        """Modules of other packages: needed when this one runs, and by type checkers only."""
        kinds = [getattr(theirs, name) for name in MESSAGES[package]]
        self._classes = [self._enum(kind) for kind in kinds if issubclass(kind, Enum)]
        self._classes += [self._message(kind) for kind in kinds if not issubclass(kind, Enum)]

    def text(self) -> str:
        head = f'"""{self._package}, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""'
        return "\n".join([head, "", "from __future__ import annotations", "", *self._imports(), *self._classes])

    def _imports(self) -> Iterator[str]:
        body = "\n".join(self._classes)
        at_run_time, for_types = self._elsewhere[True], self._elsewhere[False] - self._elsewhere[True]
        typing_names = ["TYPE_CHECKING"] * bool(for_types) + ["ClassVar"] * ("ClassVar" in body)
        for module, names in (("datetime", ["timedelta"]), ("enum", ["StrEnum"])):
            if re.search(rf"\b{names[0]}\b", body):
                yield f"from {module} import {names[0]}"
        if typing_names:
            yield f"from typing import {', '.join(typing_names)}"
        yield ""
        if at_run_time:
            yield f"from mcp_extproc.envoy._api import {', '.join(sorted(at_run_time))}"
        names = [name for name in ("Any", "Message", "Struct") if re.search(rf"(?<!\.)\b{name}\b", body)]
        if names:
            yield f"from mcp_extproc.envoy.message import {', '.join(names)}"
        if for_types:
            yield "\nif TYPE_CHECKING:"
            yield f"    from mcp_extproc.envoy._api import {', '.join(sorted(for_types))}"

    def _enum(self, kind: Any) -> str:
        members = [f'    {member.name} = "{member.proto_name or member.name}"' for member in kind]
        return "\n".join(["", "", f"class {kind.__name__}(StrEnum):", *members])

    def _message(self, kind: Any) -> str:
        name = default_message_pool.type_to_url[kind].rpartition("/")[2]
        lines = ["", "", f"class {kind.__name__}(Message):", f'    FULL_NAME: ClassVar[str] = "{name}"']
        metas = {field.name: FieldMetadata.get(field) for field in fields(kind)}
        hints = kind._type_hints()
        written = {name: self._field(meta, hints[name]) for name, meta in metas.items() if name in hints}
        long = [name for name, meta in metas.items() if written[name] and _is_long(meta)]
        if long:
            lines.append(f"    AS_TEXT: ClassVar[frozenset[str]] = frozenset({{{', '.join(map(repr, long))}}})")
        return "\n".join([*lines, *(f"    {name}: {text}" for name, text in written.items() if text)])

    def _field(self, meta: FieldMetadata, hint: Any) -> str | None:
        """Type and default; ``None`` if the type is none of ours."""
        if meta.proto_type == betterproto2.TYPE_MAP:
            value = self._name(typing.get_args(hint)[1], at_run_time=False)
            return value and f"dict[str, {value}] = {{}}"
        if meta.repeated:
            value = self._name(typing.get_args(hint)[0], at_run_time=False)
            return value and f"list[{value}] = []"
        if meta.optional or meta.group:
            value = self._name(typing.get_args(hint)[0], at_run_time=False)
            return value and f"{value} | None = None"
        kind = _plain(hint)
        value = self._name(kind, at_run_time=True)
        if value is None or not issubclass(kind, Enum):
            return value and f"{value} = {kind()!r}"
        return f"{value} = {value}.{kind(0).name}"

    def _name(self, hint: Any, *, at_run_time: bool) -> str | None:
        kind = _plain(hint)
        if kind in _SCALARS:
            return _SCALARS[kind]
        package = kind.__module__.removeprefix("envoy_data_plane.")
        if kind.__name__ not in MESSAGES.get(package, ()):
            return None
        if package == self._package:
            return str(kind.__name__)
        self._elsewhere[at_run_time].add(module_of(package))
        return f"{module_of(package)}.{kind.__name__}"


def _plain(hint: Any) -> Any:
    """Without constraints."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _is_long(meta: FieldMetadata) -> bool:
    return meta.proto_type in betterproto2.INT_64_TYPES or (meta.unwrap is not None and meta.unwrap() in _LONG)


def modules() -> dict[str, str]:
    """Names and texts of all files."""
    texts = {f"{module_of(package)}.py": f"{_Module(package).text()}\n" for package in MESSAGES}
    return {"__init__.py": "", **texts}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in modules().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
