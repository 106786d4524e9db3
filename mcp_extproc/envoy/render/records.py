"""What Envoy tells the collector of each request: a record of the access log, as a line in a pipe or by gRPC. Nothing where
nothing is on, and for the status page alone only while somebody looks at it."""

from __future__ import annotations

from mcp_extproc.address import PipeAddress, TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import ERROR_HEADER, SAMPLED_KEY, TELEMETRY_NAMESPACE, WATCHED_KEY
from mcp_extproc.envoy._api.access_loggers_file_v3 import FileAccessLog
from mcp_extproc.envoy._api.access_loggers_grpc_v3 import CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig
from mcp_extproc.envoy._api.config_accesslog_v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    MetadataFilter,
    OrFilter,
    RuntimeFilter,
)
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType
from mcp_extproc.envoy._api.config_core_v3 import (
    ApiVersion,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    SubstitutionFormatString,
)
from mcp_extproc.envoy._api.config_endpoint_v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from mcp_extproc.envoy._api.type_matcher_v3 import MetadataMatcher, MetadataMatcherPathSegment, ValueMatcher
from mcp_extproc.envoy._api.type_v3 import FractionalPercent
from mcp_extproc.envoy._api.upstreams_http_v3 import HttpProtocolOptions, HttpProtocolOptionsExplicitHttpConfig
from mcp_extproc.envoy.layout import COLLECTOR_CLUSTER, LISTENER, Layout
from mcp_extproc.envoy.render import tls
from mcp_extproc.envoy.render.typed import any_of, envoy_address, seconds
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE
from mcp_extproc.telemetry.records.line_format import line_format

_FILE = "envoy.access_loggers.file"
_GRPC = "envoy.access_loggers.http_grpc"

_FLUSH_SECONDS = 0.5
"""After which records are sent that do not fill a message."""

_MESSAGE_BYTES = 64 << 10
"""Of records, from which on a message is sent: some fifty. To take a message apart costs as much as to read three records."""


def namespaces(config: GatewayConfig, layout: Layout) -> tuple[str, ...]:
    """Metadata namespaces that workers write for records."""
    return (TELEMETRY_NAMESPACE,) if _are_sent(config, layout) else ()


def _are_sent(config: GatewayConfig, layout: Layout) -> bool:
    """Not where nothing is on, or nobody listens."""
    return layout.collector is not None and config.collects


def log(config: GatewayConfig, layout: Layout, only: AccessLogFilter | None = None) -> list[AccessLog]:
    """The access logger, if records are sent.

    Args:
        config: what is collected.
        layout: where records are sent.
        only: which requests of the listener are the gateway's; all by default.
    """
    if not _are_sent(config, layout):
        return []
    wanted = [*([only] if only is not None else []), *_those_wanted(config, layout)]
    which = AccessLogFilter(and_filter=AndFilter(filters=wanted)) if len(wanted) > 1 else next(iter(wanted), None)
    if isinstance(layout.collector, PipeAddress):
        return [AccessLog(name=_FILE, filter=which, typed_config=any_of(_lines(config, layout.collector)))]
    return [AccessLog(name=_GRPC, filter=which, typed_config=any_of(_messages(config)))]


def _lines(config: GatewayConfig, pipe: PipeAddress) -> FileAccessLog:
    line = DataSource(inline_string=line_format(has_traces=config.telemetry.traces is not None))
    return FileAccessLog(
        path=pipe.path, log_format=SubstitutionFormatString(text_format_source=line, omit_empty_values=True)
    )


def _messages(config: GatewayConfig) -> HttpGrpcAccessLogConfig:
    service = GrpcServiceEnvoyGrpc(cluster_name=COLLECTOR_CLUSTER, skip_envoy_headers=True)
    common = CommonGrpcAccessLogConfig(
        log_name=LISTENER,
        grpc_service=GrpcService(envoy_grpc=service),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=seconds(_FLUSH_SECONDS),
        buffer_size_bytes=_MESSAGE_BYTES,
    )
    return HttpGrpcAccessLogConfig(
        common_config=common,
        additional_request_headers_to_log=[TRACEPARENT, TRACESTATE] if config.telemetry.traces is not None else [],
        additional_response_headers_to_log=[ERROR_HEADER],
    )


def cluster(config: GatewayConfig, layout: Layout) -> list[Cluster]:
    """Where the collector listens, if it does."""
    if layout.collector is None or isinstance(layout.collector, PipeAddress) or not config.collects:
        return []
    endpoint = LbEndpoint(endpoint=Endpoint(address=envoy_address(layout.collector)))
    http2 = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return [
        Cluster(
            name=COLLECTOR_CLUSTER,
            type=ClusterDiscoveryType.STATIC,
            connect_timeout=seconds(1),
            # It has the certificate of the workers.
            transport_socket=tls.to_workers(layout) if isinstance(layout.collector, TcpAddress) else None,
            load_assignment=ClusterLoadAssignment(
                cluster_name=COLLECTOR_CLUSTER, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
            ),
            typed_extension_protocol_options={
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(
                    HttpProtocolOptions(explicit_http_config=http2)
                )
            },
        )
    ]


def _those_wanted(config: GatewayConfig, layout: Layout) -> list[AccessLogFilter]:
    """Which requests have a record; none of these filters for all."""
    # An Envoy whose admin interface is not ours can't be told whether anybody looks at the page.
    if config.collects_all or (config.has_page and layout.admin is None):
        return []
    found = [_unless_not_sampled()] if config.telemetry.traces is not None else []
    found += [_while_watched()] if config.has_page else []
    return found if len(found) == 1 else [AccessLogFilter(or_filter=OrFilter(filters=found))]


def _while_watched() -> AccessLogFilter:
    """While somebody looks at the status page, of which the collector tells Envoy by its admin interface."""
    return AccessLogFilter(
        runtime_filter=RuntimeFilter(
            runtime_key=WATCHED_KEY, percent_sampled=FractionalPercent(), use_independent_randomness=True
        )
    )


def _unless_not_sampled() -> AccessLogFilter:
    """Where there are traces alone. About what no worker has seen nobody has decided."""
    return _is_true(TELEMETRY_NAMESPACE, SAMPLED_KEY, unless_absent=True)


def marked(namespace: str, key: str) -> AccessLogFilter:
    """Only requests with a mark in their metadata."""
    return _is_true(namespace, key, unless_absent=False)


def _is_true(namespace: str, key: str, *, unless_absent: bool) -> AccessLogFilter:
    matcher = MetadataMatcher(
        filter=namespace, path=[MetadataMatcherPathSegment(key=key)], value=ValueMatcher(bool_match=True)
    )
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=unless_absent))
